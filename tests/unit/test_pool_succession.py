"""What happens in the pool when a revision is replaced by another."""

from __future__ import annotations

import asyncio

import pytest

from ondol.model.errors import StartFailed
from ondol.pool.events import Done, Gone, Loaded, Ready, Replaced, Retired, Run, Start, Stop, Tick
from ondol.pool.policy import PoolLimits, ahead_of_need
from ondol.runtime import Ending
from ondol.testing.pool import a_target, virtually

from tests.unit.test_pool_driver import Node
from tests.unit.test_pool_machine import Table


def replaced(before="r", revision="new", memory_mib=128, slots_max=1000):
    return Replaced(revision, memory_mib, 1, before, slots_max)


def ahead(slot, revision="new"):
    return Start(slot, revision, ahead=True)


def test_as_many_are_started_ahead_as_are_in_use_and_the_old_go_when_those_have_loaded():
    table = Table()
    one, two = table.warm(2)
    assert table.tell(replaced()) == [ahead(3), ahead(4)]
    assert table.tell(Ready(3)) == [] == table.tell(Ready(4))
    assert table.tell(Loaded(3)) == []
    assert table.tell(Loaded(4)) == [Stop(one), Stop(two)]
    assert table.want(1, "new") == [Run(4, 1)]


def test_a_call_that_comes_meanwhile_is_given_what_was_started_ahead_and_never_the_old():
    table = Table()
    (old,) = table.warm(1)
    table.tell(replaced())
    assert table.want(1, "new") == []
    assert table.tell(Ready(2)) == [Run(2, 1)]
    assert table.tell(Done(2, 1)) == []
    assert table.tell(Loaded(2)) == [Stop(old)]


def test_who_wants_the_old_revision_all_the_same_finds_it_while_it_is_there():
    table = Table()
    (old,) = table.warm(1)
    table.tell(replaced())
    assert table.want(1) == [Run(old, 1)]
    assert table.tell(Done(old, 1)) == [Stop(old)]


def test_those_at_work_go_after_their_call():
    table = Table()
    (old,) = table.warm(1)
    table.want(1)
    assert table.tell(replaced()) == [ahead(2)]
    assert table.tell(Done(old, 1)) == [Stop(old)]


@pytest.mark.parametrize("news", [Gone(2), Retired("r"), Retired("new")])
def test_the_old_go_when_nothing_comes_in_their_place(news):
    table = Table()
    (old,) = table.warm(1)
    table.tell(replaced())
    assert Stop(old) in table.tell(news)
    assert not table.machine.succession.handovers


def test_what_failed_to_start_ahead_is_not_tried_again_until_somebody_calls():
    table = Table()
    table.warm(1)
    table.tell(replaced())
    table.tell(Gone(2))
    assert [table.tell(Tick(), after_s=10) for _ in range(5)] == [[]] * 5
    assert table.want(1, "new") == [Start(3, "new")]


def test_what_did_not_load_is_not_started_again():
    table = Table()
    (old,) = table.warm(1)
    table.tell(replaced())
    table.tell(Ready(2))
    assert table.tell(Gone(2)) == [Stop(old)]
    assert table.machine.next_tick_s(table.now_s) is None


def test_the_old_do_not_stay_for_ever_for_what_takes_long_to_load():
    table = Table(handover_s_max=10.0)
    (old,) = table.warm(1)
    table.tell(replaced())
    table.tell(Ready(2))
    assert table.machine.next_tick_s(table.now_s) == table.now_s + 10.0
    assert table.tell(Tick(), after_s=9.9) == []
    assert table.tell(Tick(), after_s=0.2) == [Stop(old)]


def test_the_old_are_the_first_to_make_room():
    table = Table(memory_mib_max=512)
    (other,) = table.warm(1, "other")
    (old,) = table.warm(1)
    table.tell(replaced())
    assert table.want(1, "third", memory_mib=256) == [Stop(old), Start(4, "third")]
    assert table.want(2, "other") == [Run(other, 2)]


