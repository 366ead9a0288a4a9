"""CloudWatch Logs' groups, streams, tags and events as clients make them, over a real socket, with boto3 unmodified."""

import asyncio
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ondol.dialects.aws.logs import Logs
from ondol.journals.segments import SegmentJournal
from ondol.testing.aws import ACCOUNT, KEY, REGION, AwsApplication, EchoInvoker, index_with, serving

GROUP, STREAM = "/app/web", "host/1"
HOUR, DAY = 3_600_000, 86_400_000


@pytest.fixture
def journal(tmp_path):
    return SegmentJournal(tmp_path)


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
    asyncio.run(journal.close())


@pytest.fixture
def stream(logs):
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)


def refused(call, **params):
    with pytest.raises(ClientError) as caught:
        call(**params)
    return caught.value.response["Error"]


def put(logs, *events, **more):
    now = int(time.time() * 1000)
    made = [{"timestamp": now + after, "message": message} for after, message in events]
    return logs.put_log_events(logGroupName=GROUP, logStreamName=STREAM, logEvents=made, **more)


def texts(logs):
    return [event["message"] for event in logs.filter_log_events(logGroupName=GROUP)["events"]]


# Groups ------------------------------------------------------------------------------------------------------------------


def test_a_group_lives_from_creation_to_deletion(logs):
    logs.create_log_group(logGroupName=GROUP, tags={"team": "blue"})
    [group] = logs.describe_log_groups()["logGroups"]
    assert (group["logGroupName"], group["storedBytes"], group["logGroupClass"]) == (GROUP, 0, "STANDARD")
    assert group["arn"] == group["logGroupArn"] + ":*"
    assert "retentionInDays" not in group
    exists = {"Code": "ResourceAlreadyExistsException", "Message": "The specified log group already exists"}
    assert refused(logs.create_log_group, logGroupName=GROUP) == exists
    logs.delete_log_group(logGroupName=GROUP)
    assert logs.describe_log_groups()["logGroups"] == []
    missing = {"Code": "ResourceNotFoundException", "Message": "The specified log group does not exist."}
    assert refused(logs.delete_log_group, logGroupName=GROUP) == missing


def test_groups_are_described_by_what_names_them(logs):
    for name in ("/a", "/ab", "/b"):
        logs.create_log_group(logGroupName=name)
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/b"
    found = logs.describe_log_groups(logGroupIdentifiers=["/a", arn, "/none"])["logGroups"]
    assert [group["logGroupName"] for group in found] == ["/a", "/b"]
    [brief] = logs.describe_log_groups(logGroupNamePattern="b", limit=1)["logGroups"]
    assert brief.keys() == {"logGroupName", "creationTime", "arn"}
    assert logs.describe_log_groups(logGroupClass="INFREQUENT_ACCESS")["logGroups"] == []
    both = {"logGroupNamePrefix": "/", "logGroupIdentifiers": ["/a"]}
    assert refused(logs.describe_log_groups, **both)["Code"] == "InvalidParameterException"


def test_retention_is_put_shown_and_taken_back(logs, stream):
    logs.put_retention_policy(logGroupName=GROUP, retentionInDays=14)
    assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 14
    logs.delete_retention_policy(logGroupName=GROUP)
    assert "retentionInDays" not in logs.describe_log_groups()["logGroups"][0]
    error = refused(logs.put_retention_policy, logGroupName=GROUP, retentionInDays=2)
    assert error["Code"] == "InvalidParameterException"
    assert "[1, 3, 5, 7, 14, " in error["Message"]
    assert refused(logs.put_retention_policy, logGroupName="/no", retentionInDays=1)["Code"] == "ResourceNotFoundException"


def test_what_a_group_cannot_be_is_refused(logs):
    assert refused(logs.create_log_group, logGroupName=GROUP, kmsKeyId="key")["Code"] == "NotImplemented"
    assert refused(logs.create_log_group, logGroupName=GROUP, logGroupClass="DELIVERY")["Code"] == "InvalidParameterException"
    error = refused(logs.create_log_group, logGroupName="a b")
    assert error["Code"] == "InvalidParameterException"
    assert "Member must satisfy regular expression pattern" in error["Message"]
    assert logs.describe_log_groups()["logGroups"] == []


def test_tags_by_arn_and_by_name_are_the_same_tags(logs, stream):
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"
    logs.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
    logs.tag_log_group(logGroupName=GROUP, tags={"b": "3", "c": "4"})
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "1", "b": "3", "c": "4"}
    logs.untag_resource(resourceArn=arn, tagKeys=["a", "none"])
    logs.untag_log_group(logGroupName=GROUP, tags=["b"])
    assert logs.list_tags_log_group(logGroupName=GROUP)["tags"] == {"c": "4"}
    error = refused(logs.tag_resource, resourceArn=arn, tags={f"k{n}": "" for n in range(50)})
    assert error["Code"] == "TooManyTagsException"
    assert refused(logs.list_tags_for_resource, resourceArn=f"{arn}x")["Code"] == "ResourceNotFoundException"
    other = f"arn:aws:logs:{REGION}:{ACCOUNT}:destination:d"
    assert refused(logs.list_tags_for_resource, resourceArn=other)["Code"] == "InvalidParameterException"


