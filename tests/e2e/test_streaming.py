"""Answers that stream, on a whole node, with the clients that people use."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import urllib3

from ondol.cli.doctor import runtimes_here
from ondol.testing.leaks import roles

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

NODES = [name for name in runtimes_here() if name.startswith("nodejs")]

SOURCE = """
import os, time
def handler(event, context):
    how = event.get("rawPath", event.get("how", ""))
    if how == "early":
        raise KeyError("before the first byte")
    if how.startswith("/"):
        yield {"statusCode": 201, "headers": {"content-type": "text/event-stream", "x-mine": "1"}, "cookies": ["a=1"]}
    yield "first,"
    if "fail" in how:
        raise ValueError("in mid-stream")
    if "exit" in how:
        os._exit(7)
    if "slow" in how:
        time.sleep(60)
    for n in range(event.get("chunks", 0)):
        yield b"x" * 65_536
    yield b"last"
"""


def ask(aws, function, how="", **more):
    answer = aws.invoke_with_response_stream(FunctionName=function, Payload=json.dumps({"how": how, **more}), LogType="Tail")
    events = list(answer["EventStream"])
    chunks = b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1])
    complete = events[-1]["InvokeComplete"]
    return chunks, complete, base64.b64decode(complete["LogResult"]).decode()


def test_a_generator_answers_in_events_and_is_reported_at_its_end(node, aws, deploy):
    function = deploy(SOURCE)
    chunks, complete, log = ask(aws, function, chunks=64)
    assert chunks == b"first," + b"x" * 65_536 * 64 + b"last"
    assert complete.keys() == {"LogResult"}
    assert [line.split()[0] for line in log.splitlines()] == ["START", "END", "REPORT"]


def test_what_ends_an_answer_in_mid_stream_is_told_in_the_last_event(node, aws, deploy):
    function = deploy(SOURCE, Timeout=2)
    chunks, complete, log = ask(aws, function, "fail")
    assert (chunks, complete["ErrorCode"]) == (b"first,", "ValueError")
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "in mid-stream"
    assert "[ERROR] ValueError: in mid-stream" in log
    chunks, complete, _ = ask(aws, function, "early")
    assert (chunks, complete["ErrorCode"]) == (b"", "Unhandled")
    assert json.loads(complete["ErrorDetails"])["errorType"] == "KeyError"
    chunks, complete, log = ask(aws, function, "exit")
    assert (chunks, complete["ErrorCode"]) == (b"first,", "Runtime.ExitError")
    assert "Runtime exited with error: exit status 7" in json.loads(complete["ErrorDetails"])["errorMessage"]
    assert "Status: error\tError Type: Runtime.ExitError" in log
    chunks, complete, log = ask(aws, function, "slow")
    assert (chunks, complete["ErrorCode"]) == (b"first,", "Sandbox.Timedout")
    assert "Task timed out after 2.00 seconds" in json.loads(complete["ErrorDetails"])["errorMessage"]
    assert "Status: timeout" in log
    assert ask(aws, function)[0] == b"first,last"


def fronts_peak_kib(node):
    """The most memory that the node's fronts had since they started, added up."""
    fronts = [Path(f"/proc/{pid}/status").read_text() for pid in roles(node)["front"]]
    return sum(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) for status in fronts)


def test_a_large_stream_leaves_no_trace_in_the_fronts_memory(node, aws, deploy):
    function = deploy(SOURCE, Timeout=60)
    ask(aws, function, chunks=64)
    before = fronts_peak_kib(node)
    answer = aws.invoke_with_response_stream(FunctionName=function, Payload=json.dumps({"chunks": 1_000}))
    size = sum(len(event["PayloadChunk"]["Payload"]) for event in answer["EventStream"] if "PayloadChunk" in event)
    assert size > 65_536_000
    assert fronts_peak_kib(node) - before < 16_000


def test_where_an_answer_is_wanted_whole_a_generator_is_none(node, aws, deploy):
    function = deploy(SOURCE)
    answer = aws.invoke(FunctionName=function, Payload=b"{}")
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "Runtime.MarshalError"


