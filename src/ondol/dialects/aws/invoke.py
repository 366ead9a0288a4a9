"""Invoke, on the hot path: the same checks and texts as the codec's, without the codec and without a service model.

    POST /2015-03-31/functions/{FunctionName}/invocations      RequestResponse, Event, DryRun
    POST /2014-11-13/functions/{FunctionName}/invoke-async     the old form of Event
    POST /2021-11-15/functions/{FunctionName}/response-streaming-invocations     RequestResponse, answered in framed events

Gets a principal that is proven and a body that is whole; returns a `Response`. Knows nothing of signatures or environments.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Struct

from ondol.accelerator import hot
from ondol.core import traces
from ondol.core.catalog import Index
from ondol.core.payloads import is_json
from ondol.dialects.aws import errors, jackson, lineage, names, streaming
from ondol.dialects.aws.configuration import TERMINATE, recursion
from ondol.dialects.aws.grants import IN_ROLES, Grants
from ondol.dialects.aws.ids import digits
from ondol.dialects.aws.names import LATEST, version_name
from ondol.dialects.aws.refusals import not_built
from ondol.dialects.aws.service import ServiceError
from ondol.http.messages import Request, Response
from ondol.model.errors import Denied, InvalidSetting, OndolError
from ondol.model.functions import Function
from ondol.model.invocations import Invocation, Outcome, Status
from ondol.model.limits import DEFERRED_PAYLOAD_BYTES_MAX, SYNC_PAYLOAD_BYTES_MAX, TENANT_CHARS_MAX, TENANT_PATTERN
from ondol.model.principals import Kind, Principal

#: The dialect's key in the handle table, in annotations and in routes.
DIALECT = "aws"
CLIENT_CONTEXT_BYTES_MAX = 3583

_ACTION = "lambda:InvokeFunction"
_PREFIX = "/2015-03-31/functions/"
_PREFIX_ASYNC = "/2014-11-13/functions/"
_PREFIX_STREAM = "/2021-11-15/functions/"
_DURABLE = "x-amz-durable-execution-name"
_SYNC, _EVENT, _DRY = "RequestResponse", "Event", "DryRun"
_TENANT = re.compile(rf"(?=.{{1,{TENANT_CHARS_MAX}}}$){TENANT_PATTERN}", re.ASCII)
_KINDS, _LOGS = frozenset({_SYNC, _EVENT, _DRY}), frozenset({"None", "Tail"})


#: What few calls say about themselves; what all others ask for is known by their path.
SELDOM = frozenset({"x-amz-invocation-type", "x-amz-log-type", "x-amz-tenant-id", "x-amz-client-context", _DURABLE})
#: Paths up to this are remembered with what they mean: nobody's name is longer, and what stands behind it is not looked at.
_KNOWN_CHARS_MAX = 256


class Invoker(Protocol):
    """What Invoke needs of the core. All raise OndolError."""

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Run it and wait."""
        ...

    async def defer(self, invocation: Invocation) -> None:
        """Accept it: on disk when this returns."""
        ...

    async def check(self, invocation: Invocation) -> None:
        """Raise what `invoke` would before anything is started: Denied, NotFound."""
        ...


class _Asked(Struct, frozen=True):
    """An Invoke request, parsed and validated."""

    kind: str
    named: names.Named
    payload: bytes
    context: Mapping[str, Any]
    tail: bool
    streamed: bool
    tenant: str | None


class Plain(NamedTuple):
    """What a path means to a caller who says nothing else."""

    named: names.Named
    #: The ARN asked for, and the invocation's context, which has it.
    arn: str
    context: Mapping[str, Any]


