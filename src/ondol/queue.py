"""The durable queue port (decision 2): what was accepted is delivered at least once, or ends with its reason.

`Queue` is what the dispatcher needs of it, `Events` what the owners of the calls do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """One accepted call waiting for its turn."""

    id: str  #: the invocation's id; the same on all attempts
    account: str
    region: str
    function: str
    #: The function's name when the call was accepted: what its owner finds the call by when the function is gone.
    name: str = ""
    qualifier: str | None
    payload: bytes
    context: dict[str, Any]
    accepted_s: float  #: wall time
    visible_s: float  #: wall time from which it may be claimed
    attempts: int = 0  #: how often the function was tried
    refusals: int = 0  #: how often in a row the platform could not run it
    chain: int = 0  #: how many outcomes of other deferred calls led to this one
    error: str = ""  #: what the last attempt said


def share(free: int, held: int) -> int:
    """How many calls a function that has `held` under way may be given of `free` slots: as many as leave as many free.

    So one function alone gets half of all slots, ten share ten elevenths evenly, and a function that has nothing under way
    finds a free slot however long the others' calls take.
    """
    return max((free - held + 1) // 2, 0)


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

    async def enqueue(self, items: Sequence[Deferred]) -> None:
        """All or none. What is waiting already (the same id) is the same call and is not accepted twice."""
        ...

    async def claim(
        self,
        now_s: float,
        *,
        limit: int,
        lease_s: float,
        held: Mapping[str, int] | None = None,
        caps: Mapping[str, int] | None = None,
    ) -> Sequence[Deferred]:
        """The oldest visible items, fair between functions; hidden from others until the lease ends.

        `held` (calls under way by function): nobody gets more than its `share` of `limit`. `caps`: the most that may be under
        way of a function.
        """
        ...

    async def ack(self, ids: Sequence[str], then: Sequence[Deferred] = ()) -> bool:
        """They have ended. In the same transaction `then` is accepted, if any of them was still there; whether one was."""
        ...

    async def retry(self, id: str, *, visible_s: float, counted: bool, error: str = "") -> None:  # noqa: A002  # the field's name
        """Make it visible again at `visible_s`; a `counted` attempt was the function's, any other is the platform's refusal."""
        ...

    async def dead(
        self,
        id: str,  # noqa: A002  # the field's name
        reason: str,
        *,
        now_s: float,
        counted: bool = False,
        error: str = "",
    ) -> None:
        """Give up; kept where its owner finds it. `counted`: after one more attempt. `error`: what that said, if anything."""
        ...

    async def next_visible_s(self, after_s: float) -> float | None:
        """When the next waiting item that is not visible at `after_s` becomes so; None when there is none."""
        ...

    async def close(self) -> None: ...


class State(Enum):
    """Where a deferred call is."""

    WAITING = "waiting"  #: for its turn, or for its next try
    RUNNING = "running"  #: claimed
    DEAD = "dead"  #: given up, and kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A deferred call as its owner sees it. In listings `call.payload` is empty."""

    call: Deferred
    state: State
    #: Grows in the order of acceptance, or of ending: where a listing goes on.
    position: int
    payload_bytes: int
    reason: str = ""  #: why it was given up
    ended_s: float = 0.0  #: wall time


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """Whose events: an account's in a region, of all functions or of one."""

    account: str
    region: str
    #: The function's name; what waits is found by the id that the name has now.
    name: str | None = None
    function: str | None = None


class Events(Protocol):
    """What owners see of the queue, and may do to it."""

    async def listed(self, owned: Owned, state: State, *, after: int, limit: int) -> Sequence[Event]:
        """In order of `position`, greater than `after`."""
        ...

    async def found(self, owned: Owned, id: str) -> Event:  # noqa: A002  # the field's name
        """One with its payload. Raises NotFound."""
        ...

    async def replay(self, owned: Owned, id: str, now_s: float) -> None:  # noqa: A002  # the field's name
        """A dead call waits again, as if it was accepted now. Raises NotFound, Busy (not dead), Throttled."""
        ...

    async def remove(self, owned: Owned, id: str) -> None:  # noqa: A002  # the field's name
        """Raises NotFound, and Busy for what runs."""
        ...

    async def purge(self, owned: Owned, state: State) -> int:
        """Remove all that are dead, or wait; how many."""
        ...
