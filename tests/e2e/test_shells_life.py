"""How shells and what runs in them end: by themselves, by a limit, by scouring, by discarding."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest

from ondol.model.errors import StartFailed
from ondol.sandbox import with_modules
from ondol.sandboxes import demand
from ondol.testing.keepers import (
    ACCOUNT,
    INTERPRETER,
    USER,
    CodeFailed,
    Inside,
    all_gone,
    groups_of,
    leftovers,
    running_keeper,
    why_not,
)

pytestmark = [pytest.mark.sandbox]

DAEMONS = """
import os, time, signal
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
"""


def may_not(user):
    reason = why_not(user)
    if reason == "needs root" or (reason and not os.environ.get("CI")):
        pytest.skip(reason)
    assert not reason


@pytest.fixture(params=[None, USER], ids=["root", "user"])
async def kept(request):
    may_not(request.param)
    async with running_keeper(request.param) as running:
        yield running


@pytest.fixture(params=[None, USER], ids=["root", "user"])
async def limited(request):
    """A keeper that limits memory."""
    may_not(request.param)
    async with running_keeper(request.param) as running:
        shell = await running.sandboxes.prepare(ACCOUNT)
        if "memory_peak" not in shell.files:
            pytest.skip("no control group can be written to")
        await running.sandboxes.discard(shell)
        yield running


@pytest.fixture
async def with_disks():
    """A keeper that gives each shell a disk of its own."""
    may_not(None)
    async with running_keeper(None) as running:
        if not list((running.data / "shells").glob(".disk-*")):
            await running.inside()
        if not list((running.data / "shells").glob(".disk-*")):
            pytest.skip("no loop devices, or no mkfs.ext4")
        yield running


async def until(inside, code):
    while not await inside.run(code):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os; os._exit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.abort()", -signal.SIGABRT),
        ("import os, signal; signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15)", -signal.SIGTERM),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    ],
)
async def test_every_way_a_process_ends_is_reported(kept, code, status):
    inside = await kept.inside()
    await inside.tell(code)
    assert await inside.ended() == status


async def test_killing_everybody_ends_only_the_own_shell(kept):
    other, inside = await kept.inside(), await kept.inside()
    await inside.tell(
        "import os\nif os.fork():\n    os.kill(-1, 9)\n    os.kill(os.getpid(), 9)\nimport time; time.sleep(1000)"
    )
    assert await inside.ended() == -signal.SIGKILL
    assert await other.run("result = 1") == 1
    again = await kept.fork_into(inside.shell)
    assert await again.run("result = 2") == 2


async def test_orphans_are_reaped(kept):
    inside = await kept.inside()
    await inside.run(
        "import os\nif os.fork() == 0:\n    [os._exit(0) for _ in range(5) if os.fork() == 0]\n    os._exit(0)\nos.wait()"
    )
    await until(inside, "import os; result = [p for p in os.listdir('/proc') if p.isdigit()] == ['1', str(os.getpid())]")


@pytest.fixture
async def freezing():
    """A keeper whose shells can be frozen, and a process in one, with daemons that count as fast as they can."""
    may_not(None)
    async with running_keeper(None) as running:
        inside = await running.inside()
        if not inside.shell.freezes:
            pytest.skip("no control group of version 2 can be written to")
        await inside.run(COUNTING)
        yield running, inside


COUNTING = """
import os
if os.fork() == 0:
    os.setsid()
    while True:
        pass
"""


#: What the keeper itself may need while a test waits.
KEEPERS_TICKS = 3


def ticks_of(kept):
    """Processor time of all below the keeper, in the kernel's ticks."""
    total = 0
    for pid in set(kept.processes()) - {kept.process.pid}:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