class Invoke:
    """The operation."""

    def __init__(self, *, index: Index, invoker: Invoker, grants: Grants) -> None:
        self._index = index
        self._invoker = invoker
        self._grants = grants

    async def __call__(self, request: Request, body: bytes, principal: Principal, request_id: str) -> Response:
        """Answer. Raises ServiceError; the platform's own errors come out as such too."""
        asked = parse(request, body, principal)
        function = self._function(asked.named, principal)
        qualifier = asked.named.qualifier
        if qualifier == LATEST:
            _check_latest(function)
            qualifier = None
        invocation = Invocation(
            id=request_id,
            function=function.id,
            qualifier=qualifier,
            principal=principal,
            payload=asked.payload,
            context=asked.context,
            trace=_trace(request, principal, function),
            tail=asked.tail,
            streamed=asked.streamed,
            tenant=asked.tenant,
        )
        try:
            if asked.streamed and asked.kind == _SYNC:
                return streamed(await self._invoker.invoke(invocation), invocation)
            if asked.kind == _SYNC:
                return rendered(await self._invoker.invoke(invocation), invocation)
            if asked.kind == _EVENT:
                await self._invoker.defer(invocation)
                return Response(202, _headers(invocation), b"")
            await self._invoker.check(invocation)
            return Response(204, _headers(invocation), b"")
        except Denied as error:
            raise self._not_authorized(asked.named, principal) from error
        except InvalidSetting as error:
            raise _whose(error, arn_of(asked.named), asked.tenant) from error
        except OndolError as error:
            raise errors.translate(error, arn_of(asked.named)) from error

    def _function(self, named: names.Named, principal: Principal) -> Function:
        function = self._index.handle(DIALECT, named.account, named.region, named.name)
        if function is None:
            if named.account != principal.account or not self._may(named, principal):  # and is not told whether it is there
                raise self._not_authorized(named, principal)
            message = f"Function not found: {arn_of(named)}"
            raise ServiceError("ResourceNotFoundException", message, status=404, extra=errors.USER)
        return function

    def _may(self, named: names.Named, principal: Principal) -> bool:
        return principal.kind not in IN_ROLES or self._grants.may(
            principal, _ACTION, arn_of(named, latest=False), named.account
        )

    def _not_authorized(self, named: names.Named, principal: Principal) -> ServiceError:
        arn = arn_of(named, latest=False)
        if named.account == principal.account:
            why = self._grants.why_not(principal, _ACTION, arn)
        else:
            why = errors.because_none("resource-based policy", _ACTION)
        return errors.not_authorized(self._grants.arn(principal), _ACTION, arn, why)


# Parsing --------------------------------------------------------------------------------------------------------------
def parse(request: Request, body: bytes, principal: Principal) -> _Asked:
    """What is asked for. Raises ServiceError with Lambda's own texts."""
    found = plain(request, principal)
    if found is not None:
        return _Asked(_SYNC, found.named, _payload(body, _SYNC), found.context, False, False, None)
    return _parse(request, body, principal)


def plain(request: Request, principal: Principal) -> Plain | None:
    """What a request means that asks for nothing but an answer; None for one that says more. Raises ServiceError."""
    path = request.path
    if not request.query and len(path) <= _KNOWN_CHARS_MAX and path.startswith(_PREFIX) and SELDOM.isdisjoint(request.index()):
        return _plain(path, principal.account, principal.region)
    return None


def is_event(body: bytes) -> bool:
    """Whether `parse` would take it for a call's event."""
    return len(body) <= SYNC_PAYLOAD_BYTES_MAX and (not body or is_json(body))


def _parse(request: Request, body: bytes, principal: Principal) -> _Asked:
    """The definition: whatever a call may say."""
    path = request.path
    in_events = path.startswith(_PREFIX_STREAM)
    if in_events:
        kind = request.header("x-amz-invocation-type", _SYNC)
        text = path[len(_PREFIX_STREAM) :].partition("/")[0]
    elif path.startswith(_PREFIX):
        kind = request.header("x-amz-invocation-type", _SYNC)
        text = path[len(_PREFIX) :].partition("/")[0]
    else:
        kind = _EVENT
        text = path[len(_PREFIX_ASYNC) :].partition("/")[0]
    text = unquote(text) if "%" in text else text
    qualifier = _qualifier(request.query) if request.query else None
    log = request.header("x-amz-log-type", "None")
    tenant = request.header("x-amz-tenant-id") or None
    if kind not in _KINDS or log not in _LOGS or (in_events and kind == _EVENT):
        _refuse(text, qualifier, kind, log, tenant)
    if tenant is not None and not _TENANT.fullmatch(tenant):
        _refuse(text, qualifier, kind, log, tenant)
    named, arn = _named(text, qualifier, principal.account, principal.region)
    if request.header(_DURABLE):
        raise not_built("durable executions", "Call without DurableExecutionName, and keep state elsewhere.")
    context: dict[str, Any] = {"invoked_arn": arn}
    given = request.header("x-amz-client-context")
    if given:
        context["client_context"] = _client_context(given)
    return _Asked(kind, named, _payload(body, kind), context, log == "Tail" and kind == _SYNC, in_events, tenant)


