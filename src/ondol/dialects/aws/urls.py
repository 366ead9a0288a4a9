"""Function URLs, the data plane's half: `ID.lambda-url.REGION.localhost` and `/lambda-url/ID`.

A request that the URL lets in is the platform's own call: whether it may is decided here, by the URL's AuthType and what the
function's policy says, and not again on the way. What InvokeMode RESPONSE_STREAM makes of an answer: url_streams.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ondol.clock import Clock
from ondol.core import traces
from ondol.core.catalog import Index
from ondol.dialects.aws import errors, sigv4, url_cors, url_events, url_streams
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.ids import new_request_id
from ondol.dialects.aws.invoke import trace_of
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.rendering import arn
from ondol.dialects.aws.service import ServiceError
from ondol.http.guard import hostname
from ondol.http.messages import BodyTooLarge, Disconnected, Request, Response
from ondol.model.errors import OndolError
from ondol.model.functions import Function
from ondol.model.invocations import Invocation, Outcome, Status
from ondol.model.limits import SYNC_PAYLOAD_BYTES_MAX
from ondol.model.principals import Kind, Principal

log = logging.getLogger(__name__)

PATH: Final = "/lambda-url"
_ACTION: Final = "lambda:InvokeFunctionUrl"
_FORBIDDEN: Final = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """One URL."""

    id: str
    function: str
    #: An alias, or None.
    qualifier: str | None
    auth: str
    cors: Mapping[str, Any] | None
    #: Its InvokeMode is RESPONSE_STREAM.
    streams: bool = False


class Registry:
    """All URLs by id. Give `follow` to the catalog's listeners."""

    def __init__(self) -> None:
        self._urls: dict[str, Url] = {}
        #: By the key of the function's document.
        self._ids: dict[str, list[str]] = {}

    def find(self, url_id: str) -> Url | None:
        return self._urls.get(url_id)

    def follow(self, key: str, noun: Any) -> None:
        """A listener for the catalog's index."""
        if not key.startswith("function/"):
            return
        for gone in self._ids.pop(key, ()):
            del self._urls[gone]
        kept = noun.annotations.get(DIALECT, {}).get("Urls") if isinstance(noun, Function) else None
        if not kept:
            return
        made = [
            Url(
                id=url["Id"],
                function=noun.id,
                qualifier=None if at == LATEST else at,
                auth=url["AuthType"],
                cors=url.get("Cors"),
                streams=url.get("InvokeMode") == "RESPONSE_STREAM",
            )
            for at, url in kept.items()
        ]
        self._ids[key] = [url.id for url in made]
        self._urls.update((url.id, url) for url in made)


