"""The AWS contract's host half: texts that callers and logs get from the platform, as AWS was recorded to give them."""

import json
import re

import pytest

from ondol.contract import Place
from ondol.contracts.aws import AwsContract
from ondol.model.functions import UNNUMBERED, Code, Configuration, Function, Revision, Target
from ondol.model.invocations import Invocation, Report, Status
from ondol.model.principals import Kind, Principal
from ondol.runtime import Answer, Ending

ID = "5f3d1b1e-0000-4000-8000-000000000000"
contract = AwsContract()


def revision(version=None, **configuration):
    settings = {"contract": "aws", "runtime": "python3.11", "handler": "app.handler", **configuration}
    return Revision(
        id="r1",
        account="123456789012",
        region="eu-west-1",
        function="f1",
        name="hello",
        code=Code(sha256="0" * 64, zipped_bytes=1, unpacked_bytes=1),
        configuration=Configuration(**settings),
        created_s=0.0,
        version=version,
    )


def place(**more):
    facts = {
        "environment": "e" * 32,
        "started_s": 1767225600.0,
        "version": None,
        "endpoint": "http://127.0.0.1:7979",
        "access_key_id": "ASIA1",
        "secret": "s",
        "session_token": "t",
    }
    return Place(**{**facts, **more})


def report(status=Status.OK, **more):
    facts = {"duration_ms": 1.234, "memory_mib": 128, "memory_peak_mib": 36, "timeout_s": 1, "ended_s": 1767225600.25}
    return Report(invocation=ID, revision="r1", version=None, status=status, **{**facts, **more})


def invocation(**more):
    principal = Principal(kind=Kind.OWNER, account="123456789012", region="eu-west-1", name="k")
    return Invocation(id=ID, function="f1", qualifier=None, principal=principal, payload=b"{}", **more)


def target(qualifier=None, version=None):
    function = Function(id="f1", account="123456789012", region="eu-west-1", name="hello", latest="r1", created_s=0.0)
    return Target(function=function, revision=revision(version), qualifier=qualifier)


def outcome(status, answer=None, **more):
    return contract.outcome(invocation(), report(status, **more), answer)


# The log ------------------------------------------------------------------------------------------------------------------


def test_log_place_is_group_and_dated_stream():
    assert contract.log_place(revision(), place()) == ("/aws/lambda/hello", "2026/01/01/[$LATEST]" + "e" * 32)
    assert contract.log_place(revision(3), place(version=3))[1] == "2026/01/01/[3]" + "e" * 32


def test_log_group_may_be_chosen():
    annotations = {"aws": {"LoggingConfig": {"LogGroup": "/mine"}}}
    expected = ("/mine", "2026/01/01/hello[$LATEST]" + "e" * 32)
    assert contract.log_place(revision(annotations=annotations), place()) == expected


def test_init_start_names_the_runtime():
    (line,) = contract.opening(revision(), place())
    assert re.fullmatch(
        r"INIT_START Runtime Version: python:3\.11\.v\d+\tRuntime Version ARN: arn:aws:lambda:eu-west-1::runtime:[0-9a-f]{64}\n",
        line,
    )


def test_a_substitute_is_said():
    lines = contract.opening(revision(runtime="python3.10"), place(substitute="python3.11"))
    assert lines[1] == "python3.10 is not on this machine: python3.11 runs this function in its place\n"


@pytest.mark.parametrize(("version", "shown"), [(None, "$LATEST"), (UNNUMBERED, "$LATEST.PUBLISHED"), (7, "7")])
def test_start_names_request_and_version(version, shown):
    assert list(contract.started(invocation(), target(version=version))) == [f"START RequestId: {ID} Version: {shown}\n"]


def test_end_and_report_of_a_warm_call():
    assert list(contract.settled(report())) == [
        f"END RequestId: {ID}\n",
        f"REPORT RequestId: {ID}\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n",
    ]


def test_report_of_a_cold_call_bills_the_loading():
    line = contract.settled(report(duration_ms=61.0, init_ms=3986.4))[-1]
    assert line.endswith(
        "\tBilled Duration: 4048 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 3986.40 ms\t\n"
    )


def test_a_timeout_is_logged_in_front_of_end_and_reported_with_its_limit():
    timed_out, end, line = contract.settled(report(Status.TIMEOUT, duration_ms=1017.9))
    assert timed_out == f"2026-01-01T00:00:00.250Z {ID} Task timed out after 1.00 seconds\n\n"
    assert end == f"END RequestId: {ID}\n"
    assert "\tDuration: 1000.00 ms\tBilled Duration: 1000 ms\t" in line
    assert line.endswith("\tMax Memory Used: 36 MB\tStatus: timeout\n")


