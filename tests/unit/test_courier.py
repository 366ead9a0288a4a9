"""The courier against what may listen, or not, on an environment's loopback."""

import json
import socket
import threading

import pytest

from ondol_guest import courier, frames


class Wire:
    """Remembers what was sent."""

    def __init__(self):
        self.sent = []

    def send_meta(self, kind, invocation, meta, body=b"", flags=0):
        self.sent.append((kind, invocation, bool(flags & frames.ERROR)))


def listening(answer, *, connections=1):
    """(port, what came) of a server that calls `answer` with each connection, having read a whole request."""
    listener = socket.create_server((courier.LOOPBACK, 0))
    came = []

    def serve():
        for _ in range(connections):
            connection, _ = listener.accept()
            with connection:
                data = b""
                while b"]" not in data and (more := connection.recv(65536)):
                    data += more
                came.append(data)
                answer(connection)
        listener.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], came


def carried(port, protocol="HTTP", body=b"[1]"):
    wire = Wire()
    courier.carry(wire, 7, {"protocol": protocol, "port": port, "path": "/x", "method": "POST"}, body)
    ((kind, invocation, failed),) = wire.sent
    assert (kind, invocation) == (frames.RESULT, 7)
    return not failed


def saying(*pieces):
    def answer(connection):
        for piece in pieces:
            connection.sendall(piece)

    return answer


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        (saying(b"HTTP/1.1 200 OK\r\n\r\n"), True),
        (saying(b"HTTP/1.0 20", b"4 No Content\r\n\r\n"), True),
        (saying(b"HTTP/1.1 500 No\r\n\r\n"), False),
        (saying(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n"), False),
        (saying(b"SSH-2.0-200\r\n"), False),
        (saying(b"HTTP/1.1\n"), False),
        (saying(), False),
        (saying(b"\0" * 8192), False),
    ],
    ids=["ok", "in pieces", "refused", "redirected", "another protocol", "no status", "nothing", "without end"],
)
def test_a_batch_is_taken_when_a_server_says_so(answer, taken):
    port, came = listening(answer)
    assert carried(port) is taken
    head, _, body = came[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\nHost: sandbox.localdomain:")
    assert body == b"[1]"


def test_nobody_listens():
    with socket.create_server((courier.LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    assert not carried(port)
    assert not carried(port, "TCP")


def test_who_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(courier, "DELIVERY_S_MAX", 0.2)
    held = threading.Event()
    port, _ = listening(lambda connection: held.wait(20))
    assert not carried(port)
    held.set()


def test_who_answers_byte_by_byte_is_given_up_too(monkeypatch):
    monkeypatch.setattr(courier, "DELIVERY_S_MAX", 0.3)
    held = threading.Event()

    def dribble(connection):
        while not held.wait(0.02):
            try:
                connection.sendall(b"H")
            except OSError:
                return

    port, _ = listening(dribble)
    assert not carried(port)
    held.set()


def test_lines_use_one_connection_as_long_as_it_holds():
    listener = socket.create_server((courier.LOOPBACK, 0))
    port = listener.getsockname()[1]
    assert carried(port, "TCP", b"1\n")
    assert carried(port, "TCP", b"2\n")
    connection, _ = listener.accept()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert connection.recv(64) in (b"1\n2\n", b"1\n")
    courier.KEPT.pop(port).close()
    connection.close()
    listener.close()


def test_it_serves_calls_until_the_node_goes():
    port, came = listening(saying(b"HTTP/1.1 200 OK\r\n\r\n"))
    done = threading.Event()

    class Served(Wire):
        fd = -1

        def __init__(self):
            super().__init__()
            meta = json.dumps({"protocol": "HTTP", "port": port, "path": "/", "method": "PUT"}).encode()
            call = len(meta).to_bytes(4, "little") + meta + b"[2]"
            self.frames = [(frames.CALL, 0, 1, call), (frames.CREDIT, 0, 1, b""), (frames.STOP, 0, 0, b"")]

        def ready(self):
            pass

        def recv(self):
            if len(self.frames) == 1:
                assert done.wait(20)
            return self.frames.pop(0)

        def send_meta(self, *words, **more):
            super().send_meta(*words, **more)
            done.set()

    wire = Served()
    assert courier.serve(wire, {}) == 0
    assert wire.sent == [(frames.RESULT, 1, False)]
    assert came[0].startswith(b"PUT / ")
