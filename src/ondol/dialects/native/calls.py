"""`POST /functions/{name}/invoke`: call a function and wait, hand the call over, or only look whether it could be called.

In the front: nothing here waits for anything but the function. Functions that are called by events are called here; what is
called by requests is at /fn/NAME.
"""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ondol.core import traces
from ondol.core.catalog import Index
from ondol.core.payloads import is_json
from ondol.dialects.native.finding import WEB_NAMES, function_of
from ondol.dialects.native.operations import JSON, Asked, Body, Operation, Reply
from ondol.dialects.native.reading import media_of
from ondol.http.messages import Request, Response
from ondol.http.table import Plane
from ondol.model.errors import InvalidPayload, InvalidSetting, TooLarge
from ondol.model.functions import Function
from ondol.model.invocations import Invocation, Outcome
from ondol.model.limits import (
    DEFERRED_PAYLOAD_BYTES_MAX,
    RESULT_BYTES_MAX,
    SYNC_PAYLOAD_BYTES_MAX,
    TENANT_CHARS_MAX,
    TENANT_PATTERN,
)

TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"


#: `$` alone would let a line's end through behind it.
Tenant = Annotated[str, Meta(min_length=1, max_length=TENANT_CHARS_MAX, pattern=rf"^{TENANT_PATTERN}$(?!\n)")]


class CallQuery(Struct, frozen=True, kw_only=True):
    """How to call."""

    qualifier: Annotated[str | None, Meta(description="a version's number, or an alias; else the latest code")] = None
    tenant: Annotated[Tenant | None, Meta(description="whose call it is, for functions that keep tenants apart")] = None
    mode: Annotated[
        Literal["wait", "deferred", "check"],
        Meta(description="wait for the outcome; have it accepted for later (202); or only look whether it may be called (204)"),
    ] = "wait"
    log: Annotated[Literal["none", "tail"], Meta(description="`tail`: the end of the call's log, in the outcome")] = "none"
    answer: Annotated[
        Literal["outcome", "payload"],
        Meta(description="what a 200 is: the outcome, or the function's answer itself with the rest in headers"),
    ] = "outcome"


class OutcomeDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a call came to. That the function failed is no error of the API: `status` says it."""

    request_id: str
    status: Literal["ok", "failed", "timeout", "crashed", "out_of_memory", "too_large"]
    version: Annotated[int | None, Meta(description="the version that ran; null: the latest code")]
    payload: Annotated[Raw | UnsetType, Meta(description="the function's answer, or its error: any JSON")] = UNSET
    payload_base64: Annotated[str | UnsetType, Meta(description="in place of `payload` where the answer is no JSON")] = UNSET
    duration_ms: float | None = None
    init_ms: Annotated[float | None, Meta(description="set when this call brought an environment up")] = None
    memory_peak_mib: int | None = None
    log: Annotated[str | UnsetType, Meta(description="with `log=tail`")] = UNSET


class AcceptedDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call that was accepted: it is on disk."""

    request_id: str


OPERATIONS: Final = (
    Operation(
        id="calls.invoke", method="POST", path="/functions/{name}/invoke", summary="Call a function.", action="function:invoke",
        query=CallQuery, plane=Plane.DATA,
        body=Body(bytes_max=SYNC_PAYLOAD_BYTES_MAX, schema=Any, media=(JSON, TEXT, BYTES), form="bytes", required=False),
        replies={
            200: Reply("The outcome, or the function's answer.", OutcomeDocument),
            202: Reply("Accepted for later.", AcceptedDocument),
            204: Reply("It may be called.", media=()),
        },
        refusals=(404, 429, 501, 502, 507),
    ),
)  # fmt: skip


class Invoking(Protocol):
    """What is needed of the core. All raise OndolError."""

    async def invoke(self, invocation: Invocation) -> Outcome: ...

    async def defer(self, invocation: Invocation) -> None: ...

    async def check(self, invocation: Invocation) -> None: ...


