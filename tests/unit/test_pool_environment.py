"""One environment: limits, deaths, logs and reports, over a scripted worker and in virtual time."""

import asyncio
import dataclasses

import pytest

from ondol.model.errors import StartFailed, Unavailable
from ondol.model.functions import Code
from ondol.model.invocations import Status
from ondol.model.limits import MIB, RESULT_BYTES_MAX
from ondol.pool.environment import Environment
from ondol.pool.makings import Makings
from ondol.runtime import Answer, BrokeOff, Call, Ending
from ondol.sandbox import Usage
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


class Room:
    """One started environment. Leaves nothing, and checks that the environment does not either."""

    def __init__(self, *, inherited_mib=0, concurrency=1, stream_bytes_max=None, kind=Environment, **configuration):
        self.sandboxes = ScriptedSandboxes()
        self.runtime = ScriptedRuntime(self.sandboxes)
        self.script = self.runtime.script
        self.telemetry = Notebook()
        self.target = a_target(**configuration)
        self.deaths = 0

        async def inherited_bytes(revision):
            return inherited_mib * MIB

        makings = Makings(
            sandboxes=lambda _: self.sandboxes,
            runtimes=lambda revision: self.runtime,
            contracts={"plain": PlainContract(concurrency=concurrency, stream_bytes_max=stream_bytes_max)},
            telemetry=self.telemetry,
            clock=LoopClock(),
            mint=lambda revision, _: ("key", "secret", "token"),
            endpoint="http://node",
            tree_of=lambda code: "/trees/" + code.sha256[:4],
            inherited_bytes=inherited_bytes,
            interpreter=lambda revision: "",
            ahead=lambda revision: b"",
            substitute=lambda revision: None,
            new_id=lambda: "e" * 32,
            answering=None,
            network=lambda revision: "none",
        )
        self.environment = kind(self.target.revision, makings, self.died)

    def died(self):
        self.deaths += 1

    async def __aenter__(self):
        await self.environment.start()
        return self

    async def __aexit__(self, *error):
        await self.environment.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not self.sandboxes.shells, "a shell was left"
        assert all(worker.closed for worker in self.runtime.workers), "a worker's descriptors were left"
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, "a task was left"

    @property
    def shell(self):
        return self.sandboxes.shells["shell-1"]

    @property
    def worker(self):
        return self.runtime.workers[-1]

    def handler(self, handler):
        self.script.handler = handler

    async def call(self, name="i-1", *, timeout_s=3, tail=False, streamed=True):
        invocation = an_invocation(name, self.target, streamed=streamed)
        call = Call(meta=b"{}", payload=b"{}")
        return await self.environment.call(call, invocation=invocation, target=self.target, timeout_s=timeout_s, tail=tail)


def ok(body=b"done"):
    return Answer(ending=Ending.OK, body=body)


async def sleeps_for_ever(worker, call, sink):
    await asyncio.sleep(1e9)


async def dies(worker, call, sink):
    worker.die(1)
    await asyncio.sleep(1e9)


async def is_killed(worker, call, sink):
    worker.die(-9)
    await asyncio.sleep(1e9)


@virtually
async def test_its_code_is_asked_for_before_anything_else_is_made_ready():
    room = Room()
    asked = []

    def mint(revision, environment):
        asked.append(list(room.sandboxes.shells))
        assert room.shell.tree is not None
        return "key", "secret", "token"

    room.environment.makings = dataclasses.replace(room.environment.makings, mint=mint)
    async with room:
        assert asked == [["shell-1"]]
        assert room.environment.place.access_key_id == "key"


@virtually
async def test_how_a_worker_died_is_told_to_its_call_though_the_environment_is_ended_meanwhile():
    async with Room() as room:
        room.handler(sleeps_for_ever)
        room.sandboxes.delays["usage"] = 0.1
        room.worker.die(127)
        calling = asyncio.create_task(room.call())
        await asyncio.sleep(0)
        await room.environment.close()
        report = (await calling).report
        assert (report.status, report.exit_status) == (Status.CRASHED, 127)


