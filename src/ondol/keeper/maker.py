"""Makers: a process beside the keeper for each account, of which each shell's PID 1 is cloned. `Makers` is the keeper's half.

A maker is in the account's user namespace and in a mount namespace that holds nothing but a copy of the golden view, so that a
shell's is a copy of a few mounts, made by the clone itself, and nothing of the machine's has to be left behind in it. And the
keeper need not fork for each shell: a fork takes writing to each of its pages from it until it was copied, which took more
processor time than all else about a shell.

    keeper: fork -> the account's user namespace -> a mount namespace -> the view becomes the root, /proc stands where children
      will have their /tmp                                                                                         = the maker
    maker: clone into new mount, pid, ipc and uts namespaces, as a child of the keeper's                            = PID 1
      -> /proc, network -> /tmp and control groups are handed in, which the keeper made meanwhile -> /dev/shm, /tmp
      -> join the groups -> give up every right, Landlock, seccomp -> exec the init

The init is the smallest program that only waits (`init_program.py`), reading from a socket on which nothing ever comes. It
ignores SIGCHLD, so that the kernel reaps orphans; the end of the socket, or SIGKILL from the keeper, ends it and with it
everything in the namespace. Its file is unreadable: a process of the same user can
neither trace it nor look at its /proc entries; and no signal from inside a pid namespace reaches a PID 1 that has no handler.

`LOCKS` is the list of restrictions that the init is put under, in order.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from ondol import syscalls
from ondol.keeper import networks
from ondol.keeper.accounts import Account
from ondol.keeper.shells import Shell, become_function_user, leave_old_root, names_of, quiet_signals
from ondol.keeper.view import RESOLV_FILE, View
from ondol.walls.built import Walls, confine

#: At once; more accounts take turns.
MAKERS_MAX = 64
SHM_MIB_MAX = 64
#: Descriptors that an init is handed: its /tmp, and a file of each hierarchy of control groups.
FURNISHED_MAX = 16
#: The stacked place of the new root: exists everywhere, and is hidden in the new namespace only.
_STAGE = "/tmp"  # noqa: S108
_HIDDEN = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
_CLONED = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS

LOCKS: tuple[Callable[[Walls], None], ...] = (
    lambda _: syscalls.give_up_everything(),
    lambda walls: confine(walls.init),
    lambda walls: syscalls.install_filter(walls.filters.init),
)


class Makers:
    """Started at first use; the next shell after one's death starts another."""

    def __init__(self, view: View, walls: Walls) -> None:
        self._view = view
        self._walls = walls
        #: By account, who was asked last at the end.
        self._lines: dict[str, socket.socket] = {}

    def begin(self, shell_id: str, account: Account, directory: str, network: str) -> Shell:
        """Have a shell's PID 1 made; what it reports comes on `control`, where it waits for `furnish`. Raises OSError."""
        control, control_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        init, init_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with control_inside, init_inside:
            fds = [control_inside.fileno(), init_inside.fileno()]
            try:
                socket.send_fds(self._line(account), [network.encode()], fds, socket.MSG_NOSIGNAL)
            except (BrokenPipeError, ConnectionResetError):  # it died; another one is asked, once
                self._lines.pop(account.name).close()
                socket.send_fds(self._line(account), [network.encode()], fds, socket.MSG_NOSIGNAL)
        control.setblocking(False)
        init.setblocking(False)
        return Shell(shell_id, account, directory, control, init, network)

    def _line(self, account: Account) -> socket.socket:
        line = self._lines.pop(account.name, None) or self._start(account)
        self._lines[account.name] = line
        if len(self._lines) > MAKERS_MAX:
            self._lines.pop(next(iter(self._lines))).close()
        return line

    def _start(self, account: Account) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = proc = -1
        try:
            root, proc = self._view.copy(), syscalls.open_tree("/proc")
            if os.fork() == 0:
                _become_maker(theirs, account.userns, (root, proc), self._view.init_program, self._walls)
        finally:
            theirs.close()
            for fd in (root, proc):
                if fd >= 0:
                    os.close(fd)
        ours.setblocking(False)
        return ours


