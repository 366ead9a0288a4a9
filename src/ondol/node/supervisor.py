"""The supervisor: starts the node's processes, hands them their lines to each other, and keeps them alive.

It does no work of its own, so that it has nothing to die of. Signals and deaths only make its one loop turn; the loop
starts what is missing, each with a pause that doubles while it keeps dying. When the supervisor itself is killed, its children
get SIGKILL from the kernel (PDEATHSIG), the keeper's watcher cleans, and the next start finds nothing but the data.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.node.nursery import Forked, Nursery

PAUSE_S_MIN: Final = 0.05
PAUSE_S_MAX: Final = 10.0
#: A child that lived this long is taken as healthy: its pause starts over.
HEALTHY_S: Final = 10.0
#: Of the time there is for an end, what is kept for putting away: a front is killed with LAST_S of it left, for the others.
END_S: Final = 2.0
LAST_S: Final = 1.0
#: How long a child that tidies up is waited for when it is asked to do just that, because the time is over.
TIDY_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One process: executed, or forked by the nursery.

    `command(fd)` is its argument vector, given the number of its end of the supervisor's line.
    """

    name: str
    command: Callable[[int], Sequence[str]] = lambda _: ()
    #: Instead: the role in which the nursery forks it.
    role: str = ""
    #: Descriptors to inherit, under the same numbers; one that has a role is told which number became which.
    inherited: tuple[int, ...] = ()
    #: Names of the children it shares a line with.
    lines: tuple[str, ...] = ()
    #: First message on its line.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Start it in a session of its own, so that the terminal's Ctrl-C reaches the supervisor only. The keeper sees to that
    #: itself.
    session: bool = True
    #: On SIGTERM it ends at once what it holds for others and puts it away. So it is asked for that where others are killed; if
    #: it takes longer than TIDY_S, it goes on with it by itself.
    tidies: bool = False
    #: It is asked to end, and waited for, before the others: it takes the node's work.
    ends_first: bool = False


#: A child: executed by this process, or forked for it.
Process = subprocess.Popen[bytes] | Forked


@dataclass(slots=True)
class _Life:
    process: Process | None = None
    line: socket.socket | None = None
    pidfd: int = -1
    born_s: float = 0.0
    pause_s: float = PAUSE_S_MIN
    due_s: float = 0.0