@pytest.mark.parametrize(
    ("status", "exit_status", "said", "kind"),
    [
        (Status.CRASHED, 0, "Runtime exited without providing a reason", "Runtime.ExitError"),
        (Status.CRASHED, None, "Runtime exited without providing a reason", "Runtime.ExitError"),
        (Status.CRASHED, 127, "Runtime exited with error: exit status 127", "Runtime.ExitError"),
        (Status.CRASHED, -9, "Runtime exited with error: signal: killed", "Runtime.ExitError"),
        (Status.CRASHED, -6, "Runtime exited with error: signal: aborted", "Runtime.ExitError"),
        (Status.CRASHED, -11, "Runtime exited with error: signal: segmentation fault", "Runtime.ExitError"),
        (Status.CRASHED, -35, "Runtime exited with error: signal: signal 35", "Runtime.ExitError"),
        (Status.OUT_OF_MEMORY, None, "Runtime exited with error: signal: killed", "Runtime.OutOfMemory"),
    ],
)
def test_a_process_that_left_is_told_to_the_caller_and_the_log(status, exit_status, said, kind):
    expected = {"errorType": kind, "errorMessage": f"RequestId: {ID} Error: {said}"}
    assert json.loads(outcome(status, exit_status=exit_status).body) == expected
    left, _, line = contract.settled(report(status, exit_status=exit_status))
    assert left == f"RequestId: {ID} Error: {said}\nRuntime.ExitError\n"
    assert line.endswith(f"\tStatus: error\tError Type: {kind}\n")


# What the caller gets -----------------------------------------------------------------------------------------------------


def test_a_timeout_is_told_to_the_caller():
    assert json.loads(outcome(Status.TIMEOUT).body) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {ID} Error: Task timed out after 1.00 seconds",
    }


def test_too_large_a_response_is_told_to_the_caller():
    assert json.loads(outcome(Status.TOO_LARGE).body) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }


@pytest.mark.parametrize("status", [Status.OK, Status.FAILED])
def test_what_the_function_said_goes_through_unchanged(status):
    made = outcome(status, Answer(ending=Ending.OK, body=b'{"a":1}'))
    assert (made.status, made.body, made.target_version) == (status, b'{"a":1}', None)


# What the function gets -----------------------------------------------------------------------------------------------------


def test_variables_are_the_platforms_and_the_functions():
    seen = contract.variables(revision(memory_mib=256, variables={"MINE": "1", "TZ": "Asia/Seoul"}), place())
    expected = {
        "AWS_LAMBDA_FUNCTION_NAME": "hello",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/hello",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "ASIA1",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "t",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:7979",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": "app.handler",
        "PYTHONPATH": "/var/runtime",
        "MINE": "1",
        "TZ": "Asia/Seoul",
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert "AWS_LAMBDA_LOG_FORMAT" not in seen
    assert all(isinstance(value, str) for value in seen.values())


def test_a_function_cannot_take_the_platforms_names():
    seen = contract.variables(revision(variables={"AWS_SESSION_TOKEN": "mine", "_HANDLER": "x"}), place())
    assert (seen["AWS_SESSION_TOKEN"], seen["_HANDLER"]) == ("t", "app.handler")


def test_json_logs_are_asked_for():
    annotations = {"aws": {"LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "WARN"}}}
    seen = contract.variables(revision(annotations=annotations), place())
    assert (seen["AWS_LAMBDA_LOG_FORMAT"], seen["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "WARN")


@pytest.mark.parametrize(("qualifier", "suffix"), [(None, ""), ("$LATEST", ":$LATEST"), ("live", ":live"), ("3", ":3")])
def test_the_invoked_arn_is_as_the_caller_named_the_function(qualifier, suffix):
    meta = json.loads(contract.meta(invocation(), target(qualifier), deadline_ms=5))
    assert meta["arn"] == "arn:aws:lambda:eu-west-1:123456789012:function:hello" + suffix


def test_meta_hands_on_what_the_caller_said():
    context = {"invoked_arn": "a", "client_context": '{"custom": 1}', "cognito_identity": "{}"}
    asked = invocation(context=context, trace="Root=1", tenant="blue")
    assert json.loads(contract.meta(asked, target(), deadline_ms=5)) == {
        "id": ID,
        "deadline_ms": 5,
        "arn": "a",
        "trace": "Root=1",
        "client_context": '{"custom": 1}',
        "identity": "{}",
        "tenant": "blue",
    }
