"""One file of log records, appended to and later packed, and the summary that says where to look in it.

Records stand one behind the other: length of the text, checksum, stream's number, event time, ingestion time, text. A record is
named by its file's number and its offset, which never change, so a name orders what happened and finds it again.

The summary divides the file into blocks of about BLOCK_BYTES and knows of each its times and its streams: a search reads only
blocks that can hold an answer. It is kept in memory and written next to the file when that is full or the node stops; what
it does not cover is read again at the next start, up to the first record that is torn or damaged: there the file ends.

A file that nobody appends to any more is packed (packed.py): the same blocks, each compressed, under another suffix.
"""

from __future__ import annotations

import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ondol.disk import sync_directory, write_all
from ondol.journals import packed
from ondol.model.invocations import LogEvent

BLOCK_BYTES = 128 * 1024
#: A record's text is cut to this; callers split longer events themselves.
TEXT_BYTES_MAX = 1024 * 1024
#: Times are kept in 63 bits, whatever a client claims.
MS_MAX = 10**15 - 1

_FRONT = struct.Struct("<II")  # length of the text, checksum of the rest
_FACTS = struct.Struct("<IQQ")  # stream, event time, ingestion time
HEAD = struct.Struct("<IIIQQ")
HEAD_BYTES = HEAD.size
LENGTH = struct.Struct("<I")  # a record's first field


class Block(msgspec.Struct, array_like=True):
    """A run of records and what can be found in it."""

    start: int
    end: int
    first_ms: int
    last_ms: int
    streams: set[int]
    #: Where it lies in a packed file, and how long it is there.
    packed_at: int = 0
    packed_bytes: int = 0


class Span(msgspec.Struct, array_like=True):
    """A stream's part of a segment."""

    first_ms: int
    last_ms: int
    ingested_ms: int


class _Summary(msgspec.Struct):
    end: int
    blocks: list[Block]
    spans: dict[int, Span]
    #: The packed file's length; 0 for one that is not.
    packed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Encoded records of one stream, at most a block's worth, on their way to a file."""

    data: bytes
    stream: int
    first_ms: int
    last_ms: int


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
        length, crc, stream, at_ms, ingested_ms = HEAD.unpack_from(data, at)
        text = at + HEAD_BYTES
        if length > TEXT_BYTES_MAX or text + length > size:
            return
        if zlib.crc32(data[text : text + length], zlib.crc32(data[at + 8 : text])) != crc:
            return
        yield at, text, stream, at_ms, ingested_ms
        at = text + length


