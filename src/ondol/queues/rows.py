"""Deferred calls as rows, and the moves of rows that use cases share. On the writer's thread, inside its transaction."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from ondol.model.errors import Throttled
from ondol.queue import Deferred, Event, State
from ondol.sqlite import statements

SQL: Final = statements("ondol.queues", "queue.sql")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
_list = msgspec.json.Encoder().encode
#: What a call costs besides its payload and context: its rows, and theirs in the indexes.
_ROW_BYTES: Final = 512
#: Larger payloads stand apart.
_SMALL_BYTES_MAX: Final = 1024
#: Empty pages given back to the disk after a removal, at most: bounds what one waits for.
_PAGES_FREED_MAX: Final = 256
#: Dead calls looked at in one step while room is made.
_DEAD_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What may wait, and what is kept of the dead. A function's share leaves room for the others."""

    items_max: int = 1_000_000
    bytes_max: int = 8 * 1024**3
    function_items_max: int = 500_000
    function_bytes_max: int = 4 * 1024**3
    #: Given-up calls kept; the oldest go first.
    dead_items_max: int = 100_000
    dead_bytes_max: int = 1024**3
    dead_age_s_max: float = 14 * 24 * 3600.0


class Row(NamedTuple):
    """A call to be accepted: the columns of `insert` behind its position, in their order; and the payload, if it is large."""

    id: str
    account: str
    region: str
    function: str
    name: str
    qualifier: str | None
    context: bytes
    accepted_s: float
    visible_s: float
    attempts: int
    refusals: int
    chain: int
    error: str
    size: int
    small: bytes | None
    large: bytes | None


def row_of(item: Deferred) -> Row:
    context = _encode(item.context)
    return Row(
        item.id,
        item.account,
        item.region,
        item.function,
        item.name,
        item.qualifier,
        context,
        item.accepted_s,
        item.visible_s,
        item.attempts,
        item.refusals,
        item.chain,
        item.error,
        len(item.payload) + len(context) + _ROW_BYTES,
        *((item.payload, None) if len(item.payload) <= _SMALL_BYTES_MAX else (None, item.payload)),
    )


def call_of(row: Sequence[Any]) -> Deferred:
    """The first fourteen columns of `heads`, `list_…` and `find_…`."""
    identity, account, region, function, name, qualifier, payload, context = row[:8]
    accepted_s, visible_s, attempts, refusals, chain, error = row[8:14]
    return Deferred(
        id=identity,
        account=account,
        region=region,
        function=function,
        name=name,
        qualifier=qualifier,
        payload=payload,
        context=_decode(context),
        accepted_s=accepted_s,
        visible_s=visible_s,
        attempts=attempts,
        refusals=refusals,
        chain=chain,
        error=error,
    )


def event_of(row: Sequence[Any]) -> Event:
    """A row of `list_…` and `find_…`."""
    position, payload_bytes, reason, ended_s, leased = row[14:]
    state = State.DEAD if reason else State.RUNNING if leased else State.WAITING
    return Event(call=call_of(row), state=state, position=position, payload_bytes=payload_bytes, reason=reason, ended_s=ended_s)


def accept(connection: sqlite3.Connection, batches: Sequence[Sequence[Row]], limits: QueueLimits) -> list[Throttled | None]:
    """Each batch wholly or not at all: None, or why not. One statement for all rows of a kind, whoever sent them."""
    ids = _list([row.id for batch in batches for row in batch]).decode()
    known = {row[0] for row in connection.execute(SQL["known"], {"ids": ids})}
    lines = _Lines(connection, limits)
    answers: list[Throttled | None] = []
    taken: list[Row] = []
    position = connection.execute(SQL["last_position"]).fetchone()[0]
    for batch in batches:
        new = {row.id: row for row in batch if row.id not in known}
        if not lines.take(new.values()):
            answers.append(Throttled("line"))
            continue
        answers.append(None)
        known.update(new)
        taken += new.values()
    connection.executemany(SQL["insert"], [(at, *row[:-1]) for at, row in enumerate(taken, position + 1)])
    large = [(at, row.large) for at, row in enumerate(taken, position + 1) if row.large is not None]
    if large:
        connection.executemany(SQL["insert_payload"], large)
    lines.write()
    return answers


