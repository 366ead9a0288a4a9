"""`/ondol/v1/functions[/NAME]`: list, show, put and remove functions of every contract. JSON in, JSON out; desk only.

PUT takes {contract, runtime, handler, memory_mib, timeout_s, tmp_mib, variables, zip_base64} and creates or updates a web
function; functions of the other contracts are deployed by their own dialects and can be listed, shown and removed here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from ondol.core.catalog import Index
from ondol.core.deploy import Deployed, Deployments, NewFunction
from ondol.core.permit import permit
from ondol.dialect import Gatekeeper
from ondol.dialects.native.document import NAME_FORM, Wanted, document_of, wanted_of
from ondol.dialects.native.downloads import PATH as CODE_PATH
from ondol.dialects.native.downloads import Downloads
from ondol.dialects.native.events import EventRoutes
from ondol.http.messages import BodyTooLarge, Disconnected, Request, Response
from ondol.http.table import Plane, Route
from ondol.model import errors
from ondol.model.errors import OndolError
from ondol.model.functions import Function
from ondol.model.principals import Kind, Principal

PREFIX: Final = "/ondol/v1"
DIALECT: Final = "native"
#: Where web functions get their names: the dialect that serves them.
WEB_NAMES: Final = "plain"
#: Dialects whose functions are shown, in the order of their look-up.
NAMING: Final = (WEB_NAMES, "aws")
#: A 50 MiB archive in base64, and some.
BODY_BYTES_MAX: Final = 70_167_211
#: Bodies that did not come with their head are held one after another, and only for those who may have a key.
LARGE_BODIES_MAX: Final = 2

STATUS: Final[dict[type[OndolError], int]] = {
    errors.Invalid: 400,
    errors.NotFound: 404,
    errors.RevisionMismatch: 412,
    errors.Conflict: 409,
    errors.Denied: 403,
    errors.TooLarge: 413,
    errors.Throttled: 429,
    errors.NotBuilt: 501,
    errors.OutOfSpace: 507,
    errors.Unavailable: 503,
    OndolError: 500,
}


class NativeDialect:
    """The desk's share of the native API; it has no other yet."""

    name = DIALECT
    routes: Sequence[Route] = (
        Route(dialect=DIALECT, name="functions", plane=Plane.CONTROL, path=PREFIX, body_bytes_max=BODY_BYTES_MAX),
    )

    def __init__(
        self,
        *,
        index: Index,
        deployments: Deployments,
        gatekeeper: Gatekeeper,
        decode: Callable[[bytes], Awaitable[tuple[dict[str, Any], bytes]]],
        spool: Callable[[], Path],
        interpreter: Callable[[str], str],
        downloads: Downloads,
        events: EventRoutes | None = None,
    ) -> None:
        self._index = index
        self._deployments = deployments
        self._gatekeeper = gatekeeper
        #: A request's JSON, and the archive out of its `zip_base64`; large ones in the helper process.
        self._decode = decode
        #: A fresh path for a file that the caller removes.
        self._spool = spool
        #: What runs a runtime here, for people.
        self._interpreter = interpreter
        self._downloads = downloads
        self._events = events
        self._large = asyncio.Semaphore(LARGE_BODIES_MAX)

    async def serve(self, request: Request, route: Route) -> Response:
        try:
            if request.method == "GET" and request.path.startswith(CODE_PATH + "/"):
                return await self._downloads.serve(request)
            return await self._admitted(request, route)
        except OndolError as error:
            status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
            return _error(status, type(error).__name__, str(error))
        except BodyTooLarge as error:
            return _error(
                413, "TooLarge", f"the request has {error.actual_bytes} bytes or more, at most {error.bytes_max} are taken"
            )
        except Disconnected:
            return Response(400)

    async def _admitted(self, request: Request, route: Route) -> Response:
        """Only who may have a key makes the desk keep a large body."""
        if request.body.buffered is not None:
            return await self._answer(request, await request.body.read(route.body_bytes_max))
        if not self._gatekeeper.vet(request):
            return _unauthenticated()
        async with self._large:
            return await self._answer(request, await request.body.read(route.body_bytes_max))

    async def _answer(self, request: Request, body: bytes) -> Response:
        principal = self._gatekeeper.principal(request, await asyncio.to_thread(_sha256, body))
        if principal.kind is Kind.ANONYMOUS:
            return _unauthenticated()
        events = await self._events.serve(request, principal) if self._events is not None else None
        return events or await self._functions(request, principal, body)

    async def _functions(self, request: Request, principal: Principal, body: bytes) -> Response:
        match request.method, request.path.removeprefix(PREFIX).strip("/").split("/"):
            case "GET", ["functions"]:
                permit(principal, "function:list", principal.account)
                return _json(200, {"functions": self._all(principal)})
            case "GET", ["functions", name]:
                function = self._find(principal, unquote(name), "function:read")
                return _json(200, self._document(unquote(name), function))
            case "PUT", ["functions", name]:
                return await self._put(principal, unquote(name), body)
            case "DELETE", ["functions", name]:
                function = self._find(principal, unquote(name), "function:delete")
                await self._deployments.delete(function.id)
                return Response(204)
        there_is = f"there are GET {PREFIX}/functions, GET, PUT, DELETE {PREFIX}/functions/NAME, and {PREFIX}/events"
        return _error(404, "NotFound", f"nothing answers {request.method} {request.path}; {there_is}")

    # Looking ---------------------------------------------------------------------------------------------------------
    def _all(self, principal: Principal) -> list[dict[str, Any]]:
        found = [
            self._document(name, function)
            for dialect in NAMING
            for name in self._index.names(dialect, principal.account, principal.region)
            if (function := self._index.handle(dialect, principal.account, principal.region, name)) is not None
        ]
        return sorted(found, key=lambda document: str(document["name"]))

    def _find(self, principal: Principal, name: str, action: str) -> Function:
        permit(principal, action, principal.account, name)
        for dialect in NAMING:
            function = self._index.handle(dialect, principal.account, principal.region, name)
            if function is not None:
                return function
        raise errors.NotFound("function", name)

    def _document(self, name: str, function: Function) -> dict[str, Any]:
        deployed = self._deployments.latest(function)
        return document_of(name, deployed, self._index, self._interpreter(deployed.revision.configuration.runtime))

    # Putting ---------------------------------------------------------------------------------------------------------
    async def _put(self, principal: Principal, name: str, body: bytes) -> Response:
        permit(principal, "function:write", principal.account, name)
        if not NAME_FORM.fullmatch(name):
            raise errors.InvalidSetting("name", f"{name!r} is no name: 1 to 64 letters, digits, '-' and '_'")
        if self._index.handle("aws", principal.account, principal.region, name) is not None:
            raise errors.AlreadyExists(f"{name} is a function of the AWS API already; remove it, or choose another name")
        document, archive = await self._decode(body)
        wanted = wanted_of(document, archive)
        found = self._index.handle(WEB_NAMES, principal.account, principal.region, name)
        if found is None:
            deployed = await self._create(principal, name, wanted)
        else:
            deployed = await self._update(found, wanted)
        await self._deployments.in_force(deployed.function.id)
        return _json(
            200 if found else 201,
            self._document(name, self._deployments.index.function(deployed.function.id) or deployed.function),
        )

    async def _create(self, principal: Principal, name: str, wanted: Wanted) -> Deployed:
        if not wanted.archive:
            raise errors.InvalidSetting("zip_base64", "a new function needs its code: an archive in zip_base64")
        code = await self._take(wanted.archive)
        new = NewFunction(
            dialect=WEB_NAMES,
            handle=name,
            account=principal.account,
            region=principal.region,
            name=name,
            code=code,
            configuration=wanted.configuration(None),
            tags={},
        )
        return await self._deployments.create(new)

    async def _update(self, function: Function, wanted: Wanted) -> Deployed:
        code = await self._take(wanted.archive) if wanted.archive else None
        old = self._deployments.latest(function).revision.configuration
        return await self._deployments.update(function, code=code, configuration=wanted.configuration(old))

    async def _take(self, archive: bytes) -> Any:
        path = self._spool()
        try:
            await asyncio.to_thread(path.write_bytes, archive)
            return await self._deployments.take(path)
        finally:
            path.unlink(missing_ok=True)


def _unauthenticated() -> Response:
    return _error(
        401, "Unauthenticated", "sign the request, or send `Authorization: Bearer ID:SECRET` (`ondol env` prints the key)"
    )


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _json(status: int, document: Mapping[str, Any]) -> Response:
    return Response(status, (("content-type", "application/json"),), msgspec.json.encode(document))


def _error(status: int, error: str, message: str) -> Response:
    return _json(status, {"error": error, "message": message})
