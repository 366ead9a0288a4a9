"""A child of the supervisor: its orders, its line, its background work, and its end."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ondol.config import load
from ondol.model.principals import AccessKey
from ondol.node.lines import receive
from ondol.node.orders import Orders
from ondol.node.serving import SupervisorLine, Tasks, until_stopped


def tell(line, message, *fds):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    line.sendmsg([json.dumps(message).encode()], rights)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


class Child:
    """Serves until stopped; notes what happened."""

    def __init__(self, line):
        self.line, self.lines, self.stops = line, [], []

    async def run(self, tasks, stop=None):
        async def note(seconds):
            self.stops.append(seconds)
            if stop is not None:
                await stop()

        async with asyncio.timeout(20):
            await until_stopped(self.line, tasks, lambda name, sock: self.lines.append((name, sock)), note)


@asynccontextmanager
async def serving(theirs, **more):
    child, tasks = Child(theirs), Tasks()
    running = asyncio.ensure_future(child.run(tasks, **more))
    await asyncio.sleep(0)
    yield child, tasks, running
    await asyncio.wait([running])


async def test_the_word_to_stop_says_how_long_there_is(pair):
    ours, theirs = pair
    async with serving(theirs) as (child, _, running):
        tell(ours, {"stop": 2.5})
        await running
        assert child.stops == [2.5]


async def test_a_supervisor_that_is_gone_leaves_no_time(pair):
    ours, theirs = pair
    async with serving(theirs) as (child, _, running):
        ours.close()
        await running
        assert child.stops == [0.0]


async def test_a_word_and_then_silence_is_one_end(pair):
    ours, theirs = pair
    async with serving(theirs) as (child, _, running):
        tell(ours, {"stop": 1})
        tell(ours, {"stop": 9})
        ours.close()
        await running
        assert child.stops == [1.0]


async def test_lines_are_handed_over_as_they_come(pair):
    ours, theirs = pair
    async with serving(theirs) as (child, _, running):
        one, two = socket.socketpair()
        with one, two:
            tell(ours, {"line": "keeper"}, two.fileno())
            while not child.lines:
                await asyncio.sleep(0)
            [(name, given)] = child.lines
            with given:
                one.send(b"hello")
                assert (name, given.recv(10), os.get_inheritable(given.fileno())) == ("keeper", b"hello", False)
        tell(ours, {"stop": 0})
        await running


async def test_background_work_ends_with_the_process_after_it_was_put_away(pair):
    ours, theirs = pair
    order = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            order.append("work ended")

    async def stop():
        order.append("stopped")

    async with serving(theirs, stop=stop) as (_, tasks, running):
        tasks.start(work(), "work")
        await asyncio.sleep(0)
        tell(ours, {"stop": 1})
        await running
    assert order == ["stopped", "work ended"]


async def test_background_work_that_fails_ends_the_process_in_order_and_says_why(pair, caplog):
    _, theirs = pair

    async def work():
        raise ValueError("broken")

    child, tasks = Child(theirs), Tasks()
    tasks.start(work(), "counting")
    with pytest.raises(ValueError, match="broken"):
        await child.run(tasks)
    assert child.stops == [0.0]
    assert "counting failed" in caplog.text


async def test_background_work_may_come_to_its_end(pair):
    ours, theirs = pair

    async def work():
        return

    async with serving(theirs) as (child, tasks, running):
        tasks.start(work(), "short")
        await asyncio.sleep(0.01)
        assert not running.done()
        tell(ours, {"stop": 1})
        await running
        assert child.stops == [1.0]


async def test_the_line_is_given_back_when_watching_ends(pair):
    ours, theirs = pair
    line = SupervisorLine(theirs, lambda *_: None)
    line.close()
    with pytest.raises(OSError, match="pipe|reset|refused|not connected"):
        tell(ours, {"stop": 1})


def test_a_message_and_its_descriptors_come_together(pair):
    ours, theirs = pair
    read, write = os.pipe()
    tell(ours, {"n": 1}, write)
    message, fds = receive(theirs)
    os.write(fds[0], b"x")
    assert (message, os.read(read, 9)) == ({"n": 1}, b"x")
    for fd in (read, write, *fds):
        os.close(fd)
    ours.close()
    assert receive(theirs) is None


def test_orders_arrive_as_they_were_given(tmp_path):
    settings = load(environ={"ONDOL_DATA": str(tmp_path)})
    orders = Orders(
        settings=settings, key=AccessKey(id="AKIA", secret="s", account="1", created_s=1.5), secret=b"\0\xff",
        endpoint="http://127.0.0.1:1", sockets={"public": 3}, interpreters=[{"path": "/usr/bin/python3", "minor": 11}],
    )  # fmt: skip
    sent = json.loads(json.dumps(orders.message()))
    assert Orders.of(sent) == orders
    assert isinstance(Orders.of(sent).data, Path)
