"""What this machine lets the keeper do: tried, not guessed. For `ondol doctor` and for the node's start.

Each finding says what it is good for and how to get it. Knows nothing of lines. Every try happens in a child of its own, so
that nothing of it stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ondol import syscalls
from ondol.keeper.cgroups import Cgroups
from ondol.walls import findings as walls

_ALL = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
_SYSCTLS = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "1", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was tried."""

    what: str
    ok: bool
    #: Without it there are no shells.
    needed: bool
    detail: str
    #: How to get it; empty when it is there.
    mend: str = ""


def probe() -> list[Finding]:
    """All findings, the needed ones first."""
    findings = [_user_namespaces(), _namespaces(), _view(), _proc(), _programs(), _memory_and_pids(), _freezing()]
    findings += [Finding(*wall) for wall in walls.found()]
    return sorted(findings, key=lambda finding: not finding.needed)


def able(findings: list[Finding]) -> bool:
    """Whether shells can be made at all."""
    return all(finding.ok for finding in findings if finding.needed)


def _user_namespaces() -> Finding:
    error = _tried(lambda: syscalls.unshare(syscalls.CLONE_NEWUSER))
    what = "user namespaces"
    if not error:
        return Finding(what, ok=True, needed=True, detail="can be made")
    for path, wanted, command in _SYSCTLS:
        value = _read(path)
        if value not in ("", wanted):
            return Finding(what, ok=False, needed=True, detail=f"{path} is {value}", mend=f"as root: {command}")
    if _read("/proc/sys/user/max_user_namespaces") == "0":
        return Finding(
            what,
            ok=False,
            needed=True,
            detail="user.max_user_namespaces is 0",
            mend="as root: sysctl -w user.max_user_namespaces=15000",
        )
    if _is_chroot():
        mend = "this is a chroot, in which the kernel makes none: enter it with systemd-nspawn, or run the node outside"
    else:
        mend = "inside a container: start it with --security-opt seccomp=unconfined, or --privileged; or run the node outside"
    return Finding(what, ok=False, needed=True, detail=error, mend=mend)


def _is_chroot() -> bool:
    """Whether the first process has another root than this one, as far as this user may see."""
    try:
        return not os.path.samefile("/proc/1/root", "/")
    except OSError:
        return False


def _namespaces() -> Finding:
    error = _tried(lambda: _enter(_ALL))
    mend = "" if not error else "run as root with CAP_SYS_ADMIN, or make user namespaces possible (see above)"
    return Finding("mount, pid, ipc and uts namespaces", ok=not error, needed=True, detail=error or "can be made", mend=mend)


def _view() -> Finding:
    def try_() -> None:
        _enter(_ALL)
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount_setattr(syscalls.open_tree("/usr", recursive=True), syscalls.ATTR_RDONLY, recursive=True)

    error = _tried(try_)
    mend = "" if not error else "Linux 5.12 or newer is needed (open_tree, mount_setattr)"
    return Finding("the kernel's mount calls", ok=not error, needed=True, detail=error or "Linux has them", mend=mend)


def _proc() -> Finding:
    def try_() -> None:
        _enter(_ALL)
        pid = os.fork()
        if pid == 0:
            _exit_with(lambda: syscalls.mount("proc", "/proc", "proc"))
        if os.waitpid(pid, 0)[1] != 0:
            raise OSError("a new /proc is refused, because parts of the present one are hidden")

    error = _tried(try_)
    mend = "" if not error else "containers hide parts of /proc: start them with --security-opt systempaths=unconfined"
    return Finding("a /proc for each shell", ok=not error, needed=True, detail=error or "can be mounted", mend=mend)


def _programs() -> Finding:
    ok = os.access("/bin/cat", os.X_OK) and os.access("/bin/rm", os.X_OK)
    mend = "" if ok else "install coreutils"
    return Finding("/bin/cat and /bin/rm", ok=ok, needed=True, detail="there" if ok else "missing", mend=mend)


def _memory_and_pids() -> Finding:
    cgroups = Cgroups.find(f"probe{os.getpid()}")
    cgroups.remove_all()
    versions = ", ".join(f"version {h.version} ({'+'.join(h.controllers)})" for h in cgroups.hierarchies)
    what = "control groups (memory limits, number of processes)"
    if not cgroups.missing:
        return Finding(what, ok=True, needed=False, detail=versions)
    mend = (
        "run as root, or have systemd delegate them: systemd-run --user --scope -p Delegate=yes ondol up. "
        "Without them memory is not limited, and processes only by RLIMIT_NPROC"
    )
    return Finding(what, ok=False, needed=False, detail="; ".join(filter(None, (versions, cgroups.missing))), mend=mend)


def _freezing() -> Finding:
    cgroups = Cgroups.find(f"probe{os.getpid()}")
    cgroups.remove_all()
    what = "freezing of idle environments"
    if cgroups.freezes:
        return Finding(what, ok=True, needed=False, detail="control groups of version 2 can be made")
    mend = (
        "run as root with cgroup2 mounted, or have systemd delegate: systemd-run --user --scope -p Delegate=yes ondol up. "
        "Without it what a function leaves running goes on using the processor while nothing is called"
    )
    return Finding(what, ok=False, needed=False, detail="no writable control group of version 2", mend=mend)


def _enter(flags: int) -> None:
    """New namespaces, below a user namespace where this user needs one."""
    try:
        syscalls.unshare(flags)
    except PermissionError:
        syscalls.unshare(flags | syscalls.CLONE_NEWUSER)


def _tried(action: Callable[[], None]) -> str:
    """What went wrong in a child that tried; empty when nothing did."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 2)
        _exit_with(action)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as said:
        text = said.read(4096)
    _, status = os.waitpid(pid, 0)
    return text.strip() or ("" if status == 0 else f"the try ended with status {status}")


def _exit_with(action: Callable[[], None]) -> None:
    """Never returns."""
    try:
        action()
    except BaseException as error:
        os.write(2, str(error).encode())
        os._exit(1)
    os._exit(0)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
