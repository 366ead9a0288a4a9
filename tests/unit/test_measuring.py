"""What is measured of calls: summed up at the front without costing them anything, kept by the desk, honest about what was lost."""

from __future__ import annotations

import asyncio
import msgspec
import pytest

from ondol.core.admit import Admission
from ondol.core.catalog import Index, put
from ondol.core.measuring import LATEST, PUBLISHED, UNITS, Tally, dimensions_of, points_of, points_of_level
from ondol.core.totals import OTHERS, Totals, cumulated
from ondol.meter import Series
from ondol.model.errors import OutOfSpace
from ondol.model.functions import UNNUMBERED, Target
from ondol.model.invocations import Report, Status
from ondol.node import measuring as module
from ondol.node.measuring import Measured, Measures, Measuring, record_of
from ondol.store import Change
from ondol.testing.clock import VirtualClock
from ondol.testing.pool import a_target, virtually

HOME = ("000000000000", "here")
MINUTE_S = 1_700_000_040.0 // 60 * 60


def a_report(status=Status.OK, **more):
    facts = {
        "invocation": "i", "revision": "hello-1", "version": None, "duration_ms": 10.0, "memory_mib": 128, "memory_peak_mib": 40,
        "timeout_s": 3, "ended_s": MINUTE_S + 5,
    }  # fmt: skip
    return Report(status=status, **{**facts, **more})


def added(*calls, levels=(1, 1, 1)):
    """The series that calls add to: {(name, dimensions): summary}."""
    tally = Tally()
    for target, report in calls:
        tally.add(target, report, levels)
    taken = msgspec.convert(msgspec.msgpack.decode(msgspec.msgpack.encode(Measured(sums=tally.take().sums))), Measured)
    return {(p.series.name, p.series.dimensions): p.summary for each in taken.sums for p in points_of(each)}


# What is summed up -------------------------------------------------------------------------------------------------------
def test_calls_count_for_the_account_the_function_and_how_it_was_called():
    found = added((a_target(), a_report()), (a_target(), a_report(Status.FAILED, duration_ms=30.0)))
    function = ("function", "hello")
    for dimensions in ((), (function,), (function, ("qualifier", ""))):
        assert found["invocations", dimensions].sum == 2
        assert (found["errors", dimensions].sum, found["errors", dimensions].count) == (1, 2)
        duration = found["duration", dimensions]
        assert (duration.count, duration.sum, duration.low, duration.high) == (2, 40, 10, 30)
        assert duration.percentile(50) == pytest.approx(10, rel=0.01)


def test_calls_added_together_come_to_what_they_come_to_one_by_one():
    calls = [
        (a_target(name), a_report(status, **facts), (number, number + 2, number + 1))
        for number, (name, status, facts) in enumerate(
            [
                ("a", Status.OK, {"duration_ms": 12.5}),
                ("b", Status.OK, {"init_ms": 80.0}),
                ("a", Status.FAILED, {"duration_ms": 0.0}),
                ("a", Status.TIMEOUT, {"ended_s": MINUTE_S + 65}),
                ("a", Status.OK, {"pins": (1, 2), "pinned": True}),
                ("a", Status.OK, {"pins": (0, 0)}),
                ("b", Status.OK, {"version": 3}),
                ("c", Status.OK, {}),
            ]
        )
    ]
    together, single = Tally(sums_max=4), Tally(sums_max=4)
    together.add_all(calls)
    together.add_all(calls)
    for call in (*calls, *calls):
        single.add(*call)
    assert together.take() == single.take()


def test_an_aliass_calls_are_told_apart_by_the_version_that_ran():
    function, live = ("function", "f"), ("qualifier", "live")
    assert dimensions_of("f", "live", 3) == [(), (function,), (function, live), (function, live, ("version", "3"))]
    assert dimensions_of("f", "live", None)[-1][-1] == ("version", LATEST)
    assert dimensions_of("f", "live", UNNUMBERED)[-1][-1] == ("version", PUBLISHED)
    assert len(dimensions_of("f", "$any", UNNUMBERED)) == 3, "a version that is named needs no other series of its own"
    assert dimensions_of("f", "3", 3) == [(), (function,), (function, ("qualifier", "3"))]
    assert all(list(each) == sorted(each) for each in dimensions_of("f", "live", 3))


def test_calls_of_what_is_kept_up_are_told_from_those_that_spilled_over():
    found = added(
        (a_target(), a_report(pinned=True, pins=(1, 4))),
        (a_target(), a_report(pinned=True, pins=(4, 4))),
        (a_target(), a_report(pinned=False, pins=(4, 4))),
    )
    dimensions = (("function", "hello"),)
    assert (found["pinned_invocations", dimensions].sum, found["pinned_spillovers", dimensions].sum) == (2, 1)
    assert found["pinned_concurrency", dimensions].high == 4
    shares = found["pinned_utilization", dimensions]
    assert (shares.low, shares.high) == (0.25, 1.0)


