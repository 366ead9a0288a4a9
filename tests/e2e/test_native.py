"""The native API of a whole node: keys that only look, live logs, and what the node says of itself."""

from __future__ import annotations

import json
import time

import pytest
import urllib3
from botocore.exceptions import ClientError

from ondol.testing.node import zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

HELLO = "def handler(event, context):\n    print('said', event)\n    return {'event': event}\n"


def as_holder(node, made):
    """The node as somebody with this key sees it."""
    from dataclasses import replace

    credentials = {**node.credentials, "AWS_ACCESS_KEY_ID": made["id"], "AWS_SECRET_ACCESS_KEY": made["secret"]}
    return replace(node, credentials=credentials)


@pytest.fixture
def reader(node):
    """Somebody with a read-only key, made by command; its id too."""
    made = json.loads(node.ondol("key", "create", "--read-only", "--name", "dashboard", "--json", check=True).stdout)
    yield as_holder(node, made), made["id"]
    node.ondol("key", "rm", made["id"])


def refused(done):
    """What a command that was refused said."""
    assert done.returncode == 4, (done.returncode, done.stdout, done.stderr)
    return done.stderr


def test_a_read_only_key_looks_and_neither_changes_nor_calls(node, deploy, reader):
    name = deploy(HELLO)
    node.client().invoke(FunctionName=name, Payload=b"{}")
    looker, _ = reader
    assert name in looker.ondol("ls", check=True).stdout
    assert "app.handler" in looker.ondol("show", name, check=True).stdout
    assert looker.ondol("logs", name, "--since", "1h").returncode == 0
    assert "environments" in looker.ondol("stats", check=True).stdout
    assert looker.client().get_function(FunctionName=name)["Configuration"]["FunctionName"] == name
    assert "read-only" in refused(looker.ondol("rm", name))
    assert "read-only" in refused(looker.ondol("key", "ls"))
    assert "read-only" in refused(looker.ondol("key", "create"))
    assert "AccessDeniedException" in refused(looker.ondol("invoke", name))
    assert looker.http("POST", f"/ondol/v1/functions/{name}/invoke", b"{}").status == 403
    for call in (looker.client().invoke, looker.client().delete_function, looker.client().publish_version):
        with pytest.raises(ClientError) as caught:
            call(FunctionName=name)
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    assert node.client().get_function(FunctionName=name)


def test_a_read_only_key_sees_metrics_and_logs_and_writes_none(reader):
    looker, _ = reader
    metrics, logs = looker.client("cloudwatch"), looker.client("logs")
    assert "Metrics" in metrics.list_metrics()
    assert "logGroups" in logs.describe_log_groups()
    writes = (
        (metrics.put_metric_data, {"Namespace": "Mine", "MetricData": [{"MetricName": "m", "Value": 1}]}),
        (logs.create_log_group, {"logGroupName": "mine"}),
        (logs.put_log_events, {"logGroupName": "g", "logStreamName": "s", "logEvents": [{"timestamp": 1, "message": "m"}]}),
    )
    for call, arguments in writes:
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)
        assert "AccessDenied" in caught.value.response["Error"]["Code"]


