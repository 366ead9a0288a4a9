"""The metrics store in one SQLite file: `ondol.meter.Meter` for one node.

Points are merged in memory and written every FLUSH_S in one transaction: a process that is killed loses at most that much.
Reading and listing write first, so they see everything that was added.

Bounds: PENDING_MAX buckets in memory; `MeterLimits` series of an account, those of the platform and those of its users
apart; a file of `bytes_max`, of which the oldest buckets go first. Minutes become hours after MINUTES_S, hours go after HOURS_S
(`sweep`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ondol.clock import Clock
from ondol.flushing import Flusher
from ondol.meter import HOUR_S, HOURS_S, MINUTE_S, MINUTES_S, PLATFORM, Listed, Point, Read, Series
from ondol.model.errors import OndolError, TooLarge
from ondol.model.summaries import Summary, merged
from ondol.sqlite import Database, migrations, statements

_SQL = statements("ondol.meters", "meter.sql")
log = logging.getLogger(__name__)

FLUSH_S: Final = 5.0
#: Buckets in memory: at the first bound they are written early, at the second nothing new is taken.
PENDING_EARLY: Final = 10_000
PENDING_MAX: Final = 50_000
#: Users' part: a flood of theirs leaves room for the platform's.
PENDING_USERS_MAX: Final = 25_000
#: Buckets that one `read` may look at.
READ_MAX: Final = 200_000
#: Buckets that one job of `sweep` moves: bounds how long a write waits for it.
SWEPT_MAX: Final = 2_000
#: The size that the file is swept down to, of its bound.
_ROOM: Final = 0.9

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[float]).decode

Pending = dict[tuple[Series, int], Summary]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterLimits:
    """What is kept."""

    platform_series_max: int = 50_000
    user_series_max: int = 50_000
    bytes_max: int = 2 * 1024**3


class SqliteMeter:
    """See the module."""

    def __init__(self, path: Path, clock: Clock, limits: MeterLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or MeterLimits()
        self._database = Database(path, migrations("ondol.meters", "meter"))
        self._pending: Pending = {}
        self._flusher = Flusher(self._flush, what="metrics", after_s=FLUSH_S)
        #: Series already known, to look none up twice. A hint only: the writer finds out when one has gone.
        self._known: dict[Series, int] = {}
        #: Points that could not be kept since the start: too old, too many, or of one series too many.
        self.dropped = 0

    def add(self, points: Sequence[Point]) -> int:
        oldest_s = self._clock.wall_s() - MINUTES_S + HOUR_S
        pending = self._pending
        refused = 0
        for point in points:
            bucket = (point.series, int(point.at_s) // MINUTE_S * MINUTE_S)
            before = pending.get(bucket)
            if before is not None:
                pending[bucket] = merged(before, point.summary)
            elif point.at_s < oldest_s or len(pending) >= (
                PENDING_MAX if point.series.space == PLATFORM else PENDING_USERS_MAX
            ):
                refused += 1
            else:
                pending[bucket] = point.summary
        self.dropped += refused
        if self._pending:
            self._flusher.schedule(early=len(self._pending) >= PENDING_EARLY)
        return refused

    async def read(
        self, series: Series, *, unit: str | None, start_s: int, end_s: int, period_s: int, sketches: bool = False
    ) -> Sequence[Read]:
        await self._flusher.flush()
        key = _key(series) | {"unit": unit, "start_s": start_s, "end_s": end_s, "period_s": period_s, "limit": READ_MAX + 1}
        return await self._database.read(lambda connection: _read(connection, key, sketches=sketches))

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
        await self._flusher.flush()
        key = {
            "account": account, "region": region, "space": space, "name": name, "since_s": since_s, "after": after,
            "limit": limit,
        }  # fmt: skip
        rows = await self._database.read(lambda connection: connection.execute(_SQL["list_series"], key).fetchall())
        return [_listed(row) for row in rows]

    async def sweep(self) -> None:
        """Make hours of old minutes, drop old hours, and what makes the file too large."""
        await self._flusher.flush()
        now_s = int(self._clock.wall_s())
        minutes_s = (now_s - MINUTES_S) // HOUR_S * HOUR_S
        while await self._database.write(lambda connection: _roll_up(connection, minutes_s)):
            pass
        while await self._database.write(lambda connection: _drop_oldest(connection, now_s - HOURS_S)):
            pass
        await self._make_room(now_s)
        await self._database.write(lambda connection: connection.execute(_SQL["drop_series"], {"before_s": now_s - MINUTES_S}))

    async def close(self) -> None:
        await self._flusher.close()
        await self._database.close()

    # Writing -----------------------------------------------------------------------------------------------------------
    async def _flush(self) -> None:
        """Write what waits. What cannot be written waits on, merged with what came meanwhile."""
        pending, self._pending = self._pending, {}
        if pending:
            await self._write(pending)

    async def _write(self, pending: Pending) -> None:
        known = self._known
        try:
            found, lost = await self._database.write(lambda connection: _write(connection, pending, known, self._limits))
        except OndolError:
            for bucket, summary in pending.items():
                later = self._pending.get(bucket)
                self._pending[bucket] = summary if later is None else merged(summary, later)
            raise
        self.dropped += lost
        if len(known) > self._limits.platform_series_max + self._limits.user_series_max:
            known.clear()
        known.update(found)

    async def _make_room(self, now_s: int) -> None:
        bytes_max = self._limits.bytes_max
        if await self._database.read(_used_bytes) <= bytes_max:
            return
        log.warning("the metrics have outgrown %d MiB: the oldest go", bytes_max // 1024**2)
        while await self._database.read(_used_bytes) > bytes_max * _ROOM:
            if not await self._database.write(lambda connection: _drop_oldest(connection, now_s)):
                return


# On the writer's thread ------------------------------------------------------------------------------------------------
def _write(
    connection: sqlite3.Connection, pending: Pending, known: dict[Series, int], limits: MeterLimits
) -> tuple[dict[Series, int], int]:
    """The ids of series that were not known, and how many buckets had to go for want of a series."""
    found: dict[Series, int] = {}
    refused: set[Series] = set()
    room: dict[tuple[str, bool], int] = {}
    newest: dict[Series, int] = {}
    for series, at_s in pending:
        newest[series] = max(newest.get(series, 0), at_s)
    for series, at_s in newest.items():
        number = known.get(series)
        if number is None or not connection.execute(_SQL["touch_series"], {"id": number, "last_s": at_s}).rowcount:
            made = _series_id(connection, series, at_s, room, limits)
            if made is None:
                refused.add(series)
            else:
                found[series] = made
    lost = 0
    for (series, at_s), summary in pending.items():
        if series in refused:
            lost += 1
            continue
        _put(connection, found.get(series) or known[series], at_s, MINUTE_S, summary)
    return found, lost


def _series_id(
    connection: sqlite3.Connection, series: Series, last_s: int, room: dict[tuple[str, bool], int], limits: MeterLimits
) -> int | None:
    """The id of a series, which is made if there is room for one more."""
    key = _key(series) | {"unit": series.unit, "last_s": last_s}
    row = connection.execute(_SQL["series_of"], key).fetchone()
    if row is not None:
        connection.execute(_SQL["touch_series"], {"id": row[0], "last_s": last_s})
        return int(row[0])
    whose = (series.account, series.space == PLATFORM)
    if whose not in room:
        count = connection.execute(_SQL["count_series"], {"account": whose[0], "platform": whose[1]}).fetchone()[0]
        room[whose] = (limits.platform_series_max if whose[1] else limits.user_series_max) - count
    if room[whose] <= 0:
        return None
    room[whose] -= 1
    return connection.execute(_SQL["add_series"], key).lastrowid


def _put(connection: sqlite3.Connection, series: int, at_s: int, span_s: int, summary: Summary) -> None:
    """Add to a bucket."""
    row = connection.execute(_SQL["bucket"], {"series": series, "at_s": at_s}).fetchone()
    if row is not None:
        summary = merged(_summary(row), summary)
    values = {"series": series, "at_s": at_s, "span_s": span_s, "bins": _packed(summary)}
    values |= {"count": summary.count, "total": summary.sum, "low": summary.low, "high": summary.high}
    connection.execute(_SQL["put_bucket"], values)


def _roll_up(connection: sqlite3.Connection, before_s: int) -> int:
    rows = connection.execute(_SQL["old_minutes"], {"before_s": before_s, "limit": SWEPT_MAX}).fetchall()
    for series, at_s, *_ in rows:
        connection.execute(_SQL["drop_bucket"], {"series": series, "at_s": at_s})
    for series, at_s, *values in rows:
        _put(connection, series, at_s // HOUR_S * HOUR_S, HOUR_S, _summary(values))
    return len(rows)


def _drop_oldest(connection: sqlite3.Connection, before_s: int) -> int:
    rows = connection.execute(_SQL["oldest"], {"before_s": before_s, "limit": SWEPT_MAX}).fetchall()
    for series, at_s in rows:
        connection.execute(_SQL["drop_any_bucket"], {"series": series, "at_s": at_s})
    connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()
    return len(rows)


# On the reader's thread ------------------------------------------------------------------------------------------------
def _read(connection: sqlite3.Connection, key: dict[str, Any], *, sketches: bool) -> list[Read]:
    found: dict[tuple[int, str], Summary] = {}
    looked_at = 0
    for number, unit in connection.execute(_SQL["series_to_read"], key).fetchall():
        bounds = {**key, "series": number}
        looked_at += connection.execute(_SQL["count_buckets"], bounds).fetchone()[0]
        if looked_at > READ_MAX:
            raise TooLarge(f"more than {READ_MAX} points of one metric were asked for at once", limit_bytes=0)
        for period, *values in connection.execute(_SQL["read_sketches" if sketches else "read_plain"], bounds):
            bucket = (key["start_s"] + period * key["period_s"], unit)
            summary = _summary(values) if sketches else Summary(*values)
            before = found.get(bucket)
            found[bucket] = summary if before is None else merged(before, summary)
    return [Read(at_s, unit, summary) for (at_s, unit), summary in sorted(found.items(), key=lambda item: item[0])]


def _used_bytes(connection: sqlite3.Connection) -> int:
    page_bytes, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return int(page_bytes * (pages - free))


# Rows ------------------------------------------------------------------------------------------------------------------
def _key(series: Series) -> dict[str, Any]:
    return {
        "account": series.account,
        "region": series.region,
        "space": series.space,
        "name": series.name,
        "dimensions": msgspec.json.encode(series.dimensions).decode(),
    }


def _listed(row: Sequence[Any]) -> Listed:
    number, account, region, space, name, dimensions, unit, last_s = row
    pairs = tuple((key, value) for key, value in msgspec.json.decode(dimensions))
    return Listed(number, Series(account, region, space, name, pairs, unit), last_s)


def _packed(summary: Summary) -> bytes:
    if not summary.bins:
        return b""
    flat: list[float] = []
    for number, count in summary.bins.items():
        flat += (number, int(count) if count == int(count) else count)
    return _encode(flat)


def _summary(row: Sequence[Any]) -> Summary:
    count, total, low, high, packed = row
    if not packed:
        return Summary(count, total, low, high)
    flat = _decode(packed)
    return Summary(count, total, low, high, {int(number): times for number, times in zip(flat[::2], flat[1::2], strict=True)})
