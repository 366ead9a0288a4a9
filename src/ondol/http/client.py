"""A small HTTP/1.1 client over a pool of connections to one server: the desk on a unix socket, a function that is an HTTP
process.

It must not know who asks. Invariants: a connection carries one exchange at a time; it goes back to the pool only when
both bodies are whole; a request is sent again only when not one byte of it had left.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from ondol.http.client_connection import BadAnswer, ClientConnection, Outgoing
from ondol.http.limits import ClientLimits
from ondol.http.messages import Response

__all__ = ["BadAnswer", "ClientLimits", "HttpClient", "Outgoing", "Unreachable"]

Connect = Callable[[], Awaitable[socket.socket]]


class Unreachable(Exception):  # noqa: N818  # a name that reads well where it is caught
    """The server is away, or has no room for another request."""


class HttpClient:
    """Sends requests to one server. `connect` gives a connected, non-blocking stream socket or raises OSError.

    `tls_name`: the name on the server's certificate, checked by what this machine trusts; "" speaks plain HTTP.
    """

    def __init__(self, connect: Connect, limits: ClientLimits | None = None, *, tls_name: str = "") -> None:
        self.limits = limits or ClientLimits()
        self._tls: dict[str, Any] = {"ssl": ssl.create_default_context(), "server_hostname": tls_name} if tls_name else {}
        self._connect = connect
        self._idle: deque[ClientConnection] = deque()
        self._open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False

    async def send(self, outgoing: Outgoing, *, answer_s: float | None = None) -> Response:
        """The response; a short one is whole, a longer body streams and must be read to its end or closed.

        Raises Unreachable, BadAnswer, TimeoutError, or what the request's own body raises.
        """
        connection = await self._acquire()
        try:
            response = await connection.exchange(outgoing, self.limits.answer_s if answer_s is None else answer_s)
        except BaseException:
            connection.abort()
            self._release(connection)
            raise
        if isinstance(response.body, bytes):
            self._release(connection)
        else:
            response.body = _Delivery(response.body, connection, self._release)
        return response

    async def close(self) -> None:
        """Closes idle connections and takes no further request; those in use close when their bodies end."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()

    async def _acquire(self) -> ClientConnection:
        """A pooled connection, or a new one, or the next that is given back."""
        if self._closed:
            raise Unreachable("this client is closed")
        deadline_s = asyncio.get_running_loop().time() + self.limits.connect_s
        while True:
            while self._idle:
                connection = self._idle.pop()
                if connection.fresh:
                    return connection
                connection.abort()
            if self._open < self.limits.connections_max:
                return await self._dial(deadline_s)
            await self._wait_for_room(deadline_s)

    async def _dial(self, deadline_s: float) -> ClientConnection:
        self._open += 1
        try:
            return await self._dialled(deadline_s)
        except BaseException:
            self._gone()
            raise

    async def _dialled(self, deadline_s: float) -> ClientConnection:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(deadline_s):
                    sock = await self._connect()
                return await self._attach(sock)
            except OSError as error:  # TimeoutError is one
                if loop.time() + self.limits.retry_s >= deadline_s:
                    raise Unreachable(f"no connection within {self.limits.connect_s:g} s: {error}") from error
            await asyncio.sleep(self.limits.retry_s)

    async def _wait_for_room(self, deadline_s: float) -> None:
        if len(self._waiting) >= self.limits.waiting_max:
            raise Unreachable(f"{self.limits.waiting_max} requests already wait for a connection, the most that may")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout_at(deadline_s):
                await turn
        except TimeoutError as error:
            raise Unreachable(f"no connection came free within {self.limits.connect_s:g} s") from error
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)

    async def _attach(self, sock: socket.socket) -> ClientConnection:
        loop = asyncio.get_running_loop()
        connection = ClientConnection(sock, self.limits, self._lost)
        try:
            if sock.family == socket.AF_UNIX:
                await loop.create_unix_connection(lambda: connection, sock=sock)
            else:
                await loop.create_connection(lambda: connection, sock=sock, **self._tls)
        except BaseException:
            sock.close()
            raise
        return connection

    def _release(self, connection: ClientConnection) -> None:
        """Back into the pool, or closed."""
        if connection.reusable and not self._closed and len(self._idle) < self.limits.idle_max:
            self._idle.append(connection)
            self._admit_next()
        else:
            connection.abort()  # the next one is admitted when it is gone

    def _lost(self, connection: ClientConnection) -> None:
        """A connection is over, whoever ended it."""
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._gone()

    def _gone(self) -> None:
        self._open -= 1
        self._admit_next()

    def _admit_next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class _Delivery:
    """A response's body, then the connection's way back. A class: closing a generator that never ran would do nothing."""

    def __init__(
        self, body: AsyncIterator[bytes], connection: ClientConnection, release: Callable[[ClientConnection], None]
    ) -> None:
        self._body = body
        self._connection: ClientConnection | None = connection
        self._release = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._body)
        except BaseException:
            self._give_back()
            raise

    async def aclose(self) -> None:
        """Nobody wants the rest."""
        self._give_back()

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._release(connection)


def end_to_end(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that are meant for the other end, without those that belong to one connection."""
    named = _HOP_BY_HOP
    for name, value in headers:
        if len(name) == 10 and name.lower() == "connection":
            named = named.union(token.strip().lower() for token in value.split(","))
    return [pair for pair in headers if pair[0].lower() not in named]


_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
