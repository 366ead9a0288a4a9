"""The keeper at work: lines to the supervisor and to fronts, the operations of docs/explain/architecture.md, and the reaper.

Each operation is a generator of small steps (`loop.py`), so that no front waits for another's shell. Invariants: a shell and
a zygote belong to the line that asked for them and end with it; every pid of ours is reaped here; nothing a front sends is
believed: the code to attach must lie below the code directory, names and sizes are checked.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from ondol.keeper import cleaning, disks, networks, quota, reserve, shells, zygotes
from ondol.keeper.accounts import Account, Accounts
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.gateways import Gateways, NoGateway
from ondol.keeper.loop import Loop, Readable, Sleep
from ondol.keeper.protocol import Closed, Line, Message, close_all
from ondol.keeper.shells import Shell
from ondol.keeper.view import View
from ondol.walls.built import Walls

PREPARE_S_MAX = 5.0
DISCARD_S_MAX = 5.0
ZYGOTE_S_MAX = 30.0
SHELLS_MAX = 4096
ZYGOTES_MAX = 256
MEMORY_BYTES_MIN = 4 << 20
#: A template is made, and kept, for each size.
TMP_MIB_MAX = 10_240
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

Answer = tuple[Message, list[int]]
Operation = Generator["Sleep | Readable", bool, Answer]


class Refused(Exception):  # noqa: N818
    """The operation failed; `kind` is a word of the line's protocol."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Front:
    """One line and what belongs to it."""

    line: Line
    shells: dict[str, Shell] = field(default_factory=dict)
    zygotes: dict[int, zygotes.Zygote] = field(default_factory=dict)
    open: bool = True


@dataclass(frozen=True)
class Places:
    """Directories and descriptors that the keeper works with."""

    shells: str
    code: str
    own_mnt: int
    reserve: reserve.Reserve


