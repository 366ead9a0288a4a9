"""The nursery: a process that has imported what fronts and desk are made of, and forks them whenever the supervisor asks.

They are the supervisor's children, not the nursery's (CLONE_PARENT): who has forked them may die, and they go on. So a nursery
that is gone is missed, and made anew, when the next child is wanted; nothing else depends on it. It has no rights that its
children have not: it gave them up before it was executed (`unprivileged.py`). It runs nothing but imports before it forks: one
thread, no loop, no open file. Decision 10 has the reasons.

    supervisor -> nursery   {"role": "front", "numbers": [13]} + [the child's end of the supervisor's line, descriptors…]
    nursery -> supervisor   {"pid": 4711}   or   {"error": "…"}

`numbers`: under which numbers the child's settings speak of these descriptors.
"""

from __future__ import annotations

import array
import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ondol import syscalls
from ondol.node.lines import die_with_parent, receive

#: Its role on the command line; what it forks writes its own over it, so no role may be longer.
ROLE: Final = "nursery"
#: How long it may take to import everything and fork, on a busy machine.
FORK_S_MAX: Final = 30.0
#: By these dies who stumbled over its own memory. Whoever provoked it shall not find the same addresses again.
_STUMBLED: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT)


# The supervisor's side -----------------------------------------------------------------------------------------------
class Forked:
    """A child that another process forked for this one; used like `subprocess.Popen`."""

    def __init__(self, pid: int, ended: Callable[[int], None]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Its status once it has ended, negative for a signal."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                self._ended(self.returncode)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        fd = os.pidfd_open(self.pid) if self.returncode is None else -1
        try:
            if fd >= 0:
                select.select([fd], [], [], timeout)
        finally:
            if fd >= 0:
                os.close(fd)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return status

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.poll() is None:  # until it is reaped the number is nobody else's
            os.kill(self.pid, number)


class Nursery:
    """`command(fd)`: how the process is started, given the number of its end of the line. Starts it at once."""

    def __init__(self, command: Callable[[int], Sequence[str]], env: Mapping[str, str]) -> None:
        self._command = command
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._start()

    def fork(self, role: str, line: int, descriptors: Sequence[int]) -> Forked:
        """A child in that role with its end of the supervisor's line. Raises OSError."""
        fresh = self._process is None
        if fresh:
            self._start()
        try:
            return Forked(self._ask({"role": role, "numbers": [*descriptors]}, [line, *descriptors]), self._ended)
        except OSError:
            self.close()  # whatever it was doing: the next one is asked afresh
            if fresh:
                raise
        return self.fork(role, line, descriptors)

    def close(self) -> None:
        """End it. Those it forked go on."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._line = None

    def _start(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*self._command(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=self._env,
                cwd="/",
            )

    def _ask(self, message: dict[str, Any], fds: Sequence[int]) -> int:
        assert self._line is not None
        self._line.settimeout(FORK_S_MAX)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        self._line.sendmsg([json.dumps(message).encode()], [rights])
        received = receive(self._line)
        if received is None:
            raise ConnectionResetError("the nursery ended before it had forked")
        if "pid" not in received[0]:
            raise OSError(f"the nursery could not fork: {received[0].get('error')}")
        return int(received[0]["pid"])

    def _ended(self, status: int) -> None:
        if -status in _STUMBLED:
            self.close()


# The nursery's side --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Birth:
    """What a child is told when it is forked."""

    role: str
    line: socket.socket
    #: Its descriptors, by the numbers that its settings speak of.
    descriptors: Mapping[int, int]


def nurse(line_fd: int, learn: Callable[[], None]) -> Birth | None:
    """`learn()` imports; then fork for whoever is at the line. Returns in every child; None here, once the line is closed."""
    die_with_parent()
    gc.disable()  # what is imported stays
    learn()
    gc.collect()
    gc.freeze()  # who is forked writes nothing into these pages just to look for garbage
    line = socket.socket(fileno=line_fd)
    supervisor = os.getppid()
    while (received := receive(line)) is not None:
        message, fds = received
        try:
            pid = _fork_sibling()
        except OSError as error:
            _answer(line, {"error": str(error)})
        else:
            if pid == 0:
                return _born(line, message, fds, supervisor)
            _answer(line, {"pid": pid})
        for fd in fds:
            os.close(fd)
    return None


def _born(line: socket.socket, message: dict[str, Any], fds: Sequence[int], supervisor: int) -> Birth:
    line.close()
    if os.getppid() != supervisor:  # gone, and could not be heard
        os._exit(1)
    os.setsid()
    gc.enable()
    role = str(message["role"])
    _rename(role)
    return Birth(role, socket.socket(fileno=fds[0]), dict(zip(message["numbers"], fds[1:], strict=True)))


def _answer(line: socket.socket, message: dict[str, Any]) -> None:
    with suppress(OSError):
        line.send(json.dumps(message).encode())


def _fork_sibling() -> int:
    """As os.fork(), but the child's parent is this process's. Python's own state is minded as os.fork() minds it."""
    ctypes.pythonapi.PyOS_BeforeFork()
    try:
        pid = syscalls.clone_sibling()
    except OSError:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
        raise
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid


def _rename(role: str) -> None:
    """Let ps show `role` where the command line said ROLE."""
    with suppress(OSError, ValueError):
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        words = Path("/proc/self/cmdline").read_bytes()
        before, _, number = words.partition(b"\0" + ROLE.encode() + b"\0")
        renamed = before + b"\0" + role.encode() + b"\0" + number
        if start and len(words) == end - start and len(renamed) <= len(words):
            ctypes.memmove(start, renamed.ljust(len(words), b"\0"), len(words))