@lru_cache(maxsize=4096)
def _plain(path: str, account: str, region: str) -> Plain:
    text = path[len(_PREFIX) :].partition("/")[0]
    named, arn = _named(unquote(text) if "%" in text else text, None, account, region)
    return Plain(named, arn, MappingProxyType({"invoked_arn": arn}))


@lru_cache(maxsize=4096)
def _named(text: str, qualifier: str | None, account: str, region: str) -> tuple[names.Named, str]:
    """What the texts mean to a caller, and the ARN asked for. Raises ServiceError."""
    names.check(text, qualifier, [])
    named = names.parse(text, qualifier, account=account, region=region)
    return named, arn_of(named, latest=False)


def _refuse(text: str, qualifier: str | None, kind: str, log: str, tenant: str | None) -> NoReturn:
    """As the codec validates: all findings."""
    found = []
    if kind not in _KINDS or kind == _EVENT:
        listed = "[RequestResponse, DryRun]" if kind == _EVENT else "[Event, RequestResponse, DryRun]"
        found.append(_enum_text(kind, "invocationType", listed))
    if log not in _LOGS:
        found.append(_enum_text(log, "logType", "[Tail, None]"))
    if tenant is not None and not _TENANT.fullmatch(tenant):
        found += _tenant_texts(tenant)
    names.check(text, qualifier, found)
    raise AssertionError("something was found")


def _enum_text(value: str, where: str, listed: str) -> str:
    return f"Value '{value}' at '{where}' failed to satisfy constraint: Member must satisfy enum value set: {listed}"


def _tenant_texts(tenant: str) -> list[str]:
    where = f"Value '{tenant}' at 'tenantId' failed to satisfy constraint: Member must "
    found = []
    if not re.fullmatch(TENANT_PATTERN, tenant, re.ASCII):
        found.append(f"{where}satisfy regular expression pattern: {TENANT_PATTERN}")
    if len(tenant) > TENANT_CHARS_MAX:
        found.append(f"{where}have length less than or equal to {TENANT_CHARS_MAX}")
    return found


def _check_latest(function: Function) -> None:
    """Raise where only versions run. The service's text for that was not found."""
    if function.versions_only:
        message = f"{LATEST} of a Lambda Managed Instances function can't be invoked. Publish a version, and invoke that."
        raise ServiceError("InvalidParameterValueException", message, status=400, extra=errors.USER)


def _whose(error: InvalidSetting, resource: str, tenant: str | None) -> ServiceError:
    """A tenant that is missing, as recorded; or one too many, of which only the code is known."""
    if error.field != "tenant":
        return errors.translate(error, resource)
    message = (
        "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again."
        if tenant is None
        else "The invoked function is not enabled with tenancy configuration. "
        "Remove the tenant ID from your request and try again."
    )
    return ServiceError("InvalidParameterValueException", message, status=400, extra=errors.USER)


def _qualifier(query: str) -> str | None:
    for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=1000):
        if name == "Qualifier":
            return value
    return None


def _client_context(text: str) -> str:
    """The JSON text inside. Raises InvalidRequestContentException."""
    if len(text) > CLIENT_CONTEXT_BYTES_MAX:
        message = f"Client context must be no more than {CLIENT_CONTEXT_BYTES_MAX} bytes, this one has {len(text)}."
        raise ServiceError("InvalidRequestContentException", message, status=400, extra=errors.USER)
    try:
        raw = base64.b64decode(text, validate=True)
        found = msgspec.json.decode(raw)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        message = "Client context must be a valid Base64-encoded JSON object."
        raise ServiceError("InvalidRequestContentException", message, status=400, extra=errors.USER)
    return raw.decode()


