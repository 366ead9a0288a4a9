"""The two processes' doors: what a request meets before a dialect sees it.

The front's door is public: it checks Host and Origin, answers the health checks, and sends each request where the table says:
to a dialect here, or on to the desk. The desk's door is a local socket behind it. Both find the same row for the same request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from ondol.dialect import Dialect
from ondol.http.guard import Allowed, refusal
from ondol.http.messages import Prompt, Reply, Request, Response
from ondol.http.passing import Passing
from ondol.http.table import Plane, Route, Table

JSON = (("content-type", "application/json"),)
STARTING: Final = Response(503, JSON, b'{"status":"starting","message":"the catalog is being read"}')
#: How long a request waits for the catalog.
READY_S_MAX: Final = 10.0
#: Names the environment from which a request came to the front, for the desk. Nobody outside can set it.
CALLER: Final = "x-ondol-caller"


class FrontDoor:
    """What the public listener serves."""

    def __init__(
        self,
        *,
        table: Table,
        dialects: Mapping[str, Dialect],
        passing: Passing,
        hosts: Allowed,
        ready: asyncio.Event,
    ) -> None:
        self._table = table
        self._dialects = dialects
        self._passing = passing
        self._hosts = hosts
        #: Set once the catalog has been read; nobody can be known, and nothing found, before.
        self._ready = ready

    async def __call__(self, request: Request) -> Response:
        refused = refusal(request, self._hosts)
        if refused is not None and self._for_pages(request):
            refused = refusal(request, self._hosts, for_pages=True)
        if refused is not None:
            return refused
        if request.path in ("/healthz", "/readyz"):
            return self._health(request)
        if not self._ready.is_set() and not await self._became_ready():
            return STARTING
        route = self._table.match(request)
        if route is None:
            return nothing_here(request)
        if route.plane is Plane.CONTROL:
            return await self._passing.pass_on(request, _own_headers(request))
        return await self._dialects[route.dialect].serve(request, route)

    def leads_to(self, request: Request) -> Route | None:
        """Where a request that no page sent goes; None where it is refused, or waits for the catalog."""
        if not self._ready.is_set() or refusal(request, self._hosts) is not None:
            return None
        return self._table.match(request)

    def _for_pages(self, request: Request) -> bool:
        route = self._table.match(request)
        return route is not None and route.for_pages

    def _health(self, request: Request) -> Response:
        if request.path == "/readyz" and not self._ready.is_set():
            return STARTING
        return Response(200, JSON, b'{"status":"ok"}')

    async def _became_ready(self) -> bool:
        """A restarted front makes its clients wait for a moment, and refuses none."""
        try:
            async with asyncio.timeout(READY_S_MAX):
                return await self._ready.wait()
        except TimeoutError:
            return False


def _own_headers(request: Request) -> list[tuple[str, str]]:
    """What goes to the desk in the node's own name, and the one header of that family that is a client's: its key."""
    key = request.header("x-ondol-key")
    return [("x-ondol-peer", request.peer), *([("x-ondol-key", key)] if key else [])]


class ShellDoor:
    """What functions reach, each by the socket of its own environment, whose name is the request's peer: calls of the dialects
    given, which look at who calls; nothing that administers the node, and nothing that anybody may have unasked.
    """

    def __init__(
        self,
        *,
        table: Table,
        dialects: Mapping[str, Dialect],
        passing: Passing,
        hosts: Allowed,
        own: Callable[[Request], Awaitable[Response | None]] | None = None,
        own_prompt: Prompt | None = None,
    ) -> None:
        """`own` is asked first: what an environment's own runtime says; None: it was something else. `own_prompt` has what of
        that needs no coroutine.
        """
        self._table = table
        self._dialects = dialects
        self._passing = passing
        self._hosts = hosts
        self._own = own
        self._own_prompt = own_prompt

    def prompt(self, request: Request, reply: Reply) -> bool:
        """What is answered without a coroutine: `ondol.http.messages.Prompt`."""
        if self._own_prompt is None or refusal(request, self._hosts) is not None:
            return False
        return self._own_prompt(request, reply)

    async def __call__(self, request: Request) -> Response:
        refused = refusal(request, self._hosts)
        if refused is not None:
            return refused
        answered = await self._own(request) if self._own is not None else None
        if answered is not None:
            return answered
        route = self._table.match(request)
        if route is None or route.dialect not in self._dialects:
            return nothing_for_functions(request)
        if route.plane is Plane.CONTROL:
            return await self._passing.pass_on(request, [(CALLER, request.peer)])
        return await self._dialects[route.dialect].serve(request, route)


class DeskDoor:
    """What the desk's local socket serves."""

    def __init__(self, *, table: Table, dialects: Mapping[str, Dialect]) -> None:
        self._table = table
        self._dialects = dialects

    async def __call__(self, request: Request) -> Response:
        route = self._table.match(request)
        if route is None:
            return nothing_here(request)
        return await self._dialects[route.dialect].serve(request, route)


def nothing_here(request: Request) -> Response:
    """Nobody's path: say what there is."""
    message = (
        f"nothing answers {request.method} {request.path} here; the AWS API answers signed requests (try `ondol env`), "
        "web functions are at /fn/NAME, the native API is at /ondol/v1"
    )
    return Response(404, JSON, msgspec.json.encode({"error": "NotFound", "message": message}))


def nothing_for_functions(request: Request) -> Response:
    """What a function may not reach."""
    message = (
        f"nothing answers {request.method} {request.path} to a function; what it reaches here is the AWS API, with signed "
        "requests, as the SDKs send them by themselves"
    )
    return Response(404, JSON, msgspec.json.encode({"error": "NotFound", "message": message}))