def test_where_there_is_no_room_for_both_the_old_give_theirs_and_nobody_else_does():
    table = Table(memory_mib_max=384)
    table.warm(1, "other")
    one, two = table.warm(2)
    assert table.tell(replaced()) == [Stop(one), ahead(4), Stop(two), ahead(5)]
    table = Table(memory_mib_max=384)
    table.warm(1, "other")
    one, two = table.warm(2)
    assert table.tell(replaced(memory_mib=300)) == [Stop(one), Stop(two)]


def test_half_of_the_starts_are_left_to_calls_and_who_waits_goes_before():
    table = Table(starts_max=4)
    table.warm(4)
    assert [type(action) for action in table.tell(replaced())] == [Start, Start]
    table = Table(starts_max=1)
    (old,) = table.warm(1)
    assert table.tell(replaced()) == [Stop(old)]


def test_no_more_than_the_caller_says_and_no_faster_than_a_revision_may_grow():
    table = Table(scaling_max=1)
    table.now_s += 60
    (old,) = table.warm(1)
    assert table.tell(replaced(slots_max=0)) == [Stop(old)]
    table = Table(scaling_max=3, scaling_s=1e9)
    table.warm(3)
    table.machine.limits = PoolLimits(memory_mib_max=4096, scaling_max=1, scaling_s=1e9)
    assert [type(action) for action in table.tell(replaced())] == [Start]


def test_updates_that_follow_each_other_hand_on_what_was_in_use_and_forget_what_is_long_past():
    table = Table()
    (old,) = table.warm(1)
    table.tell(replaced())
    assert set(table.tell(replaced("new", "newer"))) == {ahead(3, "newer"), Stop(2), Stop(old)}
    table.tell(Ready(3))
    table.tell(Loaded(3))
    assert table.tell(replaced("newer", "newest"), after_s=599.0)[0] == ahead(4, "newest")
    table.tell(Ready(4))
    table.tell(Loaded(4))
    assert table.tell(replaced("newest", "last"), after_s=2.0) == [Stop(4)], "nobody has called for ten minutes"


def test_what_was_never_used_has_no_heirs():
    table = Table()
    table.want(1)
    table.want(2)
    table.tell(Ready(1))
    table.tell(Done(1, 1))
    table.tell(Ready(2))
    table.tell(Done(1, 2))
    assert table.tell(replaced()).count(ahead(3)) == 1


def test_one_that_was_started_ahead_is_frozen_only_once_it_has_loaded_and_kept_as_long_as_one_that_was_called():
    table = Table(freeze_s_min=5.0, idle_unused_s_max=20.0, idle_s_max=100.0)
    table.warm(1)
    table.tell(replaced())
    table.tell(Ready(2, freezes=True))
    assert table.tell(Tick(), after_s=9.0) == []
    table.tell(Loaded(2, freezes=True))
    assert [type(action).__name__ for action in table.tell(Tick(), after_s=5.0)] == ["Freeze"]
    assert table.tell(Tick(), after_s=90.0) == []
    assert table.tell(Tick(), after_s=5.0) == [Stop(2)]


def test_how_many_are_started_ahead():
    limits = PoolLimits(memory_mib_max=1, idle_s_max=600.0, ahead_s_max=60.0, ahead_max=4)
    assert ahead_of_need([], limits) == 0
    assert ahead_of_need([700.0, float("inf")], limits) == 0
    assert ahead_of_need([300.0, 400.0], limits) == 1
    assert ahead_of_need([0.0, 1.0, 300.0], limits) == 2
    assert ahead_of_need([0.0] * 50, limits) == 4


# The whole pool ----------------------------------------------------------------------------------------------------------
@virtually
async def test_the_first_call_after_an_update_finds_it_loaded_and_reports_no_loading():
    async with Node() as node:
        node.runtime.script.load_s = 2.0
        old, new = a_target(revision="r1"), a_target(revision="r2")
        assert (await node.call(old)).report.init_ms is not None
        node.pool.replace("r1", new.revision)
        await asyncio.sleep(1.0)
        assert node.pool.stats().idle == 2, "the old one stays until the new one has loaded"
        await asyncio.sleep(2.0)
        assert (node.pool.stats().idle, len(node.sandboxes.shells)) == (1, 1)
        lease = await node.pool.acquire(new, wait_s_max=1)
        assert not lease.cold
        assert lease.environment.revision.id == "r2"
        lease.release()
        assert (await node.call(new)).report.init_ms is None
        assert node.pool.stats().cold_starts == 1


