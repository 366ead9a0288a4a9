"""Environments that are up before they are called, and idle ones that are frozen, on a whole node."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from pathlib import Path

import pytest

from ondol.testing.node import ended, running_node, start, zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

KIND = """
import os, time
began = time.time()
def handler(event, context):
    time.sleep(event)
    return [os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], began, context.function_version]
"""


def until(see, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := see()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def answer(response):
    return json.loads(response["Payload"].read())


def told(node):
    return json.loads(node.ondol("stats", "--json").stdout)


def status(aws, function, qualifier):
    found = aws.get_provisioned_concurrency_config(FunctionName=function, Qualifier=qualifier)
    return found["Status"]


@pytest.fixture
def provisioned(aws, deploy):
    """A function whose version 1 has the alias "live" with one environment that is up."""
    function = deploy(KIND, Publish=True, Timeout=20)
    aws.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    aws.put_provisioned_concurrency_config(FunctionName=function, Qualifier="live", ProvisionedConcurrentExecutions=1)
    until(lambda: status(aws, function, "live") == "READY")
    return function


def test_a_provisioned_environment_has_loaded_before_it_is_called_and_knows_what_it_is(aws, provisioned):
    called = time.time()
    kind, began, _ = answer(aws.invoke(FunctionName=provisioned, Qualifier="live", Payload=b"0"))
    assert (kind, began < called) == ("provisioned-concurrency", True)
    assert answer(aws.invoke(FunctionName=provisioned, Payload=b"0"))[0] == "on-demand"


def test_an_alias_that_is_pointed_elsewhere_takes_its_environments_along(aws, provisioned):
    aws.update_function_code(FunctionName=provisioned, ZipFile=zipped({"app.py": KIND + "# second\n"}), Publish=True)
    aws.update_alias(FunctionName=provisioned, Name="live", FunctionVersion="2")
    until(lambda: status(aws, provisioned, "live") == "READY")
    until(lambda: answer(aws.invoke(FunctionName=provisioned, Qualifier="live", Payload=b"0"))[0] == "provisioned-concurrency")
    assert answer(aws.invoke(FunctionName=provisioned, Qualifier="live", Payload=b"0"))[2] == "2"


def test_what_cannot_be_loaded_is_failed(aws, deploy):
    function = deploy("raise ValueError('no')\n", Publish=True)
    aws.put_provisioned_concurrency_config(FunctionName=function, Qualifier="1", ProvisionedConcurrentExecutions=1)
    until(lambda: status(aws, function, "1") == "FAILED")
    called = aws.invoke(FunctionName=function, Qualifier="1", Payload=b"0")
    assert (called["FunctionError"], answer(called)["errorType"]) == ("Unhandled", "ValueError")


def test_what_is_provisioned_is_up_again_after_the_node_and_its_front_were_started_again(possible):
    with running_node() as node:
        aws = node.client("lambda")
        aws.create_function(
            FunctionName="kept", Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": zipped({"app.py": KIND})}, Publish=True,
        )  # fmt: skip
        aws.put_provisioned_concurrency_config(FunctionName="kept", Qualifier="1", ProvisionedConcurrentExecutions=2)
        until(lambda: status(aws, "kept", "1") == "READY")
        front = next(each["pid"] for each in told(node)["processes"] if each["role"] == "front")
        os.kill(front, signal.SIGKILL)
        until(lambda: is_up(node))
        node.stop()
        again = start(node.data)
        try:
            until(lambda: is_up(again))
            called = time.time()
            kind, began, _ = answer(again.client("lambda").invoke(FunctionName="kept", Qualifier="1", Payload=b"0"))
            assert (kind, began < called) == ("provisioned-concurrency", True)
        finally:
            ended(again)


def is_up(node):
    try:
        found = node.client("lambda").get_provisioned_concurrency_config(FunctionName="kept", Qualifier="1")
    except Exception:
        return False  # its front is on its way back
    return found["AvailableProvisionedConcurrentExecutions"] == 2


BUSY = """
import threading
def spin():
    while True:
        pass
def handler(event, context):
    threading.Thread(target=spin, daemon=True).start()
    return event
"""


def test_what_a_function_leaves_running_uses_no_processor_once_its_environment_is_frozen(possible):
    with running_node("--freeze-s-min", "0.2") as node:
        if "freezing of idle environments" in node.ondol("doctor").stdout.partition("missing")[2]:
            pytest.skip("no control group of version 2 can be written to")
        aws = node.client("lambda")
        aws.create_function(
            FunctionName="busy", Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": zipped({"app.py": BUSY})},
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName="busy", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        for number in (1, 2):
            assert answer(aws.invoke(FunctionName="busy", Payload=b"%d" % number)) == number
            until(lambda: told(node)["pool"]["frozen"] == 1)
            own = {each["pid"] for each in told(node)["processes"]}
            guest = max(set(node.processes()) - own, key=cpu_ticks)
            before = cpu_ticks(guest)
            time.sleep(1.0)
            assert cpu_ticks(guest) == before


def cpu_ticks(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def test_deployed_code_is_compiled_beside_it_and_seen_as_ever(node, aws, deploy):
    function = deploy(
        "import app\ndef handler(event, context):\n    return [app.__file__, app.__cached__, handler.__code__.co_filename]\n"
    )
    (tree,) = [path.parent for path in (node.data / "code").glob("*/tree/app.py") if "app.__cached__" in path.read_text()]
    until(lambda: list((tree / "__pycache__").glob("app.cpython-*.pyc")))
    file, cached, named = answer(aws.invoke(FunctionName=function, Payload=b"0"))
    assert (file, named) == ("/var/task/app.py", "/var/task/app.py")
    assert cached.startswith("/var/task/__pycache__/")


def test_an_update_of_a_function_in_use_has_its_environment_loaded_before_the_next_call_and_the_old_one_gone(possible):
    with running_node() as node:
        aws = node.client("lambda")
        aws.create_function(
            FunctionName="updated", Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": zipped({"app.py": KIND})},
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName="updated", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        first = aws.invoke(FunctionName="updated", Payload=b"0", LogType="Tail")
        assert "Init Duration" in tail(first)
        before = answer(first)[1]
        aws.update_function_code(FunctionName="updated", ZipFile=zipped({"app.py": KIND + "# second\n"}))
        aws.get_waiter("function_updated_v2").wait(FunctionName="updated", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        until(lambda: [told(node)["pool"][state] for state in ("starting", "idle", "busy", "stopping")] == [0, 1, 0, 0])
        called = time.time()
        second = aws.invoke(FunctionName="updated", Payload=b"0", LogType="Tail")
        kind, began, _ = answer(second)
        assert kind == "on-demand"
        assert before < began < called
        assert "Init Duration" not in tail(second)


def test_an_update_that_does_not_load_leaves_nothing_running_and_its_callers_are_told(possible):
    with running_node() as node:
        aws = node.client("lambda")
        aws.create_function(
            FunctionName="broken", Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": zipped({"app.py": KIND})},
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName="broken", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        aws.invoke(FunctionName="broken", Payload=b"0")
        aws.update_function_code(FunctionName="broken", ZipFile=zipped({"app.py": "raise ValueError('no')\n"}))
        aws.get_waiter("function_updated_v2").wait(FunctionName="broken", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        until(lambda: [told(node)["pool"][state] for state in ("starting", "idle", "busy", "stopping")] == [0, 0, 0, 0])
        called = aws.invoke(FunctionName="broken", Payload=b"0")
        assert (called["FunctionError"], answer(called)["errorType"]) == ("Unhandled", "ValueError")


def tail(response):
    return base64.b64decode(response["LogResult"]).decode()
