"""What a handler sees and what its ways to fail come to, in real sandboxes, on every interpreter of this machine."""

from __future__ import annotations

import json
import os
import re

import pytest
from botocore.exceptions import ClientError

from ondol.keeper import probe
from ondol.runtimes.interpreters import Interpreters

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

RUNTIMES = sorted({found.name for found in Interpreters.discover().all()}, key=lambda name: int(name.partition(".")[2])) or [
    "python3.11"
]
each_runtime = pytest.mark.parametrize("runtime", RUNTIMES)


def body(text):
    """A module whose handler is these lines; `event` and `context` are there."""
    return "import os, sys, time, json\ndef handler(event, context):\n" + "".join(
        f"    {line}\n" for line in text.strip().splitlines()
    )


# What a handler is given ------------------------------------------------------------------------------------------------
@each_runtime
def test_the_context_and_the_environment_are_awss(deploy, call, runtime):
    function = deploy(
        body(
            """
c = context
return {"name": c.function_name, "version": c.function_version, "arn": c.invoked_function_arn, "mb": c.memory_limit_in_mb,
    "id": c.aws_request_id, "group": c.log_group_name, "stream": c.log_stream_name, "left": c.get_remaining_time_in_millis(),
    "identity": c.identity is not None, "client": c.client_context, "python": "python%d.%d" % sys.version_info[:2],
    "environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "file": __file__, "event": event}
"""
        ),
        runtime=runtime,
        Timeout=7,
        Environment={"Variables": {"MINE": "wert ✓"}},
    )
    called = call(function, {"a": [1, None, "é"]})
    seen = called.answer
    assert called.error is None, seen
    assert seen["event"] == {"a": [1, None, "é"]}
    assert (seen["name"], seen["version"], seen["mb"], seen["client"]) == (function, "$LATEST", "128", None)
    assert seen["arn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{function}"
    assert (seen["id"], "RequestId: ID" in called.tail) == (called.id, True)
    assert 5000 < seen["left"] <= 7000
    assert seen["python"] == runtime
    assert (seen["cwd"], seen["file"]) == ("/var/task", "/var/task/app.py")
    assert "/var/task" in seen["path"]
    environ = seen["environ"]
    assert environ["MINE"] == "wert ✓"
    assert environ["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{runtime}"
    assert environ["AWS_LAMBDA_LOG_GROUP_NAME"] == seen["group"] == f"/aws/lambda/{function}"
    assert environ["AWS_LAMBDA_LOG_STREAM_NAME"] == seen["stream"]
    assert (environ["AWS_REGION"], environ["LAMBDA_TASK_ROOT"], environ["_HANDLER"]) == (
        "us-east-1",
        "/var/task",
        "app.handler",
    )
    assert environ["AWS_SESSION_TOKEN"]
    assert not [found for found in environ if found.startswith(("ONDOL_", "PYTEST"))]


@each_runtime
def test_output_of_all_kinds_arrives_in_the_order_it_was_written(deploy, call, runtime):
    function = deploy(
        body(
            """
import logging, subprocess
print("one")
logging.getLogger().warning("two")
os.write(1, b"three\\n")
subprocess.run(["/bin/echo", "four"], check=True)
sys.stderr.write("five\\n")
os.write(2, b"six\\n")
sys.stdout.write("sev")
print("en")
"""
        ),
        runtime=runtime,
    )
    for _ in range(2):  # cold and warm
        called = call(function)
        assert called.error is None, called.answer
        assert [
            re.sub(r"^\[WARNING\]\t\S+Z\t\S+\t", "", line) for line in called.lines
        ] == "one two three four five six seven".split()


@each_runtime
def test_an_exception_comes_back_with_its_trace(deploy, call, runtime):
    function = deploy(
        "def handler(event, context):\n    return inner(event)\n\n\ndef inner(x):\n    raise ValueError('no ' + x)\n",
        runtime=runtime,
    )
    called = call(function, "good")
    assert called.error == "Unhandled"
    assert (called.answer["errorType"], called.answer["errorMessage"]) == ("ValueError", "no good")
    assert [re.search(r'File "(\S+)", line (\d+), in (\w+)', frame).groups() for frame in called.answer["stackTrace"]] == [
        ("/var/task/app.py", "2", "handler"),
        ("/var/task/app.py", "6", "inner"),
    ]
    assert "[ERROR] ValueError: no good" in called.tail
    assert call(function, "again").answer["errorMessage"] == "no again"


@pytest.mark.parametrize(
    ("files", "handler", "kind", "words"),
    [
        (
            {"app.py": "import not_there"},
            "app.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'not_there'",
        ),
        (
            {"app.py": ""},
            "other.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'other': No module named 'other'",
        ),
        ({"app.py": ""}, "app.absent", "Runtime.HandlerNotFound", "Handler 'absent' missing on module 'app'"),
        ({"app.py": "def f(:\n"}, "app.f", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ({"app.py": "def f(e, c): return {1, 2}"}, "app.f", "Runtime.MarshalError", "Unable to marshal response"),
        ({"app.py": "raise KeyError('at import')"}, "app.f", "KeyError", "at import"),
    ],
    ids=["import", "module", "function", "syntax", "marshal", "raises"],
)
def test_what_cannot_be_loaded_or_said_is_told(deploy, call, files, handler, kind, words):
    function = deploy(files, handler=handler)
    for _ in range(2):
        called = call(function)
        assert called.error == "Unhandled"
        assert called.answer["errorType"] == kind
        assert words in called.answer["errorMessage"]


# Ways to end ------------------------------------------------------------------------------------------------------------
@each_runtime
@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("sys.exit(3)", "exit status 3"),
        ("os._exit(4)", "exit status 4"),
        ("os.kill(os.getpid(), 9)", "signal: killed"),
        ("os.abort()", "signal: aborted"),
        ("sys.exit(0)", "Runtime exited without providing a reason"),
    ],
    ids=["exit", "_exit", "kill", "abort", "exit0"],
)
def test_a_process_that_ends_is_told_and_replaced(deploy, call, runtime, ending, words):
    function = deploy(body(f"print('before')\nsys.stdout.flush()\nif event: {ending}\nreturn os.getpid()"), runtime=runtime)
    called = call(function, True)
    assert called.error == "Unhandled"
    if ending.startswith("sys.exit"):
        # An exception that reaches the runtime: told by it, as on AWS.
        assert called.answer["errorType"] in ("SystemExit", "Runtime.ExitError")
    else:
        assert called.answer["errorType"] == "Runtime.ExitError"
        assert words in called.answer["errorMessage"]
    assert "before" in called.lines
    assert re.search(r"END RequestId: .*\nREPORT RequestId: ", called.tail)
    after = call(function, False)
    assert after.error is None
    assert isinstance(after.answer, int)


def test_zombies_are_reaped_and_own_children_are_not_taken(deploy, call):
    function = deploy(
        body(
            """
import subprocess
assert subprocess.run(["sh", "-c", "exit 7"]).returncode == 7
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
for _ in range(100):
    pids = [p for p in os.listdir("/proc") if p.isdigit()]
    if len(pids) <= 2:
        break
    time.sleep(0.02)
return sorted(pids) == sorted(["1", str(os.getpid())])
"""
        )
    )
    assert call(function).answer is True


def test_a_background_thread_goes_on_between_calls(deploy, call):
    function = deploy(
        "import threading, time\nticks = [0]\n"
        "def tick():\n    while True:\n        ticks[0] += 1\n        time.sleep(0.01)\n"
        "threading.Thread(target=tick, daemon=True).start()\n"
        "def handler(event, context):\n"
        "    before = ticks[0]\n    while ticks[0] == before:\n        time.sleep(0.01)\n    return ticks[0]\n"
    )
    first, second = call(function).answer, call(function).answer
    assert 0 < first < second


@each_runtime
def test_a_timeout_replaces_the_process_and_keeps_tmp(deploy, call, runtime):
    function = deploy(
        "import os, time\ncount = 0\n"
        "def handler(event, context):\n"
        "    global count\n    count += 1\n"
        "    with open('/tmp/calls', 'a') as f: f.write('x')\n"
        "    print('sleeping', event)\n"
        "    time.sleep(event)\n"
        "    return [count, len(open('/tmp/calls').read())]\n",
        runtime=runtime,
        Timeout=1,
    )
    assert call(function, 0).answer == [1, 1]
    called = call(function, 30)
    assert called.error == "Unhandled"
    assert called.answer["errorType"] == "Sandbox.Timedout"
    assert re.fullmatch(r"RequestId: \S+ Error: Task timed out after 1.00 seconds", called.answer["errorMessage"])
    assert "sleeping 30" in called.lines
    assert re.search(r"\S+Z \S+ Task timed out after 1.00 seconds", called.tail)
    assert "Status: timeout" in called.tail
    assert call(function, 0).answer == [1, 3]


def test_what_a_timed_out_call_started_is_ended_with_it(deploy, call):
    function = deploy(
        body(
            """
import subprocess
if event:
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    time.sleep(30)
return [open("/proc/%s/cmdline" % p).read() for p in os.listdir("/proc") if p.isdigit() and p != str(os.getpid())]
"""
        ),
        Timeout=1,
    )
    assert call(function, True).answer["errorType"] == "Sandbox.Timedout"
    assert not [line for line in call(function, False).answer if "sleep" in line]


EAT = "held = []\nwhile True:\n    held.append(bytearray(4 << 20)); held[-1][::4096] = b'x' * 1024"
ENDS = f"""
import ctypes, os, subprocess, sys
def handler(event, context):
    if event == "eat": exec({EAT!r})
    if event == "kill": os.kill(os.getpid(), 9)
    if event == "segfault": ctypes.string_at(1)
    if event == "exit": os._exit(4)
    if event == "after a child's": os._exit(10 - subprocess.run([sys.executable, "-c", {EAT!r}]).returncode)
    return "fine"
"""
limits_memory = pytest.mark.skipif(
    not all(found.ok for found in probe.probe() if "memory" in found.what),
    reason="no control group for memory",
)


@limits_memory
@pytest.mark.parametrize(
    ("event", "reason", "kind"),
    [
        ("eat", "signal: killed", "Runtime.OutOfMemory"),
        ("kill", "signal: killed", "Runtime.ExitError"),
        ("segfault", "signal: segmentation fault", "Runtime.ExitError"),
        ("exit", "exit status 4", "Runtime.ExitError"),
        ("after a child's", "exit status 19", "Runtime.ExitError"),
    ],
)
def test_want_of_memory_is_told_apart_from_other_ends(deploy, call, event, reason, kind):
    function = deploy(ENDS, MemorySize=128, Timeout=60)
    called = call(function, event)
    words = f"Runtime exited with error: {reason}"
    told = {"errorType": kind, "errorMessage": f"RequestId: {called.id} Error: {words}"}
    assert (called.error, called.answer) == ("Unhandled", told)
    assert f"RequestId: ID Error: {words}\nRuntime.ExitError\nEND RequestId: ID\n" in called.tail
    (report,) = [line for line in called.tail.splitlines() if line.startswith("REPORT")]
    assert report.endswith(f"\tStatus: error\tError Type: {kind}")
    assert ("Max Memory Used: 128 MB" in report) == (event in ("eat", "after a child's"))
    assert "Memory Size: 128 MB" in report
    assert call(function, "nothing").answer == "fine"


def test_a_child_that_eats_the_memory_does_not_hang_the_call(deploy, call):
    function = deploy(
        body(
            f"import subprocess\nif event:\n    return subprocess.run([sys.executable, '-c', {EAT!r}]).returncode\nreturn 'fine'"
        ),
        Timeout=20,
    )
    called = call(function, True)
    assert called.error == "Unhandled" or called.answer != 0
    assert call(function, False).answer == "fine"


@pytest.mark.parametrize(
    "doing",
    [
        "while True: os.fork()",
        "os.closerange(0, 1024)",
        "while True: os.open('/dev/null', 0)",
        "os.kill(os.getpid(), 15)",
        "import ctypes; ctypes.string_at(0)",
    ],
    ids=["forks", "closes", "opens", "term", "segv"],
)
def test_whatever_a_handler_does_to_itself_the_next_call_gets_through(deploy, call, doing):
    function = deploy(body(f"if event:\n    {doing}\nreturn 'fine'"), Timeout=5)
    assert call(function, True).error == "Unhandled"
    after = call(function, False)
    # Descriptors that the handler left open are its own affair, and its environment's.
    assert after.answer == "fine" or "open" in doing, after.answer


# What it may touch ------------------------------------------------------------------------------------------------------
def test_tmp_is_bounded_and_the_function_lives_on(deploy, call):
    function = deploy(
        body(
            """
if not event:
    it = os.statvfs("/tmp")
    return [sum(os.path.getsize("/tmp/" + name) for name in os.listdir("/tmp")), it.f_blocks * it.f_frsize]
block, written = b"x" * (8 << 20), 0
with open("/tmp/big", "wb") as f:
    while written < 700 << 20:
        f.write(block); f.flush()
        written += len(block)
return written
"""
        ),
        MemorySize=256, Timeout=60,
    )  # fmt: skip
    _, size = call(function, False).answer
    called = call(function, True)
    assert called.error == "Unhandled", called.answer
    said = json.dumps(called.answer) + called.tail
    # Without a disk of its own it is watched, and who is over it is ended.
    assert ("No space left" if size < 1 << 30 else "signal: killed") in said, said
    after = call(function, False)
    assert after.error is None
    assert after.answer[0] <= 520 << 20


PROBE = """
import ctypes, errno, os, socket
def attempt(what):
    try:
        return what()
    except OSError as error:
        return errno.errorcode[error.errno]
def handler(event, context):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()],
        "groups": os.getgroups(),
        "caps": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "nnp": status["NoNewPrivs"].strip(),
        "write": {path: attempt(lambda: open(path, "w").close()) for path in ("/var/task/x", "/usr/x", "/x", "/opt/x", "/etc/x", "/var/runtime/x", "/tmp/x")},
        "read": {path: attempt(lambda: open(path).read()[:80]) for path in ("/etc/shadow", "/etc/gshadow", event["card"], event["keys"], event["home"])},
        "list": {path: attempt(lambda: os.listdir(path)) for path in ("/root", "/home", "/proc/1/fd", event["data"])},
        "pids": len([name for name in os.listdir("/proc") if name.isdigit()]),
        "setuid": attempt(lambda: os.setuid(0)),
        "chroot": attempt(lambda: os.chroot("/tmp")),
        "mount": ctypes.CDLL(None, use_errno=True).mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "kill1": attempt(lambda: os.kill(1, 9)),
        "hostname": socket.gethostname(),
    }
"""


def on_the_way_to_interpreters(place):
    """Names in a directory that lead to an interpreter of this machine."""
    found = {path for one in Interpreters.discover().all() for path in (one.path, one.prefix, os.path.realpath(one.path))}
    return {path.removeprefix(f"{place}/").partition("/")[0] for path in found if path.startswith(f"{place}/")}


@each_runtime
def test_nothing_of_the_host_can_be_read_or_written(node, deploy, call, runtime):
    function = deploy(PROBE, runtime=runtime)
    data = str(node.data)
    seen = call(
        function,
        {"data": data, "card": f"{data}/run/node.json", "keys": f"{data}/credentials.json", "home": "/root/.bashrc"},
    )
    assert seen.error is None, seen.answer
    seen = seen.answer
    assert 0 not in seen["ids"]
    assert 0 not in seen["groups"]
    assert seen["caps"] == [0] * 5
    assert seen["nnp"] == "1"
    assert seen["write"].pop("/tmp/x") is None
    assert set(seen["write"].values()) <= {"EROFS", "EACCES"}, seen["write"]
    assert set(seen["read"].values()) <= {"ENOENT", "EACCES"}, seen["read"]
    # On the way to an interpreter in somebody's home there is that interpreter's directory, and nothing else.
    for place in ("/root", "/home"):
        listed = seen["list"].pop(place)
        assert listed in ("ENOENT", "EACCES") or set(listed) <= on_the_way_to_interpreters(place) | {"sbx_user1051"}, place
    assert set(seen["list"].values()) <= {"ENOENT", "EACCES"}, seen["list"]
    assert seen["pids"] == 2
    assert seen["setuid"] in ("EPERM", "EINVAL")  # the second where root has no number in here at all
    assert (seen["chroot"], seen["mount"]) == ("EPERM", -1)
    assert seen["kill1"] in ("EPERM", None)


def test_two_functions_do_not_see_each_others_tmp(deploy, call, name):
    source = body("with open('/tmp/' + event, 'w') as f: f.write('x')\nreturn sorted(os.listdir('/tmp'))")
    one, two = deploy(source), deploy(source, called=f"{name}-two")
    assert call(one, "a").answer == ["a"]
    assert call(two, "b").answer == ["b"]
    assert call(one, "c").answer == ["a", "c"]


# Its own credentials ----------------------------------------------------------------------------------------------------
def test_boto3_inside_speaks_to_the_node_as_the_function_and_may_nothing_else(deploy, call):
    function = deploy(
        body(
            """
import boto3
who = boto3.client("sts").get_caller_identity()
try:
    refused = boto3.client("lambda").list_functions()
except Exception as error:
    refused = error.response["Error"]["Code"]
return [who["Arn"], who["Account"], refused, boto3.__file__]
"""
        ),
        Timeout=30,
        MemorySize=256,
    )
    called = call(function)
    assert called.error is None, called.answer
    arn, account, refused, where = called.answer
    assert arn == f"arn:aws:sts::000000000000:assumed-role/any/{function}"
    assert account == "000000000000"
    assert refused == "AccessDeniedException"
    assert where.startswith("/var/runtime/boto3/")


def test_a_functions_credentials_do_no_more_outside(node, deploy, call):
    import boto3

    function = deploy(
        body("return [os.environ[n] for n in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN')]")
    )
    key, secret, token = call(function).answer
    stolen = boto3.client(
        "lambda", endpoint_url=node.endpoint, region_name="us-east-1",
        aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token,
    )  # fmt: skip
    for attempt in (
        stolen.list_functions,
        lambda: stolen.get_function(FunctionName=function),
        lambda: stolen.delete_function(FunctionName=function),
        lambda: stolen.invoke(FunctionName=function),
    ):
        with pytest.raises(ClientError) as refusal:
            attempt()
        assert refusal.value.response["Error"]["Code"] == "AccessDeniedException"


def test_code_may_bring_its_own_copy_of_a_package_that_is_there(deploy, call):
    function = deploy(
        {
            "boto3/__init__.py": "mine = True\n",
            "app.py": "import boto3\ndef handler(e, c):\n    return [boto3.mine, boto3.__file__]\n",
        }
    )
    assert call(function).answer == [True, "/var/task/boto3/__init__.py"]


def test_a_warm_environment_is_used_again(deploy, call):
    function = deploy("count = 0\ndef handler(e, c):\n    global count\n    count += 1\n    return count\n")
    assert [call(function).answer for _ in range(3)] == [1, 2, 3]


def test_concurrent_calls_never_share_an_environment(aws, deploy):
    import concurrent.futures

    function = deploy(
        "import time\nbusy = False\ndef handler(e, c):\n    global busy\n    assert not busy\n    busy = True\n    time.sleep(0.05)\n    busy = False\n    return 1\n"
    )
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(aws.invoke, FunctionName=function) for _ in range(40)]
        assert [json.loads(made.result()["Payload"].read()) for made in calls] == [1] * 40