async def test_what_a_frozen_shell_holds_does_not_run_and_goes_on_when_thawed(freezing):
    kept, inside = freezing
    await kept.sandboxes.freeze(inside.shell, on=True)
    await asyncio.sleep(0.05)  # the kernel stops each at its next return
    before = ticks_of(kept)
    answering = asyncio.create_task(inside.run("result = 1"))
    await asyncio.sleep(0.5)
    assert not answering.done() and ticks_of(kept) <= before + KEEPERS_TICKS
    await kept.sandboxes.freeze(inside.shell, on=True)  # again is nothing
    await kept.sandboxes.freeze(inside.shell, on=False)
    assert await answering == 1
    while ticks_of(kept) <= before + KEEPERS_TICKS:
        await asyncio.sleep(0.01)


async def test_a_frozen_shell_is_scoured_and_discarded_like_any_other(freezing):
    kept, inside = freezing
    await kept.sandboxes.freeze(inside.shell, on=True)
    await kept.sandboxes.scour(inside.shell)
    assert await inside.ended() == -signal.SIGKILL
    again = await kept.fork_into(inside.shell)
    assert await again.run("result = 1") == 1
    await again.run(COUNTING)
    await kept.sandboxes.freeze(inside.shell, on=True)
    await kept.sandboxes.discard(inside.shell)
    assert await again.ended() == -signal.SIGKILL


async def test_a_signal_goes_to_one_process_of_a_shell_and_to_nobody_once_that_is_gone(kept):
    inside = await kept.inside()
    beside = Inside(inside.shell, await (await kept.sandboxes.zygote(ACCOUNT, INTERPRETER)).fork_beside(inside.shell))
    assert await beside.run("import os; result = os.path.exists('/proc/1')")
    await beside.run("import signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(7)); result = 1")
    beside.child.signal(signal.SIGTERM)
    assert await beside.ended() == 7
    beside.child.signal(signal.SIGKILL)
    assert await inside.run("result = 1") == 1
    inside.child.signal(signal.SIGKILL)
    assert await inside.ended() == -signal.SIGKILL


async def test_scouring_ends_daemons_and_keeps_tmp(kept):
    inside = await kept.inside()
    await inside.run(DAEMONS + "open('/tmp/kept', 'w').write('x')")
    await kept.sandboxes.scour(inside.shell)
    assert await inside.ended() == -signal.SIGKILL
    again = await kept.fork_into(inside.shell)
    assert await again.run("import os; result = [p for p in os.listdir('/proc') if p.isdigit()]") == [
        "1",
        str(await again.run("result = os.getpid()")),
    ]
    assert await again.run("result = open('/tmp/kept').read()") == "x"


async def test_an_empty_shell_can_be_scoured(kept):
    inside = await kept.inside()
    await kept.sandboxes.scour(inside.shell)
    await kept.sandboxes.scour(inside.shell)


async def test_discarding_ends_daemons_and_leaves_nothing(kept):
    inside = await kept.inside()
    await inside.run(DAEMONS + "os.makedirs('/tmp/a/b'); open('/tmp/a/b/c', 'w').write('x'); os.chmod('/tmp/a/b', 0)")
    before = kept.processes()
    zygote = await kept.sandboxes.zygote(ACCOUNT, INTERPRETER)
    await kept.sandboxes.discard(inside.shell)
    after = kept.processes()
    assert await all_gone([pid for pid in before if pid not in after]) == []
    assert zygote.alive
    assert not list((kept.data / "shells").glob(f"{inside.shell.id}*"))
    assert [name for name in leftovers(kept) if inside.shell.id in name] == []


async def test_discarding_twice_is_no_error(kept):
    shell = await kept.sandboxes.prepare(ACCOUNT)
    await kept.sandboxes.discard(shell)
    await kept.sandboxes.discard(shell)


async def test_a_discarded_shell_takes_no_fork(kept):
    shell = await kept.sandboxes.prepare(ACCOUNT)
    zygote = await kept.sandboxes.zygote(ACCOUNT, INTERPRETER)
    await kept.sandboxes.discard(shell)
    with pytest.raises(StartFailed):
        await zygote.fork(shell)


