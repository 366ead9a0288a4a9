"""What the keeper's and the launcher's servers have in common: lines to the supervisor and to fronts, shells that belong to a
line, requests and their answers, the reaper, and the watch over what shells write.

Each operation is a generator of small steps (`loop.py`), so that no front waits for another's shell. Invariants: what belongs
to a line ends with it; every pid of ours is reaped here; nothing a front sends is believed: names are checked, the code to show
must lie below the code directory. Knows nothing of how a shell is made, scoured or ended.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ondol.keeper import cleaning, quota, reserve
from ondol.keeper.gateways import Gateways
from ondol.keeper.loop import Loop, Readable, Sleep
from ondol.keeper.protocol import Closed, Line, Message, close_all

SHELLS_MAX = 4096
MEMORY_BYTES_MIN = 4 << 20
#: How long what a line has left behind may take to end.
END_S_MAX = 5.0
GLANCE_S = 0.005
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

Answer = tuple[Message, list[int]]
Waits = Generator["Sleep | Readable", bool, None]
Operation = Generator["Sleep | Readable", bool, Answer]


class Refused(Exception):  # noqa: N818
    """The operation failed; `kind` is a word of the line's protocol."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Served(Protocol):
    """What is asked of a shell here."""

    #: It is being discarded.
    ending: bool
    #: 0 where the file system bounds /tmp.
    tmp_bytes_max: int
    #: What it held when that was last looked at.
    tmp_bytes: int

    @property
    def id(self) -> str: ...
    @property
    def directory(self) -> str: ...
    @property
    def tmp(self) -> str: ...
    def counted(self, tmp_bytes: int) -> None: ...


S = TypeVar("S", bound=Served)


@dataclass
class Front(Generic[S]):
    """One line and what belongs to it."""

    line: Line
    shells: dict[str, S] = field(default_factory=dict)
    open: bool = True


F = TypeVar("F", bound="Front[Any]")


