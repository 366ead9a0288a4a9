"""The platform's lines under LogFormat JSON, as AWS was recorded to write them, and the levels that hide them."""

import json

import pytest

from ondol.contract import Place
from ondol.contracts.aws import AwsContract
from ondol.contracts.aws_json import AwsJsonContract
from ondol.model.functions import Code, Configuration, Function, Revision, Target
from ondol.model.invocations import Invocation, Report, Status
from ondol.model.principals import Kind, Principal

ID = "5f3d1b1e-0000-4000-8000-000000000000"
NOW_S = 1767225600.125
HOME = {"account": "123456789012", "region": "eu-west-1"}
contract = AwsContract(AwsJsonContract)


def revision(version=None, runtime="python3.11", **configuration):
    return Revision(
        id="r1", function="f1", name="hello", created_s=0.0, version=version, **HOME,
        code=Code(sha256="0" * 64, zipped_bytes=1, unpacked_bytes=1),
        configuration=Configuration(contract="aws", runtime=runtime, handler="app.handler", **configuration),
    )  # fmt: skip


def place(**more):
    return Place(
        environment="e" * 32, started_s=1767225600.0, version=None, endpoint="", access_key_id="", secret="", session_token="",
        **more,
    )  # fmt: skip


def report(status=Status.OK, **more):
    facts = {"duration_ms": 1.234, "memory_mib": 128, "memory_peak_mib": 36, "timeout_s": 1, "ended_s": 1767225600.25}
    return Report(invocation=ID, revision="r1", version=None, status=status, **{**facts, **more})


def invocation(**more):
    principal = Principal(kind=Kind.OWNER, name="k", **HOME)
    return Invocation(id=ID, function="f1", qualifier=None, principal=principal, payload=b"{}", **more)


def target(version=None):
    function = Function(id="f1", name="hello", latest="r1", created_s=0.0, **HOME)
    return Target(function=function, revision=revision(version), qualifier=None)


def made(level="INFO"):
    return AwsJsonContract(level, wall_s=lambda: NOW_S)


def configured(**config):
    return revision(annotations={"aws": {"LoggingConfig": config}})


def lines(found):
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in found)
    return [json.loads(line) for line in found]


def kinds(found):
    return [line.get("type", line.get("message")) for line in lines(found)]


def test_text_is_written_unless_json_was_asked_for():
    for text in (revision(), configured(LogFormat="Text"), configured(LogGroup="/mine")):
        assert contract.of(text) is contract
    chosen = contract.of(configured(LogFormat="JSON"))
    assert isinstance(chosen, AwsJsonContract)
    assert (chosen.name, chosen.guest, chosen.concurrency) == ("aws", "aws", 1)
    assert chosen.log_place(revision(), place()) == contract.log_place(revision(), place())


def test_init_start_has_awss_shape():
    [event] = lines(made().opening(revision(), place()))
    arn = event["record"].pop("runtimeVersionArn")
    assert arn.startswith("arn:aws:lambda:eu-west-1::runtime:")
    assert event == {
        "time": "2026-01-01T00:00:00.000Z",
        "type": "platform.initStart",
        "record": {
            "initializationType": "on-demand",
            "phase": "init",
            "runtimeVersion": "python:3.11.v1",
            "functionName": "hello",
            "functionVersion": "$LATEST",
        },
    }


def test_start_has_awss_shape():
    [event] = lines(made().started(invocation(), target(version=7)))
    assert event == {
        "time": "2026-01-01T00:00:00.125Z",
        "type": "platform.start",
        "record": {"requestId": ID, "version": "7"},
    }
    [traced] = lines(made().started(invocation(trace="Root=1-2-3"), target()))
    assert traced["record"]["tracing"] == {"type": "X-Amzn-Trace-Id", "value": "Root=1-2-3"}


def test_the_report_of_a_call_has_awss_shape():
    [event] = lines(made().settled(report(duration_ms=11.6424, init_ms=174.055)))
    assert event == {
        "time": "2026-01-01T00:00:00.250Z",
        "type": "platform.report",
        "record": {
            "requestId": ID,
            "status": "success",
            "metrics": {
                "durationMs": 11.642,
                "billedDurationMs": 186,
                "memorySizeMB": 128,
                "maxMemoryUsedMB": 36,
                "initDurationMs": 174.055,
            },
        },
    }
    assert "initDurationMs" not in lines(made().settled(report()))[0]["record"]["metrics"]