def test_where_nothing_is_kept_up_nothing_is_said_of_it():
    assert not [name for name, _ in added((a_target(), a_report())) if name.startswith("pinned")]


def test_what_extensions_took_behind_answers_is_counted_by_when_they_were_done():
    tally = Tally()
    target = a_target()
    tally.add(target, a_report(), (1, 1, 1))
    for milliseconds in (10.0, 30.0):
        tally.rest(target, MINUTE_S + 6, milliseconds)
    tally.rest(target, MINUTE_S + 61, 5.0)
    found = [{(p.series.name, p.series.dimensions): p for p in points_of(each)} for each in tally.take().sums]
    for dimensions in ((), (("function", "hello"),), (("function", "hello"), ("qualifier", ""))):
        point = found[0]["extensions_afterwards", dimensions]
        assert (point.summary.count, point.summary.sum, point.summary.low, point.summary.high) == (2, 40, 10, 30)
        assert point.series.unit == "milliseconds"
    assert found[0]["invocations", ()].summary.sum == 1
    assert {name for name, _ in found[1]} == {"extensions_afterwards"}


def test_where_there_are_no_extensions_nothing_is_said_of_them():
    assert not [name for name, _ in added((a_target(), a_report())) if "extensions" in name]


def test_everything_that_is_not_ok_is_an_error():
    found = added(*[(a_target(), a_report(status)) for status in Status])
    assert found["errors", ()].sum == len(Status) - 1


def test_a_call_that_ran_out_of_time_counts_with_its_limit():
    found = added((a_target(), a_report(Status.TIMEOUT, duration_ms=3071.0, timeout_s=3)))
    assert found["duration", ()].high == 3000


def test_minutes_are_told_apart_by_when_a_call_ended():
    tally = Tally()
    for ended_s in (MINUTE_S, MINUTE_S + 59.9, MINUTE_S + 60):
        tally.add(a_target(), a_report(ended_s=ended_s), (1, 1, 1))
    assert [(each.minute_s, each.duration.count) for each in tally.take().sums] == [(MINUTE_S, 2), (MINUTE_S + 60, 1)]
    assert tally.empty


def test_concurrency_is_the_highest_level_that_a_calls_end_saw():
    tally = Tally()
    for levels in ((1, 4, 2), (3, 9, 5), (2, 7, 4)):
        tally.add(a_target(), a_report(), levels)
    taken = tally.take()
    of_function = {p.series.dimensions: p.summary.high for p in points_of(taken.sums[0]) if p.series.name == "concurrency"}
    assert of_function[("function", "hello"),] == 3
    assert () not in of_function
    of_account = {p.series.name: p.summary.high for p in points_of_level(taken.levels[0])}
    assert of_account == {"concurrency": 9, "concurrency_unreserved": 5}


def test_different_sums_are_bounded_and_what_falls_through_is_counted():
    tally = Tally(sums_max=2)
    for name in ("a", "b", "c", "a", "d"):
        tally.add(a_target(name), a_report(), (1, 1, 1))
    taken = tally.take()
    assert ([each.name for each in taken.sums], taken.lost) == (["a", "b"], 2)


def test_the_levels_of_admission_count_those_with_a_reservation_apart():
    admission = Admission()
    shared, reserved = a_target("s").function, a_target("r", reserved=5).function
    for function in (shared, reserved, shared):
        admission.enter(function)
    assert admission.levels(shared) == (2, 3, 2)
    assert admission.levels(reserved) == (1, 3, 2)
    for function in (shared, reserved, shared):
        admission.leave(function)
    assert admission.levels(shared) == (0, 0, 0)


# On the way --------------------------------------------------------------------------------------------------------------
class Desk:
    def __init__(self):
        self.there = True
        self.came = []

    def __call__(self, measured):
        if self.there:
            self.came.append(msgspec.convert(msgspec.msgpack.decode(msgspec.msgpack.encode(measured)), Measured))
        return self.there

    def calls(self):
        return sum(sum(each.outcomes.values()) for measured in self.came for each in measured.sums)

    def records(self):
        return [record for measured in self.came for record in measured.records]

    def lost(self):
        return {what: count for measured in self.came for what, count in measured.lost.items()}


class LoopClock:
    def now_s(self):
        return asyncio.get_running_loop().time()

    def wall_s(self):
        return MINUTE_S + self.now_s()


