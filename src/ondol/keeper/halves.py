"""The two halves that the keeper and the launcher each have, and how the outer one holds the inner one.

The outer half stays outside of what the inner one makes: it ends that when the supervisor is gone, and cleans after it. The
inner half is, where it is asked for, process 1 of a pid namespace, and dies with the outer one. Knows nothing of what it does.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from dataclasses import replace

from ondol import syscalls
from ondol.keeper.sweeper import Sweeper
from ondol.walls import findings
from ondol.walls.built import NoWalls, Walls, build


def start_inner(become: Callable[[], None], log: Callable[[str], None], *, namespace: bool) -> tuple[int, int]:
    """(pid of the inner half, which does `become`; a descriptor whose end is its end). `namespace`: of processes.

    A process in between enters the namespace and leaves: who entered it could itself fork no more once the namespace is dead.
    Raises OSError.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    alive_inside, alive = os.pipe2(os.O_CLOEXEC)
    between = os.fork()
    if between == 0:
        os.close(alive)
        try:
            if namespace:
                syscalls.unshare(syscalls.CLONE_NEWPID)
            pid = os.fork()
            if pid:
                os.write(tell, str(pid).encode())
            elif _outer_lives(alive_inside):
                become()
        except BaseException as error:
            log(f"{type(error).__name__}: {error}")
            os._exit(1)
        os._exit(0)
    os.close(tell)
    os.close(alive_inside)
    _, status = os.waitpid(between, 0)
    text = os.read(told, 16)
    os.close(told)
    if status != 0 or not text:
        raise OSError("no process could be started, or no pid namespace be made")
    os.write(alive, b"+")
    return int(text), alive


def _outer_lives(alive: int) -> bool:
    """Wait until the process in between has left, then ask the kernel to end us with the outer half."""
    if os.read(alive, 1) != b"+":
        return False
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(alive, select.POLLIN)
    return not poll.poll(0)  # else it died before we could ask to die with it


def watch(inner: int, supervisor: int, theirs: int, last: Sweeper) -> int:
    """Wait for the inner half's end, and bring it about when the supervisor is gone. Its exit status.

    `theirs`: the supervisor's pidfd.
    """
    ask = lambda *_: os.kill(inner, signal.SIGKILL)  # noqa: E731
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    poll = select.poll()
    ours = os.pidfd_open(inner)
    poll.register(ours, select.POLLIN)
    if os.getppid() != supervisor:
        os.kill(inner, signal.SIGKILL)
    else:
        poll.register(theirs, select.POLLIN)
        poll.register(last.pidfd, select.POLLIN)
    while ours not in (ready := [fd for fd, _ in poll.poll()]):
        for fd in ready:
            poll.unregister(fd)
        if ready == [last.pidfd]:
            last.start()
            if last.pidfd >= 0:
                poll.register(last.pidfd, select.POLLIN)
        else:
            os.kill(inner, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # cleaning is under way
    _, status = os.waitpid(inner, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1


def walls(log: Callable[[str], None]) -> Walls:
    """What is put up around whoever runs functions' code. Raises NoWalls: nothing runs without a filter of system calls."""
    built = build()
    filtered, files = findings.seccomp(built), findings.landlocked(built)
    if not filtered.ok:
        raise NoWalls(f"no filter of system calls (seccomp) can be put up: {filtered.detail}")
    if not files.ok:
        log(f"functions are without Landlock, the second wall around files: {files.detail}")
        built = replace(built, environment=None, init=None)
    return built
