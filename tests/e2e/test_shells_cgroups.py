"""Control groups as the kernel has them: limits, weights, what happens when they are reached, and whose group is whose.

As root and as an ordinary user; who of them has groups depends on the machine. `make test-v2` runs this where both must.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ondol.testing.keepers import ACCOUNT, USER, CodeFailed, groups_of, running_keeper, why_not

pytestmark = [pytest.mark.sandbox]


@pytest.fixture(params=[None, USER], ids=["root", "user"])
async def kept(request):
    """A keeper that limits memory."""
    reason = why_not(request.param)
    if reason == "needs root" or (reason and not os.environ.get("CI")):
        pytest.skip(reason)
    assert not reason
    async with running_keeper(request.param) as running:
        await running.sandboxes.discard(await running.sandboxes.prepare(ACCOUNT))  # it is up
        have = {c for group in groups_of(running) for c in controllers(group)}
        expected = os.environ.get("ONDOL_TEST_CGROUPS") and running.as_user is None  # another user has no delegated group
        if "memory" not in have and not expected:
            pytest.skip("no control group can be written to")
        assert have >= {"memory", "pids", "cpu"}
        yield running


def controllers(parent):
    """What the groups below this one are controlled in."""
    if (parent / "cgroup.subtree_control").exists():
        return (parent / "cgroup.subtree_control").read_text().split()
    files = {"memory": "memory.limit_in_bytes", "pids": "pids.max", "cpu": "cpu.shares"}
    return [name for name, file in files.items() if (parent / file).exists()]


def setting(kept, shell, *names):
    """The first of these files that one of the shell's groups has."""
    files = [parent / shell.id / name for parent in groups_of(kept) for name in names]
    return next(int(file.read_text()) for file in files if file.exists())


async def test_memory_swap_processes_and_cpu_time_are_limited(kept):
    small = (await kept.inside(memory_bytes=128 << 20)).shell
    large = (await kept.inside(memory_bytes=1024 << 20)).shell
    assert setting(kept, small, "memory.max", "memory.limit_in_bytes") == 128 << 20
    assert setting(kept, large, "pids.max") == 1024
    weights = [setting(kept, shell, "cpu.weight", "cpu.shares") for shell in (small, large)]
    assert weights[1] / weights[0] == pytest.approx(8, rel=0.2)
    functions = [
        int((parent / name).read_text())
        for parent in groups_of(kept)
        for name in ("cpu.weight", "cpu.shares")
        if (parent / name).exists()
    ]
    assert functions in ([50], [1024 * os.cpu_count()]), "all functions together do not outweigh the node's own processes"
    swaps = [parent / small.id / "memory.swap.max" for parent in groups_of(kept)]
    assert [file.read_text() for file in swaps if file.exists()] in ([], ["0\n"])


async def test_a_child_that_is_too_large_is_ended_and_its_parent_can_say_so(kept):
    inside = await kept.inside(memory_bytes=64 << 20)
    ended = await inside.run("""
import os
pid = os.fork()
if pid == 0:
    x = bytearray(256 << 20)
    os._exit(0)
result = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
""")
    assert ended == -9
    assert (await kept.sandboxes.usage(inside.shell)).oom_kills >= 1
    assert await inside.run("result = 1") == 1


async def test_shared_memory_is_bounded_by_the_memory_limit(kept):
    inside = await kept.inside(memory_bytes=32 << 20)
    await inside.tell("open('/dev/shm/big', 'wb').write(bytes(60 << 20))")
    assert await inside.ended() == -9


async def test_all_that_is_in_a_shell_is_in_each_of_its_groups(kept):
    inside = await kept.inside()
    child = await inside.run("""
import os, time
result = os.fork()
if not result:
    time.sleep(60)
""")
    assert child
    for parent in groups_of(kept):
        group = parent / inside.shell.id
        threads = next(name for name in ("tasks", "cgroup.threads") if (group / name).exists())
        assert len((group / threads).read_text().split()) == 3, "the init, the guest, and what it forked"


async def test_a_function_cannot_reach_its_own_group(kept):
    inside = await kept.inside()
    assert await inside.run("import os; result = os.path.exists('/sys/fs/cgroup')") is False
    with pytest.raises(CodeFailed):
        await inside.run("import ctypes, os\nif ctypes.CDLL(None).mount(b'x', b'/tmp', b'cgroup2', 0, 0): raise OSError(1)")


async def test_no_process_stands_in_a_group_that_hands_controllers_down(kept):
    """The rule of version 2. The machine's topmost group may."""
    inside = await kept.inside()
    await inside.run("result = 1")
    for pid in kept.processes():
        for parent in groups_of(kept):
            top = Path(str(parent).removesuffix(f"/ondol-{kept.node}"))
            if not (parent / "cgroup.subtree_control").exists() or not (top / "cgroup.type").exists():
                continue
            assert str(pid) not in (parent / "cgroup.procs").read_text().split()
            assert str(pid) not in (top / "cgroup.procs").read_text().split()


async def test_what_a_node_made_goes_with_it(kept):
    await kept.inside()
    parents = groups_of(kept)
    assert parents
    kept.supervisor.send(b'{"stop":1}')
    while any(parent.exists() for parent in parents):
        assert kept.process.poll() in (None, 0)
        await asyncio.sleep(0.02)
