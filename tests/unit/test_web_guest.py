"""Web functions in real guests: WSGI, ASGI and commands, seen from the node's end of the wire."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager

import pytest

from ondol.model.errors import Unavailable
from ondol.runtime import Call, Ending, Launch
from ondol.runtimes.choice import Choice
from ondol.runtimes.forked import ForkedPython
from ondol.runtimes.interpreters import Interpreters
from ondol.testing.pool import a_target
from ondol.testing.sandboxes import LocalSandboxes

FOUND = Interpreters.discover()
BIG = 3_000_000

WSGI = '''
import hashlib, json
closed = []

class Closing:
    """A body that notes its end."""
    def __init__(self, chunks):
        self.chunks = iter(chunks)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.chunks)
    def close(self):
        closed.append("closed")

def app(environ, start):
    path = environ["PATH_INFO"]
    def ok(body=b"ok", *headers):
        start("200 OK", [("content-type", "text/plain"), *headers])
        return [body]
    if path == "/environ":
        names = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT",
                 "HTTP_COOKIE", "CONTENT_TYPE", "wsgi.input_terminated", "wsgi.url_scheme")
        return ok(json.dumps({name: environ.get(name) for name in names}).encode())
    if path == "/cookies":
        return ok(b"", ("set-cookie", "a=1"), ("set-cookie", "b=2"))
    if path == "/hash":
        size, digest = 0, hashlib.sha256()
        while piece := environ["wsgi.input"].read(10000):
            size += len(piece)
            digest.update(piece)
        return ok(b"%d" % size)
    if path == "/unread":
        return ok()
    if path == "/closed":
        return ok(",".join(closed).encode())
    if path == "/big":
        return ok(b"x" * 3_000_000)
    if path == "/stream":
        start("200 OK", [])
        return Closing([b"", b"one", b"", b"x" * 3_000_000, b"two"])
    if path == "/generator":
        def lines():
            start("202 Accepted", [("x-late", "1")])
            yield b""
            yield b"late"
        return lines()
    if path == "/write":
        start("200 OK", [])(b"written ")
        return [b"and ", b"returned"]
    if path == "/nothing":
        start("204 No Content", [])
        return []
    if path == "/before":
        raise ValueError("before")
    if path == "/unstarted":
        return [b"x"]
    if path == "/badheader":
        start("200 OK", [("x", object())])
        return [b"x"]
    if path == "/middle":
        start("200 OK", [])
        def lines():
            yield b"begun"
            raise ValueError("middle")
        return Closing(lines())
    if path == "/mend":
        start("200 OK", [])
        try:
            raise ValueError("mended")
        except ValueError:
            import sys
            start("500 Oh", [("x-mended", "1")], sys.exc_info())
        return [b"sorry"]
    start("404 Not Found", [])
    return [b""]
'''

ASGI = """
import asyncio, json

seen = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                scope["state"]["up"] = True
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return
    path = scope["path"][len(scope["root_path"]):]
    async def head(status=200, headers=()):
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    async def body(data=b"", more=False):
        await send({"type": "http.response.body", "body": data, "more_body": more})
    if path == "/scope":
        plain = {k: v for k, v in scope.items() if k in ("path", "root_path", "client", "server", "state", "scheme", "method")}
        await head(); await body(json.dumps(plain | {"raw": scope["raw_path"].decode()}).encode())
    elif path == "/hash":
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await head(); await body(b"%d" % size)
    elif path == "/unread":
        await head(); await body(b"ok")
    elif path == "/stream":
        await head(headers=[(b"set-cookie", b"a"), (b"set-cookie", b"b")])
        await body(b"one", True); await body(b"x" * 3_000_000, True); await body(b"two")
    elif path == "/before":
        raise ValueError("before")
    elif path == "/middle":
        await head(); await body(b"begun", True)
        raise ValueError("middle")
    elif path == "/silent":
        return
    elif path == "/half":
        await head(); await body(b"begun", True)
    elif path == "/late":
        # A task that outlives its request says more and listens on: that is not the next request's business.
        await head(); await body(b"done")
        async def on():
            await body(b"x" * 600_000, True)
            seen.append((await receive())["type"])
        asyncio.get_running_loop().create_task(on())
    elif path == "/seen":
        await head(); await body(json.dumps(seen).encode())
    elif path == "/both":
        # Echo, chunk by chunk: reading and writing at the same time.
        await head()
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await body(message["body"], True)
        await body()
    else:
        await head(404); await body()