class Calls:
    """The part."""

    operations = OPERATIONS

    def __init__(self, *, index: Index, invoker: Invoking) -> None:
        self._index = index
        self._invoker = invoker

    async def invoke(self, asked: Asked) -> Response:
        query: CallQuery = asked.query
        invocation = Invocation(
            id=asked.request_id,
            function=self._function(asked).id,
            qualifier=query.qualifier,
            principal=asked.principal,
            payload=_event(asked),
            trace=_trace(asked.request),
            tail=query.log == "tail" and query.mode == "wait",
            tenant=query.tenant,
        )
        if query.mode == "deferred":
            _check_deferred(invocation.payload)
            await self._invoker.defer(invocation)
            return _json(202, AcceptedDocument(request_id=invocation.id), invocation)
        if query.mode == "check":
            await self._invoker.check(invocation)
            return Response(204)
        outcome = await self._invoker.invoke(invocation)
        return _payload(outcome, invocation) if query.answer == "payload" else await _outcome(outcome, invocation)

    def _function(self, asked: Asked) -> Function:
        function = function_of(self._index, asked)
        name, principal = asked.path["name"], asked.principal
        if self._index.handle(WEB_NAMES, principal.account, principal.region, name) is not None:
            raise InvalidSetting("name", f"{name} is called by requests, at /fn/{name}/, and not by events")
        return function


def _trace(request: Request) -> str:
    """The call's place in a trace, as event handlers see it: its client's, in whichever form that came, or one that begins."""
    given = request.header("x-amzn-trace-id")
    if given.isascii() and given.isprintable() and traces.from_fields(given):
        return given
    return traces.fields_of(request.header("traceparent")) or traces.fresh(os.urandom(24)).fields


def _event(asked: Asked) -> bytes:
    """JSON as it is; a text, or bytes in base64, as a JSON string. Nothing at all is an empty object."""
    body, operation = asked.body, asked.operation.body
    if not body:
        return b"{}"
    assert operation is not None
    media = media_of(asked.request, operation)
    if media == BYTES:
        return msgspec.json.encode(base64.b64encode(body).decode())
    if media == TEXT:
        try:
            return msgspec.json.encode(body.decode())
        except UnicodeDecodeError:
            raise InvalidPayload(f"the text is not UTF-8: send it as {BYTES}") from None
    if not is_json(body):
        raise InvalidPayload(f"the body is no JSON: send JSON, or say what it is ({TEXT}, {BYTES})")
    return bytes(body)


def _check_deferred(payload: bytes) -> None:
    if len(payload) > DEFERRED_PAYLOAD_BYTES_MAX:
        message = f"a deferred call's event may have {DEFERRED_PAYLOAD_BYTES_MAX:,} bytes, this one has {len(payload):,}"
        raise TooLarge(message, limit_bytes=DEFERRED_PAYLOAD_BYTES_MAX, actual_bytes=len(payload))


# Rendering ------------------------------------------------------------------------------------------------------------
def _payload(outcome: Outcome, invocation: Invocation) -> Response:
    version = "latest" if outcome.target_version is None else str(outcome.target_version)
    headers = [*_headers(invocation), ("x-ondol-status", outcome.status.value), ("x-ondol-version", version)]
    if invocation.tail:
        headers.append(("x-ondol-log", base64.b64encode(outcome.tail).decode()))
    return Response(200, headers, outcome.body)


async def _outcome(outcome: Outcome, invocation: Invocation) -> Response:
    body = await _whole(outcome.body)
    report, shown = outcome.report, is_json(body)
    document = OutcomeDocument(
        request_id=invocation.id,
        status=outcome.status.value,
        version=outcome.target_version,
        payload=Raw(body) if shown else UNSET,
        payload_base64=UNSET if shown else base64.b64encode(body).decode(),
        duration_ms=report.duration_ms if report else None,
        init_ms=report.init_ms if report else None,
        memory_peak_mib=report.memory_peak_mib if report else None,
        log=outcome.tail.decode(errors="replace") if invocation.tail else UNSET,
    )
    return _json(200, document, invocation)


async def _whole(body: bytes | AsyncIterator[bytes]) -> bytes:
    """The function's answer, which its contract bounds. Raises TooLarge, Unavailable."""
    if isinstance(body, bytes):
        return body
    parts, size = [], 0
    async for chunk in body:
        parts.append(bytes(chunk))
        size += len(chunk)
        if size > RESULT_BYTES_MAX:
            await body.aclose()  # type: ignore[attr-defined]  # every stream of the pool has it
            message = "the answer is too long for an outcome: ask for it alone, with answer=payload"
            raise TooLarge(message, limit_bytes=RESULT_BYTES_MAX)
    return b"".join(parts)


def _json(status: int, document: Struct, invocation: Invocation) -> Response:
    return Response(status, _headers(invocation), msgspec.json.encode(document))


def _headers(invocation: Invocation) -> tuple[tuple[str, str], ...]:
    return (("content-type", JSON), ("x-amzn-trace-id", invocation.trace or ""))
