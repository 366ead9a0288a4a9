"""The accelerator against the Python that it stands in for: what it takes, Python would have taken, and made the same of it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json

from ondol import accelerator
from ondol.accelerator import hot
from ondol.dialects.aws import ids, invoke, sigv4
from ondol.dialects.aws.service import ServiceError
from ondol.http import rendering
from ondol.http.connection import Connection
from ondol.http.messages import Response
from ondol.http.server import Server
from ondol_guest import frames

from fuzzing import sigv4 as signing
from fuzzing.drawing import Draw
from fuzzing.http1 import Wire

MODULE = accelerator.built()
LOOP = asyncio.new_event_loop()

_POST = (
    b"\x00POST /2015-03-31/functions/hello/invocations HTTP/1.1\r\nHost: 127.0.0.1:7979\r\nX-Amz-Date: 20261126T111020Z\r\n"
    b"Authorization: AWS4-HMAC-SHA256 Credential=A/20261126/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, "
    b"Signature=094a\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"
)
SEEDS = [
    _POST,
    b"\x00GET /a?b=c HTTP/1.1\r\nHOST:x\r\nUser-Agent:  a b  \r\nX-Other: 1\r\n\r\n",
    b"\x00POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    *(b"\x01" + seed for seed in signing.SEEDS[:3]),
    b"\x01" + bytes(40),
    b"\x02\xc8Content-Type\0application/json\0X-A\0b\0body",
    b"\x02\xc8Date\0now\0Connection\0close\0",
    b"\x03" + frames.pack_meta(frames.RESULT, 7, b"", b'{"hello": 1}'),
    b"\x03" + frames.pack_meta(frames.RESULT, 1 << 63, b"", b"", frames.ERROR),
    b"\x03" + frames.pack_meta(frames.RESULT, 7, {"too_large": 1}, b"x") + frames.pack(frames.BODY, 1, b"x"),
    b"\x04" + bytes(range(64)),
]
TOKENS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b": ",
        b":",
        b" ",
        b"\t",
        b"\0",
        b"Host: y\r\n",
        b"Content-Length: 1\r\n",
        b"%2F",
        b"//",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Upgrade: h2c\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"#",
        b"?",
    ),
    *(b"HTTP/1.0", b"HTTP/1.1", b"POST ", b"GET ", b"connection", b"date", b"content-length", b"keep-alive", b"\xc3\xa9"),
    *(
        b"Proxy-Connection: close\r\n",
        b"Keep-Alive: 1\r\n",
        b"X: \r\n",
        b"Trailer: x\r\n",
        b"\x12",
        b"\x04\x00",
        b"\xff\xff\xff\xff",
    ),
]


def one(data):
    """The first byte chooses a function, the rest is its input."""
    if MODULE is None:
        return
    was = hot.built
    try:
        (_request, _signature, _response, _result, _ids)[data[0] % 5 if data else 0](data[1:])
    finally:
        hot.use(MODULE if was else None)


def both(work):
    """What comes of `work` in Python, and with the accelerator."""
    found = []
    for module in (None, MODULE):
        hot.use(module)
        found.append(work())
    return found


# A request -----------------------------------------------------------------------------------------------------------------
def read(data):
    """The exchanges that a connection makes of one read, and what it answers by itself."""

    async def reading():
        server, seen, wire = Server(None), [], Wire()
        server.date = "date: now\r\n"
        connection = Connection(server, "peer")
        connection.connection_made(wire)
        launch = connection._launch

        def noted(exchange):
            if exchange.answer is not None:
                return launch(exchange)
            request = exchange.request
            seen.append((request.method, request.target, request.path, request.query, list(request.headers), request.index()))
            seen.append(
                (exchange.keep_alive, exchange.http10, exchange.expects, exchange.upgrade, exchange.answer, request.peer)
            )
            stream = exchange.stream
            seen.append(
                request.body.buffered if stream is None else (stream.declared_bytes, stream.complete, stream.fill_bytes)
            )
            connection._current = exchange
            return None

        connection._launch = noted
        connection.data_received(data)
        return (
            seen,
            wire.written,
            wire.closed,
            connection._deaf,
            connection._in_head,
            connection._incoming is None,
            len(connection._queue),
        )

    return LOOP.run_until_complete(reading())


def _request(data):
    slow, fast = both(lambda: read(data))
    assert slow == fast, (data, slow, fast)


# A signature ---------------------------------------------------------------------------------------------------------------
def claimed(method, target, headers, body, secret):
    """All of a claim and whether it holds, or what is wrong with it."""
    index = dict(headers)
    try:
        claim = sigv4.read(method, target, headers, signing.NOW_S, index if len(index) == len(headers) else None)
        if claim is None:
            return None
        said = json.dumps([getattr(claim, name) for name in claim.__struct_fields__])
        claim.verify_body(secret, body)
        return said, "holds"
    except ServiceError as error:
        return str(error), error.status


def _signature(data):
    draw = Draw(data)
    method, target, headers, body = signing.signed(draw)
    if draw.randint(0, 1):
        at = draw.randint(0, len(headers) - 1)
        name, value = headers[at]
        where = draw.randint(0, len(value))
        headers[at] = (name, value[:where] + draw.choice(("", " ", "  ", "\t", ": ", "x", "\xe9", "온")) + value[where:])
    body = draw.choice((body, body, b"x" * draw.randint(0, 4096)))
    secret = draw.choice((signing.SECRET, signing.SECRET, "other"))
    slow, fast = both(lambda: claimed(method, target, headers, body, secret))
    assert slow == fast, (method, target, headers, slow, fast)


# A response ----------------------------------------------------------------------------------------------------------------
def _response(data):
    status = data[0] * 2 + data[-1] % 2 if data else 200
    *parts, body = data[1:].split(b"\0") if len(data) > 1 else [b""]
    texts = [part.decode("utf-8", "replace") for part in parts]
    headers = list(zip(texts[::2], texts[1::2], strict=False))
    response, method = Response(status, headers, body), "HEAD" if len(data) % 7 == 0 else "POST"
    hot.use(MODULE)
    fast = rendering.whole(method, response, "date: now\r\n")
    if fast is not None:
        assert not rendering.bodiless(method, status) and not rendering.wants_close(response)
        assert fast == rendering.head(response, f"content-length: {len(body)}\r\n", "date: now\r\n") + body, (headers, fast)


# A frame, ids, hashes ------------------------------------------------------------------------------------------------------
def _result(data):
    fast = MODULE.take_result(data)
    if fast is not None:
        reader = frames.FrameReader()
        ((kind, flags, invocation, payload),) = reader.feed(data)
        assert (kind, reader.holds_bytes, flags & frames.MORE) == (frames.RESULT, False, 0)
        assert (flags, invocation, (b"", fast[2])) == (fast[0], fast[1], frames.split_meta(payload)), data


def _ids(data):
    digits = hashlib.sha256(data).hexdigest()
    seconds = int.from_bytes(data[:5], "little") - (1 << 38)
    assert MODULE.uuid_of(digits[:32]) == ids._uuid_of(digits[:32])
    assert MODULE.trace_of(seconds, digits[:48]) in (None, invoke._fresh_trace(seconds, digits[:48]))
    MODULE.uuid_of(data.decode("latin-1")), MODULE.trace_of(seconds, data.decode("latin-1"))
    for anywhere in (True, False):
        MODULE.choose(anywhere)
        assert MODULE.sha256(data) == digits
        states = MODULE.keyed(data[:64])
        text = data.decode("latin-1")
        if text.isascii():
            wanted = f"AWS4-HMAC-SHA256\n{text}\nd/r/s/aws4_request\n{hashlib.sha256((text + digits).encode()).hexdigest()}"
            signature = hmac.digest(data[:64], wanted.encode(), "sha256").hex()
            assert MODULE.holds(states, text, data, text, "d", "r", "s", signature) is True
            assert MODULE.holds(states, text, digits, text, "d", "r", "s", signature) is True
            assert MODULE.holds(states, text, data, text, "d", "r", "s", signature[:-1] + "x") is False
            assert MODULE.holds(states, text, data, text, "d", "r", "s", text) is (text == signature)
