"""A node of an ordinary user's: everything through one user namespace, and the same promises."""

from __future__ import annotations

import json
import os

import pytest

from ondol.testing.keepers import USER
from ondol.testing.node import running_node, zipped

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="whoever is no root has a node of this kind in every other test"),
]

WAIT = {"Delay": 0.05, "MaxAttempts": 400}
SOURCE = """
import os, time
def handler(event, context):
    if event == "die":
        os.kill(os.getpid(), 9)
    if event == "sleep":
        time.sleep(60)
    return [os.getuid(), sorted(p for p in os.listdir("/proc") if p.isdigit()) == ["1", str(os.getpid())], os.path.exists("/etc/shadow")]
"""


@pytest.fixture(scope="module")
def theirs(possible):
    with running_node(user=USER) as node:
        aws = node.client("lambda")
        aws.create_function(
            FunctionName="f", Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Timeout=2, Code={"ZipFile": zipped({"app.py": SOURCE})},
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName="f", WaiterConfig=WAIT)
        yield node


def call(node, event):
    return json.loads(node.client("lambda").invoke(FunctionName="f", Payload=json.dumps(event))["Payload"].read())


def test_a_function_runs_in_a_sandbox_of_its_own(theirs):
    uid, alone, shadow = call(theirs, None)
    assert (uid != 0, alone, shadow) == (True, True, False)
    assert {os.stat(f"/proc/{pid}").st_uid for pid in theirs.processes()} <= {USER, 0}


@pytest.mark.parametrize(("event", "kind"), [("die", "Runtime.ExitError"), ("sleep", "Sandbox.Timedout")])
def test_ways_to_fail_are_told_and_the_next_call_works(theirs, event, kind):
    assert call(theirs, event)["errorType"] == kind
    assert call(theirs, None)[1] is True


def test_a_web_function_answers(theirs):
    theirs.put_web(
        "site",
        {"app.py": "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"},
        "app:app",
    )
    assert theirs.http("GET", "/fn/site/").data == b"hello"
