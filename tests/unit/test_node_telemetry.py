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
