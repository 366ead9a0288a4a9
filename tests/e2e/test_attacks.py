"""What a function may not do, tried from inside one, through a whole node; and what clients may not.

One function runs whatever Python text its event holds: each test says what the code must find shut, and then that the node
still serves.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import socket
import time
from pathlib import Path

import pytest

from ondol.testing.node import running_node, zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SOURCE = '''
import ctypes, errno, json, os, resource, signal, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
WIRE = max(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)
           and os.readlink("/proc/self/fd/" + fd).startswith("socket:"))

def tried(action, *arguments):
    """ "done", or the name of what stopped it."""
    try:
        action(*arguments)
        return "done"
    except OSError as error:
        return errno.errorcode.get(error.errno, "?")
    except ValueError:
        return "ValueError"

def call(name, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def syscall(number, *arguments):
    call("syscall", number, *arguments)

def write(path, text="1"):
    fd = os.open(path, os.O_WRONLY | (0 if path.startswith("/proc") else os.O_CREAT))
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)

def handler(event, context):
    names = {**globals(), "out": None, **event.get("with", {})}
    exec(event["code"], names)
    return names["out"]
'''


#: Of keyctl(2).
JOIN_SESSION_KEYRING, SEARCH, INVALIDATE = 1, 10, 21
SESSION_KEYRING = -3


class Failed(Exception):
    """The function failed; the payload says how."""


@pytest.fixture(scope="module")
def function(node, aws):
    """The name of a function that runs what it is told."""
    name = f"attacks-{os.getpid()}"
    aws.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": zipped({"app.py": SOURCE})}, Timeout=20, MemorySize=128,
        Environment={"Variables": {"OWN": "value-of-a-variable"}},
    )  # fmt: skip
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    yield name
    aws.delete_function(FunctionName=name)


@pytest.fixture
def inside(aws, function):
    """Run Python text in the function; `out` is what comes back. Raises Failed."""

    def inside(code, **given):
        response = aws.invoke(FunctionName=function, Payload=json.dumps({"code": code, "with": given}))
        answer = json.loads(response["Payload"].read())
        if "FunctionError" in response:
            raise Failed(answer)
        return answer

    yield inside
    assert inside("out = 'serves on'") == "serves on"


# Looking ------------------------------------------------------------------------------------------------------------------
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


def test_an_environment_is_alone_with_its_init(inside):
    pids, commands = inside(
        """
pids = sorted(int(d) for d in os.listdir("/proc") if d.isdigit())
out = [pids, [open(f"/proc/{pid}/cmdline").read().split(chr(0))[0] for pid in pids]]
"""
    )
    assert pids[0] == 1
    assert len(pids) == 2
    assert commands[0] == "cat"


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


def test_only_its_own_variables_are_there(node, inside):
    found = inside("out = dict(os.environ)")
    assert found["OWN"] == "value-of-a-variable"
    assert node.credentials["AWS_ACCESS_KEY_ID"] not in json.dumps(found)
    assert node.credentials["AWS_SECRET_ACCESS_KEY"] not in json.dumps(found)


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


# Writing and climbing -------------------------------------------------------------------------------------------------------
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


def test_the_kernel_refuses_what_would_lead_out(inside):
    found = inside(
        """
