"""What functions, zygotes and inits may ask of the kernel: lists of names, and rules for arguments. Denied unless it is here.

The list was made from what runtimes do (CPython from 3.8 on, Node, the JVM, Go, shells, NumPy); `tests/e2e/test_walls.py` has
what it can of them. Of two filters in a row the stricter verdict counts. So a zygote has everything that a function has and
what it needs to let a child into a shell (`_ENTERING`), the child then takes that from itself with a filter of a few lines, and
the long one is in the kernel once for all of a zygote's children.

What a denied call answers is what libraries expect of a kernel that lacks it: `EPERM`, or `ENOSYS` where they probe for a newer
call and have an older one to fall back to. Calls newer than this list answer `ENOSYS`, too.
"""

from __future__ import annotations

import errno as errors
from typing import Final

from ondol.walls.bpf import ALLOW, Verdict, When, errno

_EPERM: Final = errno(errors.EPERM)
_ENOSYS: Final = errno(errors.ENOSYS)
_EINVAL: Final = errno(errors.EINVAL)

_ALLOWED: Final = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 open openat openat2 creat close close_range
    stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 lseek truncate ftruncate fallocate
    fsync fdatasync syncfs sync_file_range fadvise64 readahead flock fcntl dup dup2 dup3 pipe pipe2 getdents getdents64 getcwd
    chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat readlink readlinkat
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask utime utimes futimesat utimensat
    setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat
    removexattr lremovexattr fremovexattr removexattrat sendfile splice tee copy_file_range memfd_create
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch

    select pselect6 poll ppoll epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime

    mmap mprotect munmap mremap msync mincore madvise brk mlock mlock2 munlock mlockall munlockall
    pkey_mprotect pkey_alloc pkey_free membarrier mseal map_shadow_stack cachestat

    fork vfork execve execveat exit exit_group wait4 waitid gettid getpid getppid getpgid getpgrp setpgid getsid setsid
    kill tkill tgkill pidfd_open pidfd_send_signal set_tid_address set_robust_list get_robust_list rseq
    futex futex_waitv futex_wake futex_wait futex_requeue restart_syscall uretprobe uprobe arch_prctl
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend
    sigaltstack pause alarm getitimer setitimer nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete

    sched_yield sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_getaffinity sched_setaffinity getcpu
    getpriority setpriority ioprio_get ioprio_set getrlimit setrlimit prlimit64 getrusage sysinfo uname getrandom

    getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid setgroups
    setfsuid setfsgid capget capset

    connect accept accept4 bind listen shutdown getsockname getpeername getsockopt sendto sendmsg sendmmsg
    recvfrom recvmsg recvmmsg

    shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
"""

#: Denied as on a kernel that was built without it, or is older than it: who probes has another way. `clone3` is among them
#: because its flags lie in memory, where a filter cannot look; threads are then made with clone.
_AS_IF_NOT_THERE: Final = """
    clone3 seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret statmount listmount listns
    io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents lsm_get_self_attr lsm_set_self_attr lsm_list_modules
    file_getattr file_setattr process_madvise process_mrelease set_mempolicy_home_node quotactl_fd open_tree_attr