def index_of(*targets):
    index = Index()
    for number, target in enumerate(targets, 1):
        made = put(target.function)
        index.apply(Change(number, made.key, made.value))
    return index


def front(desk, *targets):
    return Measuring(desk, lambda function: (1, 1, 1), index_of(*targets), LoopClock())


@virtually
async def test_a_record_comes_at_once_and_the_sums_of_a_second_together():
    desk = Desk()
    measuring = front(desk)
    for _ in range(100):
        measuring.settled(a_target(), a_report())
        await asyncio.sleep(0.01)
    assert len(desk.records()) > 90
    await asyncio.sleep(2)
    assert desk.calls() == len(desk.records()) == 100
    assert len([measured for measured in desk.came if measured.sums]) <= 3
    assert desk.lost() == {}


@virtually
async def test_a_record_is_what_the_report_was():
    desk = Desk()
    target = Target(function=a_target().function, revision=a_target().revision, qualifier="live")
    report = a_report(Status.CRASHED, init_ms=100.0, version=7, exit_status=-11, trace="Root=1")
    measuring = front(desk)
    measuring.waited("i", 0.0015)
    measuring.waited("i", 0.001)  # its first environment was lost
    measuring.settled(target, report)
    measuring.flush()
    (record,) = desk.records()
    assert (record.invocation, record.function, record.name) == ("i", "id-of-hello", "hello")
    assert (record.status, record.version, record.qualifier, record.exit_status) == (Status.CRASHED, 7, "live", -11)
    assert (record.queue_ms, record.start_ms, record.handler_ms) == (2.5, 100.0, 10.0)
    assert record.started_ms == (MINUTE_S + 5) * 1000 - 110
    assert record.ended_ms == (MINUTE_S + 5) * 1000
    assert record_of(target, report, 2.5) == record
    measuring.settled(target, report)
    measuring.flush()
    assert desk.records()[-1].queue_ms == 0


@virtually
async def test_while_the_desk_is_away_everything_waits_and_arrives_once():
    desk = Desk()
    measuring = front(desk)
    desk.there = False
    for _ in range(10):
        measuring.settled(a_target(), a_report())
        await asyncio.sleep(1)
    desk.there = True
    measuring.settled(a_target(), a_report())
    await asyncio.sleep(5)
    assert desk.calls() == len(desk.records()) == 11


def test_records_beyond_the_bound_are_counted_and_the_sums_stay_right(monkeypatch):
    monkeypatch.setattr(module, "RECORDS_MAX", 7)

    @virtually
    async def story():
        desk = Desk()
        measuring = front(desk)
        desk.there = False
        for _ in range(20):
            measuring.settled(a_target(), a_report())
        await asyncio.sleep(3)
        desk.there = True
        await asyncio.sleep(3)
        assert (len(desk.records()), desk.calls(), desk.lost()) == (7, 20, {"records": 13})

    story()


def test_calls_beyond_the_bound_are_counted(monkeypatch):
    monkeypatch.setattr(module, "CALLS_MAX", 5)

    @virtually
    async def story():
        desk = Desk()
        measuring = front(desk)
        for _ in range(8):
            measuring.settled(a_target(), a_report())
        await asyncio.sleep(3)
        assert (desk.calls(), desk.lost()) == (5, {"calls": 3})

    story()


@virtually
async def test_many_calls_of_a_moment_are_looked_at_in_turns():
    desk = Desk()
    measuring = front(desk)
    for _ in range(module.CHUNK * 3 + 1):
        measuring.settled(a_target(), a_report())
    await asyncio.sleep(module.FLUSH_S * 1.01)
    assert len(desk.records()) <= module.CHUNK
    await asyncio.sleep(2)
    assert desk.calls() == len(desk.records()) == module.CHUNK * 3 + 1


@virtually
async def test_throttles_are_counted_by_the_functions_name():
    desk = Desk()
    target = a_target("busy")
    measuring = front(desk, target)
    for _ in range(3):
        measuring.throttled(*HOME, target.function.id)
    measuring.throttled(*HOME, "gone")
    await asyncio.sleep(3)
    (taken,) = [each for measured in desk.came for each in measured.sums]
    points = {p.series.dimensions: p.summary.sum for p in points_of(taken)}
    assert points == {(): 3, (("function", "busy"),): 3}


@virtually
async def test_waits_of_calls_that_never_end_take_a_bounded_memory():
    measuring = front(Desk())
    for number in range(module.WAITED_MAX * 2 + 5):
        measuring.waited(str(number), 1.0)
    assert len(measuring._waited) <= module.WAITED_MAX


