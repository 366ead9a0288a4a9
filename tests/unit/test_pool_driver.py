"""The pool as the core uses it, over scripted sandboxes and in virtual time."""

import asyncio

import pytest

from ondol.model.errors import OutOfSpace, RuntimeMissing, StartFailed, Throttled, Unavailable
from ondol.pool.driver import Pool
from ondol.pool.policy import PoolLimits
from ondol.runtime import Answer, Call, Ending
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
    """A pool and everything around it. Leaves nothing, and checks that the pool does not either."""

    def __init__(self, concurrency=1, **limits):
        self.sandboxes = ScriptedSandboxes()
        self.runtime = ScriptedRuntime(self.sandboxes)
        self.telemetry = Notebook()
        self.pool = Pool(
            limits=PoolLimits(**{"memory_mib_max": 4096, **limits}),
            sandboxes=self.sandboxes,
            runtimes=lambda revision: self.runtime,
            contracts={"plain": PlainContract(concurrency=concurrency)},
            telemetry=self.telemetry,
            clock=LoopClock(),
            mint=lambda revision, _: (f"key-of-{revision.id}", "secret", "token"),
            endpoint="http://node",
            tree_of=lambda code: "/trees/" + code.sha256,
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        await self.pool.close()
        assert not self.sandboxes.shells, "a shell was left"
        assert len(asyncio.all_tasks()) == 1, "a task was left"

    def takes(self, seconds):
        """Calls take so long."""

        async def handler(worker, call, sink):
            await asyncio.sleep(seconds)
            return Answer(ending=Ending.OK, body=call.payload)

        self.runtime.script.handler = handler

    async def call(self, target, payload=b"{}", *, wait_s_max=30.0, timeout_s=900.0):
        lease = await self.pool.acquire(target, wait_s_max=wait_s_max)
        try:
            call = Call(meta=b"{}", payload=payload)
            invocation = an_invocation(target=target)
            return await lease.call(call, invocation=invocation, target=target, timeout_s=timeout_s)
        finally:
            lease.release()


@virtually
async def test_the_first_call_is_cold_and_the_next_one_warm_in_the_same_environment():
    async with Node() as node:
        target = a_target()
        cold = await node.pool.acquire(target, wait_s_max=1)
        assert cold.cold
        await cold.call(Call(meta=b"", payload=b"1"), invocation=an_invocation(), target=target, timeout_s=3)
        cold.release()
        warm = await node.pool.acquire(target, wait_s_max=1)
        assert (warm.cold, warm.environment) == (False, cold.environment)
        warm.release()


@virtually
async def test_a_warm_acquire_takes_no_turn_of_the_loop():
    async with Node() as node:
        target = a_target()
        await node.call(target)
        waiting = node.pool.acquire(target, wait_s_max=1)
        with pytest.raises(StopIteration) as finished:
            waiting.send(None)
        finished.value.value.release()


@virtually
async def test_many_at_once_get_an_environment_each():
    async with Node() as node:
        node.takes(10)
        target = a_target()
        answers = await asyncio.gather(*(node.call(target, b"%d" % n) for n in range(20)))
        assert [ran.answer.body for ran in answers] == [b"%d" % n for n in range(20)]
        assert node.pool.stats().idle == 20 == len(node.sandboxes.shells)


@virtually
async def test_concurrent_calls_share_an_environment_where_the_contract_allows():
    async with Node(concurrency=10) as node:
        node.takes(10)
        await asyncio.gather(*(node.call(a_target()) for _ in range(20)))
        assert len(node.sandboxes.shells) == 2


@virtually
async def test_who_waits_for_memory_gets_the_environment_that_comes_free():
    async with Node(memory_mib_max=128) as node:
        node.takes(2)
        await asyncio.gather(*(node.call(a_target()) for _ in range(3)))
        assert node.sandboxes.counts["prepare"] == 1


@virtually
async def test_how_long_who_waits_has_waited_is_told_and_of_others_nothing():
    async with Node(memory_mib_max=128) as node:
        node.takes(2)
        await node.call(a_target())  # its environment had to be started
        node.telemetry.waits.clear()
        await asyncio.gather(*(node.call(a_target()) for _ in range(3)))
        assert [round(seconds) for _, seconds in node.telemetry.waits] == [2, 4]


@virtually
async def test_who_waits_too_long_is_throttled():
    async with Node(memory_mib_max=128) as node:
        node.takes(100)
        first = asyncio.get_running_loop().create_task(node.call(a_target()))
        await asyncio.sleep(1)
        with pytest.raises(Throttled) as refused:
            await node.call(a_target(), wait_s_max=5)
        assert refused.value.reason == "line"
        await first


@virtually
async def test_another_function_evicts_the_coldest_idle_environment():
    async with Node(memory_mib_max=128) as node:
        await node.call(a_target("one"))
        await node.call(a_target("two"))
        await asyncio.sleep(1)
        assert node.sandboxes.discarded == ["shell-1"]


@virtually
async def test_an_idle_environment_is_ended_after_its_time():
    async with Node(idle_s_max=600) as node:
        await node.call(a_target())
        await asyncio.sleep(590)
        assert node.pool.stats().idle == 1
        await asyncio.sleep(20)
        assert not node.sandboxes.shells


@virtually
async def test_a_retired_revision_finishes_what_it_runs_and_goes():
    async with Node() as node:
        node.takes(10)
        target = a_target()
        running = asyncio.get_running_loop().create_task(node.call(target))
        await asyncio.sleep(1)
        node.pool.retire(target.revision.id)
        assert (await running).answer.ending is Ending.OK
        await asyncio.sleep(1)
        assert not node.sandboxes.shells


@virtually
async def test_a_revision_retired_while_it_starts_serves_who_waits_and_goes():
    async with Node() as node:
        node.runtime.script.start_s = 5
        target = a_target()
        running = asyncio.get_running_loop().create_task(node.call(target))
        await asyncio.sleep(1)
        node.pool.retire(target.revision.id)
        assert (await running).answer.ending is Ending.OK
        await asyncio.sleep(1)
        assert not node.sandboxes.shells


@virtually
async def test_a_missing_runtime_is_said_at_once_with_how_to_mend_it():
    async with Node() as node:
        node.runtime.missing = "install python3.9"
        with pytest.raises(RuntimeMissing, match=r"install python3\.9"):
            await node.call(a_target())
        assert not node.sandboxes.counts


@virtually
async def test_a_start_that_keeps_failing_is_told_after_some_tries():
    async with Node(start_failures_max=3) as node:
        node.runtime.script.start_error = StartFailed("the zygote is gone")
        with pytest.raises(StartFailed, match="the zygote is gone"):
            await node.call(a_target())
        assert node.sandboxes.counts["prepare"] == 3
        assert node.pool.stats().failed_starts == 3


@virtually
async def test_a_start_that_fails_once_is_not_noticed():
    async with Node() as node:
        node.sandboxes.errors["attach"] = StartFailed("try again")
        asyncio.get_running_loop().call_later(0.05, node.sandboxes.errors.clear)
        assert (await node.call(a_target())).answer.ending is Ending.OK


@virtually
async def test_a_full_disk_is_told_as_such():
    async with Node() as node:
        node.sandboxes.errors["prepare"] = OutOfSpace("the data directory's disk is full")
        with pytest.raises(OutOfSpace):
            await node.call(a_target())


@virtually
async def test_a_start_that_hangs_is_given_up():
    async with Node(start_s_max=5, start_failures_max=1) as node:
        node.sandboxes.delays["attach"] = 1000
        with pytest.raises(StartFailed, match="did not come up within 5 s"):
            await node.call(a_target())


@virtually
async def test_an_unforeseen_failure_of_a_start_is_told_as_a_failed_start():
    async with Node(start_failures_max=1) as node:
        node.runtime.script.start_error = ValueError("surprise")
        with pytest.raises(StartFailed, match="surprise"):
            await node.call(a_target())


@virtually
async def test_a_function_larger_than_the_pool_is_told_what_to_do():
    async with Node(memory_mib_max=256) as node:
        with pytest.raises(StartFailed, match="asks for 512 MiB.*share 256 MiB.*give"):
            await node.call(a_target(memory_mib=512))
    async with Node(memory_mib_max=256, pools=2) as node:
        with pytest.raises(StartFailed, match="asks for 512 MiB.*each of this node's 2 fronts has 256 MiB.*fewer fronts"):
            await node.call(a_target(memory_mib=512))


@virtually
async def test_an_environment_whose_worker_dies_while_idle_is_replaced():
    async with Node() as node:
        await node.call(a_target())
        node.runtime.workers[0].die(1)
        await asyncio.sleep(0.01)
        assert node.sandboxes.discarded == ["shell-1"]
        assert (await node.call(a_target())).answer.ending is Ending.OK
        assert node.pool.stats().cold_starts == 2


@virtually
async def test_a_worker_lost_before_it_took_the_call_up_says_so_and_the_next_try_works():
    async with Node() as node:
        target = a_target()
        await node.call(target)
        lease = await node.pool.acquire(target, wait_s_max=1)
        node.runtime.workers[0].die(-9)
        node.runtime.script.handler = _unstarted_once(node)
        ran = await lease.call(Call(meta=b"", payload=b""), invocation=an_invocation(), target=target, timeout_s=3)
        lease.release()
        assert not ran.started
        assert (await node.call(target)).started


def _unstarted_once(node):
    async def handler(worker, call, sink):
        node.runtime.script.handler = None
        return Answer(ending=Ending.DEAD, started=False)

    return handler


@virtually
async def test_one_who_is_cancelled_while_waiting_leaves_the_line():
    async with Node(memory_mib_max=128) as node:
        node.takes(10)
        first = asyncio.get_running_loop().create_task(node.call(a_target()))
        await asyncio.sleep(1)
        second = asyncio.get_running_loop().create_task(node.call(a_target()))
        await asyncio.sleep(1)
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        assert node.pool.stats().waiting == 0
        await first


@virtually
async def test_one_who_is_cancelled_just_when_a_place_came_free_gives_it_back():
    async with Node(memory_mib_max=128) as node:
        lease = await node.pool.acquire(a_target(), wait_s_max=1)
        second = asyncio.get_running_loop().create_task(node.pool.acquire(a_target(), wait_s_max=60))
        await asyncio.sleep(1)
        lease.release()
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        assert node.pool.stats().idle == 1


@virtually
async def test_a_start_that_nobody_wants_any_more_is_ended_once_it_has_come_up():
    async with Node() as node:
        node.runtime.script.start_s = 5
        target = a_target()
        with pytest.raises(Throttled):
            await node.call(target, wait_s_max=1)
        node.pool.retire(target.revision.id)
        assert node.pool.stats().stopping == 1
        await asyncio.sleep(10)
        assert node.pool.stats().stopping == 0
        assert not node.sandboxes.shells


@virtually
async def test_a_call_that_is_cancelled_takes_its_environment_with_it():
    async with Node() as node:
        node.takes(10)
        running = asyncio.get_running_loop().create_task(node.call(a_target()))
        await asyncio.sleep(1)
        running.cancel()
        await asyncio.wait([running])
        await asyncio.sleep(1)
        assert not node.sandboxes.shells


@virtually
async def test_draining_waits_for_what_runs_and_takes_nothing_new():
    async with Node(memory_mib_max=128) as node:
        node.takes(5)
        running = [asyncio.get_running_loop().create_task(node.call(a_target())) for _ in range(2)]
        await asyncio.sleep(1)
        draining = asyncio.get_running_loop().create_task(node.pool.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await node.call(a_target())
        assert await draining
        assert all(task.done() for task in running)


@virtually
async def test_draining_has_an_end():
    async with Node() as node:
        node.takes(500)
        running = asyncio.get_running_loop().create_task(node.call(a_target()))
        await asyncio.sleep(1)
        assert not await node.pool.drain(5)
        await node.pool.close()
        assert (await running).answer.ending is Ending.DEAD


@virtually
async def test_closing_ends_what_is_starting_and_tells_who_waits():
    async with Node() as node:
        node.runtime.script.start_s = 5
        waiting = asyncio.get_running_loop().create_task(node.call(a_target()))
        await asyncio.sleep(1)
        await node.pool.close()
        with pytest.raises(Unavailable):
            await waiting


@virtually
async def test_a_lease_is_given_back_once_however_often_it_is_released():
    async with Node() as node:
        lease = await node.pool.acquire(a_target(), wait_s_max=1)
        lease.release()
        lease.release()
        assert node.pool.stats().idle == 1


@virtually
async def test_a_keeper_that_cannot_discard_blocks_nothing():
    async with Node(memory_mib_max=128, stop_s_max=5) as node:
        await node.call(a_target("one"))
        node.sandboxes.delays["discard"] = 1000
        await asyncio.wait_for(node.call(a_target("two")), 1)
        del node.sandboxes.delays["discard"]
        await asyncio.sleep(10)
        node.sandboxes.shells.pop("shell-1", None)  # the keeper's own end takes it


@virtually
async def test_a_thousand_functions_through_a_small_pool_leave_nothing_behind():
    async with Node(memory_mib_max=1024, line_total_max=1000) as node:
        node.takes(0.01)
        targets = [a_target(f"f{n}") for n in range(200)]
        for _ in range(2):
            await asyncio.gather(*(node.call(target) for target in targets))
        await asyncio.sleep(2000)
        assert not node.sandboxes.shells
        assert not node.pool._revisions
        assert not node.pool._failures


@virtually
async def test_an_environment_that_idles_is_frozen_until_it_is_called():
    async with Node(freeze_s_min=5.0) as node:
        await node.call(a_target())
        (shell,) = node.sandboxes.shells.values()
        await asyncio.sleep(4.0)
        assert not shell.frozen
        await asyncio.sleep(2.0)
        assert shell.frozen and node.pool.stats().frozen == 1
        node.takes(0.1)
        ran = await node.call(a_target(), b'"again"')
        assert ran.answer.body == b'"again"'
        assert not shell.frozen and node.pool.stats().frozen == 0
        await asyncio.sleep(6.0)
        assert shell.frozen


@virtually
async def test_calls_that_follow_each_other_never_freeze_anything():
    async with Node(freeze_s_min=5.0) as node:
        for _ in range(10):
            await node.call(a_target())
            await asyncio.sleep(3.0)
        assert "freeze" not in node.sandboxes.counts


@virtually
async def test_an_environment_that_cannot_be_frozen_is_left_alone():
    async with Node(freeze_s_min=5.0) as node:
        node.sandboxes.freezes = False
        await node.call(a_target())
        await asyncio.sleep(60.0)
        assert "freeze" not in node.sandboxes.counts
        await node.call(a_target())


@virtually
async def test_a_call_whose_environment_cannot_be_thawed_ends_and_the_environment_with_it():
    async with Node(freeze_s_min=5.0) as node:
        await node.call(a_target())
        await asyncio.sleep(6.0)

        async def frozen(worker, call, sink):
            await asyncio.sleep(1e6)

        node.runtime.script.handler = frozen
        node.sandboxes.errors["thaw"] = StartFailed("the keeper is gone")
        ran = await node.call(a_target())
        assert ran.answer.ending is Ending.DEAD
        await asyncio.sleep(1.0)
        assert not node.sandboxes.shells


# Environments that are kept up -------------------------------------------------------------------------------------------
def pins(target, environments):
    return {target.revision.id: (target.revision, environments)}


@virtually
async def test_pinned_environments_are_up_and_loaded_before_any_call_and_serve_first():
    async with Node() as node:
        target = a_target()
        node.runtime.script.load_s = 2.0
        node.pool.pin(pins(target, 2))
        await asyncio.sleep(1.0)
        assert node.pool.kept()[target.revision.id].up == 0
        await asyncio.sleep(2.0)
        assert node.pool.kept()[target.revision.id].up == 2
        assert node.pool.stats().cold_starts == 0
        ran = await node.call(target)
        assert ran.report.pinned and ran.report.init_ms is None
        assert ran.report.pins == (1, 2)


@virtually
async def test_calls_beyond_the_pins_spill_over():
    async with Node() as node:
        target = a_target()
        node.takes(5.0)
        node.pool.pin(pins(target, 1))
        await asyncio.sleep(1.0)
        first, second = await asyncio.gather(node.call(target), node.call(target))
        assert sorted([first.report.pinned, second.report.pinned]) == [False, True]
        assert (await node.call(target)).report.pinned


@virtually
async def test_pinned_environments_never_go_for_idling_and_are_replaced_when_they_die():
    async with Node(idle_s_max=10, idle_unused_s_max=5) as node:
        target = a_target()
        node.pool.pin(pins(target, 2))
        await asyncio.sleep(1000.0)
        assert len(node.sandboxes.shells) == 2
        node.runtime.workers[0].die(1)
        await asyncio.sleep(1.0)
        assert node.pool.kept()[target.revision.id].up == 2


@virtually
async def test_unpinning_lets_the_idle_go_and_pins_that_move_take_the_environments_along():
    async with Node() as node:
        old, new = a_target(revision="r1"), a_target(revision="r2")
        node.pool.pin(pins(old, 3))
        await asyncio.sleep(1.0)
        node.pool.pin(pins(new, 2))
        await asyncio.sleep(1.0)
        assert {name: kept.up for name, kept in node.pool.kept().items()} == {"r2": 2}
        assert len(node.sandboxes.shells) == 2
        node.pool.pin({})
        await asyncio.sleep(1.0)
        assert not node.sandboxes.shells


@virtually
async def test_pins_of_what_does_not_load_say_why_and_its_callers_get_the_functions_own_error():
    async with Node() as node:
        target = a_target()
        node.runtime.script.load_s = 1e6
        node.pool.pin(pins(target, 1))
        await asyncio.sleep(0.5)
        node.runtime.workers[-1].die(1)
        await asyncio.sleep(0.05)
        assert "log says why" in node.pool.kept()[target.revision.id].why
        node.runtime.script.load_s = 0.0
        assert (await node.call(target)).answer.ending is Ending.OK
        await asyncio.sleep(60.0)
        kept = node.pool.kept()[target.revision.id]
        assert (kept.up, kept.why) == (1, "")


@virtually
async def test_calls_of_a_function_that_grows_as_fast_as_it_may_are_told_to_try_again():
    async with Node(scaling_max=1, scaling_s=10.0) as node:
        node.takes(1.0)
        running = asyncio.create_task(node.call(a_target()))
        await asyncio.sleep(0.1)
        with pytest.raises(Throttled) as refused:
            await node.call(a_target())
        assert (refused.value.reason, refused.value.retry_after_s) == ("rate", 10.0)
        await running
        await node.call(a_target())
