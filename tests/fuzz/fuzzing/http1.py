"""The HTTP server's reading of bytes against h11's: where both take a request, they must have read the same one."""

from __future__ import annotations

import asyncio

import h11

from ondol.http.connection import Connection
from ondol.http.limits import HttpLimits
from ondol.http.messages import Response
from ondol.http.server import Server

from fuzzing.drawing import Draw, pieces

#: One for all inputs: making a loop costs more than reading a request.
LOOP = asyncio.new_event_loop()


class Wire(asyncio.Transport):
    """A transport without a socket."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.closed = False

    def get_extra_info(self, name, default=None):
        return default

    def write(self, data):
        self.written += data

    def get_write_buffer_size(self):
        return 0

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.closed = True

    def close(self):
        self.closed = True

    abort = close

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def ours(pieces):
    """What the server reads from these pieces: the requests, and whether it closed the connection by itself."""

    async def read():
        seen = []

        async def app(request):
            body = await request.body.read(1 << 20)
            seen.append((request.method, request.target, body))
            return Response(200, (), b"")

        server = Server(app, HttpLimits())
        connection = Connection(server)
        wire = Wire()
        connection.connection_made(wire)
        for piece in pieces:
            connection.data_received(piece)
            for _ in range(3):
                await asyncio.sleep(0)
        for _ in range(60):
            await asyncio.sleep(0)
        closed = wire.closed
        if not connection.eof_received():
            wire.close()
        connection.connection_lost(None)
        for _ in range(10):
            await asyncio.sleep(0)
        assert wire.written.count(b"HTTP/1.1 ") >= len(seen)
        return seen, closed

    return LOOP.run_until_complete(read())


def theirs(data):
    """What h11 reads: the requests, and its complaint."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17)
    connection.receive_data(data)
    seen = []
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                seen.append((request.method.decode(), request.target.decode("latin-1"), body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return seen, "closed"
                connection.start_next_cycle()
            else:
                return seen, ""
    except h11.RemoteProtocolError as error:
        return seen, str(error)


def tolerated(complaint):
    """Whether h11 minds only how a request line is written. See the module."""
    return complaint.startswith(("illegal request line", "no request line"))


#: What an attacker writes where it does not belong.
POISON = [
    b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b"0", b"\x0b", b"\x7f", b"\xff", b"\r\n ", b"\n\n", b"\r\n\r\n",
    b"Content-Length: 5\r\n", b"Content-Length : 5\r\n", b"content-length: 0\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: 0x5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: x, chunked\r\n", b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding: chunked\n",
    b"Host: evil\r\n", b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n", b"+", b"-", b"_", b";a=b", b" HTTP/1.1", b"HTTP/1.0",
]  # fmt: skip

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /a?b=c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
    b"GET / HTTP/1.0\r\n\r\n",
]
TOKENS = [
    *POISON,
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def one(data):
    """The last byte says how the rest is cut."""
    draw = Draw(data[-1:] * 8)
    data = data[:-1]
    expected, complaint = theirs(data)
    seen, _ = ours(pieces(data, draw))
    common = min(len(seen), len(expected))
    assert seen[:common] == expected[:common], (seen, expected)
    if len(seen) > len(expected):
        assert tolerated(complaint), (complaint, seen)