@virtually
async def test_the_shell_gets_the_code_and_what_memory_the_worker_has_not_inherited():
    async with Room(memory_mib=256, inherited_mib=30, tmp_mib=700) as room:
        assert (room.shell.tree, room.shell.memory_bytes, room.shell.tmp_mib) == ("/trees/0000", 226 * MIB, 700)


@virtually
async def test_a_worker_is_placed_while_its_code_is_attached_and_told_when_it_is():
    room = Room()
    room.sandboxes.early, room.sandboxes.delays["attach"] = True, 0.5
    starting = asyncio.create_task(room.environment.start())
    await asyncio.sleep(0.1)
    [launch] = room.runtime.launches
    assert not launch.attached.done()
    await starting
    assert launch.attached.done()
    assert room.shell.tree == "/trees/0000"
    await room.__aexit__()


@pytest.mark.parametrize("more", [{"tmp_mib": 700}, {"opt": Code(sha256="1" * 64, zipped_bytes=1, unpacked_bytes=1)}])
def test_a_worker_that_would_see_more_than_the_code_come_is_placed_after_it(more):
    @virtually
    async def story():
        room = Room(**more)
        room.sandboxes.early = True
        async with room:
            assert room.runtime.launches[0].attached is None

    story()


@pytest.mark.parametrize("placed", [True, False])
def test_code_that_cannot_be_attached_fails_the_start_whether_or_not_a_worker_was_placed_by_then(placed):
    @virtually
    async def story():
        room = Room()
        room.sandboxes.early, room.sandboxes.delays["attach"] = True, 0.5
        room.sandboxes.errors["attach"] = StartFailed("no")
        if not placed:
            room.script.start_error = StartFailed("no worker")
        with pytest.raises(StartFailed):
            await room.environment.start()
        await room.__aexit__()

    story()


@virtually
async def test_a_cgroup_is_never_smaller_than_a_worker_needs_to_live():
    async with Room(memory_mib=128, inherited_mib=120) as room:
        assert room.shell.memory_bytes == 32 * MIB


@virtually
async def test_the_worker_is_told_all_it_needs():
    async with Room(handler="app.main", timeout_s=9, variables={"A": "b"}) as room:
        (launch,) = room.runtime.launches
        assert (launch.guest, launch.handler, launch.timeout_s) == ("plain", "app.main", 9)
        assert launch.variables == {"A": "b", "KEY": "key", "ENDPOINT": "http://node"}


@virtually
async def test_a_call_is_framed_by_its_contracts_lines_in_the_order_written():
    async with Room() as room:

        async def handler(worker, call, sink):
            sink("hello", None)
            return ok()

        room.handler(handler)
        await room.call("i-1")
        await room.call("i-2")
        assert room.telemetry.lines() == [
            "opening", "started i-1", "hello", "settled i-1 ok", "started i-2", "hello", "settled i-2 ok",
        ]  # fmt: skip


@virtually
async def test_what_loading_writes_stands_in_front_of_the_first_call():
    async with Room() as room:

        async def handler(worker, call, sink):
            sink("hello", None)
            return ok()

        room.script.load_s, room.script.says, room.script.handler = 1.0, ["importing"], handler
        await room.environment.close()
        room.environment = Environment(room.target.revision, room.environment.makings, room.died)
        await room.environment.start()
        room.telemetry.events.clear()
        await room.call()
        assert room.telemetry.lines() == ["importing", "started i-1", "hello", "settled i-1 ok"]


@virtually
async def test_the_tail_is_the_end_of_this_calls_log():
    async with Room() as room:

        async def handler(worker, call, sink):
            sink("é" * 5000 + "\n", None)
            sink("last words\n", None)
            return ok()

        room.handler(handler)
        await room.call("before", tail=True)
        ran = await room.call("i-2", tail=True)
        assert len(ran.tail) == 4096
        assert ran.tail.endswith(b"last words\nsettled i-2 ok\n")
        assert (await room.call("i-3")).tail == b""


