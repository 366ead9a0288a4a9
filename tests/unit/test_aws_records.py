"""What a destination is told, member by member as AWS was recorded to tell it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.core.outcomes import Ended, Tried
from ondol.dialects.aws.records import CONDITIONS, record
from ondol.model.deferrals import Ending
from ondol.model.functions import UNNUMBERED
from ondol.queue import Deferred

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:hello"


def ended(ending, tried=None, *, payload=b'{"raise_error": 1}', qualifier=None, attempts=0):
    item = Deferred(
        id="11111111-2222-3333-4444-555555555555", account="123456789012", region="eu-west-1", function="f", name="hello",
        qualifier=qualifier, payload=payload, context={}, accepted_s=0.0, visible_s=0.0, attempts=attempts,
    )  # fmt: skip
    return Ended(item=item, ending=ending, at_s=1711023999.007, tried=tried)


def told(*given, **more):
    return json.loads(record(ended(*given, **more)))


def test_a_success():
    assert told(Ending.SUCCEEDED, Tried(succeeded=True, body=b'{"event": {}}'), payload=b"{}") == {
        "version": "1.0",
        "timestamp": "2024-03-21T12:26:39.007Z",
        "requestContext": {
            "requestId": "11111111-2222-3333-4444-555555555555",
            "functionArn": f"{ARN}:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": {},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"event": {}},
    }


def test_a_failure_after_three_tries_of_an_alias():
    found = told(
        Ending.RETRIES_EXHAUSTED,
        Tried(succeeded=False, body=b'{"errorMessage": "no"}', version=7),
        qualifier="live",
        attempts=2,
    )
    assert found["requestContext"]["functionArn"] == f"{ARN}:live"
    assert found["requestContext"]["condition"] == "RetriesExhausted"
    assert found["requestContext"]["approximateInvokeCount"] == 3
    assert found["responseContext"] == {"statusCode": 200, "executedVersion": "7", "functionError": "Unhandled"}
    unnumbered = told(Ending.SUCCEEDED, Tried(succeeded=True, body=b"{}", version=UNNUMBERED))
    assert unnumbered["responseContext"]["executedVersion"] == "$LATEST.PUBLISHED"
    assert found["responsePayload"] == {"errorMessage": "no"}


def test_what_was_not_tried_has_no_response():
    found = told(Ending.NO_CONCURRENCY)
    assert (found["requestContext"]["condition"], found["requestContext"]["approximateInvokeCount"]) == (
        "ZeroReservedConcurrency",
        0,
    )
    assert found.keys() == {"version", "timestamp", "requestContext", "requestPayload"}
    assert told(Ending.TOO_OLD, attempts=1)["requestContext"]["approximateInvokeCount"] == 1


def test_every_ending_has_a_word():
    assert CONDITIONS.keys() == set(Ending)
    assert len(set(CONDITIONS.values())) == len(CONDITIONS)


@pytest.mark.parametrize("raw", [b'{"b":1, "a" : 1.0e2}', b'"\\ud800"', b"[]"])
def test_payloads_go_through_to_the_byte(raw):
    assert raw in record(ended(Ending.SUCCEEDED, Tried(succeeded=True, body=raw), payload=b"{}"))


@given(st.binary(), st.binary())
def test_any_bytes_make_a_record_that_can_be_read(payload, body):
    assert told(Ending.SUCCEEDED, Tried(succeeded=True, body=body), payload=payload)["version"] == "1.0"
