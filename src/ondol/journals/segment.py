"""One append-only file of log records, and the summary that says where to look in it.

Records stand one behind the other: length of the text, checksum, stream's number, event time, ingestion time, text. A record is
named by its file's number and its offset, which never change, so a name orders what happened and finds it again.

The summary divides the file into blocks of about BLOCK_BYTES and knows of each its times and its streams: a search reads only
blocks that can hold an answer. It is kept in memory and written next to the file when that is full or the node stops; what
it does not cover is read again at the next start, up to the first record that is torn or damaged: there the file ends.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ondol.disk import write_all
from ondol.model.invocations import LogEvent

BLOCK_BYTES = 64 * 1024
#: A record's text is cut to this; callers split longer events themselves.
TEXT_BYTES_MAX = 1024 * 1024
#: Times are kept in 63 bits, whatever a client claims.
MS_MAX = 10**15 - 1

_FRONT = struct.Struct("<II")  # length of the text, checksum of the rest
_FACTS = struct.Struct("<IQQ")  # stream, event time, ingestion time
_HEAD = struct.Struct("<IIIQQ")
HEAD_BYTES = _HEAD.size


class Block(msgspec.Struct, array_like=True):
    """A run of records and what can be found in it."""

    start: int
    end: int
    first_ms: int
    last_ms: int
    streams: set[int]


class Span(msgspec.Struct, array_like=True):
    """A stream's part of a segment."""

    first_ms: int
    last_ms: int
    ingested_ms: int


class _Summary(msgspec.Struct):
    end: int
    blocks: list[Block]
    spans: dict[int, Span]


@dataclass(frozen=True, slots=True)
class Piece:
    """Encoded records of one stream, at most a block's worth, on their way to a file."""

    data: bytes
    stream: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Found:
    """A record as read; ordered by `order`."""

    order: tuple[int, int]  #: event time, then place
    stream: int
    ingested_ms: int
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a search wants. `after` and `before` are exclusive."""

    start_ms: int
    end_ms: int
    streams: Collection[int] | None
    terms: Sequence[bytes]
    after: tuple[int, int]
    before: tuple[int, int]

    def may_be_in(self, block: Block) -> bool:
        if block.last_ms < self.start_ms or block.first_ms >= self.end_ms:
            return False
        if block.last_ms < self.after[0] or block.first_ms > self.before[0]:
            return False
        return self.streams is None or not block.streams.isdisjoint(self.streams)


def encode(events: Sequence[LogEvent], stream: int, now_ms: int) -> Iterator[Piece]:
    """The records of `events`, in pieces."""
    parts: list[bytes] = []
    size, first_ms, last_ms = 0, MS_MAX, 0
    for event in events:
        text = event.message.encode("utf-8", "replace")[:TEXT_BYTES_MAX]
        at_ms = min(max(event.at_ms, 0), MS_MAX)
        facts = _FACTS.pack(stream, at_ms, now_ms)
        parts += (_FRONT.pack(len(text), zlib.crc32(text, zlib.crc32(facts))), facts, text)
        size += HEAD_BYTES + len(text)
        first_ms, last_ms = min(first_ms, at_ms), max(last_ms, at_ms)
        if size >= BLOCK_BYTES:
            yield Piece(b"".join(parts), stream, first_ms, last_ms)
            parts, size, first_ms, last_ms = [], 0, MS_MAX, 0
    if parts:
        yield Piece(b"".join(parts), stream, first_ms, last_ms)


def records(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(offset, text's offset, stream, event time, ingestion time) of every whole, sound record from the start on."""
    at, size = 0, len(data)
    while at + HEAD_BYTES <= size:
        length, crc, stream, at_ms, ingested_ms = _HEAD.unpack_from(data, at)
        text = at + HEAD_BYTES
        if length > TEXT_BYTES_MAX or text + length > size:
            return
        if zlib.crc32(data[text : text + length], zlib.crc32(data[at + 8 : text])) != crc:
            return
        yield at, text, stream, at_ms, ingested_ms
        at = text + length