async def test_preparing_forking_and_discarding_leak_no_descriptor(kept):
    async def round_trip():
        inside = await kept.inside()
        await inside.run("result = 1")
        await kept.sandboxes.discard(inside.shell)
        kept.insides.remove(inside)
        inside.close()

    def open_fds():
        pids = [os.getpid(), *kept.processes()]
        return {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pids if os.path.exists(f"/proc/{pid}/fd")}

    await round_trip()
    before = open_fds()
    for _ in range(5):
        await round_trip()
    assert open_fds() == before


FILL = "import os\nwith open('/tmp/big', 'wb') as f:\n    while True: f.write(b'x' * 65536)"


async def test_a_full_tmp_is_a_full_disk(with_disks):
    inside = await with_disks.inside(tmp_mib=8)
    with pytest.raises(CodeFailed) as failure:
        await inside.run(FILL)
    assert failure.value.errno == errno.ENOSPC
    assert 4 << 20 < await inside.run("result = os.path.getsize('/tmp/big')") <= 8 << 20
    await inside.run("os.unlink('/tmp/big'); open('/tmp/small', 'w').write('x' * 10000)")


@pytest.mark.parametrize("tmp_mib", [512, 1024])
async def test_tmp_is_as_large_as_asked_for(with_disks, tmp_mib):
    inside = await with_disks.inside(tmp_mib=tmp_mib)
    total = await inside.run("import os; s = os.statvfs('/tmp'); result = s.f_blocks * s.f_frsize")
    assert 0.9 * (tmp_mib << 20) < total <= tmp_mib << 20


async def test_where_there_are_no_disks_who_fills_tmp_is_ended():
    may_not(USER)
    async with running_keeper(USER) as kept:
        inside = await kept.inside(tmp_mib=4)
        await inside.tell(FILL)
        assert await inside.ended() == -signal.SIGKILL
        await kept.sandboxes.scour(inside.shell)
        after = await kept.fork_into(inside.shell)
        assert await after.run("import os; result = os.listdir(tmp)") == []


async def test_scouring_twice_at_once_is_scouring(kept):
    inside = await kept.inside()
    async with asyncio.timeout(60):
        await asyncio.gather(*(kept.sandboxes.scour(inside.shell) for _ in range(8)))
    assert await inside.ended() == -signal.SIGKILL


async def test_an_unknown_interpreter_is_refused(kept):
    with pytest.raises(StartFailed, match="not one of the interpreters"):
        await kept.sandboxes.zygote(ACCOUNT, "/bin/sh")


async def test_a_front_that_leaves_takes_its_shells_along(kept):
    await kept.inside()
    before = kept.processes()
    await kept.sandboxes.close()
    makers = [pid for pid in before if Path(f"/proc/{pid}/comm").read_text() == "ondol-maker\n"]
    stay = before[:2] + makers
    assert len(makers) == 1  # for the account, which may come again
    await all_gone([pid for pid in before if pid not in stay])
    assert kept.processes() == stay


async def test_a_stock_grows_with_what_is_taken_at_once():
    may_not(None if os.geteuid() == 0 else USER)
    async with running_keeper(None if os.geteuid() == 0 else USER, stock_shells=1) as kept:
        await asyncio.gather(*(kept.sandboxes.prepare(ACCOUNT) for _ in range(4)))
        while len(list((kept.data / "shells").glob("[0-9a-f]*"))) < 8:  # four in hand, four in stock
            await asyncio.sleep(0.05)


async def test_a_stock_is_kept_ahead_of_need():
    may_not(None if os.geteuid() == 0 else USER)
    async with running_keeper(None if os.geteuid() == 0 else USER, stock_shells=2) as kept:
        first = await kept.sandboxes.prepare(ACCOUNT)
        second = await kept.sandboxes.prepare(ACCOUNT)
        assert first.id != second.id
        while len(list((kept.data / "shells").glob("[0-9a-f]*"))) < 4:  # two in hand, two in stock
            await asyncio.sleep(0.01)


