"""Request bodies: one that is whole before the application is called, and one that arrives while it runs.

Knows nothing of sockets: `Stream` tells its connection through two callables when it is first read and when something
was taken. Invariant: `fill_bytes` is what has arrived and was not taken yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from ondol.http.messages import BodyTooLarge, Disconnected


class Whole:
    """A body that is already here."""

    __slots__ = ("buffered",)
    trailers: Sequence[tuple[str, str]] = ()

    def __init__(self, data: bytes) -> None:
        self.buffered: bytes | None = data

    async def read(self, bytes_max: int) -> bytes:
        data = self.buffered or b""
        if len(data) > bytes_max:
            raise BodyTooLarge(bytes_max, len(data))
        return data

    async def chunks(self) -> AsyncIterator[bytes]:
        if self.buffered:
            yield self.buffered


EMPTY = Whole(b"")


class Stream:
    """A body in flight: the connection feeds it, one reader takes from it."""

    __slots__ = (
        "_chunks",
        "_on_read",
        "_on_taken",
        "_waiter",
        "complete",
        "declared_bytes",
        "discarding",
        "fill_bytes",
        "lost",
        "taken_bytes",
        "trailers",
    )

    def __init__(self, declared_bytes: int | None, on_read: Callable[[], None], on_taken: Callable[[], None]) -> None:
        #: Content-Length, or None for a chunked body.
        self.declared_bytes = declared_bytes
        self.fill_bytes = 0
        self.taken_bytes = 0
        #: Nobody will read it: what arrives is thrown away.
        self.discarding = False
        self.complete = False
        #: What came behind the last chunk.
        self.trailers: list[tuple[str, str]] = []
        #: Why the rest will never come, or "".
        self.lost = ""
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._on_read = on_read
        self._on_taken = on_taken

    @property
    def buffered(self) -> bytes | None:
        """Never here as a whole: small bodies of known length do not become streams."""
        return None

    @property
    def waiting(self) -> bool:
        """Whether a reader waits for bytes right now."""
        return self._waiter is not None

    def feed(self, data: bytes) -> None:
        """Bytes arrived."""
        if self.discarding:
            return
        self._chunks.append(data)
        self.fill_bytes += len(data)
        self._wake()

    def end(self, lost: str = "") -> None:
        """No more will come: it is complete, or `lost` says why it never will be."""
        if not self.complete and not self.lost:
            self.lost = lost
            self.complete = not lost
        self._wake()

    def take_all(self) -> bytes:
        """What has arrived, at once: for a body that turned out to be whole before anybody read it."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self.taken_bytes += self.fill_bytes
        self.fill_bytes = 0
        return data

    def discard(self) -> None:
        """The reader is gone; make room for what still arrives."""
        self.discarding = True
        self._chunks.clear()
        self.fill_bytes = 0

    async def read(self, bytes_max: int) -> bytes:
        """All of it, joined once."""
        if self.declared_bytes is not None and self.declared_bytes > bytes_max:
            raise BodyTooLarge(bytes_max, self.declared_bytes)
        parts: list[bytes] = []
        total_bytes = 0
        async for chunk in self.chunks():
            total_bytes += len(chunk)
            if total_bytes > bytes_max:
                raise BodyTooLarge(bytes_max, total_bytes)
            parts.append(chunk)
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """As it comes. One reader at a time."""
        self._on_read()
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self.fill_bytes -= len(chunk)
                self.taken_bytes += len(chunk)
                self._on_taken()
                yield chunk
            if self.complete:
                return
            if self.lost:
                raise Disconnected(self.lost)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
