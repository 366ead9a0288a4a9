"""Who decides what a function reaches: the operator by a setting, and, for less or for the machine's network, the function."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from ondol.testing.node import running_node, zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SOURCE = """
import os, boto3
def handler(event, context):
    devices = sorted(line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:])
    who = boto3.client("sts").get_caller_identity()["Arn"] if event else ""
    return [os.readlink("/proc/self/ns/net"), devices, os.environ["AWS_ENDPOINT_URL"], who]
"""
ROLE = "arn:aws:iam::000000000000:role/any"
TAG = "ondol:network"


@pytest.fixture(scope="module")
def giving_host(possible):
    """As by default, and more."""
    with running_node("--network", "host") as running:
        yield running


@pytest.fixture(scope="module")
def giving_none(possible):
    with running_node("--network", "none") as running:
        yield running


def create(node, name, **tags):
    api = node.client("lambda")
    api.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Role=ROLE, Timeout=60, MemorySize=256,
        Code={"ZipFile": zipped({"app.py": SOURCE})}, Tags=tags,
    )  # fmt: skip
    wait(api, name)
    return api


def wait(api, name):
    api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})


def seen(api, name, event=None):
    answer = api.invoke(FunctionName=name, Payload=json.dumps(event))
    payload = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    return payload


def test_the_machines_network_is_for_a_function_that_asks_where_the_node_gives_it(giving_host, name):
    api = create(giving_host, name, **{TAG: "host"})
    namespace, devices, endpoint, who = seen(api, name, event=1)
    assert namespace == os.readlink("/proc/self/ns/net")
    assert "lo" in devices
    assert endpoint == giving_host.endpoint
    assert who == f"arn:aws:sts::000000000000:assumed-role/any/{name}"


def test_nobody_who_does_not_ask_gets_the_machines_network(giving_host, name):
    api = create(giving_host, name)
    namespace, _, endpoint, _ = seen(api, name)
    assert namespace != os.readlink("/proc/self/ns/net")
    assert urlsplit(endpoint).port == 9001


def test_the_tag_can_be_set_and_removed_later_and_calls_that_come_then_have_it_so(giving_host, name):
    api = create(giving_host, name)
    usual = seen(api, name)[1]
    arn = api.get_function_configuration(FunctionName=name)["FunctionArn"]
    before = api.get_function_configuration(FunctionName=name)["RevisionId"]
    api.tag_resource(Resource=arn, Tags={TAG: "none", "other": "x"})
    wait(api, name)
    assert api.get_function_configuration(FunctionName=name)["RevisionId"] != before
    assert seen(api, name)[1] == ["lo"]
    api.untag_resource(Resource=arn, TagKeys=[TAG])
    wait(api, name)
    assert seen(api, name)[1] == usual
    assert api.list_tags(Resource=arn)["Tags"] == {"other": "x"}


def test_an_update_of_something_else_keeps_it(giving_host, name):
    api = create(giving_host, name, **{TAG: "none"})
    api.update_function_configuration(FunctionName=name, Timeout=30)
    wait(api, name)
    assert seen(api, name)[1] == ["lo"]


def test_the_command_asks_for_it_and_shows_it(giving_host, name, tmp_path):
    (tmp_path / "app.py").write_text(SOURCE)
    for network, change in (("none", "created"), ("none", "unchanged"), ("host", "updated"), ("default", "updated")):
        done = giving_host.ondol("deploy", str(tmp_path), "--name", name, "--memory", "256", "--network", network)
        assert f"{name} {change}" in done.stderr, done.stderr
        wait(giving_host.client("lambda"), name)
        shown = json.loads(giving_host.ondol("show", name, "--json").stdout)
        assert shown["network"] == network
    site = "def app(environ, start):\n    start('200 OK', [])\n    return [open('/proc/net/dev').read().encode()]\n"
    giving_host.put_web(f"{name}-web", {"app.py": site}, "app:app", network="none")
    assert giving_host.http("GET", f"/fn/{name}-web/").data.decode().count(":") == 1
    assert json.loads(giving_host.http("GET", f"/ondol/v1/functions/{name}-web").data)["network"] == "none"


def test_what_the_node_does_not_give_is_refused_where_it_is_asked_for(giving_none, name, tmp_path):
    api = giving_none.client("lambda")
    for network in ("egress", "host", "everything"):
        with pytest.raises(ClientError, match="InvalidParameterValueException.*not given by this node, which gives none"):
            create(giving_none, name, **{TAG: network})
    (tmp_path / "app.py").write_text(SOURCE)
    done = giving_none.ondol("deploy", str(tmp_path), "--name", name, "--network", "egress")
    assert done.returncode != 0
    assert "--network" in done.stderr
    create(giving_none, name)
    with pytest.raises(ClientError, match="not given by this node"):
        api.tag_resource(Resource=api.get_function_configuration(FunctionName=name)["FunctionArn"], Tags={TAG: "host"})
    assert seen(api, name)[1] == ["lo"]
