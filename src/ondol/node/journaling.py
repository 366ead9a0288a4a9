"""Keeping what fronts log: their batches go into the journal, and what could not be kept is said where it is missing.

A full disk loses lines, not the node: losses are counted by stream (bounded), and the count is written behind the next lines
that can be kept.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from ondol.clock import Clock
from ondol.journal import Batch, Journal
from ondol.model.errors import OndolError
from ondol.model.invocations import LogEvent
from ondol.node.link import Link

#: Streams whose losses are counted; what others lose beyond that is not.
LOSERS_MAX: Final = 10_000
#: The node's own log says no more often that lines are lost.
WARN_S: Final = 10.0

_Place = tuple[str, str, str, str]

log = logging.getLogger(__name__)


class Journaling:
    """Takes a front's log batches: [account, region, group, stream, [[at_ms, message], …]]."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._lost: dict[_Place, int] = {}
        self._warned_s = float("-inf")

    async def take(self, _link: Link, value: Any) -> None:
        """Never raises: nobody could do anything about it."""
        batches = [
            Batch(account, region, group, stream, [LogEvent(at_ms, message) for at_ms, message in events])
            for account, region, group, stream, events in value
        ]
        try:
            await self._journal.append(batches)
        except OndolError as error:
            self._count(batches, error)
            return
        if self._lost:
            await self._own_up()

    def _count(self, batches: list[Batch], error: OndolError) -> None:
        for batch in batches:
            place = (batch.account, batch.region, batch.group, batch.stream)
            if place in self._lost or len(self._lost) < LOSERS_MAX:
                self._lost[place] = self._lost.get(place, 0) + len(batch.events)
        now_s = self._clock.now_s()
        if now_s - self._warned_s >= WARN_S:
            self._warned_s = now_s
            log.warning("log lines of %d streams could not be kept: %s", len(self._lost), error)

    async def _own_up(self) -> None:
        """Say what was lost: "up to", because a batch that failed for one group may have been kept for another."""
        lost, self._lost = self._lost, {}
        at_ms = int(self._clock.wall_s() * 1000)
        said = [
            Batch(*place, [LogEvent(at_ms, f"[ondol] up to {count} log events could not be kept: the disk refused them\n")])
            for place, count in lost.items()
        ]
        try:
            await self._journal.append(said)
        except OndolError:
            for place, count in self._lost.items():
                lost[place] = lost.get(place, 0) + count
            self._lost = lost
