"""The launcher at work: its operations, on what `keeper/serving.py` serves.

    prepare {account, interpreter, level, network, shell}
                       -> {"files"} + sockets inside, by those names; and what launch gives where an interpreter is named
    launch  {shell, interpreter, beside?} -> {"pid", "guest"} + wire, log: a guest that waits for INIT, the shell's only one;
                       `beside`: one more
    signal  {shell, guest, number}: to the guest alone, where it is there and can be reached
    attach  {shell, tree, opt_tree?, memory_bytes, tmp_mib} -> {"again"}: the guest that is there must be started again
    scour {shell}, discard {shell}, usage {shell}, settled {}: as the keeper's
    news    {"ended": shell, "guest": number, "status"}, {"over_tmp": shell}

Invariants: a shell belongs to the line that asked for it and ends with it; nothing a front sends is believed.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ondol.keeper import cleaning, networks, serving
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.gateways import Gateways, NoGateway
from ondol.keeper.loop import Loop, Readable, Sleep
from ondol.keeper.protocol import Line, Message, close_all
from ondol.keeper.reserve import Reserve
from ondol.keeper.serving import END_S_MAX, MEMORY_BYTES_MIN, Operation, Refused, Waits, name_in, open_below
from ondol.launcher import namespaces, processes
from ondol.launcher.namespaces import NotMade
from ondol.launcher.shells import GUESTS_MAX, Ground, Guest, Shell, guest_of
from ondol.launcher.tools import ENVIRONMENT, Tool

LAUNCH_S_MAX = 30.0
#: How long a guest that has let go of its wire may take to end, with its tool: gVisor takes itself apart first.
ENDING_S_MAX = 4.0
SAID_BYTES_MAX = 2000
Front = serving.Front[Shell]


@dataclass(frozen=True)
class Makings:
    """What the launcher works with. `code`: the directory that trees lie below, as fronts name it, and open."""

    ground: Ground
    reserve: Reserve
    #: What shells may have, of `networks.KINDS`, and the ways out of those with `egress`.
    networks: tuple[str, ...]
    ways: Gateways
    tools: Mapping[str, Tool]
    cgroups: Cgroups
    code: tuple[str, int]
    interpreters: frozenset[str]
    #: What walled tools' guests put up around themselves, as JSON.
    walls: str


class Launcher(serving.Server[Shell, Front]):
    """See the module."""

    def __init__(self, loop: Loop, makings: Makings) -> None:
        super().__init__(loop, "launcher", kept_free=makings.reserve, ways=makings.ways, log=log)
        self._made = makings
        self.operations = {
            "prepare": self._prepare,
            "launch": self._launch,
            "signal": self._signal,
            "attach": self._attach,
            "scour": self._scour,
            "discard": self._discard,
            "usage": self._usage,
            "settled": self._settled,
        }

    def _new_front(self, line: Line) -> Front:
        return Front(line)

    # Operations ------------------------------------------------------------------------------------------------------
    def _prepare(self, front: Front, message: Message) -> Operation:
        shell_id, account = name_in(message, "shell"), name_in(message, "account")
        tool = self._made.tools.get(str(message["level"]))
        if tool is None:
            raise Refused("failed", f"this launcher gives no level {message['level']!r}")
        network = str(message["network"])
        if network not in tool.networks or network not in self._made.networks:
            there = " or ".join(each for each in tool.networks if each in self._made.networks)
            raise Refused("failed", f"{tool.level} gives functions no network {network!r} here, only {there or 'nothing'}")
        self._room_for(shell_id)
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
                yield from self._ways.connect(shell.account, shell.id, made.namespace, inside)

    def _launch(self, front: Front, message: Message) -> Operation:
        beside = message.get("beside") is True
        return (yield from self._launch_in(front, self._shell(front, message), str(message["interpreter"]), beside=beside))

    def _launch_in(self, front: Front, shell: Shell, interpreter: str, *, beside: bool = False) -> Operation:
        if interpreter not in self._made.interpreters:
            raise Refused("failed", f"{interpreter} is not one of the interpreters this node started with")
        if beside and not shell.tool.claims.several:
            raise Refused(
                "failed",
                f"a shell of the isolation {shell.tool.level} holds one process: deploy functions with extensions for the "
                "isolation sandbox, bwrap or crun",
            )
        if not beside and any(not guest.beside for guest in shell.guests.values()):
            raise Refused("invalid", f"a guest is in shell {shell.id} already")
        if len(shell.guests) >= GUESTS_MAX:
            raise Refused("failed", f"shell {shell.id} has {GUESTS_MAX} guests, its most")
        guest = shell.add(beside=beside)
        wire, wire_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        log, log_inside = os.pipe2(os.O_CLOEXEC)
        try:
            self._start(front, shell, guest, interpreter, (wire_inside.fileno(), log_inside))
        except OSError:
            del shell.guests[guest.number]
            wire.close()
            os.close(log)
            raise
        finally:
            wire_inside.close()
            os.close(log_inside)
        wire.setblocking(False)
        guest.wire = os.dup(wire.fileno())
        try:
            came = yield Readable(wire.fileno(), LAUNCH_S_MAX)
            if not came or not _first_byte(wire):
                raise Refused("failed", f"no guest came up in {shell.tool.level}: {_said(log) or 'it said nothing'}")
            if not front.open or shell.ending or not guest.first:
                raise Refused("failed", f"shell {shell.id} ended while a guest was started in it")
        except Refused:
            wire.close()
            os.close(log)
            raise
        return {"pid": guest.first, "guest": guest.number}, [wire.detach(), log]

    def _signal(self, front: Front, message: Message) -> Operation:
        shell, number = self._shell(front, message), signal.Signals(message["number"])
        guest = shell.guests.get(int(message["guest"]))
        if guest is not None and guest.first and shell.tool.depth:
            processes.send(guest.first, shell.tool.depth, number)
        return {}, []
        yield  # a generator with nothing to wait for

    def _start(self, front: Front, shell: Shell, guest: Guest, interpreter: str, fds: tuple[int, int]) -> None:
        tool, place, ground = shell.tool, shell.place, self._made.ground

        def become() -> None:
            if tool.hides_cgroups:
                processes.hide_cgroups()
            processes.become_user(place.uid, switch=ground.switch)

        words = guest_of(tool, interpreter, self._made.walls, self._made.cgroups.controllers)
        command = tool.command(tool, place, words, f"{shell.id}-{guest.number}")
        guest.first = processes.start(
            command,
            ENVIRONMENT,
            wire=fds[0],
            log=fds[1],
            cgroups=shell.cgroups,
            namespace=shell.network.namespace,
            become=become,
        )
        self._by_pid[guest.first] = lambda status: self._guest_ended(front, shell, guest, status)

    def _guest_ended(self, front: Front, shell: Shell, guest: Guest, status: int) -> None:
        del shell.guests[guest.number]
        guest.first = 0
        os.close(guest.wire)
        guest.wire = -1
        ending = -signal.SIGKILL if guest.killed else _ending(status)
        self._tell(front, {"ended": shell.id, "guest": guest.number, "status": ending})

    def _attach(self, front: Front, message: Message) -> Operation:
        shell = self._shell(front, message)
        memory, tmp_mib = int(message["memory_bytes"]), int(message["tmp_mib"])
        if shell.attached:
            raise Refused("invalid", f"shell {shell.id} is attached already")
        self._reserve.check()
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
        name, code = self._made.code
        tree = open_below(os.dup(code), name, path)
        try:
            self._made.ground.show(shell, tree, os.path.normpath(path), target)
        finally:
            os.close(tree)

    def _scour_shell(self, shell: Shell) -> Waits:
        """End every process of the shell, its first ones last: what loses its parent until then stays below them."""
        until_s = time.monotonic() + ENDING_S_MAX
        while any(_is_leaving(guest) for guest in shell.guests.values()) and time.monotonic() < until_s:
            yield Sleep(0.002)  # it is ending by itself, and how it ended is worth knowing
        until_s = time.monotonic() + END_S_MAX
        for guest in shell.guests.values():
            guest.killed = True
        groups = [f"{hierarchy.parent}/{shell.id}" for hierarchy in self._made.cgroups.hierarchies]
        while True:
            left = processes.living(shell.firsts, groups)
            processes.kill(left)
            if not left:
                if not shell.firsts:
                    return
                processes.kill(shell.firsts)
            if time.monotonic() > until_s:
                raise Refused("failed", f"{len(left) + len(shell.firsts)} processes of shell {shell.id} do not end")
            yield Sleep(0.002)

    def _end_shell(self, front: Front, shell: Shell) -> Waits:
        try:
            yield from self._scour_shell(shell)
            yield from self._remove(shell)
        finally:
            close_all(shell.cgroups)
            shell.cgroups = []
            shell.network.close()
            self._ways.release(shell.account, shell.id)
            self._shells.pop(shell.id, None)
            front.shells.pop(shell.id, None)

    def _remove(self, shell: Shell) -> Waits:
        until_s = time.monotonic() + END_S_MAX
        self._made.ground.remove(shell.place)
        while not self._made.cgroups.remove(shell.id):
            if time.monotonic() > until_s:
                raise Refused("failed", f"the control groups of shell {shell.id} could not be removed")
            yield Sleep(0.001)
        if not cleaning.remove_own(shell.directory):
            here = _here(shell)
            if not self._made.ground.switch:
                yield from self._status_of(processes.loosen(here))
            yield from self._status_of(cleaning.start_removing(here))  # as long as the disk needs
        if os.path.exists(shell.directory):
            raise Refused("failed", f"shell {shell.id} could not be removed whole")

    def _usage(self, front: Front, message: Message) -> Operation:
        shell = self._shell(front, message)
        peak, kills = self._made.cgroups.usage(shell.id)
        return {"memory_peak_bytes": max(peak - shell.tool.overhead_bytes, 0), "oom_kills": kills}, []
        yield  # a generator with nothing to wait for

    def _empty_tmp(self, shell: Shell) -> Waits:
        tmp = f"{_here(shell)}/tmp"  # noqa: S108
        if not self._made.ground.switch:
            yield from self._status_of(processes.loosen(tmp))
        yield from self._status_of(cleaning.start_emptying(tmp))

    def _not_scoured(self, shell: Shell, error: Refused) -> None:
        del shell
        log(str(error))


def _here(shell: Shell) -> str:
    """Its directory, for programs: they have no more rights than their user, and this is the working directory."""
    return f"./{shell.id}"


def _first_byte(wire: socket.socket) -> bool:
    try:
        return bool(wire.recv(1))
    except (BlockingIOError, ConnectionError):
        return False


def _is_leaving(guest: Guest) -> bool:
    """Whether it has let go of its wire by itself. A program beside a function does so when it begins."""
    return bool(guest.first) and not guest.beside and _let_go(guest.wire)


def _let_go(wire: int) -> bool:
    """Whether its guest's end sends no more. Not whether it is closed: gVisor closes a socket of the machine's by shutting it
    down for sending, then for receiving, and the front has seen the first before the second is done.
    """
    poll = select.poll()
    poll.register(wire, select.POLLRDHUP)
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