class Urls:
    """Serves them."""

    def __init__(
        self,
        *,
        registry: Registry,
        index: Index,
        verifier: Verifier,
        grants: Grants,
        invoke: Callable[[Invocation], Awaitable[Outcome]],
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._index = index
        self._verifier = verifier
        self._grants = grants
        self._invoke = invoke
        self._clock = clock

    async def __call__(self, request: Request) -> Response:
        request_id = new_request_id()
        url_id, path = parts(request)
        url = self._registry.find(url_id)
        function = self._index.function(url.function) if url else None
        if url is None or function is None:
            return _refused(404, "ResourceNotFoundException", None, request_id)
        asked = url_cors.preflight(request, url.cors)
        if asked is not None:
            return asked
        try:
            answered = await self._serve(request, url, function, path, request_id)
        except Disconnected:
            return Response(400)
        except BodyTooLarge:
            answered = _refused(413, "RequestEntityTooLargeException", "Request Too Long", request_id)
        except ServiceError as error:
            answered = _unproven(error, request_id)
        except OndolError as error:
            answered = errors.render_known(errors.translate(error, arn(function, url.qualifier)), request_id)
        except Exception:
            log.exception("request %s failed inside", request_id)
            answered = _refused(502, "InternalFailure", None, request_id)
        return url_cors.marked(request, answered, url.cors)

    async def _serve(self, request: Request, url: Url, function: Function, path: str, request_id: str) -> Response:
        if url.auth == "NONE" and not self._may(_anybody(function), url, function):
            return _refused(403, "AccessDeniedException", _FORBIDDEN, request_id)
        claimed = self._verifier.claim(request, "lambda") if url.auth != "NONE" else None
        body = await request.body.read(SYNC_PAYLOAD_BYTES_MAX)
        who = claimed.verify(hashlib.sha256(body).hexdigest()) if claimed else None
        if who is not None and not self._may(who, url, function):
            return _refused(403, "AccessDeniedException", _FORBIDDEN, request_id)
        trace = trace_of(request.header("x-amzn-trace-id") or traces.fields_of(request.header("traceparent")))
        event = url_events.event(
            request, body, url_id=url.id, path=path, request_id=request_id, trace=trace, at_s=self._clock.wall_s(),
            caller=caller_of(who, self._grants) if who is not None else None,
        )  # fmt: skip
        invocation = Invocation(
            id=request_id,
            function=function.id,
            qualifier=url.qualifier,
            principal=Principal(kind=Kind.NODE, account=function.account, region=function.region, name="url"),
            payload=msgspec.json.encode(event),
            context={"invoked_arn": arn(function, url.qualifier)},
            trace=trace,
            streamed=url.streams,
        )
        return await _answered(await self._invoke(invocation), invocation)

    def _may(self, who: Principal, url: Url, function: Function) -> bool:
        if self._verifier.open:
            return True
        told = {"lambda:functionurlauthtype": (url.auth,), "lambda:invokedviafunctionurl": ("true",)}
        return self._grants.may_function(who, _ACTION, function, url.qualifier, told)


def caller_of(who: Principal, grants: Grants) -> Mapping[str, Any]:
    """What an event says of who signed its request."""
    return {
        "accessKey": who.name,
        "accountId": who.account,
        "callerId": who.name,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": grants.arn(who),
        "userId": who.name,
    }


def parts(request: Request) -> tuple[str, str]:
    """(id, path behind the URL, as sent) of a request in either form."""
    host = hostname(request.header("host"))
    if ".lambda-url." in host:
        return host.partition(".")[0], request.path
    url_id, slash, rest = request.path[len(PATH) + 1 :].partition("/")
    return url_id, slash + rest or "/"


def _anybody(function: Function) -> Principal:
    return Principal(kind=Kind.ANONYMOUS, account="", region=function.region, name="anonymous")


async def _answered(outcome: Outcome, invocation: Invocation) -> Response:
    headers = [("x-amzn-RequestId", invocation.id), ("X-Amzn-Trace-Id", invocation.trace or "")]
    try:
        if invocation.streamed:
            made = await url_streams.answered(outcome)
        elif outcome.status is Status.OK and isinstance(outcome.body, bytes):  # it was asked for whole
            made = url_events.response(outcome.body)
        else:
            raise url_events.Malformed
    except url_events.Malformed:
        made = Response(502, [("Content-Type", url_events.JSON_TYPE)], b"Internal Server Error")
    made.headers = [*made.headers, *headers]
    return made


def _unproven(error: ServiceError, request_id: str) -> Response:
    """What is wrong with a signature is said as everywhere; that there is none is answered as to one who may not."""
    if error.code == sigv4.missing().code:
        return _refused(403, "AccessDeniedException", _FORBIDDEN, request_id)
    return errors.render_known(error, request_id)


def _refused(status: int, code: str, message: str | None, request_id: str) -> Response:
    headers = [
        ("Content-Type", url_events.JSON_TYPE), ("x-amzn-RequestId", request_id), ("x-amzn-ErrorType", code),
    ]  # fmt: skip
    return Response(status, headers, msgspec.json.encode({"Message": message}))
