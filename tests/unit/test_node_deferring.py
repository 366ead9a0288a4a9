"""A deferred call's way: front -> desk -> disk -> front -> function, with nothing lost on it."""

from __future__ import annotations


import msgspec
import pytest
from msgspec.structs import replace

from ondol.model.errors import NotFound, Throttled, Unavailable
from ondol.model.invocations import Outcome, Status
from ondol.model.principals import Kind
from ondol.node.deferring import asking, deferred_of, deferring, invocation_of, running, taking
from ondol.testing.clock import VirtualClock
from ondol.testing.pool import an_invocation

CALL = replace(an_invocation("i-1", payload=b"\0\xff"), qualifier="live", context={"client_context": "e30="}, trace="Root=1")


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


async def test_what_was_accepted_is_what_is_run():
    queue, woken, ran = Queue(), [], []
    await deferring(over_the_line(taking(queue, lambda: woken.append(len(queue.items)))), VirtualClock())(CALL)
    assert woken == [1]  # told when it is on disk
    [item] = queue.items
    assert (item.id, item.function, item.qualifier, item.payload) == ("i-1", CALL.function, "live", b"\0\xff")
    assert item.accepted_s == item.visible_s == VirtualClock().wall_s()

    async def invoke(invocation):
        ran.append(invocation)
        return Outcome(status=Status.OK, body=b"", target_version=None, report=None)

    run = running(invoke)
    assert await asking(lambda value: over_the_line(run)("run", value))(item) is True
    [invocation] = ran
    assert invocation == replace(CALL, principal=invocation.principal)
    assert (invocation.principal.kind, invocation.principal.account) == (Kind.NODE, CALL.principal.account)


@pytest.mark.parametrize("error", [Throttled("line"), Unavailable("restarting")])
async def test_what_could_not_be_written_down_is_not_accepted(error):
    queue, woken = Queue(), []
    queue.error = error
    with pytest.raises(type(error)):
        await deferring(over_the_line(taking(queue, lambda: woken.append(1))), VirtualClock())(CALL)
    assert woken == []


@pytest.mark.parametrize("status", list(Status))
async def test_only_a_functions_success_is_one(status):
    async def invoke(_invocation):
        return Outcome(status=status, body=b"", target_version=None, report=None)

    item = deferred_of(CALL, 0.0)
    run = over_the_line(running(invoke))
    assert await asking(lambda value: run("run", value))(item) is (status is Status.OK)


async def test_a_function_that_is_gone_is_said_to_be():
    async def invoke(_invocation):
        raise NotFound("function", "hello")

    run = over_the_line(running(invoke))
    with pytest.raises(NotFound, match="hello"):
        await asking(lambda value: run("run", value))(deferred_of(CALL, 0.0))


async def test_what_the_platform_could_not_do_is_no_failure_of_the_function():
    async def invoke(_invocation):
        raise Throttled("function")

    run = over_the_line(running(invoke))
    with pytest.raises(Throttled):
        await asking(lambda value: run("run", value))(deferred_of(CALL, 0.0))


async def test_a_streamed_answer_of_a_deferred_call_is_read_by_nobody_and_holds_nothing():
    class Body:
        closed = False

        async def aclose(self):
            self.closed = True

    body = Body()

    async def invoke(_invocation):
        return Outcome(status=Status.OK, body=body, target_version=None, report=None)

    run = over_the_line(running(invoke))
    assert await asking(lambda value: run("run", value))(deferred_of(CALL, 0.0))
    assert body.closed


def test_a_call_without_a_trace_comes_back_without_one():
    assert invocation_of(deferred_of(replace(CALL, trace=None), 0.0)).trace is None