@virtually
async def test_how_the_node_is_is_said_now_and_then():
    desk = Desk()
    serving = asyncio.create_task(front(desk).serve(lambda: {"idle": 2.0}))
    await asyncio.sleep(module.GAUGES_S * 1.5)
    serving.cancel()
    assert [measured.gauges for measured in desk.came] == [{"idle": 2.0}, {"idle": 2.0}]


# At the desk -------------------------------------------------------------------------------------------------------------
class Kept:
    """A meter and a recorder that remember."""

    def __init__(self):
        self.points, self.records, self.sent = [], [], []

    def add(self, what):
        (self.points if what and hasattr(what[0], "summary") else self.records).extend(what)
        return 0

    def take(self, records):
        self.sent += records

    async def close(self):
        self.sent.append("closed")


def measures(kept, *targets):
    return Measures(kept, kept, Totals(), [kept], index=index_of(*targets), clock=VirtualClock())


def test_what_a_front_sends_becomes_points_totals_and_records():
    kept = Kept()
    desk = measures(kept)
    tally = Tally()
    tally.add(a_target(), a_report(), (1, 1, 1))
    taken = tally.take()
    desk.take(
        Measured(sums=taken.sums, levels=taken.levels, records=[record_of(a_target(), a_report(), 0.0)], lost={"calls": 2})
    )
    assert Series(*HOME, "", "concurrency_unreserved", (), "count") in {p.series for p in kept.points}
    assert [each.invocation for each in kept.records] == ["i"]
    assert kept.sent == kept.records
    assert desk._totals.lost["calls"] == 2


def test_what_the_desk_observes_counts_for_the_account_and_the_function_by_its_name():
    kept = Kept()
    target = a_target("later")
    measures(kept, target).observe(*HOME, target.function.id, "deferred_age_ms", 125.0)
    assert [(p.series.dimensions, p.series.unit, p.summary.sum) for p in kept.points] == [
        ((), "milliseconds", 125.0),
        ((("function", "later"),), "milliseconds", 125.0),
    ]


def test_what_is_not_measured_is_no_metric_and_no_reason_to_fail(caplog):
    kept = Kept()
    measures(kept).observe(*HOME, "f", "mood", 1.0)
    assert kept.points == []
    assert "nothing is measured as 'mood'" in caplog.text


def test_everything_that_is_measured_has_a_unit():
    assert set(UNITS.values()) == {"count", "milliseconds"}


# Totals ------------------------------------------------------------------------------------------------------------------
def sum_of(name, *durations_ms, status=Status.OK):
    tally = Tally()
    for duration_ms in durations_ms:
        tally.add(a_target(name), a_report(status, duration_ms=duration_ms), (1, 1, 1))
    return tally.take().sums[0]


def test_totals_only_grow_and_their_histogram_is_cumulative():
    totals = Totals()
    totals.add(sum_of("f", 3, 30, 30))
    totals.add(sum_of("f", 2_000_000, status=Status.FAILED))
    ((region, name, total),) = totals.of_account(HOME[0])
    assert (region, name, total.outcomes) == ("here", "f", {"ok": 3, "failed": 1})
    buckets = cumulated(total.durations)
    assert (buckets["0.0025"], buckets["0.005"], buckets["0.05"], buckets["900"], buckets["+Inf"]) == (0, 1, 3, 3, 4)
    assert list(totals.of_account("111111111111")) == []


def test_functions_beyond_the_bound_are_counted_together():
    totals = Totals(functions_max=2)
    for name in ("a", "b", "c", "d", "a"):
        totals.add(sum_of(name, 1))
    counted = {name: total.outcomes["ok"] for _, name, total in totals.of_account(HOME[0])}
    assert counted == {"a": 2, "b": 1, OTHERS: 2}


# What stands beside it ---------------------------------------------------------------------------------------------------
async def test_what_comes_is_looked_at_once_it_is_kept():
    seen = []

    async def keep(link, value):
        seen.append(("kept", value))
        return "answer"

    assert await module.both(keep, lambda value: seen.append(("looked at", value)))(None, 7) == "answer"
    assert seen == [("kept", 7), ("looked at", 7)]


def test_gauges_of_several_fronts_are_summed_and_go_with_their_front():
    desk = measures(Kept())
    one, other = object(), object()
    desk.take(Measured(gauges={"idle": 2.0, "busy": 1.0}), one)
    desk.take(Measured(gauges={"idle": 3.0, "busy": 0.0}), other)
    desk.take(Measured(gauges={"idle": 4.0, "busy": 1.0}), one)
    assert desk._totals.gauges == {"idle": 7.0, "busy": 1.0}
    desk.lost(one)
    desk.lost(one)
    assert desk._totals.gauges == {"idle": 3.0, "busy": 0.0}
