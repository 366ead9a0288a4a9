"""The kernel's doors: each system call that an escape has begun with is tried, in a process that is nothing but a function's."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_the_kernel_refuses_what_would_lead_out(inside):
    found = inside(
        """
attributes = ctypes.create_string_buffer(struct.pack("QQQQ", 0, 1, 0, 0))
buffer = ctypes.create_string_buffer(4096)
handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
new_user = ctypes.create_string_buffer(struct.pack("11Q", 0x10000000, *[0] * 10))
def namespace(kind):
    fd = os.open("/proc/self/ns/" + kind, os.O_RDONLY)
    try:
        syscall("setns", fd, 0)
    finally:
        os.close(fd)
def through_chroot():
    os.mkdir("/tmp/jail")
    try:
        os.chroot("/tmp/jail")
    finally:
        os.rmdir("/tmp/jail")
out = {
    "user namespace": tried(call, "unshare", 0x10000000),
    "user namespace by clone3": tried(syscall, "clone3", new_user, 88),
    "user namespace by clone": tried(syscall, "clone", 0x10000000 | 17, 0, 0, 0, 0),
    "mount namespace": tried(call, "unshare", 0x20000),
    "network namespace": tried(call, "unshare", 0x40000000),
    "pid namespace": tried(call, "unshare", 0x20000000),
    "cgroup namespace": tried(call, "unshare", 0x2000000),
    "time namespace": tried(call, "unshare", 0x80),
    "back into its mount namespace": tried(namespace, "mnt"),
    "back into its pid namespace": tried(namespace, "pid"),
    "mount": tried(call, "mount", b"x", b"/tmp", b"tmpfs", 0, None),
    "mount of proc": tried(call, "mount", b"proc", b"/tmp", b"proc", 0, None),
    "mount of overlay": tried(call, "mount", b"x", b"/tmp", b"overlay", 0, b"lowerdir=/usr,upperdir=/tmp,workdir=/tmp"),
    "remount": tried(call, "mount", b"none", b"/usr", None, 32 | 4096, None),
    "remount of the code": tried(call, "mount", b"none", b"/var/task", None, 32 | 4096, None),
    "bind": tried(call, "mount", b"/tmp", b"/var/task", None, 4096, None),
    "umount": tried(call, "umount2", b"/proc", 2),
    "umount of the code": tried(call, "umount2", b"/var/task", 2),
    "mount_setattr": tried(syscall, "mount_setattr", -100, b"/usr", 0, attributes, 32),
    "open_tree": tried(syscall, "open_tree", -100, b"/", 1),
    "move_mount": tried(syscall, "move_mount", -100, b"/tmp", -100, b"/var/task", 0),
    "fsopen": tried(syscall, "fsopen", b"tmpfs", 0),
    "chroot": tried(through_chroot),
    "pivot_root": tried(syscall, "pivot_root", b"/tmp", b"/tmp"),
    "open_by_handle_at": tried(syscall, "open_by_handle_at", os.open("/tmp", os.O_RDONLY), handle, 0),
    "root": tried(os.setuid, 0),
    "another user": tried(os.setuid, 1000),
    "another group": tried(os.setgid, 0),
    "groups": tried(os.setgroups, [0]),
    "ptrace of init": tried(call, "ptrace", 16, 1, 0, 0),
    "ptrace of init, seized": tried(call, "ptrace", 0x4206, 1, 0, 0),
    "init's memory": tried(open, "/proc/1/mem", "rb"),
    "init's memory, read across": tried(syscall, "process_vm_readv", 1, buffer, 1, buffer, 1, 0),
    "init's memory, written across": tried(syscall, "process_vm_writev", 1, buffer, 1, buffer, 1, 0),
    "init's pages": tried(syscall, "move_pages", 1, 1, buffer, buffer, buffer, 0),
    "what init has open": tried(syscall, "kcmp", os.getpid(), 1, 0, 0, 0),
    "init's descriptors": tried(syscall, "pidfd_getfd", os.pidfd_open(1), 0, 0),
    "device": tried(os.mknod, "/tmp/device", 0o60666, os.makedev(254, 0)),
    "the null device": tried(os.mknod, "/tmp/device", 0o20666, os.makedev(1, 3)),
    "raw socket": tried(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
    "packets": tried(socket.socket, 17, socket.SOCK_RAW, 3),
    "packets, cooked": tried(socket.socket, 17, socket.SOCK_DGRAM, 3),
    "host name": tried(socket.sethostname, "x"),
    "clock": tried(time.clock_settime, 0, 0),
    "real time": tried(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
    "more priority": tried(os.setpriority, os.PRIO_PROCESS, 0, -1),
    "more descriptors": tried(resource.setrlimit, resource.RLIMIT_NOFILE, (4096, 4096)),
    "core files": tried(resource.setrlimit, resource.RLIMIT_CORE, (1, 1)),
    "locked memory": tried(resource.setrlimit, resource.RLIMIT_MEMLOCK, (1 << 30, 1 << 30)),
    "safer than others": tried(write, "/proc/self/oom_score_adj", "-1000"),
    "kernel log": tried(call, "klogctl", 3, buffer, 9),
    "bpf": tried(syscall, "bpf", 0, buffer, 200),
    "bpf program": tried(syscall, "bpf", 5, buffer, 200),
    "perf of the machine": tried(syscall, "perf_event_open", buffer, -1, 0, -1, 0),
    "fanotify of the whole file system": tried(syscall, "fanotify_init", 4, 0),
    "module": tried(syscall, "init_module", buffer, 9, b""),
    "module from a file": tried(syscall, "finit_module", os.open("/etc/hosts", os.O_RDONLY), b"", 0),
    "no module": tried(syscall, "delete_module", b"x", 0),
    "another kernel": tried(syscall, "kexec_load", 0, 0, 0, 0),
    "restart": tried(syscall, "reboot", -18751827, 672274793, 0x1234567, 0),
    "swap": tried(syscall, "swapon", b"/tmp", 0),
    "accounting": tried(syscall, "acct", b"/tmp"),
    "quotas": tried(syscall, "quotactl", 0x80000700 & 0x7fffffff, b"/dev/vda", 0, buffer),
    "a terminal's input": tried(lambda: __import__("fcntl").ioctl(0, 0x5412, b"x")),
}
"""
    )
    open_doors = {name for name, end in found.items() if end == "done"}
    assert not open_doors, found
    assert "?" not in found.values(), found
