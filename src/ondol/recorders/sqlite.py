"""Records in one SQLite file: `ondol.recorder.Recorder` for one node.

Records are gathered in memory and written every FLUSH_S in one transaction: a process that is killed loses at most that much.
Finding writes first, so it sees every record that was added.

Bounds: PENDING_MAX records in memory; `RecorderLimits` of count and age on disk (`sweep`).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ondol.clock import Clock
from ondol.model.errors import OndolError
from ondol.model.invocations import Status
from ondol.model.records import Record
from ondol.recorder import Kept
from ondol.sqlite import Database, migrations, statements

_SQL = statements("ondol.recorders", "recorder.sql")
log = logging.getLogger(__name__)

FLUSH_S: Final = 1.0
#: Records in memory: at the first bound they are written early, at the second new ones are not taken.
PENDING_EARLY: Final = 10_000
PENDING_MAX: Final = 100_000
#: Records that one `find` may answer, and that one job of `sweep` removes.
FOUND_MAX: Final = 1_000
SWEPT_MAX: Final = 2_000

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderLimits:
    """What is kept."""

    records_max: int = 500_000
    age_s_max: int = 7 * 86_400


class SqliteRecorder:
    """See the module."""

    def __init__(self, path: Path, clock: Clock, limits: RecorderLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or RecorderLimits()
        self._database = Database(path, migrations("ondol.recorders", "recorder"))
        self._pending: list[Record] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Held while something is being written: whoever reads waits for what was added before.
        self._writing = asyncio.Lock()
        #: Records that could not be kept since the start.
        self.dropped = 0

    def add(self, records: Sequence[Record]) -> int:
        room = max(PENDING_MAX - len(self._pending), 0)
        self._pending += records[:room]
        refused = max(len(records) - room, 0)
        self.dropped += refused
        self._schedule()
        return refused

    async def find(
        self,
        account: str,
        region: str,
        *,
        function: str | None = None,
        invocation: str | None = None,
        status: Status | None = None,
        failed: bool | None = None,
        since_ms: int = 0,
        until_ms: int | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[Kept]:
        await self._flush()
        where = {
            "account = ": account,
            "region = ": region,
            "function = ": function,
            "invocation = ": invocation,
            "status = ": status.value if status else None,
            "started_ms >= ": since_ms or None,
            "started_ms < ": until_ms,
            "place < ": before,
        }
        given = {column: value for column, value in where.items() if value is not None}
        conditions = [f"{column}?" for column in given]
        if failed is None and status is not None:
            failed = status is not Status.OK  # goes without saying, but the index of failures has to be told
        if failed is not None:
            conditions.append("status <> 'ok'" if failed else "status = 'ok'")
        # Only names of columns are put together, all of them written above.
        text = f"SELECT * FROM records WHERE {' AND '.join(conditions)} ORDER BY place DESC LIMIT ?"  # noqa: S608
        values = [*given.values(), max(1, min(limit, FOUND_MAX))]
        rows = await self._database.read(lambda connection: connection.execute(text, values).fetchall())
        return [_kept(row) for row in rows]

    async def sweep(self) -> None:
        """Remove what is too old or one too many."""
        await self._flush()
        before_ms = int((self._clock.wall_s() - self._limits.age_s_max) * 1000)
        while await self._database.write(lambda connection: _sweep(connection, self._limits.records_max, before_ms)):
            pass

    async def close(self) -> None:
        try:
            await self._flush()
        except OndolError as error:
            log.warning("the last records could not be kept: %s", error)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._database.close()

    # Writing -----------------------------------------------------------------------------------------------------------
    def _schedule(self) -> None:
        if not self._pending:
            return
        if len(self._pending) >= PENDING_EARLY and not self._tasks:
            self._flush_soon()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush_soon)

    def _flush_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task = asyncio.get_running_loop().create_task(self._flush_or_say())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush_or_say(self) -> None:
        try:
            await self._flush()
        except OndolError as error:
            log.warning("records could not be kept, trying again: %s", error)
            self._schedule()

    async def _flush(self) -> None:
        """Write what waits; what cannot be written waits on."""
        async with self._writing:
            pending, self._pending = self._pending, []
            if pending:
                await self._write(pending)

    async def _write(self, pending: list[Record]) -> None:
        try:
            await self._database.write(lambda connection: _add(connection, pending, self._limits.records_max))
        except OndolError:
            self._pending[:0] = pending
            surplus = len(self._pending) - PENDING_MAX
            if surplus > 0:
                del self._pending[PENDING_MAX:]
                self.dropped += surplus
            raise


# On the writer's thread ------------------------------------------------------------------------------------------------
def _add(connection: sqlite3.Connection, records: Sequence[Record], records_max: int) -> None:
    connection.executemany(_SQL["add"], map(_row, records))
    # As many go as came, and some: the count holds between two sweeps, too.
    newest = connection.execute(_SQL["newest"]).fetchone()[0]
    connection.execute(_SQL["beyond"], {"place": newest - records_max, "limit": len(records) + SWEPT_MAX})


def _sweep(connection: sqlite3.Connection, records_max: int, before_ms: int) -> int:
    newest = connection.execute(_SQL["newest"]).fetchone()[0]
    gone = connection.execute(_SQL["beyond"], {"place": newest - records_max, "limit": SWEPT_MAX}).rowcount
    gone += connection.execute(_SQL["aged"], {"before_ms": before_ms, "limit": SWEPT_MAX}).rowcount
    connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()
    return gone


# Rows ------------------------------------------------------------------------------------------------------------------
def _row(record: Record) -> dict[str, Any]:
    rest = (
        record.name, record.revision, record.version, record.qualifier, record.queue_ms, record.start_ms, record.handler_ms,
        record.memory_mib, record.memory_peak_mib, record.exit_status, record.trace,
    )  # fmt: skip
    return {
        "account": record.account,
        "region": record.region,
        "function": record.function,
        "invocation": record.invocation,
        "status": record.status.value,
        "started_ms": record.started_ms,
        "rest": _encode(rest),
    }


def _kept(row: Sequence[Any]) -> Kept:
    place, account, region, function, invocation, status, started_ms, packed = row
    name, revision, version, qualifier, queue_ms, start_ms, handler_ms, memory_mib, peak_mib, exit_status, trace = _decode(
        packed
    )[:11]
    record = Record(
        invocation=invocation,
        account=account,
        region=region,
        function=function,
        name=name,
        revision=revision,
        version=version,
        qualifier=qualifier,
        status=Status(status),
        started_ms=started_ms,
        queue_ms=queue_ms,
        start_ms=start_ms,
        handler_ms=handler_ms,
        memory_mib=memory_mib,
        memory_peak_mib=peak_mib,
        exit_status=exit_status,
        trace=trace,
    )
    return Kept(place, record)
