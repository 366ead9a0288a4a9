"""The dispatcher over a real queue in virtual time: at least once, or ended with its reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ondol.clock import SteadyClock
from ondol.core import deferred as module
from ondol.core.deferrals import USUAL
from ondol.core.deferred import LEASE_S, REST_S, RUNNING_MAX, Dispatcher
from ondol.core.measuring import DEFERRED_AGE, DEFERRED_DROPPED, DEFERRED_RECEIVED, DESTINATION_FAILURES, CHAIN_DROPPED
from ondol.core.outcomes import Tried
from ondol.core.retry import before
from ondol.model.deferrals import Destination, Ending
from ondol.model.errors import NotFound, OutOfSpace, Throttled, TooLarge, Unavailable
from ondol.model.functions import Function
from ondol.queue import Deferred
from ondol.testing.clock import VirtualClock
from ondol.testing.pool import LoopClock, virtually
from ondol.testing.queue import MemoryQueue


def item(name="i", function="f", visible_s=0.0, **more):
    return Deferred(
        id=name, account="1", region="r", function=function, qualifier=None, payload=b"", context={},
        accepted_s=LoopClock().wall_s(), visible_s=visible_s, **more,
    )  # fmt: skip


OK, FAILED = Tried(succeeded=True, body=b"fine"), Tried(succeeded=False, body=b"it broke")


@asynccontextmanager
async def dispatching(run, queue=None, **more):
    """`run` gets the item and says whether the function succeeded, or what came of it."""
    queue = queue or MemoryQueue()

    async def running(each, _bytes_max):
        came = await run(each)
        return {True: OK, False: FAILED}.get(came, came)

    dispatcher = Dispatcher(queue, running, LoopClock(), **more)
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
        assert queue.reasons == {"i": "retries exhausted"}
    assert [later - at[0] for later in at] == [0, 60, 180]


@virtually
async def test_a_function_that_is_gone_ends_it():
    async def run(_each):
        raise NotFound("function", "f")

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        assert queue.reasons == {"i": "the function is gone"}


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
        assert queue.reasons == {"i": "event age exceeded"}


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
        assert queue.reasons == {"poison": "event age exceeded"}


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
async def test_a_success_that_cannot_be_written_down_is_written_down_later_and_not_run_again():
    runs = []

    async def run(each):
        runs.append(each.id)
        return True

    async with dispatching(run) as (queue, dispatcher):
        queue.fails.add("ack")
        await put(queue, dispatcher, item())
        await asyncio.sleep(LEASE_S / 2)
        assert queue.waiting
        queue.fails.clear()
        await asyncio.sleep(LEASE_S)
        assert not queue.waiting
    assert runs == ["i"]


@virtually
async def test_an_end_that_is_never_written_down_gives_its_slot_back_with_its_lease():
    async def run(_each):
        return True

    async with dispatching(run) as (queue, dispatcher):
        queue.fails.add("ack")
        await put(queue, dispatcher, item())
        await asyncio.sleep(LEASE_S * 1.5)
        queue.fails.clear()
        await asyncio.sleep(LEASE_S)
        assert not queue.waiting


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
        await put(queue, dispatcher, *(item(str(number), f"f{number % 300}") for number in range(3 * RUNNING_MAX)))
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


@virtually
async def test_one_functions_long_calls_leave_slots_for_everybody_else():
    running = Counter()

    async def run(each):
        running[each.function] += 1
        if each.function != "quick":
            await asyncio.sleep(800)
        return True

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, *(item(f"a{n}", "a") for n in range(1000)))
        assert running["a"] == RUNNING_MAX // 2
        await put(queue, dispatcher, *(item(f"b{n}", "b") for n in range(1000)))
        assert running["b"] == RUNNING_MAX // 4
        await put(queue, dispatcher, *(item(f"q{n}", "quick") for n in range(1000)))
        await asyncio.sleep(1)
        assert running["quick"] == 1000


@virtually
async def test_what_waits_for_a_slot_is_not_asked_for_all_the_time():
    async def run(_each):
        await asyncio.sleep(800)
        return True

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, *(item(f"{n}") for n in range(1000)))
        claims = queue.claims
        await asyncio.sleep(600)
        assert queue.claims - claims <= 25


@virtually
async def test_no_more_of_a_function_run_than_it_has_reserved():
    running, most = 0, 0

    async def run(_each):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        return True

    async with dispatching(run) as (queue, dispatcher):
        reserving = Function(id="f", account="1", region="r", name="f", latest="", created_s=0, concurrency_reserved=3)
        dispatcher.follow("function/1/r/f", reserving)
        await put(queue, dispatcher, *(item(f"{n}") for n in range(9)))
        await asyncio.sleep(5)
        assert (most, len(queue.waiting)) == (3, 0)
        dispatcher.follow("function/1/r/f", replace(reserving, concurrency_reserved=None))
        await put(queue, dispatcher, *(item(f"{n}") for n in range(9)))
        assert most == 9


@virtually
async def test_a_throttled_function_rests_and_the_others_do_not():
    tries = Counter()

    async def run(each):
        tries[each.function] += 1
        if each.function == "full":
            raise Throttled("function")
        return True

    async with dispatching(run) as (queue, dispatcher):
        await put(queue, dispatcher, *(item(f"{n}", "full") for n in range(5000)))
        await put(queue, dispatcher, *(item(f"x{n}", "free") for n in range(500)))
        assert tries["free"] == 500
        await asyncio.sleep(10 * REST_S)
        assert tries["full"] <= 12 * RUNNING_MAX / 2


@virtually
async def test_nothing_is_claimed_while_nobody_is_there_to_run_it():
    there, ran = asyncio.Event(), []

    async def run(each):
        ran.append(each.id)
        return True

    async with dispatching(run, able=there.wait) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        await asyncio.sleep(600)
        assert (queue.claims, ran) == (0, [])
        there.set()
        await asyncio.sleep(1)
        assert ran == ["i"]


# What an owner says ------------------------------------------------------------------------------------------------------


@virtually
async def test_it_is_tried_as_often_and_as_long_as_its_owner_says():
    tries = Counter()

    async def run(each):
        tries[each.id] += 1
        if each.function == "refused":
            raise Unavailable("no room")
        return False

    said = {"once": replace(USUAL, retries_max=0), "refused": replace(USUAL, age_s_max=60)}
    async with dispatching(run, rules=lambda function, _: said[function]) as (queue, dispatcher):
        await put(queue, dispatcher, item("a", "once"), item("b", "refused"))
        assert queue.reasons == {"a": "retries exhausted"}
        await asyncio.sleep(59)
        assert "b" in queue.waiting
        await asyncio.sleep(2)
        assert queue.reasons == {"a": "retries exhausted", "b": "event age exceeded"}
        assert {name: buried.error for name, buried in queue.buried.items()} == {"a": "it broke", "b": "no room"}
    assert tries["a"] == 1
    assert 5 <= tries["b"] <= 7


@virtually
async def test_without_any_concurrency_it_ends_at_once_and_untried():
    async def run(_each):
        raise AssertionError("it must not run")

    async with dispatching(run, rules=lambda *_: replace(USUAL, concurrency_max=0)) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        assert queue.reasons == {"i": "no concurrency"}


# Where outcomes go -------------------------------------------------------------------------------------------------------

TOLD = Destination(dialect="d", account="1", region="r", name="told")


class Telling:
    """Destinations that take everything, unless `error` says why not."""

    def __init__(self, **where):
        self.where, self.ended, self.error, self.observed = where, [], None, []

    def rules(self, function, _qualifier):
        return replace(USUAL, retries_max=0, **self.where) if function != "told" else USUAL

    def sequel(self, ended, destination, now_s):
        if self.error is not None:
            raise self.error
        self.ended.append(ended)
        return item(f"{ended.item.id} told", destination.name, visible_s=now_s, chain=ended.item.chain + 1)

    def observe(self, _account, _region, function, what, value):
        self.observed.append((function, what, value))

    @property
    def counted(self):
        return Counter((function, what) for function, what, _ in self.observed if what != DEFERRED_AGE)

    def options(self):
        return {"rules": self.rules, "sequel": self.sequel, "observe": self.observe}


@pytest.mark.parametrize(
    ("came", "where", "ending"),
    [(True, "on_success", Ending.SUCCEEDED), (False, "on_failure", Ending.RETRIES_EXHAUSTED)],
)
def test_the_outcome_goes_to_its_destination_and_nothing_is_left_behind(came, where, ending):
    @virtually
    async def story():
        telling, ran = Telling(**{where: TOLD}), []

        async def run(each):
            ran.append(each.id)
            return came if each.function == "f" else True

        async with dispatching(run, **telling.options()) as (queue, dispatcher):
            await put(queue, dispatcher, item())
            assert (ran, queue.waiting, queue.reasons) == (["i", "i told"], {}, {})
        (ended,) = telling.ended
        assert (ended.ending, ended.tries, ended.tried) == (ending, 1, OK if came else FAILED)
        assert telling.counted[("told", DEFERRED_RECEIVED)] == 1

    story()


@virtually
async def test_an_outcome_that_nobody_asked_for_goes_nowhere():
    telling = Telling(on_failure=TOLD)

    async def run(_each):
        return True

    async with dispatching(run, **telling.options()) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        assert (telling.ended, queue.waiting) == ([], {})


@virtually
async def test_what_ends_untried_is_told_too():
    telling = Telling(on_failure=TOLD, concurrency_max=0)

    async def run(each):
        assert each.function == "told"
        return True

    async with dispatching(run, **telling.options()) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        assert (queue.waiting, queue.reasons) == ({}, {})
    (ended,) = telling.ended
    assert (ended.ending, ended.tries, ended.tried) == (Ending.NO_CONCURRENCY, 0, None)


@pytest.mark.parametrize(
    "error",
    [NotFound("destination", "told"), TooLarge("too large", limit_bytes=1), KeyError("a mistake of the renderer's")],
)
@pytest.mark.parametrize("came", [True, False])
def test_an_outcome_that_cannot_be_delivered_is_counted_and_a_failure_is_kept(error, came):
    @virtually
    async def story():
        telling = Telling(on_success=TOLD, on_failure=TOLD)
        telling.error = error

        async def run(_each):
            return came

        async with dispatching(run, **telling.options()) as (queue, dispatcher):
            await put(queue, dispatcher, item())
            assert queue.waiting == {}
            assert queue.reasons == ({} if came else {"i": "retries exhausted"})
        assert telling.counted[("f", DESTINATION_FAILURES)] == 1

    story()


@virtually
async def test_an_outcome_that_the_queue_has_no_room_for_is_undelivered_and_its_call_ends():
    telling = Telling(on_success=TOLD)

    class Full(MemoryQueue):
        async def ack(self, ids, then=()):
            if then:
                raise Throttled("line")
            return await super().ack(ids)

    async def run(_each):
        return True

    async with dispatching(run, Full(), **telling.options()) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        assert (queue.waiting, queue.buried) == ({}, {})
    assert telling.counted[("f", DESTINATION_FAILURES)] == 1


@virtually
async def test_a_full_disk_delays_an_outcome_and_loses_none():
    telling, ran = Telling(on_success=TOLD), []

    async def run(each):
        ran.append(each.id)
        return True

    async with dispatching(run, **telling.options()) as (queue, dispatcher):
        queue.fails.add("then")
        await put(queue, dispatcher, item())
        await asyncio.sleep(100)
        assert ran == ["i"]
        queue.fails.clear()
        await asyncio.sleep(5)
    assert ran == ["i", "i told"]
    assert telling.counted[("f", DESTINATION_FAILURES)] == 0


@virtually
async def test_functions_that_are_each_others_destinations_stop_after_sixteen_calls():
    telling, ran = Telling(on_success=TOLD), []
    rules = replace(USUAL, on_success=TOLD, on_failure=TOLD)

    async def run(each):
        ran.append(each.chain)
        return True

    options = telling.options() | {"rules": lambda *_: rules}
    async with dispatching(run, **options) as (queue, dispatcher):
        await put(queue, dispatcher, item())
        assert queue.waiting == {}
        assert list(queue.reasons.values()) == ["chain too long"]
    assert ran == list(range(16))
    assert telling.counted[("told", CHAIN_DROPPED)] == telling.counted[("told", DEFERRED_DROPPED)] == 1


@virtually
async def test_age_and_drops_are_observed():
    telling = Telling()

    async def run(each):
        return each.id == "good"

    async with dispatching(run, **telling.options()) as (queue, dispatcher):
        await put(queue, dispatcher, item("good"), item("bad"))
    ages = [value for _, what, value in telling.observed if what == DEFERRED_AGE]
    assert len(ages) == 2 and all(0 <= age <= 1000 for age in ages)
    assert telling.counted == {("f", DEFERRED_DROPPED): 1}


# Clocks ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [7 * 3600.0, -7 * 3600.0])
async def test_a_jump_of_the_clock_neither_ends_nor_delays_a_call(jump_s):
    machine = VirtualClock()
    steady = SteadyClock(machine)
    accepted_s = steady.wall_s()
    await machine.advance(30)
    machine.jump_wall(jump_s)
    await machine.advance(30)
    call = replace(item_at(accepted_s), visible_s=accepted_s + 60)
    assert steady.wall_s() == call.visible_s
    assert before(call, replace(USUAL, age_s_max=61), steady.wall_s()) is None


def item_at(accepted_s):
    return Deferred(
        id="i", account="1", region="r", function="f", qualifier=None, payload=b"", context={}, accepted_s=accepted_s,
        visible_s=accepted_s,
    )  # fmt: skip


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
