"""CloudWatch's metrics as boto3 and the other protocols see them, over the meter on disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import boto3
import botocore.model
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ondol.core.measuring import Tally, points_of, points_of_level
from ondol.dialects.aws import codec, decoding, monitoring
from ondol.dialects.aws.monitoring import Monitoring
from ondol.dialects.aws.service import ServiceError
from ondol.meter import Point, Series
from ondol.meters.sqlite import SqliteMeter
from ondol.model.functions import UNNUMBERED, Target
from ondol.model.invocations import Report, Status
from ondol.model.summaries import of_values
from ondol.testing import aws, boto
from ondol.testing.boto import blocking
from ondol.testing.clock import VirtualClock
from ondol.testing.pool import a_target

NOW_S = 1_700_006_400  # an hour's start
NOW = datetime.fromtimestamp(NOW_S, UTC)


class CloudWatch:
    """boto3's client, its calls beside the loop."""

    def __init__(self, meter, clock):
        self.meter = meter
        self.operations = Monitoring(meter, clock).operations
        self._client = boto.client("cloudwatch", self.operations, service="monitoring")

    async def __call__(self, operation, **params):
        return await blocking(getattr(self._client, operation), **params)

    async def refused(self, operation, **params):
        with pytest.raises(ClientError) as caught:
            await self(operation, **params)
        error = caught.value.response
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
        return error["Error"]["Code"], error["Error"]["Message"]

    async def put(self, *data, namespace="App"):
        return await self("put_metric_data", Namespace=namespace, MetricData=list(data))

    async def statistics(self, name="m", *statistics, namespace="App", **more):
        asked = {
            "Statistics": list(statistics or ["Sum"]),
            "StartTime": NOW - timedelta(hours=1),
            "EndTime": NOW + timedelta(hours=1),
        }
        answer = await self(
            "get_metric_statistics", Namespace=namespace, MetricName=name, **{"Period": 60, **asked, **more}
        )  # fmt: skip
        return [{key: value for key, value in each.items() if key != "Timestamp"} for each in answer["Datapoints"]]

    async def data(self, *queries, **more):
        asked = {"StartTime": NOW - timedelta(minutes=10), "EndTime": NOW + timedelta(minutes=1), **more}
        answer = await self("get_metric_data", MetricDataQueries=list(queries), **asked)
        return answer["MetricDataResults"]

    async def values(self, *queries, **more):
        """{id: {minutes from now: value}}"""
        return {
            each["Id"]: {
                int((at - NOW).total_seconds()) // 60: value
                for at, value in zip(each["Timestamps"], each["Values"], strict=True)
            }
            for each in await self.data(*queries, **more)
        }


@pytest.fixture(params=["json", "smithy-rpc-v2-cbor", "query"])
async def watch(tmp_path, request, monkeypatch):
    """In each of the protocols that clients of some age speak."""
    monkeypatch.setattr(botocore.model, "PRIORITY_ORDERED_SUPPORTED_PROTOCOLS", [request.param])
    clock = VirtualClock(wall_s=float(NOW_S))
    meter = SqliteMeter(tmp_path / "metrics.db", clock)
    yield CloudWatch(meter, clock)
    await meter.close()