class _Lines:
    """The lengths of functions' lines while a group of batches is accepted: read once, written once."""

    def __init__(self, connection: sqlite3.Connection, limits: QueueLimits) -> None:
        self._connection = connection
        self._limits = limits
        self._items, self._bytes = connection.execute(SQL["total"]).fetchone()
        #: Before, and what is added.
        self._before: dict[str, tuple[int, int]] = {}
        self._added: dict[str, tuple[int, int]] = {}

    def take(self, rows: Iterable[Row]) -> bool:
        """Add rows, unless that goes beyond a bound."""
        limits = self._limits
        added: dict[str, tuple[int, int]] = {}
        for row in rows:
            items, size = added.get(row.function) or self._added.get(row.function, (0, 0))
            added[row.function] = items + 1, size + row.size
        more_items = more_bytes = 0
        for function, (items, size) in added.items():
            before = self._before.get(function)
            if before is None:
                found = self._connection.execute(SQL["line"], {"function": function}).fetchone()
                before = self._before[function] = found or (0, 0)
            if before[0] + items > limits.function_items_max or before[1] + size > limits.function_bytes_max:
                return False
            was = self._added.get(function, (0, 0))
            more_items += items - was[0]
            more_bytes += size - was[1]
        if added and (self._items + more_items > limits.items_max or self._bytes + more_bytes > limits.bytes_max):
            return False
        self._added |= added
        self._items += more_items
        self._bytes += more_bytes
        return True

    def write(self) -> None:
        self._connection.executemany(
            SQL["lengthen"],
            [{"function": function, "items": items, "bytes": size} for function, (items, size) in self._added.items()],
        )


def remove(connection: sqlite3.Connection, ids: Iterable[str]) -> int:
    """Waiting or running calls go; how many there were."""
    items: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for call in ids:
        row = connection.execute(SQL["remove"], {"id": call}).fetchone()
        if row is not None:
            if row[3] is None:
                connection.execute(SQL["remove_payload"], {"position": row[0]})
            items[row[1]] += 1
            sizes[row[1]] += row[2]
    for function, count in items.items():
        connection.execute(SQL["lengthen"], {"function": function, "items": -count, "bytes": -sizes[function]})
        connection.execute(SQL["forget_line"], {"function": function})
    give_back(connection)
    return items.total()


def bury(connection: sqlite3.Connection, call: str, facts: Mapping[str, Any], limits: QueueLimits) -> None:
    """From the living to the dead, the oldest of whom make room. `facts`: reason, error, now_s."""
    buried = connection.execute(SQL["bury"], {"id": call, **facts}).fetchone()
    if buried is not None:
        connection.execute(SQL["bury_payload"], {"id": call, "position": buried[0]})
        connection.execute(SQL["count_dead"], {"items": 1, "bytes": buried[1]})
    remove(connection, [call])
    items, size = connection.execute(SQL["total_dead"]).fetchone()
    while items > 1 and (items > limits.dead_items_max or size > limits.dead_bytes_max):
        surplus = max(1, min(items - limits.dead_items_max, _DEAD_AT_ONCE))
        forget(connection, connection.execute(SQL["oldest_dead"], {"limit": surplus}).fetchall())
        items, size = connection.execute(SQL["total_dead"]).fetchone()


def forget(connection: sqlite3.Connection, rows: Sequence[tuple[int, int]]) -> int:
    """Dead calls go, given as (position, bytes); how many."""
    at = [{"position": position} for position, _ in rows]
    connection.executemany(SQL["forget_dead"], at)
    connection.executemany(SQL["forget_dead_payload"], at)
    connection.execute(SQL["count_dead"], {"items": -len(rows), "bytes": -sum(size for _, size in rows)})
    give_back(connection)
    return len(rows)


def give_back(connection: sqlite3.Connection) -> None:
    """Empty pages to the disk, a few at a time."""
    if connection.execute("PRAGMA freelist_count").fetchone()[0] > _PAGES_FREED_MAX:
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES_FREED_MAX})").fetchall()
