"""InvokeWithResponseStream: a function's answer as framed events, each chunk as it comes, and one that says how it ended."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from ondol.dialects.aws.codec_events import CONTENT_TYPE, message
from ondol.model.invocations import Outcome, Status

_CHUNK: Final = {
    ":message-type": "event", ":event-type": "PayloadChunk", ":content-type": "application/octet-stream",
}  # fmt: skip
_COMPLETE: Final = {
    ":message-type": "event", ":event-type": "InvokeComplete", ":content-type": "application/json",
}  # fmt: skip
#: What a client may have to read at once.
CHUNK_BYTES_MAX: Final = 128 * 1024

__all__ = ["CONTENT_TYPE", "framed"]


async def framed(outcome: Outcome, *, tail: bool) -> AsyncIterator[bytes]:
    """The body of the answer. What a function failed with is told in the last event alone."""
    body = outcome.body
    try:
        if outcome.status is not Status.OK:
            details = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
            yield _complete(outcome, tail, details)
            return
        if isinstance(body, bytes):
            for at in range(0, len(body), CHUNK_BYTES_MAX):
                yield message(_CHUNK, body[at : at + CHUNK_BYTES_MAX])
        else:
            async for chunk in body:
                yield message(_CHUNK, chunk)
        yield _complete(outcome, tail, None)
    finally:
        if not isinstance(body, bytes):
            await body.aclose()  # type: ignore[attr-defined]  # every stream of the pool has it


def _complete(outcome: Outcome, tail: bool, details: bytes | None) -> bytes:
    said = {}
    if details is not None:
        said = {"ErrorCode": "Unhandled", "ErrorDetails": details.decode("utf-8", "replace")}
    if tail:
        said["LogResult"] = base64.b64encode(outcome.tail).decode()
    return message(_COMPLETE, msgspec.json.encode(said))
