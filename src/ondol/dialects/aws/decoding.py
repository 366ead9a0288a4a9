"""Large requests decoded elsewhere: `codec.decode` as a job of plain data in and out, for a helper process.

A ServiceError is an answer like any other there: it comes back as one here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from ondol.dialects.aws import codec
from ondol.dialects.aws.service import ServiceError

#: What the helper must be able to do.
JOBS: Final = {"aws.decode": "ondol.dialects.aws.decoding:job"}


def job(service: str, method: str, target: str, headers: list[list[str]], body: bytes) -> dict[str, Any]:
    """The helper's half."""
    try:
        call = codec.decode(service, method, target, [(name, value) for name, value in headers], body)
    except ServiceError as error:
        return {"refused": [error.code, error.message, error.status, dict(error.extra), error.message_key]}
    return {"call": [call.service, call.protocol, call.operation, call.params]}


def decoding(ask: Callable[..., Awaitable[Any]]) -> Callable[[str, str, str, codec.Headers, bytes], Awaitable[codec.Call]]:
    """The node's half: `codec.decode` by asking the helper. Raises ServiceError."""

    async def decode(service: str, method: str, target: str, headers: codec.Headers, body: bytes) -> codec.Call:
        answer = await ask(
            "aws.decode", service=service, method=method, target=target, headers=[list(pair) for pair in headers], body=body
        )
        if "refused" in answer:
            code, message, status, extra, message_key = answer["refused"]
            raise ServiceError(code, message, status=status, extra=extra, message_key=message_key)
        return codec.Call(*answer["call"])

    return decode
