"""Extensions in real sandboxes: external ones from layers, internal ones, what they are told, and in how many ways they fail."""

from __future__ import annotations

import json
import re
import shutil
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from ondol.launcher import probe
from ondol.runtimes.interpreters import Interpreters
from ondol.runtimes.places import NODEJS
from ondol.testing.calls import Called
from ondol.testing.node import executable, running_node, zipped
from ondol.testing.packages import need

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

#: What both kinds ask by.
ASKING = """
import json, os, signal, sys, threading, time, urllib.error, urllib.request
API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/"
def ask(path, body=None, method=None, **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    sent = urllib.request.Request(API + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(sent) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()
def register(name, *events, **headers):
    body = json.dumps({"events": events}).encode()
    return ask("2020-01-01/extension/register", body, Lambda_Extension_Name=name, **headers)
def following(me):
    return json.loads(ask("2020-01-01/extension/event/next", Lambda_Extension_Identifier=me)[2])
def subscribe(me, port, path="2022-07-01/telemetry", **more):
    wanted = {"types": ["platform", "function", "extension"], "schemaVersion": "2022-12-13",
              "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:%d" % port},
              "buffering": {"timeoutMs": 25, "maxItems": 1000, "maxBytes": 262144}, **more}
    return ask(path, json.dumps(wanted).encode(), "PUT", Lambda_Extension_Identifier=me)
"""
EXTENSION = """#!%s -Su
%s
NAME = os.path.basename(__file__)
BEFORE
status, headers, body = register(NAME, EVENTS, Lambda_Extension_Accept_Feature="accountId")
ME = headers.get("Lambda-Extension-Identifier")
LOADING
while True:
    event = following(ME)
    CALLED
    if event["eventType"] == "SHUTDOWN":
        break
"""
#: Receives telemetry and keeps it where the function finds it.
RECEIVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open("/tmp/telemetry", "a") as kept:
            kept.writelines(json.dumps(event) + "\\n" for event in batch)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
server = HTTPServer(("127.0.0.1", 8080), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""
#: A function that answers with what is in /tmp/telemetry once that has an event of `wanted`.
TELLING = """
import json, os, time
def handler(event, context):
    print("called", event)
    for _ in range(event.get("tries", 0)):
        told = [json.loads(line) for line in open("/tmp/telemetry")] if os.path.exists("/tmp/telemetry") else []
        if any(each["type"] == event["wanted"] for each in told):
            return told
        time.sleep(0.05)
"""


def python():
    return Interpreters.discover().all()[-1].path


def extension(called="pass", *, loading="pass", before="pass", events='"INVOKE", "SHUTDOWN"'):
    """An external extension that does `called` with each event."""
    made = (EXTENSION % (python(), ASKING)).replace("EVENTS", events)
    return made.replace("BEFORE", before).replace("LOADING", loading).replace("CALLED", called.strip().replace("\n", "\n    "))


@pytest.fixture
def layered(aws, deploy_archive, name):
    """Deploys Python text with programs in its layer's extensions/."""

    def layered(source, extensions, mode=0o755, **settings):
        files = {f"extensions/{each}": text for each, text in extensions.items()}
        content = {"ZipFile": executable(files, mode)}
        layer = aws.publish_layer_version(LayerName=name, Content=content)["LayerVersionArn"]
        files = source if isinstance(source, dict) else {"app.py": source}
        return deploy_archive(executable(files), Layers=[layer], **settings)

    return layered


def log_of(node, function, wanted):
    """All that stands in a function's log on that node, once `wanted` is found in it."""
    logs = node.client("logs")
    text = ""
    for _ in range(400):
        try:
            events = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", limit=10_000)["events"]
        except logs.exceptions.ResourceNotFoundException:
            events = []
        text = "".join(event["message"] + "\n" for event in events)
        if re.search(wanted, text):
            return text
        time.sleep(0.05)
    raise AssertionError(f"{wanted!r} is not in the log: {text[-4000:]}")


@pytest.fixture
def log(node):
    """The same of everybody's node."""
    return lambda function, wanted: log_of(node, function, wanted)


@pytest.fixture
def telling(call):
    """What a function of `TELLING` answers, once one of its environments has been told what is wanted."""

    def telling(function, wanted, **event):
        for _ in range(60):
            told = call(function, {"wanted": wanted, "tries": 10, **event}).answer
            if told is not None:
                return told
        raise AssertionError(f"no environment was told of {wanted}")

    return telling


def replaced(aws, function):
    """Its environments are let go: a new revision takes their place."""
    aws.update_function_configuration(FunctionName=function, Description=str(time.time()))
    aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})


