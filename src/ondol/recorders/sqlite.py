"""Records in one SQLite file: `ondol.recorder.Recorder` for one node.

Records are gathered in memory and written every FLUSH_S in one transaction, as blocks: a process that is killed loses at most
that much. Finding writes first, so it sees every record that was added; it opens the blocks that may hold what is looked for,
newest first, until it has enough.

Bounds: PENDING_MAX records in memory; `RecorderLimits` of count and age on disk. What is one too many goes with its block when
something is written, what is too old when `sweep` is called.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ondol.clock import Clock
from ondol.flushing import Flusher
from ondol.model.errors import OndolError
from ondol.model.invocations import Status
from ondol.model.records import Record
from ondol.recorder import Kept
from ondol.sqlite import Database, migrations, statements

_SQL = statements("ondol.recorders", "recorder.sql")

FLUSH_S: Final = 1.0
#: Records in memory: at the first bound they are written early, at the second new ones are not taken.
PENDING_EARLY: Final = 10_000
PENDING_MAX: Final = 100_000
#: Records in a block at most; a record's place is its block's times this, and its number in the block.
BLOCK_MAX: Final = 1_000
#: Records that one `find` may answer; blocks that one job of `sweep` removes.
FOUND_MAX: Final = 1_000
SWEPT_MAX: Final = 200

_FOREVER_MS: Final = 2**62
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


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
        self._flusher = Flusher(self._flush, what="records", after_s=FLUSH_S)
        #: Records that could not be kept since the start.
        self.dropped = 0

    def add(self, records: Sequence[Record]) -> int:
        room = max(PENDING_MAX - len(self._pending), 0)
        self._pending += records[:room]
        refused = max(len(records) - room, 0)
        self.dropped += refused
        if self._pending:
            self._flusher.schedule(early=len(self._pending) >= PENDING_EARLY)
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
        await self._flusher.flush()
        if failed is None and status is not None:
            failed = status is not Status.OK  # goes without saying, and spares the opening of blocks

        def wanted(record: Record) -> bool:
            return (
                (function is None or record.function == function)
                and (invocation is None or record.invocation == invocation)
                and (status is None or record.status is status)
                and (failed is None or failed is (record.status is not Status.OK))
                and since_ms <= record.started_ms
                and (until_ms is None or record.started_ms < until_ms)
            )

        key = {
            "account": account,
            "region": region,
            "function": function,
            "invocation": invocation,
            "failed": failed,
            "since_ms": since_ms,
            "until_ms": _FOREVER_MS if until_ms is None else until_ms,
            "before": _FOREVER_MS if before is None else before,
            "limit": max(1, min(limit, FOUND_MAX)),
        }
        return await self._database.read(lambda connection: _find(connection, key, wanted))

    async def sweep(self) -> None:
        """Remove what is too old or one too many."""
        await self._flusher.flush()
        before_ms = int((self._clock.wall_s() - self._limits.age_s_max) * 1000)
        while await self._database.write(lambda connection: _drop(connection, self._limits.records_max, before_ms)):
            pass

    async def close(self) -> None:
        await self._flusher.close()
        await self._database.close()

    # Writing -----------------------------------------------------------------------------------------------------------
    async def _flush(self) -> None:
        """Write what waits; what cannot be written waits on."""
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
    apart: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        apart.setdefault((record.account, record.region), []).append(record)
    for where, whole in apart.items():
        for at in range(0, len(whole), BLOCK_MAX):
            _add_block(connection, where, whole[at : at + BLOCK_MAX])
    _drop(connection, records_max, 0)


def _add_block(connection: sqlite3.Connection, where: tuple[str, str], block: Sequence[Record]) -> None:
    times = [record.started_ms for record in block]
    row = {"account": where[0], "region": where[1], "first_ms": min(times), "last_ms": max(times), "count": len(block)}
    row |= {"failed": sum(record.status is not Status.OK for record in block), "records": _encode(block)}
    place = connection.execute(_SQL["add"], row).lastrowid
    functions = [{"function": function, "place": place} for function in {record.function for record in block}]
    connection.executemany(_SQL["add_function"], functions)
    connection.execute(_SQL["recount"], {"count": len(block)})


def _drop(connection: sqlite3.Connection, records_max: int, before_ms: int) -> int:
    """The oldest blocks, as long as there are too many records or the block is too old; how many went."""
    total = connection.execute(_SQL["count"]).fetchone()[0]
    left, gone, last = total, 0, 0
    for place, count, last_ms in connection.execute(_SQL["oldest"], {"limit": SWEPT_MAX}).fetchall():
        if left <= records_max and last_ms >= before_ms:
            break
        left, gone, last = left - count, gone + 1, place
    if gone:
        connection.execute(_SQL["drop"], {"place": last})
        connection.execute(_SQL["drop_functions"], {"place": last})
        connection.execute(_SQL["recount"], {"count": left - total})
        connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()
    return gone


# On the reader's thread ------------------------------------------------------------------------------------------------
def _find(connection: sqlite3.Connection, key: dict[str, Any], wanted: Callable[[Record], bool]) -> list[Kept]:
    found = []
    for kept in _walk(connection, key):
        if wanted(kept.record):
            found.append(kept)
            if len(found) == key["limit"]:
                break
    return found


def _walk(connection: sqlite3.Connection, key: dict[str, Any]) -> Iterator[Kept]:
    """Every record in front of a place, newest first, of the blocks that may hold what is looked for."""
    query = _SQL["find" if key["function"] is None else "find_of_function"]
    # A block without the id as it is packed need not be unpacked, and nearly all are without.
    needle = b"" if key["invocation"] is None else _encode(key["invocation"])
    for block, packed in connection.execute(query, key | {"place": key["before"] // BLOCK_MAX}):
        if needle not in packed:
            continue
        for number, record in reversed(list(enumerate(_decode(packed)))):
            place = block * BLOCK_MAX + number
            if place < key["before"]:
                yield Kept(place, record)