attributes = ctypes.create_string_buffer(__import__("struct").pack("QQQQ", 0, 1, 0, 0))
out = {
    "user namespace": tried(call, "unshare", 0x10000000),
    "mount namespace": tried(call, "unshare", 0x20000),
    "network namespace": tried(call, "unshare", 0x40000000),
    "cgroup namespace": tried(call, "unshare", 0x2000000),
    "mount": tried(call, "mount", b"x", b"/tmp", b"tmpfs", 0, None),
    "remount": tried(call, "mount", b"none", b"/usr", None, 32 | 4096, None),
    "bind": tried(call, "mount", b"/tmp", b"/var/task", None, 4096, None),
    "umount": tried(call, "umount2", b"/proc", 2),
    "umount of the code": tried(call, "umount2", b"/var/task", 2),
    "mount_setattr": tried(syscall, 442, -100, b"/usr", 0, attributes, 32),
    "open_tree": tried(syscall, 428, -100, b"/", 1),
    "fsopen": tried(syscall, 430, b"tmpfs", 0),
    "chroot": tried(os.chroot, "/tmp"),
    "root": tried(os.setuid, 0),
    "another user": tried(os.setuid, 1000),
    "groups": tried(os.setgroups, [0]),
    "ptrace of init": tried(call, "ptrace", 16, 1, 0, 0),
    "init's memory": tried(open, "/proc/1/mem", "rb"),
    "init's descriptors": tried(syscall, 438, os.pidfd_open(1), 0, 0),
    "device": tried(os.mknod, "/tmp/device", 0o60666, os.makedev(254, 0)),
    "raw socket": tried(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
    "packets": tried(socket.socket, 17, socket.SOCK_RAW, 3),
    "host name": tried(socket.sethostname, "x"),
    "clock": tried(time.clock_settime, 0, 0),
    "real time": tried(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
    "more descriptors": tried(resource.setrlimit, resource.RLIMIT_NOFILE, (4096, 4096)),
    "core files": tried(resource.setrlimit, resource.RLIMIT_CORE, (1, 1)),
    "safer than others": tried(write, "/proc/self/oom_score_adj", "-1000"),
    "kernel log": tried(call, "klogctl", 3, ctypes.create_string_buffer(9), 9),
    "bpf": tried(syscall, 321, 0, ctypes.create_string_buffer(200), 200),
}
"""
    )
    open_doors = {name for name, end in found.items() if end == "done"}
    assert not open_doors, found


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


def test_init_and_everybody_else_outlive_a_kill_of_all(inside):
    assert inside(
        """
for number in (1, 2, 9, 11, 15, 19):
    os.kill(1, number)
child = subprocess.Popen(["/bin/sleep", "60"])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.kill(-1, signal.SIGTERM)
out = [child.wait(), os.path.exists("/proc/1")]
"""
    ) == [-signal.SIGTERM, True]


# Using up -------------------------------------------------------------------------------------------------------------------
def test_a_bomb_of_threads_ends_at_the_limit(inside):
    started = inside(
        """
import threading
threading.stack_size(32768)
end, out = threading.Event(), 0
try:
    while out < 20000:
        threading.Thread(target=end.wait).start()
        out += 1
except RuntimeError:
    pass
end.set()
"""
    )
    assert 0 < started < 20000


def test_a_bomb_of_forks_ends_with_its_environment(inside):
    with pytest.raises(Failed):
        inside("""
while True:
    try:
        os.fork()
    except OSError:
        continue
""")
    assert len(inside("out = [d for d in os.listdir('/proc') if d.isdigit()]")) == 2


@pytest.mark.parametrize(
    "bomb",
    [
        "keep = []\nwhile True: keep.append(bytearray(b'x') * (8 << 20))",
        "import mmap\nkeep = []\nwhile True: m = mmap.mmap(-1, 8 << 20); m.write(b'x' * (8 << 20)); keep.append(m)",
        "keep = []\nwhile True:\n    fd = os.memfd_create('x'); os.write(fd, b'x' * (8 << 20)); keep.append(fd)",
    ],
    ids=["heap", "anonymous map", "memfd"],
)
def test_a_memory_bomb_ends_its_environment_only(inside, bomb):
    with pytest.raises(Failed, match="OutOfMemory|signal: killed|MemoryError|Runtime.ExitError"):
        inside(bomb)


def test_shared_memory_and_tmp_are_bounded_in_bytes_and_files(inside):
    found = inside(
        """
def fill(path, most):
    with open(path, "wb", buffering=0) as file:
        written = 0
        try:
            while written < most:
                written += file.write(bytes(1 << 20))
        except OSError as error:
            os.unlink(path)
            return [written >> 20, errno.errorcode[error.errno]]
    return [written >> 20, "no end"]

def litter(directory, most):
    os.mkdir(directory)
    try:
        for n in range(most):
            os.close(os.open(f"{directory}/{n}", os.O_CREAT | os.O_WRONLY))
    except OSError as error:
        made, why = n, errno.errorcode[error.errno]
    else:
        made, why = most, "no end"
    __import__("shutil").rmtree(directory)
    return [made, why]

out = {"shm files": litter("/dev/shm/d", 20000), "shm": fill("/dev/shm/big", 100 << 20), "tmp": fill("/tmp/big", 700 << 20)}
"""
    )
    assert found["shm files"][1] == "ENOSPC"
    assert found["shm"][1] == "ENOSPC"
    assert found["shm"][0] <= 64
    assert found["tmp"][1] in ("ENOSPC", "EDQUOT"), found
    assert found["tmp"][0] <= 512


# Staying --------------------------------------------------------------------------------------------------------------------
def test_daemons_do_not_outlive_a_call_that_ends_the_worker(node, inside):
    """They ignore every signal that can be ignored, left the session, and closed the lines to the node."""
    mark = f"survivor-{os.getpid()}"
    with pytest.raises(Failed):
        inside(
            """
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                continue
        os.closerange(0, 1024)
        if os.fork():
            os._exit(0)
        os.execv(sys.executable, ["python3", "-I", "-S", "-c", "import time; time.sleep(600)", mark])
time.sleep(0.5)
os._exit(3)
""",
            mark=mark,
        )
    assert inside("out = [open('/proc/' + d + '/cmdline').read() for d in os.listdir('/proc') if d.isdigit()]").count(mark) == 0
    assert _named(mark) == []


def test_a_stopped_deaf_function_is_ended_by_its_time(aws, deploy):
    source = """
import os, signal, threading
for number in (1, 2, 3, 15):
    signal.signal(number, signal.SIG_IGN)
def handler(event, context):
    if event:
        os.closerange(0, 1024)
        os.kill(os.getpid(), signal.SIGSTOP)
    return "fresh"
"""
    name = deploy(source, Timeout=1)
    response = aws.invoke(FunctionName=name, Payload=b"1")
    assert "FunctionError" in response
    assert aws.invoke(FunctionName=name, Payload=b"0")["Payload"].read() == b'"fresh"'


def test_what_is_written_to_the_wire_harms_only_its_writer(aws, inside):
    """A function has the wire in its hands; it can end itself with it."""
    for forged in ("os.urandom(4096)", "b'\\\\x01\\\\x12' + bytes(14)", "bytes(16) * 100000"):
        with pytest.raises(Failed):
            inside(f"os.write(WIRE, {forged})\ntime.sleep(10)")
        assert inside("out = 1") == 1
    with pytest.raises(Failed):
        inside("os.close(WIRE)\ntime.sleep(10)")


def test_an_environment_shares_neither_files_nor_ipc_with_another(aws, deploy, inside):
    """The same account, two functions: one leaves things about, the other looks for them."""
    inside(
        """
write("/tmp/left"); write("/dev/shm/left")
call("shmget", 4711, 4096, 0o1666)
call("msgget", 4711, 0o1666)
"""
    )
    source = SOURCE + "\nhandler_of_another = handler\n"
    other = deploy(source, handler="app.handler_of_another")
    code = """
out = [tried(open, "/tmp/left"), tried(open, "/dev/shm/left"), tried(call, "shmget", 4711, 4096, 0), tried(call, "msgget", 4711, 0)]
"""
    answer = json.loads(aws.invoke(FunctionName=other, Payload=json.dumps({"code": code}))["Payload"].read())
    assert answer == ["ENOENT"] * 4


# The node from inside -------------------------------------------------------------------------------------------------------
def test_a_functions_own_token_may_ask_who_it_is_and_nothing_else(function, inside):
    found = inside(
        """
import boto3, botocore.exceptions
from botocore.config import Config
config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10)
def made(service, operation, **arguments):
    try:
        return str(getattr(boto3.client(service, config=config), operation)(**arguments).get("Arn", "done"))
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
arn = "arn:aws:lambda:us-east-1:000000000000:function:" + name
out = [made("sts", "get_caller_identity"),
    made("lambda", "list_functions"), made("lambda", "get_function", FunctionName=name),
    made("lambda", "invoke", FunctionName=name), made("lambda", "invoke", FunctionName=name, InvocationType="Event"),
    made("lambda", "invoke", FunctionName=name, InvocationType="DryRun"), made("lambda", "delete_function", FunctionName=name),
    made("lambda", "update_function_configuration", FunctionName=name, Timeout=9), made("lambda", "get_account_settings"),
    made("lambda", "list_tags", Resource=arn), made("logs", "describe_log_groups"),
    made("logs", "filter_log_events", logGroupName="/aws/lambda/" + name)]
""",
        name=function,
    )
    assert found[0].startswith("arn:aws:sts::000000000000:assumed-role/")
    assert set(found[1:]) == {"AccessDeniedException"}, found


def test_the_node_answers_no_stranger_inside(inside):
    found = inside(
        """
import http.client
host = os.environ["AWS_ENDPOINT_URL"].partition("//")[2]
id, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
def status(method, path, **headers):
    connection = http.client.HTTPConnection(host, timeout=5)
    connection.request(method, path, body=b"{}" if method != "GET" else None, headers=headers)
    return connection.getresponse().status
paths = [("GET", "/2015-03-31/functions"), ("POST", "/2015-03-31/functions/x/invocations"), ("GET", "/ondol/v1/functions"),
    ("PUT", "/ondol/v1/functions/x"), ("DELETE", "/ondol/v1/functions/x"), ("GET", "/fn/x"),
    ("GET", "/ondol/v1/code/" + "a" * 64 + ".zip?expires=99999999999&signature=" + "0" * 64)]
keys = [{}, {"authorization": f"Bearer {id}:{secret}"}, {"x-ondol-key": f"{id}:{secret}"}, {"x-ondol-key": ":"},
    {"authorization": "Bearer :"}, {"x-ondol-peer": "127.0.0.1:1"}, {"authorization": "AWS4-HMAC-SHA256 Credential=a"}]
out = [[method, path, list(key), status(method, path, **key)] for method, path in paths for key in keys]
"""
    )
    api = [each for each in found if each[1].startswith("/2015-03-31/")]
    assert {each[3] for each in api} <= {400, 401, 403}, api
    others = [each for each in found if each not in api]
    assert {each[3] for each in others} == {404}, [
        each for each in others if each[3] != 404
    ]  # none of it is there for functions


def test_the_node_uses_no_abstract_socket(node):
    """A function that is given the host's network is given the names of its abstract sockets, too."""
    pids = set(node.processes())
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(fd)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    named = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert inodes
    assert not [words for words in named if words[6] in inodes and len(words) > 7 and words[7].startswith("@")]


# What lies about ------------------------------------------------------------------------------------------------------------
def test_secrets_are_in_no_message_no_command_line_and_no_readable_file(node, inside, aws, function):
    inside("print(os.environ['AWS_SESSION_TOKEN'][:0])")
    token, secret = inside("out = [os.environ['AWS_SESSION_TOKEN'], os.environ['AWS_SECRET_ACCESS_KEY']]")
    for key in (node.key, node.key + "x", "nobody:nothing-of-value"):
        node.http("GET", "/ondol/v1/functions", headers={"x-ondol-key": key})
    secrets = [token, secret, node.credentials["AWS_SECRET_ACCESS_KEY"], "value-of-a-variable", "nothing-of-value"]
    assert not [each for each in secrets if each in node.said()]
    for pid in node.processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        assert not [each for each in secrets if each in words]
    assert node.data.stat().st_mode & 0o077 == 0
    for name in ("credentials.json", "secret", "catalog.db", "queue.db", "run/desk.sock", "run/link.sock"):
        assert (node.data / name).stat().st_mode & 0o077 == 0, name
    assert not [each for each in secrets if each in (node.data / "run" / "node.json").read_text()]


# From outside ---------------------------------------------------------------------------------------------------------------
def _raw(node, data, seconds=5.0):
    """Everything that comes back for these bytes."""
    host, _, port = node.endpoint.partition("//")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        came = b""
        while piece := line.recv(65536):
            came += piece
    return came


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 4\r\ncontent-length: 5\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding : chunked\r\n",
        b"content-length: +4\r\n",
        b"content-length: 4, 4\r\n",
        b"x: y\r\n content-length: 4\r\n",
    ],
)
def test_nothing_is_smuggled_past_the_front(node, framing):
    """Whatever the front makes of it, the desk must not see a second request in the body."""
    inner = b"GET /ondol/v1/smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
    head = b"POST /ondol/v1/functions HTTP/1.1\r\nhost: localhost\r\n" + framing + b"\r\n"
    came = _raw(node, head + b"0\r\n\r\n" + inner)
    assert came.startswith(b"HTTP/1.1 4") or came.startswith(b"HTTP/1.1 501"), came
    assert b"smuggled" not in came
    assert node.http("GET", "/ondol/v1/functions").status == 200


