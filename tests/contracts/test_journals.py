"""The journal's rules, and what segments add: torn tails, rotation, retention, bounded files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import zlib
from dataclasses import replace

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ondol.journal import GroupSettings
from ondol.journals import packed
from ondol.journals.group import JournalLimits
from ondol.journals.segment import Segment
from ondol.journals.segments import SegmentJournal
from ondol.model.errors import Invalid, Throttled
from ondol.testing.clock import VirtualClock
from ondol.testing.suites.journal import JournalSuite, batch, messages

#: Text that does not get smaller by much.
NOISE = "".join(map(chr, random.Random(1).choices(range(33, 127), k=3000)))
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
    return sorted(tmp_path.rglob("*.log*"))


def stored_bytes(tmp_path):
    size = 0
    for path in logs(tmp_path):
        with contextlib.suppress(FileNotFoundError):  # packed meanwhile
            size += path.stat().st_size
    return size


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


async def test_lines_whose_stream_is_lost_are_never_another_streams(tmp_path):
    """A power cut may take the end of the table of streams and leave the lines: files reach the disk in any order."""
    journal = SegmentJournal(tmp_path)
    await journal.append([batch("s", (1, "of s"))])
    await journal.append([batch("lost", (2, "of the lost one"))])
    await journal.close()
    (table,) = tmp_path.rglob("streams")
    os.truncate(table, table.stat().st_size - 1)
    journal = SegmentJournal(tmp_path)
    await journal.append([batch("new", (3, "of new"))])
    assert messages(await journal.entries(*_F, streams=["new"])) == ["of new"]
    assert [stream.name for stream in await journal.streams(*_F)] == ["new", "s"]
    assert messages(await journal.entries(*_F)) == ["of s", "of the lost one", "of new"]
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
        await journal.append([batch(f"s{n}", (n, f"{n:04d}" + NOISE[n : n + 996]))])
        assert stored_bytes(tmp_path) <= 40_000
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
    await journal.append([])
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
        await journal.append([batch("s", (n, NOISE[n : n + 1000]), group=f"/logs/{n % 10}")])
        await clock.advance(601)
    assert stored_bytes(tmp_path) <= 55_000
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
        if draw.random() < 0.3:
            await journal.packed()
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


# Packing -----------------------------------------------------------------------------------------------------------------

SMALL = JournalLimits(segment_bytes_max=5_000)


async def filled(tmp_path, count=300, limits=SMALL):
    """A journal with several segments, all but the last packed."""
    journal = SegmentJournal(tmp_path, limits)
    for n in range(count):
        await journal.append([batch(f"s{n % 3}", (n, f"line {n} of a few that look alike"))])
    await journal.packed()
    return journal


def everything(count=300):
    return [f"line {n} of a few that look alike" for n in range(count)]


async def test_closed_segments_get_smaller_and_say_the_same(tmp_path):
    journal = await filled(tmp_path)
    before = [entry.id for entry in await journal.entries(*_F)]
    suffixes = [path.suffix for path in logs(tmp_path)]
    assert suffixes == [*([".logz"] * (len(suffixes) - 1)), ".log"]
    assert len(suffixes) > 1
    [group] = await journal.groups(*_F[:2])
    assert group.stored_bytes == stored_bytes(tmp_path) < 15_000
    assert messages(await journal.entries(*_F)) == everything()
    assert messages(await journal.entries(*_F, terms=["line 7 "])) == ["line 7 of a few that look alike"]
    assert messages(await journal.entries(*_F, streams=["s1"], newest_first=True, limit=1)) == [everything()[298]]
    await journal.close()
    for path in tmp_path.rglob("*.summary"):
        path.unlink()
    journal = SegmentJournal(tmp_path, SMALL)
    assert [entry.id for entry in await journal.entries(*_F)] == before
    assert messages(await journal.entries(*_F)) == everything()
    await journal.append([batch("s0", (1000, "more"))])
    assert messages(await journal.entries(*_F))[-1] == "more"
    await journal.close()


async def test_a_search_that_began_before_a_segment_was_packed_goes_on_in_the_packed_one(tmp_path):
    limits = JournalLimits(segment_bytes_max=2000)
    journal = SegmentJournal(tmp_path, limits)

    async def write():
        for n in range(400):
            await journal.append([batch("s", (n, f"line {n}"))])

    await journal.append([batch("s", (-1, "first"))])
    writing = asyncio.ensure_future(write())
    while not writing.done():
        found = messages(await journal.entries(*_F))
        assert found == ["first", *(f"line {n}" for n in range(len(found) - 1))]
    await writing
    await journal.close()


async def test_a_search_that_began_before_its_group_was_closed_opened_and_packed_goes_on(tmp_path):
    journal = SegmentJournal(tmp_path, SMALL)
    journal._packer.shutdown()
    for n in range(300):
        await journal.append([batch(f"s{n % 3}", (n, f"line {n} of a few that look alike"))])
    await journal.close()
    path = logs(tmp_path)[0]
    before = Segment.load(path, 1)
    data = before.read(before.blocks[0])
    journal = SegmentJournal(tmp_path, SMALL)
    await journal.streams(*_F)
    await journal.packed()
    assert not path.exists()
    assert before.read(before.blocks[0]) == data
    assert b"line 0 " in data
    await journal.drop(*_F)
    assert before.read(before.blocks[0]) == b""
    await journal.close()


async def test_a_node_killed_while_packing_leaves_nothing_behind_and_loses_nothing(tmp_path):
    journal = await filled(tmp_path)
    await journal.close()
    first, *_ = logs(tmp_path)
    whole = first.read_bytes()
    first.with_suffix(".packing").write_bytes(whole[: len(whole) // 2])
    # … and one that was killed between the packed file's coming and the other's going.
    second = logs(tmp_path)[1]
    second.with_suffix(".log").write_bytes(b"what was packed")
    journal = SegmentJournal(tmp_path, SMALL)
    assert messages(await journal.entries(*_F)) == everything()
    assert not list(tmp_path.rglob("*.packing"))
    assert len({path.stem for path in logs(tmp_path)}) == len(logs(tmp_path))
    await journal.close()


async def test_segments_that_an_older_release_left_are_packed_when_their_group_is_used(tmp_path):
    journal = SegmentJournal(tmp_path, SMALL)
    journal._packer.shutdown()  # as if there were none
    for n in range(300):
        await journal.append([batch(f"s{n % 3}", (n, f"line {n} of a few that look alike"))])
    await journal.close()
    assert {path.suffix for path in logs(tmp_path)} == {".log"}
    journal = SegmentJournal(tmp_path, SMALL)
    assert messages(await journal.entries(*_F)) == everything()
    await journal.packed()
    assert [path.suffix for path in logs(tmp_path)].count(".log") == 1
    assert messages(await journal.entries(*_F)) == everything()
    await journal.close()


async def test_a_summary_of_an_older_release_is_understood(tmp_path):
    journal = SegmentJournal(tmp_path)
    await journal.append([batch("s", (1, "first"), (7, "second"))])
    await journal.close()
    (path,) = logs(tmp_path)
    size = path.stat().st_size
    older = {"end": size, "blocks": [[0, size, 1, 7, [1]]], "spans": {1: [1, 7, 9]}}
    path.with_suffix(".summary").write_bytes(msgspec.msgpack.encode(older))
    found = Segment.load(path, 1)
    assert found.spans[1].ingested_ms == 9, "the file was read again"
    assert [(block.start, block.end, block.streams) for block in found.blocks] == [(0, size, {1})]
    journal = SegmentJournal(tmp_path)
    assert messages(await journal.entries(*_F)) == ["first", "second"]
    await journal.close()


async def test_a_damaged_block_of_a_packed_segment_hides_no_other(tmp_path):
    limits = JournalLimits(segment_bytes_max=600_000)
    journal = SegmentJournal(tmp_path, limits)
    for n in range(10):
        await journal.append([batch("s", (n, f"{n} {NOISE}" * 30))])
    await journal.append([batch("s", (10, "x" * 600_000))])
    await journal.packed()
    path = logs(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    found = messages(await journal.entries(*_F))
    assert 5 <= len(found) < 11
    assert found[0].startswith("0 ")
    assert found[-1].startswith("x")
    await journal.close()


async def test_a_group_that_is_dropped_and_made_anew_while_it_is_packed_keeps_nothing_of_the_old(tmp_path, monkeypatch):
    packing, go_on, real = threading.Event(), threading.Event(), os.open

    def slow(path, *more):
        if str(path).endswith(".packing") and not packing.is_set():  # the old file is open, the new one not yet
            packing.set()
            assert go_on.wait(20)
        return real(path, *more)

    monkeypatch.setattr(os, "open", slow)
    journal = SegmentJournal(tmp_path, SMALL)
    for n in range(150):
        await journal.append([batch("s", (n, f"an old line, number {n}"))])
    assert await asyncio.to_thread(packing.wait, 20)
    await journal.drop(*_F)
    await journal.append([batch("s", (n, f"a new line, number {n}")) for n in range(60)])
    go_on.set()
    await journal.packed()
    assert messages(await journal.entries(*_F)) == [f"a new line, number {n}" for n in range(60)]
    assert not list(tmp_path.rglob("*.packing"))
    await journal.close()


async def test_what_cannot_be_packed_stays_readable(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packed, "pack", full)
    journal = await filled(tmp_path)
    assert {path.suffix for path in logs(tmp_path)} == {".log"}
    assert messages(await journal.entries(*_F)) == everything()
    assert "unpacked" in caplog.text
    await journal.close()


@given(data=st.binary(max_size=300), cut=st.integers(0, 400))
def test_any_bytes_in_a_packed_file_are_read_without_harm(data, cut):
    assert all(len(block) <= packed.BLOCK_BYTES_MAX for *_, block in packed.frames(data))
    assert packed.unpack(data, 1000) in (b"", data)
    made = zlib.compress(data)
    assert packed.unpack(made, len(data)) == data
    assert packed.unpack(made[:cut], len(data)) in (b"", data)


async def test_a_group_may_keep_its_lines_longer_or_less_long_than_the_journal(tmp_path):
    clock = VirtualClock()
    journal = SegmentJournal(tmp_path, JournalLimits(age_s_max=10 * 86_400.0), clock=clock)
    for name, days in (("/short", 3), ("/long", 30), ("/usual", None)):
        await journal.create(*_F[:2], name, GroupSettings(retention_days=days))
        await journal.append([batch("s", (1, name), group=name)])
    for path in logs(tmp_path):
        os.utime(path, (clock.wall_s(), clock.wall_s()))

    async def kept():
        await clock.advance(5 * 86_400)
        await journal.append([batch("s", (1, "tick"), group="/clock")])
        return [name for name in ("/short", "/usual", "/long") if await journal.entries(*_F[:2], name)]

    assert await kept() == ["/usual", "/long"]
    assert await kept() == ["/usual", "/long"]
    assert await kept() == ["/long"]
    await journal.configure(*_F[:2], "/long", lambda settings: replace(settings, retention_days=7))
    await journal.append([batch("s", (1, "tick"), group="/clock")])
    assert await journal.entries(*_F[:2], "/long") == []
    await journal.close()


async def test_a_group_of_an_older_release_has_no_settings_yet(tmp_path):
    journal = SegmentJournal(tmp_path)
    await journal.append([batch("s", (1, "old"))])
    await journal.close()
    (about,) = tmp_path.rglob("about")
    about.write_bytes(msgspec.msgpack.encode({"name": "/logs/f", "created_ms": 5}))
    journal = SegmentJournal(tmp_path)
    [group] = await journal.groups(*_F[:2])
    assert (group.created_ms, group.settings) == (5, GroupSettings())
    assert messages(await journal.entries(*_F)) == ["old"]
    await journal.close()


async def test_groups_that_know_of_too_many_blocks_are_closed_and_opened_again(tmp_path):
    journal = SegmentJournal(tmp_path, JournalLimits(segment_bytes_max=200, blocks_known_max=20))
    for n in range(60):
        await journal.append([batch("s", (n, f"{n}"), group=f"/logs/{n % 4}")])
        assert sum(group.blocks_known for group in list(journal._groups.values())[:-1]) <= 20
    for n in range(4):
        assert messages(await journal.entries(*_F[:2], f"/logs/{n}")) == [str(n + 4 * m) for m in range(15)]
    await journal.close()


async def test_groups_and_streams_made_by_hand_are_bounded(tmp_path):
    journal = SegmentJournal(tmp_path, JournalLimits(groups_made_max=1, streams_made_max=2))
    await journal.create(*_F, GroupSettings())
    with pytest.raises(Invalid, match="1 log groups"):
        await journal.create(*_F[:2], "/more", GroupSettings())
    await journal.append([batch("s", (1, "what functions log is taken all the same"), group="/more")])
    for name in "ab":
        await journal.create_stream(*_F, name)
    with pytest.raises(Invalid, match="2 streams"):
        await journal.create_stream(*_F, "c")
    await journal.close()


async def test_followers_and_what_waits_for_them_are_bounded(tmp_path):
    journal = SegmentJournal(tmp_path, JournalLimits(followers_max=2, follower_events_max=5, follower_bytes_max=100))
    one, other = (journal.follow(*_F[:2], ["/logs/f"]) for _ in range(2))
    with pytest.raises(Throttled):
        journal.follow(*_F[:2], ["/logs/f"])
    other.close()
    journal.follow(*_F[:2], ["/logs/f"]).close()
    for n in range(4):
        await journal.append([batch("s", (n, "a"), (n, "b"))])
    taken, dropped = await one.take(100)
    assert (sum(len(each.events) for each in taken), dropped) == (4, 4)
    await journal.append([batch("s", (9, "x" * 101))])
    assert await one.take(100) == ([], 1)
    await journal.append([batch("s", (9, "y"))])
    assert [each.events[0].message for each in (await one.take(100))[0]] == ["y"]
    await journal.close()
