"""Getting out, up or at what is not shown: files, rights, users, mounts, devices."""

from __future__ import annotations

import ctypes
import json
import platform
import signal

import pytest

from ondol.testing.hostile import SOURCE
from ondol.testing.node import running_node, zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


#: Of keyctl(2).
JOIN_SESSION_KEYRING, SEARCH, INVALIDATE = 1, 10, 21
SESSION_KEYRING = -3


def test_nothing_of_the_host_is_to_be_seen(node, inside):
    seen = inside(
        """
paths = [data, data + "/credentials.json", data + "/secret", data + "/run/desk.sock", "/etc/shadow", "/sys", "/proc/1/environ",
    "/proc/1/root", "/proc/1/cwd", "/proc/1/fd", "/proc/1/maps", "/proc/1/mem", "/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem",
    "/dev/vda", "/dev/fuse", "/dev/tty", "/.ondol/init"]
out = {p: tried(os.listdir if os.path.isdir(p) else open, p) for p in paths}
""",
        data=str(node.data),
    )
    assert set(seen.values()) <= {"ENOENT", "EACCES", "EPERM"}, seen


def test_no_descriptor_was_left_over(inside):
    kinds = inside(
        """
out = []
for fd in os.listdir("/proc/self/fd"):
    try:
        out.append(os.readlink("/proc/self/fd/" + fd).partition(":")[0])
    except OSError:
        continue
"""
    )
    assert sorted(kinds) == ["/dev/null", "pipe", "pipe", "pipe", "socket"]


def test_every_right_is_given_up(inside):
    status = dict(
        line.split(":\t", 1) for line in inside("out = open('/proc/self/status').read()").splitlines() if ":\t" in line
    )
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    inherited = 1 << signal.SIGHUP - 1 | 1 << signal.SIGQUIT - 1 | 1 << signal.SIGTERM - 1
    assert int(status["SigIgn"], 16) & inherited == 0
    assert status["Uid"].split() == ["993"] * 4
    assert status["Groups"].split() in ([], ["65534"])  # an ordinary user's own groups cannot be left


def test_the_keys_of_whoever_started_the_node_are_not_to_be_had(possible):
    """A session keyring is inherited by every child, whatever user and namespace it goes to."""
    kernel = ctypes.CDLL(None, use_errno=True)
    numbers = {"x86_64": (248, 250), "aarch64": (217, 219)}.get(platform.machine())
    if numbers is None or kernel.syscall(numbers[1], JOIN_SESSION_KEYRING, None) < 0:
        pytest.skip("no keyrings here")
    key = kernel.syscall(numbers[0], b"user", b"ondol-test", b"secret", 6, SESSION_KEYRING)
    assert key > 0
    try:
        with running_node() as node:
            client = node.client()
            client.create_function(
                FunctionName="keys", Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
                Code={"ZipFile": zipped({"app.py": SOURCE})},
            )  # fmt: skip
            client.get_waiter("function_active_v2").wait(FunctionName="keys", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
            code = f"out = libc.syscall({numbers[1]}, {SEARCH}, {SESSION_KEYRING}, b'user', b'ondol-test', 0)"
            found = client.invoke(FunctionName="keys", Payload=json.dumps({"code": code}))["Payload"].read()
        assert found == b"-1"
    finally:
        kernel.syscall(numbers[1], INVALIDATE, key)


def test_only_tmp_and_shared_memory_can_be_written(inside):
    tree = [
        "/",
        "/var/task/",
        "/usr/",
        "/usr/bin/",
        "/var/runtime/",
        "/var/runtime/ondol_guest/",
        "/opt/",
        "/etc/",
        "/dev/",
        "/run/",
    ]
    found = inside("out = {p: tried(write, p + 'x') for p in tree}", tree=tree)
    assert set(found.values()) == {"EROFS"}, found
    found = inside("out = {p: tried(write, p) for p in tree}", tree=[
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/shmmax", "/proc/sys/vm/overcommit_memory",
        "/proc/sys/user/max_user_namespaces", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/pid_max", "/proc/sysrq-trigger",
    ])  # fmt: skip
    assert set(found.values()) <= {"EACCES", "EPERM", "ENOENT", "EROFS"}, found
    assert inside("out = [tried(write, '/tmp/x'), tried(write, '/dev/shm/x')]") == ["done", "done"]


def test_a_set_user_id_program_gives_nothing(inside):
    found = inside(
        """
import glob, stat
programs = [p for p in glob.glob("/usr/bin/*") + glob.glob("/usr/sbin/*") if os.lstat(p).st_mode & stat.S_ISUID]
options = {l.split()[4]: l.split()[5].split(",") for l in open("/proc/self/mountinfo")}
out = [len(programs), [at for at, o in options.items() if "nosuid" not in o],
    [at for at, o in options.items() if "ro" not in o and "nodev" not in o]]
"""
    )
    assert found[1:] == [[], []]
