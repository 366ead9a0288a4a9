"""The front's Telemetry: log events are gathered and sent to the desk's journal in batches.

Bounded: what waits is at most EVENTS_MAX events and BYTES_MAX bytes; beyond that events are dropped, counted, and the count is
written into the stream that lost them as soon as there is room again. A flush costs one cast, not one per event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ondol.model.functions import Target
from ondol.model.invocations import LogEvent, Report

FLUSH_S: Final = 0.05
EVENTS_MAX: Final = 200_000
BYTES_MAX: Final = 32 * 1024 * 1024
#: Streams whose losses are counted; what others lose beyond that is not.
LOSERS_MAX: Final = 10_000
AGAIN_S: Final = 1.0

Place = tuple[str, str, str, str]


class BatchedTelemetry:
    """Gathers; `send` (a cast to the desk) answers whether it could take the batch."""

    def __init__(self, send: Callable[[list[Any]], bool]) -> None:
        self._send = send
        self._waiting: dict[Place, list[tuple[int, str]]] = {}
        self._events = 0
        self._bytes = 0
        self._dropped: dict[Place, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def log(self, account: str, region: str, group: str, stream: str, event: LogEvent) -> None:
        place = (account, region, group, stream)
        if self._events >= EVENTS_MAX or self._bytes >= BYTES_MAX:
            if place in self._dropped or len(self._dropped) < LOSERS_MAX:
                self._dropped[place] = self._dropped.get(place, 0) + 1
            return
        events = self._waiting.get(place)
        if events is None:
            events = self._waiting[place] = []
        events.append((event.at_ms, event.message))
        self._events += 1
        self._bytes += len(event.message)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def settled(self, target: Target, report: Report) -> None:
        """Not this part's: see `FrontTelemetry` in node/measuring.py."""

    def throttled(self, account: str, region: str, function: str) -> None:
        """As `settled`."""

    def flush(self) -> None:
        """Send what waits; try again later when the desk is away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        if self._sent(self._batches()):
            self._waiting = {}
            self._dropped = {}
            self._events = self._bytes = 0
        else:
            self._timer = asyncio.get_running_loop().call_later(AGAIN_S, self.flush)

    def _batches(self) -> list[Any]:
        """What waits, and behind it what was lost; made afresh for each try."""
        batches = {place: list(events) if place in self._dropped else events for place, events in self._waiting.items()}
        for place, count in self._dropped.items():
            events = batches.setdefault(place, [])
            at_ms = events[-1][0] if events else max(kept[-1][0] for kept in self._waiting.values())
            events.append((at_ms, f"[ondol] {count} log events were dropped: more came than can be kept\n"))
        return [(*place, events) for place, events in batches.items()]

    def _sent(self, batches: list[Any]) -> bool:
        try:
            return self._send(batches)
        except UnicodeEncodeError:  # half a surrogate pair, which a function's JSON can hold: no reason to lose the rest
            return self._send(
                [
                    (*place, [(at_ms, message.encode("utf-8", "replace").decode()) for at_ms, message in events])
                    for *place, events in batches
                ]
            )
