"""The invocation over the real pool and scripted workers, in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from msgspec.structs import replace as altered

from ondol.core.admit import Admission
from ondol.core.catalog import Index, put
from ondol.core.invoke import Invoker
from ondol.core.prompt import Prompt
from ondol.model.errors import Denied, InvalidSetting, NotFound, StartFailed, Throttled, Unavailable
from ondol.model.functions import Alias, Version
from ondol.model.invocations import Outcome, Status
from ondol.model.principals import Kind, Principal
from ondol.pool.driver import Pool
from ondol.pool.policy import PoolLimits
from ondol.runtime import Answer, Ending
from ondol.store import Change
from ondol.testing.pool import (
    LoopClock,
    Notebook,
    PlainContract,
    ScriptedRuntime,
    ScriptedSandboxes,
    a_target,
    an_invocation,
    virtually,
)


class Node:
    def __init__(self, target, *more, contract=None, concurrency_max=10, way="general"):
        """`way`: how `call` goes, "general" or "prompt"."""
        self.target, self.way = target, way
        self.index, self.admission, self.notebook = Index(), Admission(concurrency_max=concurrency_max), Notebook()
        self.written = []
        self.draws = [0.5]
        for number, noun in enumerate((target.function, target.revision, *more), 1):
            made = put(noun)
            self.index.apply(Change(number, made.key, made.value))
        self.sandboxes = ScriptedSandboxes()
        self.runtime = ScriptedRuntime(self.sandboxes)
        contracts = {"plain": contract or PlainContract()}
        self.pool = Pool(
            limits=PoolLimits(memory_mib_max=4096, idle_s_max=60),
            sandboxes=self.sandboxes,
            runtimes=lambda _: self.runtime,
            contracts=contracts,
            telemetry=self.notebook,
            clock=LoopClock(),
            mint=lambda *_: ("id", "secret", "token"),
            endpoint="http://here",
            tree_of=lambda code: code.sha256,
        )
        self.invoker = Invoker(
            index=self.index,
            admission=self.admission,
            pool=self.pool,
            contracts=contracts,
            telemetry=self.notebook,
            clock=LoopClock(),
            draw=lambda: self.draws[0],
            enqueue=self.enqueue,
            wait_s_max=5.0,
        )

    async def enqueue(self, invocation):
        self.written.append(invocation)

    def call(self, name="i-1", **fields):
        invocation = altered(an_invocation(name, self.target, b'"hello"'), **fields)
        return self.begun(invocation) if self.way == "prompt" else self.invoker.invoke(invocation)

    def begun(self, invocation):
        """What a call comes to that was begun without a coroutine."""
        told = asyncio.get_running_loop().create_future()

        def over(outcome):
            if isinstance(outcome, Exception):
                told.set_exception(outcome)
            else:
                told.set_result(outcome)

        assert Prompt(self.invoker).begin(altered(invocation, streamed=False), self.target, over)
        return told

    def under_way(self):
        return self.admission.running(self.target.function.id)


#: A story of one call, told of both ways, and of an environment's first call and of a later one.
either_way = pytest.mark.parametrize(
    ("way", "warm"), [("general", False), ("general", True), ("prompt", False), ("prompt", True)]
)


@asynccontextmanager
async def node(target=None, *more, **settings):
    made = Node(target or a_target(), *more, **settings)
    try:
        yield made
    finally:
        await made.pool.close()


@virtually
async def test_a_call_gets_its_functions_answer_and_leaves_nothing_counted():
    async with node() as here:
        outcome = await here.call()
        assert (outcome.status, outcome.body) == (Status.OK, b'"hello"')
        assert here.under_way() == 0
        assert here.pool.stats().busy == 0
        assert [report.invocation for report in here.notebook.reports] == ["i-1"]


@pytest.mark.parametrize("method", ["invoke", "defer", "check"])
def test_who_may_not_is_told_before_anything_starts(method):
    @virtually
    async def story():
        async with node() as here:
            stranger = Principal(kind=Kind.OWNER, account="other", region="here", name="stranger")
            with pytest.raises(Denied):
                await getattr(here.invoker, method)(altered(an_invocation("i", here.target), principal=stranger))
            assert (here.runtime.launches, here.written, here.under_way()) == ([], [], 0)

    story()


@pytest.mark.parametrize("method", ["invoke", "defer", "check"])
@pytest.mark.parametrize("fields", [{"function": "nobody"}, {"qualifier": "7"}, {"qualifier": "dead"}])
def test_what_is_not_there_is_said_before_anything_starts(method, fields):
    @virtually
    async def story():
        async with node() as here:
            with pytest.raises(NotFound):
                await getattr(here.invoker, method)(altered(an_invocation("i", here.target), **fields))
            assert (here.runtime.launches, here.written, here.under_way()) == ([], [], 0)

    story()


@virtually
async def test_an_aliass_call_runs_what_the_draw_chooses():
    target = a_target()
    revisions = [replace(target.revision, id=f"r{number}", version=number) for number in (1, 2)]
    versions = [Version(function=target.function.id, number=number, revision=f"r{number}") for number in (1, 2)]
    alias = Alias(function=target.function.id, name="live", version=1, second=2, second_weight=0.3)
    async with node(target, *revisions, *versions, alias) as here:
        here.draws = [0.29]
        assert (await here.call(qualifier="live")).target_version == 2
        here.draws = [0.3]
        assert (await here.call(qualifier="live")).target_version == 1


@virtually
async def test_one_too_many_is_throttled_noted_and_not_counted():
    async with node(a_target(reserved=1)) as here:
        free = asyncio.Event()

        async def wait(_worker, call, _sink):
            await free.wait()
            return Answer(ending=Ending.OK, body=call.payload)

        here.runtime.script.handler = wait
        first = asyncio.ensure_future(here.call())
        await asyncio.sleep(0.1)
        with pytest.raises(Throttled):
            await here.call("i-2")
        assert here.notebook.throttles == [here.target.function.id]
        assert here.under_way() == 1
        free.set()
        await first
        assert (await here.call("i-3")).status is Status.OK


@virtually
async def test_a_reservation_of_nothing_lets_nobody_in():
    async with node(a_target(reserved=0)) as here:
        with pytest.raises(Throttled):
            await here.call()


@either_way
def test_a_call_whose_environment_died_before_it_began_runs_in_another(way, warm):
    @virtually
    async def story():
        async with node(way=way) as here:
            if warm:
                await here.call("i-0")
            tries = []

            async def first_is_lost(worker, call, _sink):
                tries.append(worker)
                if len(tries) == 1:
                    worker.die(-9)
                    return Answer(ending=Ending.DEAD, started=False)
                return Answer(ending=Ending.OK, body=call.payload)

            here.runtime.script.handler = first_is_lost
            assert (await here.call()).status is Status.OK
            assert len(set(tries)) == 2
            assert [report.status for report in here.notebook.reports] == [Status.OK] * (1 + warm)
            assert here.under_way() == 0

    story()


@either_way
def test_a_call_that_began_is_never_run_a_second_time(way, warm):
    @virtually
    async def story():
        async with node(way=way) as here:
            if warm:
                await here.call("i-0")
            tries = []

            async def die(worker, _call, _sink):
                tries.append(worker)
                worker.die(1)
                return Answer(ending=Ending.DEAD, started=True)

            here.runtime.script.handler = die
            assert (await here.call()).status is Status.CRASHED
            assert len(tries) == 1
            assert here.under_way() == 0

    story()


@either_way
def test_the_time_a_function_has_is_its_revisions(way, warm):
    @virtually
    async def story():
        async with node(a_target(timeout_s=3), way=way) as here:
            if warm:
                await here.call("i-0")

            async def sleep(_worker, _call, _sink):
                await asyncio.sleep(1000)

            here.runtime.script.handler = sleep
            began_s = LoopClock().now_s()
            assert (await here.call()).status is Status.TIMEOUT
            assert 3 <= LoopClock().now_s() - began_s < 10
            assert here.under_way() == 0

    story()


@pytest.mark.parametrize("error", [StartFailed("no"), Unavailable("keeper away")])
def test_what_cannot_be_started_is_said_and_not_counted(error):
    @virtually
    async def story():
        async with node() as here:
            here.runtime.script.start_error = error
            with pytest.raises(type(error)):
                await here.call()
            assert here.under_way() == 0
            here.runtime.script.start_error = None
            await asyncio.sleep(60)  # the pool pauses before it tries again
            assert (await here.call("i-2")).status is Status.OK

    story()


class Body:
    """A worker's stream that can be watched."""

    def __init__(self, *chunks):
        self.left = list(chunks)

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        await asyncio.sleep(1)
        return self.left.pop(0)

    async def aclose(self):
        self.left = []