def stat(number, name="m", stat="Sum", *, namespace="App", period=60, dimensions=(), **more):
    metric = {"Namespace": namespace, "MetricName": name, "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions]}
    return {"Id": number, "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}, **more}


def math(number, expression, **more):
    return {"Id": number, "Expression": expression, **more}


def calls(
    meter, name="hello", *, qualifier=None, version=None, durations=(10.0,), status=Status.OK, at_s=NOW_S, levels=(1, 1, 1)
):
    """What a front would have sent about calls of a function of the account that tests use."""
    target = a_target(name)
    function = replace(target.function, account=boto.ACCOUNT, region=boto.REGION)
    target = Target(function=function, revision=target.revision, qualifier=qualifier)
    tally = Tally()
    for duration_ms in durations:
        report = Report(
            invocation="i", revision="r", version=version, status=status, duration_ms=duration_ms, memory_mib=128, memory_peak_mib=1,
            timeout_s=3, ended_s=at_s,
        )  # fmt: skip
        tally.add(target, report, levels)
    taken = tally.take()
    for each in taken.sums:
        meter.add(list(points_of(each)))
    for level in taken.levels:
        meter.add(list(points_of_level(level)))


# What functions do -----------------------------------------------------------------------------------------------------
async def test_a_functions_calls_are_metrics_of_aws_lambda(watch):
    calls(watch.meter, durations=(10.0, 20.0, 30.0), levels=(2, 5, 4))
    calls(watch.meter, durations=(400.0,), status=Status.FAILED)
    named = [{"Name": "FunctionName", "Value": "hello"}]
    for name, statistic, value, unit in (
        ("Invocations", "Sum", 4, "Count"), ("Errors", "Sum", 1, "Count"), ("Duration", "Maximum", 400, "Milliseconds"),
        ("Duration", "SampleCount", 4, "Milliseconds"), ("ConcurrentExecutions", "Maximum", 2, "Count"),
    ):  # fmt: skip
        (point,) = await watch.statistics(name, statistic, namespace="AWS/Lambda", Dimensions=named)
        assert point == {statistic: value, "Unit": unit}
    (of_account,) = await watch.statistics("ConcurrentExecutions", "Maximum", namespace="AWS/Lambda")
    (unreserved,) = await watch.statistics("UnreservedConcurrentExecutions", "Maximum", namespace="AWS/Lambda")
    assert (of_account["Maximum"], unreserved["Maximum"]) == (5, 4)


async def test_aliases_versions_and_unqualified_calls_are_told_apart(watch):
    calls(watch.meter, qualifier="live", version=3, durations=(1, 1))
    calls(watch.meter, qualifier="live", version=4, durations=(1,))
    calls(watch.meter, qualifier="3", version=3)
    calls(watch.meter)
    queries = {
        "account": (), "function": [("FunctionName", "hello")],
        "alias": [("FunctionName", "hello"), ("Resource", "hello:live")],
        "executed": [("ExecutedVersion", "3"), ("FunctionName", "hello"), ("Resource", "hello:live")],
        "version": [("FunctionName", "hello"), ("Resource", "hello:3")],
        "unqualified": [("FunctionName", "hello"), ("Resource", "hello")],
        "other": [("FunctionName", "other")], "wrong": [("Resource", "hello")],
    }  # fmt: skip
    found = await watch.values(
        *(stat(key, "Invocations", namespace="AWS/Lambda", dimensions=each) for key, each in queries.items())
    )
    counted = {key: sum(points.values()) for key, points in found.items()}
    assert counted == {
        "account": 5, "function": 5, "alias": 3, "executed": 2, "version": 1, "unqualified": 1, "other": 0, "wrong": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("version", "shown"), [(None, "$LATEST"), (UNNUMBERED, "$LATEST.PUBLISHED"), (3, "3")])
async def test_what_an_alias_ran_is_found_by_the_versions_name(watch, version, shown):
    calls(watch.meter, qualifier="live", version=version)
    dimensions = [{"Name": "FunctionName", "Value": "hello"}, {"Name": "Resource", "Value": "hello:live"}]
    dimensions.append({"Name": "ExecutedVersion", "Value": shown})
    listed = await watch("list_metrics", Namespace="AWS/Lambda", MetricName="Errors", Dimensions=dimensions)
    assert [metric["Dimensions"] for metric in listed["Metrics"]] == [dimensions]


async def test_metrics_of_functions_are_listed_with_their_dimensions(watch):
    calls(watch.meter, qualifier="live", version=None)
    listed = (await watch("list_metrics", Namespace="AWS/Lambda", MetricName="Errors"))["Metrics"]
    assert [{each["Name"]: each["Value"] for each in metric["Dimensions"]} for metric in listed] == [
        {},
        {"FunctionName": "hello"},
        {"FunctionName": "hello", "Resource": "hello:live"},
        {"FunctionName": "hello", "Resource": "hello:live", "ExecutedVersion": "$LATEST"},
    ]
    names = {metric["MetricName"] for metric in (await watch("list_metrics"))["Metrics"]}
    assert names == {"Invocations", "Errors", "Duration", "ConcurrentExecutions", "UnreservedConcurrentExecutions"}


async def test_percentiles_of_durations(watch):
    calls(watch.meter, durations=[float(n) for n in range(1, 1001)])
    (point,) = await watch.statistics(
        "Duration", "Average", namespace="AWS/Lambda", ExtendedStatistics=["p50", "p99", "tm90", "PR(:100)", "IQM"]
    )
    extended = point["ExtendedStatistics"]
    assert point["Average"] == 500.5
    for name, value in (("p50", 500), ("p99", 990), ("tm90", 450), ("PR(:100)", 10), ("IQM", 500)):
        assert extended[name] == pytest.approx(value, rel=0.02)


# What clients put in -------------------------------------------------------------------------------------------------
async def test_values_counts_and_statistic_sets_come_together(watch):
    await watch.put(
        {"MetricName": "m", "Value": 5.0, "Unit": "Seconds", "Timestamp": NOW},
        {"MetricName": "m", "Values": [1.0, 10.0], "Counts": [3.0, 1.0], "Unit": "Seconds", "Timestamp": NOW},
        {
            "MetricName": "m", "Unit": "Seconds", "Timestamp": NOW,
            "StatisticValues": {"SampleCount": 2.0, "Sum": 30.0, "Minimum": 14.0, "Maximum": 16.0},
        },
    )  # fmt: skip
    (point,) = await watch.statistics("m", "SampleCount", "Sum", "Minimum", "Maximum", "Average")
    assert point == {"SampleCount": 7, "Sum": 48, "Minimum": 1, "Maximum": 16, "Average": 48 / 7, "Unit": "Seconds"}
    (without,) = await watch.statistics("m", "Sum", ExtendedStatistics=["p50"])
    assert "ExtendedStatistics" not in without  # the set's values are not known


async def test_what_has_no_time_is_of_now_and_what_has_no_unit_has_none(watch):
    await watch.put({"MetricName": "m", "Value": 1.0})
    assert await watch.values(stat("a")) == {"a": {0: 1}}
    assert (await watch.statistics("m", Unit="None")) == [{"Sum": 1, "Unit": "None"}]
    assert await watch.statistics("m", Unit="Seconds") == []


async def test_units_are_told_apart(watch):
    for unit, value in (("Bytes", 1.0), ("Seconds", 2.0)):
        await watch.put({"MetricName": "m", "Value": value, "Unit": unit})
    assert {(each["Unit"], each["Sum"]) for each in await watch.statistics()} == {("Bytes", 1), ("Seconds", 2)}
    assert len((await watch("list_metrics", Namespace="App"))["Metrics"]) == 1


async def test_a_large_put_that_botocore_compresses_arrives(watch):
    data = [{"MetricName": f"m{n}", "Values": [float(v) for v in range(150)], "Counts": [1.0] * 150} for n in range(20)]
    await watch.put(*data)
    assert (await watch.values(stat("a", "m19")))["a"] == {0: sum(range(150))}


@pytest.mark.parametrize(
    ("datum", "code", "text"),
    [
        ({}, "MissingParameter", "At least one of the parameters MetricData.member.1.Value"),
        ({"Value": 1.0, "Values": [1.0]}, "InvalidParameterCombination", "MetricData.member.1.Value and MetricData.member.1.Values"),
        ({"Value": float("nan")}, "InvalidParameterValue", "The value nan for parameter MetricData.member.1.Value is invalid."),
        ({"Value": 2.0**361}, "InvalidParameterValue", "is invalid"),
        ({"Values": [1.0, 2.0], "Counts": [1.0]}, "InvalidParameterValue", "must be of the same size"),
        ({"Values": []}, "InvalidParameterValue", "must have a size of 1 to 150"),
        ({"Values": [1.0] * 151}, "InvalidParameterValue", "must have a size of 1 to 150"),
        ({"Values": [1.0], "Counts": [0.0]}, "InvalidParameterValue", "Counts is invalid"),
        ({"Value": 1.0, "Timestamp": NOW - timedelta(days=15)}, "InvalidParameterValue", "no more than two weeks in the past"),
        ({"Value": 1.0, "Timestamp": NOW + timedelta(hours=3)}, "InvalidParameterValue", "two hours in the future"),
        ({"Value": 1.0, "Dimensions": [{"Name": "a", "Value": "1"}, {"Name": "a", "Value": "2"}]}, "InvalidParameterValue", "once"),
        ({"Value": 1.0, "Unit": "Furlongs"}, "ValidationError", "unit"),
        ({"StatisticValues": {"SampleCount": 0.0, "Sum": 1.0, "Minimum": 1.0, "Maximum": 1.0}}, "InvalidParameterValue", "SampleCount"),
        ({"StatisticValues": {"SampleCount": 1.0, "Sum": 1.0, "Minimum": 2.0, "Maximum": 1.0}}, "InvalidParameterValue", "greater"),
    ],
)  # fmt: skip
async def test_data_that_cannot_be_are_refused_and_none_is_taken(watch, datum, code, text):
    good = {"MetricName": "good", "Value": 1.0}
    found, message = await watch.refused("put_metric_data", Namespace="App", MetricData=[{"MetricName": "m", **datum}, good])
    assert found == code
    assert text in message
    assert (await watch("list_metrics", Namespace="App"))["Metrics"] == []


async def test_more_than_a_thousand_data_and_namespaces_of_awss_own_are_refused(watch):
    many = [{"MetricName": "m", "Value": 1.0}] * 1001
    assert (await watch.refused("put_metric_data", Namespace="App", MetricData=many))[0] == "InvalidParameterValue"
    one = [{"MetricName": "Invocations", "Value": 1.0}]
    code, message = await watch.refused("put_metric_data", Namespace="AWS/Lambda", MetricData=one)
    assert (code, message) == ("InvalidParameterValue", "The value AWS/Lambda for parameter Namespace is invalid.")
    assert (await watch.refused("put_metric_data", Namespace="App"))[0] == "MissingParameter"


async def test_data_of_entities_are_data(watch):
    entity = {"Entity": {"KeyAttributes": {"Type": "Service", "Name": "x"}}, "MetricData": [{"MetricName": "m", "Value": 3.0}]}
    await watch("put_metric_data", Namespace="App", EntityMetricData=[entity])
    assert await watch.values(stat("a")) == {"a": {0: 3}}


# Listing -----------------------------------------------------------------------------------------------------------------
async def test_metrics_are_listed_by_name_dimensions_and_age_in_pages(watch, monkeypatch):
    monkeypatch.setattr(monitoring, "LISTED_MAX", 7)
    dimensions = [{"Name": "Zone", "Value": "a"}, {"Name": "Host", "Value": "x"}]
    await watch.put(*({"MetricName": f"m{n:02}", "Value": 1.0, "Timestamp": NOW - timedelta(hours=4)} for n in range(20)))
    await watch.put({"MetricName": "dim", "Value": 1.0, "Dimensions": dimensions})

    async def listed(**more):
        found, token = [], None
        while True:
            page = await watch("list_metrics", **more, **({"NextToken": token} if token else {}))
            assert len(page["Metrics"]) <= 7
            found += [each["MetricName"] for each in page["Metrics"]]
            token = page.get("NextToken")
            if token is None:
                return found

    assert await listed(Namespace="App") == [*(f"m{n:02}" for n in range(20)), "dim"]
    assert await listed(Namespace="App", Dimensions=[{"Name": "Host"}]) == ["dim"]
    assert await listed(Dimensions=[{"Name": "Host", "Value": "y"}]) == []
    assert await listed(MetricName="m07") == ["m07"]
    assert await listed(RecentlyActive="PT3H") == ["dim"]
    assert await listed(Namespace="Other") == []
    (found,) = (await watch("list_metrics", MetricName="dim"))["Metrics"]
    assert sorted(found["Dimensions"], key=lambda each: each["Name"]) == sorted(dimensions, key=lambda each: each["Name"])


async def test_a_token_that_nobody_gave_is_refused(watch):
    assert (await watch.refused("list_metrics", NextToken="made up"))[0] == "InvalidParameterValue"
    code, _ = await watch.refused(
        "get_metric_data", MetricDataQueries=[stat("a")], StartTime=NOW - timedelta(hours=1), EndTime=NOW, NextToken="made up"
    )
    assert code == "InvalidNextToken"


# Statistics --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({"StartTime": NOW, "EndTime": NOW}, "InvalidParameterValue", "The parameter StartTime must be less than the parameter EndTime."),
        ({"Period": 90}, "InvalidParameterValue", "multiple of 60"),
        ({"StartTime": NOW - timedelta(days=2)}, "InvalidParameterCombination", "exceeds the limit of 1,440"),
        ({"Statistics": ["Sum"], "ExtendedStatistics": ["p101"]}, "InvalidParameterValue", "p101"),
    ],
)  # fmt: skip
async def test_statistics_that_cannot_be_are_refused(watch, params, code, text):
    usual = {"StartTime": NOW - timedelta(hours=1), "EndTime": NOW, "Period": 60, "Statistics": ["Sum"]}
    found, message = await watch.refused("get_metric_statistics", Namespace="App", MetricName="m", **{**usual, **params})
    assert found == code
    assert text in message


