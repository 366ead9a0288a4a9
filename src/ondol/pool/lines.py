"""The log of one environment: its events in the order of their writing, on their way to the telemetry.

It must not know of calls: `pool/run.py` writes a call's part of it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ondol.clock import Clock
from ondol.model.invocations import LogEvent
from ondol.telemetry import LogPlace, Telemetry

#: Times further apart than this are another's doing: a clock that was set, a guest that lies.
DISORDER_MS_MAX: Final = 60_000


class Lines:
    """`write` events, or `log` one."""

    __slots__ = ("_clock", "_log", "_place", "_written_ms")

    def __init__(self, place: LogPlace, telemetry: Telemetry, clock: Clock) -> None:
        self._place = place
        self._log = telemetry.log
        self._clock = clock
        #: The time of the last event.
        self._written_ms = 0

    def log(self, message: str, at_ms: int | None = None) -> None:
        """One event; without a time it is now."""
        if at_ms is None:
            at_ms = int(self._clock.wall_s() * 1000)
        self.write((LogEvent(at_ms, message),))

    def write(self, events: Sequence[LogEvent]) -> None:
        """Events of one moment. Logs are sorted by time, so times keep the order of writing: a printed line has the time of its
        reading, and a record behind it, which has that of its making, is not shown in front of it.
        """
        if not events:  # a contract may have nothing to say
            return
        at_ms = events[0].at_ms
        if 0 < self._written_ms - at_ms <= DISORDER_MS_MAX:
            events = [LogEvent(self._written_ms, event.message) for event in events]
        else:
            self._written_ms = at_ms
        self._log(self._place, events)
