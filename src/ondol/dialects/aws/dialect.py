"""The dialect as the node serves it: its routes, and one class per process.

`AwsFront` answers Invoke and authenticates it. `AwsDesk` answers all other operations through the codec; the front hands
those requests on untouched, and the desk verifies them itself. Both turn every error into the service's own, and an
unexpected one into a ServiceException that the node's log explains.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from ondol.dialects.aws import codec, codec_cbor, coverage, errors, shapes, urls
from ondol.dialects.aws.access import Access
from ondol.dialects.aws.auth import Claimed, Verifier
from ondol.dialects.aws.foreign import Foreign
from ondol.dialects.aws.ids import new_request_id
from ondol.dialects.aws.invoke import DIALECT, Invoke, too_large
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.dialects.aws.upstreams import Upstreams
from ondol.dialects.aws.urls import Urls
from ondol.http.messages import BodyTooLarge, Disconnected, Request, Response
from ondol.http.table import Plane, Route
from ondol.model.errors import OndolError
from ondol.model.limits import SYNC_PAYLOAD_BYTES_MAX

log = logging.getLogger(__name__)

#: The largest request of the control plane: an archive of 50 MB in base64 with its envelope.
CONTROL_BODY_BYTES_MAX: Final = 70_167_211
#: Larger bodies are decoded by the helper.
INLINE_BYTES_MAX: Final = 1024 * 1024
INLINE_CBOR_BYTES_MAX: Final = 64 * 1024
#: Bodies that did not come with their head are held one after another: each may be 70 MB, and its parsed form as much again.
LARGE_BODIES_MAX: Final = 2

#: The row of services that are not served here.
FOREIGN: Final = "foreign"
#: Services by the name in the SigV4 scope.
SERVICES: Final = ("lambda", "logs", "monitoring", "sts", "iam")
#: The first path segments of Lambda's operations: a test compares them with the model.
LAMBDA_PATHS: Final = (
    "/2014-11-13",
    "/2015-03-31",
    "/2016-08-19",
    "/2017-03-31",
    "/2017-10-31",
    "/2018-10-31",
    "/2019-09-25",
    "/2019-09-30",
    "/2020-04-22",
    "/2020-06-30",
    "/2021-07-20",
    "/2021-10-31",
    "/2021-11-15",
    "/2024-08-31",
    "/2025-11-30",
    "/2025-12-01",
    "/2026-07-09",
)

ROUTES: Final = (
    Route(
        dialect=DIALECT,
        name="invoke",
        plane=Plane.DATA,
        path="/2015-03-31/functions",
        path_end="invocations",
        methods=("POST",),
        body_bytes_max=SYNC_PAYLOAD_BYTES_MAX,
    ),
    Route(
        dialect=DIALECT,
        name="invoke-async",
        plane=Plane.DATA,
        path="/2014-11-13/functions",
        path_end="invoke-async",
        methods=("POST",),
        body_bytes_max=SYNC_PAYLOAD_BYTES_MAX,
    ),
    Route(
        dialect=DIALECT,
        name="invoke-with-response-stream",
        plane=Plane.DATA,
        path="/2021-11-15/functions",
        path_end="response-streaming-invocations",
        methods=("POST",),
        body_bytes_max=SYNC_PAYLOAD_BYTES_MAX,
    ),
    *(
        Route(
            dialect=DIALECT,
            name="url",
            plane=Plane.DATA,
            host=host,
            path=path,
            body_bytes_max=SYNC_PAYLOAD_BYTES_MAX,
            for_pages=True,
        )
        for host, path in (("*.lambda-url", ""), ("", urls.PATH))
    ),
    *(
        Route(
            dialect=DIALECT,
            name="lambda",
            plane=Plane.CONTROL,
            path=path,
            body_bytes_max=CONTROL_BODY_BYTES_MAX,
        )
        for path in LAMBDA_PATHS
    ),
    *(
        Route(
            dialect=DIALECT,
            name=service,
            plane=Plane.CONTROL,
            scope=service,
            body_bytes_max=CONTROL_BODY_BYTES_MAX,
        )
        for service in SERVICES
    ),
    # What is signed for a service that has no row of its own.
    Route(dialect=DIALECT, name=FOREIGN, plane=Plane.CONTROL, auth="sigv4"),
)

#: Decodes a large body elsewhere: `codec.decode` in a helper process.
Decode = Callable[[str, str, str, codec.Headers, bytes], Awaitable[codec.Call]]


class AwsFront:
    """The data plane's share."""

    name = DIALECT
    routes: Sequence[Route] = ROUTES

    def __init__(self, *, verifier: Verifier, invoke: Invoke, urls: Urls | None = None) -> None:
        self._verifier = verifier
        self._invoke = invoke
        self._urls = urls

    async def serve(self, request: Request, route: Route) -> Response:
        if route.name == "url" and self._urls is not None:
            return await self._urls(request)
        request_id = new_request_id()
        try:
            claimed = self._verifier.claim(request, "lambda")
            body = request.body.buffered
            if body is None or len(body) > route.body_bytes_max:
                body = await _verified_body(request, claimed, route.body_bytes_max)
            else:
                claimed.verify_body(body)
            return await self._invoke(request, body, claimed.principal, request_id)
        except ServiceError as error:
            return errors.render_known(error, request_id)
        except BodyTooLarge:
            return errors.render_known(too_large(), request_id)
        except Disconnected:
            return Response(400)
        except Exception:
            log.exception("request %s failed inside", request_id)
            return errors.render_known(errors.internal(), request_id)