# External ones ----------------------------------------------------------------------------------------------------------


def test_an_external_extension_is_told_of_each_call_and_of_the_end(layered, call, log, aws):
    function = layered(
        "def handler(event, context): return context.aws_request_id",
        {"watcher": extension('print("told", json.dumps(event))', loading='print("registered", status, body.decode())')},
    )
    calls = [call(function) for _ in range(2)]
    assert [each.answer for each in calls] == [each.id for each in calls]
    replaced(aws, function)
    text = log(function, r"told .*SHUTDOWN")
    (registered,) = set(re.findall(r"^registered 200 (.*)$", text, re.M))  # those of the new revision say the same
    assert json.loads(registered) == {
        "functionName": function, "functionVersion": "$LATEST", "handler": "app.handler", "accountId": "000000000000",
    }  # fmt: skip
    told = [json.loads(each) for each in re.findall(r"^told (.*)$", text, re.M)]
    invoked, ended = told[:2], told[2:]  # a second environment may have been started for the second call, and ends too
    assert [each["eventType"] for each in invoked] == ["INVOKE", "INVOKE"]
    assert {each["eventType"] for each in ended} == {"SHUTDOWN"}
    assert [each["requestId"] for each in told[:2]] == [each.id for each in calls]
    assert told[0]["invokedFunctionArn"].endswith(f":function:{function}")
    assert told[0]["tracing"]["value"].startswith("Root=1-")
    assert told[2]["shutdownReason"] == "spindown"
    assert told[2]["deadlineMs"] > told[1]["deadlineMs"] - 10_000
    assert "EXTENSION\tName: watcher\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in text


