"""Looking for lines in blocks of records.

A term that must be there is looked for in a block's bytes first: records are only taken apart around a hit, and text is only
decoded for what answers. `Search` goes on in steps of bounded time, so that many searches share one thread.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ondol.journals.segment import HEAD, HEAD_BYTES, LENGTH, Block, Segment

#: A search gives way to others after this long.
STEP_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Found:
    """A record as read; ordered by `order`."""

    order: tuple[int, int]  #: event time, then place
    stream: int
    ingested_ms: int
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a search wants. `after` and `before` are exclusive; `streams` None means all."""

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


def search(data: bytes, base: int, number: int, question: Question) -> Iterator[Found]:
    """What of a block (its bytes, its offset, its file's number) answers the question."""
    terms, streams = question.terms, question.streams
    counts = [data.count(term) for term in terms]
    if 0 in counts:
        return
    rarest = terms[counts.index(min(counts))] if terms else None
    for at, end in _records(data) if rarest is None else _records_with(rarest, data):
        _, crc, stream, at_ms, ingested_ms = HEAD.unpack_from(data, at)
        if not question.start_ms <= at_ms < question.end_ms or (streams is not None and stream not in streams):
            continue
        order = (at_ms, number << 32 | base + at)
        if not question.after < order < question.before:
            continue
        text = at + HEAD_BYTES
        if len(terms) > 1 and any(data.find(term, text, end) < 0 for term in terms):
            continue
        if zlib.crc32(data[text:end], zlib.crc32(data[at + 8 : text])) == crc:  # the disk's damage is not shown
            yield Found(order, stream, ingested_ms, data[text:end])


def _records(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the records of a block begin and end."""
    at, size = 0, len(data)
    while at + HEAD_BYTES <= size:
        end = at + HEAD_BYTES + LENGTH.unpack_from(data, at)[0]
        if end > size:
            return
        yield at, end
        at = end


def _records_with(term: bytes, data: bytes) -> Iterator[tuple[int, int]]:
    """Those of `_records` whose text has the term: one pass over the lengths, guided by the hits."""
    at, size, length_of = 0, len(data), LENGTH.unpack_from
    hit = data.find(term)
    while hit >= 0 and at + HEAD_BYTES <= size:
        end = at + HEAD_BYTES + length_of(data, at)[0]
        if end > size:
            return
        if hit < end:
            if data.find(term, at + HEAD_BYTES, end) >= 0:  # and not in a head, nor across two records
                yield at, end
            hit = data.find(term, end)
        at = end


class Search:
    """One search over blocks that can hold an answer. `step` until it says that it is done; then `found` is the answer.

    Block after block in time order, until no later block can hold anything earlier than what is already enough.
    """

    def __init__(
        self,
        places: list[tuple[Segment, Block]],
        question: Question,
        *,
        newest_first: bool,
        limit: int,
        bytes_max: int,
    ) -> None:
        if newest_first:
            places.sort(key=lambda place: (-place[1].last_ms, -place[0].number, -place[1].start))
        else:
            places.sort(key=lambda place: (place[1].first_ms, place[0].number, place[1].start))
        self.found: list[Found] = []
        self._places = iter(places)
        self._question = question
        self._newest_first = newest_first
        self._limit = limit
        self._bytes_max = bytes_max
        self._full = False

    def step(self) -> bool:
        """Go on for STEP_S; whether it is done."""
        ends_s = time.monotonic() + STEP_S
        for segment, block in self._places:
            if self._full and self._is_past(block):
                return True
            before = len(self.found)
            self.found += search(segment.read(block), block.start, segment.number, self._question)
            if len(self.found) > before:
                self.found.sort(key=lambda one: one.order, reverse=self._newest_first)
                self._full = self._cut() or self._full
            if time.monotonic() > ends_s:
                return False
        return True

    def _is_past(self, block: Block) -> bool:
        last_ms = self.found[-1].order[0]
        return block.last_ms < last_ms if self._newest_first else block.first_ms > last_ms

    def _cut(self) -> bool:
        """Keeps what fits one answer; whether it is full. At least one entry always fits."""
        size = 0
        for count, one in enumerate(self.found):
            size += len(one.text)
            if count >= self._limit or (size > self._bytes_max and count > 0):
                del self.found[count:]
                return True
        return len(self.found) >= self._limit
