"""What all guests of the web contract share: the streams of one call, how a response ends, what a Host says."""

from ondol_guest import frames


class Stream:
    """Both bodies of one call: reading gives credit back, writing waits for it."""

    def __init__(self, wire, invocation, body, more):
        self.wire = wire
        self.invocation = invocation
        self.waiting = [body] if body else []
        self.more = more
        self.credit = frames.CREDIT_BYTES

    def chunk(self):
        """The next piece of the request's body; b"" at its end."""
        while not self.waiting and self.more:
            self._take()
        return self.waiting.pop(0) if self.waiting else b""

    def spend(self, size):
        """Wait until `size` bytes of the response may be sent."""
        while self.credit < size:
            self._take()
        self.credit -= size

    def drop(self):
        """Read what the application left unread, so that the next frame is the next call."""
        self.waiting = []
        while self.more:
            self._take()
            self.waiting = []

    def _take(self):
        kind, flags, invocation, payload = self.wire.recv()
        if invocation != self.invocation:
            return
        if kind == frames.CREDIT:
            self.credit += int.from_bytes(payload, "little")
        elif kind == frames.BODY:
            if payload:
                self.waiting.append(payload)
                self.wire.send(frames.CREDIT, invocation, len(payload).to_bytes(4, "little"))
            if flags & frames.LAST:
                self.more = False


def finish(wire, invocation, cut=False):
    """End a streamed response; `cut` when it is not whole."""
    wire.send_parts(ending(invocation, cut))


def ending(invocation, cut):
    """The frames that end a streamed response."""
    flags = frames.ERROR if cut else 0
    last = frames.pack(frames.BODY, invocation, b"", frames.LAST | flags)
    return last + frames.pack(frames.END, invocation, b'{"cut":true}' if cut else b"{}", flags)


def split_host(text):
    """(host, port or "") of "host", "host:port" or "[address]:port"."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port[1:]
    host, _, port = text.partition(":")
    return host, port
