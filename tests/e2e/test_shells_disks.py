"""Disks of shells that have ended: handed on where nothing was ever done to them, and never otherwise."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from ondol.keeper import spares
from ondol.keeper.disks import TMP_MIB_DEFAULT
from ondol.testing.keepers import ACCOUNT, running_keeper, why_not

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(120)]

OTHER = "111111111111"
TOUCHED = {
    "a file that was removed again": "open('/tmp/x', 'w').write('x'); os.unlink('/tmp/x')",
    "a file without a name": "f = os.open('/tmp', os.O_TMPFILE | os.O_RDWR); os.write(f, bytes(1 << 20)); os.fsync(f)",
    "a directory in it": "os.mkdir('/tmp/d'); os.rmdir('/tmp/d')",
    "a file that is still there": "open('/tmp/x', 'w').write('x')",
    "another mode, and the old one again": "m = os.stat('/tmp').st_mode & 0o7777; os.chmod('/tmp', 0o700); os.chmod('/tmp', m)",
    "other times, and the old ones again": (
        "s = os.stat('/tmp'); os.utime('/tmp', (0, 0)); os.utime('/tmp', ns=(s.st_atime_ns, s.st_mtime_ns))"
    ),
    "an attribute that was removed again": "os.setxattr('/tmp', 'user.x', b'y'); os.removexattr('/tmp', 'user.x')",
    "a look at what is in it": "os.listdir('/tmp')",
}


@pytest.fixture
async def kept():
    if reason := why_not(None):
        pytest.skip(reason)
    async with running_keeper(None) as running:
        await running.sandboxes.prepare(OTHER)
        if not list((running.data / "shells").glob(".disk-*")):
            pytest.skip("no loop devices, or no mkfs.ext4")
        yield running


def spare(kept):
    """The images that wait for a shell, by their numbers."""
    return {image.stat().st_ino for image in (kept.data / "shells" / ".spare").iterdir()}


def image_of(kept, shell):
    return (kept.data / "shells" / shell.id / f"tmp-{TMP_MIB_DEFAULT}.img").stat().st_ino


async def used(kept, code, network="none"):
    """The image of a shell in which this ran, and which has ended."""
    shell = await kept.sandboxes.prepare(ACCOUNT, network=network)
    image = image_of(kept, shell)
    await asyncio.sleep(2 * spares.SETTLED_S)
    await kept.sandboxes.attach(shell, tree=kept.code(), memory_bytes=256 << 20, tmp_mib=TMP_MIB_DEFAULT)
    inside = await kept.fork_into(shell)
    await inside.run(f"import os; {code}; result = 1")
    await kept.sandboxes.discard(shell)
    return image


async def test_a_disk_that_nobody_touched_is_the_next_shells_of_the_account(kept):
    image = await used(kept, "open('/dev/shm/x', 'w').write('x')")
    assert spare(kept) == {image}
    assert image_of(kept, await kept.sandboxes.prepare(OTHER)) != image
    again = await kept.sandboxes.prepare(ACCOUNT)
    assert image_of(kept, again) == image and spare(kept) == set()
    await kept.sandboxes.attach(again, tree=kept.code(), memory_bytes=256 << 20, tmp_mib=TMP_MIB_DEFAULT)
    inside = await kept.fork_into(again)
    assert await inside.run("import os; s = os.statvfs('/tmp'); result = [os.listdir('/tmp'), s.f_bfree > 120_000]") == [
        [],
        True,
    ]
    assert await inside.run("open('/tmp/x', 'w').write('x'); result = open('/tmp/x').read()") == "x"


@pytest.mark.parametrize("code", TOUCHED.values(), ids=TOUCHED)
async def test_a_disk_that_was_touched_goes_with_its_shell(kept, code):
    await used(kept, code)
    assert spare(kept) == set()


async def test_a_disk_is_not_handed_on_where_shells_share_a_network(kept):
    await used(kept, "pass", network="host")
    assert spare(kept) == set()


def test_a_disk_that_is_just_made_is_not_old_enough_for_changes_to_be_seen():
    made = spares.Disk(mounted=-1, image="", uid=0, made_s=time.monotonic(), state=(), image_bytes=0)
    assert not made.settled
    assert replace(made, made_s=made.made_s - spares.SETTLED_S).settled
