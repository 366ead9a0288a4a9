"""An environment whose calls run side by side: processes, time, deaths, and who is told of them."""

import asyncio

import pytest

from ondol.model.errors import StartFailed
from ondol.model.invocations import Status
from ondol.pool.several import Several
from ondol.runtime import Answer, Call, Ending
from ondol.sandbox import Usage
from ondol.testing.pool import an_invocation, virtually
from tests.unit.test_pool_company import Company
from tests.unit.test_pool_environment import Room, dies, is_killed, ok, sleeps_for_ever


def room(**settings):
    return Room(kind=Several, **settings)


def takes(seconds):
    async def handler(worker, call, sink):
        await asyncio.sleep(seconds)
        return ok()

    return handler


def by_name(**handlers):
    """A handler for each call's payload."""

    async def handler(worker, call, sink):
        return await handlers[call.payload.decode()](worker, call, sink)

    return handler


def start(here, name, *, timeout_s=3, streamed=True):
    invocation = an_invocation(name, here.target, streamed=streamed)
    call = Call(meta=b"{}", payload=name.encode())
    asked = here.environment.call(call, invocation=invocation, target=here.target, timeout_s=timeout_s)
    return asyncio.get_running_loop().create_task(asked)


@virtually
async def test_a_process_is_placed_for_each_call_at_a_time_and_kept_for_later_ones():
    async with room() as here:
        here.handler(takes(1.0))
        rans = await asyncio.gather(*(start(here, f"i-{n}") for n in range(3)))
        assert [ran.report.status for ran in rans] == [Status.OK] * 3
        assert len(here.runtime.workers) == 3
        await asyncio.gather(*(start(here, f"j-{n}") for n in range(3)))
        assert len(here.runtime.workers) == 3
        assert all(worker.calls == 2 for worker in here.runtime.workers)
        assert here.shell.scoured == 0


@virtually
async def test_a_call_out_of_time_is_told_so_then_and_its_neighbours_go_on():
    async with room() as here:
        here.handler(by_name(endless=sleeps_for_ever, honest=takes(2.5)))
        began_s = asyncio.get_running_loop().time()
        endless, honest = start(here, "endless", timeout_s=1), start(here, "honest")
        ran = await endless
        assert (ran.report.status, ran.answer) == (Status.TIMEOUT, None)
        assert asyncio.get_running_loop().time() - began_s < 1.1
        assert (here.environment.spent, here.environment.broken, honest.done()) == (True, False, False)
        assert (await honest).report.status is Status.OK
        assert here.shell.scoured == 0
        assert here.telemetry.lines()[-1] == "settled honest ok"


@virtually
async def test_a_process_whose_call_ran_out_of_time_gets_no_other():
    async with room() as here:
        here.handler(by_name(endless=sleeps_for_ever, next=takes(0.1)))
        await start(here, "endless", timeout_s=1)
        assert (await start(here, "next")).report.status is Status.OK
        assert [worker.calls for worker in here.runtime.workers] == [1, 1]


@virtually
async def test_a_process_that_dies_takes_its_own_call_along_and_no_other():
    async with room() as here:
        here.handler(by_name(dies=dies, honest=takes(2.0), next=takes(0.1)))
        honest = start(here, "honest")
        crashed = await start(here, "dies")
        assert (crashed.report.status, crashed.report.exit_status) == (Status.CRASHED, 1)
        assert (await start(here, "next")).report.status is Status.OK
        assert (await honest).report.status is Status.OK
        assert (here.environment.spent, here.environment.broken, here.deaths) == (False, False, 0)


@virtually
async def test_who_was_killed_for_want_of_memory_is_told_and_the_others_are_not():
    async with room() as here:
        here.handler(by_name(greedy=is_killed, honest=takes(2.0)))
        honest = start(here, "honest")
        await asyncio.sleep(0.1)
        here.shell.usage = Usage(memory_peak_bytes=1 << 27, oom_kills=1)
        assert (await start(here, "greedy")).report.status is Status.OUT_OF_MEMORY
        assert (await honest).report.status is Status.OK


def accompanied():
    here = room()
    here.frozen = False
    here.company = here.script.company = Company(here, rest_s=9.0)
    return here


