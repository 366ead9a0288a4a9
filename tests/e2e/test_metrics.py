"""What a node measures of real calls, as boto3, Prometheus and its own files show it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import urllib3
from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client.parser import text_string_to_metric_families

from ondol.testing import leaks
from ondol.testing.collector import Collector
from ondol.testing.node import ended, running_node, start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

W3C = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AMAZON = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"

CODE = """
import json, os, time
def handler(event, context):
    if event == "trace":
        return os.environ["_X_AMZN_TRACE_ID"]
    if event == "fail":
        raise ValueError("as asked")
    if event == "metric":
        print(json.dumps({"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [
            {"Namespace": "Shop", "Dimensions": [["Service"]], "Metrics": [{"Name": "Sold", "Unit": "Count"}]}]},
            "Service": "pay", "Sold": 3}))
    return event
"""


def until(see, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := see()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found
    return found


def summed(node, name, namespace="AWS/Lambda", statistic="Sum", **dimensions):
    """A statistic of the last ten minutes, added up."""
    now = datetime.now(UTC)
    answer = node.client("cloudwatch").get_metric_statistics(
        Namespace=namespace, MetricName=name, Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - timedelta(minutes=10), EndTime=now + timedelta(minutes=1), Period=60, Statistics=[statistic],
    )  # fmt: skip
    return sum(point[statistic] for point in answer["Datapoints"])


def recorded(node):
    """All records in the node's file, as arrays."""
    with contextlib.closing(sqlite3.connect(f"file:{node.data}/records.db?mode=ro", uri=True)) as records:
        blocks = records.execute("SELECT records FROM blocks").fetchall()
    return [record for (packed,) in blocks for record in msgspec.msgpack.decode(packed)]


def scraped(node, **headers):
    answer = node.http("GET", "/metrics", headers={"x-ondol-key": "", "authorization": f"Bearer {node.key}", **headers})
    assert answer.status == 200, answer.data
    return [sample for family in text_string_to_metric_families(answer.data.decode()) for sample in family.samples]


def test_boto3_sees_a_functions_calls_failures_durations_and_aliases(node, aws, deploy):
    function = deploy(CODE)
    aws.publish_version(FunctionName=function)
    aws.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    for payload, qualifier in (('"a"', "$LATEST"), ('"fail"', "$LATEST"), ('"b"', "live"), ('"c"', "1")):
        aws.invoke(FunctionName=function, Payload=payload.encode(), Qualifier=qualifier)
    until(lambda: summed(node, "Invocations", FunctionName=function) == 4)
    assert summed(node, "Errors", FunctionName=function) == 1
    assert summed(node, "Duration", statistic="SampleCount", FunctionName=function) == 4
    assert summed(node, "ConcurrentExecutions", statistic="Maximum", FunctionName=function) >= 1
    assert summed(node, "Invocations", FunctionName=function, Resource=f"{function}:live", ExecutedVersion="1") == 1
    assert summed(node, "Invocations", FunctionName=function, Resource=f"{function}:1") == 1
    listed = node.client("cloudwatch").list_metrics(
        Namespace="AWS/Lambda", MetricName="Duration", Dimensions=[{"Name": "FunctionName", "Value": function}]
    )["Metrics"]
    assert len(listed) == 5  # as a whole, unqualified, the alias, what it ran, the version


def test_throttled_calls_are_counted_and_are_no_invocations(node, aws, deploy):
    function = deploy(CODE)
    aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    for _ in range(3):
        with pytest.raises(aws.exceptions.TooManyRequestsException):
            aws.invoke(FunctionName=function, Payload=b"1")
    until(lambda: summed(node, "Throttles", FunctionName=function) == 3)
    assert summed(node, "Invocations", FunctionName=function) == 0


def test_what_a_function_prints_in_the_embedded_format_is_a_metric(node, aws, deploy):
    function = deploy(CODE)
    aws.invoke(FunctionName=function, Payload=b'"metric"')
    until(lambda: summed(node, "Sold", "Shop", Service="pay") == 3)


