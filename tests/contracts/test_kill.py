"""kill -9 of the writing process at any moment: everything it had acknowledged is there, whole and once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import pytest

from ondol.journals.segments import SegmentJournal
from ondol.queues.sqlite import SqliteQueue
from ondol.stores.sqlite import SqliteStore

#: Each prints the number of what has just been acknowledged; several are under way at once.
_PROLOGUE = """
import asyncio, sys
from pathlib import Path
place, first = Path(sys.argv[1]), int(sys.argv[2])
async def everybody(one):
    async def many(writer):
        for n in range(first + writer, 10**9, 8):
            await one(n)
            print(n, flush=True)
    await asyncio.gather(*(many(writer) for writer in range(8)))
"""
_STORE = """
from ondol.stores.sqlite import SqliteStore
from ondol.store import Put
async def main():
    store = SqliteStore(place / "catalog.db")
    await everybody(lambda n: store.commit([Put(f"a/{n}", {"n": n}), Put(f"b/{n}", {"text": "x" * (n % 3000)})]))
asyncio.run(main())
"""
_QUEUE = """
from ondol.queues.sqlite import SqliteQueue
from ondol.testing.suites.queue import call
async def main():
    queue = SqliteQueue(place / "queue.db")
    async def one(n):
        await queue.enqueue([call(f"{n}", payload=b"x" * (n % 3000)), call(f"{n} done")])
        await queue.ack([f"{n} done"])
    await everybody(one)
asyncio.run(main())
"""
_JOURNAL = """
from ondol.journals.group import JournalLimits
from ondol.journals.segments import SegmentJournal
from ondol.testing.suites.journal import batch
async def main():
    journal = SegmentJournal(place / "journals", JournalLimits(segment_bytes_max=20_000))
    await everybody(lambda n: journal.append([batch(f"s{n % 9}", (n, f"{n} " + "x" * (n % 900)))]))
asyncio.run(main())
"""


def killed(script, place, rounds=3):
    """What several lives of a writer acknowledged before each was killed."""
    draw = random.Random(str(place))
    acknowledged: list[int] = []
    for life in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-c", _PROLOGUE + script, str(place), str(life * 10_000_000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(draw.randint(1, 400) if life else 400):  # the first time enough for all that a writer does
            acknowledged.append(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert len(acknowledged) >= rounds
    return acknowledged


async def test_commits_survive(tmp_path):
    acknowledged = killed(_STORE, tmp_path)
    store = SqliteStore(tmp_path / "catalog.db")
    _, documents = await store.snapshot()
    await store.close()
    values = {document.key: document.value for document in documents}
    for n in acknowledged:
        assert values[f"a/{n}"] == {"n": n}
        assert values[f"b/{n}"] == {"text": "x" * (n % 3000)}
    whole = {key[2:] for key in values if key.startswith("a/")}
    assert whole == {key[2:] for key in values if key.startswith("b/")}, "half a commit"


async def test_accepted_calls_survive(tmp_path):
    acknowledged = killed(_QUEUE, tmp_path)
    queue = SqliteQueue(tmp_path / "queue.db")
    found = {item.id: item.payload for item in await queue.claim(1.0, limit=10**6, lease_s=60.0)}
    await queue.ack(list(found))
    assert await queue.next_visible_s(0.0) is None
    await queue.close()
    for n in acknowledged:
        assert found[str(n)] == b"x" * (n % 3000)
        assert f"{n} done" not in found


async def test_log_lines_survive(tmp_path):
    acknowledged = killed(_JOURNAL, tmp_path)
    assert list(tmp_path.rglob("*.logz")), "nothing was packed meanwhile"
    journal = SegmentJournal(tmp_path / "journals")
    found, after = [], ""
    while page := await journal.entries("000000000000", "here-1", "/logs/f", after=after):
        found += page
        after = page[-1].id
    await journal.close()
    lines = {entry.at_ms: entry for entry in found}
    assert len(lines) == len(found), "a line twice"
    for n in acknowledged:
        assert (lines[n].message, lines[n].stream) == (f"{n} " + "x" * (n % 900), f"s{n % 9}")


@pytest.mark.parametrize("moment", range(3))
def test_a_data_directory_survives_its_makers_death(tmp_path, moment):
    code = (
        "import os, sys, pathlib; from ondol.node.datadir import DataDir\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "for _ in range(int(sys.argv[2])): DataDir.open(place).close()\n"
        "kept = DataDir.open(place); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "data"), str(moment)], check=False)
    from ondol.node.datadir import DataDir

    place = DataDir.open(tmp_path / "data")
    assert place.code.is_dir()
    place.close()
