"""net.ipv4.ip_forward of the machine: on as long as a node of root's needs it, and then as it was, whoever is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from ondol.keeper import forwarding
from ondol.testing.internet import inside, world
from ondol.testing.keepers import all_gone, kill, put_away, restart, running_keeper, start_keeper, why_not

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(180)]


@pytest.fixture
def earth():
    reason = why_not(None) or ("needs root, to make a world" if os.geteuid() else "")
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with world() as made:  # a new machine has the setting of the one that it is made on
        inside(made.machine, lambda: Path(forwarding.SETTING).write_text("0"))
        yield made


def setting(earth):
    return inside(earth.machine, lambda: Path(forwarding.SETTING).read_text().strip())


def record(earth):
    return Path(forwarding.DIRECTORY) / f"forwarding-{os.fstat(earth.machine).st_ino}"


async def becomes(earth, value):
    deadline = asyncio.get_running_loop().time() + 30
    while (now := setting(earth)) != value and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    return now


async def test_it_is_on_while_one_of_two_nodes_needs_it_and_off_after_the_second(earth):
    assert setting(earth) == "0"
    async with running_keeper(None, on=earth) as one:
        await one.inside(network="none")
        assert setting(earth) == "0"  # nobody needs it so far
        async with running_keeper(None, on=earth) as two:
            await two.inside(network="egress")
            await one.inside(network="egress")
            assert setting(earth) == "1"
        assert setting(earth) == "1"
    assert await becomes(earth, "0") == "0"
    assert not record(earth).exists()


async def test_what_was_on_before_stays_on(earth):
    inside(earth.machine, lambda: Path(forwarding.SETTING).write_text("1"))
    async with running_keeper(None, on=earth) as kept:
        await kept.inside(network="egress")
    assert setting(earth) == "1"
    assert not record(earth).exists()


async def test_it_stays_on_where_a_bridge_came_meanwhile_whose_owner_found_it_on(earth):
    async with running_keeper(None, on=earth) as kept:
        await kept.inside(network="egress")
        command = ["nsenter", f"--net=/proc/self/fd/{earth.machine}", "ip", "link", "add", "br0", "type", "bridge"]
        subprocess.run(command, check=True, pass_fds=[earth.machine])
    assert setting(earth) == "1"
    assert not record(earth).exists()


@pytest.mark.parametrize("killed", ["inner", "outer", "both"])
async def test_it_is_put_back_whoever_is_killed(earth, killed):
    kept = start_keeper(None, on=earth)
    try:
        await kept.inside(network="egress")
        assert setting(earth) == "1"
        outer, inner = kept.processes()[:2]
        for pid in {"inner": [inner], "outer": [outer], "both": [outer, inner]}[killed]:
            kill(pid)
        assert await all_gone([outer, inner]) == []
        if killed != "inner":  # who started it starts the next one, which cleans first
            await put_away_quietly(restart(kept))
        assert await becomes(earth, "0") == "0"
        assert not record(earth).exists()
    finally:
        await put_away(kept)


async def put_away_quietly(kept):
    await kept.sandboxes.close()
    kept.supervisor.close()
    await asyncio.to_thread(kept.process.wait, 30)


def test_a_record_that_is_none_switches_nothing_off(earth):
    inside(earth.machine, lambda: Path(forwarding.SETTING).write_text("1"))
    record(earth).parent.mkdir(mode=0o700, exist_ok=True)
    for text in ("", "{", "7", '"x"', "[[]]", "null"):
        record(earth).write_text(text)
        assert inside(earth.machine, lambda: forwarding.put_back("ond")) is False
        assert setting(earth) == "1"
        record(earth).unlink(missing_ok=True)
