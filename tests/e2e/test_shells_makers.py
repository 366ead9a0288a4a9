"""Who makes an account's shells: a process beside the keeper, which is replaced when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from ondol.testing.keepers import USER, running_keeper, why_not

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(120)]


@pytest.fixture(params=[None, USER], ids=["root", "user"])
async def kept(request):
    if reason := why_not(request.param):
        pytest.skip(reason)
    async with running_keeper(request.param) as running:
        yield running


def named(kept, name):
    return [pid for pid in kept.processes() if Path(f"/proc/{pid}/comm").read_text() == f"{name}\n"]


async def killed(pid):
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0.01)


async def test_one_maker_makes_an_accounts_shells_and_another_comes_after_its_death(kept):
    first, second = await kept.inside(), await kept.inside()
    (maker,) = named(kept, "ondol-maker")
    await killed(maker)
    assert await first.run("result = 1") == 1  # what it made lives on
    assert await (await kept.inside()).run("import os; result = [os.getpid() > 1, os.listdir('/tmp')]") == [True, []]
    assert named(kept, "ondol-maker") != [maker]
    await kept.sandboxes.discard(second.shell)
    assert not (kept.data / "shells" / second.shell.id).exists()


async def test_makers_are_each_of_one_account(kept):
    await kept.inside()
    await kept.inside(account="111111111111")
    namespaces = {os.readlink(f"/proc/{pid}/ns/user") for pid in named(kept, "ondol-maker")}
    assert len(namespaces) == 2


async def test_a_maker_sees_nothing_of_the_machine(kept):
    await kept.inside()
    (maker,) = named(kept, "ondol-maker")
    mounted = {line.split()[4] for line in Path(f"/proc/{maker}/mountinfo").read_text().splitlines()}
    assert "/" in mounted and str(kept.data) not in "".join(mounted)
    assert not os.path.exists(f"/proc/{maker}/root/etc/shadow")
    status = dict(line.split(":", 1) for line in Path(f"/proc/{maker}/status").read_text().splitlines())
    assert [status[key].strip() for key in ("NoNewPrivs", "CapBnd")] == ["1", "0" * 16]
