"""What every `ondol.journal.Journal` does. Give the fixtures `journal` and `reopen` (closes it and opens it again)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from ondol.journal import Batch, Entry, Journal
from ondol.model.errors import NotFound
from ondol.model.invocations import LogEvent

_HOME = ("000000000000", "here-1")


def batch(stream: str, *lines: tuple[int, str], group: str = "/logs/f") -> Batch:
    """Lines of one stream, each with its time in milliseconds."""
    return Batch(*_HOME, group, stream, [LogEvent(at_ms, message) for at_ms, message in lines])


def messages(entries: Sequence[Entry]) -> list[str]:
    return [entry.message for entry in entries]


class JournalSuite:
    """What was appended is found again, in time order."""

    async def test_lines_come_back_as_they_were(self, journal: Journal) -> None:
        lines = ["plain", "", "온돌 🔥", "tab\tand\nnewline", "nul\0inside", "x" * 200_000]
        await journal.append([batch("s", *enumerate(lines))])
        entries = await journal.entries(*_HOME, "/logs/f")
        assert messages(entries) == lines
        assert [(entry.stream, entry.at_ms) for entry in entries] == [("s", n) for n in range(len(lines))]

    async def test_streams_are_merged_in_time_order(self, journal: Journal) -> None:
        await journal.append([batch("a", (10, "a1"), (30, "a2")), batch("b", (20, "b1"), (40, "b2"))])
        await journal.append([batch("c", (15, "late"))])
        assert messages(await journal.entries(*_HOME, "/logs/f")) == ["a1", "late", "b1", "a2", "b2"]

    async def test_lines_of_the_same_moment_keep_their_order(self, journal: Journal) -> None:
        await journal.append([batch("s", *[(5, str(n)) for n in range(50)])])
        assert messages(await journal.entries(*_HOME, "/logs/f")) == [str(n) for n in range(50)]

    async def test_one_streams_lines_can_be_asked_for(self, journal: Journal) -> None:
        await journal.append([batch("a", (1, "a1")), batch("b", (2, "b1")), batch("a", (3, "a2"))])
        assert messages(await journal.entries(*_HOME, "/logs/f", streams=["a"])) == ["a1", "a2"]

    async def test_a_span_of_time_has_its_start_and_not_its_end(self, journal: Journal) -> None:
        await journal.append([batch("s", *[(n, str(n)) for n in range(10)])])
        assert messages(await journal.entries(*_HOME, "/logs/f", start_ms=3, end_ms=6)) == ["3", "4", "5"]

    async def test_every_term_must_be_there_as_written(self, journal: Journal) -> None:
        await journal.append([batch("s", (1, "ERROR in disk"), (2, "error in disk"), (3, "ERROR elsewhere"))])
        assert messages(await journal.entries(*_HOME, "/logs/f", terms=["ERROR", "disk"])) == ["ERROR in disk"]
        assert messages(await journal.entries(*_HOME, "/logs/f", terms=["nowhere"])) == []

    async def test_newest_first_gives_the_last_lines(self, journal: Journal) -> None:
        await journal.append([batch("s", *[(n, str(n)) for n in range(100)])])
        found = await journal.entries(*_HOME, "/logs/f", newest_first=True, limit=3)
        assert messages(found) == ["99", "98", "97"]

    async def test_pages_follow_one_another_by_id(self, journal: Journal) -> None:
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
        self, journal: Journal, reopen: Callable[[], Awaitable[Journal]]
    ) -> None:
        await journal.append([batch("a", (1_700_000_000_000, "1"), (5, "0")), batch("b", (1_700_000_000_000, "2"))])
        before = [entry.id for entry in await journal.entries(*_HOME, "/logs/f")]
        assert before == sorted(before)
        again = await reopen()
        assert [entry.id for entry in await again.entries(*_HOME, "/logs/f")] == before

    async def test_groups_are_listed_by_name(self, journal: Journal) -> None:
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

    async def test_accounts_and_regions_do_not_see_one_another(self, journal: Journal) -> None:
        await journal.append([batch("s", (1, "mine"))])
        await journal.append([Batch("111111111111", "here-1", "/logs/f", "s", [LogEvent(1, "theirs")])])
        assert messages(await journal.entries(*_HOME, "/logs/f")) == ["mine"]
        assert messages(await journal.entries("111111111111", "here-1", "/logs/f")) == ["theirs"]
        assert not await journal.groups("000000000000", "there-1")

    async def test_streams_know_their_first_and_last(self, journal: Journal) -> None:
        await journal.append([batch("2026/b", (20, "x"), (40, "y"))])
        await journal.append([batch("2026/a", (30, "z")), batch("2026/b", (10, "w"))])
        streams = await journal.streams(*_HOME, "/logs/f", prefix="2026/")
        assert [(s.name, s.first_ms, s.last_ms) for s in streams] == [("2026/a", 30, 30), ("2026/b", 10, 40)]
        assert not await journal.streams(*_HOME, "/logs/f", prefix="2027/")

    async def test_what_is_not_there_is_said(self, journal: Journal) -> None:
        with pytest.raises(NotFound, match="log group"):
            await journal.entries(*_HOME, "/logs/none")
        with pytest.raises(NotFound, match="log group"):
            await journal.streams(*_HOME, "/logs/none")
        await journal.append([batch("s", (1, "x"))])
        with pytest.raises(NotFound, match="log stream"):
            await journal.entries(*_HOME, "/logs/f", streams=["t"])

    async def test_a_dropped_group_is_gone_and_may_begin_again(self, journal: Journal) -> None:
        await journal.append([batch("s", (1, "old"))])
        await journal.drop(*_HOME, "/logs/f")
        await journal.drop(*_HOME, "/logs/f")
        assert not await journal.groups(*_HOME)
        await journal.append([batch("s", (1, "new"))])
        assert messages(await journal.entries(*_HOME, "/logs/f")) == ["new"]

    async def test_everything_is_there_after_a_restart(
        self, journal: Journal, reopen: Callable[[], Awaitable[Journal]]
    ) -> None:
        for n in range(20):
            await journal.append([batch(f"s{n}", (n, f"line {n}"))])
        again = await reopen()
        assert messages(await again.entries(*_HOME, "/logs/f")) == [f"line {n}" for n in range(20)]
        await again.append([batch("s3", (100, "more"))])
        assert messages(await again.entries(*_HOME, "/logs/f", streams=["s3"])) == ["line 3", "more"]
        assert len(await again.streams(*_HOME, "/logs/f")) == 20
