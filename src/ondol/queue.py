"""The durable queue port (decision 2): what was accepted is delivered at least once, or ends with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """One accepted call waiting for its turn."""

    id: str  #: the invocation's id; the same on all attempts
    account: str
    region: str
    function: str
    qualifier: str | None
    payload: bytes
    context: dict[str, Any]
    accepted_s: float  #: wall time
    visible_s: float  #: wall time from which it may be claimed
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class QueueSize:
    """What a queue holds."""

    #: Accepted and not over: those that run too.
    waiting: int
    waiting_bytes: int
    #: Given up, and kept.
    dead: int


class Queue(Protocol):
    """Methods return when the change is on disk. Raises OutOfSpace and, over its bound, Throttled."""

    async def enqueue(self, items: Sequence[Deferred]) -> None: ...

    async def claim(self, now_s: float, *, limit: int, lease_s: float) -> Sequence[Deferred]:
        """The oldest visible items, fair between functions; hidden from others until the lease ends."""
        ...

    async def ack(self, ids: Sequence[str]) -> None: ...

    async def retry(self, id: str, *, visible_s: float, counted: bool) -> None:  # noqa: A002  # the field's name
        """Make it visible again at `visible_s`; `counted` attempts use up the function's retries."""
        ...

    async def dead(self, id: str, reason: str) -> None:  # noqa: A002  # the field's name
        """Give up; kept where its owner can find it."""
        ...

    async def next_visible_s(self) -> float | None:
        """When the earliest waiting item becomes visible; None when nothing waits."""
        ...

    async def close(self) -> None: ...
