"""One connection of the client: a request out at the server's pace, a response in at the reader's.

It must not know about pools. Invariant: `reusable` is true only between exchanges, with nothing of either body left over.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import cast

import httptools

from ondol.http.bodies import Stream
from ondol.http.limits import ClientLimits
from ondol.http.messages import Disconnected, Response

_JOINED_BYTES_MAX = 64 * 1024


class BadAnswer(Exception):  # noqa: N818  # a name that reads well where it is caught
    """The server closed or broke the connection before its answer was whole, or its answer is not HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A request to be sent. `headers` hold no framing; the connection adds that."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes | AsyncIterator[bytes] = b""
    #: Length of a body in chunks, where it is known.
    body_bytes: int | None = None


class ClientConnection(asyncio.Protocol):
    """See the module."""

    def __init__(self, sock: socket.socket, limits: ClientLimits, on_lost: Callable[[ClientConnection], None]) -> None:
        self._sock = sock
        self._limits = limits
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        self._fed_bytes = 0
        self._in_head = False
        self._method = ""
        self._response: asyncio.Future[Response] | None = None
        self._head: Response | None = None
        self._stream: Stream | None = None
        self._whole: list[bytes] | None = None
        self._until_close = False
        self._keep_alive = False
        self._sending: asyncio.Task[None] | None = None
        self._busy = False
        self._write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None
        self._read_paused = False

    @property
    def usable(self) -> bool:
        """Whether the server has not closed it meanwhile."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def fresh(self) -> bool:
        """Whether it is usable by the kernel's word, too: an end that the loop has not read yet counts."""
        if not self.usable:
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow."""
        return self.usable and not self._busy and self._keep_alive and self._sending is None

    async def exchange(self, outgoing: Outgoing, answer_s: float) -> Response:
        """Sends a request and waits for its answer. One at a time. Raises BadAnswer, TimeoutError after `answer_s`."""
        assert not self._busy, "a connection carries one exchange at a time"
        transport = self._transport
        if transport is None:
            raise BadAnswer("the connection was closed before the request was sent")
        self._busy = True
        self._method = outgoing.method
        answered: asyncio.Future[Response] = self._loop.create_future()
        self._response = answered
        head = _request_head(outgoing)
        body = outgoing.body
        if isinstance(body, bytes):
            if len(body) <= _JOINED_BYTES_MAX:
                transport.write(head + body)
            else:
                transport.write(head)
                transport.write(body)
        else:
            transport.write(head)
            self._sending = self._loop.create_task(self._send(body, chunked=outgoing.body_bytes is None))
            self._sending.add_done_callback(self._sent)
        # What asyncio.timeout does, for a fraction of the price.
        bell = self._loop.call_later(answer_s, _ring, answered)
        try:
            return await answered
        finally:
            bell.cancel()

    def abort(self) -> None:
        """Ends it at once."""
        if self._transport is not None:
            self._transport.abort()
        if self._sending is not None:
            self._sending.cancel()

    # --- sending ---------------------------------------------------------------------------------------------------

    async def _send(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        async for chunk in body:
            transport = self._transport
            if transport is None:
                return
            if not chunk:
                continue
            if chunked:
                transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
            else:
                transport.write(chunk)
            if self._write_paused:
                self._write_waiter = self._loop.create_future()
                await self._write_waiter
        if chunked and self._transport is not None:
            self._transport.write(b"0\r\n\r\n")

    def _sent(self, task: asyncio.Task[None]) -> None:
        """The request's body is out, or its source failed: then the failure is the answer."""
        self._sending = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if self._response is not None and not self._response.done():
            self._response.set_exception(error)
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport says -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        waiter, self._write_waiter = self._write_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self.abort()  # nobody asked
            return
        self._fed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"its answer is not valid HTTP/1.1: {error.__context__ or error}")
            return
        self._answer()
        if not self._in_head:
            self._fed_bytes = 0
        if self._fed_bytes > self._limits.head_bytes_max:
            self._fail(f"the head of its answer is longer than {self._limits.head_bytes_max} bytes")

    def eof_received(self) -> bool:
        if self._until_close and self._busy:
            self._complete()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._keep_alive = False
        self.resume_writing()
        self._fail(f"it closed the connection before its answer was whole{f' ({exc})' if exc else ''}")
        self._on_lost(self)

    # --- what the parser says --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers = []
        self._in_head = True
        if not self._busy:
            raise BadAnswer("it sent more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1").rstrip(" \t")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise BadAnswer("it switched protocols without being asked")
            return
        if self._fed_bytes > self._limits.head_bytes_max:  # else it cannot be too long, and nothing needs to be added up
            self._check_size()
        self._head = Response(status, self._headers)
        self._keep_alive = self._parser.should_keep_alive()
        fields = dict(self._headers)
        length = "" if "transfer-encoding" in fields else fields.get("content-length", "")
        if self._method == "HEAD" or status in (204, 304):
            # The parser would wait for the body that the headers announce; a new one starts at the next answer.
            self._parser = httptools.HttpResponseParser(self)
            self._whole = []
            self._complete()
            return
        declared_bytes = int(length) if length else None
        self._until_close = declared_bytes is None and "transfer-encoding" not in fields
        if self._until_close:
            self._keep_alive = False
        if declared_bytes is not None and declared_bytes <= self._limits.buffered_body_bytes_max:
            self._whole = []
            return
        self._stream = Stream(declared_bytes, _nothing, self._taken)

    def _check_size(self) -> None:
        if sum(len(name) + len(value) + 4 for name, value in self._headers) > self._limits.head_bytes_max:
            raise BadAnswer(f"the head of its answer is longer than {self._limits.head_bytes_max} bytes")

    def on_body(self, data: bytes) -> None:
        if self._whole is not None:
            self._whole.append(data)
        elif self._stream is not None:
            self._stream.feed(data)
            self._flow(pause=self._stream.fill_bytes > self._limits.body_high_water_bytes)

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._complete()

    def _answer(self) -> None:
        """Hands over a response that will take longer than this read as soon as its head is here."""
        head, stream = self._head, self._stream
        if head is not None and stream is not None and self._response is not None and not self._response.done():
            head.body = _body(stream)
            self._response.set_result(head)

    def _complete(self) -> None:
        """The response is whole."""
        self._busy = False
        self._until_close = False
        head, stream, whole = self._head, self._stream, self._whole
        self._head = self._stream = self._whole = None
        if stream is not None:
            stream.end()
        if head is not None and self._response is not None and not self._response.done():
            head.body = b"".join(whole) if whole is not None else b"" if stream is None else stream.take_all()
            self._response.set_result(head)
        if self._sending is not None:
            self._keep_alive = False  # an early answer: the rest of the request is not worth sending

    def _taken(self) -> None:
        if self._read_paused and self._stream is not None:
            self._flow(pause=self._stream.fill_bytes > self._limits.body_high_water_bytes // 2)

    def _flow(self, *, pause: bool) -> None:
        if pause == self._read_paused or self._transport is None:
            return
        self._read_paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _fail(self, reason: str) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_exception(BadAnswer(f"the server failed: {reason}"))
        if self._stream is not None:
            self._stream.end(reason)
        self._busy = False
        self._keep_alive = False
        self.abort()


def _ring(answered: asyncio.Future[Response]) -> None:
    """The answer takes too long."""
    if not answered.done():
        answered.set_exception(TimeoutError())


async def _body(stream: Stream) -> AsyncIterator[bytes]:
    try:
        async for chunk in stream.chunks():
            yield chunk
    except Disconnected as error:
        raise BadAnswer(f"the server failed in the middle of its answer: {error}") from error


def _request_head(outgoing: Outgoing) -> bytes:
    body = outgoing.body
    length = len(body) if isinstance(body, bytes) else outgoing.body_bytes
    lines = [f"{outgoing.method} {outgoing.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in outgoing.headers]
    if length is None:
        lines.append("transfer-encoding: chunked")
    elif length or outgoing.method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
        lines.append(f"content-length: {length}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise ValueError("a request header holds a line break or a NUL")
    return f"{text}\r\n\r\n".encode("latin-1")


def _nothing() -> None:
    """Nobody waits to hear that a response is being read."""
