"""CloudWatch Logs over a real socket and the node's journal, with boto3 unmodified."""

import asyncio

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ondol.dialects.aws.logs import Logs
from ondol.journal import Batch
from ondol.journals.segments import SegmentJournal
from ondol.model.invocations import LogEvent
from ondol.testing.aws import ACCOUNT, KEY, REGION, AwsApplication, EchoInvoker, index_with, serving

GROUP = "/aws/lambda/hello"


@pytest.fixture
def journal(tmp_path):
    journal = SegmentJournal(tmp_path)
    yield journal
    asyncio.run(journal.close())


@pytest.fixture
def logs(journal):
    application = AwsApplication(services={"logs": Logs(journal).operations}, invoker=EchoInvoker(), index=index_with())
    with serving(application) as url:
        yield boto3.client(
            "logs",
            endpoint_url=url,
            aws_access_key_id=KEY.id,
            aws_secret_access_key=KEY.secret,
            region_name=REGION,
            config=Config(retries={"total_max_attempts": 1}),
        )


def write(journal, stream, *events, group=GROUP):
    asyncio.run(journal.append([Batch(ACCOUNT, REGION, group, stream, [LogEvent(at, text) for at, text in events])]))


def refused(call, **params):
    with pytest.raises(ClientError) as caught:
        call(**params)
    return caught.value.response["Error"]


def texts(answer):
    return [event["message"] for event in answer["events"]]


def test_groups_are_described_in_pages(journal, logs):
    for name in ("/aws/lambda/a", "/aws/lambda/b", "/other/c"):
        write(journal, "s", (1000, "x"), group=name)
    page = logs.describe_log_groups(logGroupNamePrefix="/aws/", limit=1)
    [group] = page["logGroups"]
    assert group["logGroupName"] == "/aws/lambda/a"
    assert group["arn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/a:*"
    assert group["creationTime"] > 0
    page = logs.describe_log_groups(logGroupNamePrefix="/aws/", limit=1, nextToken=page["nextToken"])
    assert [each["logGroupName"] for each in page["logGroups"]] == ["/aws/lambda/b"]
    assert "nextToken" not in page
    every = logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 1})
    assert [each["logGroupName"] for page in every for each in page["logGroups"]] == [
        "/aws/lambda/a",
        "/aws/lambda/b",
        "/other/c",
    ]
    assert [each["logGroupName"] for each in logs.describe_log_groups(logGroupNamePattern="ther")["logGroups"]] == ["/other/c"]
    assert logs.describe_log_groups(logGroupNamePattern="THER")["logGroups"] == []


def test_streams_are_ordered_by_name_or_by_their_last_event(journal, logs):
    for name, at in (("a", 3000), ("b", 1000), ("c", 2000)):
        write(journal, name, (at, "x"))
    names = lambda **how: [each["logStreamName"] for each in logs.describe_log_streams(logGroupName=GROUP, **how)["logStreams"]]
    assert names() == ["a", "b", "c"]
    assert names(descending=True) == ["c", "b", "a"]
    assert names(orderBy="LastEventTime") == ["b", "c", "a"]
    assert names(orderBy="LastEventTime", descending=True, limit=1) == ["a"]
    assert names(logStreamNamePrefix="b") == ["b"]
    paginator = logs.get_paginator("describe_log_streams")
    pages = paginator.paginate(logGroupName=GROUP, orderBy="LastEventTime", descending=True, PaginationConfig={"PageSize": 1})
    assert [each["logStreamName"] for page in pages for each in page["logStreams"]] == ["a", "c", "b"]
    [stream] = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="a")["logStreams"]
    assert (stream["firstEventTimestamp"], stream["lastEventTimestamp"]) == (3000, 3000)
    assert stream["arn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}:log-stream:a"


def test_the_last_events_come_first_unless_asked_from_the_head(journal, logs):
    write(journal, "s", *((1000 + n, str(n)) for n in range(10)))
    get = lambda **how: logs.get_log_events(logGroupName=GROUP, logStreamName="s", limit=3, **how)
    page = get()
    assert texts(page) == ["7", "8", "9"]
    page = get(nextToken=page["nextBackwardToken"])
    assert texts(page) == ["4", "5", "6"]
    head = get(startFromHead=True)
    assert texts(head) == ["0", "1", "2"]
    assert texts(get(nextToken=head["nextForwardToken"])) == ["3", "4", "5"]
    assert head["nextForwardToken"].startswith("f/")
    assert head["nextBackwardToken"].startswith("b/")
    assert head["events"][0]["timestamp"] == 1000
    assert head["events"][0]["ingestionTime"] > 1000


def test_at_the_end_the_token_stays_and_new_events_are_found_behind_it(journal, logs):
    write(journal, "s", (1000, "one"))
    get = lambda **how: logs.get_log_events(logGroupName=GROUP, logStreamName="s", **how)
    page = get(startFromHead=True)
    end = get(nextToken=page["nextForwardToken"])
    assert (texts(end), end["nextForwardToken"]) == ([], page["nextForwardToken"])
    write(journal, "s", (2000, "two"))
    assert texts(get(nextToken=end["nextForwardToken"])) == ["two"]


def test_times_bound_events(journal, logs):
    write(journal, "s", (1000, "a"), (2000, "b"), (3000, "c"))
    assert texts(logs.get_log_events(logGroupName=GROUP, logStreamName="s", startTime=2000, endTime=3000)) == ["b"]
    assert texts(logs.filter_log_events(logGroupName=GROUP, startTime=2000, endTime=3000)) == ["b", "c"]


def test_a_page_ends_before_a_megabyte(journal, logs):
    write(journal, "s", *((1000 + n, "x" * 200_000) for n in range(12)))
    page = logs.get_log_events(logGroupName=GROUP, logStreamName="s", startFromHead=True)
    assert len(page["events"]) == 5
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP)
    assert [len(page["events"]) for page in pages] == [5, 5, 2]


