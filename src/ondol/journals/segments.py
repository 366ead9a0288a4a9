"""Logs in append-only files: `ondol.journal.Journal` for one node.

It must not know what a line says. Files lie in ROOT/ACCOUNT/REGION/GROUP/ (group.py, segment.py). One thread writes, another
reads, a third packs closed segments, so that neither disk nor search holds up the loop; they share the tables of open groups
under one lock, which nobody holds while searching or packing.

What `append` has returned from survives the end of the process, though not of the machine: logs are not synced. An answer of
`entries` ends early when its text reaches `answer_bytes_max`: ask again `after` the last id until nothing comes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from ondol.clock import Clock, SystemClock
from ondol.disk import explain, explained
from ondol.journal import Batch, Entry, Follower, Group, GroupSettings, Stream
from ondol.journals.about import make_group, read_about, write_about
from ondol.journals.feed import Feed
from ondol.journals.group import JournalLimits, LogGroup
from ondol.journals.names import identity, name_of, place, safe
from ondol.journals.retention import stale
from ondol.journals.search import Question, Search
from ondol.journals.segment import MS_MAX
from ondol.model.errors import AlreadyExists, Invalid, NotFound, OndolError, Unavailable

_TIDY_S = 600.0
_LAST_PLACE = (MS_MAX + 1, 0)
_Key = tuple[str, str, str]
_T = TypeVar("_T")

log = logging.getLogger(__name__)


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
        self._packer = ThreadPoolExecutor(1, thread_name_prefix="journal-pack")
        #: Segments that the packer has been told of.
        self._packing: set[tuple[_Key, int]] = set()
        self._feed = Feed(self._limits)
        self._closed = False

    async def append(self, batches: Sequence[Batch]) -> None:
        kept = [batch for batch in batches if batch.events]
        await self._on(self._writer, self._append, kept)
        self._feed.offer(kept)

    async def groups(self, account: str, region: str, *, prefix: str = "", after: str = "", limit: int = 50) -> Sequence[Group]:
        return await self._on(self._reader, self._list_groups, account, region, prefix, after, limit)

    async def streams(self, account: str, region: str, group: str, *, prefix: str = "") -> Sequence[Stream]:
        return await self._on(self._reader, self._list_streams, (account, region, group), prefix)

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
        question = Question(
            start_ms=start_ms,
            end_ms=MS_MAX + 1 if end_ms is None else end_ms,
            streams=None,
            terms=[term.encode("utf-8", "replace") for term in terms],
            after=place(after) if after else (-1, 0),
            before=place(before) if before else _LAST_PLACE,
        )
        key = (account, region, group)
        search, names = await self._on(self._reader, self._begin, key, streams, question, newest_first, limit)
        while (entries := await self._on(self._reader, _go_on, search, names)) is None:
            pass
        return entries

    async def create(self, account: str, region: str, group: str, settings: GroupSettings) -> None:
        await self._on(self._writer, self._create, (account, region, group), settings)

    async def create_stream(self, account: str, region: str, group: str, stream: str) -> None:
        now_ms = int(self._clock.wall_s() * 1000)
        await self._on(self._writer, self._change, (account, region, group), lambda found: found.make_stream(stream, now_ms))

    async def configure(
        self, account: str, region: str, group: str, change: Callable[[GroupSettings], GroupSettings]
    ) -> GroupSettings:
        return await self._on(self._writer, self._configure, (account, region, group), change)

    async def drop(self, account: str, region: str, group: str) -> None:
        await self._on(self._writer, self._drop, (account, region, group))

    async def drop_stream(self, account: str, region: str, group: str, stream: str) -> None:
        await self._on(self._writer, self._change, (account, region, group), lambda found: found.drop_stream(stream))

    def follow(self, account: str, region: str, groups: Collection[str]) -> Follower:
        return self._feed.follow(account, region, groups)

    async def packed(self) -> None:
        """Return when every segment that was closed before has been packed."""
        await self._on(self._packer, lambda: None)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._end)

    async def _on(self, threads: ThreadPoolExecutor, work: Callable[..., _T], *args: object) -> _T:
        if self._closed:
            raise Unavailable(f"The journal in {self._root} is closed.")
        return await asyncio.get_running_loop().run_in_executor(threads, work, *args)

    # On the writer's thread --------------------------------------------------------------------------------------------
    def _append(self, batches: list[Batch]) -> None:
        """Every group gets its part, even when another's could not be written."""
        now_s = self._clock.wall_s()
        failed: OndolError | None = None
        batches.sort(key=_key)  # stable: a stream's batches stay in order
        for key, part in groupby(batches, key=_key):
            try:
                with self._lock:
                    group = self._group(key, made_ms=int(now_s * 1000))
                    group.append(list(part), int(now_s * 1000))
                    self._pack_later(key, group)
            except OSError as error:
                failed = explain(error, self._root)
        with suppress(OSError):
            self._tidy(now_s)
        if failed is not None:
            raise failed

    def _create(self, key: _Key, settings: GroupSettings) -> None:
        folder = self._folder(key)
        with explained(self._root):
            if folder.is_dir():
                raise AlreadyExists(f"log group {key[2]} exists already")
            if folder.parent.is_dir() and len(os.listdir(folder.parent)) >= self._limits.groups_made_max:
                raise Invalid(f"there are {self._limits.groups_made_max:,} log groups already, and no more may be made by hand")
            make_group(folder, key[2], int(self._clock.wall_s() * 1000), settings)

    def _change(self, key: _Key, change: Callable[[LogGroup], None]) -> None:
        with explained(self._root), self._lock:
            change(self._group(key))

    def _configure(self, key: _Key, change: Callable[[GroupSettings], GroupSettings]) -> GroupSettings:
        folder = self._folder(key)
        with explained(self._root):
            try:
                about = read_about(folder)
            except FileNotFoundError as error:
                raise NotFound("log group", key[2]) from error
            settings = change(about.settings)
            if settings != about.settings:
                about.settings = settings
                write_about(folder, about)
                self._tidied_s = None if self._tidied_s is None else 0.0  # what is too old now goes with the next line
        return settings

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
        self._packer.shutdown(cancel_futures=True)
        self._writer.shutdown()
        self._reader.shutdown()
        for group in self._groups.values():
            with suppress(OSError):
                group.release()
        self._groups.clear()

    def _tidy(self, now_s: float) -> None:
        """Retention by age and over all groups; now and then. At first, also what a killed node left half made."""
        if self._tidied_s is not None and 0 <= now_s - self._tidied_s < _TIDY_S:
            return
        first, self._tidied_s = self._tidied_s is None, now_s
        if first:
            for folder in self._root.glob("*/*/.*"):
                shutil.rmtree(folder, ignore_errors=True)
        for path in stale(self._root, self._limits, now_s):
            self._remove_segment(path)

    def _remove_segment(self, path: Path) -> None:
        """Through its group, which forgets with it the streams that have nothing left."""
        account, region = (unquote(part) for part in path.parts[-4:-2])
        with self._lock, suppress(NotFound, OSError):
            group = self._group((account, region, name_of(path.parent)))
            group.drop_segments([segment for segment in group.segments if segment.number == int(path.stem, 16)])

    # On the packer's thread --------------------------------------------------------------------------------------------
    def _pack_later(self, key: _Key, group: LogGroup) -> None:
        """Under the lock."""
        for number in group.to_pack():
            if (key, number) not in self._packing:
                self._packing.add((key, number))
                with suppress(RuntimeError):  # closing: the next life packs it
                    self._packer.submit(self._pack, key, number)

    def _pack(self, key: _Key, number: int) -> None:
        try:
            with self._lock:
                segment = self._group(key).segment(number)
            if segment is not None and not segment.packed_bytes:
                packed_file = segment.file
                part, places = segment.pack()
                with self._lock:
                    # Another object if the group was closed and opened meanwhile; another file if it was dropped and made anew.
                    segment = self._group(key).segment(number)
                    if segment is not None and segment.file == packed_file:
                        segment.replace(part, places)
                    else:
                        part.unlink(missing_ok=True)
        except (NotFound, FileNotFoundError):
            pass  # dropped meanwhile
        except (OSError, ValueError) as error:  # and is not tried again before the next start
            log.warning("segment %d of log group %s stays as it is, unpacked: %s", number, key[2], error)
            return
        with self._lock:
            self._packing.discard((key, number))

    # On the reader's thread --------------------------------------------------------------------------------------------
    def _list_groups(self, account: str, region: str, prefix: str, after: str, limit: int) -> Sequence[Group]:
        home = self._folder((account, region, "x")).parent
        try:
            folders = [folder for folder in home.iterdir() if not folder.name.startswith(".")]
        except FileNotFoundError:
            return []
        names: list[tuple[str, Path]] = []
        for folder in folders:
            with suppress(OSError):  # dropped meanwhile
                names.append((name_of(folder), folder))
        names.sort()
        wanted = [(name, folder) for name, folder in names if name.startswith(prefix) and name > after]
        found = []
        for name, folder in wanted[:limit]:
            with suppress(OSError):
                about = read_about(folder)
                stored = 0
                for path in folder.glob("*.log*"):
                    with suppress(FileNotFoundError):  # packed meanwhile
                        stored += path.stat().st_size
                found.append(Group(name, about.created_ms, stored, about.settings))
        return found

    def _list_streams(self, key: _Key, prefix: str) -> Sequence[Stream]:
        with self._lock:
            return self._group(key).streams(prefix)

    def _begin(
        self, key: _Key, streams: Sequence[str] | None, question: Question, newest_first: bool, limit: int
    ) -> tuple[Search, dict[int, str]]:
        with self._lock:
            group = self._group(key)
            asked = replace(question, streams=group.numbers(streams))
            places, names = group.places(asked), group.names()
        bytes_max = self._limits.answer_bytes_max
        return Search(places, asked, newest_first=newest_first, limit=limit, bytes_max=bytes_max), names

    # Both ----------------------------------------------------------------------------------------------------------------
    def _group(self, key: _Key, *, made_ms: int | None = None) -> LogGroup:
        """The open group, under the lock; `made_ms` makes it where it is missing."""
        group = self._groups.get(key)
        if group is None:
            folder = self._folder(key)
            if made_ms is not None and not folder.is_dir():
                make_group(folder, key[2], made_ms, GroupSettings())
            try:
                group = LogGroup(folder, self._limits)
            except FileNotFoundError as error:
                raise NotFound("log group", key[2]) from error
            self._groups[key] = group
            self._make_room()
            self._pack_later(key, group)
        self._groups.move_to_end(key)
        return group

    def _make_room(self) -> None:
        """Closes the groups that were used longest ago; the last one stays in any case."""
        blocks = sum(group.blocks_known for group in self._groups.values())
        while len(self._groups) > 1 and (
            len(self._groups) > self._limits.groups_open_max or blocks > self._limits.blocks_known_max
        ):
            _, least = self._groups.popitem(last=False)
            blocks -= least.blocks_known
            with suppress(OSError):
                least.release()

    def _folder(self, key: _Key) -> Path:
        return self._root.joinpath(*(safe(part) for part in key))


def _key(batch: Batch) -> _Key:
    return (batch.account, batch.region, batch.group)


def _go_on(search: Search, names: dict[int, str]) -> Sequence[Entry] | None:
    """One step; the answer when it was the last."""
    if not search.step():
        return None
    return [
        Entry(
            identity(one.order),
            names.get(one.stream, ""),
            one.order[0],
            one.ingested_ms,
            one.text.decode("utf-8", "replace"),
        )
        for one in search.found
    ]
