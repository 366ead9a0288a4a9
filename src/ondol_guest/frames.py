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

import json
import struct

VERSION = 1
HEADER = struct.Struct("<BBHIQ")
HEADER_BYTES = HEADER.size
META = struct.Struct("<I")

# node -> guest
INIT = 1  #: JSON: see guest.py; sent once, first
CALL = 2  #: meta + body (or its first chunk, with MORE)
STOP = 3  #: leave when idle
# both ways
BODY = 4  #: a chunk of a streamed body; flag LAST ends it
CREDIT = 5  #: u32: the receiver took so many bytes of BODY
# guest -> node
READY = 16  #: JSON {"init_ms": float}: the handler is loaded
STARTED = 17  #: the handler is about to be called; sent in front of, and together with, the call's first other frame
RESULT = 18  #: meta + body; flag ERROR for the function's own failure; MORE when BODY frames follow
END = 19  #: JSON; closes a RESULT with MORE, after the BODY frame with LAST
INIT_FAILED = 20  #: meta + body: loading the handler failed; the guest exits afterwards

# flags
MORE = 1
LAST = 2
ERROR = 4

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


class BrokenFrame(Exception):
    """The peer sent bytes that are no frame of this version; the connection cannot go on."""


def pack(kind, invocation=0, payload=b"", flags=0):
    """One frame as bytes."""
    return HEADER.pack(VERSION, kind, flags, len(payload), invocation) + payload


def pack_meta(kind, invocation, meta, body=b"", flags=0):
    """One frame with a meta object (JSON bytes, or anything json.dumps takes) and a body."""
    if not isinstance(meta, bytes):
        meta = json.dumps(meta, separators=(",", ":")).encode()
    length = 4 + len(meta) + len(body)
    return b"".join((HEADER.pack(VERSION, kind, flags, length, invocation), META.pack(len(meta)), meta, body))


def split_meta(payload):
    """(meta bytes, body) of a CALL, RESULT or INIT_FAILED payload. Raises BrokenFrame."""
    if len(payload) < 4:
        raise BrokenFrame("a frame with meta is at least 4 bytes long")
    size = META.unpack_from(payload)[0]
    if size > len(payload) - 4:
        raise BrokenFrame("meta of %d bytes in a frame of %d" % (size, len(payload)))
    return payload[4 : 4 + size], payload[4 + size :]


def unpack_header(data, at=0):
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

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        buffer = self._buffer
        buffer += data
        frames = []
        at, end = 0, len(buffer)
        while end - at >= HEADER_BYTES:
            kind, flags, length, invocation = unpack_header(buffer, at)
            stop = at + HEADER_BYTES + length
            if stop > end:
                break
            frames.append((kind, flags, invocation, bytes(buffer[at + HEADER_BYTES : stop])))
            at = stop
        if at:
            del buffer[:at]
        return frames
