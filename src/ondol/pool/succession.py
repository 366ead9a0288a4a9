"""Who comes after whom: until when the idle slots of a revision that was replaced stay for those started ahead in their place.

Bookkeeping only; `machine.py` starts and stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ondol.pool.crew import Crew, Slot, State
from ondol.pool.events import SlotId


@dataclass(slots=True)
class Handover:
    """The idle slots of `crew` stay until those of its heir that were started ahead have loaded, at most until `until_s`."""

    crew: Crew
    heirs: frozenset[SlotId]
    until_s: float


class Succession:
    """Handovers under way, by the key of the crew that goes."""

    def __init__(self) -> None:
        self.handovers: dict[str, Handover] = {}

    def begin(self, crew: Crew, heirs: Iterable[SlotId], until_s: float) -> None:
        self.handovers[crew.key] = Handover(crew, frozenset(heirs), until_s)

    def finished(self, slots: Mapping[SlotId, Slot], now_s: float) -> list[Slot]:
        """Idle slots that need not stay any longer; their handovers are forgotten."""
        going: list[Slot] = []
        for key, handover in list(self.handovers.items()):
            loading = any(slot in slots and _is_loading(slots[slot]) for slot in handover.heirs)
            if not loading or not handover.crew.retired or now_s >= handover.until_s:
                del self.handovers[key]
                going += _idle(handover.crew) if handover.crew.retired else ()
        return going

    def spare(self) -> Slot | None:
        """An idle slot that nobody will miss when room is short."""
        return next((slot for handover in self.handovers.values() for slot in _idle(handover.crew)), None)


def _is_loading(slot: Slot) -> bool:
    return slot.ahead and slot.state is not State.STOPPING and not slot.crew.retired


def _idle(crew: Crew) -> Iterator[Slot]:
    return (slot for slot in crew.free.values() if slot.state is State.IDLE)


def last_used_s(slot: Slot, now_s: float) -> float:
    """When a slot was last of use. One that was not called yet stands for those that it was started after."""
    crew = slot.crew
    if slot.running or (slot.state is State.STARTING and crew.line):
        return now_s
    return slot.used_s if slot.began_s >= slot.asked_s else crew.called_s