@virtually
async def test_times_keep_the_order_in_which_a_function_wrote_and_believe_no_other_clock():
    async with Room() as room:
        now_ms = int(LoopClock().wall_s() * 1000)

        async def handler(worker, call, sink):
            sink("printed\n", None)  # has the time of its reading
            sink("logged\n", now_ms - 30)  # … and this of its making, a moment before
            sink("from last year\n", 7)
            sink("printed again\n", None)
            return ok()

        room.handler(handler)
        await room.call()
        times = {event.message: event.at_ms for _, event in room.telemetry.events}
        assert times["logged\n"] == times["printed\n"] >= now_ms
        assert times["from last year\n"] == 7
        assert times["printed again\n"] >= now_ms


@virtually
async def test_a_contract_may_have_nothing_to_say():
    class Silent(PlainContract):
        def started(self, invocation, target):
            return ()

        def settled(self, report):
            return ()

        opening = lambda self, revision, place: ()  # noqa: E731

    async with Room() as room:
        room.environment.contract = Silent()
        before = len(room.telemetry.events)
        assert (await room.call()).report.status is Status.OK
        assert len(room.telemetry.events) == before


@virtually
async def test_a_cold_call_reports_its_loading_apart_from_its_duration():
    async with Room() as room:
        room.script.load_s = 2.0

        async def handler(worker, call, sink):
            await asyncio.sleep(0.5)
            return ok()

        room.handler(handler)
        cold, warm = (await room.call()).report, (await room.call()).report
        assert (cold.init_ms, cold.duration_ms) == (2000.0, pytest.approx(500))
        assert (warm.init_ms, warm.duration_ms) == (None, pytest.approx(500))


@virtually
async def test_a_call_over_its_time_is_ended_and_the_next_one_finds_a_fresh_worker_in_the_same_shell():
    async with Room(timeout_s=3) as room:
        room.handler(sleeps_for_ever)
        began_s = asyncio.get_running_loop().time()
        ran = await room.call(timeout_s=3)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(3, abs=0.1)
        assert (ran.answer, ran.report.status, ran.report.duration_ms) == (None, Status.TIMEOUT, pytest.approx(3000, abs=50))
        assert room.telemetry.lines()[-1] == "settled i-1 timeout"
        assert room.shell.scoured == 1
        room.script.handler = None
        again = await room.call("i-2")
        assert (again.report.status, again.report.init_ms) == (Status.OK, None)
        assert len(room.runtime.workers) == 2 == len(room.shell.workers)
        assert room.runtime.workers[0].closed
        assert not room.deaths


@virtually
async def test_a_report_says_when_the_call_was_over():
    async with Room() as room:
        room.handler(sleeps_for_ever)
        began_s = LoopClock().wall_s()
        assert (await room.call(timeout_s=3)).report.ended_s == pytest.approx(began_s + 3, abs=0.01)


@virtually
async def test_loading_does_not_use_up_a_cold_calls_time():
    async with Room() as room:
        room.script.load_s = 5.0

        async def handler(worker, call, sink):
            await asyncio.sleep(0.9)
            return ok()

        room.handler(handler)
        assert (await room.call(timeout_s=1)).report.status is Status.OK


@virtually
async def test_after_loading_a_cold_call_has_its_own_time_and_no_more():
    async with Room() as room:
        room.script.load_s = 5.0
        room.handler(sleeps_for_ever)
        began_s = asyncio.get_running_loop().time()
        ran = await room.call(timeout_s=1)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(6, abs=0.1)
        assert (ran.report.status, ran.report.init_ms) == (Status.TIMEOUT, 5000.0)
        assert ran.report.duration_ms == pytest.approx(1000, abs=50)


@virtually
async def test_loading_has_an_end_too():
    async with Room() as room:
        room.script.load_s = 1000.0
        began_s = asyncio.get_running_loop().time()
        ran = await room.call(timeout_s=1)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(11, abs=0.1)
        assert ran.report.status is Status.TIMEOUT


