"""What every `ondol.queue.Queue` does. Give the fixtures `queue` and `reopen` (closes it and opens it again)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from ondol.queue import Deferred, Queue


def call(id: str, function: str = "f", *, visible_s: float = 0.0, **more: Any) -> Deferred:  # noqa: A002
    """A call fit for a queue."""
    facts: dict[str, Any] = {
        "account": "000000000000",
        "region": "here-1",
        "qualifier": None,
        "payload": b"{}",
        "context": {},
        "accepted_s": visible_s,
    }
    return Deferred(id=id, function=function, visible_s=visible_s, **facts | more)


class QueueSuite:
    """Accepted, claimed, and ended by one of three words."""

    async def test_what_was_accepted_is_claimed_as_it_was(self, queue: Queue) -> None:
        facts: dict[str, Any] = {"qualifier": "7", "context": {"client": {"x": [1, "y"]}}, "accepted_s": 4.5}
        items = [call(str(size), payload=(bytes(range(256)) * 4097)[:size], **facts) for size in (0, 256, 1024, 1025, 1048576)]
        await queue.enqueue(items)
        assert list(await queue.claim(10.0, limit=5, lease_s=60.0)) == items

    async def test_what_is_claimed_is_hidden_until_its_lease_ends(self, queue: Queue) -> None:
        await queue.enqueue([call("1")])
        assert len(await queue.claim(10.0, limit=5, lease_s=60.0)) == 1
        assert not await queue.claim(69.0, limit=5, lease_s=60.0)
        assert [item.id for item in await queue.claim(70.0, limit=5, lease_s=60.0)] == ["1"]

    async def test_nobody_gets_what_another_has_claimed(self, queue: Queue) -> None:
        await queue.enqueue([call(str(n)) for n in range(100)])
        claims = await asyncio.gather(*(queue.claim(1.0, limit=9, lease_s=60.0) for _ in range(12)))
        ids = [item.id for claim in claims for item in claim]
        assert sorted(ids, key=int) == [str(n) for n in range(100)]

    async def test_the_future_is_not_claimed(self, queue: Queue) -> None:
        await queue.enqueue([call("later", visible_s=100.0), call("now", visible_s=5.0)])
        assert [item.id for item in await queue.claim(99.0, limit=5, lease_s=1000.0)] == ["now"]
        assert [item.id for item in await queue.claim(100.0, limit=5, lease_s=1000.0)] == ["later"]

    async def test_the_oldest_come_first(self, queue: Queue) -> None:
        await queue.enqueue([call("b", visible_s=2.0), call("a", visible_s=1.0), call("c", visible_s=2.0)])
        assert [item.id for item in await queue.claim(9.0, limit=5, lease_s=60.0)] == ["a", "b", "c"]

    async def test_what_is_acknowledged_is_gone(self, queue: Queue) -> None:
        await queue.enqueue([call("1"), call("2")])
        await queue.claim(1.0, limit=5, lease_s=1.0)
        await queue.ack(["1", "2", "never was"])
        assert not await queue.claim(100.0, limit=5, lease_s=1.0)
        assert await queue.next_visible_s(0.0) is None

    async def test_a_retry_waits_and_counts_if_asked(self, queue: Queue) -> None:
        await queue.enqueue([call("1")])
        await queue.claim(1.0, limit=1, lease_s=60.0)
        await queue.retry("1", visible_s=50.0, counted=True)
        assert not await queue.claim(49.0, limit=1, lease_s=60.0)
        (item,) = await queue.claim(50.0, limit=1, lease_s=60.0)
        assert (item.id, item.attempts) == ("1", 1)
        await queue.retry("1", visible_s=60.0, counted=False)
        (item,) = await queue.claim(60.0, limit=1, lease_s=60.0)
        assert item.attempts == 1

    async def test_refusals_are_counted_until_the_function_was_tried_and_the_last_error_is_kept(self, queue: Queue) -> None:
        await queue.enqueue([call("1")])
        for counted, then in [(False, (0, 1, "no room")), (False, (0, 2, "no room")), (True, (1, 0, "it failed"))]:
            await queue.claim(1.0, limit=1, lease_s=0.0)
            await queue.retry("1", visible_s=1.0, counted=counted, error=then[2])
            (item,) = await queue.claim(1.0, limit=1, lease_s=0.0)
            assert (item.attempts, item.refusals, item.error) == then

    async def test_what_follows_is_accepted_in_one_step_with_the_end_and_only_once(self, queue: Queue) -> None:
        await queue.enqueue([call("1")])
        await queue.claim(1.0, limit=1, lease_s=60.0)
        assert await queue.ack(["1"], then=[call("told", "other", chain=1)]) is True
        assert await queue.ack(["1"], then=[call("told again", "other")]) is False
        (item,) = await queue.claim(1.0, limit=5, lease_s=60.0)
        assert (item.id, item.function, item.chain) == ("told", "other", 1)

    async def test_what_is_dead_is_not_claimed(self, queue: Queue) -> None:
        await queue.enqueue([call("1")])
        await queue.claim(1.0, limit=1, lease_s=1.0)
        await queue.dead("1", "it failed three times", now_s=5.0)
        assert not await queue.claim(100.0, limit=1, lease_s=1.0)

    async def test_one_functions_thousands_do_not_delay_anothers(self, queue: Queue) -> None:
        await queue.enqueue([call(f"busy{n}", "busy", visible_s=1.0) for n in range(2000)])
        await queue.enqueue([call(f"quiet{n}", "quiet", visible_s=2.0) for n in range(3)])
        counts = Counter(item.function for item in await queue.claim(10.0, limit=10, lease_s=60.0))
        assert counts == {"busy": 7, "quiet": 3}

    async def test_turns_are_taken_even_one_by_one(self, queue: Queue) -> None:
        for function in "abc":
            await queue.enqueue([call(f"{function}{n}", function) for n in range(5)])
        claimed = [(await queue.claim(1.0, limit=1, lease_s=60.0))[0].function for _ in range(6)]
        assert Counter(claimed) == {"a": 2, "b": 2, "c": 2}

    async def test_a_function_alone_leaves_as_many_slots_as_it_takes(self, queue: Queue) -> None:
        await queue.enqueue([call(str(n)) for n in range(30)])
        assert len(await queue.claim(1.0, limit=10, lease_s=60.0, held={})) == 5
        assert len(await queue.claim(1.0, limit=5, lease_s=60.0, held={"f": 5})) == 0
        assert len(await queue.claim(1.0, limit=8, lease_s=60.0, held={"f": 2})) == 3

    async def test_whoever_has_nothing_under_way_gets_the_last_slot(self, queue: Queue) -> None:
        await queue.enqueue([call(f"busy{n}", "busy") for n in range(30)])
        await queue.enqueue([call("quiet", "quiet")])
        claimed = await queue.claim(1.0, limit=1, lease_s=60.0, held={"busy": 9})
        assert [item.function for item in claimed] == ["quiet"]

    async def test_no_more_of_a_function_than_its_cap_is_given(self, queue: Queue) -> None:
        await queue.enqueue([call(f"a{n}", "a") for n in range(9)] + [call(f"b{n}", "b") for n in range(9)])
        counts = Counter(
            item.function
            for item in await queue.claim(1.0, limit=12, lease_s=60.0, held={"a": 1}, caps={"a": 3, "b": 0, "c": 1})
        )
        assert counts == {"a": 2}

    async def test_batches_that_come_together_are_each_accepted_or_refused(self, queue: Queue) -> None:
        batches = [[call(f"{n}"), call(f"{n} too", "g")] for n in range(50)]
        await asyncio.gather(*(queue.enqueue(batch) for batch in batches))
        claimed = await queue.claim(1.0, limit=200, lease_s=60.0)
        assert sorted(item.id for item in claimed) == sorted(item.id for batch in batches for item in batch)

    async def test_accepting_the_same_call_again_changes_nothing(self, queue: Queue) -> None:
        await queue.enqueue([call("1", payload=b"first")])
        await queue.enqueue([call("1", payload=b"again"), call("2")])
        claimed = await queue.claim(1.0, limit=5, lease_s=60.0)
        assert sorted((item.id, item.payload) for item in claimed) == [("1", b"first"), ("2", b"{}")]

    async def test_the_next_time_something_is_visible_is_known(self, queue: Queue) -> None:
        assert await queue.next_visible_s(0.0) is None
        await queue.enqueue([call("1", visible_s=30.0), call("2", visible_s=20.0)])
        assert await queue.next_visible_s(0.0) == 20.0
        assert await queue.next_visible_s(20.0) == 30.0
        await queue.claim(25.0, limit=5, lease_s=100.0)
        assert await queue.next_visible_s(25.0) == 30.0
        assert await queue.next_visible_s(30.0) == 125.0

    async def test_everything_waiting_is_there_after_a_restart(
        self, queue: Queue, reopen: Callable[[], Awaitable[Queue]]
    ) -> None:
        await queue.enqueue([call("waiting"), call("claimed"), call("done")])
        await queue.claim(1.0, limit=5, lease_s=10.0)
        await queue.retry("waiting", visible_s=3.0, counted=True)
        await queue.ack(["done"])
        again = await reopen()
        items = await again.claim(11.0, limit=5, lease_s=10.0)
        assert {item.id: item.attempts for item in items} == {"waiting": 1, "claimed": 0}
