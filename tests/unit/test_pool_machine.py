"""The pool's rules, one at a time. All of them at once: tests/sim."""

from dataclasses import replace

from ondol.pool.checks import check
from ondol.pool.events import Bounded, Done, Freeze, GaveUp, Gone, Ready, Refuse, Retired, Run, Start, Stop, Thaw, Tick, Wanted
from ondol.pool.machine import Machine
from ondol.pool.policy import History, PoolLimits, backoff_s, keep_s, worth


class Table:
    """A machine, and a clock that a test moves."""

    def __init__(self, **limits):
        self.machine = Machine(PoolLimits(**{"memory_mib_max": 4096, **limits}))
        self.now_s = 100.0

    def tell(self, event, after_s=0.0):
        self.now_s += after_s
        actions = self.machine.handle(event, self.now_s)
        check(self.machine, self.now_s)
        return actions

    def want(self, invocation, revision="r", memory_mib=128, concurrency=1, tenant=""):
        return self.tell(Wanted(invocation, revision, memory_mib, concurrency, tenant))

    def warm(self, slots, revision="r", memory_mib=128):
        """So many idle slots; their ids, the first one used first."""
        invocations = [f"{revision}-warm-{n}" for n in range(slots)]
        started = [a.slot for i in invocations for a in self.want(i, revision, memory_mib)]
        for slot, invocation in zip(started, invocations):
            assert self.tell(Ready(slot)) == [Run(slot, invocation)]
        for slot, invocation in zip(started, invocations):
            self.tell(Done(slot, invocation), after_s=0.001)
        return started


def test_the_first_call_starts_a_slot_and_gets_it():
    table = Table()
    assert table.want(1) == [Start(1, "r")]
    assert table.tell(Ready(1)) == [Run(1, 1)]


def test_the_slot_used_last_is_used_next():
    table = Table()
    _, _, last = table.warm(3)
    assert table.want(1) == [Run(last, 1)]


def test_a_slot_that_idles_is_frozen_and_thawed_when_it_is_called():
    table = Table(freeze_s_min=5.0)
    table.want(1)
    table.tell(Ready(1, freezes=True))
    table.tell(Done(1, 1))
    assert table.machine.next_tick_s(table.now_s) == table.now_s + 5.0
    assert table.tell(Tick(), after_s=4.0) == []
    assert table.tell(Tick(), after_s=1.0) == [Freeze(1)]
    assert table.tell(Tick(), after_s=1.0) == []
    assert table.want(2) == [Thaw(1), Run(1, 2)]
    table.tell(Done(1, 2))
    assert table.want(3) == [Run(1, 3)]


def test_a_slot_that_cannot_be_frozen_never_is():
    table = Table(freeze_s_min=5.0)
    table.warm(1)
    assert table.tell(Tick(), after_s=6.0) == []


def test_a_revision_grows_no_faster_than_it_may():
    table = Table(scaling_max=2, scaling_s=10.0)
    assert table.want(1) == [Start(1, "r")]
    assert table.want(2) == [Start(2, "r")]
    assert table.want(3) == [Refuse(3, "rate")]
    assert table.want(4, "other") == [Start(3, "other")]
    table.tell(Ready(1))
    assert table.tell(Done(1, 1)) == [Run(1, 2)]
    assert table.want(5) == []  # one that comes covers it
    assert table.tell(Ready(2)) == [Run(2, 5)]
    table.now_s += 5.0
    assert table.want(6) == [Start(4, "r")]
    assert table.want(7) == [Refuse(7, "rate")]


def test_who_waits_gets_what_comes_free_first():
    table = Table()
    (slot,) = table.warm(1)
    table.want(1)
    assert table.want(2) == [Start(2, "r")]
    assert table.tell(Done(slot, 1)) == [Run(slot, 2)]
    assert table.tell(Ready(2)) == []
    assert table.want(3) == [Run(2, 3)]


