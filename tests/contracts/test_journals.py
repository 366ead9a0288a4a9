"""The journal's rules, and what segments add: torn tails, rotation, retention, bounded files."""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ondol.journals.group import JournalLimits
from ondol.journals.segments import SegmentJournal
from ondol.model.errors import Invalid
from ondol.testing.clock import VirtualClock
from ondol.testing.suites.journal import JournalSuite, batch, messages

_F = ("000000000000", "here-1", "/logs/f")


class TestSegmentJournal(JournalSuite):
    limits = JournalLimits()

    @pytest.fixture
    async def opened(self, tmp_path):
        journals = [SegmentJournal(tmp_path, self.limits)]
        yield journals
        await journals[-1].close()

    @pytest.fixture
    async def journal(self, opened):
        return opened[-1]

    @pytest.fixture
    async def reopen(self, opened, tmp_path):
        async def again():
            await opened[-1].close()
            opened.append(SegmentJournal(tmp_path, self.limits))
            return opened[-1]

        return again


class TestSegmentJournalInSmallPieces(TestSegmentJournal):
    """The same with files that are full after a few lines and groups that are closed all the time."""

    limits = JournalLimits(segment_bytes_max=200, group_bytes_max=10_000_000, groups_open_max=1)


def logs(tmp_path):
    return sorted(tmp_path.rglob("*.log"))


async def test_a_torn_tail_is_cut_off_and_writing_goes_on(tmp_path):
    journal = SegmentJournal(tmp_path)
    await journal.append([batch("s", (1, "first"), (2, "second"))])
    await journal.close()
    (path,) = logs(tmp_path)
    path.with_suffix(".summary").unlink()
    whole = path.read_bytes()
    for torn in range(1, 40):
        path.write_bytes(whole[:-torn])
        path.with_suffix(".summary").unlink(missing_ok=True)
        journal = SegmentJournal(tmp_path)
        await journal.append([batch("s", (3, "third"))])
        expected = ["first", "third"] if torn <= len("second") + 28 else ["third"]
        assert messages(await journal.entries(*_F)) == expected
        await journal.close()


async def test_a_damaged_summary_costs_nothing_but_time(tmp_path):
    journal = SegmentJournal(tmp_path)
    await journal.append([batch("s", (1, "first"))])
    await journal.close()
    (path,) = logs(tmp_path)
    for summary in (b"", b"\xff" * 50, path.with_suffix(".summary").read_bytes()[:-3]):
        path.with_suffix(".summary").write_bytes(summary)
        journal = SegmentJournal(tmp_path)
        assert messages(await journal.entries(*_F)) == ["first"]
        await journal.close()


async def test_what_was_appended_after_the_summary_is_found(tmp_path):
    first = SegmentJournal(tmp_path)
    await first.append([batch("s", (1, "first"))])
    await first.close()
    second = SegmentJournal(tmp_path)
    await second.append([batch("s", (2, "second")), batch("t", (3, "third"))])
    # As after kill -9: `second` never closes, another reads what it left.
    third = SegmentJournal(tmp_path)
    assert messages(await third.entries(*_F)) == ["first", "second", "third"]
    await third.close()
    await second.close()


async def test_a_damaged_line_is_not_shown_and_hides_no_other(tmp_path):
    journal = SegmentJournal(tmp_path)
    await journal.append([batch("s", (1, "first"), (2, "second"), (3, "third"))])
    (path,) = logs(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"second")] ^= 1
    path.write_bytes(data)
    assert messages(await journal.entries(*_F)) == ["first", "third"]
    await journal.close()


async def test_a_group_keeps_its_newest_bytes(tmp_path):
    limits = JournalLimits(group_bytes_max=40_000, segment_bytes_max=10_000)
    journal = SegmentJournal(tmp_path, limits)
    for n in range(200):
        await journal.append([batch(f"s{n}", (n, f"{n:04d}" + "x" * 996))])
        assert sum(path.stat().st_size for path in logs(tmp_path)) <= 40_000
    kept = [int(message[:4]) for message in messages(await journal.entries(*_F))]
    assert kept == list(range(kept[0], 200))
    assert len(kept) >= 25
    assert {stream.name for stream in await journal.streams(*_F)} == {f"s{n}" for n in kept}
    await journal.close()


