"""The rules of what keeps records, and what the one on disk adds: bounds of count, age and memory."""

from __future__ import annotations

import pytest

from ondol.model.errors import OutOfSpace
from ondol.model.invocations import Status
from ondol.recorders import sqlite as module
from ondol.recorders.sqlite import RecorderLimits, SqliteRecorder
from ondol.testing.clock import VirtualClock
from ondol.testing.suites.recorder import HOME, RecorderSuite, ids, record


class TestSqliteRecorder(RecorderSuite):
    @pytest.fixture
    async def opened(self, tmp_path):
        recorders = [SqliteRecorder(tmp_path / "records.db", VirtualClock())]
        yield recorders
        await recorders[-1].close()

    @pytest.fixture
    async def recorder(self, opened):
        return opened[-1]

    @pytest.fixture
    async def reopen(self, opened, tmp_path):
        async def again():
            await opened[-1].close()
            opened.append(SqliteRecorder(tmp_path / "records.db", VirtualClock()))
            return opened[-1]

        return again

    async def test_what_waits_in_memory_is_bounded(self, recorder, monkeypatch):
        monkeypatch.setattr(module, "PENDING_MAX", 10)
        assert recorder.add([record(str(n)) for n in range(15)]) == 5
        assert recorder.dropped == 5
        assert ids(await recorder.find(*HOME))[-1] == "0"

    async def test_what_cannot_be_written_waits_within_its_bound_and_is_written_once(self, recorder, monkeypatch, reopen):
        write = recorder._database.write

        async def full(job):
            raise OutOfSpace("no space is left")

        monkeypatch.setattr(module, "PENDING_MAX", 3)
        monkeypatch.setattr(recorder._database, "write", full)
        recorder.add([record("1"), record("2")])
        with pytest.raises(OutOfSpace):
            await recorder.find(*HOME)
        assert recorder.add([record("3"), record("4")]) == 1
        monkeypatch.setattr(recorder._database, "write", write)
        assert ids(await (await reopen()).find(*HOME)) == ["3", "2", "1"]


async def test_the_newest_stay_when_there_are_too_many(tmp_path):
    recorder = SqliteRecorder(tmp_path / "r.db", VirtualClock(), RecorderLimits(records_max=13))
    for batch in range(5):
        recorder.add([record(f"{batch}-{n}", status=Status.FAILED if n % 2 else Status.OK) for n in range(6)])
        await recorder.find(*HOME)
        assert len(await recorder.find(*HOME)) == min((batch + 1) * 6, 12)  # they go with what came in the same moment
    assert ids(await recorder.find(*HOME, limit=1)) == ["4-5"]
    assert ids(await recorder.find(*HOME, function="f"))[-1] == "3-0"
    assert len(await recorder.find(*HOME, failed=True)) == 6
    await recorder.close()


async def test_more_than_a_block_of_one_moment_is_found_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_MAX", 7)
    recorder = SqliteRecorder(tmp_path / "r.db", VirtualClock())
    recorder.add([record(str(n), "f" if n % 3 else "g") for n in range(40)])
    found = []
    while page := await recorder.find(*HOME, before=found[-1].place if found else None, limit=4):
        found += page
    assert ids(found) == [str(n) for n in reversed(range(40))]
    assert ids(await recorder.find(*HOME, function="g"))[-1] == "0"
    await recorder.close()


async def test_what_is_too_old_goes(tmp_path):
    clock = VirtualClock()
    recorder = SqliteRecorder(tmp_path / "r.db", clock, RecorderLimits(age_s_max=60))
    recorder.add([record("old", started_ms=int(clock.wall_s() * 1000))])
    await recorder.sweep()
    assert ids(await recorder.find(*HOME)) == ["old"]
    clock.jump_wall(61)
    recorder.add([record("new", started_ms=int(clock.wall_s() * 1000))])
    await recorder.sweep()
    assert ids(await recorder.find(*HOME)) == ["new"]
    await recorder.close()
