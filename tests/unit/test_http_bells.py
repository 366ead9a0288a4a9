"""Many listening sockets on one epoll, answered by name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest
import uvloop

from ondol.http import bells as module
from ondol.http.bells import Bells
from ondol.http.messages import Response
from ondol.http.server import Server

REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@contextlib.asynccontextmanager
async def hung(*names):
    """A server that says by whose listener a request came, with a listener for each name; their ports."""

    async def app(request):
        return Response(200, (), request.peer.encode())

    server = Server(app)
    bells = Bells(server.take)
    server.on_left = lambda connection: bells.left(connection.peer, connection)
    ports = []
    for name in names:
        listener = socket.create_server(("127.0.0.1", 0))
        ports.append(listener.getsockname()[1])
        bells.hang(listener.detach(), name)
    try:
        yield bells, server, ports
    finally:
        bells.close()
        await server.drain(1.0)


async def asked(port):
    """The answer's body, on a connection that stays open; who asked closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    size = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1])
    return (await reader.readexactly(size)).decode(), reader, writer


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_each_request_comes_from_the_name_of_its_listener(loop):
    async def test():
        async with hung("one", "two") as (_, _, ports):
            answers = [await asked(port) for port in (*ports, ports[0])]
            assert [said for said, _, _ in answers] == ["one", "two", "one"]
            for _, _, writer in answers:
                writer.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test())


async def test_what_is_taken_down_is_closed_with_its_connections_and_the_others_stay():
    async with hung("one", "two") as (bells, _, ports):
        _, reader, writer = await asked(ports[0])
        bells.take_down("one")
        bells.take_down("one")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", ports[0])
        said, _, writer = await asked(ports[1])
        writer.close()
        assert said == "two"


async def test_at_its_most_connections_a_name_waits_until_one_leaves_and_no_other_name_does(monkeypatch):
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 2)
    async with hung("one", "two") as (_, server, ports):
        first, second = await asked(ports[0]), await asked(ports[0])
        third = asyncio.ensure_future(asked(ports[0]))
        said, _, writer = await asked(ports[1])
        assert said == "two"
        assert not third.done()
        assert len([each for each in server.connections if each.peer == "one"]) == 2
        first[2].close()
        said, _, third_writer = await asyncio.wait_for(third, 10)
        assert said == "one"
        for each in (second[2], third_writer, writer):
            each.close()


async def test_hanging_up_and_taking_down_leaves_no_descriptor():
    async with hung() as (bells, _, _):
        before = len(os.listdir("/proc/self/fd"))
        for turn in range(50):
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            bells.hang(listener.detach(), f"name {turn}")
            _, _, writer = await asked(port)
            bells.take_down(f"name {turn}")
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) <= before + 1
