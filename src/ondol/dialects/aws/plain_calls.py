"""A function that takes events, called by a plain request: `/fn/NAME` makes of it what a function URL would.

The event is that of a function URL (payload format 2.0), signed by the caller. A handler that answers at once answers as behind
a URL that buffers (`statusCode`, `headers`, `body`, or the body alone); one that streams, as behind one that streams. Who calls
has a key of the node, so that a function that fails is told about: 502, with its error as the body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from ondol.clock import Clock
from ondol.core import traces
from ondol.core.catalog import Index
from ondol.dialects.aws import url_events, url_streams
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.invoke import trace_of
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.rendering import arn
from ondol.dialects.aws.urls import caller_of
from ondol.http.messages import BodyTooLarge, Request, Response
from ondol.model.errors import TooLarge
from ondol.model.functions import Function
from ondol.model.invocations import Invocation, Outcome, Status
from ondol.model.limits import SYNC_PAYLOAD_BYTES_MAX
from ondol.model.principals import Principal

_MALFORMED = {
    "errorType": "Malformed",
    "errorMessage": "the function's answer is no response: expected JSON, with a statusCode from 200 to 599 where there is one",
}


class PlainCalls:
    """See the module."""

    def __init__(
        self, *, index: Index, grants: Grants, invoke: Callable[[Invocation], Awaitable[Outcome]], clock: Clock
    ) -> None:
        self._index = index
        self._grants = grants
        self._invoke = invoke
        self._clock = clock

    def find(self, principal: Principal, name: str) -> Function | None:
        """The function of that name; None when there is none."""
        return self._index.handle(DIALECT, principal.account, principal.region, name)

    async def serve(self, request: Request, function: Function, path: str, given: Invocation) -> Response:
        """Call it. `given`: who calls, and what, still without its payload. Raises OndolError, Disconnected."""
        try:
            body = await request.body.read(SYNC_PAYLOAD_BYTES_MAX)
        except BodyTooLarge as error:
            raise TooLarge(str(error), limit_bytes=SYNC_PAYLOAD_BYTES_MAX) from error
        trace = trace_of(request.header("x-amzn-trace-id") or traces.fields_of(given.trace or ""))
        event = url_events.event(
            request, body, url_id=function.name, path=path, request_id=given.id, trace=trace, at_s=self._clock.wall_s(),
            caller=caller_of(given.principal, self._grants),
        )  # fmt: skip
        qualifier = None if given.qualifier == LATEST else given.qualifier
        invocation = msgspec.structs.replace(
            given,
            function=function.id,
            qualifier=qualifier,
            payload=msgspec.json.encode(event),
            context={"invoked_arn": arn(function, qualifier)},
            trace=trace,
        )
        return await answered(await self._invoke(invocation))


async def answered(outcome: Outcome) -> Response:
    """The response that an outcome means."""
    at_once = isinstance(outcome.body, bytes)
    if outcome.status is not Status.OK:
        failure = outcome.body if isinstance(outcome.body, bytes) else b"null"
        await url_streams.drop(outcome)
        return Response(502, [("Content-Type", url_events.JSON_TYPE)], failure)
    try:
        if at_once and outcome.head.get("content_type") != url_streams.PRELUDE:
            assert isinstance(outcome.body, bytes)
            return url_events.response(outcome.body)
        return await url_streams.answered(outcome)
    except url_events.Malformed:
        return Response(502, [("Content-Type", url_events.JSON_TYPE)], msgspec.json.encode(_MALFORMED))