async def test_a_zygote_that_imported_ahead_ends_once_nobody_needs_it_and_is_there_again_when_somebody_does(monkeypatch):
    may_not(None if os.geteuid() == 0 else USER)
    ahead = with_modules(INTERPRETER, "sdk")
    async with running_keeper(None if os.geteuid() == 0 else USER, stock_shells=1) as kept:
        zygotes = lambda: sum(b"zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in kept.processes())  # noqa: E731
        bare = await kept.sandboxes.zygote(ACCOUNT, INTERPRETER)
        alone = zygotes()
        await kept.sandboxes.stock(ACCOUNT, ahead)
        assert await kept.sandboxes.zygote(ACCOUNT, ahead) is not bare
        monkeypatch.setattr(demand, "QUIET_S", 0.1)
        monkeypatch.setattr(demand, "IDLE_S", 0.2)
        while zygotes() > alone:
            await asyncio.sleep(0.05)
        await kept.sandboxes.stock(ACCOUNT, ahead)  # for another kind's sake
        assert zygotes() == alone
        monkeypatch.undo()
        shell = await kept.sandboxes.prepare(ACCOUNT, ahead)
        child = await (await kept.sandboxes.zygote(ACCOUNT, ahead)).fork(shell)
        assert child in bare._children.values(), "it waited for what takes long to start"
        while await kept.sandboxes.zygote(ACCOUNT, ahead) is bare:
            await asyncio.sleep(0.05)
        again = await kept.sandboxes.prepare(ACCOUNT, ahead)
        other = await (await kept.sandboxes.zygote(ACCOUNT, ahead)).fork(again)
        assert other not in bare._children.values()
        child.close()
        other.close()


async def test_the_memory_limit_ends_the_process_and_is_counted(limited):
    inside = await limited.inside(memory_bytes=64 << 20)
    assert (await limited.sandboxes.usage(inside.shell)).oom_kills == 0
    await inside.tell("x = bytearray(256 << 20)")
    assert await inside.ended() == -signal.SIGKILL
    usage = await limited.sandboxes.usage(inside.shell)
    assert usage.oom_kills >= 1
    assert 32 << 20 < usage.memory_peak_bytes <= 64 << 20


async def test_a_shell_has_the_limit_it_was_attached_with_whatever_the_one_before_it_had(limited):
    """The next shell is prepared with the last one's."""
    for memory_bytes in (64 << 20, 256 << 20, 48 << 20, 48 << 20):
        inside = await limited.inside(memory_bytes=memory_bytes)
        group = next(
            group
            for group in groups_of(limited)
            if (group / "memory.limit_in_bytes").exists() or (group / "memory.max").exists()
        )
        files = [
            group / inside.shell.id / name for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max")
        ]
        assert {int(file.read_text()) for file in files if file.exists()} == {memory_bytes}


async def test_files_in_tmp_are_not_memory(limited):
    inside = await limited.inside(memory_bytes=64 << 20)
    await inside.run("with open('/tmp/big', 'wb') as f:\n    for _ in range(192): f.write(bytes(1 << 20))")
    assert (await limited.sandboxes.usage(inside.shell)).oom_kills == 0


async def test_the_number_of_processes_is_bounded(limited):
    inside = await limited.inside(memory_bytes=4 << 30)
    code = """
import os, time
result = 0
try:
    for _ in range(2000):
        if os.fork() == 0:
            time.sleep(1000)
        result += 1
except BlockingIOError:
    pass
"""
    assert 500 < await inside.run(code) < 1100
    await limited.sandboxes.scour(inside.shell)


async def test_the_shells_processes_are_in_its_control_groups(limited):
    inside = await limited.inside()
    groups = await inside.run("result = open('/proc/self/cgroup').read()")
    assert f"/ondol-{limited.node}/{inside.shell.id}" in groups
