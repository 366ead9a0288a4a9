"""The port of sandboxes: the keeper's and every launcher's level, as root and as an ordinary user."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
import pytest_asyncio

from ondol.launcher import probe
from ondol.testing import keepers
from ondol.testing.keepers import ACCOUNT, INTERPRETER, USER, all_gone, running_keeper
from ondol.testing.launchers import put_away, running_launcher, start_launcher
from ondol.testing.packages import need
from ondol.testing.suites.sandboxes import DAEMONS, SandboxSuite

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(180)]

PACKAGES = {"bwrap": ("bubblewrap", "bwrap"), "crun": ("crun", "crun"), "gvisor": ("runsc", "runsc")}


def may_not(level, user):
    """Skips where this level cannot be had as this user."""
    if user is None and os.geteuid() != 0:
        pytest.skip("needs root")
    if level == "sandbox":
        reason = keepers.why_not(user)
        if reason and not os.environ.get("CI"):
            pytest.skip(reason)
        assert not reason
        return
    if level in PACKAGES:
        package, program = PACKAGES[level]
        need(package, program=program)
    found = probe.find([level])[level]
    if not found.ok and not os.environ.get("CI"):
        pytest.skip(found.detail)
    assert found.ok, found.detail


@pytest.fixture(scope="class", params=[None, USER], ids=["root", "user"])
def user(request):
    return request.param


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def house(request, user):
    """One maker of the class's level for all its tests: making it takes longer than any of them."""
    level = request.cls.level
    may_not(level, user)
    running = running_keeper(user) if level == "sandbox" else running_launcher(level, user)
    async with running as made:
        yield made


class TestSandbox(SandboxSuite):
    level = "sandbox"


class TestProcess(SandboxSuite):
    level = "process"


class TestBubblewrap(SandboxSuite):
    level = "bwrap"


class TestCrun(SandboxSuite):
    level = "crun"


class TestGvisor(SandboxSuite):
    level = "gvisor"


@pytest.mark.parametrize("half", ["outer", "inner"])
@pytest.mark.parametrize("level", ["process", "bwrap", "gvisor"])
async def test_a_launcher_that_is_killed_leaves_no_process(level, half):
    as_root = None if os.geteuid() == 0 else USER
    may_not(level, as_root)
    launched = start_launcher(level, as_root)
    try:
        inside = await launched.inside()
        await inside.run(DAEMONS)
        pids = launched.processes()
        keepers.kill(pids[0] if half == "outer" else pids[1])
        assert await all_gone(pids) == []
    finally:
        await put_away(launched)


@pytest.mark.parametrize("level", ["process", "bwrap", "crun", "gvisor"])
async def test_who_closes_its_wire_by_and_by_is_told_by_how_it_ended(level):
    """gVisor shuts a socket down for sending first. A front that sees it has the shell scoured, and wants the exit status."""
    as_root = None if os.geteuid() == 0 else USER
    may_not(level, as_root)
    async with running_launcher(level, as_root) as launched:
        inside = await launched.inside()
        await inside.tell(
            "import os, socket, time; socket.socket(fileno=os.dup(wire)).shutdown(socket.SHUT_WR); time.sleep(0.5); os._exit(3)"
        )
        with pytest.raises(EOFError):
            await inside.run("result = 1")
        await launched.sandboxes.scour(inside.shell)
        assert await inside.ended() == 3


@pytest.mark.parametrize("level", ["process", "bwrap", "crun"])
async def test_a_signal_goes_to_the_guest_alone_and_to_nobody_once_it_is_gone(level):
    as_root = None if os.geteuid() == 0 else USER
    may_not(level, as_root)
    async with running_launcher(level, as_root) as launched:
        inside = await launched.inside()
        await inside.run("import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(7))")
        inside.child.signal(signal.SIGTERM)
        assert await inside.ended() == 7
        inside.child.signal(signal.SIGTERM)
        again = await launched.fork_into(inside.shell)
        assert await again.run("result = 1") == 1


async def test_a_stock_of_started_guests_is_kept_ahead_and_filled_again():
    as_root = None if os.geteuid() == 0 else USER
    async with running_launcher("process", as_root, stock_shells=1) as launched:
        shells = [await launched.sandboxes.prepare(ACCOUNT, INTERPRETER) for _ in range(2)]
        assert shells[0].id != shells[1].id
        while len(list(launched.shells.glob("[0-9a-f]*"))) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