def test_calls_are_on_record_for_whoever_may_look(node, deploy, reader):
    name = deploy("def handler(event, context):\n    return 1 / event\n")
    told = [node.client().invoke(FunctionName=name, Payload=payload) for payload in (b"1", b"0")]
    fine, failed = (each["ResponseMetadata"]["RequestId"] for each in told)
    looker, _ = reader

    def listed(*arguments):
        found = json.loads(looker.ondol("records", "ls", "--function", name, "--json", *arguments, check=True).stdout)
        return [(each["request_id"], each["status"]) for each in found]

    deadline = time.monotonic() + 30
    while len(listed()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert listed() == [(failed, "failed"), (fine, "ok")]
    assert listed("--failed", "--since", "1h") == [(failed, "failed")]
    assert f"{name}\n" in looker.ondol("records", "show", fine, check=True).stdout
    assert "record not found: x" in refused(looker.ondol("records", "show", "x"))


def test_a_read_only_key_calls_no_web_function(node, reader, name):
    node.put_web(name, {"app.py": "async def app(scope, receive, send): ..."}, "app:app")
    looker, _ = reader
    assert looker.http("GET", f"/fn/{name}/").status == 403
    node.http("DELETE", f"/ondol/v1/functions/{name}")


def test_a_removed_key_is_nobodys_at_once(node, deploy, reader):
    name = deploy(HELLO)
    made = json.loads(node.ondol("key", "create", "--json", check=True).stdout)
    holder = as_holder(node, made)
    assert json.loads(holder.client().invoke(FunctionName=name, Payload=b"1")["Payload"].read()) == {"event": 1}
    node.ondol("key", "rm", made["id"], check=True)
    with pytest.raises(ClientError) as caught:
        holder.client().invoke(FunctionName=name)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert holder.http("POST", f"/ondol/v1/functions/{name}/invoke", b"{}").status == 403
    assert holder.http("GET", "/ondol/v1/functions").status == 403
    assert made["id"] not in node.ondol("key", "ls", check=True).stdout


def test_a_call_through_the_native_api_runs_in_the_front(node, deploy):
    name = deploy(HELLO)
    answer = node.http("POST", f"/ondol/v1/functions/{name}/invoke?log=tail", json.dumps({"a": 1}))
    said = json.loads(answer.data)
    assert (answer.status, said["status"], said["payload"]) == (200, "ok", {"event": {"a": 1}})
    assert "said {'a': 1}" in said["log"]
    assert said["request_id"] in said["log"]
    alone = node.http("POST", f"/ondol/v1/functions/{name}/invoke?answer=payload", "hey", {"content-type": "text/plain"})
    assert (json.loads(alone.data), alone.headers["x-ondol-status"]) == ({"event": "hey"}, "ok")


def test_a_log_is_followed_live_and_resumed(node, deploy):
    name = deploy(HELLO)
    with urllib3.PoolManager(retries=False, timeout=60) as pool:

        def follow(**headers):
            given = {"x-ondol-key": node.key, "accept": "text/event-stream", **headers}
            url = f"{node.endpoint}/ondol/v1/functions/{name}/logs?since=1h"
            return pool.request("GET", url, headers=given, preload_content=False)

        def until(response, text):
            """The events up to the one that says it, and those that came with it."""
            found, rest = [], b""
            while not any(text in each["message"] for each in found):
                piece = response.read1(65536)
                assert piece, "the stream ended"
                *whole, rest = (rest + piece).split(b"\n\n")
                for event in whole:
                    data = [line for line in event.splitlines() if line.startswith(b"data: ")]
                    found += [json.loads(line.removeprefix(b"data: ")) for line in data]
            response.close()
            return found

        stream = follow()
        node.client().invoke(FunctionName=name, Payload=b'"one"')
        told = until(stream, "said one")
        node.client().invoke(FunctionName=name, Payload=b'"two"')
        again = until(follow(**{"last-event-id": told[-1]["id"]}), "said two")
    assert not {each["id"] for each in told} & {each["id"] for each in again}
    assert "said one\n" not in [each["message"] for each in again]


def test_the_node_tells_its_processes_findings_and_settings(node, deploy):
    deploy(HELLO)
    stats = json.loads(node.http("GET", "/ondol/v1/stats").data)
    assert sorted(each["role"] for each in stats["processes"]) == ["desk", "front", "keeper", "nursery", "supervisor"]
    assert stats["pool"]["memory_mib_max"] > 0
    assert stats["functions"] >= 1
    doctor = json.loads(node.http("GET", "/ondol/v1/doctor").data)
    assert doctor["able"], doctor
    assert {each["part"] for each in doctor["findings"]} == {"isolation", "interpreters", "disk", "host"}
    settings = {each["name"]: each for each in json.loads(node.http("GET", "/ondol/v1/settings").data)["settings"]}
    assert settings["data"] == {"name": "data", "value": str(node.data), "source": "--data"}
    document = json.loads(node.http("GET", "/ondol/v1/openapi.json").data)
    assert document["openapi"] == "3.1.0"


def test_a_version_of_a_web_function_is_called_by_its_number(node, name):
    node.put_web(name, {"app.py": "def app(environ, start):\n    start('200 OK', [])\n    return [b'first']\n"}, "app:app")
    assert node.http("POST", f"/ondol/v1/functions/{name}/versions").status == 200
    node.put_web(name, {"app.py": "def app(environ, start):\n    start('200 OK', [])\n    return [b'second']\n"}, "app:app")
    assert node.http("GET", f"/fn/{name}:1/").data == b"first"
    assert node.http("GET", f"/fn/{name}/").data == b"second"
    assert node.http("DELETE", f"/ondol/v1/functions/{name}").status == 204


def test_show_has_what_the_aws_api_keeps_of_a_function(node, aws, deploy):
    layer = aws.publish_layer_version(LayerName="shown", Content={"ZipFile": zipped({"python/shown.py": "X = 1\n"})})
    name = deploy(HELLO, Layers=[layer["LayerVersionArn"]], LoggingConfig={"LogFormat": "JSON"})
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=3)
    aws.create_function_url_config(FunctionName=name, AuthType="AWS_IAM")
    shown = json.loads(node.ondol("show", name, "--json", check=True).stdout)
    assert shown["reserved_concurrency"] == 3
    assert shown["settings"]["aws"]["Role"] == "arn:aws:iam::000000000000:role/any"
    assert shown["settings"]["aws"]["Layers"][0]["Arn"] == layer["LayerVersionArn"]
    text = node.ondol("show", name, check=True).stdout
    rows = dict(line.split("  ", 1) for line in text.splitlines())
    assert rows["reserved concurrency"].strip() == "3"
    assert "LogFormat=JSON" in rows["aws: LoggingConfig"]
    assert layer["LayerVersionArn"] in rows["aws: Layers"]
    assert "AuthType=AWS_IAM" in rows["aws: Urls"]
    aws.delete_layer_version(LayerName="shown", VersionNumber=layer["Version"])
