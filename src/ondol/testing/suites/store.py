"""What every `ondol.store.Store` does. Give the fixture `store`; for `DurableStoreSuite` also `reopen`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ondol.model.errors import RevisionMismatch
from ondol.store import Change, Delete, Put, Store

_WAIT_S_MAX = 20.0


async def following(store: Store, since: int, count: int) -> list[Change]:
    """The next `count` changes."""
    changes = store.watch(since)
    found: list[Change] = []
    async with asyncio.timeout(_WAIT_S_MAX):
        async for change in changes:
            found.append(change)
            if len(found) == count:
                break
    await changes.aclose()  # type: ignore[attr-defined]  # every implementation is a generator
    return found


class StoreSuite:
    """Documents, revisions and followers."""

    async def test_what_was_put_is_got(self, store: Store) -> None:
        number = await store.commit([Put("a/1", {"n": 1, "deep": {"list": [1, 2.5, "x", None, True]}})])
        document = await store.get("a/1")
        assert document is not None
        assert document.value == {"n": 1, "deep": {"list": [1, 2.5, "x", None, True]}}
        assert document.revision == number

    async def test_what_is_not_there_is_none(self, store: Store) -> None:
        assert await store.get("a/1") is None

    async def test_operations_of_a_commit_get_consecutive_numbers(self, store: Store) -> None:
        before = await store.commit([Put("a", {})])
        last = await store.commit([Put("b", {}), Delete("a"), Put("c", {})])
        assert last == before + 3
        assert [change.number for change in await following(store, before, 3)] == [last - 2, last - 1, last]

    async def test_a_stale_revision_changes_nothing(self, store: Store) -> None:
        first = await store.commit([Put("a", {"n": 1})])
        await store.commit([Put("a", {"n": 2})])
        with pytest.raises(RevisionMismatch):
            await store.commit([Put("b", {}), Put("a", {"n": 3}, if_revision=first)])
        document = await store.get("a")
        assert document is not None
        assert document.value == {"n": 2}
        assert await store.get("b") is None

    async def test_revision_zero_means_only_if_absent(self, store: Store) -> None:
        await store.commit([Put("a", {}, if_revision=0)])
        with pytest.raises(RevisionMismatch):
            await store.commit([Put("a", {}, if_revision=0)])

    async def test_a_removal_asks_for_its_revision_too(self, store: Store) -> None:
        number = await store.commit([Put("a", {})])
        with pytest.raises(RevisionMismatch):
            await store.commit([Delete("a", if_revision=number + 7)])
        await store.commit([Delete("a", if_revision=number)])
        assert await store.get("a") is None

    async def test_removing_what_is_not_there_is_no_error(self, store: Store) -> None:
        await store.commit([Delete("nothing")])

    async def test_of_many_that_expect_the_same_revision_one_wins(self, store: Store) -> None:
        number = await store.commit([Put("a", {"winner": -1})])
        tries = [store.commit([Put("a", {"winner": n}, if_revision=number)]) for n in range(20)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, int) for result in results) == 1
        assert sum(isinstance(result, RevisionMismatch) for result in results) == 19

    async def test_a_failing_commit_does_not_take_its_neighbours_along(self, store: Store) -> None:
        await store.commit([Put("taken", {})])
        tries = [store.commit([Put(f"k/{n}", {}), *([Put("taken", {}, 0)] if n % 2 else [])]) for n in range(20)]
        await asyncio.gather(*tries, return_exceptions=True)
        assert [d.key for d in await store.list("k/")] == sorted(f"k/{n}" for n in range(0, 20, 2))

    async def test_a_list_is_in_key_order_and_pages_by_key(self, store: Store) -> None:
        keys = [f"x/{n:03d}" for n in range(25)]
        await store.commit([Put(key, {}) for key in reversed(keys)])
        await store.commit([Put("w", {}), Put("x", {}), Put("x0", {}), Put("y/1", {})])
        found, after = [], ""
        while page := await store.list("x/", after=after, limit=10):
            found += [document.key for document in page]
            after = page[-1].key
        assert found == keys

    async def test_a_snapshot_is_everything_and_its_newest_number(self, store: Store) -> None:
        await store.commit([Put("a", {"n": 1}), Put("b", {"n": 2})])
        last = await store.commit([Delete("a"), Put("c", {"n": 3})])
        number, documents = await store.snapshot()
        assert number == last
        assert {document.key: document.value for document in documents} == {"b": {"n": 2}, "c": {"n": 3}}

    async def test_a_follower_sees_every_change_from_where_it_stands(self, store: Store) -> None:
        since = await store.commit([Put("a", {"n": 1})])
        await store.commit([Put("b", {"n": 2}), Delete("a")])
        assert await following(store, since, 2) == [
            Change(since + 1, "b", {"n": 2}),
            Change(since + 2, "a", None),
        ]

    async def test_a_waiting_follower_is_woken(self, store: Store) -> None:
        number, _ = await store.snapshot()
        waiting = asyncio.ensure_future(following(store, number, 3))
        await asyncio.sleep(0)
        for n in range(3):
            await store.commit([Put(f"k/{n}", {"n": n})])
        assert [change.key for change in await waiting] == ["k/0", "k/1", "k/2"]

    async def test_a_snapshot_and_its_changes_are_the_whole_while_others_write(self, store: Store) -> None:
        async def write(writer: int) -> None:
            for n in range(30):
                await store.commit([Put(f"{writer}/{n % 7}", {"n": n})])

        writing = asyncio.gather(*(write(writer) for writer in range(4)))
        await asyncio.sleep(0)
        number, documents = await store.snapshot()
        seen = {document.key: document.value for document in documents}
        await writing
        last, truth = await store.snapshot()
        for change in await following(store, number, last - number) if last > number else []:
            assert isinstance(change.value, dict)
            seen[change.key] = change.value
        assert seen == {document.key: document.value for document in truth}

    async def test_what_a_caller_does_to_its_values_later_changes_nothing(self, store: Store) -> None:
        value = {"n": 1}
        await store.commit([Put("a", value)])
        value["n"] = 2
        document = await store.get("a")
        assert document is not None
        assert document.value == {"n": 1}


class DurableStoreSuite(StoreSuite):
    """What is on disk stays. `reopen` closes the store and opens it again."""

    async def test_a_commit_is_there_after_a_restart(self, store: Store, reopen: Callable[[], Awaitable[Store]]) -> None:
        last = await store.commit([Put("a", {"n": 1}), Put("b", {}), Delete("b")])
        again = await reopen()
        number, documents = await again.snapshot()
        assert number == last
        assert [(document.key, document.value) for document in documents] == [("a", {"n": 1})]

    async def test_numbers_go_on_after_a_restart(self, store: Store, reopen: Callable[[], Awaitable[Store]]) -> None:
        last = await store.commit([Put("a", {}), Delete("a")])
        again = await reopen()
        assert await again.commit([Put("b", {})]) == last + 1

    async def test_a_follower_goes_on_after_a_restart(self, store: Store, reopen: Callable[[], Awaitable[Store]]) -> None:
        since = await store.commit([Put("a", {})])
        await store.commit([Put("b", {})])
        again = await reopen()
        assert [change.key for change in await following(again, since, 1)] == ["b"]