@virtually
async def test_a_process_that_leaves_is_a_crash_with_its_exit_status():
    async with Room() as room:
        room.handler(dies)
        ran = await room.call()
        assert (ran.report.status, ran.report.exit_status, ran.started) == (Status.CRASHED, 1, True)
        assert room.telemetry.lines()[-2:] == ["started i-1", "settled i-1 crashed"]
        room.script.handler = None
        assert (await room.call()).report.status is Status.OK
        assert not room.deaths


@virtually
async def test_a_process_that_leaves_while_loading_crashed_the_call_that_loaded_it():
    async with Room() as room:
        room.script.load_s = 1.0
        asyncio.get_running_loop().call_later(0.5, room.worker.die, 7)
        ran = await room.call()
        assert (ran.started, ran.report.status, ran.report.exit_status) == (True, Status.CRASHED, 7)


@virtually
async def test_a_kill_during_which_the_kernel_ended_something_is_out_of_memory():
    async with Room(memory_mib=128) as room:
        room.handler(is_killed)
        room.shell.usage = Usage(memory_peak_bytes=128 * MIB, oom_kills=1)
        assert (await room.call()).report.status is Status.OUT_OF_MEMORY
        assert (await room.call()).report.status is Status.CRASHED, "one kill is told once"


@virtually
async def test_a_process_that_leaves_after_a_child_of_its_was_out_of_memory_left_by_itself():
    async with Room(memory_mib=128) as room:
        room.handler(dies)
        room.shell.usage = Usage(memory_peak_bytes=128 * MIB, oom_kills=1)
        report = (await room.call()).report
        assert (report.status, report.exit_status) == (Status.CRASHED, 1)


@virtually
async def test_a_loading_error_is_the_functions_failure_and_the_next_call_loads_again():
    async with Room() as room:

        async def handler(worker, call, sink):
            return Answer(ending=Ending.INIT_ERROR, body=b"no such module")

        room.handler(handler)
        ran = await room.call()
        assert (ran.answer.body, ran.report.status) == (b"no such module", Status.FAILED)
        await room.call()
        assert len(room.runtime.workers) == 2


@pytest.mark.parametrize(
    ("ending", "status"), [(Ending.ERROR, Status.FAILED), (Ending.TOO_LARGE, Status.TOO_LARGE), (Ending.OK, Status.OK)]
)
def test_what_leaves_the_worker_alive_keeps_it(ending, status):
    @virtually
    async def test():
        async with Room() as room:

            async def handler(worker, call, sink):
                return Answer(ending=ending)

            room.handler(handler)
            assert [(await room.call()).report.status for _ in range(2)] == [status, status]
            assert len(room.runtime.workers) == 1

    test()


@virtually
async def test_a_call_that_found_its_worker_gone_writes_nothing_of_an_end():
    async with Room() as room:
        await room.call()

        async def handler(worker, call, sink):
            return Answer(ending=Ending.DEAD, started=False)

        room.handler(handler)
        assert not (await room.call("i-2")).started
        assert len(room.telemetry.reports) == 1


@virtually
async def test_when_no_fresh_worker_can_be_placed_the_environment_is_broken_and_the_call_was_not_started():
    async with Room() as room:
        room.handler(dies)
        await room.call()
        room.script.start_error = StartFailed("no zygote")
        ran = await room.call("i-2")
        assert (ran.started, room.environment.broken) == (False, True)
        assert "started i-2" not in room.telemetry.lines()


@virtually
async def test_when_the_shell_cannot_be_cleared_the_environment_is_broken_and_the_call_still_ends():
    async with Room() as room:
        room.handler(dies)
        room.sandboxes.errors["scour"] = StartFailed("no keeper")
        assert (await room.call()).report.status is Status.CRASHED
        assert room.environment.broken


@virtually
async def test_a_worker_that_will_not_die_holds_nobody():
    async with Room() as room:
        room.handler(sleeps_for_ever)
        room.sandboxes.delays["scour"] = 1000
        ran = await room.call(timeout_s=1)
        assert (ran.report.status, room.environment.broken) == (Status.TIMEOUT, True)
        room.worker.die(-9)


