"""The durable queue in one SQLite file: `ondol.queue.Queue` for one node.

It must not know what a call does, nor when it should be tried again: that is the caller's to say.

Invariants
- A call leaves by `ack` or `dead` only (or because its owner takes it away); a claim hides it until its lease ends.
- Claims take turns between functions: one function's million calls delay another's by one claim at most, and no function
  may fill more than its share of the queue.
- Enqueueing an id that is still waiting changes nothing, so a caller unsure of the answer may ask again.
- Calls that are accepted at the same time share statements and a sync of the disk; each caller has its own answer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ondol.model.errors import OutOfSpace, Throttled
from ondol.queue import Deferred, QueueSize, share
from ondol.queues.events import SqliteEvents
from ondol.queues.rows import SQL, QueueLimits, Row, accept, bury, call_of, remove, row_of
from ondol.sqlite import Database, migrations

__all__ = ["QueueLimits", "SqliteQueue"]

#: Batches that share one set of statements; bounds how long the first waits for the last.
GROUP_MAX: Final = 1000
#: Batches that wait to be written; more are refused as Throttled.
WAITING_MAX: Final = 20_000


class SqliteQueue:
    """See the module."""

    def __init__(self, path: Path, limits: QueueLimits | None = None, *, file_bytes_max: int | None = None) -> None:
        self._limits = limits or QueueLimits()
        #: Whose turn it was last. In memory only: a restart begins a new round.
        self._last = ""
        self._database = Database(path, migrations("ondol.queues", "queue"), bytes_max=file_bytes_max)
        self._group = _Group(self._limits)
        self._group.close()
        self._waiting = 0
        self.events = SqliteEvents(self._database, self._limits)

    async def enqueue(self, items: Sequence[Deferred]) -> None:
        if self._waiting >= WAITING_MAX:
            raise Throttled("line")
        rows = [row_of(item) for item in items]
        self._waiting += 1
        try:
            refusal = await self._accepted(rows)
        finally:
            self._waiting -= 1
        if refusal is not None:
            raise refusal

    async def claim(
        self,
        now_s: float,
        *,
        limit: int,
        lease_s: float,
        held: Mapping[str, int] | None = None,
        caps: Mapping[str, int] | None = None,
    ) -> Sequence[Deferred]:
        if limit <= 0:
            return []
        round_ = _Round(now_s, limit, now_s + lease_s, held, caps or {})
        found, last = await self._database.write(lambda connection: round_.run(connection, self._last))
        self._last = last
        return [call_of(row) for row in found]

    async def ack(self, ids: Sequence[str], then: Sequence[Deferred] = ()) -> bool:
        gone, rows = list(ids), [row_of(item) for item in then]
        return await self._database.write(lambda connection: self._advance(connection, gone, rows))

    async def retry(self, id: str, *, visible_s: float, counted: bool, error: str = "") -> None:  # noqa: A002 - the port's word
        row = {"id": id, "visible_s": visible_s, "counted": int(counted), "error": error}
        await self._database.write(lambda connection: _execute(connection, "retry", row))

    async def dead(
        self,
        id: str,  # noqa: A002 - the port's word
        reason: str,
        *,
        now_s: float,
        counted: bool = False,
        error: str = "",
    ) -> None:
        facts = {"reason": reason, "error": error, "now_s": now_s, "counted": int(counted)}
        await self._database.write(lambda connection: bury(connection, id, facts, self._limits))

    async def next_visible_s(self, after_s: float) -> float | None:
        row = await self._database.read(
            lambda connection: connection.execute(SQL["next_visible"], {"after_s": after_s}).fetchone()
        )
        return None if row[0] is None else float(row[0])

    async def release(self, now_s: float, *, pause_s_max: float) -> int:
        """At the start: nobody waits for the outcome of anything, so every lease ends; how many there were.

        What lies further ahead than `pause_s_max`, the longest pause between two tries, was put there by a wrong clock: it is
        brought near.
        """

        def job(connection: sqlite3.Connection) -> int:
            released = _execute(connection, "release", {"now_s": now_s})
            _execute(connection, "hasten", {"latest_s": now_s + pause_s_max})
            return released

        return await self._database.write(job)

    @property
    def commits(self) -> int:
        """Transactions so far."""
        return self._database.commits

    async def size(self) -> QueueSize:
        """What it holds now, of all accounts."""
        return QueueSize(*await self._database.read(lambda connection: connection.execute(SQL["size"]).fetchone()))

    async def backup(self, path: Path) -> None:
        """A copy of this moment at `path`, while the node goes on."""
        await self._database.backup(path)

    async def close(self) -> None:
        await self._database.close()

    async def _accepted(self, rows: list[Row]) -> Throttled | None:
        """With whoever else is waiting; alone when there was no room on the disk for all of them together."""
        answer = self._group.add(rows)
        if answer is None:
            self._group = _Group(self._limits)
            answer = self._group.add(rows)
            assert answer is not None
            self._group.begin(self._database)
        try:
            return await answer
        except OutOfSpace:
            return (await self._database.write(lambda connection: accept(connection, [rows], self._limits)))[0]

    # On the writer's thread --------------------------------------------------------------------------------------------
    def _advance(self, connection: sqlite3.Connection, ids: Sequence[str], then: Sequence[Row]) -> bool:
        """Whoever has ended this already has said what follows, too."""
        gone = remove(connection, ids)
        if gone and then:
            (refusal,) = accept(connection, [then], self._limits)
            if refusal is not None:
                raise refusal
        return gone > 0


class _Group:
    """Batches that are accepted by one job of the writer. Open until the writer takes it up, or it is full."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._open = True
        self._batches: list[list[Row]] = []
        self._answers: list[asyncio.Future[Throttled | None]] = []

    def add(self, rows: list[Row]) -> asyncio.Future[Throttled | None] | None:
        """Its answer: None, or why it was not taken. No answer at all when it is too late for this group."""
        with self._lock:
            if not self._open or len(self._batches) >= GROUP_MAX:
                return None
            self._batches.append(rows)
            answer: asyncio.Future[Throttled | None] = asyncio.get_running_loop().create_future()
            self._answers.append(answer)
            return answer

    def close(self) -> None:
        with self._lock:
            self._open = False

    def begin(self, database: Database) -> None:
        self._done = asyncio.ensure_future(database.write(self._run))
        self._done.add_done_callback(self._settle)

    def _settle(self, done: asyncio.Future[list[Throttled | None]]) -> None:
        """Whoever asked may have gone; what was accepted is accepted all the same."""
        self.close()
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        for at, answer in enumerate(self._answers):
            if answer.done():
                continue
            if error is None:
                answer.set_result(done.result()[at])
            else:
                answer.set_exception(error)

    def _run(self, connection: sqlite3.Connection) -> list[Throttled | None]:
        self.close()
        return accept(connection, self._batches, self._limits)