async def test_old_lines_go_even_where_nobody_writes(tmp_path):
    clock = VirtualClock()
    journal = SegmentJournal(tmp_path, JournalLimits(age_s_max=1000.0), clock=clock)
    await journal.append([batch("s", (1, "old"))])
    (path,) = logs(tmp_path)
    os.utime(path, (clock.wall_s() - 2000, clock.wall_s() - 2000))
    await clock.advance(700)
    await journal.append([batch("s", (1, "new"), group="/logs/other")])
    assert messages(await journal.entries(*_F)) == []
    assert await journal.streams(*_F) == []
    await journal.append([batch("s", (5, "again"))])
    assert messages(await journal.entries(*_F)) == ["again"]
    await journal.close()


async def test_all_groups_together_are_bounded(tmp_path):
    clock = VirtualClock()
    limits = JournalLimits(journal_bytes_max=50_000, segment_bytes_max=5_000)
    journal = SegmentJournal(tmp_path, limits, clock=clock)
    for n in range(100):
        await journal.append([batch("s", (n, "x" * 1000), group=f"/logs/{n % 10}")])
        await clock.advance(601)
    assert sum(path.stat().st_size for path in logs(tmp_path)) <= 55_000
    await journal.close()


async def test_few_files_are_open_however_many_groups_there_are(tmp_path):
    journal = SegmentJournal(tmp_path, JournalLimits(groups_open_max=4))
    for turn in range(2):
        await journal.append([batch("s", (turn, str(turn)), group=f"/logs/{n}") for n in range(40)])
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    assert sum(name.startswith(str(tmp_path)) for name in held) <= 4
    for n in range(40):
        assert messages(await journal.entries("000000000000", "here-1", f"/logs/{n}")) == ["0", "1"]
    await journal.close()


def _is_open(descriptor):
    return os.path.islink(f"/proc/self/fd/{descriptor}")


async def test_an_answer_is_bounded_in_bytes_and_pages_give_the_rest(tmp_path):
    journal = SegmentJournal(tmp_path, JournalLimits(answer_bytes_max=10_000))
    await journal.append([batch("s", *[(n, f"{n:02d}" + "x" * 3000) for n in range(20)])])
    found = []
    while page := await journal.entries(*_F, after=found[-1].id if found else ""):
        assert sum(len(entry.message) for entry in page) <= 10_000
        found += page
    assert [int(entry.message[:2]) for entry in found] == list(range(20))
    await journal.close()


async def test_a_foreign_id_is_refused(tmp_path):
    journal = SegmentJournal(tmp_path)
    await journal.append([batch("s", (1, "x"))])
    with pytest.raises(Invalid, match="no id|not the id"):
        await journal.entries(*_F, after="bogus")
    await journal.close()


async def test_reading_and_writing_at_once_shows_whole_lines_in_order(tmp_path):
    journal = SegmentJournal(tmp_path, JournalLimits(segment_bytes_max=2000))

    async def write():
        for n in range(1, 150):
            await journal.append([batch("s", (n, f"line {n}"))])

    await journal.append([batch("s", (0, "line 0"))])
    writing = asyncio.ensure_future(write())
    while not writing.done():
        found = messages(await journal.entries(*_F))
        assert found == [f"line {n}" for n in range(len(found))]
    await writing
    assert len(await journal.entries(*_F)) == 150
    await journal.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), newest=st.booleans(), limit=st.integers(1, 40))
async def test_any_search_finds_what_a_plain_loop_would(tmp_path_factory, seed, newest, limit):
    draw = random.Random(seed)
    root = tmp_path_factory.mktemp("journal")
    journal = SegmentJournal(root, JournalLimits(segment_bytes_max=draw.choice([150, 4000, 10**7])))
    for _ in range(draw.randint(1, 12)):
        await journal.append(
            [
                batch(
                    draw.choice("abc"),
                    *[
                        (draw.randint(0, 60), draw.choice(["red", "green", "red green", "blue"]))
                        for _ in range(draw.randint(1, 6))
                    ],
                )
                for _ in range(draw.randint(1, 3))
            ]
        )
    everything = await journal.entries(*_F)
    known = sorted({entry.stream for entry in everything})
    streams = draw.choice([None, known[:1], known])
    start, end = sorted([draw.randint(0, 60), draw.randint(0, 61)])
    term = draw.choice(["", "red", "green", "ee"])
    expected = [
        entry
        for entry in everything
        if start <= entry.at_ms < end and term in entry.message and (streams is None or entry.stream in streams)
    ]
    if newest:
        expected.reverse()
    found = await journal.entries(
        *_F,
        streams=streams,
        start_ms=start,
        end_ms=end,
        terms=[term] if term else [],
        newest_first=newest,
        limit=limit,
    )
    await journal.close()
    assert list(found) == expected[:limit]
