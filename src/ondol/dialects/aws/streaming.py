"""InvokeWithResponseStream: a function's answer as framed events, each chunk as it comes, and one that says how it ended.

A failure before the first byte has the code "Unhandled", as Invoke's header has; one in mid-stream has the error's type, which
is what AWS forwards of it.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from ondol.dialects.aws.codec_events import CONTENT_TYPE, message
from ondol.model.errors import Unavailable
from ondol.model.invocations import Outcome, Status

_CHUNK: Final = {
    ":message-type": "event", ":event-type": "PayloadChunk", ":content-type": "application/octet-stream",
}  # fmt: skip
_COMPLETE: Final = {
    ":message-type": "event", ":event-type": "InvokeComplete", ":content-type": "application/json",
}  # fmt: skip
#: What a client may have to read at once.
CHUNK_BYTES_MAX: Final = 128 * 1024
UNHANDLED: Final = "Unhandled"

__all__ = ["CONTENT_TYPE", "framed"]


async def framed(outcome: Outcome, *, tail: bool) -> AsyncIterator[bytes]:
    """The body of the answer. What a function failed with is told in the last event alone."""
    body = outcome.body
    try:
        if isinstance(body, bytes):
            if outcome.status is Status.OK:
                for at in range(0, len(body), CHUNK_BYTES_MAX):
                    yield message(_CHUNK, body[at : at + CHUNK_BYTES_MAX])
            yield _complete(outcome, tail, UNHANDLED)
            return
        try:
            async for chunk in body:
                yield message(_CHUNK, chunk)
        except Unavailable:
            if outcome.end is None:
                raise
        ended = outcome if outcome.end is None else await outcome.end
        yield _complete(ended, tail, str(ended.head.get("error_type", UNHANDLED)))
    finally:
        if not isinstance(body, bytes):
            await body.aclose()  # type: ignore[attr-defined]  # every stream of the pool has it


def _complete(outcome: Outcome, tail: bool, code: str) -> bytes:
    said = {}
    if outcome.status is not Status.OK:
        details = outcome.body if isinstance(outcome.body, bytes) else b""
        said = {"ErrorCode": code, "ErrorDetails": details.decode("utf-8", "replace")}
    if tail:
        said["LogResult"] = base64.b64encode(outcome.tail).decode()
    return message(_COMPLETE, msgspec.json.encode(said))
