"""A log group's directory: its name, the table of its streams, its segments. Not thread-safe: the journal's lock is held.

about                      the group's name, when it was made, and what its owner decided about it
streams                    records as in a segment: number, creation, name; a stream has a line before its first event, and one
                           without a name once it was removed
0000000000000001.logz …    closed segments, packed
0000000000000009.log       the segment that grows; a closed one until it is packed
0000000000000001.summary   what is where in a segment
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ondol.disk import write_all, write_whole
from ondol.journal import Batch, Stream
from ondol.journals import packed
from ondol.journals.about import read_about
from ondol.journals.search import Question
from ondol.journals.segment import LENGTH, Block, Piece, Segment, Span, encode, records
from ondol.model.errors import AlreadyExists, Invalid, NotFound
from ondol.model.invocations import LogEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLimits:
    """What is kept, and what is held open."""

    group_bytes_max: int = 256 * 1024 * 1024
    journal_bytes_max: int = 16 * 1024**3
    age_s_max: float = 30 * 86_400.0
    segment_bytes_max: int = 16 * 1024 * 1024
    segment_s_max: float = 86_400.0
    #: Groups held in memory with their file open.
    groups_open_max: int = 256
    #: Blocks that open groups know of, some 400 bytes each; beyond that the group that was used longest ago is closed.
    blocks_known_max: int = 200_000
    #: Groups made by hand in one account and region, and streams in one group.
    groups_made_max: int = 50_000
    streams_made_max: int = 100_000
    #: Who may follow the journal live at a time, and what waits for each of them.
    followers_max: int = 64
    follower_events_max: int = 10_000
    follower_bytes_max: int = 8 * 1024 * 1024
    #: Text in one answer of `entries`; more is for the next page.
    answer_bytes_max: int = 16 * 1024 * 1024


class LogGroup:
    """See the module."""

    def __init__(self, folder: Path, limits: JournalLimits) -> None:
        self._folder = folder
        self._limits = limits
        self.name = read_about(folder).name
        self._numbers: dict[str, int] = {}
        self._streams: dict[int, tuple[str, int]] = {}
        #: Streams that were removed and whose lines still lie in segments.
        self._gone: set[int] = set()
        self._load_streams()
        self.segments = [Segment.load(path, int(path.stem, 16)) for path in _segments(folder)]
        #: No number is given twice, nor one that lines have whose stream a power cut took out of the table.
        numbers = (number for segment in self.segments for number in segment.spans)
        self._last_stream = max([0, *self._streams, *self._gone, *numbers])
        #: Streams of the append under way: they have a line in the table and no event yet.
        self._arriving: frozenset[int] = frozenset()
        #: When the growing segment was begun; one found at start is begun anew.
        self._begun_ms = 0
        self._descriptor = -1
        self._next_number = max([0, *(segment.number for segment in self.segments)]) + 1

    # Writing -----------------------------------------------------------------------------------------------------------
    def append(self, batches: Sequence[Batch], now_ms: int) -> None:
        """One write per call, unless a segment is full."""
        new = [batch.stream for batch in batches if batch.stream not in self._numbers]
        if new:
            self._add_streams(dict.fromkeys(new), now_ms)
        self._arriving = frozenset(self._numbers[batch.stream] for batch in batches)
        pieces = [piece for batch in batches for piece in encode(batch.events, self._numbers[batch.stream], now_ms)]
        while pieces:
            segment = self._growing(len(pieces[0].data), now_ms)
            count, size = 0, segment.bytes
            while count < len(pieces) and (count == 0 or size + len(pieces[count].data) <= self._segment_bytes_max):
                size += len(pieces[count].data)
                count += 1
            self._write(segment, pieces[:count], now_ms)
            pieces = pieces[count:]
        self._arriving = frozenset()

    def drop_segments(self, segments: Sequence[Segment]) -> None:
        """Retention's doing. Streams that have nothing left are forgotten with them."""
        if not segments:
            return
        for segment in segments:
            if segment is self.segments[-1]:
                self._close()
            self.segments.remove(segment)
            segment.remove()
        kept = self._arriving.union(*(segment.spans for segment in self.segments))
        lost = frozenset[int]().union(*(segment.spans for segment in segments)) - kept
        if lost:
            self._streams = {number: facts for number, facts in self._streams.items() if number not in lost}
            self._numbers = {name: number for number, (name, _) in self._streams.items()}
            self._gone -= lost
            lines = [_line(number, name, made) for number, (name, made) in self._streams.items()]
            write_whole(self._folder / "streams", b"".join([*lines, *(_line(number, "", 0) for number in self._gone)]))

    def make_stream(self, name: str, now_ms: int) -> None:
        if name in self._numbers:
            raise AlreadyExists(f"log stream {name} exists already")
        if len(self._streams) >= self._limits.streams_made_max:
            raise Invalid(f"log group {self.name} has {len(self._streams):,} streams, and no more may be made by hand")
        self._add_streams({name: None}, now_ms)

    def drop_stream(self, name: str) -> None:
        """Its lines stay in the segments and are not shown."""
        if name not in self._numbers:
            raise NotFound("log stream", name)
        number = self._numbers[name]
        self._write_streams([_line(number, "", 0)])
        del self._numbers[name], self._streams[number]
        self._gone.add(number)

    def to_pack(self) -> list[int]:
        """The numbers of segments that do not grow any more and are not packed."""
        return [segment.number for segment in self.segments[:-1] if not segment.packed_bytes]

    def segment(self, number: int) -> Segment | None:
        return next((segment for segment in self.segments if segment.number == number), None)

    def release(self) -> None:
        """Closes the file, and leaves a summary for the next to open the group."""
        if self._descriptor >= 0:
            self.segments[-1].save_summary()
            self._close()

    @property
    def stored_bytes(self) -> int:
        return sum(segment.stored_bytes for segment in self.segments)

    @property
    def blocks_known(self) -> int:
        return sum(len(segment.blocks) for segment in self.segments)

    # Reading -----------------------------------------------------------------------------------------------------------
    def streams(self, prefix: str) -> Sequence[Stream]:
        """In name order."""
        spans: dict[int, Span] = {}
        for segment in self.segments:
            for number, part in segment.spans.items():
                span = spans.get(number)
                spans[number] = part if span is None else _joined(span, part)
        found = []
        for number, (name, created_ms) in self._streams.items():
            if name.startswith(prefix):
                span = spans.get(number)
                facts = (span.first_ms, span.last_ms, span.ingested_ms) if span else (None, None, None)
                found.append(Stream(name, created_ms, *facts))
        return sorted(found, key=lambda stream: stream.name)

    def numbers(self, streams: Sequence[str] | None) -> frozenset[int] | None:
        """What the streams are called in records; None means all that are in any."""
        if streams is None:
            return frozenset(self._streams) if self._gone else None
        for name in streams:
            if name not in self._numbers:
                raise NotFound("log stream", name)
        return frozenset(self._numbers[name] for name in streams)

    def names(self) -> dict[int, str]:
        return {number: name for number, (name, _) in self._streams.items()}

    def places(self, question: Question) -> list[tuple[Segment, Block]]:
        """Blocks that can hold an answer; copies, because the last one grows."""
        return [
            (segment, Block(block.start, block.end, block.first_ms, block.last_ms, set()))
            for segment in self.segments
            for block in segment.blocks
            if question.may_be_in(block)
        ]

    # Files ---------------------------------------------------------------------------------------------------------------
    @property
    def _segment_bytes_max(self) -> int:
        """A quarter of the group at most, so that retention never takes most of it at once."""
        return min(self._limits.segment_bytes_max, self._limits.group_bytes_max // 4)

    def _growing(self, size: int, now_ms: int) -> Segment:
        """The segment to append to: the last, or a new one when that is full or old."""
        last = self.segments[-1] if self.segments else None
        if last is not None and last.packed_bytes:
            last = None
        if last is not None:
            old = self._begun_ms and now_ms - self._begun_ms > self._limits.segment_s_max * 1000
            if last.bytes and (last.bytes + size > self._segment_bytes_max or old):
                self.release()
                last = None
        if last is None:
            self._retain()
            path = self._folder / f"{self._next_number:016x}.log"
            last = Segment(path, self._next_number)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._next_number += 1
            self._begun_ms = now_ms
            self.segments.append(last)
        elif self._descriptor < 0:
            self._descriptor = os.open(last.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._begun_ms = now_ms
        return last

    def _write(self, segment: Segment, pieces: Sequence[Piece], now_ms: int) -> None:
        segment.write(self._descriptor, pieces)
        for piece in pieces:
            segment.note(piece, now_ms)

    def _retain(self) -> None:
        """The oldest segments go when the group is full."""
        room = self._limits.group_bytes_max - self._segment_bytes_max
        gone, kept = [], self.stored_bytes
        for segment in self.segments:
            if kept <= room:
                break
            gone.append(segment)
            kept -= segment.stored_bytes
        self.drop_segments(gone)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _load_streams(self) -> None:
        path = self._folder / "streams"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        whole = 0
        for start, text, number, created_ms, _ in records(data):
            whole = text + LENGTH.unpack_from(data, start)[0]
            name = data[text:whole].decode("utf-8", "replace")
            if name:
                self._streams[number] = (name, created_ms)
                self._numbers[name] = number
            else:
                self._gone.add(number)
                self._numbers.pop(self._streams.pop(number, ("", 0))[0], None)
        if whole < len(data):
            os.truncate(path, whole)

    def _add_streams(self, names: dict[str, None], now_ms: int) -> None:
        number = self._last_stream
        lines, added = [], {}
        for name in names:
            number += 1
            lines.append(_line(number, name, now_ms))
            added[number] = (name, now_ms)
        self._write_streams(lines)
        self._last_stream = number
        self._streams |= added
        self._numbers |= {name: number for number, (name, _) in added.items()}

    def _write_streams(self, lines: Sequence[bytes]) -> None:
        """Behind what the table has, in one call or not at all."""
        path = self._folder / "streams"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            try:
                write_all(descriptor, b"".join(lines))
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def _line(number: int, name: str, created_ms: int) -> bytes:
    """A stream's record; no name: it was removed."""
    (piece,) = encode([LogEvent(created_ms, name)], number, created_ms)
    return piece.data


def _segments(folder: Path) -> list[Path]:
    """A group's segments in order; what a killed node left half packed goes."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):  # N.log comes before N.logz
        if path.suffix in (".log", packed.SUFFIX):
            if path.stem in found:  # packed wholly, and killed before the other was removed
                found[path.stem].unlink(missing_ok=True)
            found[path.stem] = path
        elif path.suffix == packed.PART_SUFFIX:
            path.unlink(missing_ok=True)
    return list(found.values())


def _joined(one: Span, other: Span) -> Span:
    return Span(
        min(one.first_ms, other.first_ms),
        max(one.last_ms, other.last_ms),
        max(one.ingested_ms, other.ingested_ms),
    )
