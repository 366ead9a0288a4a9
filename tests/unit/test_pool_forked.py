"""The pool with real guests, in processes without walls: what scripted workers cannot show."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

import pytest

from ondol.clock import SystemClock
from ondol.contracts.aws import AwsContract
from ondol.model.invocations import Status
from ondol.pool.driver import Pool
from ondol.pool.policy import PoolLimits
from ondol.runtime import Call, Ending
from ondol.runtimes.choice import Choice
from ondol.runtimes.forked import ForkedPython
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.testing.pool import Notebook, a_target, an_invocation
from ondol.testing.sandboxes import LocalSandboxes

MINOR = sys.version_info[1]
SOURCE = """
import os, sys, time
print("loading")
calls = 0
def handler(event, context):
    global calls
    calls += 1
    print("handling", event)
    if event == "exit": sys.exit(3)
    if event == "kill": os.kill(os.getpid(), 9)
    if event == "sleep": time.sleep(60)
    if event == "raise": raise ValueError("no")
    return {"calls": calls, "event": event, "remaining": context.get_remaining_time_in_millis() > 0}
"""


@asynccontextmanager
async def a_node(tree):
    """A pool of forked guests whose code is `tree`; its Notebook."""
    path = os.path.realpath(sys.executable)
    here = Interpreter(path=path, major=3, minor=MINOR, micro=0, prefix=sys.prefix)
    sandboxes, notebook = LocalSandboxes(), Notebook()
    runtime = ForkedPython(sandboxes, Choice(Interpreters([here])))
    pool = Pool(
        limits=PoolLimits(memory_mib_max=1024),
        sandboxes=sandboxes,
        runtimes=lambda revision: runtime,
        contracts={"aws": AwsContract()},
        telemetry=notebook,
        clock=SystemClock(),
        mint=lambda revision, _: ("key", "secret", "token"),
        endpoint="http://127.0.0.1:1",
        tree_of=lambda code: str(tree),
    )

    async def invoke(event, *, timeout_s=30, tail=False):
        target = a_target(contract="aws", runtime=f"python3.{MINOR}", handler="app.handler")
        invocation = an_invocation("5f8d3c1e-0000-4000-8000-000000000000", target)
        lease = await pool.acquire(target, wait_s_max=30)
        try:
            meta = AwsContract().meta(invocation, target, deadline_ms=int((SystemClock().wall_s() + timeout_s) * 1000))
            call = Call(meta=meta, payload=json.dumps(event).encode())
            return await lease.call(call, invocation=invocation, target=target, timeout_s=timeout_s, tail=tail)
        finally:
            lease.release()

    try:
        yield pool, invoke, notebook
    finally:
        await pool.close()
        shells = set(sandboxes.shells)
        await sandboxes.close()
        assert not shells, "a shell was left"


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "app.py").write_text(SOURCE)
    return tmp_path


async def test_cold_and_warm_calls_in_one_environment(tree):
    async with a_node(tree) as (pool, invoke, notebook):
        cold, warm = await invoke("a"), await invoke("b")
        assert json.loads(cold.answer.body) == {"calls": 1, "event": "a", "remaining": True}
        assert json.loads(warm.answer.body)["calls"] == 2
        assert cold.report.init_ms > 0
        assert warm.report.init_ms is None
        assert pool.stats().cold_starts == 1


async def test_lines_are_in_the_order_in_which_they_were_written(tree):
    async with a_node(tree) as (pool, invoke, notebook):
        ran = await invoke("a", tail=True)
        kinds = [line.split()[0] for line in notebook.lines()]
        assert kinds == ["INIT_START", "loading", "START", "handling", "END", "REPORT"]
        assert [line.split()[0] for line in ran.tail.decode().splitlines() if line] == ["START", "handling", "END", "REPORT"]


async def test_a_timeout_ends_the_process_and_the_next_call_has_new_globals_in_the_same_shell(tree):
    async with a_node(tree) as (pool, invoke, notebook):
        await invoke("a")
        late = await invoke("sleep", timeout_s=0.3)
        assert (late.answer, late.report.status) == (None, Status.TIMEOUT)
        again = await invoke("b")
        assert json.loads(again.answer.body)["calls"] == 1
        assert again.report.init_ms is None
        assert pool.stats().cold_starts == 1
        lines = notebook.lines()
        timed_out = next(n for n, line in enumerate(lines) if "Task timed out" in line)
        assert lines[timed_out - 1].startswith("handling sleep"), "what was printed before its time was up is kept"


async def test_a_cold_call_can_time_out(tree):
    async with a_node(tree) as (pool, invoke, notebook):
        late = await invoke("sleep", timeout_s=0.3)
        assert late.report.status is Status.TIMEOUT
        assert late.report.init_ms > 0


@pytest.mark.parametrize(("event", "status"), [("exit", 3), ("kill", -9)])
async def test_a_process_that_leaves_is_a_crash_with_its_status_and_its_last_words(tree, event, status):
    async with a_node(tree) as (pool, invoke, notebook):
        await invoke("a")
        ran = await invoke(event, tail=True)
        assert ran.started
        assert ran.report.status in (Status.CRASHED, Status.FAILED)
        if ran.report.status is Status.CRASHED:
            assert ran.report.exit_status == status
        assert f"handling {event}" in ran.tail.decode()
        assert json.loads((await invoke("b")).answer.body)["event"] == "b"


async def test_an_exception_leaves_the_process_as_it_is(tree):
    async with a_node(tree) as (pool, invoke, notebook):
        failed = await invoke("raise")
        assert (failed.answer.ending, failed.report.status) == (Ending.ERROR, Status.FAILED)
        assert json.loads((await invoke("b")).answer.body)["calls"] == 2


async def test_a_module_that_cannot_be_loaded_fails_each_call_anew(tree):
    (tree / "app.py").write_text("import nothing_of_that_name\n")
    async with a_node(tree) as (pool, invoke, notebook):
        for _ in range(2):
            ran = await invoke("a")
            assert (ran.answer.ending, ran.report.status, ran.started) == (Ending.INIT_ERROR, Status.FAILED, True)


async def test_a_module_that_leaves_while_loading_is_a_crash(tree):
    (tree / "app.py").write_text("import os\nos._exit(5)\n")
    async with a_node(tree) as (pool, invoke, notebook):
        ran = await invoke("a")
        assert (ran.started, ran.report.status, ran.report.exit_status) == (True, Status.CRASHED, 5)


async def test_several_at_once(tree):
    async with a_node(tree) as (pool, invoke, notebook):
        answers = await asyncio.gather(*(invoke(n) for n in range(5)))
        assert sorted(json.loads(ran.answer.body)["event"] for ran in answers) == list(range(5))
        assert len(await asyncio.gather(*(invoke(n) for n in range(5)))) == 5
