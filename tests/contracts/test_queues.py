"""The queue's rules, and what the one on disk adds: bounds, dead letters, leases ended by a restart."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ondol.model.errors import OutOfSpace, Throttled
from ondol.queue import Owned, State
from ondol.queue import QueueSize
from ondol.queues.sqlite import QueueLimits, SqliteQueue
from ondol.sqlite import Database, migrations
from ondol.testing.suites.events import EventsSuite
from ondol.testing.suites.queue import QueueSuite, call


class TestSqliteQueue(QueueSuite):
    @pytest.fixture
    async def opened(self, tmp_path):
        queues = [SqliteQueue(tmp_path / "queue.db")]
        yield queues
        await queues[-1].close()

    @pytest.fixture
    async def queue(self, opened):
        return opened[-1]

    @pytest.fixture
    async def reopen(self, opened, tmp_path):
        async def again():
            await opened[-1].close()
            opened.append(SqliteQueue(tmp_path / "queue.db"))
            return opened[-1]

        return again

    async def test_a_restart_ends_all_leases_and_what_ran_comes_first(self, queue):
        await queue.enqueue([call("1", visible_s=0.5), call("2", visible_s=500.0), call("3"), call("4", visible_s=0.2)])
        await queue.claim(1.0, limit=5, lease_s=900.0)
        await queue.retry("3", visible_s=300.0, counted=True)
        assert await queue.release(10.0, pause_s_max=600.0) == 2
        assert [item.id for item in await queue.claim(10.0, limit=5, lease_s=1.0)] == ["4", "1"]

    async def test_what_a_wrong_clock_put_into_the_far_future_is_brought_near(self, queue):
        await queue.enqueue([call("1", visible_s=1e9)])
        await queue.release(10.0, pause_s_max=300.0)
        assert await queue.next_visible_s(0.0) == 310.0


class TestSqliteEvents(EventsSuite):
    @pytest.fixture
    async def queue(self, tmp_path):
        made = SqliteQueue(tmp_path / "queue.db")
        yield made
        await made.close()

    @pytest.fixture
    def events(self, queue):
        return queue.events


OWNED = Owned(account="000000000000", region="here-1")


async def dead_of(queue):
    return [event.call.id for event in await queue.events.listed(OWNED, State.DEAD, after=0, limit=1000)]


async def test_what_a_queue_holds_is_counted(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db")
    assert await queue.size() == QueueSize(0, 0, 0)
    await queue.enqueue([call("1"), call("2", "g"), call("3")])
    await queue.claim(1.0, limit=1, lease_s=9.0)
    size = await queue.size()
    assert (size.waiting, size.waiting_bytes > 0, size.dead) == (3, True, 0), "what runs is counted too"
    await queue.dead("1", "no more", now_s=1.0)
    await queue.ack(["2", "3"])
    assert await queue.size() == QueueSize(0, 0, 1)
    await queue.close()


async def test_a_full_queue_refuses_and_takes_nothing_of_the_batch(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", QueueLimits(items_max=5, function_items_max=5))
    await queue.enqueue([call("1"), call("2"), call("3")])
    with pytest.raises(Throttled):
        await queue.enqueue([call("4"), call("5"), call("6", "g")])
    assert len(await queue.claim(1.0, limit=10, lease_s=1.0)) == 3
    await queue.ack(["1", "2"])
    await queue.enqueue([call("4"), call("5"), call("6", "g")])
    await queue.close()


async def test_one_function_cannot_fill_the_queue(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", QueueLimits(items_max=100, function_items_max=10))
    await queue.enqueue([call(f"a{n}", "a") for n in range(10)])
    with pytest.raises(Throttled):
        await queue.enqueue([call("a10", "a")])
    await queue.enqueue([call("b", "b")])
    await queue.close()


async def test_bytes_are_bounded_and_given_back(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", QueueLimits(bytes_max=3_000_000, function_bytes_max=3_000_000))
    for n in range(2):
        await queue.enqueue([call(str(n), payload=bytes(1_000_000))])
    with pytest.raises(Throttled):
        await queue.enqueue([call("3", payload=bytes(1_000_000))])
    await queue.dead("0", "given up", now_s=1.0)
    await queue.enqueue([call("3", payload=bytes(1_000_000))])
    await queue.close()


async def test_the_dead_are_bounded_in_number_and_the_oldest_go(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", QueueLimits(dead_items_max=3))
    for n in range(5):
        await queue.enqueue([call(str(n))])
        await queue.dead(str(n), "why", now_s=float(n))
    assert await dead_of(queue) == ["2", "3", "4"]
    await queue.close()


async def test_the_dead_are_bounded_in_bytes_but_the_last_of_them_is_kept(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", QueueLimits(dead_bytes_max=10_000))
    for name, size in [("1", 4000), ("2", 4000), ("3", 4000), ("4", 900_000)]:
        await queue.enqueue([call(name, payload=bytes(size))])
        await queue.dead(name, "why", now_s=1.0)
        assert await dead_of(queue) == {"1": ["1"], "2": ["1", "2"], "3": ["2", "3"], "4": ["4"]}[name]
    await queue.close()


async def test_the_dead_are_kept_for_so_long(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", QueueLimits(dead_age_s_max=100.0))
    for n in range(4):
        await queue.enqueue([call(str(n))])
        await queue.dead(str(n), "why", now_s=50.0 * n)
    assert await queue.events.forget_outdated(201.0) == 3
    assert await dead_of(queue) == ["3"]
    await queue.close()


async def test_an_end_whose_sequel_has_no_room_is_no_end(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", QueueLimits(function_items_max=2))
    await queue.enqueue([call("1", "a"), call("x", "b"), call("y", "b")])
    with pytest.raises(Throttled):
        await queue.ack(["1"], then=[call("z", "b")])
    assert {item.id for item in await queue.claim(1.0, limit=9, lease_s=1.0)} == {"1", "x", "y"}
    await queue.close()


async def test_a_callers_refusal_is_its_own_among_many_at_once(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", QueueLimits(items_max=60, function_items_max=50))
    answers = await asyncio.gather(*(queue.enqueue([call(f"{n}", "fg"[n % 2])]) for n in range(140)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None)] * 60 + [Throttled] * 80
    assert len(await queue.claim(1.0, limit=200, lease_s=1.0)) == 60
    await queue.close()


async def test_a_queue_written_before_there_were_names_is_taken_over_whole(tmp_path):
    first = migrations("ondol.queues", "queue")[:1]
    database = Database(tmp_path / "queue.db", first)
    await database.write(_write_old)
    await database.close()
    queue = SqliteQueue(tmp_path / "queue.db")
    (item,) = await queue.claim(5.0, limit=9, lease_s=1.0)
    assert item == call("w", payload=b"waits", context={"a": 1}, attempts=1, accepted_s=1.0, visible_s=2.0)
    event = await queue.events.found(OWNED, "d")
    assert (event.call.payload, event.reason, event.state, event.call.attempts) == (b"died", "why", State.DEAD, 2)
    await queue.ack(["w"])
    await queue.enqueue([call("w2")])
    await queue.close()


def _write_old(connection):
    context = msgspec.msgpack.encode({"a": 1})
    same = "'000000000000', 'here-1', 'f', NULL"
    connection.execute(
        "INSERT INTO calls (position, id, account, region, function, qualifier, context, accepted_s, visible_s, attempts, bytes)"
        f" VALUES (7, 'w', {same}, ?, 1.0, 2.0, 1, 600)",
        (context,),
    )
    connection.execute("INSERT INTO payloads VALUES ('w', ?)", (b"waits",))
    connection.execute("INSERT INTO lines VALUES ('f', 1, 600)")
    connection.execute(
        "INSERT INTO dead (id, account, region, function, qualifier, context, accepted_s, attempts, reason, payload)"
        f" VALUES ('d', {same}, ?, 1.0, 2, 'why', ?)",
        (context, b"died"),
    )


async def test_a_full_disk_refuses_new_calls_and_lets_old_ones_end(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", file_bytes_max=1024 * 1024)
    await queue.enqueue([call("1", payload=bytes(300_000))])
    with pytest.raises(OutOfSpace):
        await queue.enqueue([call("2"), call("3", payload=bytes(900_000))])
    (item,) = await queue.claim(1.0, limit=10, lease_s=60.0)
    assert item.id == "1"
    await queue.ack(["1"])
    await queue.enqueue([call("3", payload=bytes(300_000))])
    await queue.close()
