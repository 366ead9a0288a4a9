"""Logs in append-only files: `ondol.journal.Journal` for one node.

It must not know what a line says. Files lie in ROOT/ACCOUNT/REGION/GROUP/ (group.py, segment.py). One thread writes, another
reads, so neither disk nor search holds up the loop; they share the tables of open groups under one lock, which nobody holds
while searching.

What `append` has returned from survives the end of the process, though not of the machine: logs are not synced. An answer of
`entries` ends early when its text reaches `answer_bytes_max`: ask again `after` the last id until nothing comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from urllib.parse import quote, unquote

from ondol.clock import Clock, SystemClock
from ondol.disk import explain
from ondol.journal import Batch, Entry, Group, Stream
from ondol.journals.group import JournalLimits, LogGroup, make_group, read_about
from ondol.journals.segment import MS_MAX, Block, Found, Question, Segment, search
from ondol.model.errors import Invalid, NotFound, OndolError, Unavailable

#: A directory's name may have 255 bytes; longer group names keep their start and end in a digest.
_NAME_BYTES_MAX = 200
_TIDY_S = 600.0
_LAST_PLACE = (MS_MAX + 1, 0)
_Key = tuple[str, str, str]


class SegmentJournal:
    """See the module."""

    def __init__(self, root: Path, limits: JournalLimits | None = None, *, clock: Clock | None = None) -> None:
        self._root = root
        self._limits = limits or JournalLimits()
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._groups: OrderedDict[_Key, LogGroup] = OrderedDict()
        self._tidied_s: float | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self._closed = False

    async def append(self, batches: Sequence[Batch]) -> None:
        self._check_open()
        await asyncio.get_running_loop().run_in_executor(self._writer, self._append, [b for b in batches if b.events])

    async def groups(self, account: str, region: str, *, prefix: str = "", after: str = "", limit: int = 50) -> Sequence[Group]:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, self._list_groups, account, region, prefix, after, limit
        )

    async def streams(self, account: str, region: str, group: str, *, prefix: str = "") -> Sequence[Stream]:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, self._list_streams, (account, region, group), prefix
        )

    async def entries(
        self,
        account: str,
        region: str,
        group: str,
        *,
        streams: Sequence[str] | None = None,
        start_ms: int = 0,
        end_ms: int | None = None,
        terms: Sequence[str] = (),
        after: str = "",
        before: str = "",
        newest_first: bool = False,
        limit: int = 10_000,
    ) -> Sequence[Entry]:
        self._check_open()
        question = Question(
            start_ms=start_ms,
            end_ms=MS_MAX + 1 if end_ms is None else end_ms,
            streams=None,
            terms=[term.encode("utf-8", "replace") for term in terms],
            after=_place(after) if after else (-1, 0),
            before=_place(before) if before else _LAST_PLACE,
        )
        key = (account, region, group)
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, self._find, key, streams, question, newest_first, limit
        )

    async def drop(self, account: str, region: str, group: str) -> None:
        self._check_open()
        await asyncio.get_running_loop().run_in_executor(self._writer, self._drop, (account, region, group))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._end)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"The journal in {self._root} is closed.")

    # On the writer's thread --------------------------------------------------------------------------------------------
    def _append(self, batches: list[Batch]) -> None:
        """Every group gets its part, even when another's could not be written."""
        now_s = self._clock.wall_s()
        failed: OndolError | None = None
        batches.sort(key=_key)  # stable: a stream's batches stay in order
        for key, part in groupby(batches, key=_key):
            try:
                with self._lock:
                    self._group(key, made_ms=int(now_s * 1000)).append(list(part), int(now_s * 1000))
            except OSError as error:
                failed = explain(error, self._root)
        with suppress(OSError):
            self._tidy(now_s)
        if failed is not None:
            raise failed

    def _drop(self, key: _Key) -> None:
        with self._lock:
            group = self._groups.pop(key, None)
            if group is not None:
                group.release()
            folder = self._folder(key)
            gone = folder.with_name(f".gone-{secrets.token_hex(8)}")
            try:
                os.rename(folder, gone)
            except FileNotFoundError:
                return
        shutil.rmtree(gone, ignore_errors=True)

    def _end(self) -> None:
        self._writer.shutdown()
        self._reader.shutdown()
        for group in self._groups.values():
            with suppress(OSError):
                group.release()
        self._groups.clear()

    def _tidy(self, now_s: float) -> None:
        """Retention by age and over all groups; now and then. At first, also what a killed node left half made."""
        if self._tidied_s is not None and now_s - self._tidied_s < _TIDY_S:
            return
        first, self._tidied_s = self._tidied_s is None, now_s
        found: list[tuple[float, int, Path]] = []
        for folder in self._root.glob("*/*/*"):
            if folder.name.startswith("."):
                if first:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            for path in folder.glob("*.log"):
                with suppress(FileNotFoundError):
                    state = path.stat()
                    found.append((state.st_mtime, state.st_size, path))
        found.sort()
        total = sum(size for _, size, _ in found)
        for modified_s, size, path in found:
            if now_s - modified_s > self._limits.age_s_max or total > self._limits.journal_bytes_max:
                self._remove_segment(path)
                total -= size

    def _remove_segment(self, path: Path) -> None:
        with self._lock:
            for key, group in self._groups.items():
                if self._folder(key) == path.parent:
                    group.drop_segments([segment for segment in group.segments if segment.path == path])
                    return
            Segment(path, 0).remove()

    # On the reader's thread --------------------------------------------------------------------------------------------
    def _list_groups(self, account: str, region: str, prefix: str, after: str, limit: int) -> Sequence[Group]:
        place = self._folder((account, region, "x")).parent
        try:
            folders = [folder for folder in place.iterdir() if not folder.name.startswith(".")]
        except FileNotFoundError:
            return []
        names: list[tuple[str, Path]] = []
        for folder in folders:
            with suppress(OSError):  # dropped meanwhile
                names.append((_name(folder), folder))
        names.sort()
        wanted = [(name, folder) for name, folder in names if name.startswith(prefix) and name > after]
        found = []
        for name, folder in wanted[:limit]:
            with suppress(OSError):
                stored = sum(path.stat().st_size for path in folder.glob("*.log"))
                found.append(Group(name, read_about(folder).created_ms, stored))
        return found

    def _list_streams(self, key: _Key, prefix: str) -> Sequence[Stream]:
        with self._lock:
            return self._group(key).streams(prefix)

    def _find(
        self, key: _Key, streams: Sequence[str] | None, question: Question, newest_first: bool, limit: int
    ) -> Sequence[Entry]:
        with self._lock:
            group = self._group(key)
            asked = Question(
                start_ms=question.start_ms,
                end_ms=question.end_ms,
                streams=group.numbers(streams),
                terms=question.terms,
                after=question.after,
                before=question.before,
            )
            places, names = group.places(asked), group.names()
        found = _collect(places, asked, newest_first, limit, self._limits.answer_bytes_max)
        return [
            Entry(
                _identity(one.order),
                names.get(one.stream, ""),
                one.order[0],
                one.ingested_ms,
                one.text.decode("utf-8", "replace"),
            )
            for one in found
        ]

    # Both ----------------------------------------------------------------------------------------------------------------
    def _group(self, key: _Key, *, made_ms: int | None = None) -> LogGroup:
        """The open group, under the lock; `made_ms` makes it where it is missing."""
        group = self._groups.get(key)
        if group is None:
            folder = self._folder(key)
            if made_ms is not None and not folder.is_dir():
                make_group(folder, key[2], made_ms)
            try:
                group = LogGroup(folder, self._limits)
            except FileNotFoundError as error:
                raise NotFound("log group", key[2]) from error
            self._groups[key] = group
            while len(self._groups) > self._limits.groups_open_max:
                _, least = self._groups.popitem(last=False)
                with suppress(OSError):
                    least.release()
        self._groups.move_to_end(key)
        return group

    def _folder(self, key: _Key) -> Path:
        return self._root.joinpath(*(_safe(part) for part in key))


