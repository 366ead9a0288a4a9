"""A slot and a crew: what the machine keeps of one environment, and of one revision, or of one tenant's share of it.

Their rules stand in `machine.py`.

Changed in place, not replaced: a warm invocation costs a few microseconds, and ten thousand a second pass here.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from ondol.pool.events import Invocation, SlotId
from ondol.pool.policy import PoolLimits, Scaling, Tempo


class State(Enum):
    """What a slot is doing."""

    STARTING = "starting"  #: asked for, not yet up
    IDLE = "idle"  #: up and running nothing
    BUSY = "busy"  #: running at least one invocation
    STOPPING = "stopping"  #: being ended: its memory counts as free, nothing is given to it


@dataclass(slots=True, eq=False)
class Slot:
    """One environment."""

    id: SlotId
    crew: Crew
    #: When it was last used; until then, when it was asked for.
    used_s: float
    state: State = State.STARTING
    running: set[Invocation] = field(default_factory=set)
    calls: int = 0
    #: When it was asked for, and when its last call began.
    asked_s: float = 0.0
    began_s: float = 0.0
    #: Its first call came along with it, so that it took as long as a cold start takes.
    cold: bool = False
    #: One of those that the crew keeps up; it has loaded when it is up.
    pinned: bool = False
    #: Started before anybody asked, and not known to have loaded.
    ahead: bool = False
    #: Given up for others, or spent: takes nothing more and stops after what it runs.
    leaving: bool = False
    #: It can be frozen; it is.
    freezes: bool = False
    frozen: bool = False


def key_of(revision: str, tenant: str) -> str:
    """By what a crew is found. No revision's id has a line's end in it."""
    return f"{revision}\n{tenant}" if tenant else revision


@dataclass(slots=True, eq=False)
class Crew:
    """The slots and the waiting line of one revision, or of one tenant of a revision that keeps its tenants apart."""

    key: str
    revision: str
    tenant: str
    memory_mib: int
    concurrency: int
    scaling: Scaling
    tempo: Tempo = field(default_factory=Tempo)
    #: Busy slots that are expected to be free soon, and since when they are busy, the longest first.
    prompt: dict[SlotId, float] = field(default_factory=dict)
    #: Up and with room, the one used last at the end: those that are kept up, which are given work first, and the others.
    spare: dict[SlotId, Slot] = field(default_factory=dict)
    free: dict[SlotId, Slot] = field(default_factory=dict)
    coming: dict[SlotId, Slot] = field(default_factory=dict)
    #: Everything but what is stopping.
    slots: int = 0
    #: Who waits, since when, the first at the front.
    line: OrderedDict[Invocation, float] = field(default_factory=OrderedDict)
    #: Failed starts in a row, and until when there is none.
    failures: int = 0
    retry_at_s: float = 0.0
    #: When somebody of the line was last given a slot.
    served_s: float = 0.0
    retired: bool = False
    #: When the revisions that it replaced were last called: its slots that were not called yet stand for theirs.
    called_s: float = -math.inf
    #: How many slots are to be kept up, whether or not they are called, and those that are.
    pins: int = 0
    #: There are never more; None: nobody said so.
    slots_max: int | None = None
    kept: dict[SlotId, Slot] = field(default_factory=dict)
    #: Kept slots in a row that did not load, and until when none is started.
    pin_failures: int = 0
    pin_at_s: float = 0.0

    def warmest(self) -> Slot | None:
        """Who gets the next invocation, if any slot has room."""
        free = self.spare or self.free
        return next(reversed(free.values())) if free else None

    def uncovered(self) -> int:
        """How many wait that no coming slot will take. One that is kept up loads first, which may take long: it takes none."""
        coming = len(self.coming)
        if self.kept:
            coming -= sum(slot.pinned for slot in self.coming.values())
        return len(self.line) - coming * self.concurrency

    @property
    def full(self) -> bool:
        """There are as many slots as there may be."""
        return self.slots_max is not None and self.slots >= self.slots_max

    def unkept(self, now_s: float) -> bool:
        """Whether one more slot is to be started in order to be kept up. After one that did not load, one at a time."""
        if len(self.kept) >= self.pins or self.full:
            return False
        return not self.pin_failures or (self.pin_at_s <= now_s and not any(slot.pinned for slot in self.coming.values()))

    def wanting(self, now_s: float, limits: PoolLimits) -> bool:
        """Whether one more start is due for those who wait: it takes less time than waiting for what is up, or coming.

        Where several calls run in a slot, and before there is a history: whenever somebody waits that no coming slot covers.
        """
        if self.full:
            return False
        uncovered = self.uncovered()
        if uncovered <= 0 or self.concurrency > 1 or not self.tempo.known:
            return uncovered > 0
        coming = len(self.line) - uncovered
        if not coming and now_s >= self._overdue_s(limits):
            return True  # things do not go as expected
        while self.prompt and now_s >= self._stuck_at_s():
            del self.prompt[next(iter(self.prompt))]
        return self.tempo.needed(len(self.line), len(self.prompt), limits) > coming

    def review_s(self, limits: PoolLimits) -> float:
        """When those who wait without a start are to be looked at again, if nothing else happens."""
        if not self.line or self.full or self.uncovered() <= 0 or self.concurrency > 1 or not self.tempo.known:
            return math.inf
        at_s = self._overdue_s(limits) if self.uncovered() == len(self.line) else math.inf
        return min(at_s, self._stuck_at_s()) if self.prompt else at_s

    def _overdue_s(self, limits: PoolLimits) -> float:
        return next(iter(self.line.values())) + self.tempo.start_s(limits)

    def _stuck_at_s(self) -> float:
        return next(iter(self.prompt.values())) + self.tempo.stuck_s

    def hungry(self, now_s: float, limits: PoolLimits) -> bool:
        """Whether one more start is due, as far as the crew itself is concerned."""
        if not self.wanting(now_s, limits) and not self.unkept(now_s):
            return False
        return not self.failures or (not self.coming and self.retry_at_s <= now_s)

    def roomy(self, slot: Slot) -> dict[SlotId, Slot]:
        """Where this slot stands while it has room."""
        return self.spare if slot.pinned else self.free
