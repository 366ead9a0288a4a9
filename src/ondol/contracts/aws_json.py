"""The AWS contract under `LogFormat: JSON`: the platform's lines as JSON events. Pure but for the clock.

Shapes and key order are those of recorded events. What SystemLogLevel shows is the service's table: what went well is INFO
(what the runtime did, DEBUG), all else is WARN. Inferred, because no recording was found: that a handler's own error is a
report of status "error", and the form of the two records that stand for the text log's "Task timed out" and "Runtime exited"
lines (that of a runtime's own records, with a level).

What the function writes is held back by its ApplicationLogLevel: a JSON object by its "level", all else as INFO. (Its logging
library does that by itself, where it is one that the runtime sets up.)

Only what differs from text is here: the text path pays nothing for it (`AwsContract.of` chooses once for each environment).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.contract import Place
from ondol.contracts.aws import (
    ERROR_TYPES,
    AwsContract,
    exited,
    runtime_version,
    runtime_version_arn,
    timed_out,
    timestamp,
    version_label,
)
from ondol.model.functions import Revision, Target
from ondol.model.invocations import Invocation, Report, Status
from ondol.runtime import LogSink

#: From the most talkative to the least: the platform's, and the function's.
_LEVELS: Final = ("DEBUG", "INFO", "WARN")
_OWN_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
#: What logging libraries call them.
_OTHER_NAMES: Final[Mapping[str, str]] = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_INFO: Final = _OWN_LEVELS.index("INFO")
_STATUS: Final[Mapping[Status, str]] = {Status.OK: "success", Status.TIMEOUT: "timeout"}


class AwsJsonContract(AwsContract):
    """As `AwsContract`, for one revision that wants JSON. `level`: its SystemLogLevel; `own`: its ApplicationLogLevel."""

    def __init__(self, level: str, own: str = "INFO", wall_s: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._least = _LEVELS.index(level) if level in _LEVELS else 1
        self._own_least = _OWN_LEVELS.index(own) if own in _OWN_LEVELS else _INFO
        self._wall_s = wall_s

    def sifted(self, sink: LogSink) -> LogSink:
        least = self._own_least

        def sift(message: str, at_ms: int | None) -> None:
            if _own_level(message) >= least:
                sink(message, at_ms)

        return sift if least else sink

    def opening(self, revision: Revision, place: Place) -> Sequence[str]:
        runtime = revision.configuration.runtime
        record = {
            "initializationType": "on-demand",
            "phase": "init",
            "runtimeVersion": runtime_version(runtime),
            "runtimeVersionArn": runtime_version_arn(revision.region, runtime),
            "functionName": revision.name,
            "functionVersion": version_label(place.version),
        }
        lines = self._event("INFO", place.started_s, "platform.initStart", record)
        if place.substitute is not None:
            message = f"{runtime} is not on this machine: {place.substitute} runs this function in its place"
            lines += (_record("WARN", place.started_s, message),)
        return lines

    def started(self, invocation: Invocation, target: Target) -> Sequence[str]:
        if self._least > _LEVELS.index("INFO"):
            return ()
        record = {
            "requestId": invocation.id,
            "version": version_label(target.revision.version),
            **_tenant(invocation.tenant),
            **_tracing(invocation.trace),
        }
        return self._event("INFO", self._wall_s(), "platform.start", record)

    def settled(self, report: Report) -> Sequence[str]:
        status = _STATUS.get(report.status, "error")
        well = report.status is Status.OK
        outcome: dict[str, Any] = {"requestId": report.invocation, "status": status, **_tenant(report.tenant)}
        if report.status in ERROR_TYPES and report.status is not Status.TIMEOUT:
            outcome["errorType"] = ERROR_TYPES[report.status]
        took_ms = report.timeout_s * 1000.0 if report.status is Status.TIMEOUT else round(report.duration_ms, 3)
        metrics: dict[str, Any] = {
            "durationMs": took_ms,
            "billedDurationMs": max(1, math.ceil(round(took_ms + (report.init_ms or 0.0), 3))),
            "memorySizeMB": report.memory_mib,
            "maxMemoryUsedMB": report.memory_peak_mib,
        }
        if report.init_ms is not None:
            metrics["initDurationMs"] = round(report.init_ms, 3)
        done = {**outcome, **_tracing(report.trace), "metrics": {"durationMs": took_ms}}
        reported = {**outcome, "metrics": metrics, **_tracing(report.trace)}
        return (
            *_last_words(report),
            *self._event("DEBUG" if well else "WARN", report.ended_s, "platform.runtimeDone", done),
            *self._event("INFO" if well else "WARN", report.ended_s, "platform.report", reported),
        )

    def _event(self, level: str, at_s: float, kind: str, record: Mapping[str, Any]) -> tuple[str, ...]:
        """The event's line, unless the level hides it."""
        if _LEVELS.index(level) < self._least:
            return ()
        return (_line({"time": timestamp(at_s), "type": kind, "record": record}),)


def _own_level(message: str) -> int:
    """The level of what a function wrote, as a place in _OWN_LEVELS."""
    if not message.startswith("{") or '"level"' not in message:
        return _INFO
    try:
        word = str(msgspec.json.decode(message)["level"]).upper()
    except (ValueError, KeyError, RecursionError):
        return _INFO
    word = _OTHER_NAMES.get(word, word)
    return _OWN_LEVELS.index(word) if word in _OWN_LEVELS else _INFO


def _last_words(report: Report) -> tuple[str, ...]:
    """What the platform says of a call that did not answer."""
    if report.status is Status.TIMEOUT:
        return (_record("ERROR", report.ended_s, timed_out(report), requestId=report.invocation, **_tenant(report.tenant)),)
    if report.status in {Status.CRASHED, Status.OUT_OF_MEMORY}:
        words = {"requestId": report.invocation, "errorType": "Runtime.ExitError", **_tenant(report.tenant)}
        return (_record("ERROR", report.ended_s, exited(report), **words),)
    return ()


def _record(level: str, at_s: float, message: str, **more: str) -> str:
    return _line({"timestamp": timestamp(at_s), "level": level, "message": message, **more})


def _tenant(tenant: str | None) -> dict[str, str]:
    return {} if tenant is None else {"tenantId": tenant}


def _tracing(trace: str | None) -> dict[str, Any]:
    return {"tracing": {"type": "X-Amzn-Trace-Id", "value": trace}} if trace else {}


def _line(event: Mapping[str, Any]) -> str:
    return msgspec.json.encode(event).decode() + "\n"