def test_the_aws_command_puts_and_gets_its_own_metrics(node):
    namespace = f"Mine/{time.monotonic_ns()}"
    node.aws_raw(
        "cloudwatch", "put-metric-data", "--namespace", namespace, "--metric-name", "m", "--value", "7", "--unit", "Bytes"
    )
    query = {
        "Id": "a",
        "MetricStat": {"Metric": {"Namespace": namespace, "MetricName": "m"}, "Period": 300, "Stat": "Maximum"},
        "ReturnData": False,
    }
    now = datetime.now(UTC)
    found = node.aws(
        "cloudwatch", "get-metric-data", "--metric-data-queries", json.dumps([query, {"Id": "b", "Expression": "a * 6"}]),
        "--start-time", (now - timedelta(minutes=10)).isoformat(), "--end-time", (now + timedelta(minutes=1)).isoformat(),
    )  # fmt: skip
    assert [(each["Id"], each["Values"]) for each in found["MetricDataResults"]] == [("b", [42.0])]


def test_prometheus_finds_the_calls_and_the_node_and_nobody_else_does(node, aws, deploy):
    function = deploy(CODE)
    aws.invoke(FunctionName=function, Payload=b'"fail"')

    def failed():
        wanted = {"function": function, "outcome": "failed", "region": aws.meta.region_name}
        return [s for s in scraped(node) if s.name == "ondol_invocations_total" and s.labels == wanted and s.value == 1]

    until(failed)
    until(lambda: [s for s in scraped(node) if s.name == "ondol_environment_memory_max_bytes" and s.value > 0])
    assert node.http("GET", "/metrics", headers={"x-ondol-key": ""}).status == 401


def test_a_callers_trace_reaches_the_function_and_its_record(node, aws, deploy):
    function = deploy(CODE)
    traced = node.client("lambda")
    traced.meta.events.register("before-sign", lambda request, **_: request.headers.add_header("traceparent", W3C))
    answer = traced.invoke(FunctionName=function, Payload=b'"trace"')
    assert json.loads(answer["Payload"].read()) == AMAZON
    request_id = answer["ResponseMetadata"]["RequestId"]
    (record,) = until(lambda: [each for each in recorded(node) if each[0] == request_id])
    assert AMAZON in record


@pytest.mark.parametrize("victim", ["desk", "front"])
def test_what_was_seen_before_a_kill_is_seen_after_it_and_measuring_goes_on(possible, victim):
    with running_node() as node:
        node.put_web("site", {"app.py": "def app(environ, start):\n    start('200 OK', [])\n    return [b'x']\n"}, "app:app")

        def calls(count):
            answered = 0
            while answered < count:
                with contextlib.suppress(urllib3.exceptions.HTTPError):  # the front is being started again
                    answered += node.http("GET", "/fn/site/").status == 200

        calls(3)
        until(lambda: summed(node, "Invocations", FunctionName="site") == 3)
        os.kill(leaks.roles(node)[victim][-1], signal.SIGKILL)
        calls(2)

        def seen():
            try:
                return summed(node, "Invocations", FunctionName="site")
            except (BotoCoreError, ClientError):
                return None  # the desk is being started again

        until(lambda: (seen() or 0) >= 5)


def test_spans_reach_a_collector(possible):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    collector = Collector()
    try:
        with running_node("--otel-endpoint", collector.url) as node:
            node.put_web(
                "site", {"app.py": "def app(environ, start):\n    start('200 OK', [])\n    return [b'x']\n"}, "app:app"
            )
            assert node.http("GET", "/fn/site/", headers={"traceparent": W3C}).headers["traceparent"] == W3C
            until(lambda: {span.name for span in collector.spans} >= {"site", "load"})
            (span,) = [span for span in collector.spans if span.name == "site"]
            assert (span.trace_id.hex(), span.parent_span_id.hex()) == (W3C[3:35], W3C[36:52])
    finally:
        collector.close()


def test_metrics_and_records_outlive_the_node(possible):
    with running_node() as node:
        function = node.data.name
        node.put_web(function, {"app.py": "def app(environ, start):\n    start('200 OK', [])\n    return [b'x']\n"}, "app:app")
        for _ in range(3):
            assert node.http("GET", f"/fn/{function}/").data == b"x"
        ended(node)
        again = start(node.data, *node.flags)
        try:
            assert summed(again, "Invocations", FunctionName=function) == 3
        finally:
            ended(again)
        kept = recorded(node)
        assert len({each[0] for each in kept}) == len(kept) == 3
        assert all("ok" in each for each in kept)
