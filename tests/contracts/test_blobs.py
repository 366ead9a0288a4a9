"""Code in a folder keeps the port's rules; and the helper process may die at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from ondol.blobstores.folder import JOBS, FolderBlobs
from ondol.blobstores.tree import clear
from ondol.blobstores.worker import Helper, HelperLimits
from ondol.model.errors import InvalidCode, OutOfSpace, Throttled, TooLarge, Unavailable
from ondol.testing.clock import VirtualClock
from ondol.testing.suites.blobs import BlobsSuite, archive_of


@pytest.fixture
async def helper():
    helper = Helper(JOBS)
    yield helper
    await helper.close()


@pytest.fixture
def places(tmp_path):
    for name in ("code", "scratch"):
        (tmp_path / name).mkdir()
    return tmp_path / "code", tmp_path / "scratch"


class TestFolderBlobs(BlobsSuite):
    @pytest.fixture
    def blobs(self, helper, places):
        return FolderBlobs(*places, helper.call)

    @pytest.fixture
    def visible(self, places):
        def names():
            assert not list(places[1].iterdir()), "something was left in the scratch directory"
            return {path.name for path in places[0].iterdir()}

        return names

    async def test_an_old_blob_that_nobody_names_goes(self, helper, places, tmp_path, visible):
        clock = VirtualClock()
        blobs = FolderBlobs(*places, helper.call, clock=clock)
        named = await blobs.take(archive_of(tmp_path / "a.zip", {"app.py": "1"}))
        unnamed = await blobs.take(archive_of(tmp_path / "b.zip", {"app.py": "2"}))
        for code, age_s in ((named, 4000), (unnamed, 3700)):
            os.utime(places[0] / code.sha256, (clock.wall_s() - age_s, clock.wall_s() - age_s))
        assert await blobs.keep_only(frozenset({named.sha256})) == 1
        assert visible() == {named.sha256}

    async def test_the_helper_killed_while_it_works_leaves_no_half_tree(self, helper, blobs, places, tmp_path, visible):
        path = archive_of(tmp_path / "a.zip", {f"d{n % 20}/f{n}.py": "x = 1\n" * 200 for n in range(600)})
        await blobs.take(archive_of(tmp_path / "small.zip", {"app.py": ""}))  # it runs
        for _ in range(3):
            work = asyncio.ensure_future(blobs.take(path))
            while not work.done() and not list(places[1].iterdir()):
                await asyncio.sleep(0.001)
            os.kill(helper.pid, signal.SIGKILL)
            code = await work  # done again by the next helper
            assert sum(len(files) for _, _, files in os.walk(blobs.tree(code))) == 600
            for left in places[1].iterdir():
                left.rename(tmp_path / f"away-{left.name}")  # what the next start of a node removes
            (places[0] / code.sha256).rename(tmp_path / f"gone-{os.urandom(4).hex()}")
        assert len(visible()) == 1


async def test_a_helper_that_dies_over_a_job_gives_it_up(tmp_path):
    helper = Helper({"die": "os:abort"})
    with pytest.raises(Unavailable, match="died twice"):
        await helper.call("die")
    await helper.close()
    assert helper.pid is None


async def test_what_a_job_leaves_that_dies_with_its_helper_is_removed_and_nothing_else(tmp_path):
    for name in ("take-0-1", "merge-0-1", "gone-0-1", "upload-1"):
        (tmp_path / name / "tree").mkdir(parents=True)
    helper = Helper({"die": "os:abort"}, clear=partial(clear, tmp_path))
    with pytest.raises(Unavailable):
        await helper.call("die")
    assert [left.name for left in tmp_path.iterdir()] == ["upload-1"]
    await helper.close()


async def test_a_job_that_takes_too_long_is_ended():
    helper = Helper({"sleep": "ondol.testing.suites.blobs:sleep"}, HelperLimits(job_s_max=1.0))
    with pytest.raises(Unavailable, match="took longer than 1 s"):
        await helper.call("sleep", seconds=600)
    await helper.close()


async def test_the_largest_request_goes_through_and_comes_back():
    helper = Helper({"echo": "ondol.testing.suites.blobs:echo"})
    body = os.urandom(1024) * 68_523
    assert await helper.call("echo", body=body) == body
    await helper.close()


async def test_a_caller_that_goes_away_does_not_confuse_the_next():
    helper = Helper({"sleep": "ondol.testing.suites.blobs:sleep", "echo": "ondol.testing.suites.blobs:echo"})
    waiting = asyncio.ensure_future(helper.call("sleep", seconds=0.1))
    await asyncio.sleep(0)
    waiting.cancel()
    assert [await helper.call("echo", body=bytes([n])) for n in range(5)] == [bytes([n]) for n in range(5)]
    await helper.close()


async def test_the_line_to_the_helper_is_bounded():
    helper = Helper({"sleep": "ondol.testing.suites.blobs:sleep"}, HelperLimits(waiting_jobs_max=2))
    jobs = [asyncio.ensure_future(helper.call("sleep", seconds=0.01)) for _ in range(4)]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results].count(Throttled) == 2
    await helper.close()


async def test_the_helper_does_what_it_was_given_and_nothing_else(helper):
    with pytest.raises(KeyError, match="no job named"):
        await helper.call("os:system")


async def test_a_closed_helper_leaves_no_process(helper, places, tmp_path):
    await FolderBlobs(*places, helper.call).take(archive_of(tmp_path / "a.zip", {"app.py": ""}))
    pid = helper.pid
    await helper.close()
    assert not os.path.exists(f"/proc/{pid}")


async def test_errors_keep_their_kind_and_their_facts_across_the_process(helper, places, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"nonsense")
    with pytest.raises(InvalidCode, match="not a zip archive"):
        await FolderBlobs(*places, helper.call).take(tmp_path / "a.zip")
    with pytest.raises(TooLarge) as refused:
        await helper.call(
            "blobs.take",
            archive=str(tmp_path / "a.zip"),
            shelf=str(places[0]),
            scratch=str(places[1]),
            zipped_bytes_max=3,
        )
    assert (refused.value.limit_bytes, refused.value.actual_bytes) == (3, 8)


async def test_a_full_disk_is_said_and_nothing_stays(places, tmp_path, monkeypatch):
    from ondol.blobstores import tree

    def full(*_):
        raise OSError(28, "No space left on device")

    path = archive_of(tmp_path / "a.zip", {"d/app.py": "x"})
    monkeypatch.setattr(tree, "write_all", full)
    with pytest.raises(OutOfSpace):
        tree.take(archive=str(path), shelf=str(places[0]), scratch=str(places[1]))
    assert not list(places[0].iterdir())
    assert not list(places[1].iterdir())


_NODE = """
import asyncio, os, sys
from ondol.blobstores.worker import Helper
async def main():
    helper = Helper({"echo": "ondol.testing.suites.blobs:echo", "sleep": "ondol.testing.suites.blobs:sleep"})
    await helper.call("echo", body=b"")
    work = asyncio.ensure_future(helper.call("sleep", seconds=600))
    print(helper.pid, flush=True)
    await work
asyncio.run(main())
"""


async def test_the_helper_dies_with_the_node_even_over_a_job():
    node = subprocess.Popen([sys.executable, "-c", _NODE], stdout=subprocess.PIPE, text=True)
    pid = int(node.stdout.readline())
    node.kill()
    node.communicate()
    async with asyncio.timeout(30):
        while _alive(pid):
            await asyncio.sleep(0.01)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"  # who inherits it may be slow to reap
    except FileNotFoundError:
        return False


async def test_the_helper_gives_way_to_the_node():
    helper = Helper({"echo": "ondol.testing.suites.blobs:echo"}, HelperLimits(niceness=7))
    await helper.call("echo", body=b"")
    assert os.getpriority(os.PRIO_PROCESS, helper.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)
    await helper.close()


async def test_ctrl_c_leaves_the_helper_to_the_node():
    helper = Helper({"echo": "ondol.testing.suites.blobs:echo"})
    await helper.call("echo", body=b"")
    before = helper.pid
    os.kill(before, signal.SIGINT)
    assert await helper.call("echo", body=b"still here") == b"still here"
    assert helper.pid == before
    await helper.close()
