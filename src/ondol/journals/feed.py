"""Those who follow the journal live: each has a bounded line of batches, and what does not fit is counted, not waited for.

On the loop only. Appending costs nothing while nobody follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import replace

from ondol.journal import Batch
from ondol.journals.group import JournalLimits
from ondol.model.errors import Throttled


class Feed:
    """All of them."""

    def __init__(self, limits: JournalLimits) -> None:
        self._limits = limits
        self._lines: set[Line] = set()

    def offer(self, batches: Sequence[Batch]) -> None:
        """Lines that have been kept."""
        for line in self._lines:
            line.offer(batches)

    def follow(self, account: str, region: str, groups: Collection[str]) -> Line:
        if len(self._lines) >= self._limits.followers_max:
            raise Throttled("line")
        line = Line(self._limits, (account, region), frozenset(groups), self._lines)
        self._lines.add(line)
        return line


class Line:
    """What waits for one follower: `ondol.journal.Follower`."""

    def __init__(self, limits: JournalLimits, home: tuple[str, str], groups: frozenset[str], lines: set[Line]) -> None:
        self._limits = limits
        self._home = home
        self._groups = groups
        self._lines = lines
        self._waiting: deque[Batch] = deque()
        self._events = 0
        self._bytes = 0
        self._dropped = 0

    def offer(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if batch.group not in self._groups or (batch.account, batch.region) != self._home:
                continue
            size = sum(len(event.message) for event in batch.events)
            events = self._events + len(batch.events)
            if events > self._limits.follower_events_max or self._bytes + size > self._limits.follower_bytes_max:
                self._dropped += len(batch.events)
                continue
            self._waiting.append(batch)
            self._events, self._bytes = events, self._bytes + size

    async def take(self, events_max: int) -> tuple[Sequence[Batch], int]:
        taken: list[Batch] = []
        left = events_max
        while self._waiting and left:
            batch = self._waiting.popleft()
            if len(batch.events) > left:
                self._waiting.appendleft(replace(batch, events=batch.events[left:]))
                batch = replace(batch, events=batch.events[:left])
            left -= len(batch.events)
            self._events -= len(batch.events)
            self._bytes -= sum(len(event.message) for event in batch.events)
            taken.append(batch)
        dropped, self._dropped = self._dropped, 0
        return taken, dropped

    def close(self) -> None:
        self._lines.discard(self)
        self._waiting.clear()