async def test_statistics_need_one(watch):
    code, _ = await watch.refused(
        "get_metric_statistics", Namespace="App", MetricName="m", StartTime=NOW - timedelta(hours=1), EndTime=NOW, Period=60
    )
    assert code == "MissingParameter"


# Data --------------------------------------------------------------------------------------------------------------------
async def numbers(watch, name, **minutes):
    """Values by how many minutes ago they were: m5=3 was five minutes ago."""
    await watch.put(
        *(
            {"MetricName": name, "Value": float(v), "Timestamp": NOW - timedelta(minutes=int(ago[1:]))}
            for ago, v in minutes.items()
        )
    )


async def test_newest_first_unless_asked_otherwise(watch):
    await numbers(watch, "m", m0=1, m1=2, m5=3)
    (newest,) = await watch.data(stat("a"))
    assert newest["Values"] == [1, 2, 3]
    assert (newest["Id"], newest["Label"], newest["StatusCode"]) == ("a", "m", "Complete")
    (oldest,) = await watch.data(stat("a", Label="shown"), ScanBy="TimestampAscending")
    assert (oldest["Values"], oldest["Label"]) == ([3, 2, 1], "shown")


async def test_ratios_sums_and_fills(watch):
    await numbers(watch, "errors", m3=1, m1=3)
    await numbers(watch, "calls", m3=10, m2=5, m1=6)
    found = await watch.values(
        stat("e", "errors", ReturnData=False), stat("c", "calls", ReturnData=False),
        math("rate", "100 * e / c"), math("filled", "FILL(e, 0) / c"), math("all", "SUM([e, c])"), math("both", "SUM(METRICS())"),
        math("left", "-(c - 2) * 2 + 1"), math("nothing", "c / 0"), math("repeat", "FILL(e, REPEAT)"),
        math("linear", "FILL(e, LINEAR)"), math("change", "RATE(c)"), math("again", "rate * 2"), math("average", "AVG(c)"),
        math("most", "MAX([e, FILL(c, 7)])"),
    )  # fmt: skip
    assert found["rate"] == {-3: 10, -1: 50}
    assert found["filled"] == {-3: 0.1, -2: 0, -1: 0.5}
    assert found["all"] == found["both"] == {-3: 11, -2: 5, -1: 9}
    assert found["left"] == {-3: -15, -2: -5, -1: -7}
    assert found["nothing"] == {}
    assert found["repeat"] == {-3: 1, -2: 1, -1: 3, 0: 3}
    assert found["linear"] == {-3: 1, -2: 2, -1: 3}
    assert found["change"] == pytest.approx({-2: -5 / 60, -1: 1 / 60})
    assert found["again"] == {-3: 20, -1: 100}
    assert set(found["average"].values()) == {7}
    assert found["most"] == {-10: 7, -9: 7, -8: 7, -7: 7, -6: 7, -5: 7, -4: 7, -3: 10, -2: 5, -1: 6, 0: 7}
    assert "e" not in found


