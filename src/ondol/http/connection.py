"""One client's connection: bytes in, requests in order, responses out.

It must not know what an application does. One task serves all requests of a connection, since making one for each costs more
than reading a request. Invariants: at most one request runs; what waits behind it is bounded and stops the reading; nothing is
written out of order; after `_deaf` no byte is parsed; the task is only cancelled while it *streams a response* to a client that
is gone (its generator is closed), never while the application runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

import httptools

from ondol.http import framing, rendering
from ondol.http.acknowledging import acknowledge
from ondol.http.answers import close, failure, not_understood, prompted, refusing, write_chunk
from ondol.http.bodies import Stream, Whole
from ondol.http.exchange import NAMES, Enough, Exchange, Headers, Refused, check_size, check_upgrade, field_name, read_head
from ondol.http.messages import Disconnected, Response
from ondol.http.rendering import refusal
from ondol.http.taking import take, takeable_bytes_max

if TYPE_CHECKING:
    from ondol.http.server import Server

log = logging.getLogger("ondol.http")


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, server: Server, peer: str = "") -> None:
        self._server = server
        self._limits = server.limits
        #: Reads up to this length may be a whole request of the usual shape, as far as the limits go.
        self._takeable_bytes_max = takeable_bytes_max(server.limits)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        #: Who the requests are from: what was given, else the client's address.
        self.peer = peer
        self._url = b""
        self._headers: Headers = []
        self._in_head = False
        #: The exchange whose body is being parsed.
        self._incoming: Exchange | None = None
        #: The exchange that runs, the task that serves, what it waits for between two exchanges, and those behind.
        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._queue: deque[Exchange] = deque()
        self._launching = False
        #: Whether the parser gave us something since the last read, and how much it was fed while it gave nothing.
        self._progress = False
        self._unproductive_bytes = 0
        #: That and the read at hand: no head being parsed is longer.
        self._fed_bytes = 0
        #: Nothing more is parsed: a refusal, or the last request that this connection may carry.
        self._deaf = False
        self._refused = False
        self._eof = False
        self._closing = False
        self._streaming = False
        self._read_paused = False
        self._write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None
        self._since_s = server.now_s
        self._unsent_bytes = 0

    @property
    def open(self) -> bool:
        """Whether there is a client."""
        return self._transport is not None

    # --- what the transport says -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if not self.peer and isinstance(peer, tuple):
            self.peer = f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
        crowded = len(self._server.connections) >= self._limits.connections_max
        self._server.connections.add(self)
        if crowded:
            self._refuse(
                503, f"this server holds {self._limits.connections_max} connections, its most; close some or try again later"
            )
        elif self._server.draining:
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if len(data) <= self._takeable_bytes_max and self._between() and (taken := take(data, self.peer)) is not None:
            self._since_s = self._server.now_s
            self._launch(taken)
            return
        self._progress = False
        self._fed_bytes = self._unproductive_bytes + len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # A client that offers HTTP/2 (h2c) is served on as HTTP/1.1; everything else was refused with its head.
            if not self._deaf:
                self._parser = httptools.HttpRequestParser(self)
                self.data_received(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._broken(data, error)
            return
        if self._in_head or self._incoming is not None:
            acknowledge(self._transport)
        if self._progress:
            self._unproductive_bytes = 0
        else:
            self._count_unproductive(len(data))

    def eof_received(self) -> bool:
        """A half-closed client still gets its answer; one that is streamed to, or waits without end, counts as gone."""
        self._eof = True
        self._cut_short()
        if self._streaming or self._left():
            return False
        return self._current is not None or bool(self._queue)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the loop's signature
        self._transport = None
        self._deaf = True
        self._cut_short()
        self._left()
        self._queue.clear()
        self._wake_writer()
        task = self._task
        if task is not None:
            if self._streaming:
                task.cancel()
            self._server.adopt(task)
            self._wake_server()
        self._server.leave(self)

    def _cut_short(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming.stream is not None:
            incoming.stream.end("the client closed the connection before its body was whole")

    def _left(self) -> bool:
        """Whether what runs is of no use to anybody but its client: it is told, and what it still answers is nobody's."""
        left = self._current.request.left if self._current is not None else None
        if left is None:
            return False
        self._current = None
        self._closing = self._deaf = True
        left()
        return True

    def pause_writing(self) -> None:
        self._write_paused = True
        self._since_s = self._server.now_s

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake_writer()
        if self._current is None:
            self._next()

    # --- what the parser says ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._in_head = True
        self._since_s = self._server.now_s

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        field = NAMES.get(name) or field_name(name), value.decode("latin-1").rstrip(" \t")
        if self._in_head:
            self._headers.append(field)
        elif self._incoming is not None and self._incoming.stream is not None:
            trailers = self._incoming.stream.trailers
            if len(trailers) >= self._limits.headers_max:
                raise Refused(431, f"a request has at most {self._limits.headers_max} trailers")
            trailers.append(field)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._progress = True
        parser = self._parser
        headers = self._headers
        limits = self._limits
        if len(headers) > limits.headers_max:
            raise Refused(431, f"a request has at most {limits.headers_max} headers, this one has {len(headers)}")
        if self._fed_bytes > limits.head_bytes_max:  # else it cannot be too long, and nothing needs to be added up
            check_size(self._url, headers, limits)
        exchange = read_head(parser.get_method().decode("ascii"), parser.get_http_version(), self._url, headers, self.peer)
        exchange.keep_alive = parser.should_keep_alive()
        if exchange.upgrade:
            check_upgrade(exchange, offered=parser.should_upgrade())
        self._incoming = exchange
        declared_bytes = exchange.declared_bytes
        if declared_bytes == 0:
            return
        if declared_bytes is not None and declared_bytes <= limits.buffered_body_bytes_max and not exchange.expects:
            exchange.parts = []
            return
        exchange.stream = Stream(declared_bytes, self._continue, self._taken)
        exchange.request.body = exchange.stream
        self._submit(exchange)

    def on_body(self, data: bytes) -> None:
        self._progress = True
        exchange = self._incoming
        if exchange is None:
            return
        stream = exchange.stream
        if stream is None:
            assert exchange.parts is not None
            exchange.parts.append(data)
            return
        self._since_s = self._server.now_s
        stream.feed(data)
        if stream.fill_bytes > self._limits.body_high_water_bytes:
            self._flow()

    def on_message_complete(self) -> None:
        self._progress = True
        exchange, self._incoming = self._incoming, None
        if exchange is None:
            return
        if not exchange.keep_alive:
            self._deaf = True
        if exchange.stream is not None:
            exchange.stream.end()
            return
        parts = exchange.parts
        if parts:
            exchange.request.body = Whole(parts[0] if len(parts) == 1 else b"".join(parts))
        self._submit(exchange)

    def _between(self) -> bool:
        """Whether nothing is being parsed, run or waited for: the parser is where it was when it was new."""
        busy = self._current is not None or self._in_head or self._incoming is not None
        return not (busy or self._unproductive_bytes or self._queue or self._write_paused)

    # --- requests, in order ------------------------------------------------------------------------------------------

    def _submit(self, exchange: Exchange) -> None:
        if self._current is None and not self._queue and not self._write_paused:
            self._launch(exchange)
            return
        if len(self._queue) >= self._limits.pipelined_max:
            self._queue[-1].keep_alive = False
            self._deaf = True
            raise Enough
        self._queue.append(exchange)
        self._flow()

    def _launch(self, exchange: Exchange) -> None:
        self._current = exchange
        if exchange.answer is not None:
            self._reply(exchange, exchange.answer)
        elif prompted(self._server.prompt, exchange, self._reply):
            pass
        elif self._task is None:
            self._task = self._loop.create_task(self._serve())
        else:
            self._wake_server()  # or it has just finished another, and finds this one

    async def _serve(self) -> None:
        """One exchange after the other, until the connection is gone."""
        while True:
            exchange = self._current
            if exchange is not None and not exchange.prompted:
                await self._run(exchange)
            elif self._transport is None:
                return
            else:
                self._idle = self._loop.create_future()
                await self._idle

    def _wake_server(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    async def _run(self, exchange: Exchange) -> None:
        """Calls the application and sends what it answers."""
        try:
            response = await self._server.app(exchange.request)
        except Disconnected as error:
            exchange.keep_alive = False
            response = refusal(400, str(error))
        except Exception:
            response = failure(exchange.request)
        if self._transport is not None and isinstance(response.body, bytes | bytearray | memoryview):
            self._reply(exchange, response)
        else:
            await self._stream(exchange, response)
            self._finish(exchange)

    def _reply(self, exchange: Exchange, response: Response) -> None:
        """The whole answer to what runs; to anything else it comes too late."""
        if exchange is self._current:
            try:
                self._write_whole(exchange, response)
            except Exception:
                self._write_whole(exchange, failure(exchange.request))
            self._finish(exchange)

    def _finish(self, exchange: Exchange) -> None:
        """The response is written: go on with the next request, or end."""
        self._current = None
        self._since_s = self._server.now_s
        if self._transport is None or self._closing:
            return
        if not exchange.keep_alive or (self._eof and not self._queue):
            self._end()
            return
        stream = exchange.stream
        if stream is not None and not stream.complete:
            stream.discard()
        if self._queue or self._read_paused:
            self._next()

    def _next(self) -> None:
        """Launch those who wait, one after the other: where they are answered at once, not each within the last one's end."""
        if self._launching:
            return
        self._launching = True
        try:
            while self._queue and self._current is None and not (self._write_paused or self._closing):
                self._launch(self._queue.popleft())
        except BaseException:
            self.abort_transport()  # what cannot be launched is never answered: its client need not wait for that
            raise
        finally:
            self._launching = False
            self._flow()

    # --- responses ---------------------------------------------------------------------------------------------------

    def _circumstances(self) -> framing.Circumstances:
        server = self._server
        return framing.Circumstances(server.draining, self._limits.discarded_bytes_max, server.date)

    def _write_whole(self, exchange: Exchange, response: Response) -> None:
        transport = self._transport
        if transport is None:
            return
        body = cast("bytes", response.body)
        method = exchange.request.method
        if exchange.keep_alive and exchange.stream is None and not (exchange.http10 or self._server.draining):
            whole = rendering.whole(method, response, self._server.date) if len(body) <= framing.JOINED_BYTES_MAX else None
            if whole is not None:
                transport.write(whole)
                return
        for piece in framing.whole(exchange, response, self._circumstances()):
            transport.write(piece)

    async def _stream(self, exchange: Exchange, response: Response) -> None:
        """Sends a response that comes in chunks; closes its generator in every case."""
        body = response.body
        if not hasattr(body, "__aiter__"):
            if self._transport is not None:
                log.error("the application answered a body of type %s", type(body).__name__)
                self._write_whole(exchange, failure(exchange.request))
            return
        chunks = cast("AsyncIterator[bytes]", body)
        self._streaming = True
        try:
            if self._transport is not None and not self._eof:
                await self._pump(exchange, response, chunks)
        except rendering.UnsafeHeader:
            self._write_whole(exchange, failure(exchange.request))
        except asyncio.CancelledError:
            self.abort_transport()
            if self._server.draining:
                raise
            cast("asyncio.Task[None]", asyncio.current_task()).uncancel()
        except Exception:
            log.exception("the response to %s %s broke off", exchange.request.method, exchange.request.path)
            self.abort_transport()
        finally:
            self._streaming = False
            if self._server.draining:  # the head could not say so yet
                exchange.keep_alive = False
            await close(chunks)

    async def _pump(self, exchange: Exchange, response: Response, chunks: AsyncIterator[bytes]) -> None:
        """Head, then chunk by chunk at the client's pace. The head goes ahead of the first chunk."""
        transport = self._transport
        assert transport is not None
        head, length_bytes = framing.stream_head(exchange, response, self._circumstances())
        transport.write(head)
        if rendering.bodiless(exchange.request.method, response.status):
            return
        chunked = length_bytes is None and not exchange.http10
        sent_bytes = 0
        async for chunk in chunks:
            sent_bytes += len(chunk)
            if length_bytes is not None and sent_bytes > length_bytes:
                break
            if chunk:
                write_chunk(transport, chunk, chunked=chunked)
            if self._write_paused:
                await self._writable()
        if length_bytes is not None and sent_bytes != length_bytes:
            raise ValueError(f"the response has {sent_bytes} bytes so far, its content-length said {length_bytes}")
        if chunked:
            transport.write(rendering.LAST_CHUNK)

    async def _writable(self) -> None:
        self._write_waiter = self._loop.create_future()
        await self._write_waiter

    def _wake_writer(self) -> None:
        waiter, self._write_waiter = self._write_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # --- bounds ------------------------------------------------------------------------------------------------------

    def sweep(self, now_s: float) -> None:
        """Once per sweep: ends what waits for too long."""
        transport = self._transport
        if transport is None:
            return
        waited_s = now_s - self._since_s
        unsent_bytes, before_bytes = transport.get_write_buffer_size(), self._unsent_bytes
        self._unsent_bytes = unsent_bytes
        if unsent_bytes:
            if unsent_bytes != before_bytes:
                self._since_s = now_s
            elif waited_s > self._limits.write_idle_s:
                self.abort_transport()
        elif self._closing:
            if waited_s > self._limits.linger_s:
                self.abort_transport()
        elif self._incoming is not None:
            self._sweep_body(self._incoming, waited_s)
        elif self._current is None and not self._queue:
            self._sweep_idle(waited_s)

    def _sweep_idle(self, waited_s: float) -> None:
        limits = self._limits
        if self._in_head:
            if waited_s > limits.head_s:
                self._refuse(408, f"the request's head was not whole after {limits.head_s:g} seconds")
        elif waited_s > limits.idle_s:
            self._close()

    def _sweep_body(self, incoming: Exchange, waited_s: float) -> None:
        idle_s = self._limits.body_idle_s
        if waited_s <= idle_s:
            return
        stream = incoming.stream
        if stream is None:
            if self._current is None and not self._queue:
                self._incoming = None
                self._refuse(408, f"the request's body was not whole after {idle_s:g} seconds")
        elif stream.waiting:
            self._deaf = True
            stream.end(f"nothing of the request's body came for {idle_s:g} seconds")
        elif incoming is not self._current and stream.discarding:
            self.abort_transport()

    def _count_unproductive(self, fed_bytes: int) -> None:
        """A head, a chunk's extension or a trailer that without end hands nothing over: bound what it may take."""
        self._unproductive_bytes += fed_bytes
        if self._unproductive_bytes > self._limits.head_bytes_max:
            limit = self._limits.head_bytes_max
            if self._in_head:
                self._refuse(431, f"the request's head is longer than {limit} bytes; send less in its URL and headers")
            else:
                self._refuse(400, f"more than {limit} bytes of chunk extensions or trailers")

    def _flow(self) -> None:
        """Reads from the socket only what somebody will take."""
        transport = self._transport
        if transport is None or self._eof:
            return
        stream = self._incoming.stream if self._incoming is not None else None
        high_bytes = self._limits.body_high_water_bytes
        if self._read_paused:
            high_bytes //= 2
        pause = bool(self._queue) or (stream is not None and stream.fill_bytes > high_bytes)
        pause = (pause or self._deaf) and not self._closing
        if pause != self._read_paused:
            self._read_paused = pause
            if pause:
                transport.pause_reading()
            else:
                self._since_s = self._server.now_s
                transport.resume_reading()

    def _taken(self) -> None:
        if self._read_paused:
            self._flow()

    def _continue(self) -> None:
        """The application reads: let the client send, if it waits for that."""
        exchange = self._current
        if exchange is not None and exchange.expects and self._transport is not None:
            exchange.expects = False
            self._since_s = self._server.now_s
            self._transport.write(rendering.CONTINUE)

    # --- endings -----------------------------------------------------------------------------------------------------

    def _broken(self, data: bytes, error: Exception) -> None:
        """The parser stopped: our own refusal, a parting client's surplus bytes, or bytes that are not HTTP."""
        cause = error.__context__
        if isinstance(cause, Enough) or self._deaf:
            return
        if isinstance(cause, Refused):
            self._refuse(cause.status, cause.sentence)
        elif isinstance(error, httptools.HttpParserCallbackError):
            log.error("the server failed on a request", exc_info=error)
            self._refuse(500, "the server failed on this request; its log has the reason")
        else:
            self._refuse(*not_understood(data, error, http2=self._url == b"*" and self._parser.get_method() == b"PRI"))

    def _refuse(self, status: int, sentence: str) -> None:
        """Answers in its turn with a sentence of the server's own, and ends the connection after it."""
        self._deaf = True
        self._refused = True
        self._in_head = False
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming.stream is not None:
            # The application has it already: it learns why, and what it makes of that is the answer.
            incoming.keep_alive = False
            incoming.stream.end(sentence)
            if incoming is self._current or incoming in self._queue:
                return
            self._end()
            return
        exchange = refusing(status, sentence)
        if self._current is None and not self._queue:
            self._launch(exchange)
        else:
            self._queue.append(exchange)
            self._flow()

    def _end(self) -> None:
        """The last response is on its way: close; after a request that was cut short, let the client read it first."""
        if self._transport is None or self._closing:
            return
        self._since_s = self._server.now_s
        whole = self._incoming is None and self._current is None and not self._in_head
        if self._eof or (whole and not self._refused) or not self._transport.can_write_eof():
            self._close()
            return
        self._closing = True
        self._deaf = True
        self._transport.write_eof()
        self._flow()

    def _close(self) -> None:
        self._closing = True
        self._deaf = True
        if self._transport is not None:
            self._transport.close()

    def close_when_idle(self) -> None:
        """For `drain`: an idle connection closes now, a busy one says so with its response."""
        if self._current is None and not self._queue and self._incoming is None and not self._in_head:
            self._close()

    def abort_transport(self) -> None:
        """Cuts the client off; what runs goes on."""
        self._deaf = True
        if self._transport is not None:
            self._transport.abort()

    def abort(self) -> None:
        """For the end of `drain`: cuts the client off and cancels what runs."""
        self.abort_transport()
        if self._task is not None:
            self._task.cancel()
