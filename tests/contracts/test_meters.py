"""The metrics store's rules, and what the one on disk adds: hours of old minutes, bounds, a full disk."""

from __future__ import annotations

import pytest

from ondol.meter import HOURS_S, MINUTES_S
from ondol.meters import sqlite as module
from ondol.meters.sqlite import MeterLimits, SqliteMeter
from ondol.model.errors import OutOfSpace
from ondol.testing.clock import VirtualClock
from ondol.testing.suites.meter import HOME, MeterSuite, point, series, sums


@pytest.fixture
def clock():
    return VirtualClock()


class TestSqliteMeter(MeterSuite):
    limits = MeterLimits()

    @pytest.fixture
    async def opened(self, tmp_path, clock):
        meters = [SqliteMeter(tmp_path / "metrics.db", clock, self.limits)]
        yield meters
        await meters[-1].close()

    @pytest.fixture
    async def meter(self, opened):
        return opened[-1]

    @pytest.fixture
    async def reopen(self, opened, tmp_path, clock):
        async def again():
            await opened[-1].close()
            opened.append(SqliteMeter(tmp_path / "metrics.db", clock, self.limits))
            return opened[-1]

        return again

    async def test_minutes_become_hours_after_fifteen_days_and_lose_nothing_but_their_minute(self, meter, clock):
        hour_s = int(clock.wall_s() // 3600 * 3600)
        meter.add([point(series(), hour_s + minute * 60, minute, 100) for minute in range(120)])
        before = await sums(meter, series(), hour_s, hour_s + 7200, 3600)
        await meter.sweep()
        assert len(await sums(meter, series(), hour_s, hour_s + 7200)) == 120
        clock.jump_wall(MINUTES_S + 3600)
        meter.add([point(series(), clock.wall_s(), 1)])
        for _ in range(2):  # a second time changes nothing
            await meter.sweep()
            hours = await sums(meter, series(), hour_s, hour_s + 7200, 60)
            assert [at for at, _ in hours][0] == 0 and len(hours) == 1 + 60
            assert await sums(meter, series(), hour_s, hour_s + 7200, 3600) == before
        clock.jump_wall(3600)
        await meter.sweep()
        (first, second) = await meter.read(
            series(), unit=None, start_s=hour_s, end_s=hour_s + 7200, period_s=3600, sketches=True
        )
        assert first.summary.percentile(100) == 100
        assert abs(first.summary.percentile(25) - 29) <= 0.6
        assert second.summary.count == 120

    async def test_hours_go_and_a_series_goes_with_its_last_one(self, meter, clock):
        meter.add([point(series(), clock.wall_s(), 1)])
        await meter.sweep()
        clock.jump_wall(HOURS_S + 7200)
        meter.add([point(series("other"), clock.wall_s(), 1)])
        await meter.sweep()
        assert [each.series.name for each in await meter.series(*HOME)] == ["other"]
        meter.add([point(series(), clock.wall_s(), 2)])  # it may begin again
        assert len(await meter.series(*HOME)) == 2

    async def test_more_than_a_read_may_look_at_is_refused(self, meter, clock, monkeypatch):
        monkeypatch.setattr(module, "READ_MAX", 10)
        now_s = int(clock.wall_s())
        meter.add([point(series(), now_s - n * 60, 1) for n in range(11)])
        with pytest.raises(module.TooLarge):
            await sums(meter, series(), now_s - 3600, now_s + 60)

    async def test_what_waits_in_memory_is_bounded(self, meter, clock, monkeypatch):
        monkeypatch.setattr(module, "PENDING_MAX", 10)
        assert meter.add([point(series(f"m{n}"), clock.wall_s(), 1) for n in range(15)]) == 5
        assert meter.dropped == 5
        assert len(await meter.series(*HOME)) == 10

    async def test_a_flood_of_users_series_leaves_room_for_the_platforms(self, meter, clock, monkeypatch):
        monkeypatch.setattr(module, "PENDING_MAX", 10)
        monkeypatch.setattr(module, "PENDING_USERS_MAX", 6)
        assert meter.add([point(series(f"m{n}", space="App"), clock.wall_s(), 1) for n in range(20)]) == 14
        assert meter.add([point(series(f"m{n}"), clock.wall_s(), 1) for n in range(4)]) == 0

    async def test_what_cannot_be_written_waits_and_is_written_once(self, meter, clock, monkeypatch, reopen):
        now_s = clock.wall_s() // 60 * 60
        write = meter._database.write

        async def full(job):
            raise OutOfSpace("no space is left")

        monkeypatch.setattr(meter._database, "write", full)
        meter.add([point(series(), now_s, 1)])
        with pytest.raises(OutOfSpace):
            await sums(meter, series(), now_s, now_s + 60)
        meter.add([point(series(), now_s, 2), point(series("other"), now_s, 5)])
        monkeypatch.setattr(meter._database, "write", write)
        again = await reopen()
        assert await sums(again, series(), now_s, now_s + 60) == [(0, 3)]
        assert await sums(again, series("other"), now_s, now_s + 60) == [(0, 5)]


class TestBounds:
    async def test_users_series_are_bounded_and_leave_the_platforms_alone(self, tmp_path, clock):
        meter = SqliteMeter(tmp_path / "m.db", clock, MeterLimits(user_series_max=3, platform_series_max=2))
        meter.add([point(series(f"m{n}", space="App"), clock.wall_s(), 1) for n in range(5)])
        meter.add([point(series("calls"), clock.wall_s(), 1)])
        found = [each.series.name for each in await meter.series(*HOME)]
        assert found == ["m0", "m1", "m2", "calls"]
        meter.add([point(series("m1", space="App"), clock.wall_s(), 1), point(series("m7", space="App"), clock.wall_s(), 1)])
        assert len(await meter.series(*HOME)) == 4
        assert meter.dropped == 3
        await meter.close()

    async def test_a_file_that_grows_too_large_loses_its_oldest(self, tmp_path, clock):
        meter = SqliteMeter(tmp_path / "m.db", clock, MeterLimits(bytes_max=200_000))
        now_s = int(clock.wall_s())
        meter.add([point(series(f"m{n}"), now_s - age * 60, age, age + 1) for n in range(20) for age in range(400)])
        await meter.sweep()
        kept = [at for at, _ in await sums(meter, series("m0"), now_s // 60 * 60 - 400 * 60, now_s + 60)]
        assert 0 < len(kept) < 400
        assert kept[-1] == 400 * 60  # the newest
        await meter.close()
