"""The HTTP server, through real sockets: framing, order, bounds, endings."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop

from ondol.http.limits import HttpLimits
from ondol.http.messages import BodyTooLarge, Disconnected, Response
from ondol.http.server import Server

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def new_loop(request):
    return request.param


def on_both_loops(story):
    """Runs an asynchronous test on asyncio's loop and on uvloop."""

    @functools.wraps(story)
    def run(new_loop, **given):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(story(**given))

    given = inspect.signature(story).parameters.values()
    loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = inspect.Signature([*given, loop])
    return run


def listener():
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def serving(app, limits=None, prompt=None):
    sock = listener()
    server = Server(app, limits, prompt)
    await server.start(sock)
    server.address = sock.getsockname()
    try:
        yield server
    finally:
        async with asyncio.timeout(20):
            await server.drain(0.1)


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes
    raw: bytes = field(repr=False, default=b"")

    @property
    def message(self):
        return json.loads(self.body)["message"]


class Client:
    """Speaks bytes, so that nothing is mended on the way."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, head_only=False):
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
            status = int(lines[0].split()[1])
            body = b""
            if head_only or status in (100, 204, 304):
                pass
            elif headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += await self.reader.readexactly(size)
                    assert await self.reader.readexactly(2) == b"\r\n"
                assert await self.reader.readexactly(2) == b"\r\n"
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.reader.read()
            return Answer(status, headers, body, head + body)

    async def ended(self):
        """Everything until the server closes."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def reset(self):
        """Have the connection end abruptly when it is closed."""
        linger = struct.pack("ii", 1, 0)
        self.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def close(self):
        self.writer.close()


@asynccontextmanager
async def connected(server):
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass


async def ask(server, data, **how):
    async with connected(server) as client:
        await client.send(data)
        return await client.answer(**how)


async def echo(request):
    """Says what it understood."""
    body = await request.body.read(1 << 24)
    said = {
        "method": request.method,
        "target": request.target,
        "path": request.path,
        "query": request.query,
        "headers": list(request.headers),
        "body": body.decode("latin-1"),
        "peer": request.peer,
    }
    return Response(200, [("Content-Type", "application/json")], json.dumps(said).encode())


HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


@on_both_loops
async def test_an_application_gets_the_request_as_it_was_sent():
    async with serving(echo) as server:
        answer = await ask(
            server, b"POST /a%2Fb?x=1&y HTTP/1.1\r\n" + HOST + b"X-Thing:  caf\xe9 \r\nContent-Length: 3\r\n\r\nabc"
        )
    said = json.loads(answer.body)
    assert said["method"] == "POST"
    assert said["target"] == "/a%2Fb?x=1&y"
    assert said["path"] == "/a%2Fb"
    assert said["query"] == "x=1&y"
    assert ["x-thing", "caf\xe9"] in said["headers"]
    assert said["body"] == "abc"
    assert said["peer"].startswith("127.0.0.1:")


@on_both_loops
async def test_the_server_adds_date_and_length_and_keeps_the_connection():
    async with serving(echo) as server, connected(server) as client:
        for _ in range(3):
            await client.send(GET)
            answer = await client.answer()
            assert answer.status == 200
            assert answer.headers["date"].endswith("GMT")
            assert int(answer.headers["content-length"]) == len(answer.body)
            assert "connection" not in answer.headers


@on_both_loops
async def test_small_bodies_are_whole_before_the_application_is_called_and_large_ones_stream():
    seen = []

    async def app(request):
        seen.append(request.body.buffered)
        return Response(200, (), await request.body.read(1 << 24))

    async with serving(app) as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nab")
        await asyncio.sleep(0.02)
        assert seen == []
        await client.send(b"cd")
        assert (await client.answer()).body == b"abcd"
        big = b"x" * 300_000
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 300000\r\n\r\n" + big)
        assert (await client.answer()).body == big
        await client.send(GET)
        assert (await client.answer()).body == b""
    assert seen == [b"abcd", None, b""]


