"""What every `ondol.queue.Events` does. Give the fixtures `queue` and `events`, which look at the same calls."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.model.errors import Busy, NotFound
from ondol.queue import Event, Events, Owned, Queue, State
from ondol.testing.suites.queue import call

OWNED = Owned(account="000000000000", region="here-1")
OF_F = Owned(account="000000000000", region="here-1", name="eff", function="f")


def named(name: str, function: str = "f", **more: Any) -> Any:
    """A call of a function with a name."""
    return call(name, function, name={"f": "eff", "g": "gee"}[function], **more)


async def ids(events: Events, state: State, owned: Owned = OWNED, *, after: int = 0, limit: int = 100) -> list[str]:
    return [event.call.id for event in await events.listed(owned, state, after=after, limit=limit)]


class EventsSuite:
    """Seen by their owners and nobody else, in the state they are in."""

    async def test_each_is_in_one_state(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named("1"), named("2"), named("3", visible_s=900.0), named("4", "g")])
        await queue.claim(1.0, limit=9, lease_s=60.0)
        await queue.ack(["4"])
        await queue.dead("2", "why", now_s=2.0)
        assert await ids(events, State.RUNNING) == ["1"]
        assert await ids(events, State.WAITING) == ["3"]
        assert await ids(events, State.DEAD) == ["2"]

    async def test_one_functions_are_found_by_its_name_when_it_is_gone_too(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named("1"), named("2", "g"), named("3", visible_s=9.0)])
        await queue.dead("1", "why", now_s=1.0)
        await queue.dead("2", "why", now_s=1.0)
        assert await ids(events, State.WAITING, OF_F) == ["3"]
        gone = Owned(account=OF_F.account, region=OF_F.region, name="eff", function=None)
        assert await ids(events, State.DEAD, gone) == ["1"]
        assert await ids(events, State.WAITING, gone) == []

    async def test_nobody_sees_or_touches_anothers(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named("1"), named("2")])
        await queue.dead("2", "why", now_s=1.0)
        for other in (Owned(account="1", region="here-1"), Owned(account="000000000000", region="there-1")):
            for state in State:
                assert await ids(events, state, other) == []
            for one in "12":
                with pytest.raises(NotFound):
                    await events.found(other, one)
                with pytest.raises(NotFound):
                    await events.remove(other, one)
                with pytest.raises(NotFound):
                    await events.replay(other, one, 1.0)
            assert await events.purge(other, State.DEAD) == await events.purge(other, State.WAITING) == 0
        assert await ids(events, State.WAITING) + await ids(events, State.DEAD) == ["1", "2"]

    async def test_a_listing_goes_on_where_it_ended_and_holds_no_payloads(self, queue: Queue, events: Events) -> None:
        sizes = {str(n): n * 300 for n in range(10)}
        await queue.enqueue([named(name, payload=b"x" * size) for name, size in sizes.items()])
        first = await events.listed(OWNED, State.WAITING, after=0, limit=6)
        rest = await events.listed(OWNED, State.WAITING, after=first[-1].position, limit=6)
        both = [*first, *rest]
        assert [(event.call.id, event.payload_bytes, event.call.payload) for event in both] == [
            (name, size, b"") for name, size in sizes.items()
        ]

    async def test_one_is_shown_with_all_that_is_known(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named("1", payload=b"event", context={"a": 1}, chain=3, accepted_s=4.0)])
        await queue.claim(5.0, limit=1, lease_s=60.0)
        await queue.retry("1", visible_s=6.0, counted=True, error="it failed")
        await queue.dead("1", "retries exhausted", now_s=9.0)
        event = await events.found(OWNED, "1")
        assert event == Event(
            call=named(
                "1", payload=b"event", context={"a": 1}, chain=3, accepted_s=4.0, visible_s=9.0, attempts=1, error="it failed"
            ),
            state=State.DEAD, position=event.position, payload_bytes=5, reason="retries exhausted", ended_s=9.0,
        )  # fmt: skip

    async def test_a_payload_of_any_size_is_there_whole_in_every_state(self, queue: Queue, events: Events) -> None:
        for size in (0, 1024, 1025, 200_000):
            await queue.enqueue([named(str(size), payload=bytes(size))])
            assert (await events.found(OWNED, str(size))).call.payload == bytes(size)
            await queue.dead(str(size), "why", now_s=1.0)
            event = await events.found(OWNED, str(size))
            assert (event.call.payload, event.payload_bytes) == (bytes(size), size)
            await events.replay(OWNED, str(size), 5.0)
            assert (await queue.claim(5.0, limit=1, lease_s=60.0))[0].payload == bytes(size)
            await queue.ack([str(size)])

    async def test_what_the_last_attempt_said_is_what_is_kept(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named("1")])
        await queue.retry("1", visible_s=0.0, counted=True, error="first")
        await queue.dead("1", "why", now_s=9.0, counted=True, error="last")
        call = (await events.found(OWNED, "1")).call
        assert (call.error, call.attempts) == ("last", 2)

    async def test_ending_it_twice_buries_it_once(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named("1")])
        await queue.dead("1", "first", now_s=1.0)
        await queue.dead("1", "second", now_s=2.0)
        (event,) = await events.listed(OWNED, State.DEAD, after=0, limit=9)
        assert event.reason == "first"

    async def test_a_dead_one_that_is_replayed_begins_anew(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named("1", payload=b"event", attempts=2, chain=5)])
        await queue.dead("1", "why", now_s=1.0, error="what")
        await events.replay(OWNED, "1", 100.0)
        assert await ids(events, State.DEAD) == []
        (item,) = await queue.claim(100.0, limit=9, lease_s=60.0)
        assert item == named("1", payload=b"event", accepted_s=100.0, visible_s=100.0)

    async def test_only_the_dead_are_replayed_and_what_runs_is_not_removed(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named("runs"), named("waits", visible_s=50.0)])
        await queue.claim(1.0, limit=1, lease_s=60.0)
        for one in ("runs", "waits"):
            with pytest.raises(Busy, match="only dead ones"):
                await events.replay(OWNED, one, 1.0)
        with pytest.raises(Busy, match="running"):
            await events.remove(OWNED, "runs")
        with pytest.raises(NotFound, match="ghost"):
            await events.replay(OWNED, "ghost", 1.0)

    async def test_one_is_removed_wherever_it_is(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named("waits"), named("dies")])
        await queue.dead("dies", "why", now_s=1.0)
        for one in ("waits", "dies"):
            await events.remove(OWNED, one)
            with pytest.raises(NotFound):
                await events.found(OWNED, one)
        assert not await queue.claim(9.0, limit=9, lease_s=60.0)

    async def test_a_purge_takes_one_functions_or_all_and_leaves_what_runs(self, queue: Queue, events: Events) -> None:
        await queue.enqueue([named(f"f{n}") for n in range(1200)] + [named("g", "g"), named("dead"), named("dead too", "g")])
        await queue.dead("dead", "why", now_s=1.0)
        await queue.dead("dead too", "why", now_s=1.0)
        (running,) = await queue.claim(1.0, limit=1, lease_s=60.0)
        assert running.function == "f"
        assert await events.purge(OF_F, State.WAITING) == 1199
        assert await events.purge(OF_F, State.DEAD) == 1
        assert await ids(events, State.RUNNING) == [running.id]
        assert await ids(events, State.WAITING) == ["g"]
        assert await events.purge(OWNED, State.DEAD) == 1
        assert await events.purge(OWNED, State.WAITING) == 1
