"""The launcher at work: lines to the supervisor and to fronts, its operations, and the reaper.

    prepare {account, interpreter, level, network, shell}
                       -> {"files"} + sockets inside, by those names; and what launch gives where an interpreter is named
    launch  {shell, interpreter} -> {"pid", "guest"} + wire, log: a guest that waits for INIT, in a shell that has none
    attach  {shell, tree, opt_tree?, memory_bytes, tmp_mib} -> {"again"}: the guest that is there must be started again
    scour {shell}, discard {shell}, usage {shell}, settled {}: as the keeper's
    news    {"ended": shell, "guest": number, "status"}, {"over_tmp": shell}

Each operation is a generator of small steps (`keeper/loop.py`). Invariants: a shell belongs to the line that asked for it and
ends with it; every pid of ours is reaped here; nothing a front sends is believed.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ondol.keeper import cleaning, networks, quota, reserve
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.gateways import Gateways, NoGateway
from ondol.keeper.loop import Loop, Readable, Sleep
from ondol.keeper.protocol import Closed, Line, Message, close_all
from ondol.launcher import namespaces, processes
from ondol.launcher.namespaces import NotMade
from ondol.launcher.shells import Ground, Shell, guest_of
from ondol.launcher.tools import ENVIRONMENT, Tool

LAUNCH_S_MAX = 30.0
END_S_MAX = 5.0
#: How long a guest that has let go of its wire may take to end, with its tool.
ENDING_S_MAX = 1.0
SHELLS_MAX = 4096
MEMORY_BYTES_MIN = 4 << 20
SAID_BYTES_MAX = 2000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

Answer = tuple[Message, list[int]]
Waits = Generator["Sleep | Readable", bool, None]
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
    open: bool = True


@dataclass(frozen=True)
class Makings:
    """What the launcher works with. `code`: the directory that trees lie below, as fronts name it, and open."""

    ground: Ground
    reserve: reserve.Reserve
    #: What shells may have, of `networks.KINDS`, and the ways out of those with `egress`.
    networks: tuple[str, ...]
    ways: Gateways
    tools: Mapping[str, Tool]
    cgroups: Cgroups
    code: tuple[str, int]
    interpreters: frozenset[str]
    #: What walled tools' guests put up around themselves, as JSON.
    walls: str


class Launcher:
    """See the module."""

    def __init__(self, loop: Loop, makings: Makings) -> None:
        self._loop = loop
        self._made = makings
        self._fronts: list[Front] = []
        self._shells: dict[str, Shell] = {}
        self._by_pid: dict[int, Callable[[int], None]] = {}
        self._walks: dict[str, Any] = {}
        loop.on_children = self._reap
        loop.later(quota.INTERVAL_S, self._watch_quotas)
        makings.reserve.watch(self._shells, lambda s: reserve.held(s.place.directory) + s.tmp_bytes, self._make_room)

    # Lines -----------------------------------------------------------------------------------------------------------
    def serve_supervisor(self, sock: socket.socket) -> None:
        line = Line(sock)
        self._loop.watch(line.fileno(), lambda: self._from_supervisor(line))

    def serve_front(self, sock: socket.socket) -> None:
        front = Front(Line(sock))
        self._fronts.append(front)
        self._loop.watch(front.line.fileno(), lambda: self._from_front(front))

    def _from_supervisor(self, line: Line) -> None:
        try:
            while (received := line.receive()) is not None:
                message, fds = received
                if str(message.get("line", "")).startswith("front") and len(fds) == 1:
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

    def _answer(self, front: Front, message: Message) -> Waits:
        number = message.get("n")
        operation = _OPERATIONS.get(str(message.get("op")))
        fds: list[int] = []
        try:
            if operation is None:
                raise Refused("unknown", f"the launcher knows no operation {message.get('op')!r}")
            result, fds = yield from operation(self, front, message)
            self._tell(front, {"n": number, "ok": result}, fds)
        except Refused as error:
            self._tell(front, {"n": number, "error": error.kind, "message": str(error)})
        except OSError as error:
            kind = "space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "failed"
            self._tell(front, {"n": number, "error": kind, "message": str(error)})
        except (KeyError, TypeError, ValueError) as error:
            self._tell(front, {"n": number, "error": "invalid", "message": f"{type(error).__name__}: {error}"})
        finally:
            close_all(fds)

    # Operations ------------------------------------------------------------------------------------------------------
    def _prepare(self, front: Front, message: Message) -> Operation:
        shell_id, account = _name(message, "shell"), _name(message, "account")
        tool = self._made.tools.get(str(message["level"]))
        if tool is None:
            raise Refused("failed", f"this launcher gives no level {message['level']!r}")
        network = str(message["network"])
        if network not in tool.networks or network not in self._made.networks:
            there = " or ".join(each for each in tool.networks if each in self._made.networks)
            raise Refused("failed", f"{tool.level} gives functions no network {network!r} here, only {there or 'nothing'}")
        if shell_id in self._shells or len(self._shells) >= SHELLS_MAX:
            raise Refused("failed", f"shell {shell_id} is there already, or there are more than {SHELLS_MAX}")
        self._made.reserve.check()
        place = self._made.ground.make(shell_id, self._made.ground.user(account), tool, network)
        shell = Shell(place, tool, account)
        self._shells[shell_id] = front.shells[shell_id] = shell
        try:
            shell.cgroups = self._made.cgroups.make(shell_id)
            yield from self._connect(shell, network)
            said: Message = {}
            fds: list[int] = []
            if message["interpreter"]:
                said, fds = yield from self._launch_in(front, shell, str(message["interpreter"]))
            elif not front.open:
                raise Refused("failed", "the front is gone")
        except (OSError, Refused, NotMade, NoGateway) as error:
            yield from self._discard_shell(front, shell)
            if isinstance(error, (NotMade, NoGateway)):
                raise Refused("failed", str(error)) from error
            raise
        files, shell.network.sockets = shell.network.sockets, {}
        return {**said, "files": list(files)}, [*files.values(), *fds]

    def _connect(self, shell: Shell, network: str) -> Waits:
        """A network of the shell's own, and a way out of it."""
        made = shell.network = yield from namespaces.make(network)
        if network == networks.EGRESS:
            with socket.socket(fileno=made.sockets.pop("route")) as inside:
                yield from self._made.ways.connect(shell.account, shell.id, made.namespace, inside)

    def _launch(self, front: Front, message: Message) -> Operation:
        return (yield from self._launch_in(front, _shell(front, message), str(message["interpreter"])))

    def _launch_in(self, front: Front, shell: Shell, interpreter: str) -> Operation:
        if interpreter not in self._made.interpreters:
            raise Refused("failed", f"{interpreter} is not one of the interpreters this node started with")
        if shell.first:
            raise Refused("invalid", f"a guest is in shell {shell.id} already")
        shell.interpreter = interpreter
        wire, wire_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        log, log_inside = os.pipe2(os.O_CLOEXEC)
        try:
            self._start(front, shell, wire_inside.fileno(), log_inside)
        except OSError:
            wire.close()
            os.close(log)
            raise
        finally:
            wire_inside.close()
            os.close(log_inside)
        wire.setblocking(False)
        shell.wire = os.dup(wire.fileno())
        try:
            came = yield Readable(wire.fileno(), LAUNCH_S_MAX)
            if not came or not _first_byte(wire):
                raise Refused("failed", f"no guest came up in {shell.tool.level}: {_said(log) or 'it said nothing'}")
            if not front.open or shell.ending or not shell.first:
                raise Refused("failed", f"shell {shell.id} ended while a guest was started in it")
        except Refused:
            wire.close()
            os.close(log)
            raise
        return {"pid": shell.first, "guest": shell.guest}, [wire.detach(), log]

    def _start(self, front: Front, shell: Shell, wire: int, log: int) -> None:
        tool, place, ground = shell.tool, shell.place, self._made.ground

        def become() -> None:
            if tool.hides_cgroups:
                processes.hide_cgroups()
            processes.become_user(place.uid, switch=ground.switch)

        shell.guest += 1
        shell.killed = False
        command = tool.command(tool, place, guest_of(shell, self._made.walls), f"{shell.id}-{shell.guest}")
        shell.first = processes.start(
            command,
            ENVIRONMENT,
            wire=wire,
            log=log,
            cgroups=shell.cgroups,
            namespace=shell.network.namespace,
            become=become,
        )
        self._by_pid[shell.first] = lambda status: self._guest_ended(front, shell, status)

    def _guest_ended(self, front: Front, shell: Shell, status: int) -> None:
        shell.first = 0
        os.close(shell.wire)
        shell.wire = -1
        ending = -signal.SIGKILL if shell.killed else _ending(status)
        self._tell(front, {"ended": shell.id, "guest": shell.guest, "status": ending})

    def _attach(self, front: Front, message: Message) -> Operation:
        shell = _shell(front, message)
        memory, tmp_mib = int(message["memory_bytes"]), int(message["tmp_mib"])
        if shell.attached:
            raise Refused("invalid", f"shell {shell.id} is attached already")
        self._made.reserve.check()
        if memory < MEMORY_BYTES_MIN or tmp_mib < 1:
            raise Refused("invalid", f"memory_bytes {memory} is below {MEMORY_BYTES_MIN}, or tmp_mib {tmp_mib} below 1")
        self._made.cgroups.limit(shell.id, memory + shell.tool.overhead_bytes)
        for key, target in (("tree", "/var/task"), ("opt_tree", "/opt")):
            if message.get(key):
                self._show(shell, str(message[key]), target)
        again = self._made.ground.bound_tmp(shell, tmp_mib)
        shell.attached = True
        return {"again": again}, []
        yield  # a generator with nothing to wait for

    def _show(self, shell: Shell, path: str, target: str) -> None:
        tree = self._open_code(path)
        try:
            self._made.ground.show(shell, tree, os.path.normpath(path), target)
        finally:
            os.close(tree)

    def _open_code(self, tree: str) -> int:
        """Open a directory below the code directory, taking no link on the way."""
        name, code = self._made.code
        inside = os.path.relpath(os.path.normpath(tree), name)
        if inside.startswith("..") or os.path.isabs(inside):
            raise Refused("invalid", f"{tree} is not below {name}")
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        at = os.dup(code)
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

    def _scour_shell(self, shell: Shell) -> Waits:
        """End every process of the shell, its first one last: what loses its parent until then stays below it."""
        until_s = time.monotonic() + END_S_MAX
        while shell.first and _hung_up(shell.wire) and time.monotonic() < until_s - END_S_MAX + ENDING_S_MAX:
            yield Sleep(0.002)  # it is ending by itself, and how it ended is worth knowing
        shell.killed = True
        groups = [f"{hierarchy.parent}/{shell.id}" for hierarchy in self._made.cgroups.hierarchies]
        while True:
            left = processes.living(shell.first or -1, groups)
            processes.kill(left)
            if not left:
                if not shell.first:
                    return
                processes.kill([shell.first])
            if time.monotonic() > until_s:
                raise Refused("failed", f"{len(left) + bool(shell.first)} processes of shell {shell.id} do not end")
            yield Sleep(0.002)

    def _settled(self, front: Front, message: Message) -> Operation:
        """Answered when nothing is left of fronts whose lines have closed."""
        del front, message
        yield Sleep(0.005)  # a line that has just closed may be noticed only now
        waited = 0.0
        while len(self._shells) > sum(len(front.shells) for front in self._fronts) and waited < END_S_MAX:
            yield Sleep(0.005)
            waited += 0.005
        return {}, []

    def _discard(self, front: Front, message: Message) -> Operation:
        shell = front.shells.get(_name(message, "shell"))
        if shell is not None:
            yield from self._discard_shell(front, shell)
        return {}, []

    def _discard_quietly(self, front: Front, shell: Shell) -> Waits:
        try:
            yield from self._discard_shell(front, shell)
        except Refused as error:
            log(str(error))

    def _discard_shell(self, front: Front, shell: Shell) -> Waits:
        if shell.ending:  # by another request: wait for that one
            until_s = time.monotonic() + 2 * END_S_MAX
            while shell.id in self._shells and time.monotonic() < until_s:
                yield Sleep(0.005)
            return
        shell.ending = True
        self._walks.pop(shell.id, None)
        try:
            yield from self._scour_shell(shell)
            yield from self._remove(shell)
        finally:
            close_all(shell.cgroups)
            shell.cgroups = []
            shell.network.close()
            self._made.ways.release(shell.account, shell.id)
            self._shells.pop(shell.id, None)
            front.shells.pop(shell.id, None)

    def _remove(self, shell: Shell) -> Waits:
        until_s = time.monotonic() + END_S_MAX
        self._made.ground.remove(shell.place)
        while not self._made.cgroups.remove(shell.id):
            if time.monotonic() > until_s:
                raise Refused("failed", f"the control groups of shell {shell.id} could not be removed")
            yield Sleep(0.001)
        directory = shell.place.directory
        if not cleaning.remove_own(directory):
            here = f"./{shell.id}"  # what is executed has no more rights than its user, and this is the working directory
            if not self._made.ground.switch:
                yield from self._ended(processes.loosen(here))
            yield from self._ended(cleaning.start_removing(here))  # as long as the disk needs
        if os.path.exists(directory):
            raise Refused("failed", f"shell {shell.id} could not be removed whole")

    def _ended(self, pid: int) -> Waits:
        """Wait for a child that bounds its own time."""
        statuses: list[int] = []
        self._by_pid[pid] = statuses.append
        while not statuses:
            yield Sleep(0.0005)

    def _usage(self, front: Front, message: Message) -> Operation:
        shell = _shell(front, message)
        peak, kills = self._made.cgroups.usage(shell.id)
        return {"memory_peak_bytes": max(peak - shell.tool.overhead_bytes, 0), "oom_kills": kills}, []
        yield  # a generator with nothing to wait for

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
                self._made.ways.ended(pid)

    def _watch_quotas(self) -> None:
        """One slice of each walk, then again; a new round begins when all are through."""
        if not self._walks:
            self._walks = {
                s.id: quota.walk(s.place.tmp, s.tmp_bytes_max, s.counted)
                for s in self._shells.values()
                if s.tmp_bytes_max and not s.ending
            }
        for shell_id, walk in list(self._walks.items()):
            try:
                next(walk)
            except StopIteration:
                del self._walks[shell_id]
            except (quota.Over, OSError):
                del self._walks[shell_id]
                self._over(shell_id)
        self._loop.later(0.002 if self._walks else quota.INTERVAL_S, self._watch_quotas)

    def _make_room(self, shell: Shell) -> Waits | None:
        """End a shell for what it holds of the disk; None where that is under way."""
        front = next((front for front in self._fronts if shell.id in front.shells), None)
        if front is None or shell.ending:
            return None
        self._tell(front, {"no_room": shell.id})
        return self._discard_quietly(front, shell)

    def _over(self, shell_id: str) -> None:
        for front in list(self._fronts):
            shell = front.shells.get(shell_id)
            if shell is not None:
                self._loop.spawn(self._scour_quietly(shell))
                self._tell(front, {"over_tmp": shell_id})

    def _scour_quietly(self, shell: Shell) -> Waits:
        try:
            yield from self._scour_shell(shell)
        except Refused as error:
            log(str(error))


