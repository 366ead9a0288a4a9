"""The clock port. Wall time is persisted and shown; monotonic time bounds waits. Fakes: `ondol.testing.clock`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two times and nothing else."""

    def wall_s(self) -> float:
        """Seconds since the epoch; may jump."""
        ...

    def now_s(self) -> float:
        """Seconds on a clock that only goes forward."""
        ...


class SystemClock:
    """The machine's own."""

    wall_s = staticmethod(time.time)
    now_s = staticmethod(time.monotonic)


class SteadyClock:
    """Wall time as it was at the start and as it passed since: a jump of the machine's clock is not seen until a restart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun_s = clock.wall_s() - clock.now_s()

    def wall_s(self) -> float:
        return self._begun_s + self._clock.now_s()

    def now_s(self) -> float:
        return self._clock.now_s()
