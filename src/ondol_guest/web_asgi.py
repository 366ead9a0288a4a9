"""ASGI 3 for the web guest: the wire in an asyncio loop, one request at a time, with lifespan where the application has it."""

import asyncio
import json
import os
import socket
import sys
import traceback
from urllib.parse import unquote

from ondol_guest import frames
from ondol_guest.guest import Gone
from ondol_guest.web_stream import finish, split_host


async def serve_asgi(wire, application):
    """Answer calls until the wire closes."""
    line = AsyncWire(wire)
    lifespan = Lifespan(application)
    if not await lifespan.startup():
        wire.send_meta(frames.INIT_FAILED, 0, {"type": "Lifespan", "message": lifespan.failure})
        raise SystemExit(1)
    wire.ready()
    while True:
        try:
            kind, flags, invocation, payload = await line.receive()
        except Gone:
            kind = frames.STOP
        if kind == frames.STOP:
            await lifespan.shutdown()
            return
        if kind == frames.CALL:
            await Call(line, invocation, flags, payload, lifespan.state).run(application)


class AsyncWire:
    """The wire's frames, received without blocking the loop. Sending may block: the node always reads."""

    def __init__(self, wire):
        self._socket = socket.socket(fileno=os.dup(wire.fd))
        self.wire = wire
        self._reader = frames.FrameReader()
        self._frames = []
        self._loop = asyncio.get_running_loop()

    async def receive(self):
        while not self._frames:
            data = await self._read()
            if not data:
                raise Gone
            self._frames.extend(self._reader.feed(data))
        return self._frames.pop(0)

    async def _read(self):
        """Wait until there is something, then read it; the socket itself stays blocking, for senders."""
        readable = self._loop.create_future()
        self._loop.add_reader(self._socket.fileno(), _settle, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(self._socket.fileno())
        return self._socket.recv(256 * 1024)


def _settle(future):
    if not future.done():
        future.set_result(None)


class Call:
    """One http scope: `receive` and `send` of the application, as frames."""

    def __init__(self, line, invocation, flags, payload, state):
        meta, body = frames.split_meta(payload)
        self._line = line
        self._invocation = invocation
        self._scope = scope_of(json.loads(meta), state)
        self._waiting = [body]
        self._more = bool(flags & frames.MORE)
        self._credit = frames.CREDIT_BYTES
        self._head = None
        self._told = False  # the whole body was handed over
        self._begun = False
        self._done = False
        self._reading = asyncio.Lock()
        self._gone = asyncio.Event()

    async def run(self, application):
        try:
            await application(self._scope, self.receive, self.send)
            if not self._done:
                raise RuntimeError("the application returned without a whole response")
        except Gone:
            raise
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            self._fail()
        while self._more:
            await self._take()

    async def receive(self):
        if self._told or self._done:
            # An application that waits here waits for a hang-up. The node tells of none: what was started is finished.
            await self._gone.wait()
            return {"type": "http.disconnect"}
        while not self._waiting and self._more:
            await self._take()
        body = self._waiting.pop(0) if self._waiting else b""
        more = bool(self._waiting) or self._more
        self._told = not more
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(self, message):
        if self._done:
            return  # a task that outlives its request: what it says has no place any more
        if message["type"] == "http.response.start":
            self._head = {
                "status": message["status"],
                "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in message.get("headers", ())],
            }
        elif message["type"] == "http.response.body":
            await self._body(bytes(message.get("body", b"")), message.get("more_body", False))

    async def _body(self, body, more):
        if self._head is None:
            raise RuntimeError("http.response.body before http.response.start")
        if not self._begun and not more and len(body) <= frames.CREDIT_BYTES:
            self._begun = self._done = True
            self._result(self._head, body)
            self._gone.set()
            return
        if not self._begun:
            self._begun = True
            self._result(self._head, b"", frames.MORE)
        for at in range(0, len(body), frames.CHUNK_BYTES):
            chunk = body[at : at + frames.CHUNK_BYTES]
            while self._credit < len(chunk):
                await self._take()
            self._credit -= len(chunk)
            self._line.wire.send(frames.BODY, self._invocation, chunk)
            await asyncio.sleep(0)
        if not more:
            self._done = True
            self._gone.set()
            finish(self._line.wire, self._invocation)

    def _fail(self):
        if self._done:
            return
        self._done = True
        self._gone.set()
        if not self._begun:
            meta = {"status": 500, "headers": [["content-type", "text/plain; charset=utf-8"]]}
            self._result(meta, b"Internal Server Error")
        else:
            finish(self._line.wire, self._invocation, cut=True)

    def _result(self, meta, body, flags=0):
        self._line.wire.send_meta(frames.RESULT, self._invocation, meta, body, flags)

    async def _take(self):
        """One frame of this call. Applications may read and write from two tasks: one of them takes at a time."""
        had = len(self._waiting), self._credit, self._more
        async with self._reading:
            if had != (len(self._waiting), self._credit, self._more):
                return
            kind, flags, invocation, payload = await self._line.receive()
            if invocation != self._invocation:
                return
            if kind == frames.CREDIT:
                self._credit += int.from_bytes(payload, "little")
            elif kind == frames.BODY:
                if payload:
                    self._waiting.append(payload)
                    self._line.wire.send(frames.CREDIT, invocation, len(payload).to_bytes(4, "little"))
                if flags & frames.LAST:
                    self._more = False


class Lifespan:
    """Startup and shutdown events, for applications that take them."""

    def __init__(self, application):
        self._application = application
        self._to = asyncio.Queue()
        self._from = asyncio.Queue()
        self._task = None
        self.state = {}
        self.failure = ""

    async def startup(self):
        """False when the application says that it failed; True when it started or knows no lifespan."""
        self._task = asyncio.ensure_future(self._run())
        await self._to.put({"type": "lifespan.startup"})
        message = await self._from.get()
        if message["type"] == "lifespan.startup.failed":
            self.failure = message.get("message", "")
            return False
        return True

    async def shutdown(self):
        if self._task is not None and not self._task.done():
            await self._to.put({"type": "lifespan.shutdown"})
            await self._from.get()

    async def _run(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._application(scope, self._to.get, self._from.put)
        except Exception as error:  # no lifespan: that is how applications say so
            self.failure = repr(error)
        await self._from.put({"type": "lifespan.none"})


def scope_of(request, state):
    """The http scope of a request."""
    headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in request.get("headers", ())]
    host, port = split_host(dict(request.get("headers", ())).get("host", "localhost"))
    client, client_port = split_host(request.get("client", ""))
    raw = request.get("path", "/")
    root = request.get("root", "")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request["method"],
        "scheme": request.get("scheme", "http"),
        "path": root + unquote(raw),
        "raw_path": (root + raw).encode("latin-1"),
        "root_path": root,
        "query_string": request.get("query", "").encode("latin-1"),
        "headers": headers,
        "client": (client, int(client_port)) if client_port.isdigit() else None,
        "server": (host, int(port) if port.isdigit() else 80),
        "state": dict(state),
        "extensions": {"ondol": {"request_id": request.get("id", "")}},
    }