def test_it_has_registered_before_the_function_loads_and_sees_what_it_may(layered, call):
    function = layered(
        "found = open('/tmp/began').read()\ndef handler(event, context): return found",
        {
            "first": extension(
                before='time.sleep(0.3); open("/tmp/began", "w").write(json.dumps([sorted(os.environ), os.getcwd()]))'
            )
        },
    )
    variables, cwd = json.loads(call(function).answer)
    assert cwd == "/"
    assert {"AWS_LAMBDA_FUNCTION_NAME", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_LAMBDA_RUNTIME_API"} <= set(variables)
    assert not {"_HANDLER", "LAMBDA_TASK_ROOT", "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME"} & set(variables)


def test_no_call_is_given_to_an_environment_whose_extension_still_works(layered, call):
    working = """
if event["eventType"] == "INVOKE":
    time.sleep(0.1)
    open("/tmp/worked", "a").write(event["requestId"] + " ")
"""
    source = """
import os, time
before = []
def handler(event, context):
    worked = open("/tmp/worked").read().split() if os.path.exists("/tmp/worked") else []
    found = [list(before), worked]
    before.append(context.aws_request_id)
    return found
"""
    function = layered(source, {"worker": extension(working)})
    found = [call(function).answer for _ in range(12)]
    assert all(before == worked for before, worked in found)
    assert any(before for before, _ in found)


def test_a_shell_script_is_an_extension_of_a_custom_runtime(layered, call, log, aws):
    speaking = """#!/bin/bash
ask() {
  exec 3<>/dev/tcp/127.0.0.1/9001
  printf '%s\\r\\nHost: localhost\\r\\nConnection: close\\r\\n%s\\r\\n%s' "$1" "$2" "$3" >&3
  cat <&3
}
said=$(ask 'POST /2020-01-01/extension/register HTTP/1.1' $'Lambda-Extension-Name: spoken\\r\\nContent-Length: 32\\r\\n' \\
  '{"events":["INVOKE","SHUTDOWN"]}')
me=$(sed -n 's/^[Ll]ambda-[Ee]xtension-[Ii]dentifier: *\\([0-9a-f-]*\\).*/\\1/p' <<< "$said")
while event=$(ask 'GET /2020-01-01/extension/event/next HTTP/1.1' "Lambda-Extension-Identifier: $me"$'\\r\\n' ''); do
  echo "heard $(tail -n 1 <<< "$event")"
  [[ $event == *SHUTDOWN* ]] && exit 0
done
"""
    runtime = (
        f"#!{python()} -Su\n{ASKING}"
        + """
while True:
    _, headers, event = ask("2018-06-01/runtime/invocation/next")
    ask("2018-06-01/runtime/invocation/" + headers["Lambda-Runtime-Aws-Request-Id"] + "/response", event)
"""
    )
    function = layered({"bootstrap": runtime}, {"spoken": speaking}, runtime="provided.al2023")
    assert [call(function, number).answer for number in (1, 2)] == [1, 2]
    replaced(aws, function)
    text = log(function, r"heard .*SHUTDOWN")
    assert len(re.findall(r"^heard .*INVOKE", text, re.M)) == 2


def test_a_nodejs_function_has_extensions_too(layered, call, log, aws):
    found = Interpreters.discover().all(NODEJS)
    if not found:
        pytest.skip("there is no Node.js on this machine")
    function = layered(
        {"index.js": "exports.handler = async (event) => event"},
        {"watcher": extension('print("told", event["eventType"])')}, runtime=found[-1].name, handler="index.handler",
    )  # fmt: skip
    assert call(function, {"a": 1}).answer == {"a": 1}
    replaced(aws, function)
    assert log(function, "told SHUTDOWN").index("told INVOKE") < log(function, "told SHUTDOWN").index("told SHUTDOWN")


def test_who_never_asks_again_is_ended_when_the_function_s_time_is_up(layered, call, log):
    function = layered(
        "count = 0\ndef handler(event, context):\n    global count\n    count += 1\n    return count",
        {"lost": extension('if event["eventType"] == "INVOKE": time.sleep(3600)')}, Timeout=1,
    )  # fmt: skip
    assert [call(function).answer for _ in range(2)] == [1, 1]
    assert "lost" in log(function, r"did not ask for their next event: .*")


def test_a_timeout_tells_extensions_and_all_of_them_start_afresh(layered, call, log):
    function = layered(
        "import time\ncount = 0\ndef handler(event, context):\n    global count\n    count += 1\n    time.sleep(event)\n    return count",
        {"watcher": extension('print("told", event["eventType"], event.get("shutdownReason"))')}, Timeout=1,
    )  # fmt: skip
    assert call(function, 0).answer == 1
    assert call(function, 60).answer["errorType"] == "Sandbox.Timedout"
    assert call(function, 0).answer == 1
    text = log(function, r"(?s)EXTENSION\tName: watcher.*EXTENSION\tName: watcher")
    assert "told SHUTDOWN timeout" in text


@pytest.mark.parametrize(
    ("program", "mode", "kind", "reason"),
    [
        (extension(before="sys.exit(0)"), 0o755, "Extension.Crash", "exit code 0"),
        (extension(loading="sys.exit(3)"), 0o755, "Extension.Crash", "exit status 3"),
        (extension("sys.exit(4)"), 0o755, "Extension.Crash", "exit status 4"),
        ("#!/bin/sh\n", 0o644, "Extension.LaunchError", "fork/exec /opt/extensions/bad: permission denied"),
        ("no program", 0o755, "Extension.LaunchError", "fork/exec /opt/extensions/bad: exec format error"),
        (
            extension(loading='ask("2020-01-01/extension/init/error", b"", Lambda_Extension_Identifier=ME, '
            'Lambda_Extension_Function_Error_Type="Extension.NoKey"); time.sleep(3600)'),
            0o755, "Extension.InitError", "extension bad: Extension.NoKey",
        ),
        (
            extension('ask("2020-01-01/extension/exit/error", b"", Lambda_Extension_Identifier=ME, '
            'Lambda_Extension_Function_Error_Type="Extension.Gone"); time.sleep(3600)'),
            0o755, "Extension.ExitError", "extension bad: Extension.Gone",
        ),
    ],
    ids=["before registering", "while loading", "in a call", "not executable", "no program", "init error", "exit error"],
)  # fmt: skip
def test_what_fails_an_extension_fails_the_call(layered, call, program, mode, kind, reason):
    function = layered("import time\ndef handler(event, context): time.sleep(60)", {"bad": program}, mode=mode, Timeout=30)
    called = call(function)
    assert (called.error, called.answer["errorType"]) == ("Unhandled", kind)
    assert called.answer["errorMessage"] == f"RequestId: {called.id} Error: {reason}"
    assert f"RequestId: ID Error: {reason}\n{kind}\n" in called.tail


def test_what_an_extension_works_behind_answers_is_measured(layered, call, node):
    function = layered(
        "def handler(event, context): pass", {"slow": extension('if event["eventType"] == "INVOKE": time.sleep(0.5)')}
    )
    call(function)
    found = {}
    for _ in range(300):
        found = measured(node, "PostRuntimeExtensionsDuration", function)
        if found:
            break
        time.sleep(0.1)
    assert found["SampleCount"] == 1
    assert 0 < found["Sum"]
    assert found["Unit"] == "Milliseconds"
    assert measured(node, "PostRuntimeExtensionsDuration", function, Resource=function)["Sum"] == found["Sum"]


def measured(node, name, function, **dimensions):
    """The only point of a metric in the last ten minutes, or nothing."""
    now = datetime.now(UTC)
    points = node.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda", MetricName=name, StartTime=now - timedelta(minutes=10), EndTime=now + timedelta(minutes=1), Period=60,
        Dimensions=[{"Name": key, "Value": value} for key, value in {"FunctionName": function, **dimensions}.items()],
        Statistics=["SampleCount", "Sum"],
    )["Datapoints"]  # fmt: skip
    return points[0] if points else {}


