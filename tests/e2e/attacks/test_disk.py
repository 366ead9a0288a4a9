"""Functions that fill the node's disk together, each within its own bound: what is kept for the node stays free."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from ondol.keeper.reserve import MIB_DEFAULT
from ondol.launcher import probe
from ondol.model.errors import OutOfSpace
from ondol.testing.keepers import ACCOUNT, USER, CodeFailed, running_keeper, why_not
from ondol.testing.launchers import running_launcher
from ondol.testing.packages import need

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(240)]

DISK_MIB = 640
FILL = """
import os
with open(tmp + "/filler", "wb", buffering=0) as file:
    for number in range(480):
        file.write(bytes(1 << 20))
        if number % 8 == 0:
            os.fsync(file.fileno())
result = "filled"
"""


@pytest.fixture
def small_disk(monkeypatch):
    """A disk of its own for all that the test's keeper keeps."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a disk")
    with tempfile.TemporaryDirectory(prefix="ondol-disk-") as top:
        image, at = Path(top) / "image", Path(top) / "disk"
        with image.open("wb") as file:
            file.truncate(DISK_MIB << 20)
        at.mkdir()
        os.chmod(top, 0o755)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
        mounted = subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=False, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"no loop device here: {mounted.stderr.strip()}")
        at.chmod(0o1777)
        monkeypatch.setattr(tempfile, "tempdir", str(at))
        try:
            yield at
        finally:
            monkeypatch.undo()
            subprocess.run(["umount", "-l", str(at)], check=True)


def left_mib(disk):
    there = os.statvfs(disk)
    return (there.f_bavail * there.f_frsize) >> 20


async def filled(inside):
    try:
        return await inside.run(FILL)
    except (EOFError, CodeFailed, ConnectionError) as error:
        return type(error).__name__


def making(level, user):
    """The maker of this level's sandboxes, running as `user`. Skips where it cannot be had."""
    if level == "sandbox":
        if reason := why_not(user):
            pytest.skip(reason)
        return running_keeper(user)
    if level == "bwrap":
        need("bubblewrap", program="bwrap")
    if not (found := probe.find([level])[level]).ok:
        pytest.skip(found.detail)
    return running_launcher(level, user)


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
@pytest.mark.parametrize("level", ["sandbox", "process", "bwrap"])
async def test_functions_that_fill_the_disk_together_leave_the_nodes_part_of_it(small_disk, level, user):
    async with making(level, user) as kept:
        attackers = [await kept.inside() for _ in range(2)]
        neighbour = await kept.inside()
        ends = asyncio.gather(*map(filled, attackers))
        least = left_mib(small_disk)
        while not ends.done():
            least = min(least, left_mib(small_disk))
            await neighbour.run("open(tmp + '/x', 'w').write('x' * 4096); result = 1")
            (kept.data / "database").write_bytes(os.urandom(1 << 16))
            await asyncio.sleep(0.01)
        assert set(await ends) != {"filled"}
        assert least > 0
        deadline = asyncio.get_running_loop().time() + 60
        while left_mib(small_disk) < MIB_DEFAULT and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        assert left_mib(small_disk) >= MIB_DEFAULT
        assert await neighbour.run("result = open(tmp + '/x').read(1)") == "x"
        for attacker in attackers:
            await kept.sandboxes.discard(attacker.shell)
        assert await (await kept.inside()).run("result = 1") == 1


@pytest.mark.parametrize("level", ["sandbox", "process"])
async def test_under_the_reserve_no_shell_is_made_and_that_is_said(small_disk, level):
    async with making(level, None) as kept:
        early = await kept.inside()
        (small_disk / "somebody-elses").write_bytes(bytes(left_mib(small_disk) - 100 << 20))
        with pytest.raises(OutOfSpace, match=f"{MIB_DEFAULT} MiB are kept for the node .--disk-reserve-mib"):
            await kept.sandboxes.prepare(ACCOUNT)
        await asyncio.sleep(0.5)
        assert await early.run("result = 1") == 1  # who holds nothing of it is not ended for it
        (small_disk / "somebody-elses").unlink()
        assert await (await kept.inside()).run("result = 2") == 2
