"""An environment whose worker has company: answers do not wait for it, the environment does, and nothing is killed unasked."""

import asyncio

import pytest

from ondol.model.invocations import Status
from ondol.pool.policy import PoolLimits
from ondol.runtime import Answer, Ending
from ondol.testing.pool import virtually
from tests.unit.test_pool_environment import Room, ok, sleeps_for_ever


class Company:
    """`ondol.runtime.Company` that rests for `rest_s` and writes down what it is told."""

    def __init__(self, room, *, rest_s=0.0, leave_s=0.0):
        self.room = room
        self.there = True
        self.rest_s = rest_s
        self.leave_s = leave_s
        self.told = []
        self.broken = False
        self.closed = False

    async def call(self, worker, call, sink):
        self.told.append("call")
        return await worker.call(call, sink)

    def settled(self, report, produced_bytes):
        self.told.append(f"settled {report.status.value} {produced_bytes}")

    @property
    def busy(self):
        return ["slow"] if self.rest_s else []

    async def rest(self, seconds):
        await asyncio.sleep(min(self.rest_s, seconds))
        return ["slow"] if self.rest_s > seconds else []

    def pause(self, *, on):
        self.told.append("paused" if on else "goes on")

    async def leave(self, reason):
        self.told.append(f"leave {reason}" + (" frozen" if self.room.frozen else ""))
        await asyncio.sleep(self.leave_s)

    def close(self):
        self.closed = True


class Accompanied(Room):
    """A room whose worker has company."""

    def __init__(self, **more):
        self.company_settings = {name: more.pop(name) for name in ("rest_s", "leave_s") if name in more}
        super().__init__(**more)

    async def __aenter__(self):
        await super().__aenter__()
        self.company = self.worker.company = Company(self, **self.company_settings)
        return self

    @property
    def frozen(self):
        return bool(self.sandboxes.shells) and self.shell.frozen


@virtually
async def test_the_answer_comes_before_the_rest_and_the_environment_is_free_behind_it():
    async with Accompanied(rest_s=0.5) as room:
        began_s = asyncio.get_running_loop().time()
        ran = await room.call()
        assert ran.report.status is Status.OK
        assert asyncio.get_running_loop().time() - began_s < 0.1
        assert not room.environment.resting.done()
        await room.environment.resting
        assert asyncio.get_running_loop().time() - began_s >= 0.5
        assert not room.environment.broken
        assert room.company.told == ["call", "settled ok 2"]
        assert room.telemetry.rests == [pytest.approx(0.5)]


@virtually
async def test_who_is_not_done_in_time_is_ended_and_the_next_call_starts_afresh():
    async with Accompanied(rest_s=1e6) as room:
        await room.call(timeout_s=3)
        await room.environment.resting
        assert room.company.told[-1] == "leave timeout"
        assert any("did not ask for their next event: slow" in line for line in room.telemetry.lines())
        assert (await room.call("i-2")).report.status is Status.OK
        assert len(room.runtime.workers) == 2


@virtually
async def test_a_call_that_runs_out_of_time_has_them_asked_before_all_is_killed():
    async with Accompanied(leave_s=1.5) as room:
        room.handler(sleeps_for_ever)
        assert (await room.call(timeout_s=1)).report.status is Status.TIMEOUT
        assert room.company.told[:2] == ["call", "leave timeout"]
        assert room.shell.scoured == 1


@virtually
async def test_a_failure_to_load_has_them_asked_too():
    async with Accompanied() as room:

        async def fails(worker, call, sink):
            return Answer(ending=Ending.INIT_ERROR, body=b"{}")

        room.handler(fails)
        assert (await room.call()).report.status is Status.FAILED
        assert room.company.told[1] == "leave failure"


@virtually
async def test_an_environment_that_is_not_needed_is_thawed_and_asked():
    room = Accompanied()
    async with room:
        await room.call()
        await room.environment.resting
        room.environment.freeze(on=True)
        await asyncio.sleep(0.01)
        assert room.frozen
    assert room.company.told[-3:] == ["paused", "goes on", "leave "]


@virtually
async def test_where_nobody_is_a_call_is_brought_by_them_only_while_somebody_may_come():
    async with Accompanied() as room:
        room.script.load_s = 0.1
        room.company.there = False
        await room.call()
        assert room.company.told == ["call"]
        await room.call("i-2")
        assert room.environment.resting is None
    assert room.company.told == ["call"]
    assert room.telemetry.rests == []


@virtually
async def test_a_failure_in_the_rest_takes_the_environment_with_it():
    async with Accompanied(rest_s=0.5) as room:
        await room.call()
        room.company.broken = True
        await room.environment.resting
        assert room.environment.broken
        assert room.shell.scoured == 0  # its owner ends it, and asks first


@virtually
async def test_a_worker_that_dies_in_the_rest_takes_the_environment_with_it():
    async with Accompanied(rest_s=0.5) as room:
        await room.call()
        room.worker.die(1)
        await room.environment.resting
        assert room.environment.broken


def test_the_pool_gives_an_end_the_time_that_it_may_take():
    assert PoolLimits(memory_mib_max=1).stop_s_max > 2.0 + 5.0
    assert ok().ending is Ending.OK