def furnish(shell: Shell, tmp: int, cgroups: list[int]) -> None:
    """Hand in what the init waits for: /tmp as a detached mount, and the files by which it joins its control groups."""
    with suppress(BrokenPipeError, ConnectionResetError):  # it failed: what it reported says why
        socket.send_fds(shell.control, [b"+"], [tmp, *cgroups], socket.MSG_NOSIGNAL)


# The maker -------------------------------------------------------------------------------------------------------------
def _become_maker(line: socket.socket, userns: int, mounts: tuple[int, int], program: str, walls: Walls) -> None:
    """Never returns."""
    try:
        quiet_signals()
        syscalls.close_all_but([line.fileno(), userns, *mounts])
        syscalls.set_name("ondol-maker")
        root, proc = mounts
        syscalls.setns(userns, syscalls.CLONE_NEWUSER)
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS)
        socket.sethostname("localhost")  # its children's
        syscalls.move_mount(root, _STAGE)
        os.chdir(_STAGE)
        # A new /proc is allowed only where another can be seen.
        syscalls.move_mount(proc, "tmp")
        leave_old_root()
        for fd in (root, proc, userns):
            os.close(fd)
        os.umask(0o022)
        syscalls.have_no_more()  # its children neither, and that takes one call for each capability
        while True:
            network, fds, _ = syscalls.recv_fds(line, 16, 2)
            if not network:
                break
            control, init = fds
            _make(network.decode(), control, init, program, walls)
    except BaseException as error:
        os.write(2, f"keeper: a maker of shells ended: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def _make(network: str, control: int, init: int, program: str, walls: Walls) -> None:
    """Python is not told of the clone: in the child it makes system calls, and then is no more."""
    try:
        pid = syscalls.clone_sibling(_CLONED)
        if pid == 0:
            _become_init(socket.socket(fileno=control), init, network, program, walls)
        said = b'{"pid":%d}' % pid
    except OSError as error:
        said = _failure(error)
    with socket.socket(fileno=control) as line, suppress(OSError):  # a shell that nobody waits for any more
        line.send(said, socket.MSG_NOSIGNAL)
    os.close(init)


def _failure(error: BaseException) -> bytes:
    text = f"{type(error).__name__}: {error}".encode("ascii", "backslashreplace").decode()
    return b'{"error":"%s"}' % text.replace("\\", "\\\\").replace('"', "'").encode()


# The shell's first process -----------------------------------------------------------------------------------------------
def _become_init(control: socket.socket, init: int, network: str, program: str, walls: Walls) -> None:
    """Never returns."""
    try:
        if network != networks.HOST:
            syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.mount("proc", "/proc", "proc", _HIDDEN)
        syscalls.umount("/tmp")  # noqa: S108  # the keeper's /proc, which was needed for that
        sockets = [each.detach() for each in networks.open_inside(network)]
        tmp, *cgroups = _furnished(control)
        _finish_root(tmp, machine_names=network == networks.HOST)
        become_function_user()
        namespaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in names_of(network)]
        socket.send_fds(control, [b'{"ready":true}'], [*namespaces, *sockets])
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for source, target in ((init, 0), (null, 1), (null, 2)):
            os.dup2(source, target)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for group in cgroups:  # by itself: whoever moves another process waits for a grace period of the kernel's
            os.write(group, b"0")
        for lock in LOCKS:
            lock(walls)
        os.execve(program, ["init"], {})  # noqa: S606
    except BaseException as error:
        control.send(_failure(error), socket.MSG_NOSIGNAL)
    finally:
        os._exit(1)


def _furnished(control: socket.socket) -> list[int]:
    """What `furnish` hands in. Raises OSError."""
    data, fds, _ = syscalls.recv_fds(control, 1, FURNISHED_MAX)
    if not data or not fds:
        raise OSError("the keeper gave up")
    return fds


def _finish_root(tmp: int, *, machine_names: bool) -> None:
    """What is each shell's own, in the copy of the maker's mounts that it was born in."""
    syscalls.mount("shm", "/dev/shm", "tmpfs", _HIDDEN, f"mode=1777,size={SHM_MIB_MAX}m,nr_inodes=8192")  # noqa: S108
    syscalls.move_mount(tmp, "/tmp")  # noqa: S108
    if machine_names:
        syscalls.mount(f"/{RESOLV_FILE}", "/etc/resolv.conf", "", syscalls.MS_BIND)