class _Round:
    """One claim: visible calls of all functions in turn, the same number of each as far as there are any and it may."""

    def __init__(
        self, now_s: float, limit: int, until_s: float, held: Mapping[str, int] | None, caps: Mapping[str, int]
    ) -> None:
        self._now_s = now_s
        self._limit = limit
        self._until_s = until_s
        self._held = held
        self._caps = caps

    def run(self, connection: sqlite3.Connection, last: str) -> tuple[list[tuple[Any, ...]], str]:
        """What was claimed, and whose turn it was last."""
        found: list[tuple[Any, ...]] = []
        given: dict[str, int] = {}
        ready = [row[0] for row in connection.execute(SQL["ready"], {"now_s": self._now_s, "after": last})]
        while ready and len(found) < self._limit:
            turn = max(1, (self._limit - len(found)) // len(ready))
            more = []
            for function in ready:
                most = min(turn, self._may(function, given.get(function, 0), self._limit - len(found)))
                if most <= 0:
                    continue
                rows = self._take(connection, function, most)
                found += rows
                given[function] = given.get(function, 0) + len(rows)
                last = function
                if len(rows) == most:
                    more.append(function)
            ready = more
        return found, last

    def _may(self, function: str, given: int, free: int) -> int:
        under_way = given + (self._held.get(function, 0) if self._held is not None else 0)
        most = free if self._held is None else share(free, under_way)
        cap = self._caps.get(function)
        return most if cap is None else min(most, cap - under_way)

    def _take(self, connection: sqlite3.Connection, function: str, most: int) -> list[tuple[Any, ...]]:
        bounds = {"function": function, "now_s": self._now_s, "limit": most}
        rows = connection.execute(SQL["heads"], bounds).fetchall()
        connection.executemany(SQL["lease"], [{"id": row[0], "until_s": self._until_s} for row in rows])
        return rows


def _execute(connection: sqlite3.Connection, name: str, bound: Mapping[str, Any]) -> int:
    return connection.execute(SQL[name], bound).rowcount
