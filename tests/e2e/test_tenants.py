"""Functions that keep their tenants apart, on a whole node: environments, their /tmp, their logs, and room for many tenants."""

from __future__ import annotations

import json
import time

import pytest
from botocore.exceptions import ClientError

from ondol.runtimes.interpreters import Interpreters
from ondol.testing.node import running_node, zipped

NODEJS = [found.name for found in Interpreters.discover().all("nodejs")]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

TENANCY = {"TenantIsolationMode": "PER_TENANT"}
LEAVES = """
import logging, os, uuid
here = str(uuid.uuid4())
def handler(event, context):
    logging.getLogger().warning("called")
    before = sorted(os.listdir("/tmp"))
    open("/tmp/" + context.tenant_id, "w").close()
    return [context.tenant_id, here, before]
"""
LEAVES_NODE = """
const fs = require('fs'), here = require('crypto').randomUUID();
exports.handler = async (event, context) => {
  const before = fs.readdirSync('/tmp').sort();
  fs.writeFileSync('/tmp/' + context.tenantId, '');
  return [context.tenantId, here, before];
};
"""


def called(aws, function, tenant, **params):
    return json.loads(aws.invoke(FunctionName=function, TenantId=tenant, **params)["Payload"].read())


def until(see, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := see()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def test_a_tenant_finds_its_own_environment_again_and_nobody_elses(aws, deploy):
    function = deploy(LEAVES, TenancyConfig=TENANCY)
    blue, green, again = (called(aws, function, tenant) for tenant in ("blue", "green", "blue"))
    assert blue[0] == "blue"
    assert green[0] == "green"
    assert blue[2] == green[2] == []
    assert again == ["blue", blue[1], ["blue"]]
    assert green[1] != blue[1]


@pytest.mark.skipif(not NODEJS, reason="there is no Node.js on this machine")
def test_it_is_so_in_node_too(aws, deploy):
    function = deploy({"app.js": LEAVES_NODE}, runtime=NODEJS[-1], TenancyConfig=TENANCY)
    blue, green, again = (called(aws, function, tenant) for tenant in ("blue", "green", "blue"))
    assert (blue[0], green[0], again) == ("blue", "green", ["blue", blue[1], ["blue"]])
    assert (green[1] != blue[1], green[2]) == (True, [])


def test_who_names_no_tenant_or_one_too_many_is_refused_before_anything_starts(aws, deploy, node):
    function, plain = deploy(LEAVES, TenancyConfig=TENANCY), deploy("def handler(event, context): pass\n")
    for params in ({"FunctionName": function}, {"FunctionName": plain, "TenantId": "blue"}):
        for kind in ("RequestResponse", "Event", "DryRun"):
            with pytest.raises(ClientError) as caught:
                aws.invoke(InvocationType=kind, **params)
            assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    told = node.http("POST", f"/ondol/v1/functions/{function}/invoke", "{}")
    assert (told.status, "which tenant" in told.data.decode()) == (400, True)


def test_the_nodes_own_api_and_command_can_say_whose_a_call_is(aws, deploy, node):
    function = deploy(LEAVES, TenancyConfig=TENANCY)
    told = node.http("POST", f"/ondol/v1/functions/{function}/invoke?tenant=blue&answer=payload", "{}")
    done = node.ondol("invoke", function, "--tenant", "green")
    assert (json.loads(told.data)[0], json.loads(done.stdout)[0]) == ("blue", "green"), done.stderr


def test_calls_for_later_and_streamed_ones_belong_to_their_tenant(aws, deploy):
    function = deploy(LEAVES, TenancyConfig=TENANCY)
    aws.invoke(FunctionName=function, TenantId="blue", InvocationType="Event")
    until(lambda: called(aws, function, "blue")[2] == ["blue"])
    assert called(aws, function, "green")[2] == []
    stream = aws.invoke_with_response_stream(FunctionName=function, TenantId="green")["EventStream"]
    answer = b"".join(event["PayloadChunk"]["Payload"] for event in stream if "PayloadChunk" in event)
    assert json.loads(answer)[::2] == ["green", ["green"]]


def test_json_logs_say_whose_call_it_was(aws, deploy, node):
    function = deploy(LEAVES, TenancyConfig=TENANCY, LoggingConfig={"LogFormat": "JSON"})
    called(aws, function, "blue")
    logs = node.client("logs")

    def records():
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
        found = [json.loads(event["message"]) for event in events]
        return {each.get("type", each.get("message")): each for each in found} if len(found) > 3 else None

    found = until(lambda: records() if "platform.report" in (records() or {}) else None)
    assert found["platform.start"]["record"]["tenantId"] == "blue"
    assert found["platform.report"]["record"]["tenantId"] == "blue"
    assert found["called"]["tenantId"] == "blue"


def test_many_tenants_make_room_for_each_other_and_leave_nothing_behind(possible):
    with running_node("--memory-mib-max", "384") as node:
        aws = node.client("lambda")
        aws.create_function(
            FunctionName="kept", Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": zipped({"app.py": LEAVES})}, TenancyConfig=TENANCY,
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName="kept", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        first = {tenant: called(aws, "kept", tenant) for tenant in (f"t{n}" for n in range(8))}
        assert all(before == [] for _, _, before in first.values()), "a tenant saw another's /tmp"
        assert len({here for _, here, _ in first.values()}) == 8
        _, here, before = called(aws, "kept", "t0")
        assert (here != first["t0"][1], before) == (True, []), "its environment made room, and went with its /tmp"
        assert json.loads(node.ondol("stats", "--json").stdout)["pool"]["memory_mib"] <= 384
