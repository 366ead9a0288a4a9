"""A disk that is really full: a tmpfs of two MiB in a mount namespace of the test's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.sandbox

_SCRIPT = r"""
import asyncio, os, subprocess, sys
from pathlib import Path

from ondol.blobstores import tree
from ondol.journals.segments import SegmentJournal
from ondol.model.errors import OutOfSpace
from ondol.node.datadir import DataDir
from ondol.queues.sqlite import SqliteQueue
from ondol.store import Put
from ondol.stores.sqlite import SqliteStore
from ondol.testing.suites.blobs import archive_of
from ondol.testing.suites.journal import batch, messages
from ondol.testing.suites.queue import call

disk, outside = Path(sys.argv[1]), Path(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)


async def until_full(one):
    for n in range(10_000):
        try:
            await one(n)
        except OutOfSpace as error:
            assert "No space is left for" in str(error), error
            return n
    raise AssertionError("the disk never got full")


async def main():
    place = DataDir.open(disk / "data")
    store, queue = SqliteStore(place.catalog), SqliteQueue(place.queue)
    journal = SegmentJournal(place.journals)
    await journal.append([batch("s", (0, "first"))])

    archive = archive_of(outside / "a.zip", {f"{n}": os.urandom(200_000) for n in range(20)})
    try:
        tree.take(archive=str(archive), shelf=str(place.code), scratch=str(place.tmp))
        raise AssertionError("4 MB fitted into 2")
    except OutOfSpace:
        pass
    assert not os.listdir(place.code) and not os.listdir(place.tmp), "something was left"

    stored = await until_full(lambda n: store.commit([Put(f"k/{n}", {"text": "x" * 20_000}), Put(f"l/{n}", {})]))
    queued = await until_full(lambda n: queue.enqueue([call(f"{n}", payload=bytes(5000)), call(f"{n}b")]))
    logged = await until_full(lambda n: journal.append([batch("s", (n + 1, f"{n} " + "y" * 3000))]))
    assert stored > 5, stored

    number, documents = await store.snapshot()
    assert len(documents) == 2 * stored
    assert len(await queue.claim(1.0, limit=10_000, lease_s=1.0)) == 2 * queued if queued else True
    found = messages(await journal.entries("000000000000", "here-1", "/logs/f"))
    assert len(found) == 1 + logged, (len(found), logged)
    await journal.close(); await queue.close(); await store.close(); place.close()

    try:
        DataDir.open(disk / "other")
    except OutOfSpace:
        assert not (disk / "other").exists(), "half a directory"

    # With room again everything is as it was and goes on.
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    place = DataDir.open(disk / "data")
    store, queue, journal = SqliteStore(place.catalog), SqliteQueue(place.queue), SegmentJournal(place.journals)
    assert await store.commit([Put("more", {})]) > number
    assert len((await store.snapshot())[1]) == 2 * stored + 1
    await queue.enqueue([call("more")])
    await journal.append([batch("s", (10**6, "more"))])
    assert messages(await journal.entries("000000000000", "here-1", "/logs/f"))[-1] == "more"
    await journal.close(); await queue.close(); await store.close(); place.close()
    print("well")

asyncio.run(main())
"""


def test_a_full_disk_is_said_by_every_room_and_nothing_is_half_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "outside").mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", _SCRIPT]
    done = subprocess.run([*command, tmp_path / "disk", tmp_path / "outside"], capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout == "well\n", done.stderr
