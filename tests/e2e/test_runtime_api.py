"""Custom runtimes in real sandboxes: a bootstrap that speaks the Runtime API, in all its ways to go well and wrong."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time

import pytest
from botocore.exceptions import ClientError

from ondol.runtimes.interpreters import Interpreters
from ondol.testing.node import executable, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

BOOTSTRAP = """#!%s -Su
import json, os, sys, time, urllib.error, urllib.request
API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/"
def ask(path, body=None, **headers):
    sent = urllib.request.Request(API + path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(sent) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()
count = 0
LOADING
while True:
    _, headers, event = ask("invocation/next")
    event = json.loads(event)
    own = "invocation/" + headers["Lambda-Runtime-Aws-Request-Id"] + "/"
    count += 1
    def answer(value):
        return ask(own + "response", json.dumps(value).encode())
    CALLING
"""


def bootstrap(calling, loading="pass"):
    """A bootstrap that does `calling` with each event."""
    python = Interpreters.discover().all()[-1].path
    indented = calling.strip().replace("\n", "\n    ")
    return (BOOTSTRAP % python).replace("CALLING", indented).replace("LOADING", loading)


@pytest.fixture
def custom(deploy_archive):
    def custom(files, **settings):
        files = {"bootstrap": files} if isinstance(files, str) else files
        return deploy_archive(executable(files), runtime="provided.al2023", **settings)

    return custom


def test_a_bootstrap_is_called_with_events_headers_and_variables(custom, call, aws):
    function = custom(
        bootstrap('print("called", event)\nanswer({"event": event, "headers": headers, "environ": dict(os.environ)})'),
        handler="some.thing",
        Environment={"Variables": {"MINE": "1"}},
    )
    context = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    called = call(function, {"a": "✓"}, ClientContext=context)
    headers, environ = called.answer["headers"], called.answer["environ"]
    assert (called.error, called.answer["event"]) == (None, {"a": "✓"})
    assert headers["Lambda-Runtime-Aws-Request-Id"] == called.id
    assert headers["Lambda-Runtime-Invoked-Function-Arn"].endswith(f":function:{function}")
    assert json.loads(headers["Lambda-Runtime-Client-Context"]) == {"custom": {"a": "b"}}
    assert int(headers["Lambda-Runtime-Deadline-Ms"]) > 0
    assert headers["Lambda-Runtime-Trace-Id"].startswith("Root=1-")
    assert environ["_HANDLER"] == "some.thing"
    assert environ["MINE"] == "1"
    assert environ["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert not {"AWS_EXECUTION_ENV", "PYTHONPATH", "_ONDOL_WIRE"} & set(environ)
    assert re.search(r"^REPORT RequestId: ID\tDuration: \S+ ms\t.*Init Duration: \S+ ms\t$", called.tail, re.M)
    assert re.match(r"START RequestId: ID Version: \$LATEST\ncalled ", called.tail)


def test_it_lives_on_between_calls(custom, call):
    function = custom(bootstrap("answer(count)"))
    assert [call(function).answer for _ in range(3)] == [1, 2, 3]


def test_its_errors_are_the_callers(custom, call):
    function = custom(bootstrap('ask(own + "error", b\'{"errorType": "T", "errorMessage": "m"}\')'))
    called = call(function)
    assert (called.error, called.answer) == ("Unhandled", {"errorType": "T", "errorMessage": "m"})


def test_a_failure_to_load_is_the_callers(custom, call):
    failing = 'ask("init/error", b\'{"errorType": "Runtime.Bad", "errorMessage": "no"}\'); sys.exit(1)'
    function = custom(bootstrap("pass", loading=failing))
    for _ in range(2):
        called = call(function)
        assert (called.error, called.answer) == ("Unhandled", {"errorType": "Runtime.Bad", "errorMessage": "no"})


@pytest.mark.parametrize("loading", [False, True], ids=["calling", "loading"])
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("sys.exit(1)", "Runtime exited with error: exit status 1"),
        ("sys.exit(0)", "Runtime exited without providing a reason"),
        ("os.kill(os.getpid(), 11)", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_a_bootstrap_that_ends_is_an_exit_error(custom, call, act, reason, loading):
    act = f'print("going"); {act}'
    function = custom(bootstrap("pass", loading=act) if loading else bootstrap(act))
    called = call(function)
    message = f"RequestId: {called.id} Error: {reason}"
    assert (called.error, called.answer) == ("Unhandled", {"errorType": "Runtime.ExitError", "errorMessage": message})
    assert called.lines[-2:] == [message.replace(called.id, "ID"), "Runtime.ExitError"]
    assert re.search(r"^REPORT .*Status: error\tError Type: Runtime.ExitError$", called.tail, re.M)


def test_no_call_is_given_to_a_question_whose_connection_was_closed(custom, call, node):
    leaving = """
answer(count)
if event == "leave":
    asking = socket.create_connection(os.environ["AWS_LAMBDA_RUNTIME_API"].split(":"))
    asking.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    time.sleep(0.2)
    asking.close()
    print("gone")
    time.sleep(2)
    sys.exit(3)
"""
    function = custom(bootstrap(leaving, loading="import socket"))
    assert [call(function).answer, call(function, "leave").answer] == [1, 2]
    logs, gone = node.client("logs"), []
    for _ in range(400):
        with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
            gone = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", filterPattern="gone")["events"]
        if gone:
            break
        time.sleep(0.05)
    assert gone
    assert call(function).answer == 1  # the process was not given it, and another took it up when that one ended


def test_a_timeout_ends_it_and_a_fresh_one_takes_the_next_call(custom, call):
    function = custom(bootstrap('if event == "sleep": time.sleep(60)\nanswer(count)'), Timeout=1)
    assert call(function).answer == 1
    slept = call(function, "sleep")
    assert slept.answer == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {slept.id} Error: Task timed out after 1.00 seconds",
    }
    assert call(function).answer == 1


def test_memory_is_bounded(custom, call):
    function = custom(bootstrap('held = bytearray(400 << 20) if event == "eat" else b""\nanswer(len(held))'))
    assert call(function).answer == 0
    eaten = call(function, "eat")
    assert eaten.answer["errorType"] == "Runtime.OutOfMemory"
    assert call(function).answer == 0


@pytest.mark.parametrize(
    ("files", "mode", "reason"),
    [
        ({"other": ""}, 0o755, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ({"bootstrap": "no first line"}, 0o755, "fork/exec /var/task/bootstrap: exec format error"),
        ({"bootstrap": "#!/bin/sh\n"}, 0o644, "fork/exec /var/task/bootstrap: permission denied"),
    ],
    ids=["missing", "no program", "not executable"],
)
def test_without_a_bootstrap_the_entrypoint_is_invalid(deploy_archive, call, files, mode, reason):
    function = deploy_archive(executable(files, mode), runtime="provided.al2023")
    for _ in range(2):
        called = call(function)
        message = f"RequestId: {called.id} Error: {reason}"
        assert (called.error, called.answer["errorType"]) == ("Unhandled", "Runtime.InvalidEntrypoint")
        assert called.answer["errorMessage"] == message
        assert called.lines == [message.replace(called.id, "ID"), "Runtime.InvalidEntrypoint"]


def test_a_layers_bootstrap_stands_in(aws, deploy_archive, call, name):
    layer = aws.publish_layer_version(
        LayerName=name, Content={"ZipFile": executable({"bootstrap": bootstrap("answer('layer')")})}
    )
    function = deploy_archive(executable({"a": ""}), runtime="provided.al2", Layers=[layer["LayerVersionArn"]])
    assert call(function).answer == "layer"


def test_answers_out_of_turn_are_refused(custom, call):
    function = custom(
        bootstrap(
            """
wrong = ask("invocation/another/response", b"1")
right = answer({"wrong": [wrong[0], json.loads(wrong[2])]}) if event else ask(own + "response", b"1")
again = ask(own + "response", b"2")
print(json.dumps([right[0], again[0], json.loads(again[2])["errorType"]]), flush=True)
"""
        )
    )
    assert call(function, 1).answer == {"wrong": [400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}]}
    assert call(function, 0).answer == 1


def test_a_megabyte_comes_back_and_too_much_does_not(custom, call):
    function = custom(bootstrap("answer('x' * event if isinstance(event, int) else event)"), Timeout=20)
    megabyte = "y" * 1_000_000
    assert call(function, megabyte).answer == megabyte
    assert call(function, 7_000_000).answer == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert call(function, 3).answer == "xxx"


def test_a_python_functions_shell_has_no_runtime_api(deploy, call):
    function = deploy(
        """
import urllib.request, urllib.error
def handler(event, context):
    try:
        urllib.request.urlopen("http://127.0.0.1:9001/2018-06-01/runtime/invocation/next", timeout=5)
    except urllib.error.HTTPError as error:
        return error.code
"""
    )
    assert call(function).answer == 403


def test_without_a_network_of_its_own_it_cannot_be_called(possible, name):
    """Whoever shares the machine's network would share its port."""
    with running_node("--network", "host") as node:
        aws = node.client("lambda")
        aws.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="x", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": executable({"bootstrap": bootstrap("answer(1)")})}, Tags={"ondol:network": "host"},
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        with pytest.raises(ClientError, match="needs a network of its own"):
            aws.invoke(FunctionName=name)
