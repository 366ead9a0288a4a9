"""What a connection answers in an application's place, and the small steps of a streamed answer."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial

from ondol.http.bodies import EMPTY
from ondol.http.exchange import Exchange
from ondol.http.messages import Prompt, Request, Response
from ondol.http.rendering import refusal

log = logging.getLogger("ondol.http")

#: Chunks up to this are joined with their framing into one write.
_JOINED_BYTES_MAX = 64 * 1024


def failure(request: Request) -> Response:
    """500 for an exception being handled, which goes to the log under the same id."""
    request_id = str(uuid.uuid4())
    log.error("request %s failed: %s %s", request_id, request.method, request.path, exc_info=sys.exception())
    sentence = "the server failed on this request; its log has the reason under this request id"
    response = refusal(500, sentence, request_id=request_id)
    response.headers = [*response.headers, ("x-request-id", request_id)]
    return response


def write_chunk(transport: asyncio.WriteTransport, chunk: bytes, *, chunked: bool) -> None:
    """One piece of a streamed body, framed where it must be."""
    if not chunked:
        transport.write(chunk)
    elif len(chunk) <= _JOINED_BYTES_MAX:
        transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    else:
        transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))


def refusing(status: int, sentence: str) -> Exchange:
    """In the place of a request that was none, with the server's own answer; the connection ends behind it."""
    exchange = Exchange(Request("GET", "/", (), EMPTY), http10=False)
    exchange.keep_alive = False
    exchange.answer = refusal(status, sentence)
    if status == 426:
        exchange.answer.headers = [*exchange.answer.headers, ("upgrade", "HTTP/1.1")]
    return exchange


def not_understood(data: bytes, error: Exception, *, http2: bool) -> tuple[int, str]:
    """Status and sentence for bytes that are not HTTP/1.1."""
    if http2:
        return 505, "this port speaks HTTP/1.1; tell the client not to assume HTTP/2"
    if data[:2] == b"\x16\x03":
        return 400, "this port speaks plain HTTP; use http:// instead of https://"
    return 400, f"this is not a valid HTTP/1.1 request: {error}"


def prompted(prompt: Prompt | None, exchange: Exchange, reply: Callable[[Exchange, Response], None]) -> bool:
    """Whether `prompt` took the request. One that fails has: with a failure for an answer."""
    if prompt is None or exchange.stream is not None:
        return False
    try:
        exchange.prompted = prompt(exchange.request, partial(reply, exchange))
    except Exception:
        exchange.prompted = True
        reply(exchange, failure(exchange.request))
    return exchange.prompted


async def close(chunks: AsyncIterator[bytes]) -> None:
    """Ends a generator whose chunks nobody takes any more."""
    close = getattr(chunks, "aclose", None)
    if close is None:
        return
    try:
        await close()
    except Exception:
        log.exception("a response's generator failed while it was closed")