class AwsDesk:
    """The control plane's share."""

    name = DIALECT
    routes: Sequence[Route] = ROUTES

    def __init__(
        self,
        *,
        verifier: Verifier,
        services: Mapping[str, Operations],
        access: Access,
        decode_large: Decode | None = None,
        upstreams: Upstreams | None = None,
    ) -> None:
        self._verifier = verifier
        self._foreign = Foreign(
            verifier=verifier, grants=access.grants, served=SERVICES, upstreams=upstreams or Upstreams({}, "")
        )
        self._access = access
        self._services = services
        self._decode_large = decode_large or _decode_in_thread
        self._large = asyncio.Semaphore(LARGE_BODIES_MAX)

    async def warm(self) -> None:
        """Read the service models before the first client waits for them."""
        for service in SERVICES:
            await asyncio.to_thread(shapes.model, service)

    async def serve(self, request: Request, route: Route) -> Response:
        if route.name == FOREIGN:
            return await self._foreign.serve(request)
        request_id = new_request_id()
        service = route.scope or "lambda"
        protocol = codec.protocol_of(service, request.target, request.headers)
        try:
            claimed = self._verifier.claim(request, service)
            if request.body.buffered is not None:
                return await self._serve(request, claimed, service, request_id)
            async with self._large:
                return await self._serve(request, claimed, service, request_id)
        except Disconnected:
            return Response(400)
        except Exception as error:
            return codec.encode_error(service, protocol, _in_words(error, request, request_id), request_id)

    async def _serve(self, request: Request, claimed: Claimed, service: str, request_id: str) -> Response:
        body = await _verified_body(request, claimed, CONTROL_BODY_BYTES_MAX)
        principal = claimed.principal
        arguments = (service, request.method, request.target, request.headers, body)
        call = codec.decode(*arguments) if _quick(request, body) else await self._decode_large(*arguments)
        handler = self._services.get(service, {}).get(call.operation)
        if handler is None:
            raise refusal_of(service, call.operation)
        acting = self._access.acting(principal, service, call.operation, call.params, request.header("x-ondol-peer"))
        context = Context(
            request_id=request_id,
            principal=acting,
            caller=principal if acting is not principal else None,
            account=principal.account,
            region=principal.region,
            endpoint=f"http://{request.header('host')}",
        )
        result = await handler(context, call.params)
        return codec.encode(call, result, request_id)


def refusal_of(service: str, operation: str) -> ServiceError:
    """What is said of an operation that is not built."""
    return codec.not_built(service, operation, coverage.REFUSED.get(operation, "") if service == "lambda" else "")


def _quick(request: Request, body: bytes) -> bool:
    """Whether decoding it holds nobody up."""
    if request.header("content-encoding"):
        return False  # nobody knows yet how large it is
    slow = request.header("content-type") == codec_cbor.KIND
    return len(body) <= (INLINE_CBOR_BYTES_MAX if slow else INLINE_BYTES_MAX)


def _in_words(error: Exception, request: Request, request_id: str) -> ServiceError:
    """Whatever went wrong, as the service would say it."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, OndolError):
        return errors.translate(error, request.path)
    if isinstance(error, BodyTooLarge):
        message = f"Request must be smaller than {CONTROL_BODY_BYTES_MAX} bytes for the CreateFunction operation"
        return ServiceError("RequestEntityTooLargeException", message, status=413)
    log.error("request %s failed inside", request_id, exc_info=error)
    return errors.internal()


async def _verified_body(request: Request, claimed: Claimed, bytes_max: int) -> bytes:
    """The whole body, once its hash has proven the claim. Hashed as it comes, so that a large one holds nobody up."""
    buffered = request.body.buffered
    if buffered is not None:
        claimed.verify_body(buffered)
        if len(buffered) > bytes_max:
            raise BodyTooLarge(bytes_max, len(buffered))
        return buffered
    declared = request.header("content-length")[:20]
    if declared.isdigit() and int(declared) > bytes_max:
        raise BodyTooLarge(bytes_max, int(declared))
    digest, parts, size = hashlib.sha256(), [], 0
    async for chunk in request.body.chunks():
        size += len(chunk)
        if size > bytes_max:
            raise BodyTooLarge(bytes_max, size)
        digest.update(chunk)
        parts.append(chunk)
    claimed.verify(digest.hexdigest())
    return b"".join(parts)


async def _decode_in_thread(service: str, method: str, target: str, headers: codec.Headers, body: bytes) -> codec.Call:
    return await asyncio.to_thread(codec.decode, service, method, target, headers, body)
