"""The system calls that Python does not wrap, one function each, raising OSError.

Knows nothing of shells. Invariant: everything the keeper's children call is bound when this module is imported, because
a process that entered another user namespace may no longer be able to read the interpreter's files.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct

CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2

ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8

CAP_SETPCAP, CAP_NET_ADMIN, CAP_SYS_CHROOT, CAP_SYS_ADMIN = 8, 12, 18, 21
CAP_LAST_MAX = 63

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 4, 8, 15
PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 36, 38, 47
_AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 2, 4

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, 0x80000
_MOVE_MOUNT_F_EMPTY_PATH = 4
_CAPABILITY_VERSION_3 = 0x20080522

_CLONE_PARENT, _CLONE_CHILD_SETTID, _SIGCHLD = 0x8000, 0x1000000, 17
_PR_GET_TID_ADDRESS = 40

#: Where the numbers differ between the machines that Ondol runs on; those from 424 on are the same everywhere.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}.get(platform.machine(), 155)
_CLONE = {"x86_64": 56, "ppc64le": 120, "s390x": 120}.get(platform.machine(), 220)
_KEYCTL = {"x86_64": 250, "ppc64le": 271, "s390x": 280}.get(platform.machine(), 219)
_KEYCTL_JOIN_SESSION_KEYRING = 1
SECCOMP = {"x86_64": 317, "ppc64le": 358, "s390x": 348}.get(platform.machine(), 277)
_SECCOMP_MODE_FILTER = 1
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION, _LANDLOCK_BELOW = 1, 1
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_long = ctypes.c_long
_INT = struct.Struct("=i")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def current_cpu() -> int:
    """The number of the CPU that the caller runs on; by now it may be another. -1 where that cannot be told."""
    return int(_libc.sched_getcpu())


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def clone_sibling(namespaces: int = 0) -> int:
    """As fork(2), but the child's parent is this process's own. For a process with one thread; Python is not told.

    `namespaces`: flags of those that the child is born in, new ones.
    """
    # Where the C library keeps the number of this thread, which fork(2) would renew in the child.
    place = ctypes.c_ulong()
    known = _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(place), _long(0), _long(0), _long(0)) == 0 and place.value
    flags, stack = namespaces | _CLONE_PARENT | _SIGCHLD | (_CLONE_CHILD_SETTID if known else 0), 0
    first = (stack, flags) if platform.machine() == "s390x" else (flags, stack)
    # The fourth and the fifth argument are this place and the thread's storage, in an order that differs between machines; the
    # second of these is not looked at.
    return _check(_syscall(_long(_CLONE), *map(_long, first), _long(0), _long(place.value), _long(place.value)), "clone")


def setns(fd: int, kind: int) -> None:
    _check(_libc.setns(fd, kind), "setns")


def prctl(option: int, *arguments: int) -> int:
    padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(option, *padded), f"prctl {option}")


def set_name(name: str) -> None:
    """What `ps` shows."""
    _check(_libc.prctl(PR_SET_NAME, name.encode(), _long(0), _long(0), _long(0)), "prctl name")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(result, f"mount {kind or source} at {target}")


def umount(target: str) -> None:
    """Lazily: what is still in use goes when it no longer is."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    _check(_syscall(_long(_PIVOT_ROOT), new.encode(), old.encode()), "pivot_root")


def open_tree(path: str, *, recursive: bool = False) -> int:
    """A detached copy of the mount at `path`, as a descriptor."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return _check(_syscall(_long(_OPEN_TREE), _long(_AT_FDCWD), path.encode(), _long(flags)), f"open_tree {path}")


def open_tree_at(directory: int) -> int:
    """The same for what the descriptor `directory` (O_PATH will do) is open on."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH
    return _check(_syscall(_long(_OPEN_TREE), _long(directory), b"", _long(flags)), "open_tree")