def test_a_slot_with_concurrency_takes_several_and_one_start_covers_them():
    table = Table()
    assert table.want(1, concurrency=3) == [Start(1, "r")]
    assert table.want(2, concurrency=3) == [] == table.want(3, concurrency=3)
    assert table.want(4, concurrency=3) == [Start(2, "r")]
    assert table.tell(Ready(1)) == [Run(1, 1), Run(1, 2), Run(1, 3)]


def test_the_coldest_idle_slot_makes_room_for_another_revision():
    table = Table(memory_mib_max=256)
    first, _ = table.warm(2)
    assert table.want(1, "other") == [Stop(first), Start(3, "other")]


def test_of_the_coldest_the_one_that_saves_least_makes_room():
    table = Table(memory_mib_max=384)
    table.want("cheap-1", "cheap")
    table.want("dear-1", "dear")
    table.tell(Ready(1), after_s=0.01)
    table.tell(Done(1, "cheap-1"), after_s=0.01)
    table.tell(Ready(2), after_s=5.0)  # a start that takes long
    table.tell(Done(2, "dear-1"), after_s=0.01)
    for number in range(20):
        table.want(f"dear-{number + 2}", "dear")
        table.tell(Done(2, f"dear-{number + 2}"), after_s=0.01)
    table.want("cheap-2", "cheap")
    table.tell(Done(1, "cheap-2"), after_s=0.01)
    assert table.want(1, "large", memory_mib=256) == [Stop(1), Start(3, "large")]  # although it was used last


def test_what_is_used_often_dear_and_small_is_worth_more():
    usual = History(calls=10, age_s=100.0, idle_s=10.0, start_s=0.1, memory_mib=128)
    better = [
        replace(usual, calls=20),
        replace(usual, idle_s=5.0),
        replace(usual, start_s=0.2),
        replace(usual, memory_mib=64),
    ]
    assert all(worth(each) > worth(usual) for each in better)


def test_nobody_is_evicted_for_what_cannot_fit_anyway():
    table = Table(memory_mib_max=256)
    table.warm(1)
    assert table.want(1, "huge", memory_mib=512) == [Refuse(1, "memory")]
    table.want(2, "r")
    assert table.want(3, "large", memory_mib=256) == []


def test_a_full_line_refuses():
    table = Table(memory_mib_max=128, line_revision_max=1, line_total_max=2)
    table.warm(1)
    table.want(1)
    assert table.want(2) == []
    assert table.want(3) == [Refuse(3, "line")]
    assert table.want(4, "a") == []
    assert table.want(5, "b") == [Refuse(5, "line")]


def test_who_waited_too_long_is_told_so_once():
    table = Table()
    table.want(1)
    assert table.tell(GaveUp(1), after_s=5) == [Refuse(1, "wait")]
    assert table.tell(GaveUp(1)) == []
    assert table.tell(Ready(1)) == []


def test_giving_up_after_all_is_too_late_once_a_slot_was_given():
    table = Table()
    table.want(1)
    table.tell(Ready(1))
    assert table.tell(GaveUp(1)) == []


def test_an_idle_slot_goes_after_its_time_and_one_nobody_used_goes_sooner():
    table = Table(idle_s_max=600, idle_unused_s_max=60)
    (used,) = table.warm(1)
    table.want(1)
    table.want(2)
    table.tell(Done(used, 1))
    table.tell(Ready(2))  # number 2 has got the first one meanwhile
    table.tell(Done(used, 2))
    assert table.tell(Tick(), after_s=61) == [Stop(2)]
    assert table.tell(Tick(), after_s=500) == []
    assert table.tell(Tick(), after_s=40) == [Stop(used)]
    assert not table.machine.crews


def test_a_retired_revision_goes_at_once_where_idle_and_after_its_call_where_busy():
    table = Table()
    _, idle, busy = table.warm(3)
    table.want(1)
    assert set(table.tell(Retired("r"))) == {Stop(1), Stop(idle)}
    assert table.tell(Done(busy, 1)) == [Stop(busy)]


