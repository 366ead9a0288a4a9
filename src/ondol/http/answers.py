"""What a connection answers in an application's place, and the small steps of a streamed answer."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from collections.abc import AsyncIterator

from ondol.http.messages import Request, Response
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


async def close(chunks: AsyncIterator[bytes]) -> None:
    """Ends a generator whose chunks nobody takes any more."""
    close = getattr(chunks, "aclose", None)
    if close is None:
        return
    try:
        await close()
    except Exception:
        log.exception("a response's generator failed while it was closed")