@pytest.mark.parametrize(
    ("level", "well", "badly"),
    [
        (
            "DEBUG",
            ["platform.initStart", "platform.start", "platform.runtimeDone", "platform.report"],
            ["platform.initStart", "platform.start", "platform.runtimeDone", "platform.report"],
        ),
        (
            "INFO",
            ["platform.initStart", "platform.start", "platform.report"],
            ["platform.initStart", "platform.start", "platform.runtimeDone", "platform.report"],
        ),
        ("WARN", [], ["platform.runtimeDone", "platform.report"]),
    ],
)
def test_the_system_level_hides_what_went_well(level, well, badly):
    chosen = contract.of(configured(LogFormat="JSON", SystemLogLevel=level))
    before = [*chosen.opening(revision(), place()), *chosen.started(invocation(), target())]
    assert kinds([*before, *chosen.settled(report())]) == well
    assert kinds([*before, *chosen.settled(report(Status.FAILED))]) == badly


def test_a_timeout_is_said_and_reported_with_its_limit():
    said, done, reported = lines(made().settled(report(Status.TIMEOUT, duration_ms=1017.9)))
    assert (said["level"], said["message"], said["requestId"]) == ("ERROR", "Task timed out after 1.00 seconds", ID)
    assert done["record"]["status"] == reported["record"]["status"] == "timeout"
    assert reported["record"]["metrics"]["durationMs"] == reported["record"]["metrics"]["billedDurationMs"] == 1000


@pytest.mark.parametrize(
    ("status", "kind"), [(Status.CRASHED, "Runtime.ExitError"), (Status.OUT_OF_MEMORY, "Runtime.OutOfMemory")]
)
def test_a_process_that_left_is_said_and_reported(status, kind):
    said, done, reported = lines(made("WARN").settled(report(status, exit_status=-9)))
    assert said["message"] == "Runtime exited with error: signal: killed"
    assert (said["requestId"], said["errorType"]) == (ID, "Runtime.ExitError")
    for event in (done, reported):
        assert (event["record"]["status"], event["record"]["errorType"]) == ("error", kind)


def test_too_large_an_answer_is_reported():
    [_, reported] = lines(made().settled(report(Status.TOO_LARGE)))
    assert reported["record"]["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_substitute_is_said_as_a_record():
    [said] = lines(made("WARN").opening(revision(runtime="python3.10"), place(substitute="python3.11")))
    assert (said["level"], said["message"]) == (
        "WARN",
        "python3.10 is not on this machine: python3.11 runs this function in its place",
    )


# What the function writes --------------------------------------------------------------------------------------------------

WRITTEN = (
    "plain text\n",
    '{"level": "trace", "n": 1}\n',
    '{"level": "debug", "n": 2}\n',
    '{"level": "INFO", "n": 3}\n',
    '{"level": "WARNING", "n": 4}\n',
    '{"level": "error", "n": 5}\n',
    '{"level": "critical", "n": 6}\n',
    '{"level": "odd", "n": 7}\n',
    '{"no level": 8}\n',
    '{"level": broken\n',
)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("TRACE", range(10)),
        ("DEBUG", [0, *range(2, 10)]),
        ("INFO", [0, *range(3, 10)]),
        ("WARN", [4, 5, 6]),
        ("ERROR", [5, 6]),
        ("FATAL", [6]),
    ],
)
def test_what_a_function_writes_is_held_back_by_its_level(level, shown):
    seen = []
    chosen = contract.of(configured(LogFormat="JSON", ApplicationLogLevel=level))
    sink = chosen.sifted(lambda message, at_ms: seen.append((message, at_ms)))
    for message in WRITTEN:
        sink(message, 7)
    assert seen == [(WRITTEN[n], 7) for n in shown]


def test_text_is_held_back_by_nothing():
    sink = [].append
    assert contract.of(revision()).sifted(sink) is sink
