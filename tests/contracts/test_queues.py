"""The queue's rules, and what the one on disk adds: bounds, dead letters, leases ended by a restart."""

from __future__ import annotations

import pytest

from ondol.model.errors import OutOfSpace, Throttled
from ondol.queue import QueueSize
from ondol.queues.sqlite import QueueLimits, SqliteQueue
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

    async def test_what_was_given_up_is_kept_with_its_reason(self, queue):
        await queue.enqueue([call("1", payload=b"event", attempts=2), call("2", "other")])
        await queue.dead("1", "timed out three times")
        await queue.dead("1", "again")
        (letter,) = await queue.dead_letters("f")
        assert (letter.call.id, letter.call.payload, letter.call.attempts) == ("1", b"event", 2)
        assert letter.reason == "timed out three times"
        assert await queue.dead_letters("other") == []

    async def test_a_restart_of_the_node_may_end_all_leases(self, queue):
        await queue.enqueue([call("1"), call("2", visible_s=500.0), call("3")])
        await queue.claim(1.0, limit=5, lease_s=900.0)
        await queue.retry("3", visible_s=300.0, counted=True)
        assert await queue.release(10.0) == 1
        assert [item.id for item in await queue.claim(10.0, limit=5, lease_s=1.0)] == ["1"]


async def test_what_a_queue_holds_is_counted(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db")
    assert await queue.size() == QueueSize(0, 0, 0)
    await queue.enqueue([call("1"), call("2", "g"), call("3")])
    await queue.claim(1.0, limit=1, lease_s=9.0)
    size = await queue.size()
    assert (size.waiting, size.waiting_bytes > 0, size.dead) == (3, True, 0), "what runs is counted too"
    await queue.dead("1", "no more")
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
    await queue.dead("0", "given up")
    await queue.enqueue([call("3", payload=bytes(1_000_000))])
    await queue.close()


async def test_dead_letters_are_bounded_and_the_oldest_go(tmp_path):
    queue = SqliteQueue(tmp_path / "queue.db", QueueLimits(dead_items_max=3))
    for n in range(5):
        await queue.enqueue([call(str(n))])
        await queue.dead(str(n), "why")
    assert [letter.call.id for letter in await queue.dead_letters("f")] == ["2", "3", "4"]
    await queue.close()


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
