"""The log store's port. A group is named by the contract; a stream is one environment's part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ondol.model.invocations import LogEvent


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one stream, in order."""

    account: str
    region: str
    group: str
    stream: str
    events: Sequence[LogEvent]


@dataclass(frozen=True, slots=True)
class Group:
    """A log group: first write and bytes kept."""

    name: str
    created_ms: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A log stream: first write, first and last event, last ingestion."""

    name: str
    created_ms: int
    first_ms: int
    last_ms: int
    ingested_ms: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as kept. `id` orders events of a group totally and never changes."""

    id: str
    stream: str
    at_ms: int
    ingested_ms: int
    message: str


class Journal(Protocol):
    """Append-only. `account` and `region` are part of every key. Raises NotFound('log group' | 'log stream')."""

    async def append(self, batches: Sequence[Batch]) -> None: ...

    async def groups(
        self, account: str, region: str, *, prefix: str = "", after: str = "", limit: int = 50
    ) -> Sequence[Group]: ...

    async def streams(self, account: str, region: str, group: str, *, prefix: str = "") -> Sequence[Stream]: ...

    async def entries(
        self,
        account: str,
        region: str,
        group: str,
        *,
        streams: Sequence[str] | None = None,
        start_ms: int = 0,
        end_ms: int | None = None,
        terms: Sequence[str] = (),
        after: str = "",
        before: str = "",
        newest_first: bool = False,
        limit: int = 10_000,
    ) -> Sequence[Entry]:
        """Entries with start_ms <= at_ms < end_ms that contain every term (case-sensitive), in time order.

        `after` and `before` are entry ids (exclusive bounds, for paging).
        """
        ...

    async def drop(self, account: str, region: str, group: str) -> None:
        """Remove a group and its streams; no error when absent."""
        ...

    async def close(self) -> None: ...
