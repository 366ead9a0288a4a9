"""What fronts log, on its way into the journal: kept, or owned up to."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from ondol.journals.segments import SegmentJournal
from ondol.model.errors import OutOfSpace
from ondol.model.invocations import LogEvent
from ondol.node import telemetry as sending
from ondol.node.journaling import Journaling
from ondol.node.link import Link
from ondol.node.telemetry import BatchedTelemetry
from ondol.telemetry import LogPlace
from ondol.testing.clock import VirtualClock

HOME = ("1", "r")


class Disk:
    """A journal whose disk can be full."""

    def __init__(self):
        self.full = False
        self.lines = {}

    async def append(self, batches):
        if self.full:
            raise OutOfSpace("No space is left.")
        for batch in batches:
            self.lines.setdefault(batch.stream, []).extend(event.message for event in batch.events)


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def take(disk):
    journaling = Journaling(disk, VirtualClock())

    async def take(**streams):
        await journaling.take(None, [(*HOME, "g", stream, [(7, line) for line in lines]) for stream, lines in streams.items()])

    return take


async def test_what_comes_is_kept(take, disk):
    await take(a=["1", "2"], b=["3"])
    assert disk.lines == {"a": ["1", "2"], "b": ["3"]}


async def test_what_a_full_disk_refused_is_counted_and_said_once_there_is_room(take, disk, caplog):
    disk.full = True
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            await take(a=["lost", "lost"], b=["lost"])
    assert len(caplog.records) == 1
    disk.full = False
    await take(a=["kept"])
    await take(a=["kept too"])
    said = "[ondol] up to {} log events could not be kept: the disk refused them\n"
    assert disk.lines == {"a": ["kept", said.format(10), "kept too"], "b": [said.format(5)]}


async def test_losses_of_streams_without_number_take_a_bounded_memory(take, disk, monkeypatch):
    monkeypatch.setattr("ondol.node.journaling.LOSERS_MAX", 3)
    disk.full = True
    for number in range(10):
        await take(**{f"s{number}": ["lost"]})
    disk.full = False
    await take(z=["kept"])
    assert set(disk.lines) == {"s0", "s1", "s2", "z"}


async def test_a_flood_is_bounded_marked_and_in_order_from_the_front_to_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(sending, "EVENTS_MAX", 5_000)
    journal = SegmentJournal(tmp_path)
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    journaling = Journaling(journal, VirtualClock())
    _, front = await loop.create_unix_connection(lambda: Link({}), sock=one)
    _, desk = await loop.create_unix_connection(lambda: Link({"log": journaling.take}), sock=other)
    telemetry = BatchedTelemetry(lambda batches: front.cast("log", batches))
    for number in range(12_000):
        telemetry.log(LogPlace(*HOME, "g", "flood"), [LogEvent(number, f"{number}\n")])
    telemetry.log(LogPlace(*HOME, "g", "quiet"), [LogEvent(1, "lost, and counted\n")])
    telemetry.flush()
    telemetry.log(LogPlace(*HOME, "g", "flood"), [LogEvent(20_000, "after\n")])
    telemetry.flush()
    async with asyncio.timeout(30):
        while len(await journal.streams(*HOME, "g") if await journal.groups(*HOME) else ()) < 2:
            await asyncio.sleep(0.01)
        while (await journal.entries(*HOME, "g", newest_first=True, limit=1))[0].message != "after\n":
            await asyncio.sleep(0.01)
    flood = [entry.message for entry in await journal.entries(*HOME, "g", streams=["flood"])]
    note = "[ondol] {} log events were dropped: more came than can be kept\n"
    assert flood == [*(f"{number}\n" for number in range(5_000)), note.format(7_000), "after\n"]
    assert [entry.message for entry in await journal.entries(*HOME, "g", streams=["quiet"])] == [note.format(1)]
    front.close()
    desk.close()
    await journal.close()
