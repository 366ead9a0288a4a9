"""Asynchronous calls on a whole node: retries and destinations as their owner says, and a desk that is killed under them."""

from __future__ import annotations

import functools
import json
import os
import signal

import pytest

from ondol.testing import leaks
from ondol.testing.load import HEARD, HEARING, Ear, until
from ondol.testing.node import running_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SECONDS_MAX = 60

#: Says what it was asked, and fails if it is told to.
SAYING = """
import json, socket, time
def handler(event, context):
    def say(word):
        with socket.create_connection(('127.0.0.1', PORT), 10) as line:
            line.sendall(word.encode() + b'\\n')
            line.recv(1)
    say(json.dumps({"me": context.function_name, "id": context.aws_request_id, "event": event}))
    time.sleep(event.get("sleep", 0))
    if event.get("fail"):
        raise ValueError("as I was told")
    if event.get("sleep"):
        say("slept")
    return {"well": True}
"""


@pytest.fixture(scope="module")
def node(possible):
    """One whose functions can be heard."""
    with running_node(*HEARD) as running:
        yield running


@pytest.fixture(scope="module")
def aws(node):
    return node.client("lambda")


@pytest.fixture
def deploy(deploy):
    return functools.partial(deploy, Tags=HEARING)


@pytest.fixture
def ear():
    made = Ear()
    yield made
    made.close()


def heard(ear):
    """What functions said, as (function, request id, event)."""
    said = [json.loads(word) for word in list(ear.heard) if word.startswith("{")]
    return [(each["me"], each["id"], each["event"]) for each in said]


def sent(aws, name, **event):
    """The request id of an accepted call."""
    answer = aws.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
    assert answer["StatusCode"] == 202
    return answer["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize(
    ("fail", "member", "condition"), [(False, "OnSuccess", "Success"), (True, "OnFailure", "RetriesExhausted")]
)
def test_the_outcome_of_a_call_reaches_its_destination(aws, deploy, ear, fail, member, condition):
    source = SAYING.replace("PORT", str(ear.port))
    first, told = deploy(source), deploy(source)
    arn = aws.get_function(FunctionName=told)["Configuration"]["FunctionArn"]
    aws.put_function_event_invoke_config(
        FunctionName=first, MaximumRetryAttempts=0, DestinationConfig={member: {"Destination": arn}}
    )
    request = sent(aws, first, fail=fail, number=7)
    until(lambda: len(heard(ear)) == 2, SECONDS_MAX)
    record = next(event for name, _, event in heard(ear) if name == told)
    assert record["requestContext"]["requestId"] == request
    assert record["requestContext"]["functionArn"].endswith(f":function:{first}:$LATEST")
    assert (record["requestContext"]["condition"], record["requestContext"]["approximateInvokeCount"]) == (condition, 1)
    assert record["requestPayload"] == {"fail": fail, "number": 7}
    if fail:
        assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
        assert record["responsePayload"]["errorMessage"] == "as I was told"
    else:
        assert record["responsePayload"] == {"well": True}
    assert [id_ for name, id_, _ in heard(ear) if name == first] == [request]


def test_a_function_that_may_not_run_at_all_tells_its_destination_so(aws, deploy, ear):
    source = SAYING.replace("PORT", str(ear.port))
    first, told = deploy(source), deploy(source)
    arn = aws.get_function(FunctionName=told)["Configuration"]["FunctionArn"]
    aws.put_function_event_invoke_config(FunctionName=first, DestinationConfig={"OnFailure": {"Destination": arn}})
    aws.put_function_concurrency(FunctionName=first, ReservedConcurrentExecutions=0)
    sent(aws, first, number=1)
    until(lambda: heard(ear), SECONDS_MAX)
    ((name, _, record),) = heard(ear)
    assert (name, record["requestContext"]["condition"]) == (told, "ZeroReservedConcurrency")
    assert "responseContext" not in record


