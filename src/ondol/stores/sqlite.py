"""The catalog in one SQLite file: `ondol.store.Store` for one node.

It must not know what the documents mean. Values are kept as msgpack. The history that `watch` reads is bounded by count; a
follower that fell further behind is told so and starts again from a snapshot.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ondol.model.errors import RevisionMismatch
from ondol.sqlite import Database, migrations, statements
from ondol.store import Change, Delete, Document, Packed, Put

#: Changes kept for followers; a front that was away for longer reads a snapshot.
HISTORY_CHANGES_MAX = 10_000
#: Changes handed to a follower per read.
_STRIDE = 500

_SQL = statements("ondol.stores", "catalog.sql")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class SqliteStore:
    """See the module."""

    def __init__(self, path: Path, *, history_changes_max: int = HISTORY_CHANGES_MAX, bytes_max: int | None = None) -> None:
        self._history_changes_max = history_changes_max
        self._followers: set[_Follower] = set()
        self._followers_lock = threading.Lock()
        self._closed = False
        scripts = migrations("ondol.stores", "catalog")
        self._database = Database(path, scripts, on_commit=self._wake, bytes_max=bytes_max)

    async def get(self, key: str) -> Document | None:
        row = await self._database.read(lambda connection: connection.execute(_SQL["get"], {"key": key}).fetchone())
        return None if row is None else _document(row)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[Document]:
        bounds = {"first": prefix, "after": after, "limit": limit}
        rows = await self._database.read(lambda connection: connection.execute(_SQL["page"], bounds).fetchall())
        return [_document(row) for row in rows if row[0].startswith(prefix)]

    async def commit(self, operations: Sequence[Put | Delete]) -> int:
        steps = [_Step(operation) for operation in operations]
        return await self._database.write(lambda connection: self._apply(connection, steps))

    async def snapshot(self) -> tuple[int, Sequence[Packed]]:
        number, rows = await self._database.read(_everything)
        return number, [Packed(*row) for row in rows]

    async def watch(self, since: int) -> AsyncIterator[Change]:
        follower = _Follower()
        with self._followers_lock:
            self._followers.add(follower)
        try:
            while not self._closed:
                follower.changed.clear()
                changes = await self._database.read(lambda connection: _since(connection, since))  # noqa: B023
                for change in changes:
                    yield change
                    since = change.number
                if not changes:
                    await follower.changed.wait()
        finally:
            with self._followers_lock:
                self._followers.discard(follower)

    async def backup(self, path: Path) -> None:
        """A copy of this moment at `path`, while the node goes on."""
        await self._database.backup(path)

    async def close(self) -> None:
        """Followers end; what was asked before is done first."""
        self._closed = True
        await self._database.close()
        self._wake()

    def _wake(self) -> None:
        with self._followers_lock:
            followers = list(self._followers)
        for follower in followers:
            follower.wake()

    def _apply(self, connection: sqlite3.Connection, steps: Sequence[_Step]) -> int:
        number: int = connection.execute(_SQL["newest"]).fetchone()[0]
        for step in steps:
            if step.if_revision is not None:
                _check(connection, step)
            number += 1
            row = {"key": step.key, "value": step.value, "number": number}
            connection.execute(_SQL["delete" if step.value is None else "put"], row)
            connection.execute(_SQL["note"], row)
        connection.execute(_SQL["prune"], {"number": number - self._history_changes_max})
        return number


class _Step:
    """An operation as it is written; encoded on the caller's side so that the writer only writes."""

    __slots__ = ("if_revision", "key", "value")

    def __init__(self, operation: Put | Delete) -> None:
        self.key = operation.key
        self.if_revision = operation.if_revision
        self.value = _encode(operation.value) if isinstance(operation, Put) else None


class _Follower:
    """Someone in this process who waits for the next change, on its own loop."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        with suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self.changed.set)


def _check(connection: sqlite3.Connection, step: _Step) -> None:
    row = connection.execute(_SQL["revision"], {"key": step.key}).fetchone()
    found = 0 if row is None else row[0]
    if found != step.if_revision:
        raise RevisionMismatch(f"{step.key} is at revision {found}, not at {step.if_revision}: read it again")


def _everything(connection: sqlite3.Connection) -> tuple[int, Sequence[tuple[str, bytes, int]]]:
    number = connection.execute(_SQL["newest"]).fetchone()[0]
    return number, connection.execute(_SQL["everything"]).fetchall()


def _since(connection: sqlite3.Connection, since: int) -> Sequence[Change]:
    newest = connection.execute(_SQL["newest"]).fetchone()[0]
    oldest = connection.execute(_SQL["oldest"]).fetchone()[0]
    if since > newest or (oldest is not None and since < oldest - 1):
        raise ValueError(f"changes since {since} are not known; those since {(oldest or 1) - 1} to {newest} are")
    rows = connection.execute(_SQL["since"], {"number": since, "limit": _STRIDE})
    return [Change(number, key, None if value is None else _decode(value)) for number, key, value in rows]


def _document(row: tuple[str, bytes, int]) -> Document:
    return Document(row[0], _decode(row[1]), row[2])
