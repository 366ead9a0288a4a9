"""The durable queue in one SQLite file: `ondol.queue.Queue` for one node.

It must not know what a call does, nor when it should be tried again: that is the caller's to say.

Invariants
- A call leaves by `ack` or `dead` only; a claim hides it until its lease ends.
- Claims take turns between functions: one function's million calls delay another's by one claim at most, and no function
  may fill more than its share of the queue.
- Enqueueing an id that is still waiting changes nothing, so a caller unsure of the answer may ask again.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ondol.model.errors import Throttled
from ondol.queue import Deferred, QueueSize
from ondol.sqlite import Database, migrations, statements

_SQL = statements("ondol.queues", "queue.sql")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
#: What a waiting call costs besides its payload and context: its rows, and theirs in the indexes.
_ROW_BYTES = 512
#: Empty pages given back to the disk after an `ack`, at most: bounds what one acknowledgement waits for.
_PAGES_FREED_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What may wait. A function's share leaves room for the others."""

    items_max: int = 1_000_000
    bytes_max: int = 8 * 1024**3
    function_items_max: int = 500_000
    function_bytes_max: int = 4 * 1024**3
    #: Given-up calls kept; the oldest go first.
    dead_items_max: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A call that was given up."""

    call: Deferred
    reason: str


class SqliteQueue:
    """See the module."""

    def __init__(self, path: Path, limits: QueueLimits | None = None, *, file_bytes_max: int | None = None) -> None:
        self._limits = limits or QueueLimits()
        #: Whose turn it was last. In memory only: a restart begins a new round.
        self._last = ""
        self._database = Database(path, migrations("ondol.queues", "queue"), bytes_max=file_bytes_max)

    async def enqueue(self, items: Sequence[Deferred]) -> None:
        rows = [_row(item) for item in items]
        await self._database.write(lambda connection: self._insert(connection, rows))

    async def claim(self, now_s: float, *, limit: int, lease_s: float) -> Sequence[Deferred]:
        if limit <= 0:
            return []
        found, last = await self._database.write(
            lambda connection: _claim(connection, self._last, now_s, limit, now_s + lease_s)
        )
        self._last = last
        return [_deferred(row) for row in found]

    async def ack(self, ids: Sequence[str]) -> None:
        gone = list(ids)
        await self._database.write(lambda connection: _remove(connection, gone))

    async def retry(self, id: str, *, visible_s: float, counted: bool) -> None:  # noqa: A002 - the port's word
        row = {"id": id, "visible_s": visible_s, "counted": int(counted)}
        await self._database.write(lambda connection: _retry(connection, row))

    async def dead(self, id: str, reason: str) -> None:  # noqa: A002 - the port's word
        await self._database.write(lambda connection: self._bury(connection, id, reason))

    async def next_visible_s(self) -> float | None:
        row = await self._database.read(lambda connection: connection.execute(_SQL["next_visible"]).fetchone())
        return None if row[0] is None else float(row[0])

    async def release(self, now_s: float) -> int:
        """Ends every lease: for the start of a node, when nobody can be working on anything. How many there were."""
        return await self._database.write(lambda connection: connection.execute(_SQL["release"], {"now_s": now_s}).rowcount)

    async def dead_letters(self, function: str, *, limit: int = 100) -> Sequence[Dead]:
        """What was given up of `function`, oldest first."""
        bounds = {"function": function, "limit": limit}
        rows = await self._database.read(lambda connection: connection.execute(_SQL["dead"], bounds).fetchall())
        return [
            Dead(call=_deferred((*row[:8], row[7], row[8])), reason=row[9])  # what is dead waits for no time
            for row in rows
        ]

    async def size(self) -> QueueSize:
        """What it holds now, of all accounts."""
        return QueueSize(*await self._database.read(lambda connection: connection.execute(_SQL["size"]).fetchone()))

    async def backup(self, path: Path) -> None:
        """A copy of this moment at `path`, while the node goes on."""
        await self._database.backup(path)

    async def close(self) -> None:
        await self._database.close()

    # On the writer's thread --------------------------------------------------------------------------------------------
    def _insert(self, connection: sqlite3.Connection, rows: Sequence[dict[str, Any]]) -> None:
        items: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for row in rows:
            if connection.execute(_SQL["insert"], row).rowcount:
                connection.execute(_SQL["insert_payload"], row)
                items[row["function"]] += 1
                sizes[row["function"]] += row["bytes"]
        for function, count in items.items():
            _lengthen(connection, function, count, sizes[function])
            waiting, size = connection.execute(_SQL["line"], {"function": function}).fetchone()
            if waiting > self._limits.function_items_max or size > self._limits.function_bytes_max:
                raise Throttled("line")
        waiting, size = connection.execute(_SQL["total"]).fetchone()
        if items and (waiting > self._limits.items_max or size > self._limits.bytes_max):
            raise Throttled("line")

    def _bury(self, connection: sqlite3.Connection, call: str, reason: str) -> None:
        connection.execute(_SQL["bury"], {"id": call, "reason": reason})
        _remove(connection, [call])
        surplus = connection.execute(_SQL["count_dead"]).fetchone()[0] - self._limits.dead_items_max
        if surplus > 0:
            connection.execute(_SQL["forget_dead"], {"count": surplus})


def _claim(
    connection: sqlite3.Connection, last: str, now_s: float, limit: int, until_s: float
) -> tuple[Sequence[tuple[Any, ...]], str]:
    """Visible calls, the same number of each function's as far as there are any; and whose turn it was last."""
    ready = [row[0] for row in connection.execute(_SQL["ready"], {"now_s": now_s, "after": last})]
    found: list[tuple[Any, ...]] = []
    while ready and len(found) < limit:
        share = max(1, (limit - len(found)) // len(ready))
        more = []
        for function in ready[: limit - len(found)]:
            bounds = {"function": function, "now_s": now_s, "limit": share}
            rows = connection.execute(_SQL["heads"], bounds).fetchall()
            connection.executemany(_SQL["lease"], [{"id": row[0], "until_s": until_s} for row in rows])
            found += rows
            last = function
            if len(rows) == share:
                more.append(function)
        ready = more
    return found, last


def _retry(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    connection.execute(_SQL["retry"], row)


def _remove(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    items: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for call in ids:
        row = connection.execute(_SQL["remove"], {"id": call}).fetchone()
        if row is not None:
            connection.execute(_SQL["remove_payload"], {"id": call})
            items[row[0]] += 1
            sizes[row[0]] += row[1]
    for function, count in items.items():
        _lengthen(connection, function, -count, -sizes[function])
        connection.execute(_SQL["forget_line"], {"function": function})
    if connection.execute("PRAGMA freelist_count").fetchone()[0] > _PAGES_FREED_MAX:
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES_FREED_MAX})").fetchall()


def _lengthen(connection: sqlite3.Connection, function: str, items: int, size: int) -> None:
    connection.execute(_SQL["lengthen"], {"function": function, "items": items, "bytes": size})


def _row(item: Deferred) -> dict[str, Any]:
    context = _encode(item.context)
    return {
        "id": item.id,
        "account": item.account,
        "region": item.region,
        "function": item.function,
        "qualifier": item.qualifier,
        "payload": item.payload,
        "context": context,
        "accepted_s": item.accepted_s,
        "visible_s": item.visible_s,
        "attempts": item.attempts,
        "bytes": len(item.payload) + len(context) + _ROW_BYTES,
    }


def _deferred(row: tuple[Any, ...]) -> Deferred:
    identity, account, region, function, qualifier, payload, context, accepted_s, visible_s, attempts = row
    return Deferred(
        id=identity,
        account=account,
        region=region,
        function=function,
        qualifier=qualifier,
        payload=payload,
        context=_decode(context),
        accepted_s=accepted_s,
        visible_s=visible_s,
        attempts=attempts,
    )
