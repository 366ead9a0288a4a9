"""Several calls in one environment, each in a process of its own or all in one of a custom runtime's, on a whole node."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from ondol.keeper import probe
from ondol.runtimes.interpreters import Interpreters
from ondol.testing import capacity
from ondol.testing.calls import Called
from ondol.testing.node import executable, running_node, zipped
from tests.e2e.test_runtime_clients import files_of, python

FOUND = Interpreters.discover()
NODEJS = FOUND.all("nodejs")
#: The service takes Python from 3.13 on; where there is none, the nearest runs it.
RUNTIME = "python3.13"
PUBLISHED = "$LATEST.PUBLISHED"
limits_memory = pytest.mark.skipif(
    not all(found.ok for found in probe.probe() if "memory" in found.what), reason="no control group for memory"
)
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

#: Calls meet: each waits until so many are there.
MEETS = """
import os, time, uuid
here = str(uuid.uuid4())
def handler(event, context):
    kind = event.get("kind", "meet")
    if kind == "meet":
        open(f"/tmp/{context.aws_request_id}", "w").close()
        print("arrived", context.aws_request_id)
        until = time.monotonic() + 20
        while len(os.listdir("/tmp")) < event["calls"] and time.monotonic() < until:
            time.sleep(0.01)
    if kind == "exit":
        os._exit(3)
    if kind == "endless":
        while True:
            time.sleep(0.01)
    if kind == "greedy":
        filled = bytearray(3 << 30)
        filled[::4096] = b"x" * len(filled[::4096])
    if kind == "sleep":
        time.sleep(event["seconds"])
    return {"process": here, "tmp": len(os.listdir("/tmp")), "most": os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY"),
            "began": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "version": context.function_version,
            "arn": context.invoked_function_arn, "code": os.path.getsize(__file__)}
"""
MEETS_NODE = """
const fs = require('fs'), here = require('crypto').randomUUID();
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
exports.handler = async (event, context) => {
  fs.writeFileSync('/tmp/' + context.awsRequestId, '');
  for (let n = 0; fs.readdirSync('/tmp').length < event.calls && n < 2000; n++) await later(10);
  return {process: here, tmp: fs.readdirSync('/tmp').length};
};
"""


@pytest.fixture(scope="module")
def node(possible):
    with running_node("--runtime-substitute", "nearest", "--memory-mib-max", "8192") as running:
        yield running


@pytest.fixture(scope="module")
def aws(node):
    client = node.client("lambda")
    capacity.provide(client)
    return client


@pytest.fixture
def attach(aws, name):
    """Deploys and publishes, without a number; the function's name."""
    made = []

    def attach(source=MEETS, calls=4, runtime=RUNTIME, file="app.py", code=b"", **settings):
        settings = {"Runtime": runtime, "Handler": "app.handler", **settings}
        made.append(capacity.attach(aws, name, code or zipped({file: source}), calls=calls, **settings))
        return name

    yield attach
    for each in made:
        aws.delete_function(FunctionName=each)


