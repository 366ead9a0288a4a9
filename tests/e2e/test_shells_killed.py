"""Whatever part of the tree is killed, nothing stays: no process, mount, control group or directory, and nobody has to start again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ondol.model.errors import StartFailed
from ondol.testing.keepers import (
    ACCOUNT,
    INTERPRETER,
    USER,
    all_gone,
    kill,
    leftovers,
    nothing_left,
    put_away,
    restart,
    start_keeper,
    sweepers,
    why_not,
)

pytestmark = [pytest.mark.sandbox]

DAEMON = """
import os, signal, time, ctypes
ctypes.CDLL(None).prctl(1, 0)
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
open('/tmp/file', 'w').write('x')
"""


@pytest.fixture(params=[None, USER], ids=["root", "user"])
async def doomed(request):
    """A keeper with two shells at work, which the test kills."""
    reason = why_not(request.param)
    if reason == "needs root" or (reason and not os.environ.get("CI")):
        pytest.skip(reason)
    assert not reason
    kept = start_keeper(request.param)
    try:
        for _ in range(2):
            await (await kept.inside()).run(DAEMON)
        yield kept
    finally:
        await put_away(kept)


async def test_killing_the_inner_keeper_leaves_nothing(doomed):
    pids = doomed.processes()
    kill(pids[1])
    await asyncio.to_thread(doomed.process.wait)
    assert doomed.process.returncode not in (None, 0)
    assert await all_gone(pids) == []
    assert await nothing_left(doomed) == []


async def test_killing_the_outer_keeper_leaves_no_process_and_the_next_start_cleans_the_rest(doomed):
    pids = doomed.processes()
    kill(pids[0])
    assert await all_gone(pids) == []
    assert leftovers(doomed) != []
    again = restart(doomed)
    await (await again.inside()).run("result = 1")
    assert not [name for name in leftovers(again) if any(inside.shell.id in name for inside in doomed.insides)]
    await again.sandboxes.close()
    again.supervisor.send(b'{"stop":1}')
    await asyncio.to_thread(again.process.wait)
    again.supervisor.close()
    assert await nothing_left(again) == []


async def test_the_end_of_the_supervisors_line_ends_everything(doomed):
    pids = doomed.processes()
    doomed.supervisor.close()
    await asyncio.to_thread(doomed.process.wait)
    assert await all_gone(pids) == []
    assert await nothing_left(doomed) == []


async def test_asked_to_stop_it_ends_well_and_leaves_nothing(doomed):
    pids = doomed.processes()
    doomed.supervisor.send(b'{"stop":1}')
    await asyncio.to_thread(doomed.process.wait)
    assert doomed.process.returncode == 0
    assert await all_gone(pids) == []
    assert await nothing_left(doomed) == []


async def test_a_terminated_outer_keeper_cleans_up(doomed):
    pids = doomed.processes()
    doomed.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(doomed.process.wait)
    assert await all_gone(pids) == []
    assert await nothing_left(doomed) == []


async def test_after_a_killed_zygote_there_is_a_new_one(doomed):
    zygote = await doomed.sandboxes.zygote(ACCOUNT, INTERPRETER)
    ours = [pid for pid in doomed.processes() if b"ondol_guest/zygote.py" in open(f"/proc/{pid}/cmdline", "rb").read()]
    kill(min(ours))
    for inside in doomed.insides:
        assert await inside.ended() == -signal.SIGKILL
    with pytest.raises(StartFailed):
        await zygote.fork(await doomed.sandboxes.prepare(ACCOUNT))
    assert await (await doomed.inside()).run("result = 1") == 1


async def test_a_killed_init_ends_its_shell_only(doomed):
    one, two = doomed.insides
    inits = [pid for pid in doomed.processes() if open(f"/proc/{pid}/cmdline", "rb").read() == b"init\0"]
    kill(min(inits))
    ended = await asyncio.wait([asyncio.ensure_future(i.ended()) for i in (one, two)], return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in ended[0]} == {-signal.SIGKILL}
    for task in ended[1]:
        task.cancel()
    for inside in (one, two):
        await doomed.sandboxes.discard(inside.shell)
    assert [name for name in leftovers(doomed) if one.shell.id in name or two.shell.id in name] == []
    assert await (await doomed.inside()).run("result = 1") == 1


SUPERVISED = """
import asyncio, sys, time
from ondol.testing.keepers import USER, start_keeper
async def main():
    kept = start_keeper({user})
    await kept.inside()
    print(kept.data, kept.node, *kept.processes(), flush=True)
    time.sleep(1000)
