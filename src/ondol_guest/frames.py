"""The framed messages between the node and a guest: one definition, used on both sides.

A guest has two lines to the node, made by the zygote that forks it:

* the **wire**, a stream socket pair that carries the frames below, both ways;
* the **log pipe**, its file descriptors 1 and 2: whatever the function, or a program it starts, writes there.
  Raw bytes become one event per line; a record that must stay one event (a log record with newlines) is written
  as a log frame in the same pipe, so that the order of everything written is kept.

A wire frame is a 16 byte little-endian header and `length` bytes::

    u8 version | u8 kind | u16 flags | u32 length | u64 invocation

`invocation` is a number the node chooses, 0 for frames about the environment itself. Frames that carry a meta
object and a body (CALL, RESULT, INIT_FAILED) lay them out as ``u32 meta length | meta (JSON) | body``.

Streams: a CALL or RESULT with MORE is continued by BODY frames; the last one carries LAST (and may be empty). A sender
starts with CREDIT_BYTES of credit per direction and stops when it has none; each CREDIT frame adds bytes.
"""

from __future__ import annotations

import json
import struct

VERSION = 1
HEADER = struct.Struct("<BBHIQ")
HEADER_BYTES = HEADER.size
META = struct.Struct("<I")
#: A header and the length of the meta object behind it.
HEADER_META = struct.Struct("<BBHIQI")

# node -> guest
INIT = 1  #: JSON: see guest.py; sent once, first
CALL = 2  #: meta + body (or its first chunk, with MORE)
STOP = 3  #: leave when idle
ATTACHED = 6  #: what an INIT with "waits" waits for: the code is there
# both ways
BODY = 4  #: a chunk of a streamed body; flag LAST ends it
CREDIT = 5  #: u32: the receiver took so many bytes of BODY
# guest -> node
READY = 16  #: JSON {"init_ms": float}: the handler is loaded
RESULT = 18  #: meta + body; flag ERROR for the function's own failure; MORE when BODY frames follow
END = 19  #: JSON; closes a RESULT with MORE, after the BODY frame with LAST; flag ERROR: see ondol.runtime
INIT_FAILED = 20  #: meta + body: loading the handler failed; the guest exits afterwards

# flags
MORE = 1
LAST = 2
ERROR = 4
#: In a CALL's flags, above the others: the CPU, plus one, on which the guest is to wait for the next call; 0 is anywhere.
CPU_SHIFT = 4
CPU_MAX = 0xFFF - 1

#: A frame longer than this is a broken peer. One 6 MiB synchronous response and its meta must fit.
FRAME_BYTES_MAX = 8 * 1024 * 1024
#: Credit that each side has per stream before the first CREDIT frame.
CREDIT_BYTES = 256 * 1024
#: The largest chunk put into one BODY frame.
CHUNK_BYTES = 64 * 1024

#: A log frame in the log pipe, big-endian: u32 LOG_MAGIC | u32 length | u64 microseconds since the epoch | text.
#: 0xa5 starts no UTF-8 sequence, so that text cannot be taken for a frame. (awslambdaric's form, [V] aws-lambda.md 3.2.)
LOG_HEADER = struct.Struct(">IIQ")
LOG_MAGIC = 0xA55A0003
LOG_MAGIC_BYTES = LOG_MAGIC.to_bytes(4, "big")
#: A log frame without text: the handler is loaded, what follows belongs to calls. Written just before READY is sent.
LOG_MARK = 0xA55A00FF
#: The last byte of the magic is a type (text or JSON, and a level); a reader takes all of them.
LOG_PREFIX = LOG_MAGIC_BYTES[:3]
#: A log frame that claims more is taken for text that happens to hold the prefix.
LOG_FRAME_BYTES_MAX = 64 * 1024 * 1024


class BrokenFrame(Exception):  # noqa: N818  # what came, not what to call it
    """The peer sent bytes that are no frame of this version; the connection cannot go on."""


