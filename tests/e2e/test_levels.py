"""Handlers at every level of isolation that this machine gives, and functions that ask for another than their node's."""

from __future__ import annotations

import base64
import json
import os
from concurrent.futures import ProcessPoolExecutor

import pytest
from botocore.exceptions import ClientError

from ondol.launcher import probe
from ondol.testing import node as nodes
from ondol.testing.node import executable, running_node, zipped
from ondol.testing.packages import need
from tests.e2e.test_runtime_api import bootstrap

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

USER = 12345
PACKAGES = {"bwrap": ("bubblewrap", "bwrap"), "crun": ("crun", "crun"), "gvisor": ("runsc", "runsc")}
HANDLER = """
import json, os, sys, time
calls = 0

def handler(event, context):
    global calls
    calls += 1
    print("said", event["do"])
    where = os.environ.get("TMPDIR", "/tmp") + "/kept"
    if event["do"] == "raise":
        raise ValueError("as asked")
    if event["do"] == "exit":
        os._exit(3)
    if event["do"] == "sleep":
        time.sleep(60)
    if event["do"] == "grow":
        held = []
        while True:
            held.append(bytearray(1 << 20))
            held[-1][::4096] = bytes(256)
    if event["do"] == "who":
        import boto3
        devices = sorted(line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:])
        who = boto3.client("sts").get_caller_identity()["Arn"]
        return {"who": who, "where": os.environ["AWS_ENDPOINT_URL"], "devices": devices}
    if event["do"] == "write":
        open(where, "w").write("x" * 1000)
    kept = os.path.getsize(where) if os.path.exists(where) else None
    root = os.environ["LAMBDA_TASK_ROOT"]
    return {"event": event, "calls": calls, "kept": kept, "kernel": os.uname().release, "own": __file__ == root + "/app.py"}
"""


def needed(level):
    """Skips where it cannot be had; what is missing of packages is installed."""
    if level in PACKAGES:
        package, program = PACKAGES[level]
        need(package, program=program)
    if level == "sandbox":
        reason = nodes.why_not()
    else:
        found = probe.find([level])[level]
        reason = "" if found.ok else found.detail
    if reason and not os.environ.get("CI"):
        pytest.skip(reason)
    assert not reason


@pytest.fixture(scope="module", params=["process", "process-user", "bwrap", "crun", "gvisor"])
def leveled(request):
    """A node of this level with one function, and its level."""
    level, _, user = request.param.partition("-")
    needed(level)
    if user and os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    network = "host" if level == "process" else "none"
    with running_node("--isolation", level, "--network", network, user=USER if user else None) as node:
        make(node, "f")
        yield node, level


def make(node, name, **settings):
    aws = node.client()
    aws.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": zipped({"app.py": HANDLER})}, **{"Timeout": 3, **settings},
    )  # fmt: skip
    wait(node, name)


def wait(node, name):
    for waiter in ("function_active_v2", "function_updated_v2"):
        node.client().get_waiter(waiter).wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})


def call(node, do, name="f"):
    """(error or None, answer, the log's tail)."""
    response = node.client().invoke(FunctionName=name, Payload=json.dumps({"do": do}), LogType="Tail")
    tail = base64.b64decode(response["LogResult"]).decode()
    return response.get("FunctionError"), json.loads(response["Payload"].read()), tail


def test_a_handler_gets_its_event_and_stays_warm(leveled):
    node, level = leveled
    first, second = call(node, "echo"), call(node, "echo")
    assert first[0] is None, first
    assert second[1]["event"] == {"do": "echo"}
    assert second[1]["calls"] == first[1]["calls"] + 1
    assert second[1]["own"]
    assert (second[1]["kernel"] != os.uname().release) == (level == "gvisor")


def test_what_it_says_is_in_its_log(leveled):
    node, _ = leveled
    _, _, tail = call(node, "echo")
    begun, said, ended = (tail.index(text) for text in ("START RequestId", "said echo", "END RequestId"))
    assert begun < said < ended


def test_its_error_is_its_own(leveled):
    node, _ = leveled
    error, answer, _ = call(node, "raise")
    assert (error, answer["errorType"], answer["errorMessage"]) == ("Unhandled", "ValueError", "as asked")


def test_it_finds_its_node_as_itself_also_after_a_crash(leveled):
    node, level = leveled
    make(node, "asks", MemorySize=512, Timeout=60)
    where = node.endpoint if level == "process" else "http://127.0.0.1:9001"
    for _ in range(2):
        _, found, _ = call(node, "who", "asks")
        assert (found["who"], found["where"]) == ("arn:aws:sts::000000000000:assumed-role/any/asks", where), found
        if level != "process":
            assert found["devices"] == ["lo"]
        assert call(node, "exit", "asks")[0] == "Unhandled"


def test_a_crash_is_told_with_its_exit_status_and_the_next_call_finds_a_new_process_and_the_same_tmp(leveled):
    node, _ = leveled
    assert call(node, "write")[1]["kept"] == 1000
    error, answer, _ = call(node, "exit")
    assert error == "Unhandled"
    assert answer["errorMessage"].endswith("Runtime exited with error: exit status 3")
    after = call(node, "echo")[1]
    assert (after["calls"], after["kept"]) == (1, 1000)


