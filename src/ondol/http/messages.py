"""Requests and responses as the server and the dialects share them. Knows nothing of functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol


class Body(Protocol):
    """A request's body: read it once, whole or in chunks."""

    async def read(self, bytes_max: int) -> bytes:
        """All of it. Raises BodyTooLarge beyond `bytes_max` (declared or actual) and Disconnected."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """As it comes, with backpressure. Raises Disconnected."""
        ...

    @property
    def buffered(self) -> bytes | None:
        """The whole body when it is already here (small bodies are), else None."""
        ...

    @property
    def trailers(self) -> Sequence[tuple[str, str]]:
        """What followed a chunked body, as `Request.headers` are; complete once the body is."""
        ...


class BodyTooLarge(Exception):  # noqa: N818  # a name that reads well where it is caught
    """The body is longer than the caller of `read` allows."""

    def __init__(self, bytes_max: int, actual_bytes: int) -> None:
        super().__init__(f"body of {actual_bytes} bytes or more, at most {bytes_max} are allowed")
        self.bytes_max = bytes_max
        self.actual_bytes = actual_bytes


class Disconnected(Exception):  # noqa: N818  # a name that reads well where it is caught
    """The client went away before its body was whole."""


class Request:
    """One request. `headers` are lower-case names and values as sent (latin-1 text), in order."""

    __slots__ = ("_index", "body", "headers", "left", "method", "path", "peer", "query", "target")

    def __init__(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: Body,
        peer: str = "",
        *,
        index: dict[str, str] | None = None,
    ) -> None:
        """`index`: all values by name, where they are known already and no name comes twice."""
        self.method = method
        #: As sent: path and query, percent-encoding untouched.
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body
        #: "host:port" of the client, or "" on a unix socket.
        self.peer = peer
        self._index = index
        #: Set by who answers much later, if ever: called once when the client goes away before that, or closes its sending
        #: half. No answer is taken then, and the connection ends.
        self.left: Callable[[], None] | None = None

    def header(self, name: str, default: str = "") -> str:
        """The value of the lower-case `name`; several are joined with ', '."""
        return (self._index or self.index()).get(name, default)

    def index(self) -> dict[str, str]:
        """All values by name, made once. Read only."""
        if self._index is None:
            self._index = index = dict(self.headers)
            if len(index) != len(self.headers):
                index.clear()
                for key, value in self.headers:
                    index[key] = f"{index[key]}, {value}" if key in index else value
        return self._index


class Response:
    """One response. The server adds Content-Length or chunked framing, Date and Connection by itself.

    A body in chunks may come with a `content-length` of its own, which is then kept and checked. Its iterator is
    closed in every case (`aclose`); when the client goes away, what it awaits at that moment is cancelled first.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | AsyncIterator[bytes] = b"",
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body


#: Takes the one response to a request, now or later; one that comes when nobody waits any more is dropped.
Reply = Callable[[Response], None]
#: What of an application answers without a coroutine: whether it took the request, and will call the reply.
Prompt = Callable[[Request, Reply], bool]


class Application(Protocol):
    """What a server serves."""

    async def __call__(self, request: Request) -> Response: ...