def pack(kind: int, invocation: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    """One frame as bytes."""
    return HEADER.pack(VERSION, kind, flags, len(payload), invocation) + payload


def pack_meta(kind: int, invocation: int, meta: object, body: bytes = b"", flags: int = 0) -> bytes:
    """One frame with a meta object (JSON bytes, or anything json.dumps takes) and a body."""
    if not isinstance(meta, bytes):
        meta = json.dumps(meta, separators=(",", ":")).encode()
    size = len(meta)
    return b"".join((HEADER_META.pack(VERSION, kind, flags, 4 + size + len(body), invocation, size), meta, body))


def split_meta(payload: bytes) -> tuple[bytes, bytes]:
    """(meta bytes, body) of a CALL, RESULT or INIT_FAILED payload. Raises BrokenFrame."""
    if len(payload) < 4:
        raise BrokenFrame("a frame with meta is at least 4 bytes long")
    size = META.unpack_from(payload)[0]
    if size > len(payload) - 4:
        raise BrokenFrame("meta of %d bytes in a frame of %d" % (size, len(payload)))
    return payload[4 : 4 + size], payload[4 + size :]


def unpack_header(data: bytes | bytearray, at: int = 0) -> tuple[int, int, int, int]:
    """(kind, flags, length, invocation) of the 16 bytes at `at`. Raises BrokenFrame."""
    version, kind, flags, length, invocation = HEADER.unpack_from(data, at)
    if version != VERSION:
        raise BrokenFrame("frame version %d, expected %d" % (version, VERSION))
    if length > FRAME_BYTES_MAX:
        raise BrokenFrame("frame of %d bytes, at most %d are allowed" % (length, FRAME_BYTES_MAX))
    return kind, flags, length, invocation


class FrameReader:
    """Bytes in, frames out; keeps what is not yet whole. `feed` returns a list of (kind, flags, invocation, payload)."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def holds_bytes(self) -> bool:
        """Whether something is left that is no whole frame."""
        return bool(self._buffer)

    def feed(self, data: bytes | bytearray) -> list[tuple[int, int, int, bytes]]:
        buffer = self._buffer
        if buffer:
            buffer += data
            data = buffer
        frames = []
        at, end = 0, len(data)
        while end - at >= HEADER_BYTES:
            kind, flags, length, invocation = unpack_header(data, at)
            stop = at + HEADER_BYTES + length
            if stop > end:
                break
            frames.append((kind, flags, invocation, bytes(data[at + HEADER_BYTES : stop])))
            at = stop
        if data is buffer:
            if at:
                del buffer[:at]
        elif at < end:  # whole frames in one piece, the usual case, never touch the buffer
            buffer += data[at:]
        return frames


class LogReader:
    """Bytes of a log pipe in, events out: (text, milliseconds since the epoch or None for "now"); text None is LOG_MARK.

    Raw bytes give one event per line, its newline included, so that the events joined are what was written (CRLF becomes a
    newline, what is no UTF-8 is replaced). A log frame gives one event, whatever it holds. Nothing is kept beyond
    `event_bytes_max`: longer lines and records are cut into pieces of that size, between characters.
    """

    __slots__ = ("_at_ms", "_buffer", "_event_bytes_max", "_frame_left", "_plain")

    def __init__(self, event_bytes_max: int) -> None:
        self._buffer = bytearray()
        self._event_bytes_max = event_bytes_max
        self._frame_left = 0  # bytes of a log frame's text still to be made events of
        self._at_ms: int | None = None  # that frame's time
        self._plain = 0  # bytes at the buffer's start known to be text though they look like a frame

    @property
    def holds_bytes(self) -> bool:
        """Whether something is left that is no whole event."""
        return bool(self._buffer) or self._frame_left > 0

    def feed(self, data: bytes) -> list[tuple[str | None, int | None]]:
        """The events that are whole now."""
        buffer = self._buffer
        buffer += data
        events: list[tuple[str | None, int | None]] = []
        prefix = 0  # where the next log frame may begin; behind the end when there is none
        while buffer:
            if self._frame_left:
                if not self._feed_frame(events):
                    break
                prefix = 0
                continue
            end = len(buffer)
            if prefix <= 0:
                prefix = buffer.find(LOG_PREFIX, self._plain)
                prefix = end if prefix < 0 else prefix
            if prefix == 0:
                if end < LOG_HEADER.size:
                    break
                self._open_frame(events)
                continue
            stop = buffer.find(b"\n", 0, prefix) + 1
            if not stop and prefix < end:
                stop = prefix  # a line without its end, and a frame behind it
            if not stop or stop > self._event_bytes_max:
                if end < self._event_bytes_max:
                    break
                stop = _cut(buffer, self._event_bytes_max)
            self._take(stop, events)
            prefix -= stop
        return events

    def flush(self) -> list[tuple[str | None, int | None]]:
        """What is left, for when the writer is gone or its call is over: an unfinished line is an event too."""
        events: list[tuple[str | None, int | None]] = []
        if self._buffer and not self._frame_left:
            self._take(len(self._buffer), events)
        elif self._buffer:
            self._frame_left = len(self._buffer)
            self._feed_frame(events)
        self._frame_left = 0  # a frame that promised more than came takes nothing of what is written next
        return events

    def _open_frame(self, events: list[tuple[str | None, int | None]]) -> None:
        kind, length, at_us = LOG_HEADER.unpack_from(self._buffer)
        if length > LOG_FRAME_BYTES_MAX:
            self._plain = len(LOG_PREFIX)
            return
        del self._buffer[: LOG_HEADER.size]
        self._frame_left = length
        self._at_ms = at_us // 1000
        if not length:
            events.append((None if kind == LOG_MARK else "", self._at_ms))

    def _feed_frame(self, events: list[tuple[str | None, int | None]]) -> bool:
        """Make an event of the frame's text when there is enough of it; False when more must come."""
        size = min(self._frame_left, self._event_bytes_max)
        if len(self._buffer) < size:
            return False
        if size < self._frame_left:
            size = _cut(self._buffer, size)
        text = self._buffer[:size].decode("utf-8", "replace")
        del self._buffer[:size]
        self._frame_left -= size
        events.append((text, self._at_ms))
        return True

    def _take(self, size: int, events: list[tuple[str | None, int | None]]) -> None:
        line = self._buffer[:size]
        del self._buffer[:size]
        self._plain = 0
        if line.endswith(b"\r\n"):
            line[-2:] = b"\n"
        events.append((line.decode("utf-8", "replace"), None))


def _cut(buffer: bytearray, size: int) -> int:
    """At most `size`, and not inside a UTF-8 sequence."""
    for back in range(min(4, size)):
        if size - back < len(buffer) and buffer[size - back] & 0xC0 != 0x80:
            return size - back
    return size
