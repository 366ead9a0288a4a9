"""What the pool's machine is told, and what it tells its driver to do. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

#: Numbers the driver gives: one per attempt to get a place, never used again.
Invocation = int
#: Numbers the machine gives: one per environment, never used again.
SlotId = int


# What happened ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Wanted:
    """An invocation needs a place."""

    invocation: Invocation
    revision: str
    memory_mib: int
    #: How many invocations one slot of this revision runs at a time.
    concurrency: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A slot came up."""

    slot: SlotId


@dataclass(frozen=True, slots=True)
class Done:
    """A slot's invocation ended, one way or another, and the slot can take more."""

    slot: SlotId
    invocation: Invocation


@dataclass(frozen=True, slots=True)
class Gone:
    """A slot is no more: it failed to start, died (what it ran is answered elsewhere), or was stopped."""

    slot: SlotId


@dataclass(frozen=True, slots=True)
class Retired:
    """A revision is nobody's current one any more. Those who want it all the same are still served."""

    revision: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """An invocation waited as long as it may."""

    invocation: Invocation


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: due at `next_tick_s`, harmless at any time."""


# What to do ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Start:
    """Bring a slot up; answered by Ready or Gone."""

    slot: SlotId
    revision: str


@dataclass(frozen=True, slots=True)
class Run:
    """Give a slot an invocation; answered by Done or Gone."""

    slot: SlotId
    invocation: Invocation


@dataclass(frozen=True, slots=True)
class Stop:
    """End a slot, even one that is coming up; answered by Gone."""

    slot: SlotId


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell an invocation that there is no place for it.

    `why`: 'line' (too many wait), 'wait' (it waited too long), 'start' (environments of this revision cannot be started),
    'memory' (it needs more than the whole pool may hold).
    """

    invocation: Invocation
    why: str


Event = Wanted | Ready | Done | Gone | Retired | GaveUp | Tick
Action = Start | Run | Stop | Refuse
