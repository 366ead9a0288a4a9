"""Logs of a whole node, from a function's print to those who read: found, followed, structured, bounded."""

from __future__ import annotations

import json
import signal
import threading
import time

import pytest

from ondol.testing.node import running_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SPEAKING = """
import json, logging

def handler(event, context):
    logging.getLogger().warning("a warning")
    logging.getLogger().debug("a detail")
    print(json.dumps({"level": "debug", "message": "printed"}))
    print(json.dumps(event))
    return event
"""
FLOODING = """
import sys

def handler(event, context):
    for number in range(event):
        sys.stdout.write("line %07d of a flood\\n" % number)
    return event
"""


def until(see, seconds=30):
    """Wait for what happens soon; what `see` gave."""
    deadline = time.monotonic() + seconds
    while not (found := see()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def messages(logs, group, **how):
    try:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, **how)
        return [event["message"] for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []


def documents(found):
    return [json.loads(message) for message in found if message.startswith("{")]


def test_json_logs_are_events_in_a_group_of_the_functions_choice(node, aws, deploy, name):
    group = f"/chosen/{name}"
    config = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", "LogGroup": group}
    function = deploy(SPEAKING, LoggingConfig=config)
    aws.invoke(FunctionName=function, Payload=b'{"n": 7}')
    logs = node.client("logs")
    until(lambda: messages(logs, group, filterPattern='{ $.type = "platform.report" }'))
    found = documents(messages(logs, group))
    platform = [each for each in found if "type" in each]
    assert [each["type"] for each in platform] == ["platform.initStart", "platform.start", "platform.report"]
    assert platform[1]["record"]["requestId"] == platform[2]["record"]["requestId"]
    assert platform[2]["record"]["status"] == "success"
    assert platform[2]["record"]["metrics"]["initDurationMs"] > 0
    assert [each["message"] for each in found if each.get("level") == "WARNING" or each.get("level") == "WARN"] == ["a warning"]
    assert documents(messages(logs, group, filterPattern="{ $.n = 7 }")) == [{"n": 7}]
    assert messages(logs, group, filterPattern="printed") == []
    [stream] = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert f"/{function}[$LATEST]" in stream["logStreamName"]
    shown = node.ondol("logs", function, "--level", "warn").stdout
    assert "a warning" in shown
    assert "platform.start" not in shown


def test_the_system_level_hides_what_goes_well(node, aws, deploy):
    config = {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "WARN"}
    function = deploy(SPEAKING + "\n    raise ValueError\n", LoggingConfig=config)
    aws.invoke(FunctionName=function, Payload=b"1")
    logs, group = node.client("logs"), f"/aws/lambda/{function}"
    until(lambda: messages(logs, group, filterPattern="a detail"))
    assert [each for each in documents(messages(logs, group)) if "type" in each] == []
    assert documents(messages(logs, group, filterPattern="printed")) == [{"level": "debug", "message": "printed"}]


def test_a_function_is_followed_live(node, aws, deploy):
    function = deploy(SPEAKING)
    aws.invoke(FunctionName=function, Payload=b'{"n": 1}')
    logs, group = node.client("logs", inject_host_prefix=False), f"/aws/lambda/{function}"
    until(lambda: messages(logs, group))
    stream = logs.start_live_tail(logGroupIdentifiers=[group], logEventFilterPattern="{ $.n > 1 }")["responseStream"]
    events = iter(stream)
    assert "sessionStart" in next(events)
    aws.invoke(FunctionName=function, Payload=b'{"n": 2}')
    results = []
    while not results:
        results = next(events)["sessionUpdate"]["sessionResults"]
    assert json.loads(results[0]["message"]) == {"n": 2}
    stream.close()


def test_what_clients_put_is_found_beside_what_functions_say(node, name):
    logs, group = node.client("logs"), f"/mine/{name}"
    logs.create_log_group(logGroupName=group, tags={"team": "blue"})
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    now_ms = int(time.time() * 1000)
    events = [{"timestamp": now_ms + n, "message": f"10.0.0.{n} GET {200 + n}"} for n in range(5)]
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)
    assert messages(logs, group, filterPattern="[ip, method, status > 202]") == ["10.0.0.3 GET 203", "10.0.0.4 GET 204"]
    said = node.aws("logs", "describe-log-groups", "--log-group-name-prefix", group)["logGroups"]
    assert said[0]["retentionInDays"] == 7
    logs.delete_log_group(logGroupName=group)
    assert messages(logs, group) == []


def test_a_flood_leaves_the_node_answering_and_its_log_whole_or_marked(node, aws, deploy):
    flooding, quiet = deploy(FLOODING, Timeout=60), deploy("def handler(event, context):\n    return event\n")
    aws.invoke(FunctionName=quiet, Payload=b"1")
    count = 100_000
    flood = threading.Thread(
        target=lambda: node.client("lambda").invoke(FunctionName=flooding, Payload=str(count).encode()), daemon=True
    )
    flood.start()
    answered = 0
    while flood.is_alive():
        assert aws.invoke(FunctionName=quiet, Payload=b"2")["Payload"].read() == b"2"
        answered += 1
    assert answered > 5
    logs, group = node.client("logs"), f"/aws/lambda/{flooding}"
    until(lambda: messages(logs, group, filterPattern="REPORT"))
    found = [line for line in messages(logs, group) if "of a flood" in line or line.startswith("[ondol]")]
    lost = sum(int(line.split()[1]) for line in found if line.startswith("[ondol]"))
    numbers = [int(line.split()[1]) for line in found if not line.startswith("[ondol]")]
    assert numbers == sorted(numbers)
    assert len(numbers) + lost == count


def test_the_node_stops_while_somebody_follows_and_has_settings_and_lines_when_it_is_back(possible):
    with running_node() as node:
        logs = node.client("logs", inject_host_prefix=False)
        logs.create_log_group(logGroupName="/kept", tags={"a": "b"})
        logs.put_retention_policy(logGroupName="/kept", retentionInDays=30)
        logs.create_log_stream(logGroupName="/kept", logStreamName="s")
        event = {"timestamp": int(time.time() * 1000), "message": "kept"}
        logs.put_log_events(logGroupName="/kept", logStreamName="s", logEvents=[event])
        stream = logs.start_live_tail(logGroupIdentifiers=["/kept"])["responseStream"]
        next(iter(stream))
        node.stop(signal.SIGINT)
        stream.close()
        again = node.restart()
        try:
            logs = again.client("logs")
            [group] = logs.describe_log_groups()["logGroups"]
            assert group["retentionInDays"] == 30
            assert logs.list_tags_log_group(logGroupName="/kept")["tags"] == {"a": "b"}
            assert messages(logs, "/kept") == ["kept"]
        finally:
            again.stop()
