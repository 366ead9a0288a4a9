"""A deferred call's way: front -> desk -> disk -> front -> function, with nothing lost on it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
import inspect

import msgspec
import pytest
from msgspec.structs import replace as altered

from ondol.model.errors import NotFound, Throttled, Unavailable
from ondol.model.invocations import Outcome, Status
from ondol.model.principals import Kind
from ondol.core.deferred import unobserved
from ondol.core.measuring import DEFERRED_RECEIVED
from ondol.core.outcomes import Tried
from ondol.node.deferring import UNHEARD_S_MAX, Runs, asking, Deferring, deferred_of, invocation_of, taking
from ondol.testing.clock import VirtualClock
from ondol.testing.pool import an_invocation, virtually

CALL = altered(an_invocation("i-1", payload=b"\0\xff"), qualifier="live", context={"client_context": "e30="}, trace="Root=1")


class Queue:
    def __init__(self):
        self.items = []
        self.error = None

    async def enqueue(self, items):
        if self.error:
            raise self.error
        self.items += items


def over_the_line(handler):
    """What `Link.call` does with a value, without a socket."""

    async def call(_name, value):
        return await handler(None, msgspec.msgpack.decode(msgspec.msgpack.encode(value)))

    return call


def taken(queue, woken=lambda: None, observe=unobserved):
    return over_the_line(taking(queue, woken, VirtualClock(), lambda function: {"f": "eff"}.get(function, ""), observe))


def run_of(invoke):
    """What the desk runs an item with, over a front that invokes so."""
    run = over_the_line(Runs(invoke).run)
    return asking(lambda value: run("run", value))


def outcome(status=Status.OK, body=b"", version=None):
    async def invoke(_invocation):
        return Outcome(status=status, body=body, target_version=version, report=None)

    return invoke


async def test_what_was_accepted_is_what_is_run():
    queue, woken, ran, observed = Queue(), [], [], []
    call = taken(queue, lambda: woken.append(len(queue.items)), lambda *what: observed.append(what))
    # A front whose clock is wrong does no harm: the desk's says when.
    await Deferring(call, VirtualClock(wall_s=1e12))(altered(CALL, function="f"))
    assert woken == [1]  # told when it is on disk
    assert [(function, what, value) for _, _, function, what, value in observed] == [("f", DEFERRED_RECEIVED, 1)]
    [item] = queue.items
    assert (item.id, item.function, item.name, item.qualifier, item.payload) == ("i-1", "f", "eff", "live", b"\0\xff")
    assert item.accepted_s == item.visible_s == VirtualClock().wall_s()

    async def invoke(invocation):
        ran.append(invocation)
        return Outcome(status=Status.OK, body=b"fine", target_version=3, report=None)

    assert await run_of(invoke)(item, 100) == Tried(succeeded=True, body=b"fine", whole=True, version=3)
    [invocation] = ran
    # Nobody waits for the pieces of its answer.
    assert invocation == altered(CALL, function="f", principal=invocation.principal, streamed=False, deferred=True)
    assert (invocation.principal.kind, invocation.principal.account) == (Kind.NODE, CALL.principal.account)


@pytest.mark.parametrize("error", [Throttled("line"), Unavailable("restarting")])
async def test_what_could_not_be_written_down_is_not_accepted(error):
    queue, woken = Queue(), []
    queue.error = error
    with pytest.raises(type(error)):
        await Deferring(taken(queue, lambda: woken.append(1)), VirtualClock())(CALL)
    assert woken == []


class Desk:
    """Answers when it is told to, and counts how often it is asked."""

    def __init__(self, handler):
        self.call = over_the_line(handler)
        self.sizes = []
        self.open = asyncio.Event()

    async def __call__(self, name, value):
        self.sizes.append(len(value))
        await self.open.wait()
        return await self.call(name, value)


async def calling(deferring, *names):
    """The outcome of each call: None, or what it raised."""
    tasks = [asyncio.create_task(deferring(altered(CALL, id=name))) for name in names]
    await asyncio.sleep(0)
    return tasks


async def test_what_is_deferred_while_the_desk_writes_goes_over_together_and_in_order():
    queue = Queue()
    desk = Desk(taken(queue))
    deferring = Deferring(desk, VirtualClock())
    tasks = await calling(deferring, "first")
    await asyncio.sleep(0)
    tasks += await calling(deferring, *(f"i-{number}" for number in range(600)))
    desk.open.set()
    await asyncio.gather(*tasks)
    assert desk.sizes == [1, 256, 256, 88]
    assert [item.id for item in queue.items] == ["first", *(f"i-{number}" for number in range(600))]


async def test_large_calls_do_not_go_over_in_one_piece():
    desk = Desk(taken(Queue()))
    desk.open.set()
    deferring = Deferring(desk, VirtualClock())
    await asyncio.gather(*(deferring(altered(CALL, id=str(number), payload=bytes(700_000))) for number in range(6)))
    assert max(desk.sizes) <= 3


async def test_a_call_that_there_is_no_room_for_takes_no_other_along():
    class Full(Queue):
        async def enqueue(self, items):
            if any(item.id == "too-much" for item in items):
                raise Throttled("line")
            await super().enqueue(items)

    queue, observed = Full(), []
    desk = Desk(taken(queue, observe=lambda *what: observed.append(what)))
    deferring = Deferring(desk, VirtualClock())
    tasks = await calling(deferring, "first")
    await asyncio.sleep(0)
    tasks += await calling(deferring, "a", "too-much", "b")
    desk.open.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), Throttled, type(None)]
    assert outcomes[2].reason == "line"
    assert sorted(item.id for item in queue.items) == ["a", "b", "first"]
    assert sum(value for *_, value in observed) == 3


async def test_everybody_learns_that_the_desk_is_away_and_the_next_call_tries_again():
    queue, away = Queue(), [True]

    async def desk(name, value):
        if away[0]:
            raise Unavailable("restarting")
        return await over_the_line(taken_by)(name, value)

    taken_by = taking(queue, lambda: None, VirtualClock(), lambda _: "", unobserved)
    deferring = Deferring(desk, VirtualClock())
    tasks = await calling(deferring, "a", "b")
    assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [Unavailable, Unavailable]
    away[0] = False
    await deferring(altered(CALL, id="c"))
    assert [item.id for item in queue.items] == ["c"]


ITEM = deferred_of(CALL, 0.0)


@pytest.mark.parametrize("status", list(Status))
async def test_only_a_functions_success_is_one(status):
    assert (await run_of(outcome(status))(ITEM, 9)).succeeded is (status is Status.OK)


async def test_a_function_that_is_gone_is_said_to_be():
    async def invoke(_invocation):
        raise NotFound("function", "hello")

    with pytest.raises(NotFound, match="hello"):
        await run_of(invoke)(ITEM, 9)


async def test_what_the_platform_could_not_do_is_no_failure_of_the_function():
    async def invoke(_invocation):
        raise Throttled("function")

    with pytest.raises(Throttled):
        await run_of(invoke)(ITEM, 9)


class Body:
    """An answer that streams; `breaks` after its last chunk."""

    def __init__(self, *chunks, breaks=False):
        self.chunks, self.breaks, self.closed = list(chunks), breaks, False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.chunks:
            return self.chunks.pop(0)
        if self.breaks:
            raise Unavailable("the function's answer ended before it was complete")
        raise StopAsyncIteration

    async def aclose(self):
        self.closed = True


@pytest.mark.parametrize(
    ("body", "tried"),
    [
        (b"0123456789", Tried(succeeded=True, body=b"0123456789", whole=True)),
        (b"0123456789!", Tried(succeeded=True, body=b"0123456789", whole=False)),
        (Body(b"01234", b"56789"), Tried(succeeded=True, body=b"0123456789", whole=True)),
        (Body(), Tried(succeeded=True)),
    ],
)
async def test_as_much_of_an_answer_comes_over_as_is_wanted(body, tried):
    assert await run_of(outcome(body=body))(ITEM, 10) == tried


async def test_of_a_long_stream_no_more_is_read_and_nothing_is_held():
    body = Body(b"01234", b"56789ABC", b"never read")
    assert await run_of(outcome(body=body))(ITEM, 10) == Tried(succeeded=True, body=b"0123456789", whole=False)
    assert body.closed and body.chunks == [b"never read"]


async def test_a_stream_that_breaks_is_the_functions_failure():
    tried = await run_of(outcome(body=Body(b"half", breaks=True)))(ITEM, 10)
    assert not tried.succeeded and b"before it was complete" in tried.body


def test_a_call_without_a_trace_comes_back_without_one():
    assert invocation_of(deferred_of(altered(CALL, trace=None), 0.0)).trace is None


# A desk that is started again ----------------------------------------------------------------------------------------------


class Asker:
    """As much of a link as says whether somebody is still there."""

    open = True


class Front:
    def __init__(self):
        self.runs, self.invoked, self.over = Runs(self.invoke), 0, asyncio.Event()

    async def invoke(self, _invocation):
        self.invoked += 1
        await self.over.wait()
        return Outcome(status=Status.OK, body=b"done", target_version=None, report=None)

    def ask(self, desk, attempts=0):
        value = [msgspec.to_builtins(replace(ITEM, attempts=attempts), builtin_types=(bytes,)), 10]
        return asyncio.create_task(self.runs.run(desk, value))


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_new_desk_that_asks_for_what_runs_already_gets_its_outcome():
    front, old, new = Front(), Asker(), Asker()
    front.ask(old)
    await turns()
    old.open = False
    asked = front.ask(new)
    await turns()
    front.over.set()
    assert (await asked)["body"] == b"done"
    assert front.invoked == 1


async def test_what_ended_while_no_desk_was_there_is_kept_for_the_next_and_given_once():
    front, old = Front(), Asker()
    front.ask(old)
    await turns()
    old.open = False
    front.over.set()
    await turns()
    assert (await front.ask(Asker()))["body"] == b"done"
    assert front.invoked == 1
    await front.ask(Asker())
    assert front.invoked == 2


def test_what_nobody_asks_for_is_kept_for_so_long_only():
    @virtually
    async def story():
        front, old = Front(), Asker()
        front.ask(old)
        await turns()
        old.open = False
        front.over.set()
        await asyncio.sleep(UNHEARD_S_MAX + 1)
        await front.ask(Asker())
        assert front.invoked == 2

    story()


async def test_a_desk_that_heard_gets_a_fresh_try_and_each_attempt_is_its_own():
    front, desk = Front(), Asker()
    front.over.set()
    await front.ask(desk)
    await front.ask(desk)
    await asyncio.gather(front.ask(desk, 1), front.ask(desk, 2))
    assert front.invoked == 4


async def test_a_desk_that_gives_up_asking_takes_no_try_with_it():
    front = Front()
    asked = front.ask(Asker())
    await turns()
    asked.cancel()
    again = front.ask(Asker())
    await turns()
    front.over.set()
    assert (await again)["body"] == b"done"
    assert front.invoked == 1
