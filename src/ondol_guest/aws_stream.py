"""Answers that stream, in the AWS contract: a handler that is a generator, called by someone who takes an answer as it comes.

Lambda's own Python runtime cannot stream: there, a handler that returns a generator fails with Runtime.MarshalError, and so it
does here wherever an answer is wanted whole. Frames: docs/explain/streaming.md.
"""

import sys

from ondol_guest import aws, frames
from ondol_guest.web_stream import Stream

CONTENT_TYPE_HEAD = "application/vnd.awslambda.http-integration-response"
#: Behind the head of an answer that has one.
DELIMITER = b"\0" * 8
#: The node takes no larger meta than 256 KiB.
DETAILS_BYTES_MAX = 200_000


def answer(guest, invocation, generator, request):
    """Send what `generator` yields, chunk by chunk as the node takes it."""
    error = details = None
    out = _Out(guest, invocation)
    try:
        for item in generator:
            out.send(item)
    except aws.Fault as fault:
        error = aws.make_error(fault.message, fault.kind, fault.trace, request)
    except Exception:
        error = aws.error_of(*sys.exc_info(), request)
    finally:
        generator.close()
    if error is not None:
        guest.sink.log_failure(error, guest.encode)
        details = guest.encode(error)
        if not out.begun:
            guest.answer(invocation, details, frames.ERROR)
            return
        if len(details) > DETAILS_BYTES_MAX:
            short = error["errorMessage"][: DETAILS_BYTES_MAX // 8]
            details = guest.encode(aws.make_error(short, error["errorType"], [], request))
    out.end(error, details)


class _Out:
    """One answer on its way."""

    def __init__(self, guest, invocation):
        self._guest = guest
        self._stream = Stream(guest.wire, invocation, b"", False)
        self.begun = False

    def send(self, item):
        """Wait until the node takes the item, and send it. The first may be the answer's head. Raises Fault."""
        meta = b"{}"
        if isinstance(item, str):
            data = item.encode()
        elif isinstance(item, (bytes, bytearray, memoryview)):
            data = bytes(item)
        elif isinstance(item, dict) and not self.begun:
            meta = b'{"content_type":"%s"}' % CONTENT_TYPE_HEAD.encode()
            data = self._guest.marshal(item) + DELIMITER
        else:
            message = "Unable to marshal response: a streamed answer is made of bytes and str, not of %s"
            if isinstance(item, dict):
                message += " (which may only come first, as its head)"
            raise aws.Fault("Runtime.MarshalError", message % type(item).__name__)
        invocation, wire = self._stream.invocation, self._guest.wire
        if not self.begun:
            self.begun = True
            wire.send_meta(frames.RESULT, invocation, meta, data[: frames.CHUNK_BYTES], frames.MORE)
            data = data[frames.CHUNK_BYTES :]
        for at in range(0, len(data), frames.CHUNK_BYTES):
            piece = data[at : at + frames.CHUNK_BYTES]
            self._stream.spend(len(piece))
            wire.send(frames.BODY, invocation, piece)

    def end(self, error, details):
        """The generator is through."""
        invocation, wire = self._stream.invocation, self._guest.wire
        if not self.begun:
            wire.send_meta(frames.RESULT, invocation, b"{}", b"", frames.MORE)
        flags, meta = 0, b"{}"
        if error is not None:
            flags = frames.ERROR
            meta = self._guest.encode({"error_type": error["errorType"], "error": details.decode()})
        last = frames.pack(frames.BODY, invocation, b"", frames.LAST | flags)
        wire.send_parts(last, frames.pack(frames.END, invocation, meta, flags))