@on_both_loops
async def test_a_chunked_body_is_joined_and_its_trailers_are_dropped():
    async with serving(echo) as server, connected(server) as client:
        chunks = b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Trailer: v\r\n\r\n"
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + GET)
        said = json.loads((await client.answer()).body)
        assert said["body"] == "abc0123456789"
        assert "x-trailer" not in dict(said["headers"])
        assert json.loads((await client.answer()).body)["method"] == "GET"


@on_both_loops
async def test_a_request_may_arrive_byte_by_byte():
    async with serving(echo) as server, connected(server) as client:
        for byte in b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello":
            await client.send(bytes([byte]))
        said = json.loads((await client.answer()).body)
        assert (said["path"], said["body"]) == ("/x", "hello")


@on_both_loops
async def test_pipelined_requests_are_answered_in_order():
    async def app(request):
        await asyncio.sleep(0.01 if request.path == "/0" else 0)
        return Response(200, (), request.path.encode())

    async with serving(app) as server, connected(server) as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\n" % n + HOST + b"\r\n" for n in range(20)))
        assert [(await client.answer()).body for _ in range(20)] == [b"/%d" % n for n in range(20)]


@on_both_loops
async def test_who_is_asked_first_answers_when_it_likes_and_what_is_behind_waits():
    later = []

    def prompt(request, reply):
        if request.path == "/later":
            later.append(reply)
        elif request.path == "/broken":
            raise ValueError("no")
        elif request.path == "/now":
            reply(Response(200, (), b"at once"))
        return request.path != "/others"

    request = lambda path: GET.replace(b"/ ", path + b" ", 1)  # noqa: E731
    paths = (b"/others", b"/later", b"/now", b"/broken", b"/others", b"/later")
    async with serving(echo, prompt=prompt) as server, connected(server) as client:
        await client.send(b"".join(map(request, paths)))
        assert json.loads((await client.answer()).body)["path"] == "/others"
        while not later:
            await asyncio.sleep(0)
        later[0](Response(200, (), b"later"))
        later[0](Response(200, (), b"too late"))
        assert [(await client.answer()).body for _ in range(2)] == [b"later", b"at once"]
        assert (await client.answer()).status == 500
        assert json.loads((await client.answer()).body)["path"] == "/others"
        while len(later) < 2:
            await asyncio.sleep(0)
        later[1](Response(200, (), b"the last"))
        assert (await client.answer()).body == b"the last"


@on_both_loops
async def test_many_that_wait_and_are_then_answered_at_once_are_not_answered_within_each_other():
    """A hundred ends within ends would be more than an interpreter's stack has room for."""
    later, depths = [], []

    def prompt(request, reply):
        depths.append(len(inspect.stack(0)))
        if request.path == "/later":
            later.append(reply)
        else:
            reply(Response(200, (), request.path.encode()))
        return True

    request = lambda path: GET.replace(b"/ ", path + b" ", 1)  # noqa: E731
    paths = [b"/later", *(b"/%d" % number for number in range(120))]
    async with serving(echo, prompt=prompt) as server, connected(server) as client:
        await client.send(b"".join(map(request, paths)))
        while not later:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # so that all of them wait
        later[0](Response(200, (), b"/later"))
        assert [(await client.answer()).body for _ in paths] == paths
    assert max(depths) < min(depths) + 20


class Stop(BaseException):
    """What no handler of ours catches."""


@on_both_loops
async def test_a_client_whose_next_request_cannot_even_be_asked_for_is_cut_off_and_does_not_wait():
    later = []

    def prompt(request, reply):
        if request.path != "/later":
            raise Stop
        later.append(reply)
        return True

    async with serving(echo, prompt=prompt) as server, connected(server) as client:
        await client.send(GET.replace(b"/ ", b"/later ", 1) + GET)
        while not later:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # so that the other waits
        with pytest.raises(Stop):
            later[0](Response(200, (), b"later"))
        assert (await client.ended()).endswith(b"later")


