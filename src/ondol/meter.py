"""The metrics store's port. A series is one measured thing; what it keeps per minute, and later per hour, are summaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ondol.model.summaries import Summary

#: Points are kept per minute for MINUTES_S, then per hour for HOURS_S.
MINUTE_S: Final = 60
HOUR_S: Final = 3600
MINUTES_S: Final = 15 * 86_400
HOURS_S: Final = 455 * 86_400

#: The space of what the platform measures itself; all others belong to users.
PLATFORM: Final = ""

Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One measured thing. Series that differ in their unit are different; without a unit all are read."""

    account: str
    region: str
    #: Who measures: PLATFORM, or a name that a user chose.
    space: str
    name: str
    #: (name, value), sorted by name.
    dimensions: Dimensions = ()
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """Values of one series of about one moment."""

    series: Series
    at_s: float  #: seconds since the epoch
    summary: Summary


@dataclass(frozen=True, slots=True)
class Listed:
    """A series that there is. `id` orders them totally and never changes."""

    id: int
    series: Series
    last_s: float  #: when its newest point was


@dataclass(frozen=True, slots=True)
class Read:
    """One period of one unit."""

    at_s: int  #: when the period began
    unit: str
    summary: Summary


class Meter(Protocol):
    """Series of all accounts; `account` and `region` are part of every key. Reading and listing raise Unavailable."""

    def add(self, points: Sequence[Point]) -> int:
        """Take points; never blocks, never raises. How many could not be kept: too old, or of one series too many."""
        ...

    async def read(
        self, series: Series, *, unit: str | None, start_s: int, end_s: int, period_s: int, sketches: bool = False
    ) -> Sequence[Read]:
        """What lies in start_s <= t < end_s, in periods counted from `start_s`; periods with nothing in them are left out.

        `unit` None reads all units (`series.unit` is not looked at). `sketches`: whether percentiles are wanted; they can be
        had only then. Raises TooLarge for more points than the store reads at once.
        """
        ...

    async def series(
        self,
        account: str,
        region: str,
        *,
        space: str | None = None,
        name: str | None = None,
        since_s: float = 0.0,
        after: int = 0,
        limit: int = 500,
    ) -> Sequence[Listed]:
        """Series with a point at or after `since_s`, in the order of their ids, beyond `after`."""
        ...

    async def close(self) -> None:
        """What was added is kept first."""
        ...
