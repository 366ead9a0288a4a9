"""The last one out: a process that waits for the death of everybody else, cleans what they left, and goes.

Whoever of a node is killed, another one cleans: the keeper's outer half after the inner one, the supervisor's next keeper after
a killed keeper, the keeper after a killed supervisor. When all are killed at once there is the sweeper: forked by the outer
half, in a session of its own and a child of the machine's first process, so that it is no part of the node's processes; it
holds nothing but three descriptors and sleeps. It cleans under the data directory's lock, as everybody does: who starts a node
meanwhile waits for it. Only when it is killed in the same moment, too, is something left, for the next start.

Invariant: it never touches anything while a supervisor lives.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import time
from contextlib import suppress

from ondol import syscalls
from ondol.keeper import cleaning
from ondol.keeper.cgroups import Cgroups

#: After a keeper's death: the supervisor's death comes within this, or its next keeper does, with a sweeper of its own.
SUPERVISOR_S_MAX = 15.0
#: Whoever holds the lock longer is no dying node.
LOCK_S_MAX = 10.0
STARTS_MAX = 10
_GLANCE_S = 0.02


class Sweeper:
    """The outer half's hold on its sweeper. Raises OSError when there can be none."""

    def __init__(self, data: str, cgroups: Cgroups, shells: int, supervisor: int) -> None:
        """`shells`: a descriptor of the directory; `supervisor`: a pidfd."""
        self._left = (data, cgroups, shells)
        self._supervisor = supervisor
        self._starts = 0
        #: Readable when it is dead.
        self.pidfd = -1
        self.start()

    def start(self) -> None:
        """Also after its death; but who kills it again and again shall have it so."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self._starts < STARTS_MAX:
            self._starts += 1
            self.pidfd = self._fork()

    def end(self) -> None:
        """Nothing is left for it to do."""
        if self.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def _fork(self) -> int:
        """Twice, while the caller takes no orphans: its parent is then the machine's first process."""
        keeper = os.pidfd_open(os.getpid())
        told, tell = os.pipe2(os.O_CLOEXEC)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 0)
        between = os.fork()
        if between == 0:
            try:
                pid = os.fork()
                if pid:
                    os.write(tell, str(pid).encode())
                else:
                    _sweep(*self._left, (self._supervisor, keeper))
            finally:
                os._exit(0)
        os.close(tell)
        os.close(keeper)
        os.waitpid(between, 0)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        text = os.read(told, 16)
        os.close(told)
        return os.pidfd_open(int(text))


def _sweep(data: str, cgroups: Cgroups, shells: int, pidfds: tuple[int, int]) -> None:
    os.setsid()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)  # whoever reads what the node says must see its end
    syscalls.close_all_but([shells, *pidfds])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    syscalls.set_name("ondol-sweeper")
    gc.freeze()
    supervisor, keeper = pidfds
    _dead(keeper, None)
    if not _dead(supervisor, SUPERVISOR_S_MAX) or not _locked(f"{data}/run/lock"):
        return
    cleaning.remove_litter(data)
    cleaning.clean(cgroups, shells)


def _dead(pidfd: int, seconds_max: float | None) -> bool:
    """Wait for a process's end; whether it came. None: as long as it lives."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds_max is None else int(seconds_max * 1000)))


def _locked(path: str) -> bool:
    """Hold the data directory's lock from now on. False where it is gone, or somebody else's for good."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    deadline = time.monotonic() + LOCK_S_MAX
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_GLANCE_S)
        else:
            return True
    return False