def _collect(
    places: list[tuple[Segment, Block]], question: Question, newest_first: bool, limit: int, bytes_max: int
) -> Sequence[Found]:
    """Block after block in time order, until no later block can hold anything earlier than what is already enough."""
    if newest_first:
        places.sort(key=lambda place: (-place[1].last_ms, -place[0].number, -place[1].start))
    else:
        places.sort(key=lambda place: (place[1].first_ms, place[0].number, place[1].start))
    found: list[Found] = []
    full = False
    for segment, block in places:
        if full and (block.last_ms < found[-1].order[0] if newest_first else block.first_ms > found[-1].order[0]):
            break
        for _, data in segment.read([block]):
            found += search(data, block.start, segment.number, question)
        found.sort(key=lambda one: one.order, reverse=newest_first)
        full = _cut(found, limit, bytes_max) or full
    return found


def _cut(found: list[Found], limit: int, bytes_max: int) -> bool:
    """Keeps what fits one answer; whether it is full. At least one entry always fits."""
    size = 0
    for count, one in enumerate(found):
        size += len(one.text)
        if count >= limit or (size > bytes_max and count > 0):
            del found[count:]
            return True
    return len(found) >= limit


def _key(batch: Batch) -> _Key:
    return (batch.account, batch.region, batch.group)


def _safe(name: str) -> str:
    """A directory's name for any text: readable where possible, never '.', '..' or hidden, and unique."""
    quoted = quote(name, safe="", errors="replace").replace("~", "%7E") or "%"
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) <= _NAME_BYTES_MAX:
        return quoted
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32]
    return f"{quoted[: _NAME_BYTES_MAX - 40]}~{digest}"


def _name(folder: Path) -> str:
    """The group's name again."""
    return read_about(folder).name if "~" in folder.name else unquote(folder.name)


def _identity(order: tuple[int, int]) -> str:
    """An entry's id: its time and its place; as text it sorts as the numbers do."""
    return f"{order[0]:015d}{order[1]:020d}"


def _place(identity: str) -> tuple[int, int]:
    if len(identity) != 35 or not identity.isascii() or not identity.isdecimal():
        raise Invalid(f"{identity[:60]!r} is not the id of a log entry")
    return int(identity[:15]), int(identity[15:])
