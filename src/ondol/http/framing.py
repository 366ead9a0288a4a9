"""How a response stands on the wire behind its exchange's request, and whether the connection goes on after it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from msgspec import Struct

from ondol.http import rendering
from ondol.http.exchange import Exchange
from ondol.http.messages import Response

#: Bodies up to this are joined with their head into one write; longer ones are handed over uncopied.
JOINED_BYTES_MAX = 64 * 1024


class Circumstances(Struct, frozen=True):
    """What a connection's server has to say about every response."""

    draining: bool
    #: Of a body that nobody read, so much is thrown away for the connection's sake.
    discarded_bytes_max: int
    date: str


def whole(exchange: Exchange, response: Response, now: Circumstances) -> Sequence[bytes]:
    """What is written for a response whose body is there. Raises UnsafeHeader; then the exchange is as it was, or ends."""
    method, body = exchange.request.method, cast("bytes", response.body)
    if rendering.wants_close(response):
        exchange.keep_alive = False
    if rendering.bodiless(method, response.status):
        length = rendering.header(response, "content-length") or (str(len(body)) if method == "HEAD" else "")
        framing = f"content-length: {length}\r\n" if length and response.status != 204 else ""
        body = b""
    else:
        framing = f"content-length: {len(body)}\r\n"
    head = rendering.head(response, framing + _connection(exchange, now), now.date)
    exchange.expects = False
    return (head + body,) if len(body) <= JOINED_BYTES_MAX else (head, body)


def stream_head(exchange: Exchange, response: Response, now: Circumstances) -> tuple[bytes, int | None]:
    """The head of a response that comes in chunks, and its body's length, where the application gave one."""
    if rendering.wants_close(response):
        exchange.keep_alive = False
    bodiless = rendering.bodiless(exchange.request.method, response.status)
    framing, length_bytes = rendering.stream_framing(response, http10=exchange.http10, bodiless=bodiless)
    if length_bytes is None and exchange.http10:
        exchange.keep_alive = False
    head = rendering.head(response, framing + _connection(exchange, now), now.date)
    exchange.expects = False
    return head, length_bytes


def _connection(exchange: Exchange, now: Circumstances) -> str:
    """The Connection field, and with it whether another request may follow."""
    if exchange.keep_alive and (now.draining or exchange.leaves_more_than(now.discarded_bytes_max)):
        exchange.keep_alive = False
    if not exchange.keep_alive:
        return "connection: close\r\n"
    return "connection: keep-alive\r\n" if exchange.http10 else ""