def test_functions_that_tell_each_other_for_ever_are_stopped(node, aws, deploy, ear):
    source = SAYING.replace("PORT", str(ear.port))
    one, other = deploy(source), deploy(source)
    for name, destination in [(one, other), (other, one)]:
        arn = aws.get_function(FunctionName=destination)["Configuration"]["FunctionArn"]
        aws.put_function_event_invoke_config(FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": arn}})
    sent(aws, one)

    def dead():
        listed = json.loads(node.http("GET", "/ondol/v1/events?state=dead").data)["events"]
        return [event for event in listed if event["function"] in (one, other)]

    until(dead, SECONDS_MAX)
    assert [event["reason"] for event in dead()] == ["chain too long"]
    assert len(heard(ear)) == 16


@pytest.fixture
def lonely(possible):
    """A node of which a process is killed."""
    with running_node(*HEARD) as node:
        yield node


def test_a_call_that_runs_while_the_desk_is_killed_ends_once_and_is_not_waited_for(lonely, ear):
    from ondol.testing.load import deploy as deployed

    aws = lonely.client()
    deployed(aws, "long", source=SAYING.replace("PORT", str(ear.port)), timeout_s=60)
    aws.get_waiter("function_active_v2").wait(FunctionName="long", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    aws.put_function_event_invoke_config(FunctionName="long", MaximumRetryAttempts=0)
    sent(aws, "long", sleep=4)
    until(lambda: heard(ear), SECONDS_MAX)
    (desk,) = leaks.roles(lonely)["desk"]
    os.kill(desk, signal.SIGKILL)
    until(lambda: "slept" in ear.heard, SECONDS_MAX)
    # The next call of the same function shows that the new desk works; no lease of the old one is waited for.
    until(lambda: accepted(aws), SECONDS_MAX)
    until(lambda: len(heard(ear)) >= 2, SECONDS_MAX)
    assert max(ear.heard.values()) == 1, ear.heard


def accepted(aws):
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return sent(aws, "long", number=2)
    except (ClientError, BotoCoreError):
        return None


def test_a_call_that_runs_while_front_and_desk_are_killed_is_run_again_soon(lonely, ear):
    from ondol.testing.load import deploy as deployed

    aws = lonely.client()
    deployed(aws, "long", source=SAYING.replace("PORT", str(ear.port)), timeout_s=60)
    aws.get_waiter("function_active_v2").wait(FunctionName="long", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    sent(aws, "long", sleep=6)
    until(lambda: heard(ear), SECONDS_MAX)
    for role in ("desk", "front"):
        for pid in leaks.roles(lonely)[role]:
            os.kill(pid, signal.SIGKILL)
    until(lambda: "slept" in ear.heard, SECONDS_MAX)
    assert len(heard(ear)) == 1  # the same word twice
    assert max(ear.heard.values()) == 2


def test_what_was_given_up_is_seen_shown_replayed_and_purged_by_command(node, aws, deploy, ear):
    name = deploy(SAYING.replace("PORT", str(ear.port)))
    aws.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    request = sent(aws, name, fail=True)

    def listed(*more):
        return json.loads(node.ondol("events", "ls", "--function", name, "--json", *more, check=True).stdout)

    until(lambda: listed("--state", "dead"), SECONDS_MAX)
    (event,) = listed()
    assert (event["id"], event["reason"], event["attempts"]) == (request, "retries exhausted", 1)
    assert "as I was told" in event["error"]
    assert json.loads(node.ondol("events", "show", request, "--json", check=True).stdout)["payload"] == {"fail": True}
    node.ondol("events", "replay", request, check=True)
    until(lambda: max(ear.heard.values()) == 2, SECONDS_MAX)
    until(lambda: listed("--state", "dead"), SECONDS_MAX)
    assert node.ondol("events", "purge", "--function", name, check=True).stderr == "1 removed\n"
    assert listed() == []
