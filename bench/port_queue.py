"""The durable queue at its port: calls accepted one by one by many callers at once, each on disk when its caller goes on.

Also the whole way of a call through it: accepted, claimed in turns, and acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, Section
from ondol.queue import Deferred
from ondol.queues.sqlite import SqliteQueue
from ondol.testing.suites.queue import call

PAYLOAD_BYTES = 512
FUNCTIONS = 8
CALLERS = (1, 32, 512)
CLAIM_MAX = 64


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one number of callers."""

    per_s: float
    commits_per_s: float
    batch: float


def _calls(count: int) -> list[Deferred]:
    payload = os.urandom(PAYLOAD_BYTES)
    return [call(os.urandom(16).hex(), f"f{number % FUNCTIONS}", payload=payload) for number in range(count)]


async def _enqueue(path: Path, callers: int, count: int) -> Round:
    queue = SqliteQueue(path)
    items = _calls(count)

    async def caller(first: int) -> None:
        for number in range(first, count, callers):
            await queue.enqueue([items[number]])

    before, begun = queue.commits, time.perf_counter()
    await asyncio.gather(*(caller(first) for first in range(callers)))
    seconds, commits = time.perf_counter() - begun, queue.commits - before
    await queue.close()
    return Round(count / seconds, commits / seconds, count / commits)


async def _through(path: Path, count: int) -> float:
    """Calls per second that are claimed and acknowledged, of `count` that wait."""
    queue = SqliteQueue(path)
    await queue.enqueue(_calls(count))
    begun, done = time.perf_counter(), 0
    while items := await queue.claim(1.0, limit=CLAIM_MAX, lease_s=900.0):
        await asyncio.gather(*(queue.ack([item.id]) for item in items))
        done += len(items)
    seconds = time.perf_counter() - begun
    await queue.close()
    assert done == count
    return count / seconds


def queue(*, rounds: int, count: int) -> Section:
    """`count`: calls in a round of many callers; fewer callers make fewer, for each waits for the disk."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="ondol-bench-") as place:
        path = Path(place)
        for callers in CALLERS:
            made = max(count * min(callers, 32) // 32 // (1 if callers > 1 else 4), 200)
            found = [asyncio.run(_enqueue(path / f"{callers}-{n}.db", callers, made)) for n in range(rounds)]
            target = ">= 20000" if callers == max(CALLERS) else ""
            name = f"accepted, {callers} caller{'s' * (callers > 1)}"
            figures += [
                Figure(what=name, unit="/s", rounds=[each.per_s for each in found], target=target),
                Figure(what=f"{name}: commits", unit="/s", rounds=[each.commits_per_s for each in found]),
                Figure(what=f"{name}: calls in a commit", unit="", rounds=[each.batch for each in found]),
            ]
        through = [asyncio.run(_through(path / f"through-{n}.db", count // 4)) for n in range(rounds)]
        figures.append(Figure(what=f"claimed {CLAIM_MAX} at a time and acknowledged one by one", unit="/s", rounds=through))
    text = (
        f"The port of the durable queue in one process, payloads of {PAYLOAD_BYTES} bytes for {FUNCTIONS} functions; every commit is "
        "synced to the disk before its callers go on."
    )
    return Section("The queue of asynchronous calls", text, figures)