async def test_an_array_gives_a_result_for_each_of_its_metrics(watch):
    await numbers(watch, "one", m1=1)
    await numbers(watch, "two", m1=2)
    found = await watch.data(
        stat("a", "one", ReturnData=False), stat("b", "two", ReturnData=False), math("x", "METRICS() * 10")
    )
    assert [(each["Id"], each["Label"], each["Values"]) for each in found] == [("x", "one", [10]), ("x", "two", [20])]


@pytest.mark.parametrize(
    ("queries", "text"),
    [
        ([math("a", "b + 1")], "Error in expression 'a': no query has the id b."),
        ([math("a", "b"), math("b", "a")], "needs itself"),
        ([math("a", "SEARCH('{App} m', 'Sum', 60)")], "Ondol does not do SEARCH"),
        ([math("a", "SELECT SUM(m) FROM App", Period=60)], "Ondol does not do Metrics Insights"),
        ([math("a", "ANOMALY_DETECTION_BAND(m)")], "Ondol does not do ANOMALY_DETECTION_BAND(); it does ABS, AVG"),
        ([math("a", "(1 + 2")], "ends too early"),
        ([math("a", "1 +")], "ends too early"),
        ([math("a", "1 2")], "'2' is not expected there"),
        ([math("a", "1 § 2")], "cannot be read"),
        ([math("a", "(" * 40 + "1" + ")" * 40)], "nests"),
        ([math("a", "1 / 0")], "divided by zero"),
        ([math("a", "[1, 2]")], "an array is of metrics"),
        ([math("a", "RATE(1)")], "RATE is of a metric"),
        ([stat("a"), stat("a")], "not unique"),
        ([stat("A")], "must match the regex"),
        ([{"Id": "a"}], "must have one of MetricStat and Expression"),
        ([{**stat("a"), "Expression": "1"}], "mutually exclusive"),
        ([stat("a", period=61)], "multiple of 60"),
        ([stat("a", stat="Mode")], "Mode"),
        ([stat(f"a{n}") for n in range(501)], "must not have a size greater than 500"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_queries_that_cannot_be_are_refused_in_words(watch, queries, text):
    code, message = await watch.refused(
        "get_metric_data", MetricDataQueries=queries, StartTime=NOW - timedelta(minutes=5), EndTime=NOW
    )
    assert code == "ValidationError"
    assert text in message


async def test_many_points_come_in_pages_and_none_twice(watch):
    await numbers(watch, "m", m0=0, m1=1, m2=2, m3=3, m4=4)
    await numbers(watch, "n", m0=10, m2=12)
    found, token = [], None
    while True:
        page = await watch(
            "get_metric_data", MetricDataQueries=[stat("a"), stat("b", "n"), stat("c", "none")], MaxDatapoints=3,
            StartTime=NOW - timedelta(minutes=10), EndTime=NOW + timedelta(minutes=1), **({"NextToken": token} if token else {}),
        )  # fmt: skip
        found += [(each["Id"], each["Values"], each["StatusCode"]) for each in page["MetricDataResults"]]
        token = page.get("NextToken")
        if token is None:
            break
    assert found == [
        ("a", [0, 1, 2], "PartialData"), ("c", [], "Complete"), ("a", [3, 4], "Complete"), ("b", [10], "PartialData"),
        ("b", [12], "Complete"),
    ]  # fmt: skip


# Other protocols ---------------------------------------------------------------------------------------------------------
async def test_query_and_json_clients_get_the_same(watch):
    await numbers(watch, "m", m1=4)
    form = (
        "Action=GetMetricStatistics&Version=2010-08-01&Namespace=App&MetricName=m&Period=60&Statistics.member.1=Sum"
        f"&StartTime={(NOW - timedelta(hours=1)).isoformat()[:19]}Z&EndTime={NOW.isoformat()[:19]}Z"
    )
    call = codec.decode("monitoring", "POST", "/", [("content-type", "application/x-www-form-urlencoded")], form.encode())
    answer = codec.encode(call, await watch.operations[call.operation](boto.context(), call.params), "r")
    assert b"<Sum>4.0</Sum>" in answer.body
    assert b"<Timestamp>2023-11-14T23:59:00Z</Timestamp>" in answer.body
    body = {
        "Namespace": "App", "MetricName": "m", "Period": 60, "Statistics": ["Sum"], "StartTime": NOW_S - 3600, "EndTime": NOW_S,
    }  # fmt: skip
    headers = [
        ("x-amz-target", "GraniteServiceVersion20100801.GetMetricStatistics"),
        ("content-type", "application/x-amz-json-1.0"),
    ]
    call = codec.decode("monitoring", "POST", "/", headers, msgspec.json.encode(body))
    answer = codec.encode(call, await watch.operations[call.operation](boto.context(), call.params), "r")
    (point,) = msgspec.json.decode(answer.body)["Datapoints"]
    assert point == {"Timestamp": NOW_S - 60, "Sum": 4.0, "Unit": "None"}


@pytest.mark.parametrize("protocol", [codec.CBOR, codec.JSON, codec.QUERY])
def test_an_error_is_said_as_its_protocol_says_it(protocol):
    error = ServiceError("InvalidParameterValueException", "it cannot be")
    response = codec.encode_error("monitoring", protocol, error, "r")
    assert response.status == 400
    if protocol == codec.QUERY:
        assert b"<Code>InvalidParameterValue</Code><Message>it cannot be</Message>" in response.body
    else:
        assert ("x-amzn-query-error", "InvalidParameterValue;Sender") in response.headers


async def test_other_accounts_see_nothing(watch):
    theirs = Series("999999999999", boto.REGION, "App", "m", (), "None")
    watch.meter.add([Point(theirs, NOW_S, of_values([(1, 1)]))])
    assert (await watch("list_metrics"))["Metrics"] == []
    assert await watch.values(stat("a")) == {"a": {}}


# Through the dialect -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("protocol", "metrics", "values", "elsewhere"),
    [("json", 2, 3, False), ("smithy-rpc-v2-cbor", 2, 3, False), ("query", 2, 3, False), ("json", 12, 150, True),
     ("smithy-rpc-v2-cbor", 12, 150, True), ("query", 12, 150, True), ("smithy-rpc-v2-cbor", 900, 150, True)],
)  # fmt: skip
async def test_puts_of_every_size_arrive_over_a_socket(monkeypatch, protocol, metrics, values, elsewhere):
    monkeypatch.setattr(botocore.model, "PRIORITY_ORDERED_SUPPORTED_PROTOCOLS", [protocol])
    asked, came = [], []
    operations = Monitoring(SimpleNamespace(add=came.append), VirtualClock(wall_s=float(NOW_S))).operations
    application = aws.AwsApplication(services={"monitoring": operations}, invoker=aws.EchoInvoker(), index=aws.index_with())
    application.desk._decode_large = watch_decoding(asked)
    with aws.serving(application) as url:
        client = boto3.client(
            "cloudwatch", endpoint_url=url, region_name=aws.REGION, aws_access_key_id=aws.KEY.id,
            aws_secret_access_key=aws.KEY.secret, config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        data = [{"MetricName": f"m{n}", "Values": [float(v) for v in range(values)], "Timestamp": NOW} for n in range(metrics)]
        await blocking(client.put_metric_data, Namespace="App", MetricData=data)
    assert bool(asked) == elsewhere  # what is compressed may be long
    (put,) = came
    assert len(put) == metrics
    assert put[-1].summary.count == values


def watch_decoding(asked):
    """A decoder that crosses the line to the helper as the node's does."""

    async def ask(job, **parts):
        asked.append(job)
        parts = msgspec.msgpack.decode(msgspec.msgpack.encode(parts))
        return msgspec.msgpack.decode(msgspec.msgpack.encode(decoding.job(**parts)))

    return decoding.decoding(ask)
