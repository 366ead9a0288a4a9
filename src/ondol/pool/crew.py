"""A slot and a crew: what the machine keeps of one environment, and of one revision. Their rules stand in `machine.py`.

Changed in place, not replaced: a warm invocation costs a few microseconds, and ten thousand a second pass here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from ondol.pool.events import Invocation, SlotId


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
    used_s: float
    state: State = State.STARTING
    running: set[Invocation] = field(default_factory=set)
    calls: int = 0
    #: One of those that the crew keeps up; it has loaded when it is up.
    pinned: bool = False
    #: Given up for others: takes nothing more and stops after what it runs.
    leaving: bool = False
    #: It can be frozen; it is.
    freezes: bool = False
    frozen: bool = False


@dataclass(slots=True, eq=False)
class Crew:
    """The slots and the waiting line of one revision."""

    revision: str
    memory_mib: int
    concurrency: int
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
    #: How many slots are to be kept up, whether or not they are called, and those that are.
    pins: int = 0
    kept: dict[SlotId, Slot] = field(default_factory=dict)
    #: Kept slots in a row that did not load, and until when none is started.
    pin_failures: int = 0
    pin_at_s: float = 0.0

    def uncovered(self) -> int:
        """How many wait that no coming slot will take. One that is kept up loads first, which may take long: it takes none."""
        coming = len(self.coming)
        if self.kept:
            coming -= sum(slot.pinned for slot in self.coming.values())
        return len(self.line) - coming * self.concurrency

    def unkept(self, now_s: float) -> bool:
        """Whether one more slot is to be started in order to be kept up. After one that did not load, one at a time."""
        if len(self.kept) >= self.pins:
            return False
        return not self.pin_failures or (self.pin_at_s <= now_s and not any(slot.pinned for slot in self.coming.values()))

    def hungry(self, now_s: float) -> bool:
        """Whether one more start is due, as far as the crew itself is concerned."""
        if self.uncovered() <= 0 and not self.unkept(now_s):
            return False
        return not self.failures or (not self.coming and self.retry_at_s <= now_s)

    def roomy(self, slot: Slot) -> dict[SlotId, Slot]:
        """Where this slot stands while it has room."""
        return self.spare if slot.pinned else self.free
