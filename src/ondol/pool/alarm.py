"""One timer of the loop for the calls of an environment, which come and go a thousand times as often as one runs out of time.

A timer that is set is left where it is while calls end and others begin behind it; when it rings, it is set anew for the call
that is due first, if there is one. So a warm call costs a look at a number, and rings are as exact as the loop's timers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: The loop counts in milliseconds, and may ring as much too early.
EARLY_S: Final = 0.001


class Alarm(Generic[T]):
    """Calls `due` for each thing whose time has come, once for each `set`."""

    def __init__(self, due: Callable[[T], None]) -> None:
        self._due = due
        self._at_s: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at_s = 0.0

    def set(self, thing: T, seconds: float) -> None:
        """Its time comes in so many seconds from now, whatever was said before."""
        at_s = self._at_s[thing] = asyncio.get_running_loop().time() + seconds
        if self._timer is None or at_s < self._rings_at_s:
            self._arm(at_s)

    def clear(self, thing: T) -> None:
        """Its time does not come. Idempotent."""
        self._at_s.pop(thing, None)

    def _arm(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at_s = at_s
        self._timer = asyncio.get_running_loop().call_at(at_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time() + EARLY_S
        for thing in [thing for thing, at_s in self._at_s.items() if at_s <= now_s]:
            if self._at_s.pop(thing, None) is not None:  # else what was due before it has cleared it
                self._due(thing)
        if not self._at_s:
            return
        first_s = min(self._at_s.values())
        if self._timer is None or first_s < self._rings_at_s:
            self._arm(first_s)
