"""The line between front and desk: calls, casts, order, bounds, and what becomes of both when it breaks."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
import uvloop

from ondol.model.errors import Denied, NotFound, OutOfSpace, Throttled, Unavailable
from ondol.node import link as link_module
from ondol.node.link import Link


def story(coroutine):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(coroutine, 30))


@asynccontextmanager
async def pair(handlers, on_lost=None):
    """(ours, theirs): theirs answers."""
    one, two = socket.socketpair()
    loop = asyncio.get_running_loop()
    one.setblocking(False)
    two.setblocking(False)
    _, ours = await loop.create_unix_connection(lambda: Link({}), sock=one)
    _, theirs = await loop.create_unix_connection(lambda: Link(handlers, on_lost), sock=two)
    try:
        yield ours, theirs
    finally:
        ours.abort()
        theirs.abort()
        await asyncio.gather(ours.lost, theirs.lost)


async def _double(_link, value):
    return value * 2


def test_a_call_gets_its_own_answer_whatever_the_order():
    async def slow(_link, value):
        await asyncio.sleep(0.01 * (3 - value))
        return value

    async def main():
        async with pair({"slow": slow}) as (ours, _):
            assert await asyncio.gather(*(ours.call("slow", n) for n in range(4))) == [0, 1, 2, 3]

    story(main())


@pytest.mark.parametrize(
    "error",
    [
        Throttled("line", retry_after_s=7.0),
        OutOfSpace("the disk is full"),
        Denied("no", action="a", resource="r"),
        NotFound("function", "f"),
    ],
)
def test_an_error_arrives_as_it_was_raised(error):
    async def fail(_link, _value):
        raise error

    async def main():
        async with pair({"fail": fail}) as (ours, _):
            with pytest.raises(type(error)) as caught:
                await ours.call("fail", None)
            assert str(caught.value) == str(error)
            assert vars(caught.value) == vars(error)

    story(main())


def test_a_mistake_in_a_handler_is_unavailable_and_the_line_goes_on(caplog):
    async def wrong(_link, _value):
        raise KeyError("secret")

    async def main():
        async with pair({"wrong": wrong, "double": _double}) as (ours, _):
            for name in ("wrong", "unknown"):
                with pytest.raises(Unavailable, match="its log says why"):
                    await ours.call(name, None)
            assert await ours.call("double", 4) == 8

    story(main())
    assert "secret" in caplog.text


def test_casts_are_taken_up_in_the_order_they_were_sent():
    seen = []

    async def take(_link, value):
        seen.append(value)

    async def main():
        async with pair({"take": take, "double": _double}) as (ours, _):
            for number in range(2000):
                assert ours.cast("take", number)
            await ours.call("double", 1)

    story(main())
    assert seen == list(range(2000))


def test_a_large_message_goes_through_whole():
    async def main():
        async with pair({"double": _double}) as (ours, _):
            value = b"x" * 5_000_000
            assert await ours.call("double", value) == value * 2

    story(main())


def test_calls_end_when_the_line_does_and_later_ones_are_refused():
    async def never(_link, _value):
        await asyncio.Event().wait()

    async def main():
        lost = []
        async with pair({"never": never}, lost.append) as (ours, theirs):
            call = asyncio.ensure_future(ours.call("never", None))
            await asyncio.sleep(0.01)
            theirs.close()
            with pytest.raises(Unavailable, match="went away"):
                await call
            assert not ours.open
            with pytest.raises(Unavailable, match="away for a moment"):
                await ours.call("never", None)
            assert not ours.cast("never", None)
            assert lost == [theirs]

    story(main())


def test_a_cancelled_call_leaves_nothing_behind_and_its_late_answer_harms_nobody(monkeypatch):
    monkeypatch.setattr(link_module, "CALLS_MAX", 1)
    free = asyncio.Event()

    async def late(_link, value):
        await free.wait()
        return value

    async def main():
        async with pair({"late": late}) as (ours, _):
            call = asyncio.ensure_future(ours.call("late", 1))
            await asyncio.sleep(0.01)
            with pytest.raises(Unavailable):
                await ours.call("late", 2)  # one waits already
            call.cancel()
            await asyncio.wait([call])
            free.set()
            assert await ours.call("late", 3) == 3

    story(main())


def test_an_end_that_does_not_read_is_sent_a_bounded_amount(monkeypatch):
    monkeypatch.setattr(link_module, "WRITE_BYTES_MAX", 1_000_000)

    async def main():
        one, two = socket.socketpair()
        one.setblocking(False)
        with two:
            _, ours = await asyncio.get_running_loop().create_unix_connection(lambda: Link({}), sock=one)
            for _ in range(1000):
                if not ours.cast("take", b"x" * 100_000):
                    break
                await asyncio.sleep(0)
            else:
                pytest.fail("100 MB were taken")
            with pytest.raises(Unavailable):
                await ours.call("take", None)
            ours.abort()
            await ours.lost  # at once, although nobody reads

    story(main())


def test_casts_that_are_worked_on_slowly_hold_the_sender_back_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(link_module, "CASTS_BYTES_MAX", 1_000_000)
    free, sizes = asyncio.Event(), []

    async def keep(_link, value):
        sizes.append(len(value))
        await free.wait()

    async def main():
        async with pair({"keep": keep, "double": _double}) as (ours, _):
            for _ in range(200):
                assert ours.cast("keep", b"x" * 100_000)
            call = asyncio.ensure_future(ours.call("double", 2))
            await asyncio.sleep(0.3)
            # What one read of the socket brings comes on top of the bound.
            assert 1_000_000 < sum(sizes) < 3_000_000
            free.set()
            assert await call == 4
            assert sum(sizes) == 20_000_000

    story(main())


def test_calls_under_way_do_not_keep_casts_from_being_read(monkeypatch):
    monkeypatch.setattr(link_module, "CASTS_BYTES_MAX", 1000)
    free = asyncio.Event()

    async def hold(_link, _value):
        await free.wait()

    async def take(_link, _value):
        free.set()

    async def main():
        async with pair({"hold": hold, "take": take}) as (ours, _):
            calls = asyncio.gather(*(ours.call("hold", b"x" * 5000) for _ in range(5)))
            await asyncio.sleep(0.01)
            ours.cast("take", None)
            await calls

    story(main())


def test_a_frame_that_is_too_long_ends_the_line(monkeypatch):
    monkeypatch.setattr(link_module, "FRAME_BYTES_MAX", 1000)

    async def main():
        async with pair({"double": _double}) as (ours, theirs):
            with pytest.raises(Unavailable):
                await ours.call("double", b"x" * 2000)
            await theirs.lost

    story(main())
