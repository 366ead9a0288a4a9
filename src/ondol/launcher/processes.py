"""The processes of a shell: starting its first, finding and ending all of them.

They are what lies below the first one and what is in the shell's control groups. Invariant: nothing a function does to its own
processes (sessions, groups, names, ignored signals) hides one from `living`, unless it has outlived the shell's first process
where there are no control groups.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence

from ondol import syscalls
from ondol.keeper.shells import quiet_signals

_FIND = "/usr/bin/find"
_SYS_FS_CGROUP = "/sys/fs/cgroup"


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    wire: int,
    log: int,
    cgroups: Sequence[int],
    namespace: int,
    become: Callable[[], None],
) -> int:
    """The pid of a new process in a session of its own. `become` gives its rights up, after it has joined its groups.

    `namespace`: of a network, to enter; -1 for the machine's.
    """
    pid = os.fork()
    if pid == 0:
        try:
            quiet_signals()
            os.dup2(wire, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            syscalls.close_all_but([*cgroups, *([namespace] if namespace >= 0 else [])])
            for fd in cgroups:
                os.write(fd, b"0")
                os.close(fd)
            if namespace >= 0:
                syscalls.setns(namespace, syscalls.CLONE_NEWNET)
                os.close(namespace)
            os.setsid()
            os.umask(0o022)
            os.chdir("/")
            # What loses its parent stays below this one, whatever it is after the exec.
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
            become()
            os.execve(command[0], list(command), dict(environment))  # noqa: S606
        except BaseException as error:
            os.write(2, f"{command[0]} cannot be started: {error}\n".encode())
        finally:
            os._exit(127)
    return pid


def hide_cgroups() -> None:
    """In a mount namespace of one's own: crun before 1.9 starts nothing on machines that have both versions mounted."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    if os.path.isdir(_SYS_FS_CGROUP):
        syscalls.mount("ondol-none", _SYS_FS_CGROUP, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=4k")


def become_user(uid: int, *, switch: bool) -> None:
    """An ordinary user without a capability. `switch`: become this one."""
    syscalls.leave_session_keyring()
    if switch:
        syscalls.drop_bounding()
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    syscalls.set_capabilities(0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    # Cleared by the change of ids; its own entries of /proc must be its own.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)


def put_inside(first: int, mounted: int, target: str) -> None:
    """Put a detached mount into the mount namespace of the innermost process below `first`. The caller has one thread."""
    innermost = living([first], [])[-1]
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        theirs = os.open(f"/proc/{innermost}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(theirs, syscalls.CLONE_NEWNS)
        finally:
            os.close(theirs)
        try:
            syscalls.move_mount(mounted, target)
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWNS)
            os.fchdir(here)
    finally:
        os.close(own)
        os.close(here)


def living(firsts: Sequence[int], groups: Sequence[str]) -> list[int]:
    """Every living process of the shell, but `firsts` themselves."""
    parents: dict[int, list[int]] = {}
    alive = set()
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if fields is not None:
            alive.add(int(name))
            parents.setdefault(int(fields[1]), []).append(int(name))
    found = list(firsts)
    for pid in found:
        found += parents.get(pid, [])
    counted = {int(pid) for group in groups for pid in _text(f"{group}/cgroup.procs").split()} & alive
    return [*found[len(firsts) :], *(counted - set(found))]


def send(first: int, depth: int, number: int) -> None:
    """A signal to a guest alone, which has `depth` processes above it, `first` the outermost; to nobody if it has ended.

    A process that only waits has as its eldest child what it waits for: orphans of that came to it later.
    """
    pid = first
    for _ in range(depth):
        children = sorted(
            (int(fields[19]), child)  # when it was started
            for name in os.listdir("/proc")
            if name.isdigit() and (fields := _stat(child := int(name))) is not None and int(fields[1]) == pid
        )
        if not children:
            return
        parent, pid = pid, children[0][1]
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return
    try:
        fields = _stat(pid)
        if fields is not None and int(fields[1]) == parent:  # it is still the one that was found
            signal.pidfd_send_signal(held, number)
    except OSError:
        return
    finally:
        os.close(held)


def _stat(pid: int) -> list[bytes] | None:
    """What /proc/PID/stat has behind the name; None where there is no such process, or a dead one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields


def kill(pids: Sequence[int]) -> None:
    """Stop all of them, so that none forks while the others are killed, then kill them."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):  # gone, or inside a tool's own user namespace: that one ends it
                continue


def loosen(tree: str) -> int:
    """The pid of a process that lets its owner into every directory of `tree`: where functions are the launcher's own user,
    one may have locked it out. Follows no link.
    """
    closed = ["-xdev", "-type", "d", "!", "-perm", "-u=rwx"]
    return os.posix_spawn(_FIND, [_FIND, tree, *closed, "-exec", "chmod", "u+rwx", "{}", ";"], {"PATH": "/usr/bin:/bin"})


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