class Supervisor:
    """`run()` returns when told to stop and everything has ended."""

    #: `stop_s_max` bounds the end: calls under way are given that time less END_S. `nursery` forks those that have a role.
    def __init__(
        self,
        children: Sequence[Child],
        *,
        stop_s_max: float,
        log: Callable[[str], None],
        env: Mapping[str, str],
        nursery: Nursery | None = None,
    ) -> None:
        self._children = {child.name: child for child in children}
        self._lives = {child.name: _Life() for child in children}
        self._stop_s_max = stop_s_max
        self._log = log
        self._env = dict(env)
        self._nursery = nursery
        self._stopping = False

    def run(self, started: Callable[[], None]) -> None:
        """Start all, call `started` after the first round, then mind them until SIGINT, SIGTERM or the terminal's end.

        Raises OSError when a child cannot be started in the first round; later that is tried again like a death.
        """
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(write)
        handlers = {number: signal.signal(number, self._signalled) for number in _signals()}
        try:
            self._turn(first=True)
            started()
            while not self._stopping:
                self._wait(read)
                self._turn()
        finally:
            for number in handlers:
                signal.signal(number, signal.SIG_IGN)
            self._stop()
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(read)
            os.close(write)

    def pids(self) -> dict[str, int]:
        return {name: life.process.pid for name, life in self._lives.items() if life.process}

    # One turn: reap, start ------------------------------------------------------------------------------------------
    def _signalled(self, number: int, frame: object) -> None:
        del number, frame
        self._stopping = True

    def _wait(self, wakeup: int) -> None:
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        for life in self._lives.values():
            if life.pidfd >= 0:
                poll.register(life.pidfd, select.POLLIN)
        now_s = time.monotonic()
        dues = [life.due_s - now_s for life in self._lives.values() if life.process is None]
        poll.poll(max(min(dues), 0) * 1000 + 1 if dues else None)
        try:
            os.read(wakeup, 4096)
        except BlockingIOError:
            return

    def _turn(self, *, first: bool = False) -> None:
        for name, life in self._lives.items():
            if life.process is not None and (code := life.process.poll()) is not None:
                self._reap(name, life, code)
        now_s = time.monotonic()
        started = []
        for name, life in self._lives.items():
            if life.process is None and life.due_s <= now_s and not self._stopping:
                try:
                    self._start(self._children[name], life)
                except OSError as error:  # too many processes, no memory: perhaps not for long
                    if first:
                        raise
                    self._log(f"the {name} could not be started ({error.strerror or error}); trying again")
                    self._postpone(life)
                else:
                    started.append(name)
        self._join(started)

    def _reap(self, name: str, life: _Life, code: int) -> None:
        how = f"signal {-code}" if code < 0 else f"status {code}"
        if not self._stopping:
            self._log(f"the {name} ended ({how}); starting it again")
        if time.monotonic() - life.born_s >= HEALTHY_S:
            life.pause_s = PAUSE_S_MIN
        self._postpone(life)
        _close(life)

    def _postpone(self, life: _Life) -> None:
        life.due_s = time.monotonic() + life.pause_s
        life.pause_s = min(life.pause_s * 2, PAUSE_S_MAX)

    def _start(self, child: Child, life: _Life) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = theirs.fileno()
        try:
            life.process = self._forked(child, fd) if child.role else self._executed(child, fd)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        life.line = ours
        life.pidfd = os.pidfd_open(life.process.pid)
        life.born_s = time.monotonic()
        if child.settings:
            _tell(ours, dict(child.settings))

    def _executed(self, child: Child, fd: int) -> Process:
        return subprocess.Popen(
            [*child.command(fd)],
            pass_fds=(fd, *child.inherited),
            stdin=subprocess.DEVNULL,
            start_new_session=child.session,
            env=self._env,
            cwd="/",
        )

    def _forked(self, child: Child, fd: int) -> Process:
        assert self._nursery is not None, f"nobody forks the {child.name}"
        return self._nursery.fork(child.role, fd, child.inherited)

    def _join(self, started: Sequence[str]) -> None:
        """A fresh line between each pair of which one end was just started."""
        done = set()
        for name in started:
            for other in self._partners(name):
                pair = frozenset((name, other))
                lives = self._lives[name], self._lives[other]
                if pair in done or lives[0].line is None or lives[1].line is None:
                    continue
                done.add(pair)
                one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with one, two:
                    _tell(lives[0].line, {"line": other}, one.fileno())
                    _tell(lives[1].line, {"line": name}, two.fileno())

    def _partners(self, name: str) -> list[str]:
        return [n for n, child in self._children.items() if n in self._children[name].lines or name in child.lines]

    # The end --------------------------------------------------------------------------------------------------------
    def _stop(self) -> None:
        """Ask all at once (those that take work first, and wait for them), give them the time they have, then kill."""
        end_s = time.monotonic() + self._stop_s_max
        for first, kept_s in ((True, END_S), (False, LAST_S / 2)):
            lives = [life for name, life in self._lives.items() if self._children[name].ends_first is first]
            for life in lives:
                if life.line is not None:
                    _tell(life.line, {"stop": max(end_s - time.monotonic() - kept_s, 0.0)})
            for life in lives:
                if first and life.process is not None:
                    _await(life.process, end_s - time.monotonic() - LAST_S)
        for life in self._lives.values():
            if life.line is not None:
                life.line.close()
                life.line = None
        for name, life in self._lives.items():
            if life.process is not None:
                end = _tidied if self._children[name].tidies else _await
                end(life.process, end_s - time.monotonic())
                _close(life)


def _signals() -> list[signal.Signals]:
    """What ends a node. A node that was told to outlive its terminal (nohup) does."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


def _await(process: Process, seconds: float) -> None:
    try:
        process.wait(max(seconds, 0.05))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tidied(process: Process, seconds: float) -> None:
    try:
        process.wait(max(seconds, 0.05))
    except subprocess.TimeoutExpired:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(TIDY_S)


def _tell(line: socket.socket, message: dict[str, Any], fd: int | None = None) -> None:
    """Send; a child that just died is noticed by its pidfd, not here."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
    try:
        line.sendmsg([json.dumps(message).encode()], rights, socket.MSG_DONTWAIT)
    except OSError:
        return


def _close(life: _Life) -> None:
    if life.line is not None:
        life.line.close()
    if life.pidfd >= 0:
        os.close(life.pidfd)
    life.process, life.line, life.pidfd = None, None, -1
