"""Getting out, up or at what is not shown: files, rights, users, mounts, devices."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal

import pytest

from ondol.testing.hostile import SOURCE, Failed
from ondol.testing.node import running_node, zipped
from ondol.testing.zips import Lie, zip_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


#: Of keyctl(2).
JOIN_SESSION_KEYRING, SEARCH, INVALIDATE = 1, 10, 21
SESSION_KEYRING = -3
#: The node runs as an ordinary user.
ROOTLESS = os.geteuid() != 0 or bool(os.environ.get("ONDOL_ATTACK_USER"))


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
    own = (
        {"65534", "990"} if ROOTLESS else set()
    )  # an ordinary user's groups cannot be left; its first one has the function's name
    assert set(status["Groups"].split()) <= own


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


def test_no_device_and_no_sys_is_there(inside):
    devices, tops = inside('out = [sorted(os.listdir("/dev")), sorted(os.listdir("/"))]')
    assert set(devices) == {"fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"}
    assert "sys" not in tops
    assert "boot" not in tops


def test_links_to_code_and_to_the_host_lead_nowhere(node, inside):
    found = inside(
        """
targets = ["/var/task/app.py", "/usr/bin/env", "/etc/passwd"]
out = {t: tried(os.link, t, "/tmp/link") for t in targets}
os.symlink(data, "/tmp/data"); os.symlink("/proc/1/root/etc/shadow", "/tmp/shadow"); os.symlink("../../../../../../etc/shadow", "/tmp/up")
out.update({p: tried(open, p) for p in ("/tmp/data", "/tmp/shadow", "/tmp/up", "/proc/self/root/etc/shadow", "/proc/self/cwd/../../etc/shadow")})
""",
        data=str(node.data),
    )
    assert set(found.values()) <= {"EXDEV", "EPERM", "ENOENT", "EACCES"}, found


def test_what_is_written_over_shared_pages_stays_its_writers(inside):
    """A debugger's door, /proc/self/mem, writes through read-only mappings: into private copies, never into the file."""
    before, poked, after = inside(
        """
lines = [line.split() for line in open("/proc/self/maps") if "/libc" in line and " r--p 00000000 " in line]
at, path = int(lines[0][0].partition("-")[0], 16), lines[0][5]
before = open(path, "rb").read(16).hex()
try:
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(at); memory.write(b"\\x7fEVIL")
    poked = ctypes.string_at(at, 5).hex()
except OSError as error:
    poked = errno.errorcode[error.errno]
out = [before, poked, open(path, "rb").read(16).hex()]
"""
    )
    assert before == after
    assert before.startswith("7f454c46")
    assert poked in ("7f4556494c", "EPERM", "EACCES", "EIO")
    assert inside("out = open('/proc/self/exe', 'rb').read(4).hex()") == "7f454c46"


def test_a_crash_leaves_no_core(node, inside):
    with pytest.raises(Failed):
        inside("os.chdir('/tmp'); os.kill(os.getpid(), signal.SIGSEGV)")
    assert inside("import glob; out = glob.glob('/tmp/core*') + glob.glob('/var/task/core*')") == []
    assert not list(node.data.rglob("core"))


@pytest.mark.parametrize(
    "entry",
    [
        ("../evil", b"x", 0o100644),
        ("/evil", b"x", 0o100644),
        ("a/../../evil", b"x", 0o100644),
        ("link", b"/etc/shadow", 0o120777),
        ("link", b"../../../credentials.json", 0o120777),
        ("pipe", b"", 0o010644),
        ("device", b"", 0o060666),
    ],
    ids=lambda entry: f"{entry[0]} {entry[2]:o}",
)
def test_code_that_names_another_place_is_refused(node, aws, name, entry):
    before = sorted(path.name for path in node.data.iterdir())
    with pytest.raises(aws.exceptions.InvalidParameterValueException):
        aws.create_function(
            FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": zip_of(Lie(name=b"app.py", content=b"x = 1"), Lie(name=entry[0].encode(), content=entry[1], mode=entry[2]))},
        )  # fmt: skip
    assert sorted(path.name for path in node.data.iterdir()) == before


def test_what_code_brings_gets_no_rights_of_its_own(aws, name):
    """Set-user-id bits, a stranger's interpreter line, names of any length and script: files like others."""
    long, strange = "n" * 200 + ".txt", "온돌 \N{RIGHT-TO-LEFT OVERRIDE}.py"
    source = SOURCE + f"\nlong, strange = {long!r}, {strange!r}\n"
    archive = zip_of(
        Lie(name=b"app.py", content=source.encode()),
        Lie(name=b"suid", content=b"#!/bin/sh\nid -u\n", mode=0o106755),
        Lie(name=long.encode(), content=b"long"),
        Lie(name=strange.encode(), content=b"strange"),
    )
    aws.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": archive},
    )  # fmt: skip
    try:
        aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        code = """
out = [os.stat("/var/task/suid").st_mode & 0o7000, os.stat("/var/task/suid").st_uid,
       subprocess.run(["/var/task/suid"], capture_output=True, text=True).stdout, open("/var/task/" + long).read(),
       open("/var/task/" + strange).read(), tried(os.chmod, "/var/task/suid", 0o4777), tried(write, "/var/task/app.py")]
"""
        answer = json.loads(aws.invoke(FunctionName=name, Payload=json.dumps({"code": code}))["Payload"].read())
    finally:
        aws.delete_function(FunctionName=name)
    assert answer[0] == 0
    if os.geteuid() == 0 and not os.environ.get("ONDOL_ATTACK_USER"):  # an ordinary user's node and functions are one user
        assert answer[1] != 993
    assert answer[2:5] == ["993\n", "long", "strange"]
    assert set(answer[5:]) <= {"EROFS", "EACCES", "EPERM"}
