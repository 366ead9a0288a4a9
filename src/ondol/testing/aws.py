"""The AWS dialect behind a real socket, over whatever operations and invoker a test brings: for unmodified clients.

Front and desk stand in one process and share one dispatch table, as `ondol up` has them in two.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from ondol.clock import Clock, SystemClock
from ondol.core.catalog import Index, put
from ondol.dialects.aws.access import Access
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.dialect import ROUTES, AwsDesk, AwsFront
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.invoke import DIALECT, Invoke
from ondol.dialects.aws.service import Operations
from ondol.http.messages import Request, Response
from ondol.http.server import Server
from ondol.http.table import Plane, Table
from ondol.model.errors import OndolError
from ondol.model.functions import Function, Handle
from ondol.model.invocations import Invocation, Outcome, Status
from ondol.model.principals import AccessKey
from ondol.store import Change

ACCOUNT, REGION = "123456789012", "eu-west-1"
KEY = AccessKey(id="AKIAONDOLTESTS000000", secret="not/a+secret", account=ACCOUNT, created_s=0.0)  # noqa: S106  a test's
MASTER = bytes(range(32))


@dataclass
class EchoInvoker:
    """Answers every call with its own payload, unless told otherwise, and remembers what came."""

    seen: list[Invocation] = field(default_factory=list)
    deferred: list[Invocation] = field(default_factory=list)
    checked: list[Invocation] = field(default_factory=list)
    #: Raised instead of answering.
    error: OndolError | None = None
    status: Status = Status.OK
    body: bytes | None = None
    version: int | None = None
    tail: bytes = b""
    head: Mapping[str, Any] = field(default_factory=dict)
    #: What a body that streams came to.
    end: Outcome | None = None

    async def invoke(self, invocation: Invocation) -> Outcome:
        self.seen.append(invocation)
        self._maybe_raise()
        body = invocation.payload if self.body is None else self.body
        outcome = Outcome(
            status=self.status, body=body, target_version=self.version, report=None, tail=self.tail, head=self.head
        )
        if self.end is None:
            return outcome
        end = asyncio.get_running_loop().create_future()
        end.set_result(self.end)
        return replace(outcome, end=end)

    async def defer(self, invocation: Invocation) -> None:
        self.deferred.append(invocation)
        self._maybe_raise()

    async def check(self, invocation: Invocation) -> None:
        self.checked.append(invocation)
        self._maybe_raise()

    def _maybe_raise(self) -> None:
        if self.error is not None:
            raise self.error


def index_with(*names: str, account: str = ACCOUNT, region: str = REGION) -> Index:
    """An index with the test's key and a function of each name, its id the name reversed."""
    index = Index()
    for number, noun in enumerate(_nouns(names, account, region), 1):
        made = put(noun)
        index.apply(Change(number, made.key, made.value))
    return index


def _nouns(names: Sequence[str], account: str, region: str) -> Iterator[AccessKey | Function | Handle]:
    yield KEY
    for name in names:
        of = name[::-1]
        yield Function(id=of, account=account, region=region, name=name, latest="r1", created_s=0.0)
        yield Handle(dialect=DIALECT, account=account, region=region, name=name, function=of)


class AwsApplication:
    """Front and desk behind the table."""

    def __init__(
        self,
        *,
        services: Mapping[str, Operations],
        invoker: EchoInvoker,
        index: Index,
        clock: Clock | None = None,
        open: bool = False,  # noqa: A002  # the node's own word
    ) -> None:
        self.credentials = Credentials(MASTER)
        verifier = Verifier(
            keys=index.key,
            credentials=self.credentials,
            clock=clock or SystemClock(),
            account=ACCOUNT,
            region=REGION,
            open=open,
        )
        self.grants = Grants(index, clock or SystemClock())
        self.front = AwsFront(verifier=verifier, invoke=Invoke(index=index, invoker=invoker, grants=self.grants))
        self._services = dict(services)
        self.desk = AwsDesk(verifier=verifier, services=self._services, access=Access(index, self.grants))
        self._table = Table(ROUTES)

    def serve(self, service: str, operations: Operations) -> None:
        """One more service: one whose handlers need what was made here."""
        self._services[service] = operations

    async def __call__(self, request: Request) -> Response:
        route = self._table.match(request)
        if route is None:
            return Response(404)
        dialect = self.front if route.plane is Plane.DATA else self.desk
        return await dialect.serve(request, route)


@contextlib.contextmanager
def serving(application: Any) -> Iterator[str]:
    """The application on a free port of the loopback interface, served beside the test; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = Server(application)
        await server.start(listener)
        started.set()
        await stop.wait()
        await server.drain(1.0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert started.wait(10)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
        listener.close()
