"""Shells: how one is made, shown its code, scoured. The child's half of making one stands here, in the order that works.

    fork -> the account's user namespace -> new mount, pid, ipc, uts and network namespaces -> fork = PID 1
      -> /tmp and control groups are handed in, which the keeper made meanwhile -> golden view, /proc, /dev/shm, /tmp
      -> pivot_root -> join the groups -> give up every right, Landlock, seccomp -> exec the init

The init is the smallest program that only waits (`init_program.py`), reading from a socket on which nothing ever comes. It
ignores SIGCHLD, so that the kernel reaps orphans; the end of the socket, or SIGKILL from the keeper, ends it and with it
everything in the namespace. Its file is unreadable: a process of the same user can
neither trace it nor look at its /proc entries; and no signal from inside a pid namespace reaches a PID 1 that has no handler.

Knows nothing of lines or requests. `LOCKS` is the list of restrictions that the init is put under, in order.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ondol import syscalls
from ondol.keeper import networks
from ondol.keeper.accounts import Account
from ondol.keeper.view import GID, RESOLV_FILE, UID, View
from ondol.walls.built import Walls, confine

NAMESPACES = ("mnt", "pid", "ipc", "uts")
_UNSHARED = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
SHM_MIB_MAX = 64
SCOUR_S_MAX = 2.0
#: Descriptors that an init is handed: its /tmp, and a file of each hierarchy of control groups.
FURNISHED_MAX = 16
#: The stacked place of the new root: exists everywhere, and is hidden in the new namespace only.
_STAGE = "/tmp"  # noqa: S108

LOCKS: tuple[Callable[[Walls], None], ...] = (
    lambda _: syscalls.give_up_everything(),
    lambda walls: confine(walls.init),
    lambda walls: syscalls.install_filter(walls.filters.init),
)


@dataclass
class Shell:
    """The keeper's side of one shell."""

    id: str
    account: Account
    directory: str
    control: socket.socket
    init: socket.socket
    #: One of `networks.KINDS`.
    network: str
    #: The process that makes the shell, and leaves.
    first_pid: int = 0
    #: The init.
    pid: int = 0
    pidfd: int = -1
    mnt: int = -1
    pid_namespace: int = -1
    gone: bool = False
    attached: bool = False
    ending: bool = False
    #: What it may use; 0 before that was set.
    memory_bytes: int = 0
    #: None of its processes runs.
    frozen: bool = False
    #: What `quota.py` watches; 0 when /tmp is a disk of its own.
    tmp_bytes_max: int = 0
    #: What it held when that was last looked at.
    tmp_bytes: int = 0

    def counted(self, tmp_bytes: int) -> None:
        self.tmp_bytes = tmp_bytes

    @property
    def tmp(self) -> str:
        return f"{self.directory}/tmp"  # noqa: S108

    def close(self) -> None:
        """Let go of every descriptor."""
        self.control.close()
        self.init.close()
        for fd in (self.pidfd, self.mnt, self.pid_namespace):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.mnt = self.pid_namespace = -1

    def kill(self) -> None:
        """End the init, and so everything in the shell."""
        if not self.pid:
            try:
                os.kill(self.first_pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        if self.pidfd >= 0 and not self.gone:
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                return


@dataclass(frozen=True)
class Making:
    """What a shell is made of."""

    userns: int
    view: View
    network: str
    walls: Walls


def begin(shell_id: str, account: Account, directory: str, making: Making) -> Shell:
    """Fork the shell's first process; what it reports comes on `control`, where it waits for `furnish`."""
    root = -1
    try:
        root = making.view.copy()
        control, control_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        init, init_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        first_pid = os.fork()
        if first_pid == 0:
            _first_process(control_inside, init_inside, making, root)
        control_inside.close()
        init_inside.close()
    finally:
        if root >= 0:
            os.close(root)
    control.setblocking(False)
    init.setblocking(False)
    return Shell(shell_id, account, directory, control, init, making.network, first_pid)


def furnish(shell: Shell, tmp: int, cgroups: list[int]) -> None:
    """Hand in what the init waits for: /tmp as a detached mount, and the files by which it joins its control groups."""
    with suppress(BrokenPipeError, ConnectionResetError):  # it failed: what it reported says why
        socket.send_fds(shell.control, [b"+"], [tmp, *cgroups], socket.MSG_NOSIGNAL)


def names_of(network: str) -> tuple[str, ...]:
    """The namespaces that a shell with this network has of its own."""
    return NAMESPACES if network == networks.HOST else (*NAMESPACES, networks.NAMESPACE)


def tmp_directory(directory: str, account: Account) -> int:
    """A plain directory as /tmp, where there are no disks: a detached mount."""
    path = f"{directory}/tmp"  # noqa: S108
    os.mkdir(path)
    os.chmod(path, 0o1777)  # noqa: S103
    os.chown(path, account.uid, account.gid)
    mounted = syscalls.open_tree(path)
    syscalls.mount_setattr(mounted, syscalls.ATTR_NOSUID | syscalls.ATTR_NODEV)
    return mounted


def show_code(shell: Shell, tree: int, target: str, own_mnt: int) -> None:
    """Mount the directory `tree` is open on at `target`, read-only, from outside."""
    mounted = syscalls.open_tree_at(tree)
    try:
        syscalls.mount_setattr(mounted, syscalls.ATTR_RDONLY | syscalls.ATTR_NOSUID | syscalls.ATTR_NODEV)
        put(shell, mounted, target, own_mnt)
    finally:
        os.close(mounted)


def put(shell: Shell, mounted: int, target: str, own_mnt: int) -> None:
    """Put a detached mount into the shell, from outside: needs the keeper to be of one thread."""
    syscalls.setns(shell.mnt, syscalls.CLONE_NEWNS)
    try:
        syscalls.move_mount(mounted, target)
    finally:
        syscalls.setns(own_mnt, syscalls.CLONE_NEWNS)


def begin_scour(shell: Shell) -> int:
    """The pid of a process that kills everything in the shell but its init; its status is 0 when nobody is left."""
    pid = os.fork()
    if pid == 0:
        try:
            quiet_signals()
            syscalls.close_all_but([shell.pid_namespace])
            syscalls.setns(shell.pid_namespace, syscalls.CLONE_NEWPID)
            inside = os.fork()
            if inside == 0:
                os._exit(_kill_all())
            _, status = os.waitpid(inside, 0)
            os._exit(0 if status == 0 else 1)
        except BaseException as error:
            os.write(2, f"keeper: scouring: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(1)
    return pid


def _kill_all() -> int:
    """Again and again: who forks while being killed is met the next time, and the dead count until they are reaped."""
    deadline = time.monotonic() + SCOUR_S_MAX
    while time.monotonic() < deadline:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return 0
        time.sleep(0.0005)
    return 1


def _first_process(control: socket.socket, init: socket.socket, making: Making, root: int) -> None:
    """Never returns. Its child is the shell's PID 1, and the keeper's child once this one has left."""
    try:
        quiet_signals()
        syscalls.close_all_but([control.fileno(), init.fileno(), making.userns, root])
        syscalls.setns(making.userns, syscalls.CLONE_NEWUSER)
        syscalls.unshare(_UNSHARED | (0 if making.network == networks.HOST else syscalls.CLONE_NEWNET))
        pid = os.fork()
        if pid:
            control.send(json.dumps({"pid": pid}).encode())
        else:
            _become_init(control, init, making, root)
    except BaseException as error:
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    finally:
        os._exit(0)


def _become_init(control: socket.socket, init: socket.socket, making: Making, root: int) -> None:
    sockets = [each.detach() for each in networks.open_inside(making.network)]
    tmp, *cgroups = _furnished(control)
    _enter_root(root, tmp, machine_names=making.network == networks.HOST)
    become_function_user()
    namespaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in names_of(making.network)]
    socket.send_fds(control, [b'{"ready":true}'], [*namespaces, *sockets])
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for source, target in ((init.fileno(), 0), (null, 1), (null, 2)):
        os.dup2(source, target)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for group in cgroups:  # by itself: whoever moves another process waits for a grace period of the kernel's
        os.write(group, b"0")
    for lock in LOCKS:
        lock(making.walls)
    os.execve(making.view.init_program, ["init"], {})  # noqa: S606


def _furnished(control: socket.socket) -> list[int]:
    """What `furnish` hands in. Raises OSError."""
    data, fds, _, _ = socket.recv_fds(control, 1, FURNISHED_MAX, socket.MSG_CMSG_CLOEXEC)
    if not data or not fds:
        raise OSError("the keeper gave up")
    return fds


def _enter_root(root: int, tmp: int, *, machine_names: bool) -> None:
    syscalls.move_mount(root, _STAGE)
    os.chdir(_STAGE)
    hidden = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    # /proc must come while the old one is still to be seen: the kernel allows no new one otherwise.
    syscalls.mount("proc", "proc", "proc", hidden)
    syscalls.mount("shm", "dev/shm", "tmpfs", hidden, f"mode=1777,size={SHM_MIB_MAX}m,nr_inodes=8192")
    syscalls.move_mount(tmp, "tmp")
    if machine_names:
        syscalls.mount(RESOLV_FILE, "etc/resolv.conf", "", syscalls.MS_BIND)
    leave_old_root()
    socket.sethostname("localhost")


def leave_old_root() -> None:
    """The working directory becomes the root, and the old one is no more."""
    syscalls.pivot_root(".", ".")
    syscalls.umount(".")
    os.chdir("/")


def become_function_user() -> None:
    """Capabilities in the user namespace stay: dropping them is the next step's business."""
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    try:  # noqa: SIM105
        os.setgroups([])
    except PermissionError:
        pass  # below an ordinary user's namespace nobody may; the groups are that user's own
    os.setresgid(GID, GID, GID)
    os.setresuid(UID, UID, UID)
    os.umask(0o022)


def quiet_signals() -> None:
    """What the interpreter, nohup or a shell chose to ignore is not for what we exec."""
    signal.set_wakeup_fd(-1)
    hidden = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    for number in hidden:
        signal.signal(number, signal.SIG_DFL)