def test_an_upload_that_breaks_off_leaves_no_poisoned_line_to_the_desk(node):
    for _ in range(8):
        host, _, port = node.endpoint.partition("//")[2].partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as line:
            line.sendall(
                b"PUT /ondol/v1/functions/x HTTP/1.1\r\nhost: localhost\r\nx-ondol-key: " + node.key.encode()
                + b"\r\ncontent-length: 9000000\r\n\r\n" + b"GET /ondol/v1/functions HTTP/1.1\r\nhost: x\r\n\r\n" * 100
            )  # fmt: skip
        assert node.http("GET", "/ondol/v1/functions").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/2015-03-31/functions/{other}/../{name}/invocations",
        "/2015-03-31/functions//{name}/invocations",
        "/2015-03-31/functions/./{name}/invocations",
        "/2015-03-31/functions/{other}/%2e%2e/{name}/invocations",
        "/2015-03-31/functions/{other}%2F..%2F{name}/invocations",
    ],
)
def test_a_path_means_what_was_signed(node, function, path):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    wanted = path.format(other="another", name=function)
    keys = Credentials(node.credentials["AWS_ACCESS_KEY_ID"], node.credentials["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest("POST", node.endpoint + wanted, data=b'{"code":"out = 1"}')
    SigV4Auth(keys, "lambda", "us-east-1").add_auth(request)
    host = node.endpoint.partition("//")[2]
    lines = [f"POST {wanted} HTTP/1.1", f"host: {host}", "connection: close", "content-length: 18"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() not in ("host", "content-length")]
    came = _raw(node, "\r\n".join(lines).encode() + b'\r\n\r\n{"code":"out = 1"}')
    assert came[9:12] in (b"400", b"403", b"404"), came


def test_no_key_of_the_node_reaches_a_web_function(node):
    """However its client writes it."""
    app = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [repr(environ).encode()]\n"
    node.put_web("echoing", {"app.py": app}, "app:app")
    secret = node.credentials["AWS_SECRET_ACCESS_KEY"]
    host = node.endpoint.partition("//")[2]
    for lines in (
        "Bearer {}",
        "bearer {}",
        "BEARER {}",
        "Bearer  {} ",
        "bearer {}\r\nx-ondol-key:",
        "Bearer {}\r\nx-ondol-key: {}",
    ):
        fields = "authorization: " + lines.replace("{}", node.key)
        came = _raw(node, f"GET /fn/echoing HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{fields}\r\n\r\n".encode())
        assert came.startswith(b"HTTP/1.1 200"), came
        assert secret not in came.decode(), lines
    assert secret not in node.http("GET", "/fn/echoing").data.decode()


def test_a_signed_call_of_a_web_function_covers_its_body(node):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    app = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [environ['wsgi.input'].read()]\n"
    node.put_web("returning", {"app.py": app}, "app:app")
    keys = Credentials(node.credentials["AWS_ACCESS_KEY_ID"], node.credentials["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest("POST", node.endpoint + "/fn/returning", data=b"signed")
    SigV4Auth(keys, "ondol", "us-east-1").add_auth(request)
    headers = {"x-ondol-key": "", **dict(request.headers.items())}
    assert node.http("POST", "/fn/returning", b"signed", headers).data == b"signed"
    assert node.http("POST", "/fn/returning", b"forged", headers).status == 403


def test_strangers_bodies_are_not_kept(node):
    """Nobody without a key may make the node read 70 MB."""
    host, _, port = node.endpoint.partition("//")[2].partition(":")
    lines = []
    try:
        for path in ("/ondol/v1/functions/x", "/2015-03-31/functions"):
            line = socket.create_connection((host, int(port)), timeout=10)
            lines.append(line)
            line.sendall(
                f"PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000000\r\n\r\n".encode() + bytes(100_000)
            )
            assert line.recv(12)[9:] in (b"401", b"403", b"404"), path
    finally:
        for line in lines:
            line.close()


def test_idle_and_slow_strangers_do_not_keep_others_out(node):
    host, _, port = node.endpoint.partition("//")[2].partition(":")
    lines = [socket.create_connection((host, int(port)), timeout=5) for _ in range(300)]
    try:
        for line in lines:
            line.sendall(b"POST /2015-03-31/functions/x/invocations HTTP/1.1\r\nhost: loc")
        began_s = time.monotonic()
        assert node.http("GET", "/ondol/v1/functions").status == 200
        assert time.monotonic() - began_s < 30
    finally:
        for line in lines:
            line.close()


def _named(mark):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in words:
                found.append(entry)
    return found
