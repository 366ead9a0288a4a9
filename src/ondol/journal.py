"""The log store's ports. A group is named by the contract or a client; a stream is one writer's part of it.

Three, by who calls: `Journal` writes and reads lines, `LogGroups` keeps groups and their settings, `LiveLogs` tells of lines as
they are kept. One implementation has them all (`LogStore`). `account` and `region` are part of every key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """What a group's owner decided about it."""

    #: Lines older than this are removed; None: as long as the journal keeps anything.
    retention_days: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """A log group: when it was made, the bytes it takes on disk, and its settings."""

    name: str
    created_ms: int
    stored_bytes: int
    settings: GroupSettings = GroupSettings()


@dataclass(frozen=True, slots=True)
class Stream:
    """A log stream: when it was made, its first and last event and the last ingestion; None while it has no event."""

    name: str
    created_ms: int
    first_ms: int | None
    last_ms: int | None
    ingested_ms: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as kept. `id` orders events of a group totally and never changes."""

    id: str
    stream: str
    at_ms: int
    ingested_ms: int
    message: str


class Journal(Protocol):
    """Append-only. Raises NotFound('log group' | 'log stream')."""

    async def append(self, batches: Sequence[Batch]) -> None:
        """Keep the lines; groups and streams that are not there are made. Raises OutOfSpace, Unavailable."""
        ...

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

    async def close(self) -> None: ...


class LogGroups(Protocol):
    """Groups as things of their own. Raises NotFound, AlreadyExists, OutOfSpace, Unavailable; on disk when it returns."""

    async def create(self, account: str, region: str, group: str, settings: GroupSettings) -> None:
        """An empty group. Raises Invalid when there are as many as may be."""
        ...

    async def create_stream(self, account: str, region: str, group: str, stream: str) -> None:
        """An empty stream. Raises Invalid when the group has as many as it may."""
        ...

    async def configure(
        self, account: str, region: str, group: str, change: Callable[[GroupSettings], GroupSettings]
    ) -> GroupSettings:
        """The group's settings, changed; `change` runs on another thread, alone."""
        ...

    async def drop(self, account: str, region: str, group: str) -> None:
        """Remove a group and its streams; no error when absent."""
        ...

    async def drop_stream(self, account: str, region: str, group: str, stream: str) -> None:
        """Remove a stream: its lines are not shown any more, and leave the disk with those around them."""
        ...


class Follower(Protocol):
    """Lines as they come. Bounded: what nobody takes in time is dropped and counted."""

    async def take(self, events_max: int) -> tuple[Sequence[Batch], int]:
        """What came since the last time, at most `events_max` events, and how many more were dropped. Does not wait."""
        ...

    def close(self) -> None: ...


class LiveLogs(Protocol):
    """Telling of lines as they are kept."""

    def follow(self, account: str, region: str, groups: Collection[str]) -> Follower:
        """From now on. Close it. Raises Throttled when too many follow already."""
        ...


class LogStore(Journal, LogGroups, LiveLogs, Protocol):
    """All that there is to logs."""
