"""StartLiveTail: an event stream over HTTP, read by boto3 unmodified; and the frames by themselves."""

import asyncio
import socket
from functools import partial

import boto3
import pytest
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError
from hypothesis import given
from hypothesis import strategies as st

from ondol.core.catalog import key_of, put
from ondol.core.keys import standing
from ondol.dialects.aws import logs_tail
from ondol.dialects.aws.codec_events import message
from ondol.dialects.aws.logs import Logs
from ondol.journal import Batch, GroupSettings
from ondol.journals.group import JournalLimits
from ondol.journals.segments import SegmentJournal
from ondol.model.invocations import LogEvent
from ondol.store import Change
from ondol.testing.aws import ACCOUNT, KEY, REGION, AwsApplication, EchoInvoker, index_with, serving

GROUP = "/app/web"
ARN = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}"


@pytest.fixture
def journal(tmp_path):
    journal = SegmentJournal(tmp_path, JournalLimits(followers_max=2))
    asyncio.run(journal.create(ACCOUNT, REGION, GROUP, GroupSettings()))
    yield journal
    asyncio.run(journal.close())


@pytest.fixture
def index():
    return index_with()


@pytest.fixture
def url(journal, index, monkeypatch):
    monkeypatch.setattr(logs_tail, "UPDATE_S", 0.05)
    operations = Logs(journal, standing=partial(standing, index)).operations
    application = AwsApplication(services={"logs": operations}, invoker=EchoInvoker(), index=index)
    with serving(application) as url:
        yield url


@pytest.fixture
def logs(url):
    return client(url, Config(retries={"total_max_attempts": 1}, inject_host_prefix=False))


def client(url, config):
    return boto3.client(
        "logs",
        endpoint_url=url,
        aws_access_key_id=KEY.id,
        aws_secret_access_key=KEY.secret,
        region_name=REGION,
        config=config,
    )


@pytest.fixture
def tail(logs):
    opened = []

    def start(**params):
        answer = logs.start_live_tail(logGroupIdentifiers=[ARN], **params)
        opened.append(answer["responseStream"])
        return iter(answer["responseStream"])

    yield start
    for stream in opened:
        stream.close()


def write(journal, *messages, stream="s", group=GROUP):
    asyncio.run(journal.append([Batch(ACCOUNT, REGION, group, stream, [LogEvent(7, text) for text in messages])]))


def results(events, count):
    """As many results as that, over however many updates they come in."""
    found = []
    while len(found) < count:
        found += next(events)["sessionUpdate"]["sessionResults"]
    return found


def test_a_session_begins_with_what_was_asked_and_goes_on_with_what_is_logged(journal, tail):
    write(journal, "before")
    events = tail(logEventFilterPattern="", logStreamNamePrefixes=["s"])
    started = next(events)["sessionStart"]
    assert started["logGroupIdentifiers"] == [ARN]
    assert started["logStreamNamePrefixes"] == ["s"]
    assert started["sessionId"]
    write(journal, "one", "two")
    write(journal, "other", stream="t")
    write(journal, "three")
    found = results(events, 3)
    assert [each["message"] for each in found] == ["one", "two", "three"]
    assert (found[0]["logStreamName"], found[0]["timestamp"]) == ("s", 7)
    assert found[0]["logGroupIdentifier"] == f"{ACCOUNT}:{GROUP}"
    assert found[0]["ingestionTime"] > 7


def test_a_quiet_second_is_an_empty_update(tail):
    events = tail()
    next(events)
    assert next(events)["sessionUpdate"] == {"sessionMetadata": {"sampled": False}, "sessionResults": []}


def test_only_what_the_pattern_and_the_streams_let_through_is_sent(journal, tail):
    events = tail(logEventFilterPattern='{ $.level = "ERROR" }', logStreamNames=["s"])
    next(events)
    write(journal, '{"level": "INFO"}', '{"level": "ERROR"}', "ERROR")
    write(journal, '{"level": "ERROR", "n": 2}', stream="t")
    write(journal, '{"level": "ERROR", "n": 3}')
    assert [each["message"] for each in results(events, 2)] == ['{"level": "ERROR"}', '{"level": "ERROR", "n": 3}']


def test_more_than_an_update_holds_is_sampled_and_says_so(journal, tail):
    events = tail()
    next(events)
    write(journal, *map(str, range(1200)))
    update = next(each["sessionUpdate"] for each in events if each["sessionUpdate"]["sessionResults"])
    assert len(update["sessionResults"]) == 500
    assert update["sessionMetadata"]["sampled"]


def test_a_session_ends_with_its_key_and_gives_its_place_back(index, tail):
    for _ in range(3):  # one more than there are places
        events = tail()
        next(events)
        index.apply(Change(10, key_of(KEY), None))
        assert all("sessionUpdate" in each for each in events), "and then it ends"
        made = put(KEY)
        index.apply(Change(11, made.key, made.value))


def test_a_session_ends_after_its_time_with_the_services_exception(tail, monkeypatch):
    monkeypatch.setattr(logs_tail, "SESSION_S_MAX", 0.1)
    with pytest.raises(EventStreamError, match="SessionTimeoutException"):
        list(tail())


def test_the_prefix_that_sdks_put_in_front_of_the_host_does_no_harm_where_the_name_is_found(journal, url, monkeypatch):
    found = socket.getaddrinfo

    def resolved(host, *more, **how):
        return found("127.0.0.1" if str(host).endswith(".localhost") else host, *more, **how)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    logs = client(url.replace("127.0.0.1", "logs.localhost"), Config())
    stream = logs.start_live_tail(logGroupIdentifiers=[ARN])["responseStream"]
    assert "sessionStart" in next(iter(stream))
    stream.close()


def test_a_client_that_leaves_is_forgotten(journal, logs):
    for _ in range(5):  # two may follow at a time
        for attempt in range(200):
            try:
                stream = logs.start_live_tail(logGroupIdentifiers=[ARN])["responseStream"]
                break
            except ClientError as error:  # the one before is not quite gone
                assert error.response["Error"]["Code"] == "LimitExceededException"
                assert attempt < 199
                write(journal, "tick")
        next(iter(stream))
        stream.close()


def test_what_cannot_be_followed_is_refused(logs):
    def refused(**params):
        with pytest.raises(ClientError) as caught:
            logs.start_live_tail(**params)
        return caught.value.response["Error"]["Code"]

    assert refused(logGroupIdentifiers=["/none"]) == "ResourceNotFoundException"
    assert refused(logGroupIdentifiers=[ARN], logEventFilterPattern="{") == "InvalidParameterException"
    assert refused(logGroupIdentifiers=[ARN], logStreamNames=["a"], logStreamNamePrefixes=["a"]) == "InvalidParameterException"
    assert refused(logGroupIdentifiers=[ARN, "/b"], logStreamNames=["a"]) == "InvalidParameterException"


@given(headers=st.dictionaries(st.text(":az-", min_size=1, max_size=20), st.text(max_size=50), max_size=5), payload=st.binary())
def test_botocore_reads_every_message_that_is_framed(headers, payload):
    buffer = EventStreamBuffer()
    buffer.add_data(message(headers, payload))
    [read] = list(buffer)
    assert (read.headers, read.payload) == (headers, payload)
