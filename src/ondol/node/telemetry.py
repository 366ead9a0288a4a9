"""The front's Telemetry: log events are gathered and sent to the desk's journal in batches.

Bounded: what waits is at most EVENTS_MAX events and BYTES_MAX bytes; beyond that events are dropped, counted, and the count is
written into the stream that lost them as soon as there is room again. A flush costs one cast, not one per event; a flood goes
in casts of SEND_EVENTS_MAX events or SEND_BYTES_MAX characters, with all other work between them, so that it holds up neither
end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from ondol.model.invocations import LogEvent
from ondol.telemetry import LogPlace

FLUSH_S: Final = 0.05
EVENTS_MAX: Final = 200_000
BYTES_MAX: Final = 32 * 1024 * 1024
SEND_EVENTS_MAX: Final = 2_000
SEND_BYTES_MAX: Final = 1024 * 1024
#: Streams whose losses are counted; what others lose beyond that is not.
LOSERS_MAX: Final = 10_000
AGAIN_S: Final = 1.0


class BatchedTelemetry:
    """Gathers; `send` (a cast to the desk) answers whether it could take the batch."""

    def __init__(self, send: Callable[[list[Any]], bool]) -> None:
        self._send = send
        self._waiting: dict[LogPlace, list[LogEvent]] = {}
        self._events = 0
        self._bytes = 0
        self._dropped: dict[LogPlace, int] = {}
        #: When the last event was dropped.
        self._last_ms = 0
        self._timer: asyncio.Handle | None = None

    def log(self, place: LogPlace, events: Sequence[LogEvent]) -> None:
        if self._events >= EVENTS_MAX or self._bytes >= BYTES_MAX:
            if place in self._dropped or len(self._dropped) < LOSERS_MAX:
                self._dropped[place] = self._dropped.get(place, 0) + len(events)
                self._last_ms = events[-1].at_ms
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
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._go_on)

    def flush(self) -> None:
        """Send all that waits; try again later when the desk is away."""
        while self._send_some():
            pass

    def _go_on(self) -> None:
        """Send some of what waits, and the rest when the loop has done what else there is."""
        if self._send_some():
            self._timer = asyncio.get_running_loop().call_soon(self._go_on)

    def _send_some(self) -> bool:
        """One cast; whether there is more to send now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting and not self._dropped:
            return False
        if self._events <= SEND_EVENTS_MAX and self._bytes <= SEND_BYTES_MAX and not self._dropped:
            self._send_all()
            return False
        taken = self._some()
        if not self._sent([(*place, [*events, *self._owned_up(place, events, whole)]) for place, events, whole in taken]):
            self._try_again()
            return False
        for place, events, whole in taken:
            self._events -= len(events)
            self._bytes -= sum(len(message) for _, message in events)
            if whole:
                self._waiting.pop(place, None)
                self._dropped.pop(place, None)
            else:
                del self._waiting[place][: len(events)]
        return bool(self._waiting or self._dropped)

    def _send_all(self) -> None:
        """The usual case, in which nothing is looked at one by one."""
        if self._sent([(*place, events) for place, events in self._waiting.items()]):
            self._waiting = {}
            self._events = self._bytes = 0
        else:
            self._try_again()

    def _try_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(AGAIN_S, self._go_on)

    def _some(self) -> list[tuple[LogPlace, list[LogEvent], bool]]:
        """What goes into one cast: (place, events, whether they are all it has)."""
        taken: list[tuple[LogPlace, list[LogEvent], bool]] = []
        count = size = 0
        for place in [*self._waiting, *(place for place in self._dropped if place not in self._waiting)]:
            events: list[LogEvent] = []
            waiting = self._waiting.get(place, [])
            for event in waiting:
                if count >= SEND_EVENTS_MAX or size >= SEND_BYTES_MAX:
                    break
                events.append(event)
                count += 1
                size += len(event[1])
            taken.append((place, events, len(events) == len(waiting)))
            if count >= SEND_EVENTS_MAX or size >= SEND_BYTES_MAX:
                break
        return taken

    def _owned_up(self, place: LogPlace, events: list[LogEvent], whole: bool) -> list[LogEvent]:
        """What a stream lost, behind the last it has."""
        count = self._dropped.get(place)
        if not count or not whole:
            return []
        at_ms = events[-1][0] if events else self._last_ms
        return [LogEvent(at_ms, f"[ondol] {count} log events were dropped: more came than can be kept\n")]

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