@pytest.mark.parametrize("way", ["closes", "half closes", "resets"])
@on_both_loops
async def test_who_answers_much_later_is_told_that_the_client_went_away_and_answers_nobody(way):
    asked, left = [], []

    def prompt(request, reply):
        asked.append(reply)
        request.left = lambda: left.append(request.path)
        return True

    async with serving(echo, prompt=prompt) as server:
        async with connected(server) as client:
            await client.send(GET.replace(b"/ ", b"/first ", 1))
            while not asked:
                await asyncio.sleep(0)
            asked[0](Response(200, (), b"here"))
            assert (await client.answer()).body == b"here"
            await client.send(GET.replace(b"/ ", b"/second ", 1))
            while len(asked) < 2:
                await asyncio.sleep(0)
            if way == "half closes":
                client.writer.write_eof()
                assert await client.ended() == b""
            elif way == "resets":
                client.reset()
        async with asyncio.timeout(10):
            while not left:
                await asyncio.sleep(0.001)
        asked[1](Response(200, (), b"nobody hears this"))
        async with asyncio.timeout(10):
            while server.connections:
                await asyncio.sleep(0.001)
    assert left == ["/second"]


@on_both_loops
async def test_more_pipelined_requests_than_allowed_are_left_unanswered():
    async with serving(echo, HttpLimits(pipelined_max=3)) as server, connected(server) as client:
        await client.send(GET * 10)
        answers = [await client.answer() for _ in range(4)]
        assert [answer.headers.get("connection") for answer in answers] == [None, None, None, "close"]
        assert await client.ended() == b""