"""

#: What a zygote needs to place a child. The child denies it to itself before it has read a byte of the function's.
_ENTERING: Final = ("setns", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")

#: CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWNS.
_NAMESPACES: Final = 0x7E020000
#: CLONE_NEWTIME: for unshare only; in clone these bits are the signal's.
_NEWTIME: Final = 0x80
#: CLONE_NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET: what a shell has of its own.
_OF_A_SHELL: Final = (0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000)
_MODE_FILTER: Final = 1

_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _DGRAM, _RAW, _TYPE_BITS = 1, 2, 3, 0xF
#: Any, ICMP echo, TCP, UDP, ICMPv6 echo. Others load modules of the kernel's, or are old in it.
_PROTOCOLS: Final = (0, 1, 6, 17, 58)
_NETLINK_ROUTE: Final = 0
_SOL_SOCKET, _IPPROTO_TCP = 1, 6
#: SO_ATTACH_FILTER, SO_ATTACH_BPF and their two kin for groups of sockets: programs in the kernel. TCP_ULP: TLS in it.
_PROGRAMS: Final = (26, 50, 51, 52)
_TCP_ULP: Final = 31
#: TIOCSTI, TIOCCONS, TIOCLINUX, TIOCSETD: typing into, taking over and re-programming terminals.
_TERMINALS: Final = (0x5412, 0x541D, 0x541C, 0x5423)
#: PER_LINUX and PER_LINUX32, with and without UNAME26, and "which one is it". Not: switching address randomisation off.
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_FILE_TYPE, _CHARACTER_DEVICE, _BLOCK_DEVICE = 0xF000, 0x2000, 0x6000
#: Of prctl: parent-death signal, dumpable, capabilities across set-uid, timing, name, seccomp (which mode), bounding set, time
#: stamp counter, secure bits (which), timer slack, subreaper, no_new_privs, thread id, huge pages, ambient capabilities, vector
#: lengths, speculation, pointer authentication, tagged addresses, memory-deny-write-execute, names of mappings, who may trace.
_PRCTL: Final = (
    *(1, 2, 3, 4, 7, 8, 13, 14, 15, 16, 21, 23, 24, 25, 26, 27, 29, 30, 36, 37, 38, 39, 40, 41, 42, 47, 50, 51, 52, 53),
    *(54, 55, 56, 60, 61, 63, 64, 65, 66, 0x53564D41, 0x59616D61),
)

_TCP_AND_UDP: Final = When(2, _PROTOCOLS, ALLOW, errno(errors.EPROTONOSUPPORT))
_NO_DEVICES: Final = (_CHARACTER_DEVICE, _BLOCK_DEVICE)


def _socket() -> When:
    internet = When(1, (_RAW,), _EPERM, errno(errors.ESOCKTNOSUPPORT), mask=_TYPE_BITS)
    internet = When(1, (_STREAM, _DGRAM), _TCP_AND_UDP, internet, mask=_TYPE_BITS)
    routing = When(2, (_NETLINK_ROUTE,), ALLOW, errno(errors.EPROTONOSUPPORT))
    others = When(0, (_NETLINK,), routing, errno(errors.EAFNOSUPPORT))
    return When(0, (_UNIX,), ALLOW, When(0, (_INET, _INET6), internet, others))


def _setsockopt() -> When:
    transport = When(1, (_IPPROTO_TCP,), When(2, (_TCP_ULP,), errno(errors.ENOPROTOOPT), ALLOW), ALLOW)
    return When(1, (_SOL_SOCKET,), When(2, _PROGRAMS, _EPERM, ALLOW), transport)


#: By name, for what is allowed with some arguments only.
_RULES: Final[dict[str, Verdict]] = {
    "clone": When(0, (0,), ALLOW, _EPERM, mask=_NAMESPACES),
    "unshare": When(0, (0,), ALLOW, _EPERM, mask=_NAMESPACES | _NEWTIME),
    "socket": _socket(),
    "socketpair": When(0, (_UNIX,), ALLOW, errno(errors.EAFNOSUPPORT)),
    "setsockopt": _setsockopt(),
    "ioctl": When(1, _TERMINALS, _EPERM, ALLOW),
    "personality": When(0, _PERSONALITIES, ALLOW, _EPERM),
    "prctl": When(0, _PRCTL, ALLOW, _EINVAL),
    "mknod": When(1, _NO_DEVICES, _EPERM, ALLOW, mask=_FILE_TYPE),
    "mknodat": When(2, _NO_DEVICES, _EPERM, ALLOW, mask=_FILE_TYPE),
}

#: An init starts one program (`keeper/init_program.py`), which reads until nothing more can come. The rest is for the
#: interpreter that starts it: memory, and saying why it could not.
_OF_INIT: Final = "execve read exit exit_group brk mmap munmap sendto"


def function() -> dict[str, Verdict]:
    """Everything a function may do, by name. A call that is not here gets `default`."""
    return {**dict.fromkeys(_AS_IF_NOT_THERE.split(), _ENOSYS), **dict.fromkeys(_ALLOWED.split(), ALLOW), **_RULES}


def zygote() -> dict[str, Verdict]:
    """What a function may, and to let a child into a shell."""
    entering: dict[str, Verdict] = dict.fromkeys(_ENTERING, ALLOW)
    entering["setns"] = When(1, _OF_A_SHELL, ALLOW, _EPERM)
    entering["seccomp"] = When(0, (_MODE_FILTER,), ALLOW, _EINVAL)
    return {**function(), **entering}


def child() -> dict[str, Verdict]:
    """What a zygote's child denies itself; all other calls are the zygote's filter's business."""
    allowed = function()
    return {name: allowed.get(name, default()) for name in _ENTERING}


def init() -> dict[str, Verdict]:
    """What a shell's PID 1 may do."""
    return dict.fromkeys(_OF_INIT.split(), ALLOW)


def default() -> Verdict:
    """For calls that are named nowhere."""
    return _EPERM


def beyond() -> Verdict:
    """For calls that are newer than the list, and for those of the x32 convention."""
    return _ENOSYS
