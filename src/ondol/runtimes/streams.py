"""Streamed bodies of one call, both ways, within the credit that frames.py gives them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol

from ondol.model.errors import Unavailable
from ondol.runtime import BrokeOff, Call
from ondol_guest import frames

log = logging.getLogger(__name__)

#: A guest that waits to send a whole chunk gets by on what is left when so much is not yet said.
CREDIT_STEP_BYTES: Final = frames.CHUNK_BYTES


class Wire(Protocol):
    """What a stream needs of the link."""

    def send(self, frame: bytes) -> None: ...

    async def drained(self) -> None: ...


class Outgoing:
    """A call's payload and body on their way to the guest: one task, for streamed calls only."""

    def __init__(self, wire: Wire, invocation: int, call: Call) -> None:
        self._wire = wire
        self._invocation = invocation
        self._credit = frames.CREDIT_BYTES
        self._granted = asyncio.Event()
        self._over = False
        self._task = asyncio.get_running_loop().create_task(self._run(call))

    def grant(self, payload: bytes) -> None:
        """A CREDIT frame: the guest took so many bytes. Raises BrokenFrame for more than it was sent."""
        granted = frames.META.unpack(payload)[0] if len(payload) == frames.META.size else 0
        if not 0 < granted <= frames.CREDIT_BYTES - self._credit:
            raise frames.BrokenFrame("credit for bytes that were not sent")
        self._credit += granted
        self._granted.set()

    def stop(self) -> None:
        """The call is over: what is left of the body is of no use to anyone. The guest, which drops it, is told of its end."""
        self._task.cancel()
        self._end(frames.LAST | frames.ERROR)

    async def _run(self, call: Call) -> None:
        self._wire.send(frames.pack_meta(frames.CALL, self._invocation, call.meta, b"", frames.MORE))
        try:
            await self._chunk(call.payload)
            if call.body is not None:
                async for chunk in call.body:
                    await self._chunk(chunk)
            self._end(frames.LAST)
        except Exception as error:  # the client went away, or sent what it may not
            log.info("a streamed payload ended early: %s", error)
            self._end(frames.LAST | frames.ERROR)

    def _end(self, flags: int) -> None:
        """Once: behind it comes the next call."""
        if not self._over:
            self._over = True
            self._wire.send(frames.pack(frames.BODY, self._invocation, b"", flags))

    async def _chunk(self, data: bytes) -> None:
        for at in range(0, len(data), frames.CHUNK_BYTES):
            piece = data[at : at + frames.CHUNK_BYTES]
            while self._credit < len(piece):
                self._granted.clear()
                await self._granted.wait()
            self._credit -= len(piece)
            self._wire.send(frames.pack(frames.BODY, self._invocation, piece))
            await self._wire.drained()


class Incoming(AsyncIterator[bytes]):
    """An answer's body as it comes. Ends when the guest said END; raises BrokeOff when it said that the function failed, and
    Unavailable when the guest could not finish it.

    Whoever stops reading must `aclose` it: the rest is thrown away as it comes, so that the guest is not left waiting.
    """

    def __init__(self, wire: Wire, invocation: int, first: bytes) -> None:
        self._wire = wire
        self._invocation = invocation
        self._chunks: deque[bytes] = deque([first] if first else [])
        self._uncounted = len(first)  # came in the RESULT: no credit was spent on it
        self._credit_left = frames.CREDIT_BYTES  # what the guest may still send
        self._owed = 0  # taken, and not yet said so
        self._came = asyncio.Event()
        self._over = False
        self._broken = False
        self._failure: BrokeOff | None = None
        self._thrown = False

    def feed(self, chunk: bytes, *, broken: bool) -> None:
        """A BODY frame. Raises BrokenFrame for more than there is credit for."""
        self._broken = self._broken or broken
        self._credit_left -= len(chunk)
        if self._credit_left < 0:
            raise frames.BrokenFrame("more of a body than there was credit for")
        if self._thrown:
            self._credit(len(chunk))
        elif chunk:
            self._chunks.append(chunk)
            self._came.set()

    def end(self, *, broken: bool, failure: BrokeOff | None = None) -> None:
        """END came, or nothing more will. `failure`: what the function said of its own."""
        self._over = True
        self._failure = failure
        self._broken = self._broken or broken
        self._came.set()

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._over and self._failure is not None:
                raise self._failure
            if self._broken and self._over:
                raise Unavailable("the function's answer ended before it was complete")
            if self._over or self._thrown:
                raise StopAsyncIteration
            self._came.clear()
            await self._came.wait()
        chunk = self._chunks.popleft()
        self._credit(len(chunk))
        return chunk

    async def aclose(self) -> None:
        """Read no more; returns when the guest is through with the call, and another may be sent."""
        self._thrown = True
        while self._chunks:
            self._credit(len(self._chunks.popleft()))
        while not self._over:
            self._came.clear()
            await self._came.wait()

    def _credit(self, size: int) -> None:
        """Said in large pieces only: a guest that sends single bytes, and never reads, must not fill our buffers."""
        free, self._uncounted = min(self._uncounted, size), max(0, self._uncounted - size)
        self._owed += size - free
        if self._owed >= CREDIT_STEP_BYTES and not self._over:
            owed, self._owed = self._owed, 0
            self._credit_left += owed
            self._wire.send(frames.pack(frames.CREDIT, self._invocation, frames.META.pack(owed)))
