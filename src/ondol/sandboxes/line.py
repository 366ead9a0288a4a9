"""The asyncio end of a line to a process that makes sandboxes: numbered requests, their replies with descriptors, and news.

Knows no operation. Invariants: a descriptor is in one hand, and closed once, also when who asked for it no longer waits; every
wait is bounded.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from ondol import syscalls
from ondol.model.errors import OutOfSpace, StartFailed, Unavailable

#: Requests under way on one line; more wait their turn.
REQUESTS_MAX = 64
MESSAGE_BYTES_MAX = 65536
DESCRIPTORS_MAX = 16

Message = dict[str, Any]
Reply = tuple[Message, list[int]]


class Line:
    """Requests with numbers and their replies, on one SOCK_SEQPACKET socket."""

    def __init__(self, sock: socket.socket, who: str, news: Callable[[Message], None], ended: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._who = who
        self._news = news
        self._ended = ended
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._number = 0
        self._turns = asyncio.Semaphore(REQUESTS_MAX)
        self._loop = asyncio.get_running_loop()
        self.open = True
        self._loop.add_reader(sock.fileno(), self._read)

    async def request(self, timeout_s: float, fds: Sequence[int] = (), **message: Any) -> Reply:
        """The reply and its descriptors, which are the caller's. Raises StartFailed, OutOfSpace."""
        try:
            if self._turns.locked():
                async with asyncio.timeout(timeout_s):
                    await self._turns.acquire()
            else:
                await self._turns.acquire()
            try:
                return await self._ask(timeout_s, fds, message)
            finally:
                self._turns.release()
        except TimeoutError as error:
            raise StartFailed(f"{self._who} did not answer {message['op']!r} within {timeout_s:g} s") from error

    async def _ask(self, timeout_s: float, fds: Sequence[int], message: Message) -> Reply:
        """A start waits here: so a timer of the loop, and not a context around the wait."""
        if not self.open:
            raise StartFailed(f"{self._who} is gone")
        self._number += 1
        number = self._number
        reply: asyncio.Future[Reply] = self._loop.create_future()
        self._pending[number] = reply
        timer = self._loop.call_later(timeout_s, _give_up, reply)
        try:
            self._send({"n": number, **message}, fds)
            return await reply
        except asyncio.CancelledError:
            if not reply.cancelled() and reply.done() and reply.exception() is None:
                close_all(reply.result()[1])
            raise
        finally:
            timer.cancel()
            del self._pending[number]

    def _send(self, message: Message, fds: Sequence[int]) -> None:
        data = json.dumps(message, separators=(",", ":")).encode()
        try:
            if fds:
                socket.send_fds(self._sock, [data], list(fds), socket.MSG_NOSIGNAL)
            else:
                self._sock.send(data, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise StartFailed(f"{self._who} cannot be reached: {error}") from error

    def _read(self) -> None:
        for _ in range(REQUESTS_MAX):  # then it is somebody else's turn
            try:
                data, fds, _ = syscalls.recv_fds(self._sock, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self.close()
                return
            self._take(json.loads(data), list(fds))

    def _take(self, message: Message, fds: list[int]) -> None:
        number = message.get("n")
        if number is None:
            close_all(fds)
            self._news(message)
            return
        reply = self._pending.get(number)
        if reply is None or reply.done():  # nobody waits any more
            close_all(fds)
        elif "error" in message:
            close_all(fds)
            reply.set_exception(error_of(message))
        else:
            reply.set_result((message, fds))

    def close(self) -> None:
        """Also called when the peer is gone."""
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(StartFailed(f"{self._who} is gone"))
                reply.exception()  # looked at: who asked may have left
        self._ended()


def _give_up(reply: asyncio.Future[Reply]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())


def error_of(message: Message) -> Unavailable:
    text = str(message.get("message", message["error"]))
    return OutOfSpace(text) if message["error"] == "space" else StartFailed(text)


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