class Keeper:
    """See the module."""

    def __init__(
        self,
        loop: Loop,
        *,
        view: View,
        accounts: Accounts,
        cgroups: Cgroups,
        tmp: disks.Disks | None,
        places: Places,
        interpreters: frozenset[str],
        ways: Gateways,
        allowed: tuple[str, ...],
        walls: Walls,
    ) -> None:
        self._loop = loop
        self._view = view
        self._accounts = accounts
        self._cgroups = cgroups
        self._disks = tmp
        self._places = places
        self._interpreters = interpreters
        self._gateways = ways
        self._allowed = allowed
        self._walls = walls
        self._fronts: list[Front] = []
        self._shells: dict[str, Shell] = {}
        self._by_pid: dict[int, Callable[[int], object]] = {}
        self._supervisor: Line | None = None
        self._walks: dict[str, Any] = {}
        loop.on_children = self._reap
        loop.later(quota.INTERVAL_S, self._watch_quotas)
        places.reserve.watch(self._shells, lambda s: reserve.held(s.directory) + s.tmp_bytes, self._make_room)

    # Lines -----------------------------------------------------------------------------------------------------------
    def serve_supervisor(self, sock: socket.socket) -> None:
        line = self._supervisor = Line(sock)
        self._loop.watch(line.fileno(), lambda: self._from_supervisor(line))

    def serve_front(self, sock: socket.socket) -> None:
        front = Front(Line(sock))
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

    def _from_front(self, front: Front) -> None:
        try:
            front.line.flush()
            while front.open and (received := front.line.receive()) is not None:
                message, fds = received
                close_all(fds)
                self._loop.spawn(self._answer(front, message))
            self._want_writable(front)
        except Closed:
            self._end(front)

    def _end(self, front: Front) -> None:
        """The front is gone: so is everything it had."""
        if not front.open:
            return
        front.open = False
        self._fronts.remove(front)
        self._loop.unwatch(front.line.fileno())
        front.line.close()
        for zygote in list(front.zygotes.values()):
            _kill(zygote.pidfd)
        for shell in list(front.shells.values()):
            self._loop.spawn(self._discard_quietly(front, shell))

    def _tell(self, front: Front, message: Message, fds: list[int] | None = None) -> None:
        if not front.open:
            return
        try:
            front.line.send(message, fds or [])
            self._want_writable(front)
        except Closed:
            self._end(front)

    def _want_writable(self, front: Front) -> None:
        if front.open:
            self._loop.also_writable(front.line.fileno(), wanted=front.line.backlog > 0)

    # Operations --------------------------------------------------------------------------------------------------------
    def _answer(self, front: Front, message: Message) -> Generator[Sleep | Readable, bool, None]:
        number = message.get("n")
        operation = _OPERATIONS.get(str(message.get("op")))
        fds: list[int] = []
        try:
            if operation is None:
                raise Refused("unknown", f"the keeper knows no operation {message.get('op')!r}")
            result, fds = yield from operation(self, front, message)
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

    def _prepare(self, front: Front, message: Message) -> Operation:
        shell_id, account = _name(message, "shell"), _name(message, "account")
        if shell_id in self._shells:
            raise Refused("exists", f"shell {shell_id} is there already")
        if len(self._shells) >= SHELLS_MAX:
            raise Refused("failed", f"more than {SHELLS_MAX} shells on one node")
        self._places.reserve.check()
        network = message.get("network")
        if network not in self._allowed:
            raise Refused("invalid", f"network {network!r} is none of those that this node gives: {', '.join(self._allowed)}")
        shell = self._begin(shell_id, self._accounts.get(account), network)
        self._shells[shell_id] = front.shells[shell_id] = shell
        namespaces: dict[str, int] = {}
        cgroups: list[int] = []
        files: dict[str, int] = {}
        try:
            namespaces, files = yield from self._until_prepared(shell)
            cgroups = self._cgroups.make(shell_id)
            files |= zip(("memory_peak",), self._cgroups.memory_peak(shell_id), strict=False)
            if cgroups:
                self._join(shell, cgroups)
            if network == networks.EGRESS:
                with socket.socket(fileno=files.pop("route")) as inside:
                    yield from self._gateways.connect(account, shell_id, namespaces[networks.NAMESPACE], inside)
            if not front.open:  # it left while we were at it
                raise Refused("failed", "the front is gone")
        except (OSError, Refused, NoGateway) as error:
            close_all([*namespaces.values(), *cgroups, *files.values()])
            yield from self._discard_shell(front, shell)
            if isinstance(error, NoGateway):
                raise Refused("failed", str(error)) from error
            raise
        said = {
            "namespaces": list(namespaces),
            "cgroups": len(cgroups),
            "files": list(files),
            "freezes": self._cgroups.freezes,
        }
        return said, [*namespaces.values(), *cgroups, *files.values()]

    def _begin(self, shell_id: str, account: Account, network: str) -> Shell:
        directory = f"{self._places.shells}/{shell_id}"
        os.mkdir(directory, 0o711)
        try:
            tmp = self._tmp(directory, account, disks.TMP_MIB_DEFAULT)
            making = shells.Making(account.userns, self._view, tmp, network, self._walls)
            return shells.begin(shell_id, account, directory, making)
        except OSError:
            cleaning.remove_own(directory)
            raise

    def _tmp(self, directory: str, account: Account, mib: int) -> int:
        """A /tmp as a detached mount."""
        if self._disks is None:
            return shells.tmp_directory(directory, account)
        return self._disks.make(f"{directory}/tmp-{mib}.img", mib, account.uid, account.gid)  # noqa: S108

    def _until_prepared(self, shell: Shell) -> Generator[Sleep | Readable, bool, tuple[dict[str, int], dict[str, int]]]:
        """The descriptors of namespaces and of sockets inside, by name, once the init runs."""
        came: list[int] = []
        control = Line(shell.control)
        while True:
            if not (yield Readable(control.fileno(), PREPARE_S_MAX)):
                close_all(came)
                raise Refused("failed", "the shell did not come up in time")
            try:
                received = control.receive()
            except Closed:
                break
            if received is None:
                continue
            message, fds = received
            came += fds
            if "pid" in message:
                try:
                    shell.pidfd = os.pidfd_open(message["pid"])
                except ProcessLookupError:
                    continue  # reaped already; the end of the line comes next
                shell.pid = message["pid"]
                self._by_pid[shell.pid] = lambda _: self._shell_ended(shell)
            if "error" in message:
                close_all(came)
                raise Refused("failed", f"no shell could be made: {message['error']}")
        names, sockets = shells.names_of(shell.network), networks.sockets_of(shell.network)
        if len(came) != len(names) + len(sockets) or not shell.pid:
            close_all(came)
            raise Refused("failed", "the shell's first process died")
        namespaces = dict(zip(names, came, strict=False))
        shell.mnt = os.dup(namespaces["mnt"])
        shell.pid_namespace = os.dup(namespaces["pid"])
        return namespaces, dict(zip(sockets, came[len(names) :], strict=True))

    def _join(self, shell: Shell, cgroups: list[int]) -> None:
        """The init goes into the shell's own groups: what it costs is the shell's."""
        for fd in cgroups:
            os.write(fd, str(shell.pid).encode())

    def _attach(self, front: Front, message: Message) -> Operation:
        shell = _shell(front, message)
        memory, tmp_mib = int(message["memory_bytes"]), int(message["tmp_mib"])
        if shell.attached or shell.gone:
            raise Refused("invalid", f"shell {shell.id} is {'gone' if shell.gone else 'attached already'}")
        self._places.reserve.check()
        if memory < MEMORY_BYTES_MIN or not 1 <= tmp_mib <= TMP_MIB_MAX:
            bounds = f"memory_bytes is at least {MEMORY_BYTES_MIN}, tmp_mib 1 to {TMP_MIB_MAX}"
            raise Refused("invalid", f"{bounds}: these are {memory} and {tmp_mib}")
        self._cgroups.limit(shell.id, memory)
        shell.memory_bytes = memory
        for key, target in (("tree", "/var/task"), ("opt_tree", "/opt")):
            if key == "tree" or key in message:
                self._show(shell, str(message[key]), target)
        if self._disks is None:
            shell.tmp_bytes_max = tmp_mib << 20
        elif tmp_mib != disks.TMP_MIB_DEFAULT:
            self._another_tmp(shell, tmp_mib)
        shell.attached = True
        return {"another_tmp": self._disks is not None and tmp_mib != disks.TMP_MIB_DEFAULT}, []
        yield  # a generator with nothing to wait for

    def _show(self, shell: Shell, path: str, target: str) -> None:
        tree = self._open_code(path)
        try:
            shells.show_code(shell, tree, target, self._places.own_mnt)
        finally:
            os.close(tree)

    def _another_tmp(self, shell: Shell, mib: int) -> None:
        """A disk of another size over the one that every shell is prepared with."""
        mounted = self._tmp(shell.directory, shell.account, mib)
        try:
            shells.put(shell, mounted, "/tmp", self._places.own_mnt)  # noqa: S108
        finally:
            os.close(mounted)

    def _open_code(self, tree: str) -> int:
        """Open a directory below the code directory, taking no link on the way."""
        inside = os.path.relpath(os.path.normpath(tree), self._places.code)
        if inside == "." or inside.startswith("..") or os.path.isabs(inside):
            raise Refused("invalid", f"{tree} is not below {self._places.code}")
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        at = os.open(self._places.code, flags | os.O_NOFOLLOW)
        for part in inside.split("/"):
            try:
                below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=at)
            finally:
                os.close(at)
            at = below
        return at

    def _scour(self, front: Front, message: Message) -> Operation:
        yield from self._scour_shell(_shell(front, message))
        return {}, []

    def _scour_shell(self, shell: Shell) -> Generator[Sleep | Readable, bool, None]:
        self._thaw(shell)
        if shell.gone:
            return
        self._cgroups.hurry(shell.id)
        status = yield from self._status_of(shells.begin_scour(shell))
        if shell.memory_bytes:
            self._cgroups.weigh(shell.id, shell.memory_bytes)
        if status != 0 and not shell.gone:
            raise Refused("failed", f"shell {shell.id} could not be scoured")

    def _status_of(self, pid: int) -> Generator[Sleep | Readable, bool, int]:
        """The wait status of a child of ours, which bounds its own time."""
        ended: list[int] = []
        self._by_pid[pid] = ended.append
        while not ended:
            yield Sleep(0.0005)
        return ended[0]

    def _freeze(self, front: Front, message: Message) -> Operation:
        shell, on = _shell(front, message), bool(message["on"])
        if shell.frozen != on:
            self._cgroups.freeze(shell.id, on=on)
            shell.frozen = on
        return {}, []
        yield  # a generator with nothing to wait for

    def _thaw(self, shell: Shell) -> None:
        """Before anything is ended: a frozen process dies all the same, but what it holds should not depend on that."""
        if shell.frozen:
            shell.frozen = False
            try:
                self._cgroups.freeze(shell.id, on=False)
            except OSError as error:
                log(f"shell {shell.id} could not be thawed: {error}")

    def _discard(self, front: Front, message: Message) -> Operation:
        shell_id = _name(message, "shell")
        shell = front.shells.get(shell_id)
        if shell is not None:
            yield from self._discard_shell(front, shell)
        return {}, []

    def _discard_quietly(self, front: Front, shell: Shell) -> Generator[Sleep | Readable, bool, None]:
        try:
            yield from self._discard_shell(front, shell)
        except Refused as error:
            log(str(error))

    def _discard_shell(self, front: Front, shell: Shell) -> Generator[Sleep | Readable, bool, None]:
        waited = 0.0
        if shell.discarding:  # by another request: wait for that one
            while shell.id in self._shells and waited < DISCARD_S_MAX:
                yield Sleep(0.005)
                waited += 0.005
            return
        shell.discarding = True
        self._walks.pop(shell.id, None)
        self._thaw(shell)
        self._cgroups.hurry(shell.id)
        shell.kill()
        removed = False
        while waited < DISCARD_S_MAX:
            if (shell.gone or not shell.pid) and self._cgroups.remove(shell.id):
                removed = yield from self._remove_directory(shell)
                break
            yield Sleep(0.001)
            waited += 0.001
        shell.close()
        self._gateways.release(shell.account.name, shell.id)
        self._shells.pop(shell.id, None)
        front.shells.pop(shell.id, None)
        if not removed:
            raise Refused("failed", f"shell {shell.id} could not be removed whole")

    def _remove_directory(self, shell: Shell) -> Generator[Sleep | Readable, bool, bool]:
        if cleaning.remove_own(shell.directory):
            return True
        pid = cleaning.start_removing(shell.directory)
        yield from self._status_of(pid)  # as long as the disk needs
        return not os.path.exists(shell.directory)

    def _usage(self, front: Front, message: Message) -> Operation:
        peak, kills = self._cgroups.usage(_shell(front, message).id)
        return {"memory_peak_bytes": peak, "oom_kills": kills}, []
        yield  # a generator with nothing to wait for

    def _zygote(self, front: Front, message: Message) -> Operation:
        interpreter = str(message["interpreter"])
        if interpreter not in self._interpreters:
            raise Refused("failed", f"{interpreter} is not one of the interpreters this node started with")
        if sum(len(f.zygotes) for f in self._fronts) >= ZYGOTES_MAX:
            raise Refused("failed", f"more than {ZYGOTES_MAX} zygotes on one node")
        ahead = _name(message, "ahead") if message.get("ahead") else ""
        zygote = zygotes.begin(self._accounts.get(_name(message, "account")), self._view, interpreter, self._walls, ahead)
        front.zygotes[zygote.pid] = zygote
        self._by_pid[zygote.pid] = lambda _: self._zygote_ended(front, zygote)
        line = Line(zygote.socket)
        try:
            came = yield Readable(line.fileno(), ZYGOTE_S_MAX)
            received = line.receive() if came else None
            if received is None:
                raise Refused("failed", f"the zygote of {interpreter} did not come up in time")
        except (Closed, Refused) as error:
            _kill(zygote.pidfd)
            line.close()
            raise Refused("failed", f"the zygote of {interpreter} did not start: {error}") from error
        ready, fds = received
        close_all(fds)
        if not front.open:
            _kill(zygote.pidfd)
        return {"rss_bytes": zygotes.rss_bytes(zygote), "version": str(ready["version"])}, [zygote.socket.detach()]

    def _settled(self, front: Front, message: Message) -> Operation:
        """Answered when nothing is left of fronts whose lines have closed."""
        del front, message
        yield Sleep(0.005)  # a line that has just closed may be noticed only now
        waited = 0.0
        while len(self._shells) > sum(len(front.shells) for front in self._fronts) and waited < DISCARD_S_MAX:
            yield Sleep(0.005)
            waited += 0.005
        return {}, []

    # What happens by itself --------------------------------------------------------------------------------------------
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
                self._gateways.ended(pid)

    def _shell_ended(self, shell: Shell) -> None:
        shell.gone = True
        if shell.discarding:
            return
        for front in list(self._fronts):
            if shell.id in front.shells:
                self._tell(front, {"gone": shell.id})

    def _zygote_ended(self, front: Front, zygote: zygotes.Zygote) -> None:
        os.close(zygote.pidfd)
        zygote.pidfd = -1
        front.zygotes.pop(zygote.pid, None)

    def _watch_quotas(self) -> None:
        """One slice of each walk, then again; a new round begins when all are through."""
        if not self._walks:
            self._walks = {
                s.id: quota.walk(s.tmp, s.tmp_bytes_max, s.counted)
                for s in self._shells.values()
                if s.tmp_bytes_max and not s.gone and not s.discarding
            }
        for shell_id, walk in list(self._walks.items())[: quota.WALKS_MAX]:
            try:
                next(walk)
            except StopIteration:
                del self._walks[shell_id]
            except (quota.Over, OSError) as error:
                del self._walks[shell_id]
                if getattr(error, "errno", 0) not in (errno.EMFILE, errno.ENFILE):  # that says nothing of this shell
                    self._over(shell_id)
        self._loop.later(0.002 if self._walks else quota.INTERVAL_S, self._watch_quotas)

    def _make_room(self, shell: Shell) -> Generator[Sleep | Readable, bool, None] | None:
        """End a shell for what it holds of the disk; None where that is under way."""
        front = next((front for front in self._fronts if shell.id in front.shells), None)
        if front is None or shell.discarding:
            return None
        self._tell(front, {"no_room": shell.id})
        return self._discard_quietly(front, shell)

    def _over(self, shell_id: str) -> None:
        shell = self._shells.get(shell_id)
        if shell is None:
            return
        self._loop.spawn(self._scour_quietly(shell))
        for front in list(self._fronts):
            if shell_id in front.shells:
                self._tell(front, {"over_tmp": shell_id})

    def _scour_quietly(self, shell: Shell) -> Generator[Sleep | Readable, bool, None]:
        try:
            yield from self._scour_shell(shell)
        except Refused:
            shell.kill()


_OPERATIONS: dict[str, Callable[[Keeper, Front, Message], Operation]] = {
    "prepare": Keeper._prepare,  # noqa: SLF001
    "attach": Keeper._attach,  # noqa: SLF001
    "freeze": Keeper._freeze,  # noqa: SLF001
    "scour": Keeper._scour,  # noqa: SLF001
    "discard": Keeper._discard,  # noqa: SLF001
    "usage": Keeper._usage,  # noqa: SLF001
    "settled": Keeper._settled,  # noqa: SLF001
    "zygote": Keeper._zygote,  # noqa: SLF001
}


def _name(message: Message, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Refused("invalid", f"{key} {value!r} is no name: letters, digits, - and _, at most 64")
    return value


def _shell(front: Front, message: Message) -> Shell:
    name = _name(message, "shell")
    shell = front.shells.get(name)
    if shell is None or shell.discarding:
        raise Refused("unknown", f"there is no shell {name}")
    return shell


def _kill(pidfd: int) -> None:
    if pidfd >= 0:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return


def log(text: str) -> None:
    print(f"keeper: {text}", file=sys.stderr, flush=True)  # noqa: T201
