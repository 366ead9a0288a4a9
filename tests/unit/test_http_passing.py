"""The proxy to the desk, between a real client and a real server, and the client below it against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest
import uvloop

from ondol.http import unix
from ondol.http.client import BadAnswer, HttpClient, Outgoing, Unreachable
from ondol.http.limits import ClientLimits
from ondol.http.messages import Response
from ondol.http.passing import Passing
from ondol.http.server import Server


def story(coroutine):
    """Runs a test's story on the loop that the node uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(coroutine, 30))


def listener():
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def chain(desk_app, path, limits=None):
    """client -> front -> desk: gives the front's address, the desk and the passing."""
    desk = Server(desk_app)
    await desk.start(unix.listen(path))
    passing = Passing(lambda: unix.connect(path), limits)
    front = Server(lambda request: passing.pass_on(request, [("x-ondol-principal", "owner")]))
    sock = listener()
    await front.start(sock)
    try:
        yield sock.getsockname(), desk, passing
    finally:
        await passing.close()
        await front.drain(0.1)
        await desk.drain(0.1)


async def ask(address, data):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


def head(method="GET", *fields, target="/x?y=1"):
    lines = [f"{method} {target} HTTP/1.1", "Host: aws.localhost", "Connection: close", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def echo(request):
    body = await request.body.read(1 << 28)
    return Response(
        200,
        [("x-desk", "1"), ("connection", "x-desk-only"), ("x-desk-only", "1")],
        json.dumps(
            {"target": request.target, "method": request.method, "headers": dict(request.headers), "bytes": len(body)}
        ).encode(),
    )


def said(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def test_a_request_arrives_as_it_was_sent_with_the_nodes_headers_and_without_the_clients(tmp_path):
    async def scene():
        async with chain(echo, tmp_path / "desk.sock") as (address, _, _):
            fields = (
                "X-Ondol-Principal: mallory",
                "X-Thing: 1",
                "Connection: x-hop",
                "X-Hop: 1",
                "Te: trailers",
                "Content-Length: 3",
            )
            return said(await ask(address, head("POST", *fields) + b"abc"))

    got = story(scene())
    assert (got["target"], got["method"], got["bytes"]) == ("/x?y=1", "POST", 3)
    assert got["headers"] == {"host": "aws.localhost", "x-thing": "1", "x-ondol-principal": "owner", "content-length": "3"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_whole_answer_says_its_length_and_its_date_once(tmp_path, method):
    async def scene():
        async with chain(echo, tmp_path / "desk.sock") as (address, _, _):
            return await ask(address, head(method))

    fields, _, body = story(scene()).lower().partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in fields.split(b"\r\n")[1:]]
    assert (names.count(b"date"), names.count(b"content-length")) == (1, 1)
    length = int(fields.partition(b"content-length: ")[2].split()[0])
    assert length > 0 and len(body) == (0 if method == "HEAD" else length)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_upload_flows_through(tmp_path, chunked):
    async def scene():
        async with chain(echo, tmp_path / "desk.sock") as (address, _, _):
            data = b"x" * 20_000_000
            if chunked:
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
                return said(await ask(address, head("PUT", "Transfer-Encoding: chunked") + body))
            return said(await ask(address, head("PUT", f"Content-Length: {len(data)}") + data))

    assert story(scene())["bytes"] == 20_000_000


@pytest.mark.parametrize("length", [None, 6_000_000])
def test_a_large_response_flows_back(tmp_path, length):
    async def app(request):
        async def body():
            for _ in range(60):
                yield b"x" * 100_000

        return Response(200, [("content-length", str(length))] if length else [], body())

    async def scene():
        async with chain(app, tmp_path / "desk.sock") as (address, _, _):
            return await ask(address, head())

    answer = story(scene())
    assert (b"content-length: 6000000" in answer) is bool(length)
    assert answer.count(b"x" * 1000) >= 5900


def test_the_first_chunk_of_a_response_does_not_wait_for_the_last(tmp_path):
    async def scene():
        go_on = asyncio.Event()

        async def app(request):
            async def body():
                yield b"first"
                await go_on.wait()
                yield b"last"

            return Response(200, (), body())

        async with chain(app, tmp_path / "desk.sock") as (address, _, _):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(head())
            await reader.readuntil(b"first")
            go_on.set()
            assert b"last" in await reader.read()
            writer.close()

    story(scene())


def test_connections_are_used_again(tmp_path):
    async def scene():
        async with chain(echo, tmp_path / "desk.sock") as (address, desk, _):
            for _ in range(5):
                await ask(address, head())
                await ask(address, head("HEAD"))
            return len(desk.connections)

    assert story(scene()) == 1


def test_a_desk_that_is_restarting_is_waited_for_and_stale_connections_are_not_used(tmp_path):
    async def scene():
        path = tmp_path / "desk.sock"
        async with chain(echo, path) as (address, desk, _):
            assert said(await ask(address, head()))["bytes"] == 0
            await desk.drain(0)
            path.unlink()
            asking = asyncio.create_task(ask(address, head()))
            await asyncio.sleep(0.1)
            again = Server(echo)
            await again.start(unix.listen(path))
            assert said(await asking)["bytes"] == 0
            await again.drain(0.1)

    story(scene())


def test_a_desk_that_stays_away_is_a_503_in_words(tmp_path):
    async def scene():
        path = tmp_path / "desk.sock"
        async with chain(echo, path, ClientLimits(connect_s=0.1)) as (address, desk, _):
            await desk.drain(0)
            path.unlink()
            return await ask(address, head())

    answer = story(scene())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer
    assert "try again" in said(answer)["message"]


def test_an_early_refusal_of_an_upload_comes_back(tmp_path):
    async def app(request):
        return Response(413, (), b"too large")

    async def scene():
        async with chain(app, tmp_path / "desk.sock") as (address, _, _):
            return await ask(address, head("PUT", "Content-Length: 50000000") + b"x" * 2_000_000)

    assert story(scene()).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_a_streamed_response_frees_its_connection(tmp_path):
    async def scene():
        closed = asyncio.Event()

        async def app(request):
            async def body():
                try:
                    while True:
                        yield b"x" * 1000
                        await asyncio.sleep(0.001)
                finally:
                    closed.set()

            return Response(200, (), body())

        async with chain(app, tmp_path / "desk.sock") as (address, _, _):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(head())
            await reader.readuntil(b"xxx")
            writer.close()
            await closed.wait()

    story(scene())


@asynccontextmanager
async def saying(answer, *, close=True):
    """A server that answers every connection with these bytes."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if close:
            writer.close()
        else:
            await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def connect():
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return sock

    try:
        yield connect
    finally:
        server.close()


GET = Outgoing(method="GET", target="/", headers=[("host", "x")])


async def whole(response):
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_a_function_that_is_a_web_server_may_frame_its_answer_as_it_likes(answer, body):
    async def scene():
        async with saying(answer) as connect:
            client = HttpClient(connect)
            got = await whole(await client.send(GET))
            await client.close()
            return got

    assert story(scene()) == body


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 500_000,
    ],
)
def test_an_answer_that_breaks_off_or_is_no_http_is_said_to_be_so(answer):
    async def scene():
        async with saying(answer) as connect:
            client = HttpClient(connect)
            with pytest.raises(BadAnswer):
                await whole(await client.send(GET))
            await client.close()

    story(scene())


def test_a_server_that_never_answers_is_given_up():
    async def scene():
        async with saying(b"", close=False) as connect:
            client = HttpClient(connect)
            with pytest.raises(TimeoutError):
                await client.send(GET, answer_s=0.05)
            await client.close()

    story(scene())


def test_requests_beyond_the_connections_wait_their_turn_and_no_longer_than_allowed():
    async def scene():
        async with saying(b"", close=False) as connect:
            client = HttpClient(connect, ClientLimits(connections_max=1, connect_s=0.1))
            stuck = asyncio.create_task(client.send(GET, answer_s=1))
            await asyncio.sleep(0.02)
            with pytest.raises(Unreachable):
                await client.send(GET)
            with pytest.raises(TimeoutError):
                await stuck
            await client.close()

    story(scene())


def test_many_requests_share_few_connections(tmp_path):
    async def scene():
        async with chain(echo, tmp_path / "desk.sock", ClientLimits(connections_max=3)) as (address, desk, _):
            answers = await asyncio.gather(*(ask(address, head()) for _ in range(40)))
            assert len(desk.connections) <= 3
            return [said(answer)["bytes"] for answer in answers]

    assert story(scene()) == [0] * 40
