"""The node's end of a running guest: its wire and its log pipe.

A warm call is one send and one receive, a future and no task; only a streamed body has a task of its own. What must hold:

* Lines written before a result reach the sink before the result reaches the caller: the log pipe is emptied when READY, a
  RESULT or the end of the wire is seen. Lines of the loading go to the environment's sink, those of a call to the call's.
* A call always gets an answer. `started` is False only when a loaded guest went away with the whole call unread: the socket
  then says "connection reset" instead of "end of file". Who dies while loading would die again: that counts as started.
* Nothing grows: the log is read in pieces and at most LOG_BYTES_PER_S of it, the guest waits in its write; a streamed
  answer is bounded by the credit given.
* Nothing is believed: user code can write to the wire. What breaks the protocol (a second answer, a body without credit, more
  than STRAY_FRAMES_MAX frames that nobody asked for, a meta object that is none) gives up this guest and nobody else; how long
  loading took is at most the time that went by.

Must not know: contracts, shells, the pool.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from msgspec import Struct

from ondol.accelerator import hot
from ondol.model.limits import RESULT_BYTES_MAX
from ondol.runtime import Answer, Call, Company, Ending, LogSink
from ondol.runtimes.affinity import Affinity
from ondol.runtimes.logpipe import LogPipe
from ondol.runtimes.metas import failure_of, init_ms_of, meta_of
from ondol.runtimes.program import exit_of
from ondol.runtimes.streams import Incoming, Outgoing
from ondol.runtimes.then import Then
from ondol.sandbox import Child
from ondol_guest import frames

#: How long after the process's end its last frames may still be on their way to us.
LAST_WORDS_S: Final = 0.05
#: Frames for calls that are over, or that say nothing: an honest guest sends a few between two calls, for what crossed the
#: end of the last one on the wire.
STRAY_FRAMES_MAX: Final = 16_384

_NO_META: Final[Mapping[str, Any]] = MappingProxyType({})

log = logging.getLogger(__name__)


class _Pending(Struct, eq=False):
    """One call under way."""

    future: asyncio.Future[Answer] | Then
    sink: LogSink
    outgoing: Outgoing | None = None
    incoming: Incoming | None = None


class Link(asyncio.Protocol):
    """`ondol.runtime.Worker` over the wire of one guest."""

    def __init__(self, child: Child, sink: LogSink, affinity: Affinity | None = None) -> None:
        self.company: Company | None = None
        self._child = child
        self._loop = asyncio.get_running_loop()
        self._reader = frames.FrameReader()
        self._calls: dict[int, _Pending] = {}
        self._next = 1
        self._transport: asyncio.Transport | None = None
        self._sink = sink
        self._affinity = affinity
        self._loaded = False
        self._log = LogPipe(child.log, self._line, self._mark_loaded)
        self._began_s = self._loop.time()
        self._init_ms: float | None = None
        self._init_told = False
        self._strays = 0
        self._alive = True
        self._reset = False
        self._failed: Answer | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._writable: asyncio.Event | None = None
        self._exit = self._loop.create_task(exit_of(child), name=f"guest {child.pid}")
        self._exit.add_done_callback(self._exited)

    @classmethod
    async def open(cls, child: Child, init: bytes, sink: LogSink, affinity: Affinity | None = None) -> Link:
        """Take over `child`'s descriptors and send it `init`. Raises OSError; then they are closed."""
        link = cls(child, sink, affinity)
        wire = socket.socket(fileno=child.wire)
        try:
            wire.setblocking(False)
            sent = _send_some(wire, init)  # before the loop has taken the wire over: the guest wakes up meanwhile
            await link._loop.create_unix_connection(lambda: link, sock=wire)
        except BaseException:
            wire.close()
            link.close()
            raise
        assert link._transport is not None
        if sent < len(init):
            link._transport.write(init[sent:])
        return link

    # The port ----------------------------------------------------------------------------------------------------------
    @property
    def alive(self) -> bool:
        return self._alive

    @property
    def init_ms(self) -> float | None:
        return self._init_ms

    async def ended(self) -> int:
        return await asyncio.shield(self._exit)

    def call(self, call: Call, sink: LogSink) -> Awaitable[Answer]:
        """The call is on its way when this returns: what its caller has to do besides, it does while the guest works."""
        future = self._loop.create_future()
        pending = _Pending(future, sink)
        return self._answered(self._send_call(call, pending), pending, future)

    def begin(self, call: Call, sink: LogSink, then: Callable[[Answer], None]) -> None:
        """As `call`, without a coroutine: `then` is told the answer, from within the loop's turn that brought it."""
        self._send_call(call, _Pending(Then(then), sink))

    def _send_call(self, call: Call, pending: _Pending) -> int:
        number = self._next
        self._next = number + 1
        if self._failed is not None:
            pending.future.set_result(self._failed)
        elif not self._alive or self._transport is None:
            pending.future.set_result(Answer(ending=Ending.DEAD, started=False))
        else:
            self._calls[number] = pending
            self._strays = 0
            flags = 0 if self._affinity is None else self._affinity.begins()
            if call.body is None and len(call.meta) + len(call.payload) <= frames.FRAME_BYTES_MAX - 4:
                self._transport.write(frames.pack_meta(frames.CALL, number, call.meta, call.payload, flags))
            else:
                pending.outgoing = Outgoing(self, number, call)
        return number

    async def _answered(self, number: int, pending: _Pending, future: asyncio.Future[Answer]) -> Answer:
        try:
            return await future
        finally:
            if pending.incoming is None:
                self._settle(number, pending)

    def signal(self, number: int) -> None:
        self._child.signal(number)

    def close(self) -> None:
        self._alive = False
        if self._transport is not None:
            self._transport.abort()
        self._log.close()
        if self._grace is not None:
            self._grace.cancel()
        self._end_calls()

    # What streams need -------------------------------------------------------------------------------------------------
    def send(self, frame: bytes) -> None:
        """Send a whole frame of a stream; nothing once the guest is gone."""
        if self._alive and self._transport is not None:
            self._transport.write(frame)

    async def drained(self) -> None:
        """Wait while the socket takes no more."""
        if self._writable is not None:
            await self._writable.wait()

    # The wire ----------------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio.Transports by behaviour only.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            usual = None if self._reader.holds_bytes else hot.take_result(data)
            if usual is not None:
                flags, invocation, body = usual
                self._result(flags, invocation, b"", body)
                return
            for kind, flags, invocation, payload in self._reader.feed(data):
                self._frame(kind, flags, invocation, payload)
        except frames.BrokenFrame as error:
            log.warning("a guest broke the protocol and is given up: %s", error)
            self._lost()
            if self._transport is not None:
                self._transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._reset = isinstance(exc, ConnectionError)
        self._lost()

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    # Frames ------------------------------------------------------------------------------------------------------------
    def _frame(self, kind: int, flags: int, invocation: int, payload: bytes) -> None:
        if kind == frames.RESULT:  # the usual one first
            self._result(flags, invocation, *frames.split_meta(payload))
        elif kind == frames.READY:
            self._ready(payload)
        elif kind == frames.INIT_FAILED:
            self._init_failed(payload)
        else:
            self._stream_frame(kind, flags, invocation, payload)

    def _stray(self) -> None:
        """A frame that nobody needs: harmless, but not without end, for each takes the loop's time."""
        self._strays += 1
        if self._strays > STRAY_FRAMES_MAX:
            raise frames.BrokenFrame(f"more than {STRAY_FRAMES_MAX} frames that nobody asked for")

    def _ready(self, payload: bytes) -> None:
        if self._init_ms is not None or self._failed is not None:
            raise frames.BrokenFrame("a second READY")
        self._log.drain()
        self._loaded = True
        self._init_ms = init_ms_of(meta_of(payload), at_most=(self._loop.time() - self._began_s) * 1000)

    def _result(self, flags: int, invocation: int, raw: bytes, body: bytes) -> None:
        pending = self._calls.get(invocation)
        if pending is None:
            self._stray()  # the caller did not wait for it
            return
        if self._init_ms is None or pending.future.done():
            raise frames.BrokenFrame("a second answer to one call" if pending.future.done() else "an answer before READY")
        self._log.drain()
        if not flags & frames.MORE:
            self._log.flush()
        meta = meta_of(raw) if raw else _NO_META
        ending = Ending.ERROR if flags & frames.ERROR else Ending.OK
        if "too_large" in meta or (len(body) > RESULT_BYTES_MAX and not flags & frames.MORE):
            ending, body = Ending.TOO_LARGE, b""
        whole: bytes | AsyncIterator[bytes] = body
        if flags & frames.MORE:
            whole = pending.incoming = Incoming(self, invocation, body)
        init_ms = None if self._init_told else self._first_init_ms()
        self._answer(invocation, pending, Answer(ending=ending, meta=meta, body=whole, init_ms=init_ms))

    def _init_failed(self, payload: bytes) -> None:
        if self._init_ms is not None or self._failed is not None:
            raise frames.BrokenFrame("loading failed, after it had ended")
        self._log.drain()
        self._log.flush()
        raw, body = frames.split_meta(payload)
        meta = meta_of(raw)
        self._alive = False
        if "init_ms" in meta:
            self._init_ms = init_ms_of(meta, at_most=(self._loop.time() - self._began_s) * 1000)
        self._failed = Answer(ending=Ending.INIT_ERROR, meta=meta, body=body, init_ms=self._first_init_ms())
        self._end_calls()

    def _stream_frame(self, kind: int, flags: int, invocation: int, payload: bytes) -> None:
        pending = self._calls.get(invocation)
        if pending is None:
            self._stray()
        elif kind == frames.BODY and pending.incoming is not None:
            if not payload:
                self._stray()
            pending.incoming.feed(payload, broken=bool(flags & frames.ERROR))
        elif kind == frames.CREDIT and pending.outgoing is not None:
            pending.outgoing.grant(payload)
        elif kind == frames.END and pending.incoming is not None:
            self._log.drain()
            self._log.flush()
            broken = bool(flags & frames.ERROR)
            pending.incoming.end(broken=broken, failure=failure_of(meta_of(payload)) if broken else None)
            self._settle(invocation, pending)
        else:
            self._stray()

    def _answer(self, number: int, pending: _Pending, answer: Answer) -> None:
        if type(pending.future) is Then and pending.incoming is None:
            self._settle(number, pending)  # the coroutine of a call does this by itself
        if not pending.future.done():
            pending.future.set_result(answer)

    def _first_init_ms(self) -> float | None:
        told, self._init_told = self._init_told, True
        return None if told else self._init_ms

    def _settle(self, number: int, pending: _Pending) -> None:
        """A call is over, both ways."""
        if self._calls.pop(number, None) is not None and self._affinity is not None:
            self._affinity.ended()
        if pending.outgoing is not None:
            pending.outgoing.stop()

    # The end -----------------------------------------------------------------------------------------------------------
    def _exited(self, _: asyncio.Task[int]) -> None:
        if self._alive:  # a child of the guest may hold the wire open: do not wait for the end of the stream
            self._grace = self._loop.call_later(LAST_WORDS_S, self._lost)

    def _lost(self) -> None:
        """The guest is gone, or as good as gone."""
        self._alive = False
        self._log.drain()
        self._log.flush()
        self._end_calls()

    def _end_calls(self) -> None:
        for number, pending in list(self._calls.items()):
            if pending.incoming is not None:
                pending.incoming.end(broken=True)
                self._settle(number, pending)
            self._answer(number, pending, self._failed or Answer(ending=Ending.DEAD, started=self._may_have_started(pending)))
        if self._writable is not None:
            self._writable.set()

    def _may_have_started(self, pending: _Pending) -> bool:
        """False when the guest cannot have read all of the call. Of a streamed call, some part is often left unread."""
        unread = self._reset and self._loaded and pending.outgoing is None and len(self._calls) == 1
        return not unread

    # The log -----------------------------------------------------------------------------------------------------------
    def _mark_loaded(self) -> None:
        self._loaded = True

    def _line(self, text: str, at_ms: int | None) -> None:
        """To the call under way when there is one and only one, else to the environment."""
        if len(self._calls) == 1 and self._loaded:
            (pending,) = self._calls.values()
            pending.sink(text, at_ms)
        else:
            self._sink(text, at_ms)


def _send_some(wire: socket.socket, data: bytes) -> int:
    """How much of it the wire took at once; whether somebody is there to read it will be seen."""
    try:
        return wire.send(data, socket.MSG_NOSIGNAL)
    except OSError:
        return 0