# Streams -----------------------------------------------------------------------------------------------------------------


def test_a_stream_lives_from_creation_to_deletion(logs, stream):
    [made] = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert made["logStreamName"] == STREAM
    assert "firstEventTimestamp" not in made
    exists = {"Code": "ResourceAlreadyExistsException", "Message": "The specified log stream already exists"}
    assert refused(logs.create_log_stream, logGroupName=GROUP, logStreamName=STREAM) == exists
    put(logs, (0, "old"))
    logs.delete_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    assert texts(logs) == []
    missing = {"Code": "ResourceNotFoundException", "Message": "The specified log stream does not exist."}
    assert refused(logs.delete_log_stream, logGroupName=GROUP, logStreamName=STREAM) == missing
    assert refused(logs.create_log_stream, logGroupName="/no", logStreamName="s")["Code"] == "ResourceNotFoundException"
    error = refused(logs.create_log_stream, logGroupName=GROUP, logStreamName="a:b")
    assert error["Code"] == "InvalidParameterException"


def test_streams_without_events_stand_among_those_with_some(logs, stream):
    logs.create_log_stream(logGroupName=GROUP, logStreamName="empty")
    put(logs, (0, "x"))
    ordered = logs.describe_log_streams(logGroupName=GROUP, orderBy="LastEventTime", descending=True)["logStreams"]
    assert [each["logStreamName"] for each in ordered] == [STREAM, "empty"]
    page = logs.describe_log_streams(logGroupName=GROUP, orderBy="LastEventTime", limit=1)
    by_name = {"logGroupName": GROUP, "nextToken": page["nextToken"]}
    assert refused(logs.describe_log_streams, **by_name)["Code"] == "InvalidParameterException"


# Events ------------------------------------------------------------------------------------------------------------------


def test_events_are_put_and_read_back(logs, stream):
    answer = put(logs, (-2000, "one"), (-1000, "온돌"), sequenceToken="whatever")
    assert len(answer["nextSequenceToken"]) == 56
    assert "rejectedLogEventsInfo" not in answer
    assert texts(logs) == ["one", "온돌"]
    events = logs.get_log_events(logGroupName=GROUP, logStreamName=STREAM, startFromHead=True)["events"]
    assert events[1]["timestamp"] - events[0]["timestamp"] == 1000


def test_events_too_old_too_new_or_expired_are_rejected_one_by_one(logs, stream):
    answer = put(logs, (-15 * DAY, "old"), (-14 * DAY - 1, "old"), (0, "kept"), (2 * HOUR + 60_000, "new"))
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 2, "tooNewLogEventStartIndex": 3}
    logs.put_retention_policy(logGroupName=GROUP, retentionInDays=3)
    assert put(logs, (-4 * DAY, "expired"), (0, "kept too"))["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 1}
    assert put(logs, (-20 * DAY, "none"))["rejectedLogEventsInfo"]["tooOldLogEventEndIndex"] == 1
    assert texts(logs) == ["kept", "kept too"]


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([(0, "b"), (-1, "a")], "chronological order"),
        ([(-DAY - 1, "a"), (0, "b")], "24 hours"),
        ([(0, "x" * 1_048_577)], "Log event too large: 1048577 bytes"),
        ([(0, "é" * 250_000)] * 3, "Upload too large: 1500078 bytes exceeds limit of 1048576"),
        ([(0, "x")] * 10_001, "less than or equal to 10000"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_whole(logs, stream, events, why):
    with pytest.raises(ClientError) as caught:
        put(logs, *events)
    error = caught.value.response["Error"]
    assert error["Code"] == "InvalidParameterException"
    assert why in error["Message"]
    assert texts(logs) == []


def test_events_for_what_is_not_there_are_refused(logs):
    assert refused(
        logs.put_log_events, logGroupName=GROUP, logStreamName=STREAM, logEvents=[{"timestamp": 1, "message": "x"}]
    ) == {
        "Code": "ResourceNotFoundException",
        "Message": "The specified log group does not exist.",
    }
    logs.create_log_group(logGroupName=GROUP)
    error = refused(logs.put_log_events, logGroupName=GROUP, logStreamName=STREAM, logEvents=[{"timestamp": 1, "message": "x"}])
    assert error["Message"] == "The specified log stream does not exist."


def test_a_pattern_is_tried_on_given_messages(logs):
    found = logs.test_metric_filter(filterPattern="[ip, status = 4*]", logEventMessages=["1.2.3.4 200", "1.2.3.4 404"])
    assert found["matches"] == [
        {"eventNumber": 2, "eventMessage": "1.2.3.4 404", "extractedValues": {"$ip": "1.2.3.4", "$status": "404"}}
    ]
    assert refused(logs.test_metric_filter, filterPattern="[", logEventMessages=["x"])["Code"] == "InvalidParameterException"


def test_a_store_that_is_away_is_the_services_fault_and_not_the_clients(logs, journal):
    asyncio.run(journal.close())
    error = refused(logs.describe_log_groups)
    assert error["Code"] == "ServiceUnavailableException"
