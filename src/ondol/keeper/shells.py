"""Shells: the keeper's side of one, and how it is shown its code and scoured. How it is made is `maker.py`.

Knows nothing of lines or requests.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass

from ondol import syscalls
from ondol.keeper import networks
from ondol.keeper.accounts import Account
from ondol.keeper.spares import Disk
from ondol.keeper.view import GID, UID

NAMESPACES = ("mnt", "pid", "ipc", "uts")
SCOUR_S_MAX = 2.0


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
    #: The init; 0 until that was said.
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
    #: The hold on its first disk, for whoever comes next.
    disk: Disk | None = None

    def counted(self, tmp_bytes: int) -> None:
        self.tmp_bytes = tmp_bytes

    @property
    def tmp(self) -> str:
        return f"{self.directory}/tmp"  # noqa: S108

    def let_go_of_disk(self) -> None:
        """It is not handed on."""
        if self.disk is not None:
            os.close(self.disk.mounted)
            self.disk = None

    def let_go_of_namespaces(self) -> None:
        """Before its end: who lets go of a mount namespace last takes it apart, and waits for a grace period of the kernel."""
        for fd in (self.mnt, self.pid_namespace):
            if fd >= 0:
                os.close(fd)
        self.mnt = self.pid_namespace = -1

    def close(self) -> None:
        """Let go of every descriptor."""
        self.let_go_of_disk()
        self.let_go_of_namespaces()
        self.control.close()
        self.init.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.pidfd = -1

    def kill(self) -> None:
        """End the init, and so everything in the shell. One that is being made ends with `control`."""
        if self.pidfd >= 0 and not self.gone:
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                return


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