@pytest.fixture
def url(node, aws, deploy):
    """A function URL that streams, in its form with a path."""
    function = deploy(SOURCE, Timeout=2)
    made = aws.create_function_url_config(FunctionName=function, AuthType="NONE", InvokeMode="RESPONSE_STREAM")["FunctionUrl"]
    aws.add_permission(
        FunctionName=function, StatementId="public", Action="lambda:InvokeFunctionUrl", Principal="*",
        FunctionUrlAuthType="NONE",
    )  # fmt: skip
    return f"{node.endpoint}/lambda-url/{made.split('/')[2].split('.')[0]}"


def test_a_function_url_streams_behind_the_head_that_the_function_gave(url):
    answer = urllib3.request("GET", f"{url}/")
    assert (answer.status, answer.data) == (201, b"first,last")
    assert (answer.headers["content-type"], answer.headers["x-mine"]) == ("text/event-stream", "1")
    assert answer.headers["set-cookie"] == "a=1"
    assert urllib3.request("GET", f"{url}/fail").data == b"first,"
    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.request("GET", f"{url}/slow", retries=False)


def test_curl_sees_the_first_bytes_while_the_function_still_runs(url):
    if shutil.which("curl") is None:
        assert not os.environ.get("CI"), "CI must have curl"
        pytest.skip("curl is not installed")
    with subprocess.Popen(["curl", "-sN", f"{url}/slow"], stdout=subprocess.PIPE) as curl:
        assert curl.stdout.read(6) == b"first,"
        assert curl.wait(60) == 18  # its time ran out: less came than was promised


def test_a_client_that_goes_away_ends_nothing(node, aws, deploy):
    function = deploy(SOURCE, Timeout=60)
    answer = aws.invoke_with_response_stream(FunctionName=function, Payload=json.dumps({"chunks": 800}))
    stream = answer["EventStream"]
    assert next(iter(stream))["PayloadChunk"]["Payload"] == b"first,"
    stream.close()
    logs, found = node.client("logs"), []
    for _ in range(400):
        groups = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
        found = [event["message"] for event in groups if event["message"].startswith("REPORT")]
        if found:
            break
        time.sleep(0.05)
    assert found and "Status:" not in found[0]


def test_an_asynchronous_call_of_a_function_that_cannot_answer_whole_fails_as_such(node, aws, deploy):
    function = deploy("def handler(event, context): yield 1")
    aws.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=0)
    aws.invoke(FunctionName=function, InvocationType="Event")
    logs, found = node.client("logs"), ""
    for _ in range(400):
        found = "".join(event["message"] for event in logs.filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"])
        if "REPORT" in found:
            break
        time.sleep(0.05)
    assert "Runtime.MarshalError" in found


NODE = """
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  const head = { statusCode: 202, headers: { "x-mine": "1" }, cookies: ["k=v"] };
  stream = awslambda.HttpResponseStream.from(stream, head);
  stream.write("first,");
  if (event.rawPath === "/fail") throw new Error("in mid-stream");
  stream.write("last");
  stream.end();
});
"""


@pytest.mark.skipif(not NODES, reason="no Node.js is installed")
def test_a_node_js_function_streams_to_its_url_as_on_aws(node, aws, deploy):
    function = deploy({"index.mjs": NODE}, handler="index.handler", runtime=(NODES or [""])[-1])
    made = aws.create_function_url_config(FunctionName=function, AuthType="NONE", InvokeMode="RESPONSE_STREAM")["FunctionUrl"]
    aws.add_permission(
        FunctionName=function, StatementId="public", Action="lambda:InvokeFunctionUrl", Principal="*",
        FunctionUrlAuthType="NONE",
    )  # fmt: skip
    url = f"{node.endpoint}/lambda-url/{made.split('/')[2].split('.')[0]}"
    answer = urllib3.request("GET", f"{url}/")
    assert (answer.status, answer.data) == (202, b"first,last")
    assert (answer.headers["x-mine"], answer.headers["set-cookie"]) == ("1", "k=v")
    assert urllib3.request("GET", f"{url}/fail").data == b"first,"
    *_, complete = ask(aws, function, rawPath="/fail")[:2]
    assert (complete["ErrorCode"], json.loads(complete["ErrorDetails"])["errorMessage"]) == ("Error", "in mid-stream")
