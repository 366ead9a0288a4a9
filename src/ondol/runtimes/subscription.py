"""One subscription's events on their way: gathered as it asked, handed over one batch at a time, and lost in the open.

What must hold: nobody waits for a subscriber, nothing grows beyond twice what it asked to have gathered, and what is lost is
told in the next batch. Must not know: where batches go, what events mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from ondol.runtimes.telemetry_wanted import Wanted

#: Tries of one batch, and the pauses between them.
PAUSES_S: Final = (0.1, 0.4)
#: So many times what is gathered may wait; the rest is lost.
WAITING_BATCHES_MAX: Final = 2

#: Hands a batch over; whether it was taken.
Deliver = Callable[[Wanted, bytes], Awaitable[bool]]


class Subscription:
    """`dropped(records, bytes)` makes the event that tells of a loss. Make it where an event loop runs."""

    def __init__(self, wanted: Wanted, deliver: Deliver, dropped: Callable[[int, int], Mapping[str, Any]]) -> None:
        self.wanted = wanted
        self._deliver = deliver
        self._dropped = dropped
        self._loop = asyncio.get_running_loop()
        self._events: deque[bytes] = deque()
        self._bytes = 0
        self._lost = (0, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._closed = False
        #: Clear while the subscriber is kept from running, and how often it was.
        self._awake = asyncio.Event()
        self._awake.set()
        self._naps = 0

    def add(self, event: Mapping[str, Any]) -> None:
        """Takes it, or counts it as lost."""
        data = msgspec.json.encode(event)
        most = WAITING_BATCHES_MAX
        full = self._bytes + len(data) > most * self.wanted.bytes_max or len(self._events) >= most * self.wanted.items_max
        if self._closed or full:
            self._lose(1, len(data))
            return
        self._events.append(data)
        self._bytes += len(data)
        if self._sending is not None:
            return
        if self._is_due:
            self._send()
        elif self._timer is None:
            self._timer = self._loop.call_later(self.wanted.timeout_ms / 1000, self._send)

    async def flush(self) -> None:
        """Hand over all there is, without waiting for more."""
        while self._events or self._sending is not None:
            if self._sending is None:
                self._send()
            assert self._sending is not None
            await asyncio.wait({self._sending})

    def pause(self, *, on: bool) -> None:
        """A subscriber that is frozen is not slow: nothing is tried meanwhile, and what was under way is tried again."""
        if on:
            self._naps += 1
            self._awake.clear()
        else:
            self._awake.set()

    def close(self) -> None:
        """What is left is lost. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()
        self._events.clear()

    @property
    def _is_due(self) -> bool:
        return len(self._events) >= self.wanted.items_max or self._bytes >= self.wanted.bytes_max

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._closed and self._sending is None:
            self._sending = self._loop.create_task(self._work())

    async def _work(self) -> None:
        try:
            first = True
            while self._events and (first or self._is_due):
                first = False
                await self._hand_over(self._batch())
        finally:
            self._sending = None
            if self._events and not self._closed:
                self._timer = self._loop.call_later(self.wanted.timeout_ms / 1000, self._send)

    def _batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._events and len(batch) < self.wanted.items_max:
            if size and size + len(self._events[0]) > self.wanted.bytes_max:
                break
            size += len(self._events[0])
            batch.append(self._events.popleft())
        self._bytes -= size
        return batch

    async def _hand_over(self, batch: list[bytes]) -> None:
        lost = self._lost if "platform" in self.wanted.types else (0, 0)
        told = [msgspec.json.encode(self._dropped(*lost)), *batch] if lost[0] else batch
        data = b"[" + b",".join(told) + b"]" if self.wanted.protocol == "HTTP" else b"\n".join(told) + b"\n"
        tries = 0
        while tries <= len(PAUSES_S):
            await self._awake.wait()
            naps = self._naps
            if await self._deliver(self.wanted, data):
                self._lose(-lost[0], -lost[1])
                return
            if naps == self._naps:
                await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
                tries += 1
        self._lose(len(batch), sum(map(len, batch)))

    def _lose(self, records: int, size: int) -> None:
        self._lost = self._lost[0] + records, self._lost[1] + size
