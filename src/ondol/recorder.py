"""The port for the records of invocations: kept for a while, found by function, outcome, time and id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ondol.model.invocations import Status
from ondol.model.records import Record


@dataclass(frozen=True, slots=True)
class Kept:
    """A record and its place: larger places were written later."""

    place: int
    record: Record


class Recorder(Protocol):
    """Bounded by count and age. `account` and `region` are part of every key."""

    def add(self, records: Sequence[Record]) -> int:
        """Take records; never blocks, never raises. How many could not be kept."""
        ...

    async def find(
        self,
        account: str,
        region: str,
        *,
        function: str | None = None,
        invocation: str | None = None,
        status: Status | None = None,
        failed: bool | None = None,
        since_ms: int = 0,
        until_ms: int | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[Kept]:
        """Records to which all that is given applies, newest first; since_ms <= started_ms < until_ms.

        `function` is an opaque id. `failed`: True for every status but OK, False for OK alone. `before`: the place of the last
        one seen, to go on from there. At most `limit`, and no more than the store answers at once: fewer mean nothing, only
        none is the end. Raises Unavailable.
        """
        ...

    async def close(self) -> None:
        """What was added is kept first."""
        ...