asyncio.run(main())
"""


@pytest.fixture(params=[None, USER], ids=["root", "user"])
async def supervised(request):
    """A supervisor that is a process of its own, which holds the only other end of the line; and what it started."""
    reason = why_not(request.param)
    if reason == "needs root" or (reason and not os.environ.get("CI")):
        pytest.skip(reason)
    assert not reason
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISED.format(user=request.param)], stdout=subprocess.PIPE, text=True
    )
    data, node, *pids = (await asyncio.to_thread(supervisor.stdout.readline)).split()
    yield SimpleNamespace(process=supervisor, data=Path(data), node=node, pids=[int(pid) for pid in pids])
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    shutil.rmtree(os.path.dirname(data))


async def test_a_killed_supervisor_takes_everything_along(supervised):
    supervised.process.kill()
    assert await all_gone([*supervised.pids, *sweepers(supervised.data)]) == []
    assert await nothing_left(supervised) == []


async def test_when_all_are_killed_at_once_the_sweeper_cleans_and_goes(supervised):
    last = sweepers(supervised.data)
    assert len(last) == 1
    assert leftovers(supervised) != []
    for pid in [*supervised.pids, supervised.process.pid]:
        os.kill(pid, signal.SIGSTOP)  # so that nobody can do anything about another's death
    for pid in [*supervised.pids, supervised.process.pid]:
        with contextlib.suppress(ProcessLookupError):  # the keeper took it along
            os.kill(pid, signal.SIGKILL)
    supervised.process.wait()
    assert await all_gone([*supervised.pids, *last]) == []
    assert leftovers(supervised) == []


async def test_a_killed_sweeper_is_replaced_and_the_keeper_goes_on(supervised):
    (last,) = sweepers(supervised.data)
    kill(last)
    while not (again := [pid for pid in sweepers(supervised.data) if pid != last]):
        await asyncio.sleep(0.01)
    assert await all_gone([last]) == []
    assert len(again) == 1
    assert all(os.path.exists(f"/proc/{pid}") for pid in supervised.pids)
    supervised.process.kill()
    assert await all_gone([*supervised.pids, *again]) == []
    assert await nothing_left(supervised) == []


async def test_the_sweeper_of_a_keeper_that_was_replaced_touches_nothing(doomed):
    """It waits for the supervisor's end a while, which does not come, and goes."""
    (last,) = sweepers(doomed.data)
    kill(doomed.processes()[0])
    again = restart(doomed)
    await (await again.inside()).run("result = 1")
    shells = list((again.data / "shells").iterdir())
    assert await all_gone([last]) == []
    assert list((again.data / "shells").iterdir()) == shells
    await again.sandboxes.close()
    again.supervisor.send(b'{"stop":1}')
    await asyncio.to_thread(again.process.wait)
    again.supervisor.close()
    assert await nothing_left(again) == []


async def test_a_front_is_told_when_nothing_is_left_of_one_that_went_before(doomed):
    with doomed.new_line() as line:
        line.settimeout(30)
        await doomed.sandboxes.close()
        line.send(b'{"n":7,"op":"settled"}')
        answer = json.loads(await asyncio.to_thread(line.recv, 65536))
        assert answer == {"n": 7, "ok": {}}
        assert [path.name for path in doomed.shells.iterdir() if not path.name.startswith(".")] == []