def test_a_retired_revision_still_serves_who_asked_for_it():
    table = Table()
    (slot,) = table.warm(1)
    table.want(1)
    table.want(2)
    table.tell(Retired("r"))
    assert table.tell(Done(slot, 1)) == [Run(slot, 2)]


def test_a_failed_start_is_tried_again_after_a_pause_and_not_in_a_storm():
    table = Table(backoff_s_min=1.0, start_failures_max=5)
    for invocation in range(4):
        table.want(invocation)
    assert [table.tell(Gone(slot)) for slot in (1, 2)] == [[], []]
    table.tell(Gone(3))
    table.tell(Gone(4))
    assert table.tell(Tick(), after_s=7.9) == []
    assert table.tell(Tick(), after_s=0.2) == [Start(5, "r")]
    assert table.tell(Ready(5))[0] == Run(5, 0)
    assert len(table.machine.slots) == 4, "once one came up, the others are started again"


def test_a_pause_that_passed_before_anybody_asked_when_to_look_is_overdue_not_forgotten():
    """A busy node may ask after the moment: without an answer, who waits would wait until some other event."""
    table = Table(backoff_s_min=0.1, start_failures_max=3)
    table.want(1)
    table.tell(Gone(1))
    due_s = table.now_s + 0.1
    assert table.machine.next_tick_s(table.now_s + 0.5) == due_s
    assert table.tell(Tick(), after_s=0.5) == [Start(2, "r")]


def test_after_some_failures_in_a_row_those_nothing_will_serve_are_told():
    table = Table(start_failures_max=3)
    for invocation in range(5):
        table.want(invocation)
    told = [action for slot in (1, 2, 3) for action in table.tell(Gone(slot))]
    assert told == [Refuse(4, "start"), Refuse(3, "start"), Refuse(2, "start")]
    assert table.want(5) == [], "a start is still on its way"
    assert [table.tell(Ready(slot))[0] for slot in (4, 5)] == [Run(4, 0), Run(5, 1)]


def test_while_starts_are_paused_newcomers_are_told_at_once():
    table = Table(start_failures_max=1, backoff_s_min=10)
    table.want(1)
    assert table.tell(Gone(1)) == [Refuse(1, "start")]
    assert table.want(2) == [Refuse(2, "start")]
    table.now_s += 11
    assert table.want(3) == [Start(2, "r")]


def test_a_slot_that_died_makes_room_and_its_late_news_change_nothing():
    table = Table(memory_mib_max=128)
    (slot,) = table.warm(1)
    table.want(1)
    table.want(2)
    assert table.tell(Gone(slot)) == [Start(2, "r")]
    assert table.tell(Done(slot, 1)) == [] == table.tell(Gone(slot))


def test_one_that_starves_gets_the_room_of_busy_ones_after_their_calls():
    table = Table(memory_mib_max=256, patience_s_max=1.0)
    first, second = table.warm(2)
    table.want(1)
    table.want(2)
    assert table.want(3, "large", memory_mib=256) == []
    table.tell(Tick(), after_s=1.1)
    assert table.tell(Done(second, 1)) == [Stop(second)]
    assert table.tell(Done(first, 2)) == [Stop(first), Start(3, "large")]


