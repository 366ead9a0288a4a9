"""ASGI 3 for the web guest: the wire in an asyncio loop, one request at a time, with lifespan where the application has it."""

import asyncio
import json
import sys
import traceback
from urllib.parse import unquote

from ondol_guest import frames


async def serve_asgi(wire, application, ready):
    """Answer calls until the wire closes."""
    line = AsyncWire(wire)
    lifespan = Lifespan(application)
    if not await lifespan.startup():
        await line.send(frames.pack_meta(frames.INIT_FAILED, 0, {"type": "Lifespan", "message": lifespan.failure}))
        return 1
    await line.send(ready)
    while True:
        frame = await line.receive()
        if frame is None or frame[0] == frames.STOP:
            await lifespan.shutdown()
            return 0
        kind, flags, invocation, payload = frame
        if kind == frames.CALL:
            await Call(line, invocation, flags, payload, lifespan.state).run(application)


class AsyncWire:
    """The wire's frames without blocking the loop."""

    def __init__(self, wire):
        self._socket = wire.detach()
        self._socket.setblocking(False)
        self._reader = frames.FrameReader()
        self._frames = []
        self._loop = asyncio.get_running_loop()

    async def receive(self):
        while not self._frames:
            data = await self._loop.sock_recv(self._socket, 256 * 1024)
            if not data:
                return None
            self._frames.extend(self._reader.feed(data))
        return self._frames.pop(0)

    async def send(self, data):
        await self._loop.sock_sendall(self._socket, data)


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
        self._begun = False
        self._done = False
        self._before = frames.pack(frames.STARTED, invocation)
        self._reading = asyncio.Lock()
        self._gone = asyncio.Event()

    async def run(self, application):
        try:
            await application(self._scope, self.receive, self.send)
            if not self._done:
                raise RuntimeError("the application returned without a whole response")
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            await self._fail()
        while self._more:
            await self._take()

    async def receive(self):
        while not self._waiting and self._more:
            await self._take()
        if self._waiting or not self._done:
            if not self._waiting and self._begun:
                # the body is over and the response under way: an application that waits here waits for a hang-up, and
                # the node tells of none
                await self._gone.wait()
            body = self._waiting.pop(0) if self._waiting else b""
            return {"type": "http.request", "body": body, "more_body": bool(self._waiting) or self._more}
        return {"type": "http.disconnect"}

    async def send(self, message):
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
            await self._write(frames.pack_meta(frames.RESULT, self._invocation, self._head, body))
            self._gone.set()
            return
        if not self._begun:
            self._begun = True
            await self._write(frames.pack_meta(frames.RESULT, self._invocation, self._head, b"", frames.MORE))
        for at in range(0, len(body), frames.CHUNK_BYTES):
            chunk = body[at : at + frames.CHUNK_BYTES]
            while self._credit < len(chunk):
                await self._take()
            self._credit -= len(chunk)
            await self._write(frames.pack(frames.BODY, self._invocation, chunk))
        if not more:
            self._done = True
            self._gone.set()
            await self._end(0, b"{}")

    async def _fail(self):
        if self._done:
            return
        self._done = True
        self._gone.set()
        if not self._begun:
            meta = {"status": 500, "headers": [["content-type", "text/plain; charset=utf-8"]]}
            await self._write(frames.pack_meta(frames.RESULT, self._invocation, meta, b"Internal Server Error"))
        else:
            await self._end(frames.ERROR, b'{"cut":true}')

    async def _end(self, flags, meta):
        last = frames.pack(frames.BODY, self._invocation, b"", frames.LAST | flags)
        await self._write(last + frames.pack(frames.END, self._invocation, meta, flags))

    async def _write(self, data):
        before, self._before = self._before, b""
        await self._line.send(before + data)

    async def _take(self):
        """One frame of this call. Applications may read and write from two tasks: one of them takes at a time."""
        had = len(self._waiting), self._credit, self._more
        async with self._reading:
            if had != (len(self._waiting), self._credit, self._more):
                return
            frame = await self._line.receive()
            if frame is None:
                raise SystemExit(0)
            kind, flags, invocation, payload = frame
            if invocation != self._invocation:
                return
            if kind == frames.CREDIT:
                self._credit += int.from_bytes(payload, "little")
            elif kind == frames.BODY:
                if payload:
                    self._waiting.append(payload)
                    await self._line.send(frames.pack(frames.CREDIT, invocation, len(payload).to_bytes(4, "little")))
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
        except BaseException:  # no lifespan: that is how applications say so
            pass
        await self._from.put({"type": "lifespan.none"})


def scope_of(request, state):
    """The http scope of a request."""
    headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in request.get("headers", ())]
    host, _, port = dict(request.get("headers", ())).get("host", "localhost").partition(":")
    client, _, client_port = request.get("client", "").rpartition(":")
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
