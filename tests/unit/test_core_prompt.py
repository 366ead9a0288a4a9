"""The usual call without a coroutine: it ends as `core/invoke.py`'s would, and leaves as little."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace as altered

from ondol.core.prompt import Prompt
from ondol.model.errors import StartFailed
from ondol.model.invocations import Outcome, Status
from ondol.model.principals import Kind, Principal
from ondol.runtime import Answer, Ending
from ondol.testing.pool import LoopClock, PlainContract, ScriptedWorker, a_target, an_invocation, virtually
from tests.unit.test_core_invoke import Body, Node, node, streaming


def begun(here: Node, name: str = "i-1") -> asyncio.Future[Outcome]:
    """A call that was taken, and what it comes to."""
    return here.begun(an_invocation(name, here.target, b'"hello"'))


def nothing_is_left(here: Node) -> bool:
    return here.under_way() == 0 and here.pool.stats().busy == 0 and here.pool.stats().waiting == 0


@virtually
async def test_first_call_and_the_next_get_their_functions_answer_and_leave_nothing_counted():
    async with node() as here:
        for number in range(3):
            outcome = await begun(here, f"i-{number}")
            assert (outcome.status, outcome.body) == (Status.OK, b'"hello"')
            assert nothing_is_left(here)
        assert [report.invocation for report in here.notebook.reports] == ["i-0", "i-1", "i-2"]
        assert [report.init_ms is not None for report in here.notebook.reports] == [True, False, False]
        assert len(here.runtime.workers) == 1


@virtually
async def test_a_warm_call_is_with_its_worker_at_once_and_its_answer_with_the_caller(monkeypatch):
    seen = []
    monkeypatch.setattr(ScriptedWorker, "begin", lambda _worker, _call, _sink, then: seen.append(then))
    async with node() as here:
        await begun(here)
        told = begun(here, "i-2")
        assert len(seen) == 1
        seen[0](Answer(ending=Ending.OK, body=b"1"))
        assert told.result().body == b"1"
        assert nothing_is_left(here)


@virtually
async def test_what_is_logged_around_a_call_is_the_same_either_way():
    async with node() as here:
        await here.call("i-0")
        await here.call("i-1")
        invoked = len(here.notebook.lines())
        await begun(here, "i-2")
        ours = here.notebook.lines()[invoked:]
        theirs = here.notebook.lines()[invoked - len(ours) : invoked]
        assert [str(line).replace("i-2", "i-1") for line in ours] == [str(line) for line in theirs]


@virtually
async def test_a_long_calls_start_is_written_before_its_end_and_once():
    async with node() as here:
        await begun(here)
        before = len(here.notebook.lines())

        async def slow(_worker, call, _sink):
            await asyncio.sleep(1)
            return Answer(ending=Ending.OK, body=call.payload)

        here.runtime.script.handler = slow
        told = begun(here, "i-2")
        await asyncio.sleep(0.5)
        assert [line for line in here.notebook.lines()[before:] if "i-2" in line]
        await told
        lines = here.notebook.lines()[before:]
        assert sorted(set(lines), key=lines.index) == lines


@virtually
async def test_who_finds_no_place_waits_for_one():
    async with node(a_target(reserved=5)) as here:
        free = asyncio.Event()

        async def wait(_worker, call, _sink):
            await free.wait()
            return Answer(ending=Ending.OK, body=call.payload)

        here.runtime.script.handler = wait
        calls = [begun(here, f"i-{number}") for number in range(4)]
        await asyncio.sleep(0.1)
        assert not any(call.done() for call in calls)
        free.set()
        assert [(await call).status for call in calls] == [Status.OK] * 4
        assert nothing_is_left(here)


@virtually
async def test_one_too_many_is_not_taken_and_goes_the_way_that_says_so():
    async with node(a_target(reserved=1)) as here:
        free = asyncio.Event()

        async def wait(_worker, call, _sink):
            await free.wait()
            return Answer(ending=Ending.OK, body=call.payload)

        here.runtime.script.handler = wait
        first = begun(here)
        assert not Prompt(here.invoker).begin(an_invocation("i-2", here.target), here.target, lambda _: None)
        assert here.under_way() == 1
        free.set()
        await first
        assert nothing_is_left(here)


@virtually
async def test_a_function_that_fails_is_an_outcome():
    async with node() as here:
        await begun(here)

        async def fail(_worker, _call, _sink):
            return Answer(ending=Ending.ERROR, body=b'{"errorType": "Oops"}')

        here.runtime.script.handler = fail
        assert (await begun(here, "i-2")).status is Status.FAILED
        assert nothing_is_left(here)


@virtually
async def test_a_streamed_answer_comes_whole():
    async with node() as here:
        await begun(here)
        here.runtime.script.handler = streaming(Body(b"a", b"b"))
        assert (await begun(here, "i-2")).body == b"ab"
        assert nothing_is_left(here)


@virtually
async def test_what_cannot_be_started_is_said_and_not_counted():
    async with node() as here:
        here.runtime.script.start_error = StartFailed("no")
        with pytest.raises(StartFailed):
            await begun(here)
        assert nothing_is_left(here)


@pytest.mark.parametrize("what", ["meta", "outcome"])
def test_a_contract_that_fails_is_told_and_holds_nothing(what):
    def fail(*_arguments, **_named):
        raise RuntimeError("no words")

    @virtually
    async def story():
        async with node(contract=type("Failing", (PlainContract,), {what: fail})()) as here:
            for number in range(3):
                with pytest.raises(RuntimeError):
                    await begun(here, f"i-{number}")
                assert nothing_is_left(here)

    story()


@virtually
async def test_a_caller_is_told_before_the_last_lines_are_written_and_its_place_is_free_after():
    async with node() as here:
        for number in range(3):
            await begun(here, f"i-{number}")
        seen = []

        def over(_outcome):
            seen.append((len(here.notebook.reports), here.under_way(), here.pool.stats().busy))

        assert Prompt(here.invoker).begin(altered(an_invocation("i-3", here.target), streamed=False), here.target, over)
        while not seen:
            await asyncio.sleep(0.001)
        assert seen == [(3, 1, 1)]
        assert len(here.notebook.reports) == 4
        assert nothing_is_left(here)


@virtually
async def test_only_an_owners_unqualified_calls_have_a_target_that_is_the_same_for_all():
    async with node() as here:
        prompt, function = Prompt(here.invoker), here.target.function
        owner = Principal(kind=Kind.OWNER, account=function.account, region="here", name="key")
        assert prompt.target_of(function, owner).revision == here.target.revision
        for kind in set(Kind) - {Kind.OWNER}:
            other = Principal(kind=kind, account=function.account, region="here", name="key")
            assert prompt.target_of(function, other) is None
        stranger = Principal(kind=Kind.OWNER, account="other", region="here", name="key")
        assert prompt.target_of(function, stranger) is None
        apart = a_target(per_tenant=True).function
        assert prompt.target_of(apart, owner) is None