def _payload(body: bytes, kind: str) -> bytes:
    """The event: any JSON value; nothing at all is an empty object."""
    if kind == _EVENT and len(body) > DEFERRED_PAYLOAD_BYTES_MAX:
        message = (
            f"{len(body)} byte payload is too large for the Event invocation type (limit {DEFERRED_PAYLOAD_BYTES_MAX} bytes)"
        )
        raise ServiceError("RequestEntityTooLargeException", message, status=413)
    if len(body) > SYNC_PAYLOAD_BYTES_MAX:
        raise too_large()
    if not body:
        return b"{}"
    if not is_json(body):
        message = f"Could not parse request body into json: Could not parse payload into json: {jackson.complaint(body)}"
        raise ServiceError("InvalidRequestContentException", message, status=400, extra=errors.USER)
    return body


def too_large() -> ServiceError:
    """What a payload over the limit is answered, also where its end was never read."""
    message = f"Request must be smaller than {SYNC_PAYLOAD_BYTES_MAX} bytes for the InvokeFunction operation"
    return ServiceError("RequestEntityTooLargeException", message, status=413)


# Rendering ------------------------------------------------------------------------------------------------------------
def rendered(outcome: Outcome, invocation: Invocation) -> Response:
    """A function's answer, or its failure: both are 200."""
    headers = _headers(invocation)
    version = outcome.target_version
    headers.append(("X-Amz-Executed-Version", version_name(version)))
    if outcome.status is not Status.OK:
        headers.append(("X-Amz-Function-Error", "Unhandled"))
    if invocation.tail:
        headers.append(("X-Amz-Log-Result", base64.b64encode(outcome.tail).decode()))
    return Response(200, headers, outcome.body)


def streamed(outcome: Outcome, invocation: Invocation) -> Response:
    """A function's answer in framed events."""
    headers = [
        ("Content-Type", streaming.CONTENT_TYPE),
        ("x-amzn-RequestId", invocation.id),
        ("X-Amz-Executed-Version", version_name(outcome.target_version)),
        ("X-Amzn-Trace-Id", invocation.trace or ""),
    ]
    return Response(200, headers, streaming.framed(outcome, tail=invocation.tail))


def _trace(request: Request, principal: Principal, function: Function) -> str:
    """The trace header that the function sees. Raises RecursiveInvocationException for functions that call for ever."""
    trace = trace_asked(request)
    if principal.kind is not Kind.FUNCTION:
        return trace
    trace, calls = lineage.lengthened(trace, function.id)
    if calls > lineage.CALLS_MAX and recursion(function) == TERMINATE:
        message = (
            "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped your "
            "function's invocation."
        )
        raise ServiceError("RecursiveInvocationException", message, status=400, extra=errors.USER, message_key="Message")
    return trace


def trace_asked(request: Request) -> str:
    """What a client's request says of its trace, or a fresh one."""
    return trace_of(request.header("x-amzn-trace-id") or traces.fields_of(request.header("traceparent")))


def _headers(invocation: Invocation) -> list[tuple[str, str]]:
    return [
        ("Content-Type", "application/json"),
        ("x-amzn-RequestId", invocation.id),
        ("x-amzn-Remapped-Content-Length", "0"),
        ("X-Amzn-Trace-Id", invocation.trace or ""),
    ]


def arn_of(named: names.Named, *, latest: bool = True) -> str:
    """The ARN as asked for; `latest`: an unqualified one gets ":$LATEST", as not-found texts have it."""
    qualifier = named.qualifier or (LATEST if latest else None)
    return names.function_arn(named.account, named.region, named.name, qualifier)


def trace_of(given: str) -> str:
    """The trace header that the function sees: the caller's, or a fresh unsampled one."""
    if given and len(given) <= 1024 and given.isascii() and given.isprintable():
        return given
    drawn, now_s = digits(48), int(time.time())
    return hot.trace_of(now_s, drawn) or _fresh_trace(now_s, drawn)


def _fresh_trace(now_s: int, drawn: str) -> str:
    return f"Root=1-{now_s:08x}-{drawn[:24]};Parent={drawn[24:40]};Sampled=0;Lineage=1:{drawn[40:]}:0"
