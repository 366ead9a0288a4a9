"""Event streams (`application/vnd.amazon.eventstream`): an operation's answer that goes on, one framed message per event. Pure.

A message: its length and that of its headers, a checksum of both; headers (name, type 7 for text, value); the payload; a
checksum of all before it. The JSON protocols put the answer's other members into a first message, `initial-response`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Protocol

from ondol.dialects.aws import codec_json
from ondol.dialects.aws.shapes import Member, Shape

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

_PRELUDE: Final = struct.Struct(">II")
_CRC: Final = struct.Struct(">I")
_TEXT: Final = 7


def stream_of(output: Shape | None) -> Member | None:
    """The member of an answer that is an event stream, if it has one."""
    if output is None:
        return None
    return next((member for member in output.members.values() if member.shape.traits.get("eventstream")), None)


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One framed message."""
    head = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _TEXT, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = _PRELUDE.pack(_PRELUDE.size + _CRC.size + len(head) + len(payload) + _CRC.size, len(head))
    framed = prelude + _CRC.pack(zlib.crc32(prelude)) + head + payload
    return framed + _CRC.pack(zlib.crc32(framed))


class Events(Protocol):
    """What a handler gives for an event stream: (member's name, its value), one after the other."""

    async def __anext__(self) -> tuple[str, Mapping[str, Any]]: ...

    async def aclose(self) -> None: ...


class Framed:
    """The body of an answer: `events`, framed. Closed in any case, it closes them."""

    def __init__(self, stream: Member, rest: bytes, events: Events, content_type: str) -> None:
        self._stream = stream.shape
        self._first: bytes | None = message(
            {":message-type": "event", ":event-type": "initial-response", ":content-type": content_type}, rest
        )
        self._events = events
        self._content_type = content_type

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        if first is not None:
            return first
        name, value = await self._events.__anext__()
        return self._message(name, value)

    async def aclose(self) -> None:
        await self._events.aclose()

    def _message(self, name: str, value: Mapping[str, Any]) -> bytes:
        shape = self._stream.members[name].shape
        kind = "exception" if shape.traits.get("exception") else "event"
        headers = {":message-type": kind, f":{kind}-type": name, ":content-type": self._content_type}
        return message(headers, codec_json.encode(codec_json.write_structure(shape, value)))