def until(see, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := see()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def call(aws, function, **event):
    response = aws.invoke(FunctionName=function, Payload=json.dumps(event))
    return response.get("FunctionError"), json.loads(response["Payload"].read())


def at_once(aws, function, *events):
    with ThreadPoolExecutor(len(events)) as threads:
        return list(threads.map(lambda event: call(aws, function, **event), events))


def met(aws, function, calls):
    """So many calls that met, each with its own end of the log."""
    with ThreadPoolExecutor(calls) as threads:
        called = list(threads.map(lambda _: Called(aws, function, {"calls": calls}), range(calls)))
    for each in called:
        assert not any(other.id in each.tail for other in called if other is not each), "another call's line"
    return called


def told(node):
    return json.loads(node.ondol("stats", "--json").stdout)["pool"]


def test_calls_meet_in_one_environment_each_in_a_process_of_its_own(aws, attach):
    function = attach(calls=4)
    answers = [answer for _, answer in at_once(aws, function, *[{"calls": 4}] * 4)]
    assert len({answer["process"] for answer in answers}) == 4
    assert {answer["tmp"] for answer in answers} == {4}, "they did not share a /tmp"
    assert {answer["most"] for answer in answers} == {"4"}
    assert {answer["began"] for answer in answers} == {"lambda-managed-instances"}
    again = [answer["process"] for _, answer in at_once(aws, function, *[{"calls": 8}] * 4)]
    assert set(again) == {answer["process"] for answer in answers}, "their processes were not kept"


@pytest.mark.skipif(not NODEJS, reason="there is no Node.js on this machine")
def test_it_is_so_in_node_too(aws, attach):
    function = attach(MEETS_NODE, calls=3, runtime="nodejs22.x", file="app.js")
    answers = [answer for _, answer in at_once(aws, function, *[{"calls": 3}] * 3)]
    assert len({answer["process"] for answer in answers}) == 3
    assert {answer["tmp"] for answer in answers} == {3}


def test_a_call_beyond_what_one_runs_gets_another_environment(aws, attach, node):
    function = attach(calls=2)
    answers = [answer for _, answer in at_once(aws, function, *[{"kind": "sleep", "seconds": 2}] * 3)]
    assert len({answer["process"] for answer in answers}) == 3
    assert told(node)["idle"] >= 2


def test_what_happens_to_one_call_does_not_happen_to_its_neighbours(aws, attach):
    function = attach(calls=4, Timeout=4)
    events = [{"kind": "endless"}, {"kind": "exit"}, {"kind": "sleep", "seconds": 2}, {"kind": "sleep", "seconds": 3.5}]
    (late, told_late), (gone, told_gone), *honest = at_once(aws, function, *events)
    assert (late, told_late["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert (gone, told_gone["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert "exit status 3" in told_gone["errorMessage"]
    assert [error for error, _ in honest] == [None, None]
    assert honest[0][1]["process"] != honest[1][1]["process"]
    _, after = call(aws, function, kind="meet", calls=0)
    assert after["tmp"] == 1, "the environment in which a call ran out of time was used again"


def test_an_environment_that_is_spent_goes_with_what_still_runs_in_it(aws, attach, node):
    function = attach(calls=2, Timeout=1)
    before = told(node)["memory_mib"]
    error, _ = call(aws, function, kind="endless")
    assert error == "Unhandled"
    until(lambda: (told(node)["stopping"], told(node)["memory_mib"]) == (0, before))


@limits_memory
def test_who_takes_all_the_memory_is_ended_and_said_so(aws, attach):
    function = attach(calls=2, Timeout=30)
    (error, answer), (fine, _) = at_once(aws, function, {"kind": "greedy"}, {"kind": "sleep", "seconds": 3})
    assert (error, answer["errorType"], fine) == ("Unhandled", "Runtime.OutOfMemory", None)


def test_each_call_has_its_own_report_and_its_lines_are_told_apart(aws, attach, node):
    function = attach(calls=3)
    called = met(aws, function, 3)
    assert all("arrived ID" in each.tail for each in called)
    logs = node.client("logs")

    def reported():
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", filterPattern='{ $.type = "platform.report" }')
        return {json.loads(event["message"])["record"]["requestId"] for event in events["events"]} == {
            each.id for each in called
        }

    until(reported)


def settled(aws, **which):
    until(lambda: aws.get_function_configuration(**which).get("LastUpdateStatus") == "Successful")


def test_what_is_published_without_a_number_runs_until_it_is_published_again(aws, attach):
    function = attach(calls=2)
    which = {"FunctionName": function, "Qualifier": PUBLISHED}
    settled(aws, **which)
    first = call(aws, function, calls=0)[1]
    assert (first["version"], first["code"]) == (PUBLISHED, len(MEETS))
    aws.update_function_code(FunctionName=function, ZipFile=zipped({"app.py": MEETS + "# second\n"}))
    settled(aws, FunctionName=function)
    assert call(aws, function, calls=0)[1]["process"] == first["process"], "an update of $LATEST changed what runs"
    aws.publish_version(FunctionName=function)
    assert call(aws, function, calls=0)[1]["code"] == len(MEETS), "a number changed what runs"
    answer = aws.invoke(FunctionName=f"{function}:1", Payload=b'{"calls": 0}')
    assert (answer["ExecutedVersion"], json.load(answer["Payload"])["code"]) == ("1", len(MEETS) + 9)
    aws.publish_version(FunctionName=function, PublishTo="LATEST_PUBLISHED")
    settled(aws, **which)
    aws.create_alias(FunctionName=function, Name="live", FunctionVersion=PUBLISHED)
    for qualifier in ("", f":{PUBLISHED}", ":live"):
        answer = aws.invoke(FunctionName=f"{function}{qualifier}", Payload=b'{"calls": 0}')
        told_of = json.load(answer["Payload"])
        assert (answer["ExecutedVersion"], told_of["version"], told_of["code"]) == (PUBLISHED, PUBLISHED, len(MEETS) + 9)
        assert told_of["arn"].endswith(f":function:{function}{qualifier}")


def test_what_is_not_published_does_not_run(aws, attach):
    function = attach(calls=2)
    aws.publish_version(FunctionName=function)
    with pytest.raises(ClientError) as caught:
        aws.invoke(FunctionName=function, Qualifier="$LATEST")
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    aws.delete_function(FunctionName=function, Qualifier=PUBLISHED)
    with pytest.raises(ClientError) as caught:
        aws.invoke(FunctionName=function)
    assert caught.value.response["Error"]["Code"] == "NoPublishedVersionException"
    with pytest.raises(ClientError) as caught:
        aws.invoke(FunctionName=function, Qualifier=PUBLISHED)
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert call(aws, f"{function}:1", calls=0)[1]["version"] == "1"


def test_the_least_stay_up_when_another_is_published_in_its_place(aws, attach, node):
    function = attach(calls=1)
    before = told(node)["idle"]
    which = {"FunctionName": function, "Qualifier": PUBLISHED}
    aws.put_function_scaling_config(**which, FunctionScalingConfig={"MinExecutionEnvironments": 1})
    until(lambda: told(node)["idle"] == before + 1)
    old = call(aws, function, calls=0)[1]["process"]
    aws.update_function_code(
        FunctionName=function, ZipFile=zipped({"app.py": MEETS + "#\n"}), Publish=True, PublishTo="LATEST_PUBLISHED"
    )
    settled(aws, **which)
    until(lambda: (told(node)["idle"], told(node)["stopping"]) == (before + 1, 0))
    answer = call(aws, function, calls=0)[1]
    assert (answer["code"], answer["process"] == old) == (len(MEETS) + 2, False)


def test_the_least_are_up_before_a_call_and_there_are_never_more_than_the_most(aws, attach, node):
    function = attach(calls=1)
    which = {"FunctionName": function, "Qualifier": PUBLISHED}
    before = told(node)["idle"]
    scaling = {"MinExecutionEnvironments": 1, "MaxExecutionEnvironments": 2}
    aws.put_function_scaling_config(**which, FunctionScalingConfig=scaling)
    until(lambda: told(node)["idle"] == before + 1)
    answers = [answer for _, answer in at_once(aws, function, *[{"kind": "sleep", "seconds": 0.5}] * 5)]
    assert len({answer["process"] for answer in answers}) == 2
    aws.put_function_scaling_config(
        **which, FunctionScalingConfig={"MinExecutionEnvironments": 0, "MaxExecutionEnvironments": 0}
    )
    with pytest.raises(ClientError) as caught:
        aws.invoke(FunctionName=function, Payload=b"{}")
    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"


# Custom runtimes: one process with several questions pending ------------------------------------------------------------------
#: As many threads as calls may run, each with a question of its own.
BOOTSTRAP = """#!{python}
import http.client, json, os, threading, time
address, most = os.environ["AWS_LAMBDA_RUNTIME_API"], int(os.environ["AWS_LAMBDA_MAX_CONCURRENCY"])
together, lock, began = set(), threading.Lock(), time.time()

def handle(invocation, event):
    kind = event.get("kind", "meet")
    with lock:
        together.add(invocation)
    if kind == "exit":
        os._exit(3)
    until = time.monotonic() + event.get("seconds", 20)
    met = 0
    while met < event.get("calls", 1000) and time.monotonic() < until:
        met = max(met, len(together))
        time.sleep(0.01)
    print(json.dumps({{"requestId": invocation, "met": met}}), flush=True)
    return {{"id": invocation, "process": os.getpid(), "began": began, "met": met, "most": most}}

def serve():
    connection = http.client.HTTPConnection(address)
    while True:
        connection.request("GET", "/2018-06-01/runtime/invocation/next")
        given = connection.getresponse()
        invocation, event = given.headers["Lambda-Runtime-Aws-Request-Id"], json.loads(given.read())
        answer = json.dumps(handle(invocation, event))
        connection.request("POST", f"/2018-06-01/runtime/invocation/{{invocation}}/response", answer)
        connection.getresponse().read()
        with lock:
            together.discard(invocation)

for _ in range(most - 1):
    threading.Thread(target=serve).start()
serve()
"""


@pytest.fixture
def bootstrap(attach):
    """Deploys a program that asks from several threads."""

    def bootstrap(calls, **settings):
        program = BOOTSTRAP.format(python=FOUND.all()[0].path)
        return attach(calls=calls, runtime="provided.al2023", code=executable({"bootstrap": program}), **settings)

    return bootstrap


def test_calls_meet_in_one_process_of_a_custom_runtime_that_asks_several_times(aws, bootstrap, node):
    function = bootstrap(calls=5)
    answers = [answer for _, answer in at_once(aws, function, *[{"calls": 5}] * 5)]
    assert ({answer["met"] for answer in answers}, {answer["most"] for answer in answers}) == ({5}, {5})
    assert len({answer["id"] for answer in answers}) == 5
    again = [answer for _, answer in at_once(aws, function, *[{"calls": 3}] * 3)]
    assert len({(answer["process"], answer["began"]) for answer in answers + again}) == 1, "there was more than one process"
    logs = node.client("logs")

    def told_apart():
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", filterPattern="{ $.met = 5 }")["events"]
        return {json.loads(event["message"])["requestId"] for event in events} == {answer["id"] for answer in answers}

    until(told_apart)


def test_the_tail_of_a_custom_runtimes_answer_has_the_lines_that_name_its_call(aws, bootstrap):
    function = bootstrap(calls=3)
    assert all('"met": 3' in each.tail for each in met(aws, function, 3))


def test_a_custom_runtimes_process_that_ends_ends_all_its_calls_and_the_next_has_another(aws, bootstrap):
    function = bootstrap(calls=3)
    answers = at_once(aws, function, {"seconds": 15}, {"seconds": 15}, {"kind": "exit"})
    for error, answer in answers:
        assert (error, answer["errorType"]) == ("Unhandled", "Runtime.ExitError")
        assert "exit status 3" in answer["errorMessage"]
    assert call(aws, function, calls=1)[1]["met"] == 1


def test_a_call_of_a_custom_runtime_that_is_out_of_time_leaves_its_neighbours(aws, bootstrap):
    function = bootstrap(calls=3, Timeout=3)
    first = call(aws, function, calls=1)[1]
    late, fine = at_once(aws, function, {"seconds": 30}, {"seconds": 1.5})
    assert (late[0], late[1]["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert (fine[0], fine[1]["began"]) == (None, first["began"])
    assert call(aws, function, calls=1)[1]["began"] != first["began"], "a spent environment was used again"


def test_awss_python_client_runs_as_many_processes_as_calls(aws, attach):
    files = {**files_of(python), "app.py": MEETS}
    function = attach(calls=3, runtime="provided.al2023", code=executable(files))
    answers = [answer for _, answer in at_once(aws, function, *[{"calls": 3}] * 3)]
    assert len({answer["process"] for answer in answers}) == 3
    assert {(answer["tmp"], answer["most"]) for answer in answers} == {(3, "3")}