@virtually
async def test_a_worker_that_dies_while_idle_is_news():
    async with Room() as room:
        await room.call()
        room.worker.die(0)
        await asyncio.sleep(0.01)
        assert (room.deaths, room.environment.broken) == (1, True)


@virtually
async def test_memory_is_what_was_inherited_and_the_shells_peak():
    async with Room(memory_mib=256, inherited_mib=30) as room:
        room.shell.usage = Usage(memory_peak_bytes=20 * MIB + 1, oom_kills=0)
        assert (await room.call()).report.memory_peak_mib == 51


@virtually
async def test_warm_calls_do_not_ask_for_memory_each_time():
    async with Room() as room:
        for _ in range(100):
            await room.call()
        assert room.sandboxes.counts["usage"] == 1
        await asyncio.sleep(2)
        room.shell.usage = Usage(memory_peak_bytes=40 * MIB, oom_kills=0)
        await room.call()
        await asyncio.sleep(0.01)
        assert (await room.call()).report.memory_peak_mib == 40
        assert room.sandboxes.counts["usage"] == 2


@virtually
async def test_a_keeper_that_does_not_answer_leaves_the_last_figures():
    async with Room() as room:
        room.sandboxes.errors["usage"] = StartFailed("no keeper")
        assert (await room.call()).report.status is Status.OK


async def chunks(*parts, then=None):
    for part in parts:
        yield part
        await asyncio.sleep(1)
    if then is not None:
        raise then


def streams(*parts, then=None):
    async def handler(worker, call, sink):
        return Answer(ending=Ending.OK, body=chunks(*parts, then=then))

    return handler


@virtually
async def test_an_answer_that_streams_is_settled_at_its_end():
    async with Room() as room:
        room.handler(streams(b"a", b"b"))
        ran = await room.call(timeout_s=60)
        assert not room.telemetry.reports
        assert [chunk async for chunk in ran.answer.body] == [b"a", b"b"]
        assert ran.streaming.done()
        (report,) = room.telemetry.reports
        assert (report.status, report.duration_ms) == (Status.OK, pytest.approx(2000))


@virtually
async def test_a_reader_that_leaves_ends_nothing():
    async with Room() as room:
        room.handler(streams(b"a", b"b", b"c"))
        ran = await room.call(timeout_s=60)
        await anext(ran.answer.body)
        await ran.answer.body.aclose()
        await ran.streaming
        assert [report.status for report in room.telemetry.reports] == [Status.OK]


@virtually
async def test_a_stream_that_breaks_off_is_a_crash_and_no_whole_answer():
    async with Room() as room:
        room.handler(streams(b"a", then=ConnectionError()))
        ran = await room.call(timeout_s=60)
        with pytest.raises(Unavailable):
            _ = [chunk async for chunk in ran.answer.body]
        assert [report.status for report in room.telemetry.reports] == [Status.CRASHED]


@virtually
async def test_a_stream_that_nobody_reads_ends_with_its_time():
    async with Room() as room:
        room.handler(streams(b"a"))
        ran = await room.call(timeout_s=5)
        await ran.streaming
        assert [report.status for report in room.telemetry.reports] == [Status.TIMEOUT]
        assert room.shell.scoured == 1
        with pytest.raises(Unavailable):
            _ = [chunk async for chunk in ran.answer.body]


@virtually
async def test_one_of_several_calls_over_its_time_ends_its_neighbours_as_crashed():
    async with Room(concurrency=2) as room:
        room.handler(sleeps_for_ever)
        late, neighbour = await asyncio.gather(room.call("late", timeout_s=1), room.call("neighbour", timeout_s=9))
        assert (late.report.status, neighbour.report.status) == (Status.TIMEOUT, Status.CRASHED)
        assert room.shell.scoured == 1
        room.script.handler = None
        assert [ran.report.status for ran in await asyncio.gather(room.call(), room.call())] == [Status.OK] * 2
        assert len(room.runtime.workers) == 2