async def failing(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})

async def without(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"no lifespan"})
"""

SERVER = """
import os, socket, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        if self.path == "/early":
            self.send_response(413)
            self.send_header("content-length", "9")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b"too large")
            self.close_connection = True
            return
        if self.path == "/die":
            os._exit(3)
        if self.path == "/die-slowly":
            self.connection.shutdown(socket.SHUT_RDWR)
            time.sleep(0.5)
            os._exit(3)
        if self.path == "/killed":
            os.kill(os.getpid(), 9)
        size = 0
        if self.headers.get("transfer-encoding"):
            while n := int(self.rfile.readline(), 16):
                size += len(self.rfile.read(n))
                self.rfile.readline()
            self.rfile.readline()
        else:
            size = len(self.rfile.read(int(self.headers.get("content-length") or 0)))
        self.answer(b"%d" % size)
    def do_GET(self):
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\\r\\nbegun\\r\\n")
            self.close_connection = True
        elif self.path == "/big":
            self.answer(b"x" * 3_000_000)
        elif self.path == "/die-later":
            self.answer(b"goodbye")
            threading.Timer(0.3, os._exit, [3]).start()
        else:
            self.answer((self.path + " " + self.headers["x-forwarded-prefix"]).encode())
    do_HEAD = do_GET
    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("set-cookie", "a")
        self.send_header("set-cookie", "b")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    def log_message(self, *args):
        pass

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Function:
    def __init__(self, worker, lines):
        self.worker, self.lines = worker, lines
        self.number = 0

    async def answer(self, path, method="GET", payload=b"", body=None, **more):
        self.number += 1
        meta = {
            "id": f"r{self.number}", "deadline_ms": 0, "method": method, "root": "/fn/site", "path": path, "query": "",
            "headers": [["host", "site.example:81"]], "client": "192.0.2.1:4711", **more,
        }  # fmt: skip
        call = Call(meta=json.dumps(meta).encode(), payload=payload, body=body)
        async with asyncio.timeout(60):
            return await self.worker.call(call, lambda text, _: self.lines.append(text))

    async def get(self, path, method="GET", payload=b"", body=None, **more):
        """(status, headers, whole body)"""
        answer = await self.answer(path, method, payload, body, **more)
        assert answer.ending is Ending.OK, answer
        whole = answer.body if isinstance(answer.body, bytes) else b"".join([chunk async for chunk in answer.body])
        return answer.meta["status"], answer.meta["headers"], whole


@asynccontextmanager
async def function(path, source, handler="app:app", guest="web", variables=None):
    (path / "app.py").write_text(source)
    sandboxes = LocalSandboxes()
    lines = []
    shell = await sandboxes.prepare("1")
    await sandboxes.attach(shell, tree=str(path), memory_bytes=0, tmp_mib=0)
    runtime = "command" if guest == "command" else FOUND.all()[-1].name
    launch = Launch(
        guest=guest,
        handler=handler,
        runtime=runtime,
        variables={"PATH": "/usr/bin:/bin", **(variables or {})},
        memory_mib=128,
        timeout_s=30,
    )
    worker = await ForkedPython(sandboxes, Choice(FOUND)).start(
        shell, a_target().revision, launch, lambda text, _: lines.append(text)
    )
    try:
        yield Function(worker, lines)
    finally:
        worker.close()
        await sandboxes.close()


async def chunks(size, piece=50_000):
    for at in range(0, size, piece):
        yield b"y" * min(piece, size - at)


@pytest.fixture
async def wsgi(tmp_path):
    async with function(tmp_path, WSGI) as made:
        yield made


@pytest.fixture
async def asgi(tmp_path):
    async with function(tmp_path, ASGI) as made:
        yield made


@pytest.fixture
async def command(tmp_path):
    async with function(tmp_path, SERVER, f"{sys.executable} app.py", "command") as made:
        yield made


# WSGI ------------------------------------------------------------------------------------------------------------------
async def test_wsgi_sees_the_request(wsgi):
    headers = [["host", "[::1]:81"], ["cookie", "a=1"], ["cookie", "b=2"], ["content-type", "text/x"]]
    status, _, body = await wsgi.get("/environ", "PUT", query="a=%20b", headers=headers, client="[2001:db8::1]:99")
    assert status == 200
    assert json.loads(body) == {
        "REQUEST_METHOD": "PUT", "SCRIPT_NAME": "/fn/site", "PATH_INFO": "/environ", "QUERY_STRING": "a=%20b",
        "REMOTE_ADDR": "2001:db8::1", "SERVER_NAME": "::1", "SERVER_PORT": "81", "HTTP_COOKIE": "a=1,b=2",
        "CONTENT_TYPE": "text/x", "wsgi.input_terminated": True, "wsgi.url_scheme": "http",
    }  # fmt: skip


