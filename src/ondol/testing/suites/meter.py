"""What every `ondol.meter.Meter` does. Give the fixtures `meter`, `clock` (its wall time moves) and `reopen`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ondol.meter import MINUTES_S, Listed, Meter, Point, Series
from ondol.model.summaries import of_values
from ondol.testing.clock import VirtualClock

HOME = ("000000000000", "here-1")


def series(name: str = "calls", space: str = "", unit: str = "count", **dimensions: str) -> Series:
    return Series(*HOME, space, name, tuple(sorted(dimensions.items())), unit)


def point(of: Series, at_s: float, *values: float) -> Point:
    return Point(of, at_s, of_values([(value, 1) for value in values]))


async def sums(
    meter: Meter, of: Series, start_s: float, end_s: float, period_s: int = 60, *, unit: str | None = None
) -> list[tuple[int, float]]:
    """(seconds since the start, sum) of every period that has something in it."""
    start = int(start_s)
    found = await meter.read(of, unit=unit, start_s=start, end_s=int(end_s), period_s=period_s)
    return [(each.at_s - start, each.summary.sum) for each in found]


class MeterSuite:
    """What was added is read again, in periods."""

    async def test_values_of_a_minute_are_one_summary(self, meter: Meter, clock: VirtualClock) -> None:
        now_s = clock.wall_s() // 60 * 60
        assert meter.add([point(series(), now_s + 1, 1, 5), point(series(), now_s + 59, 3)]) == 0
        meter.add([point(series(), now_s + 2, 11)])
        (read,) = await meter.read(series(), unit=None, start_s=int(now_s), end_s=int(now_s) + 60, period_s=60)
        summary = read.summary
        assert (read.at_s, read.unit) == (now_s, "count")
        assert (summary.count, summary.sum, summary.low, summary.high, summary.average) == (4, 20, 1, 11, 5)

    async def test_periods_count_from_the_start_and_empty_ones_are_left_out(self, meter: Meter, clock: VirtualClock) -> None:
        now_s = clock.wall_s() // 3600 * 3600
        meter.add([point(series(), now_s + minute * 60, minute) for minute in (0, 1, 4, 7, 20)])
        assert await sums(meter, series(), now_s, now_s + 3600, 300) == [(0, 5), (300, 7), (1200, 20)]
        assert await sums(meter, series(), now_s + 60, now_s + 480, 60) == [(0, 1), (180, 4), (360, 7)]

    async def test_the_end_is_left_out(self, meter: Meter, clock: VirtualClock) -> None:
        now_s = clock.wall_s() // 60 * 60
        meter.add([point(series(), now_s, 1), point(series(), now_s + 60, 2)])
        assert await sums(meter, series(), now_s, now_s + 60) == [(0, 1)]

    async def test_percentiles_are_within_a_hundredth(self, meter: Meter, clock: VirtualClock) -> None:
        now_s = int(clock.wall_s() // 60 * 60)
        for part in range(10):
            meter.add([point(series(unit="ms"), now_s + 60 * (part % 3), *(n * 10 + part for n in range(1, 101)))])
        (read,) = await meter.read(series(), unit=None, start_s=now_s, end_s=now_s + 600, period_s=600, sketches=True)
        for percent, true in ((50, 509), (90, 909), (99, 999)):
            assert abs((read.summary.percentile(percent) or 0) - true) <= 0.011 * true
        assert read.summary.percentile(100) == 1009

    async def test_series_differ_in_every_part_of_their_name(self, meter: Meter, clock: VirtualClock) -> None:
        now_s = clock.wall_s() // 60 * 60
        several = [
            series(), series("errors"), series(space="App"), series(function="f"), series(function="f", version="1"),
            Series("111111111111", "here-1", "", "calls", (), "count"), Series(HOME[0], "there-1", "", "calls", (), "count"),
        ]  # fmt: skip
        meter.add([point(each, now_s, number) for number, each in enumerate(several, 1)])
        for number, each in enumerate(several, 1):
            assert await sums(meter, each, now_s, now_s + 60) == [(0, number)]

    async def test_a_unit_can_be_asked_for_and_units_are_told_apart(self, meter: Meter, clock: VirtualClock) -> None:
        now_s = int(clock.wall_s() // 60 * 60)
        meter.add([point(series(unit="bytes"), now_s, 1), point(series(unit="ms"), now_s, 2)])
        found = await meter.read(series(), unit=None, start_s=now_s, end_s=now_s + 60, period_s=60)
        assert {(each.unit, each.summary.sum) for each in found} == {("bytes", 1), ("ms", 2)}
        assert await sums(meter, series(), now_s, now_s + 60, unit="ms") == [(0, 2)]
        assert await sums(meter, series(), now_s, now_s + 60, unit="litres") == []

    async def test_series_are_listed_in_pages_by_space_name_and_age(self, meter: Meter, clock: VirtualClock) -> None:
        now_s = clock.wall_s() // 60 * 60
        meter.add([point(series(f"m{n}", space="App"), now_s - 7200, 1) for n in range(5)])
        meter.add([point(series(function="f"), now_s, 1)])
        found: list[Listed] = []
        after = 0
        while page := await meter.series(*HOME, after=after, limit=2):
            found += page
            after = page[-1].id
        assert [each.series.name for each in found] == ["m0", "m1", "m2", "m3", "m4", "calls"]
        assert [each.series for each in await meter.series(*HOME, space="")] == [series(function="f")]
        assert [each.series.name for each in await meter.series(*HOME, name="m3")] == ["m3"]
        assert [each.series.name for each in await meter.series(*HOME, since_s=now_s - 3600)] == ["calls"]
        assert await meter.series("111111111111", "here-1") == []

    async def test_what_is_too_old_is_refused_and_said(self, meter: Meter, clock: VirtualClock) -> None:
        now_s = clock.wall_s()
        assert meter.add([point(series(), now_s - MINUTES_S - 60, 1), point(series(), now_s, 1)]) == 1

    async def test_readers_at_the_same_time_all_see_what_was_added(self, meter: Meter, clock: VirtualClock) -> None:
        now_s = clock.wall_s() // 60 * 60
        for round_ in range(1, 6):
            meter.add([point(series(f"m{n}"), now_s, 1) for n in range(50)])
            found = await asyncio.gather(*(sums(meter, series(f"m{n}"), now_s, now_s + 60) for n in range(50)))
            assert found == [[(0, round_)]] * 50

    async def test_everything_is_there_after_a_restart(
        self, meter: Meter, clock: VirtualClock, reopen: Callable[[], Awaitable[Meter]]
    ) -> None:
        now_s = clock.wall_s() // 60 * 60
        meter.add([point(series(function="온돌"), now_s, 1, 2)])
        again = await reopen()
        again.add([point(series(function="온돌"), now_s + 3, 4)])
        assert await sums(again, series(function="온돌"), now_s, now_s + 60) == [(0, 7)]
        assert len(await again.series(*HOME)) == 1
