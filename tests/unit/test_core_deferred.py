"""The dispatcher over a real queue in virtual time: at least once, or ended with its reason."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from ondol.core import deferred as module
from ondol.core.deferred import LEASE_S, RUNNING_MAX, Dispatcher
from ondol.model.errors import NotFound, OutOfSpace, Unavailable
from ondol.queue import Deferred
from ondol.testing.pool import LoopClock, virtually


class Memory:
    """A queue in memory with leases; `fails` names methods that raise."""

    def __init__(self, clock):
        self.clock, self.waiting, self.buried, self.fails, self.claims = clock, {}, {}, set(), 0

    def _check(self, method):
        if method in self.fails:
            raise OutOfSpace("the disk is full")

    async def enqueue(self, items):
        for each in items:
            self.waiting[each.id] = [each.visible_s, each]

    async def claim(self, now_s, *, limit, lease_s):
        self._check("claim")
        self.claims += 1
        found = []
        for entry in list(self.waiting.values()):
            if entry[0] <= now_s and len(found) < limit:
                entry[0] = now_s + lease_s
                found.append(entry[1])
        return found

    async def ack(self, ids):
        self._check("ack")
        for each in ids:
            del self.waiting[each]

    async def retry(self, id, *, visible_s, counted):
        _, was = self.waiting[id]
        fields = {name: getattr(was, name) for name in was.__slots__}
        self.waiting[id] = [visible_s, Deferred(**fields | {"attempts": was.attempts + counted})]

    async def dead(self, id, reason):
        del self.waiting[id]
        self.buried[id] = reason

    async def next_visible_s(self):
        return min((entry[0] for entry in self.waiting.values()), default=None)


def item(name="i", function="f", visible_s=0.0):
    return Deferred(
        id=name, account="1", region="r", function=function, qualifier=None, payload=b"", context={},
        accepted_s=LoopClock().wall_s(), visible_s=visible_s,
    )  # fmt: skip


@asynccontextmanager
async def dispatching(run, queue=None):
    queue = queue or Memory(LoopClock())
    dispatcher = Dispatcher(queue, run, LoopClock())
    serving = asyncio.create_task(dispatcher.serve())
    try:
        yield queue, dispatcher
    finally:
        await dispatcher.close()
        async with asyncio.timeout(60):
            await serving


async def put(queue, dispatcher, *items):
    await queue.enqueue(items)
    dispatcher.woken()
    await asyncio.sleep(0.1)


@virtually
async def test_a_call_that_succeeds_is_run_once_and_gone():
    runs = []

    async def run(each):
        runs.append(each.id)
        return True

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, item("a"), item("b"))
        assert not queue.waiting
        await asyncio.sleep(2 * LEASE_S)
    assert sorted(runs) == ["a", "b"]


@virtually
async def test_a_failing_function_is_tried_three_times_and_then_it_ends():
    at = []

    async def run(_each):
        at.append(round(asyncio.get_running_loop().time()))
        return False

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        await asyncio.sleep(1000)
        assert queue.buried == {"i": "retries exhausted"}
    assert [later - at[0] for later in at] == [0, 60, 180]


@virtually
async def test_a_function_that_is_gone_ends_it():
    async def run(_each):
        raise NotFound("function", "f")

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        assert queue.buried == {"i": "the function is gone"}


@virtually
async def test_a_refused_call_is_tried_until_it_is_taken():
    tries = []

    async def run(each):
        tries.append(each.attempts)
        if len(tries) < 12:
            raise Unavailable("no front is there")
        return True

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        await asyncio.sleep(4000)
        assert not queue.waiting
    assert tries == [0] * 12


@virtually
async def test_a_refused_call_ends_after_six_hours():
    async def run(_each):
        raise Unavailable("no")

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        await asyncio.sleep(7 * 3600)
        assert queue.buried == {"i": "event age exceeded"}


@virtually
async def test_a_call_that_trips_the_dispatcher_itself_ends_too_and_others_go_on():
    done = []

    async def run(each):
        if each.id == "poison":
            raise KeyError("a mistake")
        done.append(each.id)
        return True

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, item("poison"), item("good"))
        assert done == ["good"]
        await asyncio.sleep(7 * 3600)
        assert queue.buried == {"poison": "event age exceeded"}


@virtually
async def test_a_queue_that_fails_is_asked_again():
    async def run(_each):
        return True

    async with dispatching(run) as (queue, dispatcher):
        queue.fails.add("claim")
        await put(queue, dispatcher, item())
        await asyncio.sleep(60)
        assert queue.waiting
        queue.fails.clear()
        await asyncio.sleep(60)
        assert not queue.waiting


@virtually
async def test_a_success_that_cannot_be_written_down_is_run_again_after_its_lease():
    runs = []

    async def run(each):
        runs.append(each.id)
        return True

    async with dispatching(run) as (queue, dispatcher):
        queue.fails.add("ack")
        await put(queue, dispatcher, item())
        queue.fails.clear()
        await asyncio.sleep(LEASE_S + 60)
        assert not queue.waiting
    assert runs == ["i", "i"]


@virtually
async def test_no_more_run_at_once_than_may():
    running, most = 0, 0

    async def run(_each):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(5)
        running -= 1
        return True

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, *(item(str(number)) for number in range(3 * RUNNING_MAX)))
        await asyncio.sleep(60)
        assert not queue.waiting
    assert most == RUNNING_MAX


@virtually
async def test_what_runs_when_it_is_closed_comes_back_and_nothing_is_claimed_any_more():
    async def run(_each):
        await asyncio.Event().wait()

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        await dispatcher.close()
        claims = queue.claims
        dispatcher.woken()
        await asyncio.sleep(LEASE_S * 2)
        assert queue.claims == claims
    second = []

    async def again(each):
        second.append(each.id)
        return True

    async with dispatching(again, queue):
        await asyncio.sleep(1)
    assert second == ["i"]


@virtually
async def test_a_quiet_queue_is_looked_at_now_and_then_for_the_wall_clock_may_jump():
    async def run(_each):
        return True

    async with dispatching(run) as (queue, _):
        await asyncio.sleep(10 * module.LOOK_S_MAX)
        assert 9 <= queue.claims <= 12


@pytest.mark.parametrize("later_s", [5.0, 3600.0])
def test_a_call_waits_for_its_time(later_s):
    @virtually
    async def story():
        at = []

        async def run(_each):
            at.append(LoopClock().wall_s())
            return True

        async with dispatching(run) as (queue, dispatcher):
            due_s = LoopClock().wall_s() + later_s
            await put(queue, dispatcher, item(visible_s=due_s))
            assert at == []
            await asyncio.sleep(later_s + 1)
        assert due_s <= at[0] <= due_s + 1

    story()
