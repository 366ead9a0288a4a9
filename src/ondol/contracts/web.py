"""The web contract, host half: a function that is a web server (a WSGI or ASGI callable, or a command that listens on $PORT).

Pure. The guest halves are `ondol_guest.web` (callables) and `ondol_guest.command` (any program).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.contract import Place
from ondol.model.functions import Revision, Target, version_name
from ondol.model.invocations import Invocation, Outcome, Report, Status
from ondol.runtime import Answer, LogSink

COMMAND_RUNTIME: Final = "command"

_SENTENCES: Final = {
    Status.FAILED: (502, "the function could not be loaded, or failed before it answered; its log says why"),
    Status.CRASHED: (502, "the function's process ended before it answered; its log says more"),
    Status.OUT_OF_MEMORY: (502, "the function used more memory than its {memory_mib} MiB and was ended"),
    Status.TIMEOUT: (504, "the function did not answer within its {timeout_s} s"),
    Status.TOO_LARGE: (502, "the function sent a frame that is too large"),
}


_NO_HEAD: Final = (502, "the function's answer has no valid status or headers")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE: Final = re.compile(r"[^\r\n\0\u0100-\U0010ffff]*")


class WebContract:
    """One request at a time per environment: simple callables are rarely written for more."""

    concurrency = 1
    stream_bytes_max: int | None = None

    def __init__(self, guest: str = "web") -> None:
        #: "web" for callables, "command" for programs: contract and guest half have one name.
        self.name = self.guest = guest

    def of(self, revision: Revision) -> WebContract:  # noqa: ARG002  # all are alike
        return self

    def log_place(self, revision: Revision, place: Place) -> tuple[str, str]:
        day = time.strftime("%Y/%m/%d", time.gmtime(place.started_s))
        return f"/ondol/{revision.name}", f"{day}/[{_label(revision)}]{place.environment}"

    def variables(self, revision: Revision, place: Place) -> Mapping[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "HOME": "/tmp",  # noqa: S108  # the environment's own
            "PWD": "/var/task",
            "ONDOL_FUNCTION": revision.name,
            "ONDOL_VERSION": _label(revision),
            "ONDOL_MEMORY_MIB": str(revision.configuration.memory_mib),
            "ONDOL_ENDPOINT": place.endpoint,
            **revision.configuration.variables,
        }

    def meta(self, invocation: Invocation, target: Target, *, deadline_ms: int) -> bytes:
        del target
        return msgspec.json.encode({"id": invocation.id, "deadline_ms": deadline_ms, **invocation.context})

    def sifted(self, sink: LogSink) -> LogSink:
        return sink

    def opening(self, revision: Revision, place: Place) -> Sequence[str]:
        ran_by = f", run by {place.substitute} instead of {revision.configuration.runtime}" if place.substitute else ""
        return (f"[ondol] loading {revision.name} {_label(revision)}{ran_by}\n",)

    def started(self, invocation: Invocation, target: Target) -> Sequence[str]:
        del invocation, target
        return ()

    def settled(self, report: Report) -> Sequence[str]:
        cold = f", loaded in {report.init_ms:.1f} ms" if report.init_ms is not None else ""
        times = f"{report.status.value} in {report.duration_ms:.2f} ms{cold}"
        return (f"[ondol] {report.invocation} {times}, {report.memory_peak_mib} of {report.memory_mib} MiB\n",)

    def outcome(self, invocation: Invocation, report: Report, answer: Answer | None) -> Outcome:
        head = head_of(answer.meta) if report.status is Status.OK and answer is not None else None
        if head is not None and answer is not None:
            body = answer.body
        else:
            status, sentence = _SENTENCES.get(report.status, _NO_HEAD)
            message = sentence.format(memory_mib=report.memory_mib, timeout_s=report.timeout_s)
            head = {"status": status, "headers": [("content-type", "application/json")]}
            body = msgspec.json.encode(
                {
                    "error": "failed" if report.status is Status.OK else report.status.value,
                    "message": message,
                    "request_id": invocation.id,
                }
            )
        return Outcome(status=report.status, body=body, target_version=report.version, report=report, head=head)


def head_of(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """Status and headers as a function gave them, None when they are none. User code can write anything there."""
    status, headers = meta.get("status", 200), meta.get("headers", [])
    if type(status) is not int or not 200 <= status <= 599 or not isinstance(headers, list):
        return None
    for header in headers:
        if not (isinstance(header, list) and len(header) == 2 and all(isinstance(each, str) for each in header)):
            return None
        if not _NAME.fullmatch(header[0]) or not _VALUE.fullmatch(header[1]):
            return None
    return {"status": status, "headers": [(name, value) for name, value in headers]}


def _label(revision: Revision) -> str:
    return version_name(revision.version)