def search(data: bytes, base: int, number: int, question: Question) -> Iterator[Found]:
    """What of a block (its bytes, its offset, its file's number) answers the question."""
    terms, streams = question.terms, question.streams
    if any(term not in data for term in terms):
        return
    at, size = 0, len(data)
    while at + HEAD_BYTES <= size:
        length, crc, stream, at_ms, ingested_ms = _HEAD.unpack_from(data, at)
        start, text, end = at, at + HEAD_BYTES, at + HEAD_BYTES + length
        at = end
        if end > size:
            return
        if not question.start_ms <= at_ms < question.end_ms or (streams is not None and stream not in streams):
            continue
        order = (at_ms, number << 32 | base + start)
        if not question.after < order < question.before:
            continue
        if any(data.find(term, text, end) < 0 for term in terms):
            continue
        if zlib.crc32(data[text:end], zlib.crc32(data[start + 8 : text])) == crc:  # the disk's damage is not shown
            yield Found(order, stream, ingested_ms, data[text:end])


class Segment:
    """One file. Not thread-safe: its group's lock is held, except for `read`."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.bytes = 0
        self.blocks: list[Block] = []
        self.spans: dict[int, Span] = {}

    @classmethod
    def load(cls, path: Path, number: int) -> Segment:
        """Reads the summary and whatever it does not cover; a torn tail is cut off the file."""
        found = cls(path, number)
        size = path.stat().st_size
        summary = _read_summary(path)
        if summary is not None and summary.end <= size:
            found.bytes, found.blocks, found.spans = summary.end, summary.blocks, summary.spans
        if found.bytes < size:
            found._recover(size)
        return found

    def write(self, descriptor: int, pieces: Sequence[Piece]) -> None:
        """Appends in one call, or not at all."""
        data = b"".join([piece.data for piece in pieces])
        try:
            write_all(descriptor, data)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, self.bytes)
            raise

    def note(self, piece: Piece, now_ms: int) -> None:
        """The summary of a piece that has been written."""
        self._extend(len(piece.data), piece.stream, piece.first_ms, piece.last_ms, now_ms)

    def read(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, bytes]]:
        """The blocks' bytes; nothing when retention has removed the file meanwhile."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            for block in blocks:
                yield block, os.pread(descriptor, block.end - block.start, block.start)
        finally:
            os.close(descriptor)

    def save_summary(self) -> None:
        """So that the next start need not read the file. Losing it costs time only: it is not synced."""
        part = self.path.with_suffix(".part")
        part.write_bytes(msgspec.msgpack.encode(_Summary(self.bytes, self.blocks, self.spans)))
        os.replace(part, self.path.with_suffix(".summary"))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".summary").unlink(missing_ok=True)

    def _recover(self, size: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(self.bytes)
            data = file.read(size - self.bytes)
            whole = 0
            for start, text, stream, at_ms, ingested_ms in records(data):
                length = text - start + _FRONT.unpack_from(data, start)[0]
                self._extend(length, stream, at_ms, at_ms, ingested_ms)
                whole = start + length
            if whole < len(data):
                file.truncate(self.bytes)

    def _extend(self, size: int, stream: int, first_ms: int, last_ms: int, ingested_ms: int) -> None:
        start = self.bytes
        self.bytes += size
        block = self.blocks[-1] if self.blocks else None
        if block is not None and block.end - block.start < BLOCK_BYTES:
            block.end = self.bytes
            block.first_ms, block.last_ms = min(block.first_ms, first_ms), max(block.last_ms, last_ms)
            block.streams.add(stream)
        else:
            self.blocks.append(Block(start, self.bytes, first_ms, last_ms, {stream}))
        span = self.spans.get(stream)
        if span is None:
            self.spans[stream] = Span(first_ms, last_ms, ingested_ms)
        else:
            span.first_ms, span.last_ms = min(span.first_ms, first_ms), max(span.last_ms, last_ms)
            span.ingested_ms = max(span.ingested_ms, ingested_ms)


def _read_summary(path: Path) -> _Summary | None:
    try:
        return msgspec.msgpack.decode(path.with_suffix(".summary").read_bytes(), type=_Summary)
    except (OSError, msgspec.MsgspecError):
        return None
