"""Extensions beside several calls in one environment: told of the end only, and of each call by telemetry, on a whole node."""

# ruff: noqa: F401, F811  (fixtures of other modules are found by their names)

from __future__ import annotations

import json

import pytest

from ondol.testing.node import executable
from tests.e2e.test_extensions import ASKING, extension, log
from tests.e2e.test_managed import BOOTSTRAP, FOUND, at_once, attach, aws, call, node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

#: Calls meet, and then do as each was told.
MEETS = """
import logging, os, time
def handler(event, context):
    logging.warning("arrived %s", context.aws_request_id)
    open(f"/tmp/{context.aws_request_id}", "w").close()
    until = time.monotonic() + 20
    while len(os.listdir("/tmp")) < event["calls"] and time.monotonic() < until:
        time.sleep(0.01)
    if event.get("kind") == "raise":
        raise ValueError("no")
    if event.get("kind") == "exit":
        os._exit(3)
    if event.get("kind") == "endless":
        time.sleep(600)
    return os.getpid()
"""
#: Writes each event of telemetry to the log, where the test finds it.
TELLS = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        for event in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            print("told " + json.dumps(event), flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
server = HTTPServer(("127.0.0.1", 8080), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
subscribe(ME, 8080, types=["platform", "function"], schemaVersion="2025-01-29")
"""
LAST = '"SHUTDOWN"'


@pytest.fixture
def beside(aws, attach, name):
    """Deploys a function for some calls at a time, with an extension in a layer."""

    def beside(program, calls, **settings):
        content = {"ZipFile": executable({"extensions/watch": program})}
        layer = aws.publish_layer_version(LayerName=name, Content=content)["LayerVersionArn"]
        return attach(**{"source": MEETS, "calls": calls, "Layers": [layer], **settings})

    return beside


def written(text, word):
    """What stands behind a word in the log, each time."""
    return [line.partition(word)[2] for line in text.splitlines() if line.startswith(word)]


def test_one_extension_is_there_for_all_calls_of_an_environment_and_is_told_of_its_end(beside, aws, log):
    program = extension('print("told", json.dumps(event), flush=True)', loading='print("began")', events=LAST)
    function = beside(program, calls=3, Timeout=5)
    answers = at_once(aws, function, *[{"calls": 3}] * 3)
    assert (len({process for _, process in answers}), {error for error, _ in answers}) == (3, {None})
    call(aws, function, calls=0, kind="endless")  # whose environment ends with it
    text = log(function, "told ")
    assert len(written(text, "began")) == 1
    [event] = [json.loads(event) for event in written(text, "told ")]
    assert (event["eventType"], event["shutdownReason"]) == ("SHUTDOWN", "spindown")


@pytest.mark.parametrize("calls", [1, 2])
def test_who_registers_for_calls_is_refused_as_awss_is(beside, aws, log, calls):
    asks = 'status, _, body = register(NAME, "INVOKE", "SHUTDOWN")\nprint("refused", status, body.decode(), flush=True)'
    function = beside(extension(before=asks, events=LAST), calls=calls)
    assert call(aws, function, calls=0)[0] is None
    [said] = written(log(function, "refused "), "refused ")
    status, _, body = said.partition(" ")
    assert status == "403"
    assert json.loads(body) == {"errorType": "Extension.InvalidEventType", "errorMessage": "INVOKE: ErrorInvalidEventType"}


def test_an_internal_extension_registers_once_and_for_no_event(attach, aws):
    source = f"""{ASKING}
SAID = [register("inside", "INVOKE"), register("inside")]
{MEETS.replace("return os.getpid()", "return [(status, json.loads(body)) for status, _, body in SAID]")}"""
    function = attach(source, calls=2)
    answers = [answer for _, answer in at_once(aws, function, *[{"calls": 2}] * 2)]
    for (refused, why), _ in answers:
        assert (refused, why["errorType"]) == (403, "Extension.InvalidEventType")
        assert why["errorMessage"] == "No events allowed for internal extensions"
    assert sorted(status for _, (status, _) in answers) == [200, 403]


def test_telemetry_tells_of_each_call_by_its_own_id(beside, aws, log):
    function = beside(extension(loading=TELLS, events=LAST), calls=4, Timeout=8)
    kinds = ["", "raise", "exit", "endless"]
    at_once(aws, function, *({"calls": 4, "kind": kind} for kind in kinds))
    text = log(function, r"told .*\"status\": \"timeout\"")
    events = [json.loads(event) for event in written(text, "told ")]
    of = {kind: [event["record"] for event in events if event["type"] == kind] for kind in {event["type"] for event in events}}
    ids = [record["requestId"] for record in of["platform.start"]]
    assert len(set(ids)) == len(ids) == 4
    ends = {record["requestId"]: (record["status"], record.get("errorType")) for record in of["platform.report"]}
    assert set(ends) == set(ids)
    assert sorted(ends.values(), key=str) == [
        ("error", "Runtime.ExitError"), ("error", None), ("success", None), ("timeout", None),
    ]  # fmt: skip
    assert all(set(record["metrics"]) == {"durationMs"} for record in of["platform.report"])
    assert "platform.runtimeDone" not in of
    assert len(of["platform.initStart"]) == len(of["platform.initReport"]) == 1
    arrived = [record for record in of["function"] if isinstance(record, dict) and "arrived" in record.get("message", "")]
    assert sorted(record["requestId"] for record in arrived) == sorted(ids)
    assert all(record["message"] == f"arrived {record['requestId']}" for record in arrived), "lines were mixed up"


def test_it_is_so_in_one_process_that_runs_them_all(beside, aws, log):
    bootstrap = BOOTSTRAP.format(python=FOUND.all()[0].path)
    program = extension('print("ended", event["eventType"], flush=True)', loading=TELLS, events=LAST)
    function = beside(program, calls=3, runtime="provided.al2023", code=executable({"bootstrap": bootstrap}), Timeout=8)
    answers = [answer for _, answer in at_once(aws, function, *[{"calls": 3}] * 3)]
    assert {answer["met"] for answer in answers} == {3}
    text = log(function, r"(?s)(told .*platform\.report.*){3}")
    events = [json.loads(event) for event in written(text, "told ")]
    for kind in ("platform.start", "platform.report"):
        assert sorted(event["record"]["requestId"] for event in events if event["type"] == kind) == sorted(
            answer["id"] for answer in answers
        )
    call(aws, function, seconds=600)
    assert written(log(function, "ended "), "ended ") == ["SHUTDOWN"]


def test_only_the_newest_telemetry_is_there(beside, aws, log):
    asks = """
for path, schema in (("2022-07-01/telemetry", "2022-12-13"), ("2020-08-15/logs", "2021-03-18")):
    status, _, body = subscribe(ME, 8080, path, types=["platform"], schemaVersion=schema)
    print("refused", status, body.decode(), flush=True)
"""
    function = beside(extension(loading=asks, events=LAST), calls=2)
    call(aws, function, calls=0)
    first, second = written(log(function, r"refused 404"), "refused ")
    assert first.startswith("400 ")
    assert json.loads(first[4:])["errorMessage"] == "schemaVersion should be one of 2025-01-29"
    assert second == "404 404 page not found"


def test_an_extension_that_ends_fails_all_calls_and_the_next_has_another_environment(beside, aws):
    ends = """
def end():
    while len(os.listdir("/tmp")) < 3:
        time.sleep(0.01)
    os._exit(3)
threading.Thread(target=end, daemon=True).start()
"""
    function = beside(extension(loading=ends, events=LAST), calls=3, Timeout=30)
    for error, answer in at_once(aws, function, *[{"calls": 3, "kind": "endless"}] * 3):
        assert (error, answer["errorType"]) == ("Unhandled", "Extension.Crash")
        assert "exit status 3" in answer["errorMessage"]
    assert call(aws, function, calls=0)[0] is None


@pytest.mark.parametrize(("does", "told"), [("os._exit(4)", "Extension.Crash"), ("time.sleep(600)", "Sandbox.Timedout")])
def test_an_extension_that_never_registers_holds_no_call_for_ever(beside, aws, does, told):
    function = beside(extension(before=does, events=LAST), calls=2, Timeout=3)
    for error, answer in at_once(aws, function, {"calls": 0}, {"calls": 0}):
        assert (error, answer["errorType"]) == ("Unhandled", told)