def streaming(body):
    async def answer(_worker, _call, _sink):
        return Answer(ending=Ending.OK, body=body)

    return answer


@virtually
async def test_a_streamed_answer_is_counted_and_keeps_its_place_until_its_end():
    async with node() as here:
        here.runtime.script.handler = streaming(Body(b"a", b"b"))
        outcome = await here.call()
        assert (here.under_way(), here.pool.stats().busy) == (1, 1)
        assert [chunk async for chunk in outcome.body] == [b"a", b"b"]
        await asyncio.sleep(1)
        assert (here.under_way(), here.pool.stats().busy) == (0, 0)
        assert len(here.notebook.reports) == 1


@virtually
async def test_a_streamed_answer_that_its_reader_leaves_ends_all_the_same():
    async with node() as here:
        here.runtime.script.handler = streaming(Body(b"a", b"b", b"c"))
        outcome = await here.call()
        await anext(outcome.body)
        await outcome.body.aclose()
        await asyncio.sleep(10)
        assert (here.under_way(), here.pool.stats().busy) == (0, 0)


@virtually
async def test_a_streamed_answer_that_the_contract_refuses_holds_nothing():
    class Refusing(PlainContract):
        def outcome(self, invocation, report, answer):
            return Outcome(status=report.status, body=b"no valid head", target_version=None, report=report)

    async with node(a_target(timeout_s=900), contract=Refusing()) as here:
        here.runtime.script.handler = streaming(Body(b"a", b"b"))
        assert (await here.call()).body == b"no valid head"
        await asyncio.sleep(10)
        assert (here.under_way(), here.pool.stats().busy) == (0, 0)


