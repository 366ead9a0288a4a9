"""Tries what a shell is made of: namespaces, mounts, a /proc; and says why something is refused, and what would help."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from ondol import syscalls
from ondol.keeper.surroundings import Surroundings
from ondol.keeper.trying import ALL, Finding, enter, exit_with, read, tried

Try = Callable[[Callable[[], None]], str]
_NO_NODE = "no node can run here"
_UNKNOWN = (
    "if this is a chroot: use systemd-nspawn, or run the node outside; else a security module or a limit refuses them, and the "
    "machine's administrator knows which"
)
#: Switches below /proc/sys.
_CLONE, _MAX = "kernel/unprivileged_userns_clone", "user/max_user_namespaces"
_RESTRICT = "kernel/apparmor_restrict_unprivileged_userns"


def namespaces(around: Surroundings | None = None, try_: Try = tried) -> list[Finding]:
    """All of them are needed."""
    around = around or Surroundings()
    return [_user_namespaces(around, try_), _others(around, try_), _mounts(around, try_), _proc(around, try_), _programs()]


def _finding(what: str, error: str, there: str, mend: str, detail: str = "") -> Finding:
    if not error:
        return Finding(what, ok=True, needed=True, detail=there)
    return Finding(what, ok=False, needed=True, detail=detail or error, mend=mend, means=_NO_NODE)


def _user_namespaces(around: Surroundings, try_: Try) -> Finding:
    def with_rights() -> None:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        syscalls.unshare(syscalls.CLONE_NEWUTS)

    what = "user namespaces"
    error = try_(lambda: syscalls.unshare(syscalls.CLONE_NEWUSER))
    if error:
        return _finding(what, error, "", *_why_none(around, error))
    powerless = try_(with_rights)
    if powerless:
        return _finding(what, powerless, "", *_why_powerless(around, powerless))
    return _finding(what, "", "can be made", "")


def _sysctl(around: Surroundings, name: str) -> str:
    return read(f"{around.root}proc/sys/{name}")


def _why_none(around: Surroundings, error: str) -> tuple[str, str]:
    """(how to mend it, what is to be seen)."""
    options = around.options("namespaces")
    reasons = (
        (_sysctl(around, _CLONE) == "0", f"as root: sysctl -w {_name(_CLONE)}=1", f"{_name(_CLONE)} is 0"),
        (_sysctl(around, _MAX) == "0", f"as root: sysctl -w {_name(_MAX)}=15000", f"{_name(_MAX)} is 0"),
        (os.strerror(errno.EINVAL) in error, "a kernel with CONFIG_USER_NS is needed", error),
        (around.chroot, "this is a chroot, in which the kernel makes none: use systemd-nspawn, or run the node outside", error),
        (bool(options), f"{options}; or run the node outside", error),
        (
            around.filtered,
            "start the node without it (in a systemd unit: no SystemCallFilter, no RestrictNamespaces)",
            f"{error}; a filter of system calls was put upon this process",
        ),
        (
            True,
            _UNKNOWN,
            error,
        ),
    )
    return next((mend, detail) for holds, mend, detail in reasons if holds)


def _name(path: str) -> str:
    return path.replace("/", ".")


def _why_powerless(around: Surroundings, error: str) -> tuple[str, str]:
    """They can be made, but nothing may be done in them: Ubuntu's way since 23.10."""
    if _sysctl(around, _RESTRICT) != "1":
        return around.options(
            "namespaces"
        ) or "a security module takes the rights in them away: allow them to this program", error
    mend = (
        "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give the node's Python a profile with `userns,` "
        "(docs/howto/isolation-and-doctor.md), or run the node as root"
    )
    return mend, "AppArmor lets ordinary users have none (kernel.apparmor_restrict_unprivileged_userns is 1)"


def _others(around: Surroundings, try_: Try) -> Finding:
    mend = around.options("namespaces") or "make user namespaces possible (see there), or run as root with CAP_SYS_ADMIN"
    return _finding("mount, pid, ipc and uts namespaces", try_(lambda: enter(ALL)), "can be made", mend)


def _mounts(around: Surroundings, try_: Try) -> Finding:
    def mount() -> None:
        enter(ALL)
        syscalls.mount_setattr(syscalls.open_tree("/usr", recursive=True), syscalls.ATTR_RDONLY, recursive=True)

    error = try_(mount)
    if os.strerror(errno.ENOSYS) in error:
        mend = "Linux 5.12 or newer is needed (open_tree, mount_setattr)"
    elif around.profile:
        mend = f"the AppArmor profile {around.profile} refuses it: {around.options('mounts') or 'start the node without it'}"
    else:
        mend = around.options("mounts") or "mend the namespaces first (see there)"
    return _finding("the kernel's mount calls", error, "Linux has them", mend)


def _proc(around: Surroundings, try_: Try) -> Finding:
    def mount() -> None:
        enter(ALL)
        pid = os.fork()
        if pid == 0:
            exit_with(lambda: syscalls.mount("proc", "/proc", "proc"))
        if os.waitpid(pid, 0)[1] != 0:
            raise OSError("a new /proc is refused")

    error = try_(mount)
    hidden = around.hidden_in_proc() if error else []
    why = f"; hidden in the present one, so that the kernel gives no new one: {', '.join(hidden)}" if hidden else ""
    mend = around.options("proc")
    if not mend:
        mend = f"umount {' '.join(hidden)}" if hidden else "mend the namespaces first (see there)"
    return _finding("a /proc for each shell", error, "can be mounted", mend, detail=error + why)


def _programs() -> Finding:
    ok = os.access("/bin/rm", os.X_OK)
    return _finding("/bin/rm", "" if ok else "missing", "there", "install coreutils")