async def test_wsgi_headers_that_come_twice_stay_two(wsgi):
    _, headers, _ = await wsgi.get("/cookies")
    assert [value for name, value in headers if name == "set-cookie"] == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/big", (200, b"x" * BIG)),
        ("/stream", (200, b"one" + b"x" * BIG + b"two")),
        ("/generator", (202, b"late")),
        ("/write", (200, b"written and returned")),
        ("/nothing", (204, b"")),
        ("/mend", (500, b"sorry")),
        ("/before", (500, b"Internal Server Error")),
        ("/unstarted", (500, b"Internal Server Error")),
        ("/badheader", (500, b"Internal Server Error")),
    ],
)
async def test_a_wsgi_answer_arrives_whole_and_the_next_call_gets_through(wsgi, path, expected):
    status, _, body = await wsgi.get(path)
    assert (status, body) == expected
    assert (await wsgi.get("/unread"))[2] == b"ok"


async def test_a_wsgi_failure_is_in_the_log(wsgi):
    await wsgi.get("/before")
    assert "ValueError: before\n" in wsgi.lines


async def test_a_wsgi_body_that_breaks_off_is_no_whole_body_and_is_closed(wsgi):
    answer = await wsgi.answer("/middle")
    got = []
    with pytest.raises(Unavailable):
        async for chunk in answer.body:
            got.append(chunk)  # noqa: PERF401  # what came before the failure
    assert got == [b"begun"]
    assert (await wsgi.get("/closed"))[2] == b"closed"


async def test_a_wsgi_body_whose_reader_is_gone_is_still_run_to_its_end_and_closed(wsgi):
    answer = await wsgi.answer("/stream")
    assert await anext(answer.body) == b"one"
    async with asyncio.timeout(60):
        await answer.body.aclose()
    assert (await wsgi.get("/closed"))[2] == b"closed"


@pytest.mark.parametrize("path", ["/hash", "/unread"])
async def test_a_large_wsgi_request_is_read_or_left(wsgi, path):
    status, _, body = await wsgi.get(path, "POST", body=chunks(BIG))
    assert (status, body) == (200, b"%d" % BIG if path == "/hash" else b"ok")
    assert (await wsgi.get("/hash", "POST", payload=b"12345"))[2] == b"5"


# ASGI ------------------------------------------------------------------------------------------------------------------
async def test_asgi_sees_the_request_and_the_lifespans_state(asgi):
    _, _, body = await asgi.get("/scope", client="[::1]:99", headers=[["host", "h"]])
    assert json.loads(body) == {
        "path": "/fn/site/scope", "raw": "/fn/site/scope", "root_path": "/fn/site", "client": ["::1", 99], "server": ["h", 80],
        "state": {"up": True}, "scheme": "http", "method": "GET",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/stream", (200, b"one" + b"x" * BIG + b"two")),
        ("/before", (500, b"Internal Server Error")),
        ("/silent", (500, b"Internal Server Error")),
        ("/missing", (404, b"")),
    ],
)
async def test_an_asgi_answer_arrives_whole_and_the_next_call_gets_through(asgi, path, expected):
    status, _, body = await asgi.get(path)
    assert (status, body) == expected
    assert (await asgi.get("/unread"))[2] == b"ok"


@pytest.mark.parametrize("path", ["/middle", "/half"])
async def test_an_asgi_body_that_breaks_off_is_no_whole_body(asgi, path):
    answer = await asgi.answer(path)
    with pytest.raises(Unavailable):
        async for _ in answer.body:
            continue
    assert (await asgi.get("/unread"))[2] == b"ok"


@pytest.mark.parametrize(("path", "size"), [("/hash", b"%d" % BIG), ("/unread", b"ok")])
async def test_a_large_asgi_request_is_read_or_left(asgi, path, size):
    assert (await asgi.get(path, "POST", body=chunks(BIG)))[2] == size
    assert (await asgi.get("/hash", "POST", payload=b"12345"))[2] == b"5"