@virtually
async def test_calls_go_by_the_one_company_there_is_and_rest_for_nobody():
    async with accompanied() as here:
        here.handler(takes(1.0))
        began_s = asyncio.get_running_loop().time()
        await asyncio.gather(start(here, "i-1"), start(here, "i-2"))
        assert len(here.runtime.workers) == 2
        assert here.company.told == ["call", "call", "settled ok 4", "settled ok 4"]
        assert (here.environment.resting, asyncio.get_running_loop().time() - began_s < 1.1) == (None, True)


@virtually
async def test_whoever_dies_the_company_stays_until_the_environment_ends_and_is_asked_to_leave_then():
    async with accompanied() as here:
        here.handler(by_name(dies=dies, endless=sleeps_for_ever, next=takes(0.1)))
        await start(here, "dies")
        await start(here, "next")
        await start(here, "endless", timeout_s=1)
        assert (len(here.runtime.workers), here.company.closed) == (2, False)
        assert here.company.told[-2:] == ["call", "settled timeout 0"]
    assert (here.company.told[-1], here.company.closed) == ("leave ", True)


@virtually
async def test_a_company_that_comes_when_the_environment_has_ended_is_let_go():
    here = accompanied()
    here.script.start_s, here.sandboxes.delays["discard"] = 1.0, 1.0
    starting = asyncio.create_task(here.environment.start())
    await asyncio.sleep(0.5)
    await here.environment.close()
    with pytest.raises(StartFailed):
        await starting
    assert here.company.closed
    await here.__aexit__()


@virtually
async def test_all_are_told_when_the_environment_itself_ends():
    async with room() as here:
        here.handler(sleeps_for_ever)
        calls = [start(here, f"i-{n}") for n in range(3)]
        await asyncio.sleep(0.5)
        await here.environment.close()
        assert [(await call).report.status for call in calls] == [Status.CRASHED] * 3


@virtually
async def test_a_process_that_dies_while_idle_is_forgotten_and_the_last_one_takes_the_environment_along():
    async with room() as here:
        here.handler(takes(0.5))
        await asyncio.gather(start(here, "i-1"), start(here, "i-2"))
        first, second = here.runtime.workers
        first.die(0)
        await asyncio.sleep(0.1)
        assert (here.deaths, first.closed) == (0, True)
        assert (await start(here, "i-3")).report.status is Status.OK
        second.die(0)
        await asyncio.sleep(0.1)
        assert (here.deaths, here.environment.broken) == (1, True)


@virtually
async def test_lines_belong_to_the_call_whose_process_wrote_them():
    async with room() as here:

        async def says(worker, call, sink):
            await asyncio.sleep(0.2)
            sink(f"said in {call.payload.decode()}", None)
            return ok()

        here.handler(says)
        tails = []
        for name in ("i-1", "i-2"):
            invocation = an_invocation(name, here.target)
            call = Call(meta=b"{}", payload=name.encode())
            asked = here.environment.call(call, invocation=invocation, target=here.target, timeout_s=3, tail=True)
            tails.append(asyncio.get_running_loop().create_task(asked))
        for name, ran in zip(("i-1", "i-2"), [await tail for tail in tails], strict=True):
            assert ran.tail.decode() == f"started {name}\nsaid in {name}\nsettled {name} ok\n"


@virtually
async def test_each_process_that_loads_for_a_call_gives_that_call_its_time():
    async with room() as here:
        here.script.load_s = 2.0
        here.handler(takes(0.5))
        rans = await asyncio.gather(start(here, "i-1", timeout_s=1), start(here, "i-2", timeout_s=1))
        assert [ran.report.status for ran in rans] == [Status.OK] * 2
        assert [ran.report.init_ms for ran in rans] == [2000.0, 2000.0]


@virtually
async def test_a_function_that_does_not_load_fails_its_call_and_leaves_the_environment_to_others():
    async with room() as here:

        async def does_not_load(worker, call, sink):
            asyncio.get_running_loop().call_later(0.01, worker.die, 1)
            return Answer(ending=Ending.INIT_ERROR, body=b"{}")

        here.handler(by_name(bad=does_not_load, good=takes(0.1)))
        assert (await start(here, "bad")).report.status is Status.FAILED
        assert (await start(here, "good")).report.status is Status.OK
