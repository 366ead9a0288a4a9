"""A clock that stands still until a test moves it, and sleepers that wake with it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class VirtualClock:
    """A `Clock`. `advance` moves both times and wakes whoever slept until then, in order of time."""

    def __init__(self, wall_s: float = 1_700_000_000.0, now_s: float = 1000.0) -> None:
        self._wall_s = wall_s
        self._now_s = now_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._turn = count()

    def wall_s(self) -> float:
        return self._wall_s

    def now_s(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        """What `asyncio.sleep` is to a real clock."""
        waker = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + seconds, next(self._turn), waker))
        await waker

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass; everything due runs before this returns."""
        until_s = self._now_s + seconds
        while self._sleepers and self._sleepers[0][0] <= until_s:
            due_s, _, waker = heapq.heappop(self._sleepers)
            self._move(due_s)
            if not waker.done():
                waker.set_result(None)
            await settle()
        self._move(until_s)
        await settle()

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator might."""
        self._wall_s += seconds

    def _move(self, to_s: float) -> None:
        if to_s > self._now_s:
            self._wall_s += to_s - self._now_s
            self._now_s = to_s


async def settle(turns: int = 20) -> None:
    """Give other tasks their turns, without any time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)
