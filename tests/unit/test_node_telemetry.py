"""Log events on their way to the desk: gathered, bounded, and honest about what was lost."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ondol.model.invocations import LogEvent
from ondol.node import telemetry as module
from ondol.node.telemetry import BatchedTelemetry
from ondol.telemetry import LogPlace
from ondol.testing.pool import virtually


class Desk:
    def __init__(self):
        self.there = True
        self.batches = []

    def __call__(self, batches):
        msgspec.msgpack.encode(batches)
        if self.there:
            self.batches += batches
        return self.there

    def lines(self, stream="s"):
        return [message for *_, at, events in self.batches if at == stream for _, message in events]


def write(telemetry, *messages, stream="s"):
    for message in messages:
        telemetry.log(LogPlace("1", "r", "g", stream), [LogEvent(7, message)])


@virtually
async def test_events_of_a_moment_go_in_one_batch_per_stream_in_order():
    desk = Desk()
    telemetry = BatchedTelemetry(desk)
    write(telemetry, "a", "b")
    write(telemetry, "c", stream="t")
    assert desk.batches == []
    await asyncio.sleep(1)
    assert desk.batches == [("1", "r", "g", "s", [(7, "a"), (7, "b")]), ("1", "r", "g", "t", [(7, "c")])]
    await asyncio.sleep(10)
    assert len(desk.batches) == 2


@virtually
async def test_flush_sends_at_once_what_waits():
    desk = Desk()
    telemetry = BatchedTelemetry(desk)
    write(telemetry, "last words")
    telemetry.flush()
    telemetry.flush()
    assert desk.lines() == ["last words"]


@virtually
async def test_what_is_written_while_the_desk_is_away_arrives_later_once():
    desk = Desk()
    telemetry = BatchedTelemetry(desk)
    desk.there = False
    write(telemetry, "a")
    await asyncio.sleep(5)
    write(telemetry, "b")
    await asyncio.sleep(5)
    desk.there = True
    await asyncio.sleep(5)
    assert desk.lines() == ["a", "b"]


@pytest.mark.parametrize(("bound", "limit"), [("EVENTS_MAX", 3), ("BYTES_MAX", 3)])
def test_what_is_lost_is_counted_once_in_the_stream_that_lost_it(monkeypatch, bound, limit):
    monkeypatch.setattr(module, bound, limit)

    @virtually
    async def story():
        desk = Desk()
        telemetry = BatchedTelemetry(desk)
        desk.there = False
        write(telemetry, "a", "b", "c", "lost", "lost")
        write(telemetry, "lost", stream="t")  # a stream that has nothing else to say
        await asyncio.sleep(10)  # tried again and again
        desk.there = True
        await asyncio.sleep(2)
        write(telemetry, "d")
        await asyncio.sleep(2)
        note = "[ondol] {} log events were dropped: more came than can be kept\n"
        assert desk.lines() == ["a", "b", "c", note.format(2), "d"]
        assert desk.lines("t") == [note.format(1)]

    story()


@virtually
async def test_half_a_surrogate_pair_costs_one_letter_and_not_the_log():
    desk = Desk()
    telemetry = BatchedTelemetry(desk)
    write(telemetry, "bad \ud800", "good ✓")
    await asyncio.sleep(1)
    write(telemetry, "later")
    await asyncio.sleep(1)
    assert desk.lines() == ["bad ?", "good ✓", "later"]


@virtually
async def test_streams_without_number_that_lose_events_take_a_bounded_memory():
    desk = Desk()
    telemetry = BatchedTelemetry(desk)
    desk.there = False
    telemetry._events = module.EVENTS_MAX
    for number in range(module.LOSERS_MAX + 100):
        write(telemetry, "x", stream=str(number))
    assert len(telemetry._dropped) == module.LOSERS_MAX


class Counting(Desk):
    """Remembers how much came at a time."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __call__(self, batches):
        self.sizes.append(sum(len(events) for *_, events in batches))
        return super().__call__(batches)


@virtually
async def test_a_flood_goes_in_pieces_with_other_work_between_them():
    desk, turns = Counting(), []
    telemetry = BatchedTelemetry(desk)
    write(telemetry, *map(str, range(9_000)))
    write(telemetry, "quiet", stream="t")

    async def other_work():
        while len(desk.lines()) < 9_000:
            turns.append(len(desk.sizes))
            await asyncio.sleep(0)

    await asyncio.sleep(module.FLUSH_S)  # until the first piece goes
    await other_work()
    await asyncio.sleep(1)
    assert desk.lines() == list(map(str, range(9_000)))
    assert desk.lines("t") == ["quiet"]
    assert max(desk.sizes) <= module.SEND_EVENTS_MAX
    assert set(turns) >= {2, 3, 4}


@virtually
async def test_long_lines_go_in_pieces_too():
    desk = Counting()
    telemetry = BatchedTelemetry(desk)
    write(telemetry, *(["x" * 500_000] * 9))
    await asyncio.sleep(1)
    assert (sum(desk.sizes), max(desk.sizes)) == (9, 3)


@virtually
async def test_a_flush_at_the_end_sends_a_whole_flood():
    desk = Counting()
    telemetry = BatchedTelemetry(desk)
    write(telemetry, *map(str, range(9_000)))
    telemetry.flush()
    assert desk.lines() == list(map(str, range(9_000)))


@virtually
async def test_a_desk_that_goes_away_in_the_middle_of_a_flood_gets_the_rest_once_later():
    desk = Counting()
    telemetry = BatchedTelemetry(desk)
    write(telemetry, *map(str, range(9_000)))

    def send(batches):
        desk.there = desk.there and len(desk.sizes) < 3
        return desk(batches)

    telemetry._send = send
    await asyncio.sleep(3)
    assert len(desk.lines()) == 6_000
    telemetry._send, desk.there = desk, True
    await asyncio.sleep(3)
    assert desk.lines() == list(map(str, range(9_000)))
