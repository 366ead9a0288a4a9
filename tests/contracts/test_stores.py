"""Every store keeps the same rules; what only the one on disk promises follows."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from ondol.model.errors import OutOfSpace, RevisionMismatch, Unavailable
from ondol.store import Delete, Put
from ondol.stores.sqlite import SqliteStore
from ondol.testing.store import MemoryStore
from ondol.testing.suites.store import DurableStoreSuite, StoreSuite, following


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    async def store(self):
        store = MemoryStore()
        yield store
        await store.close()


class TestSqliteStore(DurableStoreSuite):
    @pytest.fixture
    async def opened(self, tmp_path):
        stores = [SqliteStore(tmp_path / "catalog.db", history_changes_max=500)]
        yield stores
        await stores[-1].close()

    @pytest.fixture
    async def store(self, opened):
        return opened[-1]

    @pytest.fixture
    async def reopen(self, opened, tmp_path):
        async def again():
            await opened[-1].close()
            opened.append(SqliteStore(tmp_path / "catalog.db"))
            return opened[-1]

        return again

    async def test_a_follower_that_fell_behind_is_told(self, store):
        since = await store.commit([Put("a", {})])
        for n in range(6):
            await store.commit([Put(f"k/{n}", {}), *(Delete(f"k/{n}") for _ in range(99))])
        with pytest.raises(ValueError, match="not known"):
            await following(store, since, 1)
        number, _ = await store.snapshot()
        assert len(await following(store, number - 500, 500)) == 500

    async def test_a_follower_from_another_life_is_told(self, store):
        with pytest.raises(ValueError, match="not known"):
            await following(store, 1, 1)

    async def test_many_commits_at_once_share_transactions_and_keep_their_numbers(self, store):
        numbers = await asyncio.gather(*(store.commit([Put(f"k/{n}", {"n": n})]) for n in range(400)))
        assert sorted(numbers) == list(range(1, 401))
        assert [change.value["n"] for change in await following(store, 0, 400)] == list(range(400))

    async def test_a_caller_that_goes_away_does_not_undo_its_commit(self, store):
        waiting = asyncio.ensure_future(store.commit([Put("a", {"n": 1})]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await store.commit([Put("b", {})])  # comes after it
        assert (await store.get("a")).value == {"n": 1}

    async def test_a_backup_is_one_file_with_everything(self, store, tmp_path):
        await store.commit([Put(f"k/{n}", {"n": n}) for n in range(100)])
        await store.backup(tmp_path / "copy.db")
        await store.commit([Put("later", {})])
        copy = SqliteStore(tmp_path / "copy.db")
        number, documents = await copy.snapshot()
        await copy.close()
        assert (number, len(documents)) == (100, 100)
        assert not list(tmp_path.glob(".copy*"))

    async def test_a_backup_to_nowhere_says_so(self, store, tmp_path):
        with pytest.raises(Unavailable, match="missing"):
            await store.backup(tmp_path / "missing" / "copy.db")

    async def test_the_file_is_its_owners_alone(self, store, tmp_path):
        await store.commit([Put("a", {})])
        assert {oct(path.stat().st_mode & 0o077) for path in tmp_path.glob("catalog.db*")} == {"0o0"}


async def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path):
    store = SqliteStore(tmp_path / "catalog.db", bytes_max=256 * 1024)
    kept = await store.commit([Put("kept", {"n": 1})])
    with pytest.raises(OutOfSpace, match="No space is left"):
        await store.commit([Put(f"big/{n}", {"text": "x" * 60_000}) for n in range(10)])
    assert await store.list("big/") == []
    assert await store.commit([Put("small", {})]) == kept + 1
    await store.close()


async def test_what_fits_is_written_although_its_neighbour_does_not_fit(tmp_path):
    store = SqliteStore(tmp_path / "catalog.db", bytes_max=256 * 1024)
    await store.commit([Put("taken", {})])
    results = await asyncio.gather(
        store.commit([Put("small/1", {})]),
        store.commit([Put("big", {"text": "x" * 900_000})]),
        store.commit([Put("taken", {}, 0)]),
        store.commit([Put("small/2", {})]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, OutOfSpace, RevisionMismatch, int]
    assert len(await store.list("small/")) == 2
    await store.close()


async def test_a_newer_format_is_refused_untouched(tmp_path):
    path = tmp_path / "catalog.db"
    await SqliteStore(path).close()
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    before = path.read_bytes()
    with pytest.raises(Unavailable, match="format 99, and this release knows formats up to 1"):
        SqliteStore(path)
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "catalog.db"
    path.write_bytes(b"something else entirely\n" * 100)
    with pytest.raises(Unavailable, match="damaged"):
        SqliteStore(path)
    assert path.read_bytes() == b"something else entirely\n" * 100


async def test_a_closed_store_says_so_and_ends_its_followers(tmp_path):
    store = SqliteStore(tmp_path / "catalog.db")
    changes = store.watch(0)
    waiting = asyncio.ensure_future(anext(changes, "ended"))
    await store.commit([])
    await store.close()
    assert await waiting == "ended"
    with pytest.raises(Unavailable, match="closed"):
        await store.get("a")
