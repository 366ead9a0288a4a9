"""What every `ondol.journal.LogStore` does. Give the fixtures `journal` and `reopen` (closes it and opens it again)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from ondol.journal import Batch, Entry, GroupSettings, LogStore
from ondol.model.errors import AlreadyExists, NotFound
from ondol.model.invocations import LogEvent

_HOME = ("000000000000", "here-1")


def batch(stream: str, *lines: tuple[int, str], group: str = "/logs/f") -> Batch:
    """Lines of one stream, each with its time in milliseconds."""
    return Batch(*_HOME, group, stream, [LogEvent(at_ms, message) for at_ms, message in lines])


def messages(entries: Sequence[Entry]) -> list[str]:
    return [entry.message for entry in entries]


class JournalSuite:
    """What was appended is found again, in time order."""

    async def test_lines_come_back_as_they_were(self, journal: LogStore) -> None:
        lines = ["plain", "", "온돌 🔥", "tab\tand\nnewline", "nul\0inside", "x" * 200_000]
        await journal.append([batch("s", *enumerate(lines))])
        entries = await journal.entries(*_HOME, "/logs/f")
        assert messages(entries) == lines
        assert [(entry.stream, entry.at_ms) for entry in entries] == [("s", n) for n in range(len(lines))]

    async def test_streams_are_merged_in_time_order(self, journal: LogStore) -> None:
        await journal.append([batch("a", (10, "a1"), (30, "a2")), batch("b", (20, "b1"), (40, "b2"))])
        await journal.append([batch("c", (15, "late"))])
        assert messages(await journal.entries(*_HOME, "/logs/f")) == ["a1", "late", "b1", "a2", "b2"]

    async def test_lines_of_the_same_moment_keep_their_order(self, journal: LogStore) -> None:
        await journal.append([batch("s", *[(5, str(n)) for n in range(50)])])
        assert messages(await journal.entries(*_HOME, "/logs/f")) == [str(n) for n in range(50)]

    async def test_one_streams_lines_can_be_asked_for(self, journal: LogStore) -> None:
        await journal.append([batch("a", (1, "a1")), batch("b", (2, "b1")), batch("a", (3, "a2"))])
        assert messages(await journal.entries(*_HOME, "/logs/f", streams=["a"])) == ["a1", "a2"]

    async def test_a_span_of_time_has_its_start_and_not_its_end(self, journal: LogStore) -> None:
        await journal.append([batch("s", *[(n, str(n)) for n in range(10)])])
        assert messages(await journal.entries(*_HOME, "/logs/f", start_ms=3, end_ms=6)) == ["3", "4", "5"]

    async def test_every_term_must_be_there_as_written(self, journal: LogStore) -> None:
        await journal.append([batch("s", (1, "ERROR in disk"), (2, "error in disk"), (3, "ERROR elsewhere"))])
        assert messages(await journal.entries(*_HOME, "/logs/f", terms=["ERROR", "disk"])) == ["ERROR in disk"]
        assert messages(await journal.entries(*_HOME, "/logs/f", terms=["nowhere"])) == []

    async def test_newest_first_gives_the_last_lines(self, journal: LogStore) -> None:
        await journal.append([batch("s", *[(n, str(n)) for n in range(100)])])
        found = await journal.entries(*_HOME, "/logs/f", newest_first=True, limit=3)
        assert messages(found) == ["99", "98", "97"]

    async def test_pages_follow_one_another_by_id(self, journal: LogStore) -> None:
        for n in range(30):
            await journal.append([batch(f"s{n % 3}", (n // 4, str(n)))])
        everything = await journal.entries(*_HOME, "/logs/f")
        found: list[Entry] = []
        while page := await journal.entries(*_HOME, "/logs/f", after=found[-1].id if found else "", limit=7):
            found += page
        assert found == list(everything)
        back: list[Entry] = []
        before = ""
        while page := await journal.entries(*_HOME, "/logs/f", before=before, newest_first=True, limit=7):
            back += page
            before = page[-1].id
        assert back == list(reversed(everything))

    async def test_ids_sort_as_the_lines_do_and_never_change(
        self, journal: LogStore, reopen: Callable[[], Awaitable[LogStore]]
    ) -> None:
        await journal.append([batch("a", (1_700_000_000_000, "1"), (5, "0")), batch("b", (1_700_000_000_000, "2"))])
        before = [entry.id for entry in await journal.entries(*_HOME, "/logs/f")]
        assert before == sorted(before)
        again = await reopen()
        assert [entry.id for entry in await again.entries(*_HOME, "/logs/f")] == before

    async def test_groups_are_listed_by_name(self, journal: LogStore) -> None:
        names = ["/logs/a", "/logs/b", "/logs/b/c", "/logs/z", "/other", ".hidden", "..", "sp ace/~%", "x" * 400]
        for name in reversed(names):
            await journal.append([batch("s", (1, "x"), group=name)])
        found, after = [], ""
        while page := await journal.groups(*_HOME, after=after, limit=2):
            found += [group.name for group in page]
            after = page[-1].name
        assert found == sorted(names)
        assert [group.name for group in await journal.groups(*_HOME, prefix="/logs/b")] == ["/logs/b", "/logs/b/c"]
        assert all(group.stored_bytes > 0 and group.created_ms > 0 for group in await journal.groups(*_HOME))

    async def test_accounts_and_regions_do_not_see_one_another(self, journal: LogStore) -> None:
        await journal.append([batch("s", (1, "mine"))])
        await journal.append([Batch("111111111111", "here-1", "/logs/f", "s", [LogEvent(1, "theirs")])])
        assert messages(await journal.entries(*_HOME, "/logs/f")) == ["mine"]
        assert messages(await journal.entries("111111111111", "here-1", "/logs/f")) == ["theirs"]
        assert not await journal.groups("000000000000", "there-1")

    async def test_streams_know_their_first_and_last(self, journal: LogStore) -> None:
        await journal.append([batch("2026/b", (20, "x"), (40, "y"))])
        await journal.append([batch("2026/a", (30, "z")), batch("2026/b", (10, "w"))])
        streams = await journal.streams(*_HOME, "/logs/f", prefix="2026/")
        assert [(s.name, s.first_ms, s.last_ms) for s in streams] == [("2026/a", 30, 30), ("2026/b", 10, 40)]
        assert not await journal.streams(*_HOME, "/logs/f", prefix="2027/")

    async def test_what_is_not_there_is_said(self, journal: LogStore) -> None:
        with pytest.raises(NotFound, match="log group"):
            await journal.entries(*_HOME, "/logs/none")
        with pytest.raises(NotFound, match="log group"):
            await journal.streams(*_HOME, "/logs/none")
        await journal.append([batch("s", (1, "x"))])
        with pytest.raises(NotFound, match="log stream"):
            await journal.entries(*_HOME, "/logs/f", streams=["t"])

    async def test_a_dropped_group_is_gone_and_may_begin_again(self, journal: LogStore) -> None:
        await journal.append([batch("s", (1, "old"))])
        await journal.drop(*_HOME, "/logs/f")
        await journal.drop(*_HOME, "/logs/f")
        assert not await journal.groups(*_HOME)
        await journal.append([batch("s", (1, "new"))])
        assert messages(await journal.entries(*_HOME, "/logs/f")) == ["new"]

    async def test_everything_is_there_after_a_restart(
        self, journal: LogStore, reopen: Callable[[], Awaitable[LogStore]]
    ) -> None:
        for n in range(20):
            await journal.append([batch(f"s{n}", (n, f"line {n}"))])
        again = await reopen()
        assert messages(await again.entries(*_HOME, "/logs/f")) == [f"line {n}" for n in range(20)]
        await again.append([batch("s3", (100, "more"))])
        assert messages(await again.entries(*_HOME, "/logs/f", streams=["s3"])) == ["line 3", "more"]
        assert len(await again.streams(*_HOME, "/logs/f")) == 20

    # Groups and streams by hand ----------------------------------------------------------------------------------------
    async def test_a_group_can_be_made_before_its_first_line(self, journal: LogStore) -> None:
        await journal.create(*_HOME, "/logs/new", GroupSettings(retention_days=7, tags={"team": "blue"}))
        [group] = await journal.groups(*_HOME)
        assert (group.name, group.stored_bytes, group.settings.retention_days) == ("/logs/new", 0, 7)
        assert group.settings.tags == {"team": "blue"}
        assert await journal.entries(*_HOME, "/logs/new") == []
        assert await journal.streams(*_HOME, "/logs/new") == []
        with pytest.raises(AlreadyExists):
            await journal.create(*_HOME, "/logs/new", GroupSettings())

    async def test_settings_survive_lines_and_restarts(
        self, journal: LogStore, reopen: Callable[[], Awaitable[LogStore]]
    ) -> None:
        await journal.append([batch("s", (1, "x"))])
        changed = await journal.configure(*_HOME, "/logs/f", lambda settings: replace(settings, tags={"a": "b"}))
        assert changed == GroupSettings(tags={"a": "b"})
        await journal.configure(*_HOME, "/logs/f", lambda settings: replace(settings, retention_days=30))
        await journal.append([batch("s", (2, "y"))])
        again = await reopen()
        [group] = await again.groups(*_HOME)
        assert group.settings == GroupSettings(retention_days=30, tags={"a": "b"})
        with pytest.raises(NotFound, match="log group"):
            await again.configure(*_HOME, "/logs/none", lambda settings: settings)

    async def test_a_stream_can_be_made_before_its_first_line(
        self, journal: LogStore, reopen: Callable[[], Awaitable[LogStore]]
    ) -> None:
        with pytest.raises(NotFound, match="log group"):
            await journal.create_stream(*_HOME, "/logs/f", "s")
        await journal.create(*_HOME, "/logs/f", GroupSettings())
        await journal.create_stream(*_HOME, "/logs/f", "s")
        with pytest.raises(AlreadyExists):
            await journal.create_stream(*_HOME, "/logs/f", "s")
        again = await reopen()
        [stream] = await again.streams(*_HOME, "/logs/f")
        assert (stream.name, stream.first_ms, stream.last_ms, stream.ingested_ms) == ("s", None, None, None)
        assert await again.entries(*_HOME, "/logs/f", streams=["s"]) == []
        await again.append([batch("s", (5, "x"))])
        [stream] = await again.streams(*_HOME, "/logs/f")
        assert (stream.first_ms, stream.last_ms) == (5, 5)

    async def test_a_dropped_streams_lines_are_not_shown_and_it_may_begin_again(
        self, journal: LogStore, reopen: Callable[[], Awaitable[LogStore]]
    ) -> None:
        await journal.append([batch("a", (1, "a old")), batch("b", (2, "b"))])
        await journal.drop_stream(*_HOME, "/logs/f", "a")
        store = journal
        for _ in range(2):
            assert messages(await store.entries(*_HOME, "/logs/f")) == ["b"]
            assert [stream.name for stream in await store.streams(*_HOME, "/logs/f")] == ["b"]
            with pytest.raises(NotFound, match="log stream"):
                await store.drop_stream(*_HOME, "/logs/f", "a")
            store = await reopen()
        await store.append([batch("a", (3, "a new"))])
        assert messages(await store.entries(*_HOME, "/logs/f")) == ["b", "a new"]
        assert messages(await store.entries(*_HOME, "/logs/f", streams=["a"])) == ["a new"]

    # Live --------------------------------------------------------------------------------------------------------------
    async def test_a_follower_sees_what_is_kept_from_then_on_in_its_groups(self, journal: LogStore) -> None:
        await journal.append([batch("s", (1, "before"))])
        follower = journal.follow(*_HOME, ["/logs/f", "/logs/g"])
        assert await follower.take(100) == ([], 0)
        await journal.append([batch("s", (2, "f"), (3, "f too")), batch("s", (4, "h"), group="/logs/h")])
        await journal.append([batch("t", (5, "g"), group="/logs/g")])
        await journal.append([Batch("111111111111", "here-1", "/logs/f", "s", [LogEvent(1, "theirs")])])
        first, _ = await follower.take(1)
        rest, dropped = await follower.take(100)
        assert [event.message for each in (*first, *rest) for event in each.events] == ["f", "f too", "g"]
        assert ([each.group for each in rest], dropped) == (["/logs/f", "/logs/g"], 0)
        follower.close()
        follower.close()
