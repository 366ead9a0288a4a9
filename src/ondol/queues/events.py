"""What owners see of the queue and do to it: `ondol.queue.Events` in the queue's own SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from ondol.model.errors import Busy, NotFound
from ondol.queue import Event, Owned, State
from ondol.queues.rows import SQL, QueueLimits, accept, event_of, forget, remove, row_of
from ondol.sqlite import Database

#: Rows that one transaction of a purge removes: bounds what others wait for it.
PURGED_AT_ONCE: Final = 500


class SqliteEvents:
    """See the module. Shares the queue's file, writer and bounds."""

    def __init__(self, database: Database, limits: QueueLimits) -> None:
        self._database = database
        self._limits = limits

    async def listed(self, owned: Owned, state: State, *, after: int, limit: int) -> Sequence[Event]:
        bounds = {**_owner(owned), "after": after, "limit": limit, "leased": int(state is State.RUNNING)}
        statement = SQL["list_dead" if state is State.DEAD else "list_calls"]
        rows = await self._database.read(lambda connection: connection.execute(statement, bounds).fetchall())
        return [event_of(row) for row in rows]

    async def found(self, owned: Owned, id: str) -> Event:  # noqa: A002 - the port's word
        return await self._database.read(lambda connection: _find(connection, owned, id))

    async def replay(self, owned: Owned, id: str, now_s: float) -> None:  # noqa: A002 - the port's word
        await self._database.write(lambda connection: self._replay(connection, owned, id, now_s))

    async def remove(self, owned: Owned, id: str) -> None:  # noqa: A002 - the port's word
        await self._database.write(lambda connection: _remove(connection, owned, id))

    async def purge(self, owned: Owned, state: State) -> int:
        total = 0
        while gone := await self._database.write(lambda connection: _purge(connection, owned, state)):
            total += gone
        return total

    async def forget_outdated(self, now_s: float) -> int:
        """Dead calls that are older than they are kept; how many. Call it now and then."""
        bounds = {"before_s": now_s - self._limits.dead_age_s_max, "limit": PURGED_AT_ONCE}
        total = 0
        while gone := await self._database.write(
            lambda connection: forget(connection, connection.execute(SQL["outdated_dead"], bounds).fetchall())
        ):
            total += gone
        return total

    def _replay(self, connection: sqlite3.Connection, owned: Owned, call: str, now_s: float) -> None:
        event = _find(connection, owned, call)
        if event.state is not State.DEAD:
            raise Busy(f"event {call} is {event.state.value}; only dead ones can be replayed")
        again = replace(event.call, accepted_s=now_s, visible_s=now_s, attempts=0, refusals=0, chain=0, error="")
        (refusal,) = accept(connection, [[row_of(again)]], self._limits)
        if refusal is not None:
            raise refusal
        _forget_one(connection, event.position)


def _owner(owned: Owned) -> dict[str, Any]:
    return {"account": owned.account, "region": owned.region, "name": owned.name, "function": owned.function}


def _find(connection: sqlite3.Connection, owned: Owned, call: str) -> Event:
    at = {**_owner(owned), "id": call}
    row = connection.execute(SQL["find_call"], at).fetchone() or connection.execute(SQL["find_dead"], at).fetchone()
    if row is None:
        raise NotFound("event", call)
    return event_of(row)


def _remove(connection: sqlite3.Connection, owned: Owned, call: str) -> None:
    event = _find(connection, owned, call)
    if event.state is State.RUNNING:
        raise Busy(f"event {call} is running; wait until it has ended")
    if event.state is State.DEAD:
        _forget_one(connection, event.position)
    else:
        remove(connection, [call])


def _purge(connection: sqlite3.Connection, owned: Owned, state: State) -> int:
    bounds = {**_owner(owned), "after": 0, "limit": PURGED_AT_ONCE, "leased": 0}
    if state is State.DEAD:
        rows = connection.execute(SQL["list_dead"], bounds).fetchall()
        for row in rows:
            _forget_one(connection, row[14])
        return len(rows)
    return remove(connection, [row[0] for row in connection.execute(SQL["list_calls"], bounds).fetchall()])


def _forget_one(connection: sqlite3.Connection, position: int) -> None:
    size = connection.execute(SQL["dead_bytes"], {"position": position}).fetchone()[0]
    forget(connection, [(position, size)])
