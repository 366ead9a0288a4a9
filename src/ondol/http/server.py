"""The HTTP/1.1 server: listeners, connections, one coarse clock, and a graceful end. Knows nothing of functions.

Ours because it is the hot path: llhttp parses, one write answers. An application's coroutine is never cancelled because its
client went away; only `drain`, when its seconds are over, ends what still runs.
Seam: HTTP/2 and WebSocket are handed to libraries later; `connection.py` recognises both and refuses them in words.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from email.utils import formatdate

from ondol.http.connection import Connection
from ondol.http.limits import HttpLimits
from ondol.http.messages import Application, Prompt

__all__ = ["HttpLimits", "Server"]


class Server:
    """Serves one application on any number of listening sockets."""

    def __init__(self, app: Application, limits: HttpLimits | None = None, prompt: Prompt | None = None) -> None:
        """`prompt` is asked before `app`, for requests whose body is there."""
        self.app = app
        self.prompt = prompt
        self.limits = limits or HttpLimits()
        #: Seconds on the coarse clock: good to `sweep_s`, and free to read.
        self.now_s = time.monotonic()
        self.date = ""
        self.draining = False
        self.connections: set[Connection] = set()
        #: Tasks whose client is gone; held so that nothing collects them before they finish.
        self._orphans: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._quiet: asyncio.Future[None] | None = None
        #: Told of every connection that is over.
        self.on_left: Callable[[Connection], None] = _nothing

    async def start(self, sock: socket.socket) -> None:
        """Serve on a listening socket, TCP or unix. May be called for several."""
        loop = asyncio.get_running_loop()
        if self._sweep is None:
            self._tick()
        if sock.family == socket.AF_UNIX:
            listener = await loop.create_unix_server(lambda: Connection(self), sock=sock)
        else:
            listener = await loop.create_server(lambda: Connection(self), sock=sock)
        self._listeners.append(listener)

    async def take(self, sock: socket.socket, peer: str) -> Connection:
        """Serve a connection that somebody else accepted; its requests come from `peer`."""
        if self._sweep is None:
            self._tick()
        loop = asyncio.get_running_loop()
        _, connection = await loop.connect_accepted_socket(lambda: Connection(self, peer), sock)
        return connection

    async def drain(self, seconds: float) -> None:
        """Stop accepting, close what is idle, let requests finish for `seconds`, then cut off the rest."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.close_when_idle()
        await self._wait_until_quiet(seconds)
        for connection in list(self.connections):
            connection.abort()
        for task in list(self._orphans):
            task.cancel()
        await self._wait_until_quiet(1.0)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def adopt(self, task: asyncio.Task[None]) -> None:
        """Hold a task whose connection is gone until it finishes."""
        self._orphans.add(task)
        task.add_done_callback(self._orphan_done)

    def leave(self, connection: Connection) -> None:
        """A connection is over."""
        self.connections.discard(connection)
        self.on_left(connection)
        self._tell_quiet()

    def _orphan_done(self, task: asyncio.Task[None]) -> None:
        self._orphans.discard(task)
        self._tell_quiet()

    def _tell_quiet(self) -> None:
        if self._quiet is not None and not self._quiet.done() and not self.connections and not self._orphans:
            self._quiet.set_result(None)

    async def _wait_until_quiet(self, seconds: float) -> None:
        if not self.connections and not self._orphans:
            return
        self._quiet = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._quiet], timeout=seconds)
        self._quiet = None

    def _tick(self) -> None:
        """Once per `sweep_s`: the coarse clock, the Date line, and every connection's overdue waits."""
        self.now_s = time.monotonic()
        self.date = f"date: {formatdate(usegmt=True)}\r\n"
        for connection in list(self.connections):
            connection.sweep(self.now_s)
        self._sweep = asyncio.get_running_loop().call_later(self.limits.sweep_s, self._tick)


def _nothing(_: Connection) -> None: ...
