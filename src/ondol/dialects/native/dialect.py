"""`/ondol/v1`: the node's own API as both processes serve it. What there is stands in `table.py`; docs/reference/native-api.md
says what it means.

The front answers what calls functions, the desk all else; each is given the parts that it answers. Whoever asks is known, and
permitted what the operation declares, before its handler runs. Every error has one shape, and an unexpected one is explained by
the node's log.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import msgspec

from ondol.core.permit import permit
from ondol.dialect import Gatekeeper
from ondol.dialects.native import reading, refusals
from ondol.dialects.native.operations import (
    JSON,
    PREFIX,
    UNASKED_BYTES_MAX,
    Asked,
    Given,
    Operation,
    Part,
)
from ondol.dialects.native.table import TABLE
from ondol.http.messages import BodyTooLarge, Disconnected, Request, Response
from ondol.http.table import Plane, Route
from ondol.model.errors import Denied, Invalid, OndolError
from ondol.model.principals import Kind, Principal

DIALECT: Final = "native"
#: Heavy bodies that are held at once, and only for those who may have a key.
LARGE_BODIES_MAX: Final = 2
#: Larger bodies are hashed beside the loop.
INLINE_HASH_BYTES_MAX: Final = 256 * 1024
#: As many paths as a refusal names.
NAMED_PATHS_MAX: Final = 12

Handler = Callable[[Asked], Awaitable[Given]]
log = logging.getLogger(__name__)

_NOBODY: Final = Principal(kind=Kind.ANONYMOUS, account="", region="", name="anonymous")


class NativeDialect:
    """One process's share: the operations of `parts`. `spool` gives a fresh path for a file; it goes away here."""

    name = DIALECT
    routes: Sequence[Route] = (
        Route(
            dialect=DIALECT, name="invoke", plane=Plane.DATA, path=f"{PREFIX}/functions", path_end="invoke", methods=("POST",),
        ),
        Route(dialect=DIALECT, name="operations", plane=Plane.CONTROL, path=PREFIX),
    )  # fmt: skip

    def __init__(self, *, gatekeeper: Gatekeeper, parts: Sequence[Part], spool: Callable[[], Path] | None = None) -> None:
        self._gatekeeper = gatekeeper
        self._spool = spool
        self._large = asyncio.Semaphore(LARGE_BODIES_MAX)
        self._handlers: dict[str, Handler] = {
            operation.id: getattr(part, operation.id.partition(".")[2]) for part in parts for operation in part.operations
        }

    async def serve(self, request: Request, route: Route) -> Response:
        del route
        request_id = str(uuid.uuid4())
        try:
            response = await self._answer(request, request_id)
        except OndolError as error:
            response = refusals.of_error(error, request_id)
        except BodyTooLarge as error:
            message = f"the body has {error.actual_bytes:,} bytes or more, at most {error.bytes_max:,} are taken here"
            response = refusals.refusal(413, "TooLarge", message, request_id)
        except Disconnected:
            return Response(400)
        except Exception:
            log.exception("request %s failed inside", request_id)
            response = refusals.internal(request_id)
        response.headers = (*response.headers, ("x-request-id", request_id))
        return response

    async def _answer(self, request: Request, request_id: str) -> Response:
        there = TABLE.at(request.path)
        operation, places = there.get(request.method, (None, {}))
        if operation is None:
            known = self._gatekeeper.vet(request)
            return _nothing(request, sorted(there), request_id) if known else refusals.unauthenticated(request_id)
        if not operation.action:
            return await self._run(Asked(
                operation=operation, request=request, request_id=request_id, principal=_NOBODY, path=places,
                query=reading.query_of(request.query, operation.query),
            ))  # fmt: skip
        # Only who may have a key makes the node keep a body that did not come with its head.
        if request.body.buffered is None and not self._gatekeeper.vet(request):
            return refusals.unauthenticated(request_id)
        async with self._large if operation.heavy else nullcontext(), self._body(request, operation) as (body, sha256):
            principal = self._gatekeeper.principal(request, sha256)
            if principal.kind is Kind.ANONYMOUS:
                return refusals.unauthenticated(request_id)
            _permit(principal, operation, places)
            return await self._run(Asked(
                operation=operation, request=request, request_id=request_id, principal=principal, path=places,
                query=reading.query_of(request.query, operation.query), body=_taken(request, operation, body),
            ))  # fmt: skip

    async def _run(self, asked: Asked) -> Response:
        given = await self._handlers[asked.operation.id](asked)
        if isinstance(given, Response):
            return given
        status = next(iter(asked.operation.replies))
        if isinstance(given, tuple):
            status, given = given
        if given is None:
            return Response(status)
        return Response(status, (("content-type", JSON),), msgspec.json.encode(given))

    @asynccontextmanager
    async def _body(self, request: Request, operation: Operation) -> AsyncIterator[tuple[bytes | Path, str]]:
        """The whole body, or the file it is in, and its hash."""
        bytes_max = operation.body.bytes_max if operation.body else UNASKED_BYTES_MAX
        if operation.body is None or operation.body.form != "file":
            body = await request.body.read(bytes_max)
            small = len(body) <= INLINE_HASH_BYTES_MAX
            yield body, _sha256(body) if small else await asyncio.to_thread(_sha256, body)
            return
        assert self._spool is not None, "a part that takes files is served with a place for them"
        path = self._spool()
        try:
            yield path, await _spooled(request, path, bytes_max)
        finally:
            path.unlink(missing_ok=True)