class Server(ABC, Generic[S, F]):
    """See the module. `operations`: by name, what a front may ask for."""

    operations: Mapping[str, Callable[[F, Message], Operation]]

    def __init__(
        self, loop: Loop, name: str, *, kept_free: reserve.Reserve, ways: Gateways, log: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._name = name
        self._reserve = kept_free
        self._ways = ways
        self._log = log
        self._fronts: list[F] = []
        self._shells: dict[str, S] = {}
        self._by_pid: dict[int, Callable[[int], object]] = {}
        self._walks: dict[str, Iterator[None]] = {}
        self._emptying: set[str] = set()
        #: Shells being scoured.
        self._scouring: set[str] = set()
        loop.on_children = self._reap
        loop.later(quota.INTERVAL_S, self._watch_quotas)
        held = lambda shell: reserve.held(shell.directory) + shell.tmp_bytes  # noqa: E731
        kept_free.watch(self._shells, held, self._make_room, self._walk_on)

    # What differs ----------------------------------------------------------------------------------------------------
    @abstractmethod
    def _new_front(self, line: Line) -> F: ...

    @abstractmethod
    def _scour_shell(self, shell: S) -> Waits:
        """End every process of the shell. Raises Refused."""

    @abstractmethod
    def _end_shell(self, front: F, shell: S) -> Waits:
        """Leave nothing of a shell that is `ending`, and forget it. Called once. Raises Refused."""

    @abstractmethod
    def _not_scoured(self, shell: S, error: Refused) -> None:
        """Nobody waits for that scouring."""

    def _left(self, front: F) -> None:
        """The front is gone; its shells are seen to."""

    def _empty_tmp(self, shell: S) -> Waits:
        """Nobody is in the shell."""
        yield from self._status_of(cleaning.start_emptying(shell.tmp))

    def _is_walked(self, shell: S) -> bool:
        """Whether its /tmp is to be looked through."""
        return shell.tmp_bytes_max > 0 and not shell.ending

    # Lines -----------------------------------------------------------------------------------------------------------
    def serve_supervisor(self, sock: socket.socket) -> None:
        line = Line(sock)
        self._loop.watch(line.fileno(), lambda: self._from_supervisor(line))

    def serve_front(self, sock: socket.socket) -> None:
        front = self._new_front(Line(sock))
        self._fronts.append(front)
        self._loop.watch(front.line.fileno(), lambda: self._from_front(front))

    def _from_supervisor(self, line: Line) -> None:
        try:
            while (received := line.receive()) is not None:
                message, fds = received
                if str(message.get("line")).partition("-")[0] == "front" and len(fds) == 1:
                    self.serve_front(socket.socket(fileno=fds[0]))
                else:
                    close_all(fds)
                if "stop" in message:
                    self._loop.stop()
        except Closed:
            self._loop.stop()

    def _from_front(self, front: F) -> None:
        try:
            front.line.flush()
            while front.open and (received := front.line.receive()) is not None:
                message, fds = received
                close_all(fds)
                self._loop.spawn(self._answer(front, message))
            self._want_writable(front)
        except Closed:
            self._end(front)

    def _end(self, front: F) -> None:
        """The front is gone: so is everything it had."""
        if not front.open:
            return
        front.open = False
        self._fronts.remove(front)
        self._loop.unwatch(front.line.fileno())
        front.line.close()
        self._left(front)
        for shell in list(front.shells.values()):
            self._loop.spawn(self._discard_quietly(front, shell))

    def _tell(self, front: F, message: Message, fds: list[int] | None = None) -> None:
        if not front.open:
            return
        try:
            front.line.send(message, fds or [])
            self._want_writable(front)
        except Closed:
            self._end(front)

    def _tell_owner(self, shell_id: str, message: Message) -> None:
        for front in list(self._fronts):
            if shell_id in front.shells:
                self._tell(front, message)

    def _want_writable(self, front: F) -> None:
        if front.open:
            self._loop.also_writable(front.line.fileno(), wanted=front.line.backlog > 0)

    def _answer(self, front: F, message: Message) -> Waits:
        number = message.get("n")
        operation = self.operations.get(str(message.get("op")))
        fds: list[int] = []
        try:
            if operation is None:
                raise Refused("unknown", f"the {self._name} knows no operation {message.get('op')!r}")
            result, fds = yield from operation(front, message)
            self._tell(front, {"n": number, "ok": result}, fds)
        except Refused as error:
            self._tell(front, {"n": number, "error": error.kind, "message": str(error)})
        except OSError as error:
            kind = "space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "failed"
            self._tell(front, {"n": number, "error": kind, "message": str(error)})
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self._tell(front, {"n": number, "error": "invalid", "message": f"{type(error).__name__}: {error}"})
        finally:
            close_all(fds)

    # Operations that all servers have --------------------------------------------------------------------------------
    def _scour(self, front: F, message: Message) -> Operation:
        shell = self._shell(front, message)
        yield from self._scour_alone(shell)
        while shell.id in self._emptying:
            yield Sleep(GLANCE_S)
        return {}, []

    def _scour_alone(self, shell: S) -> Waits:
        """One after the other: two at a time would end each other's processes, and take that for a failure."""
        while shell.id in self._scouring:
            yield Sleep(GLANCE_S)
        self._scouring.add(shell.id)
        try:
            yield from self._scour_shell(shell)
        finally:
            self._scouring.discard(shell.id)

    def _discard(self, front: F, message: Message) -> Operation:
        shell = front.shells.get(name_in(message, "shell"))
        if shell is not None:
            yield from self._discard_shell(front, shell)
        return {}, []

    def _settled(self, front: F, message: Message) -> Operation:
        """Answered when nothing is left of fronts whose lines have closed."""
        del front, message
        yield Sleep(GLANCE_S)  # a line that has just closed may be noticed only now
        until_s = time.monotonic() + END_S_MAX
        while len(self._shells) > sum(len(front.shells) for front in self._fronts) and time.monotonic() < until_s:
            yield Sleep(GLANCE_S)
        return {}, []

    def _shell(self, front: F, message: Message) -> S:
        """The shell that the message names. Raises Refused."""
        name = name_in(message, "shell")
        shell: S | None = front.shells.get(name)
        if shell is None or shell.ending:
            raise Refused("unknown", f"there is no shell {name}")
        return shell

    def _room_for(self, shell_id: str) -> None:
        """Raises Refused, or OSError where the disk is what is full."""
        if shell_id in self._shells:
            raise Refused("exists", f"shell {shell_id} is there already")
        if len(self._shells) >= SHELLS_MAX:
            raise Refused("failed", f"more than {SHELLS_MAX} shells on one node")
        self._reserve.check()

    def _discard_shell(self, front: F, shell: S) -> Waits:
        if shell.ending:  # by another request: wait for that one
            until_s = time.monotonic() + 2 * END_S_MAX
            while shell.id in self._shells and time.monotonic() < until_s:
                yield Sleep(GLANCE_S)
            return
        shell.ending = True
        self._walks.pop(shell.id, None)
        yield from self._end_shell(front, shell)

    def _discard_quietly(self, front: F, shell: S) -> Waits:
        try:
            yield from self._discard_shell(front, shell)
        except Refused as error:
            self._log(str(error))

    def _begin_anew(self, shell: S) -> Waits:
        """End what is in a shell whose /tmp holds more than it may, and empty that: else the next walk ends who comes next."""
        self._emptying.add(shell.id)
        try:
            yield from self._scour_alone(shell)
            yield from self._empty_tmp(shell)
        except Refused as error:
            self._not_scoured(shell, error)
        finally:
            self._emptying.discard(shell.id)

    def _status_of(self, pid: int) -> Generator[Sleep | Readable, bool, int]:
        """The wait status of a child of ours, which bounds its own time."""
        ended: list[int] = []
        self._by_pid[pid] = ended.append
        while not ended:
            yield Sleep(0.0005)
        return ended[0]

    # What happens by itself ------------------------------------------------------------------------------------------
    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self._by_pid.pop(pid, None)
            if ended is not None:
                ended(status)
            else:
                self._ways.ended(pid)

    def _watch_quotas(self) -> None:
        self._walk_on()
        self._loop.later(0.002 if self._walks else quota.INTERVAL_S, self._watch_quotas)

    def _walk_on(self) -> None:
        """One slice of each walk; a new round begins when all are through."""
        if not self._walks:
            walked = [shell for shell in self._shells.values() if self._is_walked(shell)]
            self._walks = {shell.id: quota.walk(shell.tmp, shell.tmp_bytes_max, shell.counted) for shell in walked}
        for shell_id, walk in list(self._walks.items())[: quota.WALKS_MAX]:
            try:
                next(walk)
            except StopIteration:
                del self._walks[shell_id]
            except (quota.Over, OSError) as error:
                del self._walks[shell_id]
                if getattr(error, "errno", 0) not in (errno.EMFILE, errno.ENFILE):  # that says nothing of this shell
                    self._over(shell_id)

    def _over(self, shell_id: str) -> None:
        shell = self._shells.get(shell_id)
        if shell is not None and shell_id not in self._emptying:
            self._loop.spawn(self._begin_anew(shell))
            self._tell_owner(shell_id, {"over_tmp": shell_id})

    def _make_room(self, shell: S) -> Waits | None:
        """End a shell for what it holds of the disk; None where that is under way."""
        front = next((front for front in self._fronts if shell.id in front.shells), None)
        if front is None or shell.ending:
            return None
        self._tell(front, {"no_room": shell.id})
        return self._discard_quietly(front, shell)


def name_in(message: Message, key: str) -> str:
    """Raises Refused."""
    value = message.get(key)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Refused("invalid", f"{key} {value!r} is no name: letters, digits, - and _, at most 64")
    return value


def open_below(directory: int, name: str, tree: str) -> int:
    """Open `tree`, below the directory called `name`, taking no link on the way; `directory` is open on that, and is closed.

    Raises Refused, OSError.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    at = directory
    inside = os.path.relpath(os.path.normpath(tree), name)
    if inside == "." or inside.startswith("..") or os.path.isabs(inside):
        os.close(at)
        raise Refused("invalid", f"{tree} is not below {name}")
    for part in inside.split("/"):
        try:
            below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at