def test_filtering_looks_through_all_streams_in_time_order(journal, logs):
    write(journal, "one", (1000, "START a"), (3000, "ERROR disk is full"))
    write(journal, "two", (2000, "ERROR net"), (4000, "END a"))
    find = lambda **how: texts(logs.filter_log_events(logGroupName=GROUP, **how))
    assert find() == ["START a", "ERROR net", "ERROR disk is full", "END a"]
    assert find(filterPattern="ERROR") == ["ERROR net", "ERROR disk is full"]
    assert find(filterPattern='"disk is"') == ["ERROR disk is full"]
    assert find(filterPattern="ERROR -net") == ["ERROR disk is full"]
    assert find(filterPattern="?START ?END") == ["START a", "END a"]
    assert find(filterPattern="error") == []
    assert find(logStreamNames=["two"]) == ["ERROR net", "END a"]
    assert find(logStreamNamePrefix="o") == ["START a", "ERROR disk is full"]
    assert find(logStreamNamePrefix="zzz") == []
    [event] = logs.filter_log_events(logGroupName=GROUP, filterPattern="net")["events"]
    assert (event["logStreamName"], event["timestamp"]) == ("two", 2000)
    assert event["eventId"]
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=GROUP, interleaved=True, PaginationConfig={"PageSize": 1}
    )
    assert [text for page in pages for text in texts(page)] == ["START a", "ERROR net", "ERROR disk is full", "END a"]


def test_patterns_look_into_json_and_columns(journal, logs):
    write(journal, "s", *((1000 + n, f'{{"level": "{level}", "n": {n}}}') for n, level in enumerate(("INFO", "ERROR") * 3)))
    write(journal, "s", (2000, "10.0.0.1 GET 404"), (2001, "10.0.0.1 GET 200"))
    find = lambda pattern: [
        event["timestamp"] for event in logs.filter_log_events(logGroupName=GROUP, filterPattern=pattern)["events"]
    ]
    assert find('{ $.level = "ERROR" && $.n > 1 }') == [1003, 1005]
    assert find("[ip, method, status = 4*]") == [2000]
    assert find("%40[0-9]%") == [2000]
    error = refused(logs.filter_log_events, logGroupName=GROUP, filterPattern="{ $.level = ")
    assert error["Code"] == "InvalidParameterException"
    assert "Invalid filter pattern" in error["Message"]


def test_the_latest_events_come_first_when_asked_so(journal, logs):
    write(journal, "s", *((1000 + n, str(n)) for n in range(6)))
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=GROUP, startFromHead=False, PaginationConfig={"PageSize": 4}
    )
    assert [texts(page) for page in pages] == [["5", "4", "3", "2"], ["1", "0"]]


def test_groups_and_streams_that_are_not_there(journal, logs):
    missing = {"Code": "ResourceNotFoundException", "Message": "The specified log group does not exist."}
    assert refused(logs.describe_log_streams, logGroupName="/nope") == missing
    assert refused(logs.filter_log_events, logGroupName="/nope") == missing
    assert refused(logs.get_log_events, logGroupName="/nope", logStreamName="s") == missing
    write(journal, "s", (1000, "x"))
    missing = {"Code": "ResourceNotFoundException", "Message": "The specified log stream does not exist."}
    assert refused(logs.get_log_events, logGroupName=GROUP, logStreamName="nope") == missing


@pytest.mark.parametrize("token", ["nonsense", "f/nonsense", "b/zz", "x/1"])
def test_tokens_that_we_did_not_give_out_are_refused(journal, logs, token):
    write(journal, "s", (1000, "x"))
    assert (
        refused(logs.get_log_events, logGroupName=GROUP, logStreamName="s", nextToken=token)["Code"]
        == "InvalidParameterException"
    )
    assert refused(logs.filter_log_events, logGroupName=GROUP, nextToken=token)["Code"] == "InvalidParameterException"
    assert refused(logs.describe_log_streams, logGroupName=GROUP, nextToken=token)["Code"] == "InvalidParameterException"


def test_a_group_may_be_named_by_its_arn(journal, logs):
    write(journal, "s", (1000, "x"))
    for identifier in (GROUP, f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"):
        assert texts(logs.filter_log_events(logGroupIdentifier=identifier)) == ["x"]
    assert refused(logs.filter_log_events)["Code"] == "InvalidParameterException"


def test_what_is_not_built_says_so(logs):
    error = refused(logs.describe_metric_filters)
    assert error["Code"] == "NotImplemented"
    assert "DescribeMetricFilters" in error["Message"]