def mount_setattr(fd: int, attributes: int, *, recursive: bool = False) -> None:
    argument = struct.pack("=QQQQ", attributes, 0, 0, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    result = _syscall(_long(_MOUNT_SETATTR), _long(fd), b"", _long(flags), argument, _long(len(argument)))
    _check(result, "mount_setattr")


def move_mount(fd: int, target: str) -> None:
    """Put the detached mount `fd` at `target`."""
    flags = _long(_MOVE_MOUNT_F_EMPTY_PATH)
    result = _syscall(_long(_MOVE_MOUNT), _long(fd), b"", _long(_AT_FDCWD), target.encode(), flags)
    _check(result, f"move_mount to {target}")


def filesystem(kind: str, options: dict[str, str], attributes: int) -> int:
    """A new detached mount of a file system of this kind. An option without a value is a flag."""
    context = _check(_syscall(_long(_FSOPEN), kind.encode(), _long(1)), f"fsopen {kind}")
    try:
        for key, value in options.items():
            how, text = (_FSCONFIG_SET_STRING, value.encode()) if value else (_FSCONFIG_SET_FLAG, None)
            arguments = (_long(context), _long(how), key.encode(), text, _long(0))
            _check(_syscall(_long(_FSCONFIG), *arguments), f"fsconfig {key}")
        result = _syscall(_long(_FSCONFIG), _long(context), _long(_FSCONFIG_CMD_CREATE), None, None, _long(0))
        _check(result, f"fsconfig {kind}")
        return _check(_syscall(_long(_FSMOUNT), _long(context), _long(1), _long(attributes)), f"fsmount {kind}")
    finally:
        os.close(context)


def set_capabilities(effective: int, *, inheritable: int = 0) -> None:
    """Permitted and effective become `effective`."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "=IIIIII",
        effective & low,
        effective & low,
        inheritable & low,
        effective >> high,
        effective >> high,
        inheritable >> high,
    )
    _check(_libc.capset(header, data), "capset")


def drop_bounding(keep: tuple[int, ...] = ()) -> None:
    """Remove every capability but `keep` from the bounding set."""
    for capability in range(CAP_LAST_MAX + 1):
        if capability in keep:
            continue
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the kernel knows no more
                return
            raise


def raise_ambient(capabilities: tuple[int, ...]) -> None:
    for capability in capabilities:
        prctl(PR_CAP_AMBIENT, _AMBIENT_RAISE, capability)


def have_no_more() -> None:
    """No exec, of this process or of those that it forks, gives a capability; what it has stays. Needs CAP_SETPCAP."""
    drop_bounding()
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def give_up_everything() -> None:
    """No capability now or after any exec, where `have_no_more` was called, by this process or by who forked it."""
    prctl(PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    set_capabilities(0)


def leave_session_keyring() -> None:
    """Have a new, empty one: the keys of whoever started us are theirs, and a keyring is inherited like a descriptor."""
    try:
        _check(_syscall(_long(_KEYCTL), _long(_KEYCTL_JOIN_SESSION_KEYRING), None), "keyctl")
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # a kernel, or a filter, under which nobody has keys
            raise


def install_filter(program: bytes) -> None:
    """Have seccomp run `program` (an array of struct sock_filter) at each system call, for good. Needs no_new_privs."""
    code = ctypes.create_string_buffer(program, len(program))
    argument = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code))
    _check(_syscall(_long(SECCOMP), _long(_SECCOMP_MODE_FILTER), _long(0), argument), "seccomp")


def landlock_abi() -> int:
    """The version of Landlock that the kernel has; 0 when it has none, or it is switched off."""
    return max(0, int(_syscall(_long(_LANDLOCK_CREATE), None, _long(0), _long(_LANDLOCK_VERSION))))


def landlock(handled: int, scoped: int, flags: int, paths: tuple[tuple[str, int], ...]) -> None:
    """Have Landlock deny the `handled` rights wherever no path's rights give them. Needs no_new_privs."""
    attributes = struct.pack("=QQQ", handled, 0, scoped)
    size = len(attributes) if scoped else 8  # older kernels take what they know
    ruleset = _check(_syscall(_long(_LANDLOCK_CREATE), attributes, _long(size), _long(0)), "landlock_create_ruleset")
    try:
        for path, rights in paths:
            at = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", rights, at)
                result = _syscall(_long(_LANDLOCK_ADD), _long(ruleset), _long(_LANDLOCK_BELOW), rule, _long(0))
                _check(result, f"landlock_add_rule {path}")
            finally:
                os.close(at)
        _check(_syscall(_long(_LANDLOCK_RESTRICT), _long(ruleset), _long(flags)), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def recv_fds(sock: socket.socket, size: int, fds_max: int) -> tuple[bytes, list[int], int]:
    """(data, descriptors, flags) of one message; the descriptors close at exec: `socket.recv_fds` drops the flag for that."""
    data, ancillary, flags, _ = sock.recvmsg(size, socket.CMSG_LEN(fds_max * _INT.size), socket.MSG_CMSG_CLOEXEC)
    fds = [
        fd
        for level, kind, content in ancillary
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
        for (fd,) in _INT.iter_unpack(content[: len(content) - len(content) % _INT.size])
    ]
    return data, fds, flags


def usual_personality() -> None:
    """Undo what was chosen for whoever started the node, such as addresses that are the same each time. It is inherited."""
    _check(_libc.personality(ctypes.c_ulong(0)), "personality")


def close_all_but(keep: list[int]) -> None:
    """Close every descriptor above 2 that is not in `keep`: fork does not honour close-on-exec."""
    start = 3
    for fd in sorted({fd for fd in keep if fd > 2}):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, _descriptors_max())


def _descriptors_max() -> int:
    return os.sysconf("SC_OPEN_MAX")


#: Loaded now: later the files may be out of reach.
os.closerange(_descriptors_max() - 1, _descriptors_max() - 1)


#: Ids that a node which is root gives to its processes and accounts.
_IDS_WANTED = (1_999_999, 2_060_000)


def may_mount() -> bool:
    """Whether this process is root with CAP_SYS_ADMIN, and other users' ids are there to be given out.

    A root without one of both (in many containers, in those of ordinary users above all) is an ordinary user here.
    """
    if os.geteuid() != 0:
        return False
    with open("/proc/self/status", encoding="ascii") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
    return bool(effective >> CAP_SYS_ADMIN & 1) and all(_mapped(f"/proc/self/{kind}_map") for kind in ("uid", "gid"))


def _mapped(path: str) -> bool:
    """Whether the wanted ids exist in this user namespace."""
    try:
        with open(path, encoding="ascii") as file:
            ranges = [(int(first), int(first) + int(count)) for first, _, count in map(str.split, file)]
    except OSError:
        return True  # a kernel without user namespaces
    return any(first <= _IDS_WANTED[0] and _IDS_WANTED[1] <= end for first, end in ranges)
