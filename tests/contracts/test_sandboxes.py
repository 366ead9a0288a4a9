"""The port of sandboxes: the keeper's and every launcher's level, as root and as an ordinary user."""

from __future__ import annotations

import os

import pytest
import pytest_asyncio

from ondol.launcher import probe
from ondol.testing import keepers
from ondol.testing.keepers import USER, running_keeper
from ondol.testing.launchers import running_launcher
from ondol.testing.packages import need
from ondol.testing.suites.sandboxes import SandboxSuite

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