def test_pauses_double_up_to_their_bound():
    limits = PoolLimits(memory_mib_max=1, backoff_s_min=0.1, backoff_s_max=1.0)
    assert [round(backoff_s(n, limits), 3) for n in (1, 2, 3, 4, 5, 1000)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_the_unused_are_never_kept_longer_than_the_used():
    limits = PoolLimits(memory_mib_max=1, idle_s_max=5.0)
    assert keep_s(History(calls=0), limits) == keep_s(History(calls=9), limits) == 5.0


def test_a_tenant_is_given_no_others_slot_however_warm():
    table = Table()
    assert table.want(1, tenant="blue") == [Start(1, "r", False, "blue")]
    table.tell(Ready(1))
    table.tell(Done(1, 1))
    assert table.want(2, tenant="green") == [Start(2, "r", False, "green")]
    assert table.want(3) == [Start(3, "r")]
    assert table.want(4, tenant="blue") == [Run(1, 4)]
    assert table.tell(Ready(3)) == [Run(3, 3)], "green still waits for its own"
    assert table.tell(Ready(2)) == [Run(2, 2)]


def test_tenants_make_room_for_each_other_and_the_slot_ends():
    table = Table(memory_mib_max=256)
    for number, tenant in enumerate(["blue", "green"], 1):
        table.want(number, tenant=tenant)
        table.tell(Ready(number))
        table.tell(Done(number, number), after_s=1.0)
    table.want(3, tenant="green")
    table.tell(Done(2, 3), after_s=0.01)
    assert table.want(4, tenant="red") == [Stop(1), Start(3, "r", False, "red")], "blue was called least"
    assert table.want(5, tenant="blue")[-1] == Start(4, "r", False, "blue"), "and begins anew"


def test_a_revision_that_is_retired_is_so_for_all_its_tenants():
    table = Table()
    for number, tenant in enumerate(["blue", "green"], 1):
        table.want(number, tenant=tenant)
        table.tell(Ready(number))
    table.tell(Done(1, 1))
    assert table.tell(Retired("r")) == [Stop(1)]
    assert table.tell(Done(2, 2)) == [Stop(2)]
    assert not table.machine.crews
    assert not table.machine.tenancies


def test_what_a_revision_may_grow_by_is_its_tenants_together():
    table = Table(scaling_max=2, scaling_s=10.0)
    table.want(1, tenant="blue")
    table.want(2, tenant="green")
    assert table.want(3, tenant="red") == [Refuse(3, "rate")]


def test_a_slot_that_is_spent_takes_nothing_more_and_stops_after_what_it_runs():
    table = Table()
    assert table.want(1, concurrency=2) == [Start(1, "r")]
    assert table.want(2, concurrency=2) == []
    assert table.tell(Ready(1)) == [Run(1, 1), Run(1, 2)]
    assert table.tell(Done(1, 1, spent=True)) == []
    assert table.want(3, concurrency=2) == [Start(2, "r")]
    assert table.tell(Done(1, 2, spent=True)) == [Stop(1)]
    assert table.tell(Ready(2)) == [Run(2, 3)]


def test_a_revision_has_no_more_slots_than_it_may_and_its_calls_wait_for_them():
    table = Table()
    assert table.tell(Bounded("r", 128, 1, 2)) == []
    assert [table.want(n) for n in (1, 2, 3)] == [[Start(1, "r")], [Start(2, "r")], []]
    table.tell(Ready(1))
    table.tell(Ready(2))
    assert table.tell(Tick(), after_s=5.0) == [], "nobody starts one for who waits"
    assert table.tell(Done(1, 1)) == [Run(1, 3)]


def test_a_bound_is_remembered_when_all_its_slots_are_gone_and_lifted_when_told():
    table = Table()
    table.tell(Bounded("r", 128, 1, 1))
    table.want(1)
    table.tell(Gone(1))
    table.want(2)
    assert len(table.machine.crews["r"].coming) <= 1
    assert table.tell(Bounded("r", 128, 1, None), after_s=60.0) == [Start(2, "r")]


def test_a_bound_of_none_refuses_and_idle_slots_beyond_one_go():
    table = Table()
    one, two = table.warm(2)
    assert table.tell(Bounded("r", 128, 1, 1)) == [Stop(one)]
    assert table.tell(Bounded("r", 128, 1, 0)) == [Stop(two)]
    assert table.want(9) == [Refuse(9, "none")]


def test_what_is_too_large_for_the_pool_is_refused_whatever_its_bound():
    table = Table(memory_mib_max=128)
    assert table.tell(Bounded("r", 256, 1, 2)) == []
    assert table.want(1, memory_mib=256) == [Refuse(1, "memory")]