async def test_an_asgi_application_reads_and_writes_at_once(asgi):
    assert (await asgi.get("/both", "POST", body=chunks(BIG)))[2] == b"y" * BIG


async def test_a_task_that_outlives_its_asgi_request_disturbs_no_other(asgi):
    for _ in range(3):
        assert (await asgi.get("/late", "POST", body=chunks(200_000)))[2] == b"done"
    assert json.loads((await asgi.get("/seen"))[2]) == ["http.disconnect"] * 3


async def test_a_startup_that_failed_is_a_failure_to_load(tmp_path):
    async with function(tmp_path, ASGI, "app:failing") as made:
        answer = await made.answer("/")
        assert answer.ending is Ending.INIT_ERROR
        assert answer.meta["message"] == "no database"


async def test_an_application_without_lifespan_is_served(tmp_path):
    async with function(tmp_path, ASGI, "app:without") as made:
        assert (await made.get("/"))[2] == b"no lifespan"


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("app:nothing", "AttributeError"),
        ("gone:app", "ModuleNotFoundError"),
        ("app", "NotAnApplication"),
        ("app:BIG", "NotAnApplication"),
    ],
)
async def test_a_handler_that_is_none_is_a_failure_to_load(tmp_path, handler, kind):
    async with function(tmp_path, "BIG = 1", handler) as made:
        answer = await made.answer("/")
        assert (answer.ending, answer.meta["type"]) == (Ending.INIT_ERROR, kind)


# Commands --------------------------------------------------------------------------------------------------------------
async def test_a_command_is_asked_and_its_answer_passed_on(command):
    status, headers, body = await command.get("/a%20b", query="c=d")
    assert (status, body) == (200, b"/a%20b?c=d /fn/site")
    assert [value for name, value in headers if name.lower() == "set-cookie"] == ["a", "b"]
    assert "connection" not in [name.lower() for name, _ in headers]


async def test_a_command_answers_head_without_a_body(command):
    _, headers, body = await command.get("/x", "HEAD")
    assert body == b""
    assert ("content-length", "11") in [(name.lower(), value) for name, value in headers]


async def test_large_bodies_go_to_a_command_and_come_back(command):
    assert (await command.get("/size", "POST", body=chunks(BIG)))[2] == b"%d" % BIG
    length = [["host", "h"], ["content-length", "5"]]
    assert (await command.get("/size", "POST", payload=b"12345", headers=length))[2] == b"5"
    assert (await command.get("/big"))[2] == b"x" * BIG


async def test_a_command_that_breaks_off_gives_no_whole_body(command):
    answer = await command.answer("/cut")
    with pytest.raises(Unavailable):
        async for _ in answer.body:
            continue
    assert (await command.get("/x"))[0] == 200


async def test_a_command_that_refuses_before_it_has_read_all_is_heard(command):
    status, _, _ = await command.get("/early", "POST", body=chunks(BIG))
    assert status in (413, 502)  # its own words, unless the kernel threw them away
    assert (await command.get("/x"))[0] == 200


@pytest.mark.parametrize("path", ["/die", "/die-slowly"])
async def test_a_command_that_dies_is_a_bad_gateway_and_its_environment_ends(command, path):
    status, _, body = await command.get(path, "POST")
    assert (status, body) == (502, b"the function's server did not answer\n")
    async with asyncio.timeout(30):
        assert await command.worker.ended() == 3
    assert "[ondol] the command ended with status 3\n" in command.lines


async def test_a_command_that_is_killed_takes_its_call_with_it_in_the_same_way(command):
    """The node alone knows whether that was for want of memory."""
    assert (await command.answer("/killed", "POST")).ending is Ending.DEAD
    async with asyncio.timeout(30):
        assert await command.worker.ended() == -9
    assert "[ondol] the command ended with status -9\n" in command.lines


async def test_a_command_that_dies_between_two_calls_ends_its_environment_at_once(command):
    assert (await command.get("/die-later"))[2] == b"goodbye"
    async with asyncio.timeout(30):
        assert await command.worker.ended() == 3
    assert "[ondol] the command ended with status 3\n" in command.lines


async def test_a_target_that_is_none_harms_no_other_call(command):
    assert (await command.get("/caf\u00e9"))[0] == 502
    assert (await command.get("/x"))[0] == 200


async def test_a_command_that_ends_at_once_is_a_failure_to_load(tmp_path):
    async with function(tmp_path, "", "exit 7", "command") as made:
        assert (await made.answer("/")).ending is Ending.INIT_ERROR
