"""A client that writes a request in pieces is not kept waiting for an acknowledgement."""

import asyncio
import socket

import pytest

from ondol.http.connection import Connection
from ondol.http.messages import Response
from ondol.http.server import Server

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"


class Sock:
    """Remembers what was asked of it."""

    def __init__(self, family=socket.AF_INET, gone=False):
        self.family = family
        self.gone = gone
        self.asked = []

    def setsockopt(self, level, option, value):
        self.asked.append((level, option, value))
        if self.gone:
            raise OSError("no such connection")


class Client(asyncio.Transport):
    """A client's end."""

    def __init__(self, sock):
        super().__init__({"socket": sock, "peername": ("127.0.0.1", 1)})
        self.written = b""

    def write(self, data):
        self.written += bytes(data)

    def get_write_buffer_size(self):
        return 0

    def is_closing(self):
        return False

    def abort(self):
        pass

    close = pause_reading = resume_reading = abort


async def told(sock, *pieces):
    """What a connection answers that read these."""
    bodies = []

    async def app(request):
        bodies.append(await request.body.read(100))
        return Response(200, [], b"done")

    server = Server(app)
    connection, client = Connection(server), Client(sock)
    connection.connection_made(client)
    for piece in pieces:
        connection.data_received(piece)
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while b"done" not in client.written:
            await asyncio.sleep(0)
    connection.connection_lost(None)
    return bodies


QUICK = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_each_piece_but_the_last_is_acknowledged_at_once(family, both_ways):
    sock = Sock(family)
    assert await told(sock, HEAD[:20], HEAD[20:], b"ab", b"cd") == [b"abcd"]
    assert sock.asked == [QUICK] * 3


async def test_a_request_in_one_piece_costs_no_system_call(both_ways):
    sock = Sock()
    assert await told(sock, HEAD + b"abcd") == [b"abcd"]
    assert sock.asked == []


async def test_a_socket_of_another_kind_is_left_alone(both_ways):
    sock = Sock(socket.AF_UNIX)
    assert await told(sock, HEAD, b"abcd") == [b"abcd"]
    assert sock.asked == []


async def test_a_connection_that_is_gone_is_no_failure(both_ways):
    assert await told(Sock(gone=True), HEAD, b"abcd") == [b"abcd"]
