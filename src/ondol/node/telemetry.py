"""The front's Telemetry: log events are gathered and sent to the desk's journal in batches; calls go to `node/measuring.py`.

Bounded: what waits is at most EVENTS_MAX events and BYTES_MAX bytes; beyond that events are dropped, counted, and the count is
written into the stream that lost them as soon as there is room again. A flush costs one cast, not one per event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from ondol.model.functions import Target
from ondol.model.invocations import LogEvent, Report
from ondol.node.measuring import Measuring
from ondol.telemetry import LogPlace

FLUSH_S: Final = 0.05
EVENTS_MAX: Final = 200_000
BYTES_MAX: Final = 32 * 1024 * 1024
#: Streams whose losses are counted; what others lose beyond that is not.
LOSERS_MAX: Final = 10_000
AGAIN_S: Final = 1.0


class BatchedTelemetry:
    """Gathers; `send` (a cast to the desk) answers whether it could take the batch."""

    def __init__(self, send: Callable[[list[Any]], bool], measuring: Measuring | None = None) -> None:
        self._send = send
        self._waiting: dict[LogPlace, list[LogEvent]] = {}
        self._measuring = measuring
        self._events = 0
        self._bytes = 0
        self._dropped: dict[LogPlace, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def log(self, place: LogPlace, events: Sequence[LogEvent]) -> None:
        if self._events >= EVENTS_MAX or self._bytes >= BYTES_MAX:
            if place in self._dropped or len(self._dropped) < LOSERS_MAX:
                self._dropped[place] = self._dropped.get(place, 0) + len(events)
            return
        waiting = self._waiting.get(place)
        if waiting is None:
            self._waiting[place] = list(events)
        else:
            waiting += events
        self._events += len(events)
        for event in events:
            self._bytes += len(event[1])
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def waited(self, invocation: str, seconds: float) -> None:
        if self._measuring is not None:
            self._measuring.waited(invocation, seconds)

    def settled(self, target: Target, report: Report) -> None:
        """Metrics and the record; the log lines have been written by the environment."""
        if self._measuring is not None:
            self._measuring.settled(target, report)

    def throttled(self, account: str, region: str, function: str) -> None:
        if self._measuring is not None:
            self._measuring.throttled(account, region, function)

    def flush(self) -> None:
        """Send the log events that wait; try again later when the desk is away."""
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
            events.append(LogEvent(at_ms, f"[ondol] {count} log events were dropped: more came than can be kept\n"))
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