def test_a_custom_runtime_is_called_wherever_functions_have_a_network_of_their_own(leveled):
    node, level = leveled
    aws = node.client()
    aws.create_function(
        FunctionName="custom", Runtime="provided.al2023", Handler="x", Role="arn:aws:iam::000000000000:role/any", Timeout=10,
        Code={"ZipFile": executable({"bootstrap": bootstrap("answer(count)")})},
    )  # fmt: skip
    try:
        wait(node, "custom")
        if level == "process":
            with pytest.raises(ClientError, match="an environment needs a network of its own"):
                aws.invoke(FunctionName="custom")
        else:
            assert [aws.invoke(FunctionName="custom")["Payload"].read() for _ in range(2)] == [b"1", b"2"]
    finally:
        aws.delete_function(FunctionName="custom")


def test_who_takes_too_long_is_ended(leveled):
    node, _ = leveled
    error, answer, _ = call(node, "sleep")
    assert error == "Unhandled"
    assert answer["errorMessage"].endswith("Task timed out after 3.00 seconds")
    assert call(node, "echo")[1]["calls"] == 1


def test_who_takes_too_much_memory_is_ended_or_told(leveled):
    node, _ = leveled
    error, answer, _ = call(node, "grow")
    assert error == "Unhandled"
    # Told: where no control group can be had, each process has a limit of its own.
    assert answer["errorType"] in ("Runtime.OutOfMemory", "MemoryError", "Runtime.ExitError")
    assert call(node, "echo")[0] is None


def test_the_node_says_what_it_is(leveled):
    node, level = leveled
    findings = node.http("GET", "/ondol/v1/doctor").json()["findings"]
    mine = next(each for each in findings if each["what"] == f"isolation level {level}")
    assert mine["ok"]
    assert ("accidents only" in node.said()) == (level == "process")


def test_gvisor_is_refused_where_no_control_group_bounds_memory():
    """As for an ordinary user in a plain session: what it runs is hostile, perhaps, and would have the machine's memory."""
    needed("gvisor")
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    refusal = "isolation 'gvisor' cannot be had here: .*nothing would bound the memory of its functions.*To mend it: "
    with pytest.raises(AssertionError, match=refusal), running_node("--isolation", "gvisor", user=USER):
        pass


def test_nodes_that_try_a_level_at_the_same_time_do_not_meet():
    needed("gvisor")
    with ProcessPoolExecutor(4) as others:
        found = [each["gvisor"] for each in others.map(probe.find, [["gvisor"]] * 12)]
    assert [each.detail for each in found if not each.ok] == []


# More than the node's -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def usual():
    """A node that isolates by its own sandbox, on a machine with gVisor."""
    needed("sandbox")
    needed("gvisor")
    with running_node() as node:
        yield node


def test_a_function_may_ask_for_more_than_its_node_gives(usual, tmp_path):
    (tmp_path / "app.py").write_text(HANDLER)
    done = usual.ondol("deploy", str(tmp_path), "--name", "by-option", "--isolation", "gvisor")
    assert done.returncode == 0, done.stderr
    make(usual, "by-tag", Tags={"ondol:isolation": "gvisor"})
    make(usual, "ordinary")
    kernels = {name: call(usual, "echo", name)[1]["kernel"] for name in ("by-option", "by-tag", "ordinary")}
    assert kernels["by-option"] == kernels["by-tag"] != os.uname().release == kernels["ordinary"]
    assert usual.http("GET", "/ondol/v1/functions/by-tag").json()["isolation"] == "gvisor"


def test_who_asks_for_more_isolation_has_the_network_that_the_others_have(usual):
    make(usual, "inside", Tags={"ondol:isolation": "gvisor"}, MemorySize=512, Timeout=60)
    make(usual, "usually", MemorySize=512, Timeout=60)
    make(usual, "alone", Tags={"ondol:isolation": "gvisor", "ondol:network": "none"}, MemorySize=512, Timeout=60)
    found = {name: call(usual, "who", name)[1] for name in ("inside", "usually", "alone")}
    assert found["inside"]["devices"] == found["usually"]["devices"], found
    assert found["alone"]["devices"] == ["lo"]
    assert {each["where"] for each in found.values()} == {"http://127.0.0.1:9001"}


def test_a_tag_changes_where_the_next_call_runs(usual):
    make(usual, "moved")
    aws = usual.client()
    arn = aws.get_function(FunctionName="moved")["Configuration"]["FunctionArn"]
    kernels = [call(usual, "echo", "moved")[1]["kernel"]]
    aws.tag_resource(Resource=arn, Tags={"ondol:isolation": "gvisor"})
    wait(usual, "moved")
    kernels.append(call(usual, "echo", "moved")[1]["kernel"])
    aws.untag_resource(Resource=arn, TagKeys=["ondol:isolation"])
    wait(usual, "moved")
    kernels.append(call(usual, "echo", "moved")[1]["kernel"])
    assert kernels[0] == kernels[2] == os.uname().release != kernels[1]


def test_less_than_the_nodes_and_unknown_levels_are_refused_at_deploy(usual, tmp_path):
    for level, why in (("process", "not for less"), ("vm", "no level of isolation")):
        with pytest.raises(ClientError, match=why) as refusal:
            make(usual, "never", Tags={"ondol:isolation": level})
        assert refusal.value.response["Error"]["Code"] == "InvalidParameterValueException"
    (tmp_path / "app.py").write_text(HANDLER)
    done = usual.ondol("deploy", str(tmp_path), "--name", "never", "--isolation", "process")
    assert done.returncode != 0
    assert "not for less" in done.stderr
    document = {"runtime": "python3.11", "handler": "app:app", "isolation": "process"}
    document["zip_base64"] = base64.b64encode(zipped({"app.py": "app = None"})).decode()
    refused = usual.http("PUT", "/ondol/v1/functions/never", json.dumps(document))
    assert refused.status == 400
    assert b"not for less" in refused.data