@virtually
async def test_closing_twice_is_closing():
    async with Room() as room:
        await room.environment.close()
        await room.environment.close()
        assert room.sandboxes.counts["discard"] == 1


@virtually
async def test_an_environment_that_could_not_start_leaves_nothing_once_closed():
    room = Room()
    room.sandboxes.errors["attach"] = StartFailed("no tree")
    with pytest.raises(StartFailed):
        await room.environment.start()
    await room.environment.close()
    assert not room.sandboxes.shells


@virtually
async def test_a_function_that_fails_in_mid_stream_says_so_and_lives_on():
    async with Room() as room:
        room.handler(streams(b"a", then=BrokeOff("Oops", b'{"errorType": "Oops"}')))
        ran = await room.call(timeout_s=60)
        with pytest.raises(Unavailable, match="failed before its answer ended"):
            _ = [chunk async for chunk in ran.answer.body]
        ended = await ran.streaming
        assert (ended.report.status, ended.answer.body) == (Status.FAILED, b'{"errorType": "Oops"}')
        assert ended.answer.meta["error_type"] == "Oops"
        assert (room.shell.scoured, len(room.runtime.launches)) == (0, 1)


@virtually
async def test_the_log_tail_of_a_streamed_answer_is_that_of_its_end():
    async with Room() as room:
        room.handler(streams(b"a"))
        ran = await room.call(timeout_s=60, tail=True)
        _ = [chunk async for chunk in ran.answer.body]
        assert (ran.tail, (await ran.streaming).tail) == (b"", b"started i-1\nsettled i-1 ok\n")


@virtually
async def test_a_stream_longer_than_its_contract_allows_is_cut_there_and_ends_its_worker():
    async with Room(stream_bytes_max=5) as room:
        room.handler(streams(b"abc", b"def", b"ghi"))
        ran = await room.call(timeout_s=60)
        came = []
        with pytest.raises(Unavailable, match="longer than it may be"):
            async for chunk in ran.answer.body:
                came.append(chunk)  # noqa: PERF401
        assert b"".join(came) == b"abcde"
        assert (await ran.streaming).report.status is Status.TOO_LARGE
        assert room.shell.scoured == 1


@virtually
async def test_a_streamed_answer_that_is_wanted_whole_is_put_together():
    async with Room() as room:
        room.handler(streams(b"a", b"b"))
        ran = await room.call(timeout_s=60, streamed=False)
        assert (ran.answer.body, ran.report.status, ran.streaming) == (b"ab", Status.OK, None)
        room.handler(streams(b"a", then=BrokeOff("Oops", b"why")))
        ran = await room.call(timeout_s=60, streamed=False)
        assert (ran.answer.body, ran.report.status) == (b"why", Status.FAILED)
        room.handler(streams(b"a", b"b", b"c"))
        ran = await room.call(timeout_s=1.5, streamed=False)
        assert (ran.answer, ran.report.status) == (None, Status.TIMEOUT)
        assert len(room.telemetry.reports) == 3


@virtually
async def test_a_streamed_answer_that_is_wanted_whole_has_the_limit_of_one_that_comes_whole():
    async with Room() as room:
        room.handler(streams(b"x" * RESULT_BYTES_MAX, b"y"))
        ran = await room.call(timeout_s=60, streamed=False)
        assert ran.report.status is Status.TOO_LARGE


@virtually
async def test_a_reader_that_is_cancelled_while_the_call_is_settled_leaves_its_report_whole():
    async with Room() as room:
        room.sandboxes.delays["usage"] = 1
        room.handler(streams(b"a"))
        ran = await room.call(timeout_s=60)

        async def read():
            return [chunk async for chunk in ran.answer.body]

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(1.5)  # the stream has ended, and the memory is being asked for
        reading.cancel()
        await asyncio.wait([reading])
        assert (await ran.streaming).report.status is Status.OK
        assert [report.status for report in room.telemetry.reports] == [Status.OK]
