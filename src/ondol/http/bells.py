"""Many listening sockets that seldom ring: one epoll holds them all, so that one more costs the loop nothing.

Knows nothing of HTTP: whoever answers is handed the connection and the name under which its listener was hung up. Invariants: a
listener belongs to us from `hang` on and is closed once; a name's open connections are counted, and at the most the rest wait
in the kernel.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

log = logging.getLogger("ondol.http")

#: Connections at once by one listener.
CONNECTIONS_MAX: Final = 64
#: Connections taken in one go; then it is somebody else's turn.
TAKEN_MAX: Final = 16
#: When the process has no descriptor left, how long until it looks again.
PAUSE_S: Final = 0.2


class Answered(Protocol):
    """A connection that is being served."""

    @property
    def open(self) -> bool: ...

    def abort(self) -> None: ...


#: Serves a connection, whose socket it owns, under a name.
Answer = Callable[[socket.socket, str], Awaitable[Answered]]


@dataclass(slots=True)
class _Bell:
    listener: socket.socket
    name: str
    connections: set[Answered] = field(default_factory=set)
    coming: int = 0
    silent: bool = False


class Bells:
    """See the module. Make it where a loop runs."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._bells: dict[int, _Bell] = {}
        self._by_name: dict[str, _Bell] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(self._epoll.fileno(), self._rung)

    def hang(self, listener: int, name: str) -> None:
        """Answer at the listening socket `listener`, a descriptor that is ours now, under a name of its own."""
        bell = _Bell(socket.socket(fileno=listener), name)
        bell.listener.setblocking(False)
        self._bells[listener] = self._by_name[name] = bell
        self._epoll.register(listener, select.EPOLLIN)

    def take_down(self, name: str) -> None:
        """Close the listener and what came by it. Idempotent."""
        bell = self._by_name.pop(name, None)
        if bell is None:
            return
        del self._bells[bell.listener.fileno()]
        if not bell.silent:
            self._epoll.unregister(bell.listener.fileno())
        bell.silent = True
        bell.listener.close()
        for connection in tuple(bell.connections):
            connection.abort()

    def close(self) -> None:
        """Take all down."""
        self._loop.remove_reader(self._epoll.fileno())
        for name in tuple(self._by_name):
            self.take_down(name)
        for task in self._tasks:
            task.cancel()
        self._epoll.close()

    def left(self, name: str, connection: Answered) -> None:
        """A connection that came by this name is over."""
        bell = self._by_name.get(name)
        if bell is not None:
            bell.connections.discard(connection)
            self._listen_again(bell)

    def _rung(self) -> None:
        for fd, _ in self._epoll.poll(0, TAKEN_MAX):
            bell = self._bells.get(fd)
            if bell is not None:
                self._take(bell)

    def _take(self, bell: _Bell) -> None:
        if len(bell.connections) + bell.coming >= CONNECTIONS_MAX:
            self._silence(bell)
            return
        try:
            connection, _ = bell.listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError as error:  # no descriptor is left: not for long, one hopes
            log.warning("a function's connection cannot be taken now: %s", error)
            self._silence(bell)
            self._loop.call_later(PAUSE_S, self._listen_again, bell)
            return
        connection.setblocking(False)
        bell.coming += 1
        task = self._loop.create_task(self._serve(bell, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, bell: _Bell, connection: socket.socket) -> None:
        try:
            answered = await self._answer(connection, bell.name)
        except OSError as error:
            connection.close()
            log.warning("a function's connection broke off: %s", error)
            return
        finally:
            bell.coming -= 1
        if self._by_name.get(bell.name) is not bell:
            answered.abort()
        elif answered.open:
            bell.connections.add(answered)

    def _silence(self, bell: _Bell) -> None:
        bell.silent = True
        self._epoll.unregister(bell.listener.fileno())

    def _listen_again(self, bell: _Bell) -> None:
        if bell.silent and self._by_name.get(bell.name) is bell:
            bell.silent = False
            self._epoll.register(bell.listener.fileno(), select.EPOLLIN)
