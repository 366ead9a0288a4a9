"""What the machine keeps: every slot, crew and line, and the sums over them; and how they are kept right.

It decides nothing: who starts, who waits and who goes is for `machine.py`, which is the only one that changes these.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from itertools import islice

from ondol.pool.crew import Crew, Slot, State, key_of
from ondol.pool.events import Bounded, Invocation, Pinned, Replaced, SlotId, Wanted
from ondol.pool.policy import PoolLimits, Scaling
from ondol.pool.succession import Succession


class Tables:
    """See the module."""

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self.slots: dict[SlotId, Slot] = {}
        self.crews: dict[str, Crew] = {}
        #: By revision: the crews of its tenants.
        self.tenancies: dict[str, dict[str, Crew]] = {}
        #: Who waits, and where.
        self.waiting: dict[Invocation, Crew] = {}
        #: Idle slots of all crews that may go, the coldest first: not those that are kept up.
        self.idle: dict[SlotId, Slot] = {}
        #: Idle slots that are to be frozen, the coldest first.
        self.awake: dict[SlotId, Slot] = {}
        #: Crews to start a slot for, in turn; and those with failed starts.
        self.hungry: OrderedDict[str, Crew] = OrderedDict()
        #: Crews in which somebody waits and no start is due, yet.
        self.patient: dict[str, Crew] = {}
        self.failing: dict[str, Crew] = {}
        #: Crews with slots to be kept up that did not load.
        self.unloaded: dict[str, Crew] = {}
        #: Sums over slots that are not stopping; over idle ones; over leaving ones.
        self.used_mib = self.idle_mib = self.leaving_mib = 0
        self.live = self.leaving = self.starting = 0
        #: Replaced crews whose idle slots stay for a moment.
        self.succession = Succession()
        self._next_slot = 1

    def _strike(self, slot: Slot) -> None:
        """Take a slot off every list and sum but `slots`."""
        crew = slot.crew
        if slot.state is State.STARTING:
            del crew.coming[slot.id]
            self.starting -= 1
        elif slot.state is State.IDLE:
            self.awake.pop(slot.id, None)
            if not slot.pinned:
                del self.idle[slot.id]
                self.idle_mib -= crew.memory_mib
        crew.roomy(slot).pop(slot.id, None)
        crew.prompt.pop(slot.id, None)
        crew.kept.pop(slot.id, None)
        if slot.leaving:
            self.leaving -= 1
            self.leaving_mib -= crew.memory_mib
        crew.slots -= 1
        self.live -= 1
        self.used_mib -= crew.memory_mib

    def _crew(self, event: Wanted | Pinned | Bounded | Replaced, now_s: float, tenant: str = "") -> Crew:
        key = key_of(event.revision, tenant)
        crew = Crew(key, event.revision, tenant, event.memory_mib, event.concurrency, Scaling(self.limits, now_s))
        if tenant:  # its tenants together grow as fast as a revision may; one that is new begins with what another learnt
            siblings = self.tenancies.setdefault(event.revision, {})
            for sibling in islice(siblings.values(), 1):
                crew.scaling, crew.tempo = sibling.scaling, copy(sibling.tempo)
            siblings[key] = crew
        self.crews[key] = crew
        return crew

    def _queue_up(self, crew: Crew, now_s: float) -> None:
        """Take a turn, or leave the queue of those who want a start."""
        if crew.hungry(now_s, self.limits):
            self.hungry.setdefault(crew.key, crew)
            self.patient.pop(crew.key, None)
            return
        self.hungry.pop(crew.key, None)
        if crew.line:
            self.patient[crew.key] = crew
        else:
            self.patient.pop(crew.key, None)

    def fits(self, crew: Crew, mib: int, slots: int) -> bool:
        """Whether one more slot of `crew` has room once so much has been given back."""
        return (
            self.used_mib - mib + crew.memory_mib <= self.limits.memory_mib_max
            and self.live - slots + 1 <= self.limits.slots_max
        )

    def _forget(self, crew: Crew, now_s: float) -> None:
        """Drop a crew that is nothing any more. Failures are remembered for the longest pause after they are forgiven."""
        if crew.slots or crew.line or crew.pins or crew.slots_max is not None:
            return
        if crew.failures and now_s < self._forgiven_at_s(crew):
            return
        self.crews.pop(crew.key, None)
        self.failing.pop(crew.key, None)
        self.unloaded.pop(crew.key, None)
        if crew.tenant and (tenants := self.tenancies.get(crew.revision)):
            tenants.pop(crew.key, None)
            if not tenants:
                del self.tenancies[crew.revision]

    def _forgiven_at_s(self, crew: Crew) -> float:
        return crew.retry_at_s + self.limits.backoff_s_max

    def _shortest_idle_s(self) -> float:
        return min(self.limits.idle_s_max, self.limits.idle_unused_s_max)
