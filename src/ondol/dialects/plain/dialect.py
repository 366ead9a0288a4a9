"""`ANY /fn/NAME[:QUALIFIER][/path]` -> the function of that name, as a web server would get it.

What the function sees is the request as sent, but for the platform's own credentials: an Authorization header that carried a
key of this node, and X-Ondol-Key, end here. A request without a `traceparent` gets one. Bodies stream both ways.

A name that is no web server's may be that of a function which takes events. Making an event of a request, and a response of its
answer, is the business of whoever keeps such functions (`EventFunctions`).
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol
from urllib.parse import unquote

import msgspec

from ondol.core import traces
from ondol.core.catalog import Index
from ondol.dialect import Gatekeeper
from ondol.http.messages import Disconnected, Request, Response
from ondol.http.table import Plane, Route
from ondol.model import errors
from ondol.model.errors import OndolError
from ondol.model.functions import Function
from ondol.model.invocations import Invocation, Outcome
from ondol.model.principals import Kind, Principal

PREFIX: Final = "/fn"
CONTRACT: Final = "web"
DIALECT: Final = "plain"

#: The most special class of an error's ancestry decides.
STATUS: Final[dict[type[OndolError], int]] = {
    errors.InvalidPayload: 400,
    errors.InvalidSetting: 400,
    errors.InvalidCode: 400,
    errors.Invalid: 400,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.RevisionMismatch: 412,
    errors.Busy: 409,
    errors.Conflict: 409,
    errors.Denied: 403,
    errors.TooLarge: 413,
    errors.Throttled: 429,
    errors.RuntimeMissing: 502,
    errors.NotBuilt: 501,
    errors.StartFailed: 503,
    errors.OutOfSpace: 507,
    errors.Unavailable: 503,
    OndolError: 500,
}

_OWN_HEADERS: Final = frozenset({"x-ondol-key", "connection", "keep-alive", "transfer-encoding", "te", "upgrade", "trailer"})


class EventFunctions(Protocol):
    """Functions that take events, called by requests all the same."""

    def find(self, principal: Principal, name: str) -> Function | None:
        """The function of that name; None when there is none."""
        ...

    async def serve(self, request: Request, function: Function, path: str, given: Invocation) -> Response:
        """Call it. `request`: without the node's own credentials; `path`: behind the function's name; `given`: who calls, and
        what, still without its payload. Raises OndolError, Disconnected.
        """
        ...


class PlainDialect:
    """The data plane's share; functions are deployed through the native API."""

    name = DIALECT
    routes: Sequence[Route] = (
        Route(dialect=DIALECT, name="function", plane=Plane.DATA, path=PREFIX),
        Route(dialect=DIALECT, name="function", plane=Plane.DATA, host="fn", path=PREFIX),
    )

    def __init__(
        self,
        *,
        index: Index,
        gatekeeper: Gatekeeper,
        invoke: Callable[[Invocation], Awaitable[Outcome]],
        events: EventFunctions | None = None,
    ) -> None:
        self._events = events
        self._index = index
        self._gatekeeper = gatekeeper
        self._invoke = invoke

    async def serve(self, request: Request, route: Route) -> Response:
        del route
        request_id = str(uuid.uuid4())
        trace = _trace(request)
        try:
            response = await self._call(request, request_id, trace)
        except OndolError as error:
            response = refused(error)
        except Disconnected:
            response = Response(400, (), b"")
        response.headers = (*response.headers, ("x-request-id", request_id))
        if not any(name.lower() == "traceparent" for name, _ in response.headers):
            response.headers = (*response.headers, ("traceparent", trace))
        return response

    async def _call(self, request: Request, request_id: str, trace: str) -> Response:
        buffered = request.body.buffered
        body_sha256 = hashlib.sha256(buffered).hexdigest() if buffered is not None and _is_signed(request) else None
        principal = self._gatekeeper.principal(request, body_sha256)
        if principal.kind is Kind.ANONYMOUS:
            return unknown()
        name, qualifier, path = parts(request.path)
        function = self._index.handle(DIALECT, principal.account, principal.region, name)
        if function is None:
            given = Invocation(
                id=request_id, function="", qualifier=qualifier, principal=principal, payload=b"", trace=trace, streamed=True
            )
            return await self._call_with_event(request, name, path, given)
        invocation = Invocation(
            id=request_id,
            function=function.id,
            qualifier=qualifier,
            principal=principal,
            payload=buffered or b"",
            body=None if buffered is not None else request.body.chunks(),
            context=_context(request, f"{PREFIX}/{name}" + (f":{qualifier}" if qualifier else ""), path, trace),
            trace=trace,
            streamed=True,
        )
        outcome = await self._invoke(invocation)
        return Response(int(outcome.head.get("status", 502)), outcome.head.get("headers", ()), outcome.body)

    async def _call_with_event(self, request: Request, name: str, path: str, given: Invocation) -> Response:
        function = self._events.find(given.principal, name) if self._events is not None else None
        if function is None or self._events is None:
            raise errors.NotFound("function", name)
        own = _own_headers(request)
        headers = [(each, value) for each, value in request.headers if each not in own]
        bare = Request(request.method, request.target, headers, request.body, request.peer)
        return await self._events.serve(bare, function, path, given)