@pytest.mark.parametrize(
    ("version", "asked", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
@on_both_loops
async def test_the_connection_is_kept_as_the_client_asks(version, asked, kept):
    async with serving(echo) as server, connected(server) as client:
        await client.send(b"GET / HTTP/" + version + b"\r\n" + HOST + asked + b"\r\n")
        answer = await client.answer()
        assert (answer.headers.get("connection") == "close") is not kept
        if kept:
            await client.send(b"GET / HTTP/" + version + b"\r\n" + HOST + asked + b"\r\n")
            assert (await client.answer()).status == 200
        else:
            assert await client.ended() == b""


@on_both_loops
async def test_an_application_may_end_the_connection():
    async def app(request):
        return Response(200, [("Connection", "close")], b"bye")

    async with serving(app) as server, connected(server) as client:
        await client.send(GET)
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.ended() == b""


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("streamed", [False, True])
@on_both_loops
async def test_responses_without_a_body_have_none(method, status, streamed):
    closed = []

    async def chunks():
        try:
            yield b"body"
        finally:
            closed.append(True)

    async def app(request):
        return Response(status, (), chunks() if streamed else b"body")

    async with serving(app) as server, connected(server) as client:
        for _ in range(2):
            await client.send(method.encode() + b" / HTTP/1.1\r\n" + HOST + b"\r\n")
            answer = await client.answer(head_only=True)
            assert answer.status == status
            assert "transfer-encoding" not in answer.headers
            assert answer.headers.get("content-length") == ("4" if method == "HEAD" and not streamed else None)


@on_both_loops
async def test_a_head_response_keeps_the_length_the_application_gave():
    async def app(request):
        return Response(200, [("Content-Length", "1234")], b"")

    async with serving(app) as server:
        answer = await ask(server, b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n", head_only=True)
    assert answer.headers["content-length"] == "1234"


def streaming(*chunks, headers=()):
    async def app(request):
        async def body():
            for chunk in chunks:
                await asyncio.sleep(0)
                yield chunk

        return Response(200, headers, body())

    return app


@on_both_loops
async def test_an_iterator_is_sent_chunked_and_the_connection_goes_on():
    async with serving(streaming(b"one", b"", b"x" * 100_000, b"three")) as server, connected(server) as client:
        for _ in range(2):
            await client.send(GET)
            answer = await client.answer()
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.body == b"one" + b"x" * 100_000 + b"three"


@on_both_loops
async def test_an_iterator_ends_with_the_connection_for_http_1_0():
    async with serving(streaming(b"one", b"two")) as server:
        answer = await ask(server, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b"onetwo"


@on_both_loops
async def test_an_iterator_of_known_length_is_not_chunked():
    async with serving(streaming(b"one", b"two", headers=[("content-length", "6")])) as server, connected(server) as client:
        for _ in range(2):
            await client.send(GET)
            answer = await client.answer()
            assert (answer.headers["content-length"], answer.body) == ("6", b"onetwo")


@pytest.mark.parametrize("length", ["5", "7"])
@on_both_loops
async def test_an_iterator_that_breaks_its_word_about_its_length_breaks_the_connection(length, caplog):
    async with serving(streaming(b"one", b"two", headers=[("content-length", length)])) as server, connected(server) as client:
        await client.send(GET + GET)
        assert (await client.ended()).count(b"HTTP/1.1") <= 1
    assert "broke off" in caplog.text


@on_both_loops
async def test_a_generator_that_fails_in_the_middle_leaves_no_whole_looking_response(caplog):
    async def app(request):
        async def body():
            yield b"one"
            raise RuntimeError("half way")

        return Response(200, (), body())

    async with serving(app) as server, connected(server) as client:
        await client.send(GET)
        assert not (await client.ended()).endswith(b"0\r\n\r\n")
    assert "half way" in caplog.text


@on_both_loops
async def test_a_slow_reader_holds_the_generator_back():
    made = 0

    async def app(request):
        async def body():
            nonlocal made
            for _ in range(2000):
                made += 1
                yield b"x" * 65536

        return Response(200, (), body())

    async with serving(app) as server:
        sock = socket.create_connection(server.address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        with sock:
            sock.sendall(GET)
            before = -1
            while made != before:
                before = made
                await asyncio.sleep(0.1)
            assert 0 < made < 500


@on_both_loops
async def test_a_generator_is_closed_when_the_client_goes_away():
    closed = asyncio.Event()

    async def app(request):
        async def body():
            try:
                yield b"one"
                await asyncio.Event().wait()
            finally:
                closed.set()

        return Response(200, (), body())

    async with serving(app) as server:
        async with connected(server) as client:
            await client.send(GET)
            await client.reader.readuntil(b"one")
        async with asyncio.timeout(10):
            await closed.wait()


@pytest.mark.parametrize("abruptly", [False, True])
@on_both_loops
async def test_a_client_that_goes_away_cancels_nothing(abruptly):
    started, go_on, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(request):
        started.set()
        await go_on.wait()
        finished.set()
        return Response(200, (), b"nobody hears this")

    async with serving(app) as server:
        async with connected(server) as client:
            await client.send(GET)
            await started.wait()
            if abruptly:
                client.reset()
        await asyncio.sleep(0.05)
        go_on.set()
        async with asyncio.timeout(10):
            await finished.wait()


@on_both_loops
async def test_a_client_that_closes_its_sending_half_still_gets_its_answer():
    async def app(request):
        await asyncio.sleep(0.05)
        return Response(200, (), b"late")

    async with serving(app) as server, connected(server) as client:
        await client.send(GET)
        client.writer.write_eof()
        assert (await client.ended()).endswith(b"late")


@on_both_loops
async def test_a_reader_learns_that_the_body_will_never_be_whole():
    told = asyncio.Event()

    async def app(request):
        with pytest.raises(Disconnected):
            await request.body.read(1 << 30)
        told.set()
        return Response(200)

    async with serving(app) as server:
        async with connected(server) as client:
            await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\nabc")
            await asyncio.sleep(0.02)
        async with asyncio.timeout(10):
            await told.wait()


@pytest.mark.parametrize("framing", [b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000, b"Transfer-Encoding: chunked\r\n\r\n"])
@on_both_loops
async def test_a_body_longer_than_its_reader_allows_is_refused(framing):
    async def app(request):
        try:
            await request.body.read(1000)
        except BodyTooLarge as error:
            return Response(413, (), str(error.bytes_max).encode())

    async with serving(app) as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + framing)
        if b"chunked" in framing:
            await client.send(b"FFFF\r\n" + b"x" * 0xFFFF + b"\r\n")
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"1000")


@on_both_loops
async def test_an_unread_body_does_not_become_the_next_request():
    async def app(request):
        return Response(200, (), request.path.encode())

    async with serving(app) as server, connected(server) as client:
        smuggled = GET * 3000  # longer than what is buffered, short enough to be thrown away
        await client.send(b"POST /one HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(smuggled))
        assert (await client.answer()).body == b"/one"
        await client.send(smuggled + b"GET /two HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.answer()).body == b"/two"


@on_both_loops
async def test_a_refused_upload_is_answered_though_the_client_is_still_sending():
    async def app(request):
        return Response(403, (), b"no")

    async with serving(app) as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 20000000\r\n\r\n")
        for _ in range(100):
            await client.send(b"x" * 100_000)
        answer = await client.answer()
        assert (answer.status, answer.body, answer.headers["connection"]) == (403, b"no", "close")


@on_both_loops
async def test_continue_is_sent_when_the_application_reads():
    async with serving(echo) as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        assert json.loads((await client.answer()).body)["body"] == "abc"
        await client.send(GET)
        assert (await client.answer()).status == 200


@on_both_loops
async def test_a_refusal_comes_instead_of_continue():
    async def app(request):
        return Response(401, (), b"who are you")

    async with serving(app) as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")


@on_both_loops
async def test_another_expectation_is_refused():
    async with serving(echo) as server:
        assert (await ask(server, b"GET / HTTP/1.1\r\n" + HOST + b"Expect: tea\r\n\r\n")).status == 417


BAD = {
    "both framings": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "both framings turned": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    "zero length and chunked": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "two lengths": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "two equal lengths": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    "a list of lengths": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\na"),
    "a signed length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na"),
    "a negative length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\na"),
    "a hexadecimal length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\na"),
    "an empty length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\na"),
    "an enormous length": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\na"),
    "an unknown encoding": (501, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "an encoding before chunked": (501, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "an encoding after chunked": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    "chunked twice": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked in HTTP/1.0": (400, b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a bad chunk size": (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"),
    "a folded header": (400, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n"),
    "a space before the colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length : 1\r\n\r\n"),
    "a bare line feed after the request line": (400, b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    "a bare line feed after a header": (400, b"GET / HTTP/1.1\r\nHost: localhost\nA: b\r\n\r\n"),
    "a bare carriage return": (400, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\rc\r\n\r\n"),
    "a NUL in a value": (400, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n"),
    "a NUL in a name": (400, b"GET / HTTP/1.1\r\n" + HOST + b"A\0: b\r\n\r\n"),
    "a NUL in the target": (400, b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no header name": (400, b"GET / HTTP/1.1\r\n" + HOST + b": b\r\n\r\n"),
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    "a fragment": (400, b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "raw UTF-8 in the target": (400, b"GET /\xec\x98\xa8 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a user in the target": (400, b"GET http://me@localhost/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a foreign scheme": (400, b"GET ftp://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an asterisk that is no OPTIONS": (400, b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT": (501, b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "HTTP/0.9": (505, b"GET /\r\n\r\n"),
    "HTTP/2 in a request line": (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    "HTTP/2's preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    "a WebSocket": (
        426,
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "garbage": (400, b"\xff\xfe\xfd\r\n\r\n"),
    "too many headers": (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n"),
    "a long head": (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 70_000 + b"\r\n\r\n"),
    "a long target": (431, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a header without end": (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 400_000),
    "trailers without end": (
        400,
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"b" * 400_000,
    ),
}


@pytest.mark.parametrize("name", BAD)
@on_both_loops
async def test_what_is_malformed_or_ambiguous_is_refused_in_words_and_the_connection_ends(name):
    status, data = BAD[name]
    called = []

    async def app(request):
        called.append(request)
        return Response(200, (), await request.body.read(1 << 20))

    async with serving(app) as server, connected(server) as client:
        try:
            await client.send(data)
        except ConnectionError:
            pass
        answer = await client.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.message) > 15
        client.writer.close()
    if "chunk" not in name and "trailers" not in name:
        assert called == []


@on_both_loops
async def test_a_refusal_waits_for_its_turn():
    async def app(request):
        await asyncio.sleep(0.05)
        return Response(200, (), b"first")

    async with serving(app) as server, connected(server) as client:
        await client.send(GET + b"GET /\0 HTTP/1.1\r\n\r\n")
        assert (await client.answer()).body == b"first"
        assert (await client.answer()).status == 400
        assert await client.ended() == b""


@on_both_loops
async def test_an_absolute_target_names_the_host():
    async with serving(echo) as server:
        said = json.loads((await ask(server, b"GET http://a.localhost:1?q HTTP/1.1\r\nHost: evil\r\n\r\n")).body)
    assert said["target"] == "/?q"
    assert [value for name, value in said["headers"] if name == "host"] == ["a.localhost:1"]


@on_both_loops
async def test_options_for_the_server_itself_is_served():
    async with serving(echo) as server:
        assert json.loads((await ask(server, b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n")).body)["target"] == "*"


@on_both_loops
async def test_a_client_that_offers_http_2_is_served_on_as_http_1():
    async with serving(echo) as server, connected(server) as client:
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        await client.send(b"GET /1 HTTP/1.1\r\n" + HOST + offer + b"\r\n" + b"GET /2 HTTP/1.1\r\n" + HOST + b"\r\n")
        assert json.loads((await client.answer()).body)["path"] == "/1"
        assert json.loads((await client.answer()).body)["path"] == "/2"


@on_both_loops
async def test_an_application_that_fails_is_a_500_with_an_id_that_the_log_has(caplog):
    async def app(request):
        raise RuntimeError("a bug")

    with caplog.at_level(logging.ERROR, "ondol.http"):
        async with serving(app) as server, connected(server) as client:
            await client.send(GET)
            answer = await client.answer()
            assert answer.status == 500
            request_id = json.loads(answer.body)["request_id"]
            assert answer.headers["x-request-id"] == request_id
            await client.send(GET)
            assert (await client.answer()).status == 500
    assert request_id in caplog.text
    assert "a bug" in caplog.text


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\0b", "\u20ac"])
@pytest.mark.parametrize("streamed", [False, True])
@on_both_loops
async def test_a_header_cannot_smuggle_another(value, streamed, caplog):
    async def app(request):
        async def body():
            yield b"x"

        return Response(200, [("x-thing", value)], body() if streamed else b"x")

    async with serving(app) as server:
        answer = await ask(server, GET)
    assert answer.status == 500
    assert "set-cookie" not in answer.headers


@on_both_loops
async def test_a_body_of_a_wrong_type_is_a_500(caplog):
    async def app(request):
        return Response(200, (), "text")

    async with serving(app) as server:
        assert (await ask(server, GET)).status == 500
    assert "str" in caplog.text


@on_both_loops
async def test_an_idle_connection_is_closed():
    async with serving(echo, HttpLimits(idle_s=0.05, sweep_s=0.02)) as server, connected(server) as client:
        await client.send(GET)
        await client.answer()
        assert await client.ended() == b""


@on_both_loops
async def test_a_head_that_never_ends_is_given_up():
    async with serving(echo, HttpLimits(head_s=0.05, sweep_s=0.02)) as server, connected(server) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a")
        assert (await client.answer()).status == 408
        assert await client.ended() == b""


@pytest.mark.parametrize("declared", [1000, 1_000_000])
@on_both_loops
async def test_a_body_that_stops_moving_is_given_up(declared):
    async with serving(echo, HttpLimits(body_idle_s=0.05, sweep_s=0.02)) as server, connected(server) as client:
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\nabc" % declared)
        answer = await client.answer()
        assert answer.status in (400, 408)
        assert "body" in answer.message
        assert await client.ended() == b""


@on_both_loops
async def test_a_client_that_takes_nothing_is_cut_off():
    closed = asyncio.Event()

    async def app(request):
        async def body():
            try:
                while True:
                    yield b"x" * 65536
            finally:
                closed.set()

        return Response(200, (), body())

    async with serving(app, HttpLimits(write_idle_s=0.1, sweep_s=0.02)) as server:
        with socket.create_connection(server.address) as sock:
            sock.sendall(GET)
            async with asyncio.timeout(20):
                await closed.wait()


@on_both_loops
async def test_a_slow_application_is_no_idle_connection():
    async def app(request):
        await asyncio.sleep(0.3)
        return Response(200, (), b"done")

    limits = HttpLimits(idle_s=0.05, head_s=0.05, body_idle_s=0.05, linger_s=0.05, write_idle_s=0.05, sweep_s=0.02)
    async with serving(app, limits) as server:
        assert (await ask(server, GET)).body == b"done"


@on_both_loops
async def test_a_body_is_only_read_as_fast_as_it_is_taken():
    go_on = asyncio.Event()
    sent = 0

    async def app(request):
        await go_on.wait()
        total = 0
        async for chunk in request.body.chunks():
            total += len(chunk)
        return Response(200, (), b"%d" % total)

    async with serving(app) as server, connected(server) as client:
        client.writer.transport.set_write_buffer_limits(high=65536)
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 70000000\r\n\r\n")

        async def upload():
            nonlocal sent
            for _ in range(700):
                await client.send(b"x" * 100_000)
                sent += 100_000

        uploading = asyncio.create_task(upload())
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 30_000_000
        go_on.set()
        await uploading
        assert (await client.answer()).body == b"70000000"


@on_both_loops
async def test_more_connections_than_allowed_are_told_so():
    async with serving(echo, HttpLimits(connections_max=1)) as server, connected(server) as first:
        await first.send(GET)
        assert (await first.answer()).status == 200
        async with connected(server) as second:
            assert (await second.answer()).status == 503
        await first.send(GET)
        assert (await first.answer()).status == 200


@on_both_loops
async def test_draining_lets_what_runs_finish_and_closes_what_is_idle():
    started, go_on = asyncio.Event(), asyncio.Event()

    async def app(request):
        started.set()
        await go_on.wait()
        return Response(200, (), b"finished")

    sock = listener()
    server = Server(app)
    await server.start(sock)
    server.address = sock.getsockname()
    async with connected(server) as idle, connected(server) as busy:
        await busy.send(GET)
        await started.wait()
        draining = asyncio.create_task(server.drain(10))
        assert await idle.ended() == b""
        with pytest.raises(OSError):
            await asyncio.open_connection(*server.address)
        go_on.set()
        answer = await busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"finished", "close")
        async with asyncio.timeout(20):
            await draining


@on_both_loops
async def test_draining_closes_a_connection_whose_stream_ends_meanwhile():
    go_on = asyncio.Event()

    async def app(request):
        async def chunks():
            yield b"begun"
            await go_on.wait()

        return Response(200, (), chunks())

    sock = listener()
    server = Server(app)
    await server.start(sock)
    server.address = sock.getsockname()
    async with connected(server) as busy:
        await busy.send(GET)
        begun = await busy.reader.readuntil(b"begun\r\n")
        assert b"connection: close" not in begun
        draining = asyncio.create_task(server.drain(60))
        await asyncio.sleep(0)
        go_on.set()
        assert await busy.ended() == b"0\r\n\r\n"
        async with asyncio.timeout(20):
            await draining


@on_both_loops
async def test_draining_ends_what_does_not_finish():
    cancelled = asyncio.Event()

    async def app(request):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    sock = listener()
    server = Server(app)
    await server.start(sock)
    server.address = sock.getsockname()
    async with connected(server) as client:
        await client.send(GET)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            await server.drain(0.05)
        assert cancelled.is_set()
        assert await client.ended() == b""


@on_both_loops
async def test_a_server_listens_on_a_unix_socket_at_a_long_path(tmp_path):
    from ondol.http import unix

    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    server = Server(echo)
    await server.start(unix.listen(folder / "front.sock"))
    try:
        sock = await unix.connect(folder / "front.sock")
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        client = Client(reader, writer)
        await client.send(GET)
        assert json.loads((await client.answer()).body)["peer"] == ""
        writer.close()
    finally:
        await server.drain(0)
    assert (folder / "front.sock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError):
        await unix.connect(folder / "front.sock")