def test_eleven_are_one_too_many(layered, call):
    function = layered("def handler(event, context): return 1", {f"e{number:02}": extension() for number in range(11)})
    assert call(function).answer["errorType"] == "Extension.LaunchError"


@pytest.mark.parametrize("silent", [{"before": "time.sleep(3600)"}, {"loading": "time.sleep(3600)"}], ids=["at all", "next"])
def test_who_never_registers_or_asks_is_ended_when_loading_has_taken_too_long(layered, call, silent):
    function = layered("def handler(event, context): return 1", {"silent": extension(**silent)}, Timeout=1)
    assert call(function).answer["errorType"] == "Sandbox.Timedout"


def test_one_that_dies_while_nothing_runs_takes_its_environment_with_it(layered, call, log):
    function = layered(
        "count = 0\ndef handler(event, context):\n    global count\n    count += 1\n    return count",
        {"brief": extension('threading.Timer(0.2, lambda: os._exit(7)).start()')},
    )  # fmt: skip
    assert call(function).answer == 1
    time.sleep(0.6)
    assert call(function).answer == 1


def test_without_a_network_of_its_own_a_function_with_extensions_cannot_be_called(possible, name):
    with running_node("--network", "host") as node:
        aws = node.client("lambda")
        content = {"ZipFile": executable({"extensions/x": extension()})}
        layer = aws.publish_layer_version(LayerName=name, Content=content)["LayerVersionArn"]
        aws.create_function(
            FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": zipped({"app.py": "def handler(event, context): pass"})}, Layers=[layer], Tags={"ondol:network": "host"},
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        with pytest.raises(ClientError, match="has extensions in its layers"):
            aws.invoke(FunctionName=name)


@pytest.fixture
def deploy_at(name):
    """Deploys a function with extensions on a node of another level; what is asked of the node with it."""

    def deploy_at(node, source, extensions, **settings):
        aws = node.client("lambda")
        files = {f"extensions/{each}": text for each, text in extensions.items()}
        layer = aws.publish_layer_version(LayerName=name, Content={"ZipFile": executable(files)})["LayerVersionArn"]
        aws.create_function(
            FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": zipped({"app.py": source})}, Layers=[layer], **settings,
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        return lambda event=None: Called(aws, name, event)

    return deploy_at


def another_level(level):
    """Flags of a node with this isolation, which this machine has."""
    package = {"bwrap": "bubblewrap", "gvisor": "runsc"}.get(level, level)
    if level != "process":
        need(package, program={"gvisor": "runsc"}.get(level, level))
    found = probe.find([level])[level]
    if not found.ok:
        pytest.skip(found.detail)
    return ("--isolation", level, *(("--network", "host") if level == "process" else ()))


@pytest.mark.parametrize("level", ["bwrap", "crun"])
def test_extensions_and_telemetry_are_there_at_levels_of_other_programs(possible, deploy_at, level):
    with running_node(*another_level(level)) as node:
        source = TELLING + "\nimport signal\nsignal.signal(signal.SIGTERM, lambda *_: (print('asked to leave'), os._exit(0)))"
        reader = extension('print("told", event["eventType"])', loading=RECEIVER.strip() + "\nsubscribe(ME, 8080)")
        call = deploy_at(node, source, {"reader": reader, "other": extension()}, Timeout=30)
        for _ in range(60):
            told = call({"wanted": "platform.report", "tries": 10}).answer
            if told is not None:
                break
        assert {"platform.initStart", "platform.start", "function", "extension", "platform.report"} <= {
            each["type"] for each in told
        }
        aws, (function,) = (
            node.client("lambda"),
            [each["FunctionName"] for each in node.client("lambda").list_functions()["Functions"]],
        )
        replaced(aws, function)
        text = log_of(node, function, r"(?s)asked to leave.*told SHUTDOWN|told SHUTDOWN.*asked to leave")
        assert "told INVOKE" in text
        assert "EXTENSION\tName: other\tState: Ready" in text


@pytest.mark.parametrize("level", ["bwrap", "crun"])
def test_what_fails_an_extension_fails_the_call_at_levels_of_other_programs(possible, deploy_at, level):
    with running_node(*another_level(level)) as node:
        call = deploy_at(node, "def handler(event, context): return 1", {"bad": extension(loading="sys.exit(3)")}, Timeout=30)
        called = call()
        assert called.answer == {"errorType": "Extension.Crash", "errorMessage": f"RequestId: {called.id} Error: exit status 3"}


@pytest.mark.parametrize(
    ("level", "reason"),
    [("gvisor", "holds one process: deploy functions with extensions for"), ("process", "has extensions in")],
)
def test_levels_that_have_no_extensions_say_so(possible, deploy_at, level, reason):
    with running_node(*another_level(level)) as node:
        call = deploy_at(node, "def handler(event, context): return 1", {"one": extension()}, Timeout=30)
        try:
            said = call().answer["errorMessage"]
        except ClientError as error:
            said = str(error)
        assert reason in said


def test_an_ordinary_users_node_has_extensions_too(possible, monkeypatch, name):
    system = shutil.which("python3", path="/usr/bin")
    if system is None:
        pytest.skip("there is no Python below /usr, and another user's functions see no other")
    monkeypatch.setattr(f"{__name__}.python", lambda: system)
    with running_node(user=12345) as node:
        aws = node.client("lambda")
        reader = extension(loading=RECEIVER.strip() + "\nsubscribe(ME, 8080)")
        content = {"ZipFile": executable({"extensions/reader": reader})}
        layer = aws.publish_layer_version(LayerName=name, Content=content)["LayerVersionArn"]
        aws.create_function(
            FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": zipped({"app.py": TELLING})}, Layers=[layer],
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        for _ in range(60):
            event = json.dumps({"wanted": "platform.report", "tries": 10})
            told = json.loads(aws.invoke(FunctionName=name, Payload=event)["Payload"].read())
            if told is not None:
                break
        assert {"platform.initStart", "platform.start", "function", "platform.report"} <= {each["type"] for each in told}


# Internal ones ----------------------------------------------------------------------------------------------------------

INTERNAL = (
    ASKING
    + """
status, headers, body = register("inner", "INVOKE")
me = headers["Lambda-Extension-Identifier"]
told = []
def follow():
    while True:
        told.append(following(me))
threading.Thread(target=follow, daemon=True).start()
"""
)


def test_an_internal_extension_is_told_of_calls_and_its_runtime_of_the_end(deploy, call, log, aws):
    function = deploy(
        INTERNAL
        + """
def leave(*_):
    print("asked to leave")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
def handler(event, context):
    while not told or told[-1]["requestId"] != context.aws_request_id:
        time.sleep(0.01)
    return [status, [each["eventType"] for each in told]]
"""
    )
    assert call(function).answer == [200, ["INVOKE"]]
    for _ in range(
        100
    ):  # while the extension has not asked for the next, a call finds its environment at rest, and starts another
        answer = call(function).answer
        if answer != [200, ["INVOKE"]]:
            break
    assert answer == [200, ["INVOKE", "INVOKE"]]
    replaced(aws, function)
    text = log(function, "asked to leave")
    assert re.search(r"EXTENSION\tName: inner\tState: (Registered|Ready)\tEvents: \[INVOKE\]", text)


#: Reports an error at `{path}`.
FAILING = """ask("2020-01-01/extension/{path}", b"", Lambda_Extension_Identifier=me, Lambda_Extension_Function_Error_Type="My.Error")
"""


@pytest.mark.parametrize(("path", "kind"), [("init/error", "Extension.InitError"), ("exit/error", "Extension.ExitError")])
def test_an_internal_extension_that_fails_while_the_function_loads_fails_its_first_call(deploy, call, log, path, kind):
    registering = INTERNAL.split("told = []")[0]
    source = f"{registering}{FAILING.format(path=path)}time.sleep(60)\ndef handler(event, context): return 1"
    function = deploy(source, Timeout=30)
    for _ in range(2):
        called = call(function)
        assert (called.error, called.answer["errorType"]) == ("Unhandled", kind)
        assert called.answer["errorMessage"] == f"RequestId: {called.id} Error: extension inner: My.Error"
    state = kind.removeprefix("Extension.")
    log(function, rf"EXTENSION\tName: inner\tState: {state}\tEvents: \[INVOKE\]\tError Type: My.Error")


def test_an_internal_extension_that_fails_in_a_call_fails_it(deploy, call):
    failing = FAILING.format(path="exit/error").strip()
    function = deploy(
        f"{INTERNAL}\ndef handler(event, context):\n    if event == 'fail':\n        {failing}\n        time.sleep(60)\n    return 1",
        Timeout=30,
    )
    assert call(function).answer == 1
    called = call(function, "fail")
    assert called.answer == {
        "errorType": "Extension.ExitError",
        "errorMessage": f"RequestId: {called.id} Error: extension inner: My.Error",
    }
    assert call(function).answer == 1


@pytest.mark.parametrize("where", ["inside", "beside"])
def test_an_extension_that_fails_between_calls_fails_none_and_its_environment_is_no_more(deploy, layered, call, log, where):
    failing = f"threading.Timer(0.2, lambda: {FAILING.format(path='exit/error').strip()}).start()"
    counting = "count = 0\ndef handler(event, context):\n    global count\n    count += 1\n{}    return count"
    if where == "inside":
        function = deploy(INTERNAL + counting.format(f"    {failing}\n"))
    else:
        beside = extension(f'if event["eventType"] == "INVOKE": {failing.replace("=me,", "=ME,")}')
        function = layered(counting.format(""), {"inner": beside})
    assert call(function).answer == 1
    log(function, r"RequestId:  Error: extension inner: My.Error\nExtension.ExitError")
    assert call(function).answer == 1


# Who asks for what it may not -------------------------------------------------------------------------------------------


def test_questions_out_of_order_are_refused_as_documented(deploy, call):
    function = deploy(
        ASKING
        + """
NEXT, INIT = "2020-01-01/extension/event/next", "2020-01-01/extension/init/error"
def kind(asked):
    return [asked[0], json.loads(asked[2])["errorType"]]
NOBODY = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
found = {
    "nameless": kind(ask("2020-01-01/extension/register", b'{"events": []}')),
    "garbage": kind(ask("2020-01-01/extension/register", b"\\xff{", Lambda_Extension_Name="x")),
    "deep": kind(ask("2020-01-01/extension/register", b"[" * 60000, Lambda_Extension_Name="x")),
    "strange": kind(register("x", "DANCE")),
    "shutdown": kind(register("x", "SHUTDOWN")),
    "long": kind(register("x" * 1000, "INVOKE")),
    "large": kind(ask("2020-01-01/extension/register", b"x" * 100000, Lambda_Extension_Name="x")),
    "no id": kind(ask(NEXT)),
    "bad id": kind(ask(NEXT, Lambda_Extension_Identifier="me")),
    "nobody": kind(ask(NEXT, Lambda_Extension_Identifier=NOBODY)),
}
me = register("one")[1]["Lambda-Extension-Identifier"]
found["twice"] = kind(register("one", "INVOKE"))
found["typeless"] = kind(ask(INIT, b"", Lambda_Extension_Identifier=me))
threading.Thread(target=lambda: following(me), daemon=True).start()
time.sleep(0.3)
found["two questions"] = kind(ask(NEXT, Lambda_Extension_Identifier=me))
found["late error"] = kind(ask(INIT, b"", Lambda_Extension_Identifier=me, Lambda_Extension_Function_Error_Type="E.F"))
found["many"] = [register("e%d" % number)[0] for number in range(11)]
found["elsewhere"] = ask("2020-01-01/extension/other", Lambda_Extension_Identifier=me)[0]
def handler(event, context):
    found["late"] = kind(register("late", "INVOKE"))
    found["late telemetry"] = kind(subscribe(me, 8080))
    return found
""",
        Timeout=2,
    )
    assert call(function).answer == {
        "nameless": [403, "Extension.InvalidExtensionName"],
        "garbage": [403, "InvalidRequestFormat"],
        "deep": [403, "InvalidRequestFormat"],
        "strange": [403, "Extension.InvalidEventType"],
        "shutdown": [403, "Extension.InvalidEventType"],
        "long": [403, "Extension.InvalidExtensionName"],
        "large": [413, "RequestEntityTooLarge"],
        "no id": [403, "Extension.MissingExtensionIdentifier"],
        "bad id": [403, "Extension.InvalidExtensionIdentifier"],
        "nobody": [403, "Extension.UnknownExtensionIdentifier"],
        "twice": [403, "Extension.InvalidExtensionState"],
        "typeless": [403, "Extension.MissingHeader"],
        "two questions": [403, "Extension.InvalidExtensionState"],
        "late error": [403, "Extension.InvalidExtensionState"],
        "many": [200] * 9 + [403] * 2,
        "elsewhere": 404,
        "late": [403, "Extension.RegistrationClosed"],
        "late telemetry": [403, "Telemetry.SubscriptionClosed"],
    }


def test_an_extension_reaches_nothing_that_administers_the_node(layered, call):
    trying = """
found = {path: ask(path)[0] for path in ("ondol/v1/functions", "ondol/v1/node", "2015-03-31/functions/", "metrics", "console")}
open("/tmp/found", "w").write(json.dumps(found))
"""
    function = layered(
        "def handler(event, context): return open('/tmp/found').read()", {"curious": extension(loading=trying.strip())}
    )
    found = json.loads(call(function).answer)
    assert set(found.values()) <= {403, 404}, found


# Telemetry --------------------------------------------------------------------------------------------------------------


def test_telemetry_is_delivered_from_the_beginning(layered, call, telling, log):
    function = layered(
        TELLING, {"reader": extension('print("mine")', loading=RECEIVER.strip() + "\nprint(subscribe(ME, 8080)[::2])")}
    )
    call(function, {})
    told = telling(function, "platform.report")
    kinds = [each["type"] for each in told]
    assert kinds[0] == "platform.initStart"
    order = ["platform.initStart", "platform.initRuntimeDone", "platform.extension", "platform.initReport", "platform.start",
             "function", "platform.runtimeDone", "platform.report"]  # fmt: skip
    assert [kind for kind in kinds if kind in order][: len(order)] == order
    by_kind = {each["type"]: each["record"] for each in reversed(told)}
    subscribed = {"name": "reader", "state": "Subscribed", "types": ["platform", "function", "extension"]}
    assert by_kind["platform.telemetrySubscription"] == subscribed
    assert by_kind["platform.start"]["requestId"] == by_kind["platform.runtimeDone"]["requestId"]
    assert by_kind["platform.runtimeDone"]["status"] == "success"
    assert by_kind["platform.runtimeDone"]["metrics"]["producedBytes"] == 4
    assert by_kind["platform.report"]["metrics"]["memorySizeMB"] == 128
    assert by_kind["platform.extension"] == {"name": "reader", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    assert by_kind["function"].startswith("called {")
    assert "mine" in {each["record"].strip() for each in told if each["type"] == "extension"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"]) for each in told)
    text = log(function, "TELEMETRY")
    assert "TELEMETRY\tName: reader\tState: Subscribed\tTypes: [Platform, Function, Extension]" in text
    assert "(200, b'\"OK\"')" in text


def test_the_logs_api_tells_what_it_told(layered, call, telling):
    subscribing = (
        RECEIVER.strip()
        + """
subscribe(ME, 8080, "2020-08-15/logs", schemaVersion="2021-03-18", types=["platform", "function"])"""
    )
    function = layered(TELLING, {"reader": extension(loading=subscribing)})
    call(function, {})
    told = telling(function, "platform.report")
    by_kind = {each["type"]: each["record"] for each in reversed(told)}
    assert set(by_kind) == {
        "platform.logsSubscription", "platform.extension", "platform.start", "platform.runtimeDone", "platform.end",
        "platform.report", "function",
    }  # fmt: skip
    assert by_kind["platform.runtimeDone"] == {"requestId": by_kind["platform.start"]["requestId"], "status": "success"}
    assert by_kind["platform.end"] == {"requestId": by_kind["platform.start"]["requestId"]}


@pytest.mark.parametrize("what", ["runtime", "extension"])
def test_the_logs_api_is_told_of_faults(layered, call, telling, what):
    subscribing = (
        RECEIVER.strip()
        + """
subscribe(ME, 8080, "2020-08-15/logs", schemaVersion="2021-03-18", types=["platform"])"""
    )
    source = TELLING.replace("    for _", '    if event.get("die"): RUNTIME\n    for _').replace(
        "RUNTIME", "os._exit(3)" if what == "runtime" else 'open("/tmp/die", "w").close(); time.sleep(60)'
    )
    dying = """def die():
    while not os.path.exists("/tmp/die"):
        time.sleep(0.05)
    os.remove("/tmp/die")
    os._exit(3)
threading.Thread(target=die, daemon=True).start()
"""
    function = layered(source, {"reader": extension(loading=subscribing), "weak": extension(loading=dying.strip())}, Timeout=30)
    died = call(function, {"die": True})
    told = telling(function, "platform.fault")
    kind, text = {
        "runtime": ("Runtime.ExitError", "Runtime exited with error: exit status 3"), "extension": ("Extension.Crash", "exit status 3")
    }[what]  # fmt: skip
    assert died.answer["errorType"] == kind
    assert [each["record"] for each in told if each["type"] == "platform.fault"] == [
        f"RequestId: {died.id} Error: {text}\n{kind}\n"
    ]
    assert {"requestId": died.id, "status": "error"} in [
        each["record"] for each in told if each["type"] == "platform.runtimeDone"
    ]


def test_with_json_logs_the_platforms_lines_are_events_and_records_are_objects(layered, call, telling, log):
    reader = extension(loading=RECEIVER.strip() + "\nsubscribe(ME, 8080)")
    source = TELLING.replace('print("called", event)', 'print(json.dumps({"level": "INFO", "called": 1}))')
    function = layered(source, {"reader": reader}, LoggingConfig={"LogFormat": "JSON"})
    call(function, {})
    told = telling(function, "platform.report")
    assert {"level": "INFO", "called": 1} in [each["record"] for each in told if each["type"] == "function"]
    lines = [json.loads(line) for line in log(function, "platform.extension").splitlines() if line.startswith("{")]
    by_kind = {line.get("type"): line.get("record") for line in lines}
    assert by_kind["platform.extension"] == {"name": "reader", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    assert by_kind["platform.telemetrySubscription"]["state"] == "Subscribed"


def test_lines_go_by_tcp_as_well(layered, call, telling):
    receiving = """
import socket
listener = socket.create_server(("127.0.0.1", 8081))
def receive():
    while True:
        connection, _ = listener.accept()
        for line in connection.makefile():
            open("/tmp/telemetry", "a").write(line)
threading.Thread(target=receive, daemon=True).start()
subscribe(ME, 8081, destination={"protocol": "TCP", "URI": "tcp://sandbox:8081"})
"""
    function = layered(TELLING, {"reader": extension(loading=receiving.strip())})
    call(function, {})
    told = telling(function, "platform.report")
    assert {"platform.start", "function", "platform.report"} <= {each["type"] for each in told}


def test_a_receiver_that_takes_nothing_holds_nobody_up_and_is_told_what_it_lost(layered, call, telling):
    deaf = RECEIVER.strip().replace(
        "        self.send_response(200)",
        """
        refused = "refuse" in repr(batch) and not os.path.exists("/tmp/open")
        if refused:
            os.rename("/tmp/telemetry", "/tmp/refused")
        self.send_response(500 if refused else 200)""",
    )
    source = TELLING.replace(
        '    print("called", event)',
        """
    if event.get("fill"):
        for _ in range(200):
            print("refuse" + "x" * 8000)
    if event.get("open"):
        open("/tmp/open", "w").close()""",
    )
    function = layered(source, {"deaf": extension(loading=deaf + "\nsubscribe(ME, 8080)")}, Timeout=30, MemorySize=256)
    assert [call(function, {"fill": True}).error for _ in range(3)] == [None] * 3
    told = telling(function, "platform.logsDropped", open=True)
    (dropped, *_) = [each["record"] for each in told if each["type"] == "platform.logsDropped"]
    assert dropped["droppedRecords"] > 0
    assert dropped["droppedBytes"] > 100_000


def test_subscriptions_that_ask_for_what_there_is_not_are_told_all_of_it(deploy, call):
    function = deploy(
        ASKING
        + """
me = register("one", "INVOKE")[1]["Lambda-Extension-Identifier"]
def wrong(**more):
    status, _, body = subscribe(me, 8080, **more)
    return [status, json.loads(body)["errorMessage"]] if status != 200 else status
found = [
    wrong(types=[], destination={"protocol": "HTTP", "URI": "http://sandbox.localdomain"}),
    wrong(destination={"protocol": "HTTP", "URI": "http://169.254.169.254:80/"}),
    wrong(schemaVersion="1999-01-01"),
    wrong(buffering={"maxItems": 1}),
    wrong(),
]
threading.Thread(target=lambda: following(me), daemon=True).start()
def handler(event, context):
    return found
""",
        Timeout=1,
    )
    assert call(function).answer == [
        [400, "types should not be empty; URI port is not provided"],
        [400, "URI should begin with http://sandbox.localdomain"],
        [400, "schemaVersion should be one of 2022-07-01, 2022-12-13, 2025-01-29"],
        [400, "buffering.maxItems should be an integer from 1000 to 10000"],
        200,
    ]