@virtually
async def test_a_deferred_call_is_written_down_and_not_run():
    async with node() as here:
        invocation = an_invocation("i", here.target)
        await here.invoker.defer(invocation)
        assert (here.written, here.runtime.launches) == ([invocation], [])


@virtually
async def test_a_deferred_call_that_cannot_be_written_down_is_not_accepted():
    async with node() as here:

        async def away(_invocation):
            raise Unavailable("restarting")

        with pytest.raises(Unavailable):
            await replace(here.invoker, enqueue=away).defer(an_invocation("i", here.target))


@virtually
async def test_a_tenants_calls_share_an_environment_and_no_other_tenants():
    async with node(a_target(per_tenant=True)) as here:
        seen = {}

        async def look(worker, call, _sink):
            seen.setdefault(worker, []).append(call.payload)
            return Answer(ending=Ending.OK, body=call.payload)

        here.runtime.script.handler = look
        for name, tenant in (("i-1", "blue"), ("i-2", "green"), ("i-3", "blue")):
            await here.call(name, tenant=tenant, payload=tenant.encode())
        assert list(seen.values()) == [[b"blue", b"blue"], [b"green"]]
        assert [report.tenant for report in here.notebook.reports] == ["blue", "green", "blue"]


@pytest.mark.parametrize(("per_tenant", "tenant"), [(True, None), (False, "blue")])
def test_a_tenant_is_named_where_tenants_are_kept_apart_and_nowhere_else(per_tenant, tenant):
    @virtually
    async def story():
        async with node(a_target(per_tenant=per_tenant)) as here:
            asked = altered(an_invocation("i-1", here.target), tenant=tenant)
            for use in (here.invoker.invoke, here.invoker.defer, here.invoker.check):
                with pytest.raises(InvalidSetting) as caught:
                    await use(asked)
                assert caught.value.field == "tenant"
            assert (here.runtime.launches, here.written, here.under_way()) == ([], [], 0)

    story()