def _permit(principal: Principal, operation: Operation, places: dict[str, str]) -> None:
    resource = next(iter(places.values()), "*")
    try:
        permit(principal, operation.action, principal.account, resource)
    except Denied as error:
        if principal.kind is not Kind.READER:
            raise
        message = f"this key is read-only: it may look, and neither change nor call; {operation.action} is not for it"
        raise Denied(message, action=operation.action, resource=resource) from error


def _taken(request: Request, operation: Operation, body: bytes | Path) -> Any:
    """The body as the handler gets it. Raises Invalid."""
    if operation.body is None:
        return None
    if isinstance(body, Path) or body:
        reading.media_of(request, operation.body)
    elif operation.body.required and operation.body.form == "json":
        raise Invalid("this needs a body: a JSON object")
    return reading.json_of(body, operation.body) if isinstance(body, bytes) and operation.body.form == "json" else body


async def _spooled(request: Request, path: Path, bytes_max: int) -> str:
    """Write the body to `path` as it comes; its hash. Raises BodyTooLarge, Disconnected."""
    digest, size = hashlib.sha256(), 0
    declared = request.header("content-length")[:20]
    if declared.isascii() and declared.isdecimal() and int(declared) > bytes_max:
        raise BodyTooLarge(bytes_max, int(declared))
    with await asyncio.to_thread(path.open, "xb") as file:
        async for chunk in request.body.chunks():
            size += len(chunk)
            if size > bytes_max:
                raise BodyTooLarge(bytes_max, size)
            digest.update(chunk)
            await asyncio.to_thread(file.write, chunk)
    return digest.hexdigest()


def _nothing(request: Request, methods: Sequence[str], request_id: str) -> Response:
    """What is there instead."""
    path = reading.short(request.path)
    if methods:
        message = f"{request.method} is not for {path}; there are {', '.join(methods)}"
        return refusals.refusal(405, "MethodNotAllowed", message, request_id, headers=[("allow", ", ".join(methods))])
    first = request.path.removeprefix(PREFIX).strip("/").split("/")[0]
    near = [each for each in TABLE.all if each.segments[0] == first]
    if near:
        named = [f"{each.method} {PREFIX}{each.path}" for each in near[:NAMED_PATHS_MAX]]
    else:
        named = [f"{PREFIX}/{segment}" for segment in dict.fromkeys(each.segments[0] for each in TABLE.all)]
    message = f"nothing answers {request.method} {path}; there are {', '.join(named)}"
    return refusals.refusal(404, "NotFound", f"{message} ({PREFIX}/openapi.json says more)", request_id)


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