@pytest.mark.parametrize("concurrency", [0, 3])
@virtually
async def test_a_call_that_comes_before_it_has_loaded_is_a_cold_start_that_began_earlier(concurrency):
    async with Node() as node:
        node.runtime.script.load_s = 2.0
        node.takes(0.25)
        old, new = a_target(revision="r1", concurrency=concurrency), a_target(revision="r2", concurrency=concurrency)
        await node.call(old)
        node.pool.replace("r1", new.revision)
        await asyncio.sleep(1.5)
        began = asyncio.get_running_loop().time()
        ran = await node.call(new)
        assert round(asyncio.get_running_loop().time() - began, 2) == 0.75
        assert ran.report.init_ms == 2000
        assert round(ran.report.duration_ms) == 250, "its loading is no part of its duration"
        assert len(node.runtime.workers) == 2


@virtually
async def test_a_call_that_found_it_loading_has_its_whole_time_from_when_it_had_loaded():
    async with Node() as node:
        node.takes(100.0)
        old, new = a_target(revision="r1"), a_target(revision="r2")
        await node.call(old)
        node.runtime.script.load_s = 2.0
        node.pool.replace("r1", new.revision)
        await asyncio.sleep(1.5)
        began = asyncio.get_running_loop().time()
        assert (await node.call(new, timeout_s=3.0)).answer is None
        assert 3.4 < asyncio.get_running_loop().time() - began < 3.7


@virtually
async def test_an_update_that_does_not_load_starts_nothing_more_and_the_old_go():
    async with Node() as node:
        old, new = a_target(revision="r1"), a_target(revision="r2")
        await node.call(old)
        node.runtime.script.load_s = 1e6
        node.pool.replace("r1", new.revision)
        await asyncio.sleep(1.0)
        node.runtime.workers[-1].die(1)
        await asyncio.sleep(100.0)
        assert (len(node.runtime.workers), len(node.sandboxes.shells)) == (2, 0)
        node.runtime.script.load_s = 0.0
        assert (await node.call(new)).answer.ending is Ending.OK


@virtually
async def test_an_update_that_cannot_be_started_is_told_to_its_callers_only():
    async with Node() as node:
        old, new = a_target(revision="r1"), a_target(revision="r2")
        await node.call(old)
        node.runtime.script.start_error = StartFailed("no")
        node.pool.replace("r1", new.revision)
        await asyncio.sleep(100.0)
        assert (node.pool.stats().failed_starts, len(node.sandboxes.shells)) == (1, 0)
        node.runtime.script.start_error = None
        assert (await node.call(new)).answer.ending is Ending.OK


@virtually
async def test_an_update_to_a_runtime_that_is_not_there_starts_nothing():
    async with Node() as node:
        await node.call(a_target(revision="r1"))
        node.runtime.missing = "install it"
        node.pool.replace("r1", a_target(revision="r2").revision)
        await asyncio.sleep(1.0)
        assert (len(node.runtime.workers), len(node.sandboxes.shells)) == (1, 0)


@virtually
async def test_the_pool_closes_while_something_loads_ahead():
    async with Node() as node:
        await node.call(a_target(revision="r1"))
        node.runtime.script.load_s = 1e6
        node.pool.replace("r1", a_target(revision="r2").revision)
        await asyncio.sleep(1.0)


@virtually
async def test_several_processes_in_one_environment_load_ahead_too():
    async with Node() as node:
        node.runtime.script.load_s = 1.0
        old, new = a_target(revision="r1", concurrency=3), a_target(revision="r2", concurrency=3)
        await node.call(old)
        node.pool.replace("r1", new.revision)
        await asyncio.sleep(2.0)
        lease = await node.pool.acquire(new, wait_s_max=1)
        assert not lease.cold
        lease.release()
        assert (await node.call(new)).report.init_ms is None
