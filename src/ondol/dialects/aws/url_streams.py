"""Function URLs with InvokeMode RESPONSE_STREAM: the response that a function's answer means, and its body as it comes.

An answer of the content type PRELUDE begins with a head: a JSON object with statusCode, headers and cookies, eight NUL bytes,
then the body. Any other answer is the body of a 200, with the content type that the function set; that of a handler that
answers at once, too, whatever it looks like: in this mode nothing reads a `statusCode` out of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from ondol.dialects.aws import url_events
from ondol.http.messages import Response
from ondol.model.errors import Unavailable
from ondol.model.invocations import Outcome, Status

PRELUDE: Final = "application/vnd.awslambda.http-integration-response"
DELIMITER: Final = bytes(8)
#: A head that goes on for longer is none.
HEAD_BYTES_MAX: Final = 64 * 1024
_OCTETS: Final = "application/octet-stream"


async def answered(outcome: Outcome) -> Response:
    """The response to send. Raises `url_events.Malformed` when the function failed, or its head is none; it is let go."""
    if outcome.status is not Status.OK:
        await drop(outcome)
        raise url_events.Malformed
    said, body = str(outcome.head.get("content_type", "")), outcome.body
    if said != PRELUDE:
        usual = url_events.JSON_TYPE if isinstance(body, bytes) else _OCTETS
        kind = said if said and url_events.is_value(said) else usual
        return Response(200, [("Content-Type", kind)], body if isinstance(body, bytes) else _Body(outcome, body, b""))
    try:
        head, first = await _head(_once(body) if isinstance(body, bytes) else body)
        made = url_events.headed(head)
    except (url_events.Malformed, Unavailable):
        await drop(outcome)
        raise url_events.Malformed from None
    made.body = first if isinstance(body, bytes) else _Body(outcome, body, first)
    return made


async def drop(outcome: Outcome) -> None:
    """Nobody reads this answer."""
    if not isinstance(outcome.body, bytes):
        await outcome.body.aclose()  # type: ignore[attr-defined]  # every stream of the pool has it


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _head(body: AsyncIterator[bytes]) -> tuple[object, bytes]:
    """The head, and what came of the body with it. Raises Malformed, Unavailable."""
    gathered = bytearray()
    async for chunk in body:
        looked_at = max(len(gathered) - len(DELIMITER), 0)
        gathered += chunk
        at = gathered.find(DELIMITER, looked_at)
        if at > HEAD_BYTES_MAX or (at < 0 and len(gathered) > HEAD_BYTES_MAX):
            raise url_events.Malformed
        if at >= 0:
            try:
                return msgspec.json.decode(gathered[:at]), bytes(gathered[at + len(DELIMITER) :])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise url_events.Malformed from None
    raise url_events.Malformed


class _Body(AsyncIterator[bytes]):
    """What is left of an answer. A function that failed in mid-stream ends it, as on AWS; what the platform cut is cut off."""

    def __init__(self, outcome: Outcome, body: AsyncIterator[bytes], first: bytes) -> None:
        self._outcome = outcome
        self._body = body
        self._first = first

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        try:
            return await anext(self._body)
        except Unavailable:
            ended = self._outcome if self._outcome.end is None else await self._outcome.end
            if ended.status is Status.FAILED:
                raise StopAsyncIteration from None
            raise

    async def aclose(self) -> None:
        await drop(self._outcome)