_OPERATIONS: dict[str, Callable[[Launcher, Front, Message], Operation]] = {
    "prepare": Launcher._prepare,  # noqa: SLF001
    "launch": Launcher._launch,  # noqa: SLF001
    "attach": Launcher._attach,  # noqa: SLF001
    "scour": Launcher._scour,  # noqa: SLF001
    "discard": Launcher._discard,  # noqa: SLF001
    "usage": Launcher._usage,  # noqa: SLF001
    "settled": Launcher._settled,  # noqa: SLF001
}


def _name(message: Message, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Refused("invalid", f"{key} {value!r} is no name: letters, digits, - and _, at most 64")
    return value


def _shell(front: Front, message: Message) -> Shell:
    name = _name(message, "shell")
    shell = front.shells.get(name)
    if shell is None or shell.ending:
        raise Refused("unknown", f"there is no shell {name}")
    return shell


def _first_byte(wire: socket.socket) -> bool:
    try:
        return bool(wire.recv(1))
    except (BlockingIOError, ConnectionError):
        return False


def _hung_up(wire: int) -> bool:
    poll = select.poll()
    poll.register(wire, 0)
    return bool(poll.poll(0))


def _said(log: int) -> str:
    """What a guest that did not come up wrote."""
    os.set_blocking(log, False)
    try:
        return os.read(log, SAID_BYTES_MAX).decode("utf-8", "replace").strip()
    except BlockingIOError:
        return ""


def _ending(status: int) -> int:
    """Exit status, or minus the signal; a tool's first process ends with 128 and the number where the guest died of one."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if 128 < code <= 128 + 64 else code


def log(text: str) -> None:
    print(f"launcher: {text}", file=sys.stderr, flush=True)  # noqa: T201


def with_programs(tools: Mapping[str, Tool], found: Mapping[str, tuple[str, tuple[str, ...]]]) -> dict[str, Tool]:
    """The tools named in `found` (by level: the program's path and more words for it)."""
    return {level: replace(tools[level], program=path, options=options) for level, (path, options) in found.items()}