class Segment:
    """One file. Not thread-safe: its group's lock is held, except for `read` and `pack`."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        #: Of records, packed or not: where the next one would stand.
        self.bytes = 0
        #: Of a packed file; 0 while it is not.
        self.packed_bytes = 0
        self.blocks: list[Block] = []
        self.spans: dict[int, Span] = {}

    @classmethod
    def load(cls, path: Path, number: int) -> Segment:
        """Reads the summary and whatever it does not cover; a torn tail is cut off the file."""
        found = cls(path, number)
        size = path.stat().st_size
        packed_bytes = size if path.suffix == packed.SUFFIX else 0
        summary = _read_summary(path)
        fits = summary is not None and summary.packed_bytes == packed_bytes and (packed_bytes or summary.end <= size)
        if summary is not None and fits:
            found.bytes, found.blocks, found.spans = summary.end, summary.blocks, summary.spans
        if packed_bytes:
            found.packed_bytes = packed_bytes
            if not fits:
                found._recover_packed()
        elif found.bytes < size:
            found._recover(size)
        return found

    @property
    def stored_bytes(self) -> int:
        """What it takes on disk."""
        return self.packed_bytes or self.bytes

    @property
    def file(self) -> tuple[int, int]:
        """Which file it is (inode and size), whatever it is called. Raises FileNotFoundError."""
        state = self.path.stat()
        return state.st_ino, state.st_size

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

    def read(self, block: Block) -> bytes:
        """The block's records; nothing when retention has removed the file meanwhile.

        `block` is as it was when a search began: the file may have been packed since, by this segment or, when its group was
        closed and opened again meanwhile, by another one of its number.
        """
        for _ in range(3):
            path, now = self.path, self._block_at(block.start)
            if now is None:
                return b""
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                if path == self.path and not self._adopt_packed():
                    return b""
                continue
            try:
                if path.suffix != packed.SUFFIX:
                    return os.pread(descriptor, block.end - block.start, block.start)
                data = os.pread(descriptor, now.packed_bytes, now.packed_at)
            finally:
                os.close(descriptor)
            return packed.unpack(data, now.end - now.start)[: block.end - block.start]
        return b""

    def pack(self) -> tuple[Path, list[tuple[int, int]]]:
        """Compresses a file that does not grow any more into another; `replace` makes that one this segment's."""
        part = self.path.with_suffix(packed.PART_SUFFIX)
        try:
            return part, packed.pack(self.path, [(block.start, block.end) for block in self.blocks], part)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise

    def replace(self, part: Path, places: Sequence[tuple[int, int]]) -> None:
        """The packed file in place of the other."""
        old, new = self.path, self.path.with_suffix(packed.SUFFIX)
        blocks = [
            Block(block.start, block.end, block.first_ms, block.last_ms, block.streams, *place)
            for block, place in zip(self.blocks, places, strict=True)
        ]
        os.replace(part, new)
        self.packed_bytes = new.stat().st_size
        self.blocks, self.path = blocks, new  # in this order: `read` looks at the path first
        sync_directory(new.parent)
        self.save_summary()
        old.unlink(missing_ok=True)

    def save_summary(self) -> None:
        """So that the next start need not read the file. Losing it costs time only: it is not synced."""
        part = self.path.with_suffix(".part")
        part.write_bytes(msgspec.msgpack.encode(_Summary(self.bytes, self.blocks, self.spans, self.packed_bytes)))
        os.replace(part, self.path.with_suffix(".summary"))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".summary").unlink(missing_ok=True)

    def _adopt_packed(self) -> bool:
        """Whether there is a packed file in place of the one that is gone; it is read from now on."""
        path = self.path.with_suffix(packed.SUFFIX)
        try:
            other = Segment.load(path, self.number)
        except FileNotFoundError:
            return False
        self.packed_bytes, self.blocks, self.path = other.packed_bytes, other.blocks, path
        return True

    def _block_at(self, start: int) -> Block | None:
        blocks = self.blocks
        at = bisect_left(blocks, start, key=lambda block: block.start)
        return blocks[at] if at < len(blocks) and blocks[at].start == start else None

    def _recover(self, size: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(self.bytes)
            data = file.read(size - self.bytes)
            whole = self._take_in(data)
            if whole < len(data):
                file.truncate(self.bytes)

    def _recover_packed(self) -> None:
        """The summary again. A damaged block is left out; those behind it keep their places."""
        for start, at, length, data in packed.frames(self.path.read_bytes()):
            self.bytes = max(self.bytes, start)
            before = len(self.blocks)
            self._take_in(data, apart=True)
            for block in self.blocks[before:]:
                block.packed_at, block.packed_bytes = at, length

    def _take_in(self, data: bytes, *, apart: bool = False) -> int:
        """Notes the records of `data`, in a block of their own or not; how much of it is whole."""
        whole = 0
        for start, text, stream, at_ms, ingested_ms in records(data):
            length = text - start + LENGTH.unpack_from(data, start)[0]
            self._extend(length, stream, at_ms, at_ms, ingested_ms, begins=not start if apart else None)
            whole = start + length
        return whole

    def _extend(
        self, size: int, stream: int, first_ms: int, last_ms: int, ingested_ms: int, *, begins: bool | None = None
    ) -> None:
        """`begins`: whether a block does here; None: where the last one is long enough."""
        start = self.bytes
        self.bytes += size
        block = self.blocks[-1] if self.blocks else None
        if begins is None:
            begins = block is None or block.end - block.start >= BLOCK_BYTES
        if block is not None and not begins:
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