def parts(path: str) -> tuple[str, str | None, str]:
    """(name, qualifier, rest of the path as sent, beginning with '/') of a request's path."""
    _, _, rest = path.partition(PREFIX + "/")
    handle, slash, rest = rest.partition("/")
    name, _, qualifier = unquote(handle).partition(":")
    return name, qualifier or None, slash + rest or "/"


def refused(error: OndolError) -> Response:
    """The platform's own failure, as JSON."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers = [("content-type", "application/json")]
    if isinstance(error, errors.Throttled):
        headers.append(("retry-after", str(max(1, round(error.retry_after_s)))))
    return Response(status, headers, msgspec.json.encode({"error": type(error).__name__, "message": str(error)}))


def unknown() -> Response:
    """Nobody may call a function: who is it?"""
    message = "send a key of this node: `Authorization: Bearer ID:SECRET` or `X-Ondol-Key: ID:SECRET` (`ondol env` prints it)"
    body = msgspec.json.encode({"error": "Unauthenticated", "message": message})
    return Response(401, (("content-type", "application/json"), ("www-authenticate", 'Bearer realm="ondol"')), body)


def _is_signed(request: Request) -> bool:
    return request.header("authorization").startswith("AWS4-") or "X-Amz-Signature=" in request.query


def _trace(request: Request) -> str:
    """The call's `traceparent`: the caller's, in whichever form it sent one, or one that begins here."""
    given = traces.from_w3c(request.header("traceparent")) or traces.from_fields(request.header("x-amzn-trace-id"))
    return (given.w3c if given else "") or traces.fresh(os.urandom(24)).w3c


def _own_headers(request: Request) -> frozenset[str]:
    """Those that end here: hop by hop, and the node's own credentials."""
    scheme, _, rest = request.header("authorization").partition(" ")
    # Next to an X-Ondol-Key (an empty one is none), a bearer token is the application's own.
    bearer = scheme.lower() == "bearer" and (request.header("x-ondol-key") or rest.strip()) == rest.strip()
    return _OWN_HEADERS | ({"authorization"} if bearer or scheme.upper() == "AWS4-HMAC-SHA256" else frozenset())


def _context(request: Request, root: str, path: str, trace: str) -> dict[str, object]:
    own = _own_headers(request)
    headers = [(name, value) for name, value in request.headers if name not in own]
    if not request.header("traceparent"):
        headers.append(("traceparent", trace))
    return {
        "method": request.method,
        "root": root,
        "path": path,
        "query": request.query,
        "headers": headers,
        "client": request.peer,
    }
