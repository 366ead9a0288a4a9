"""What the pool's machine is told, and what it tells its driver to do. Plain values."""

from __future__ import annotations

from msgspec import Struct

#: Numbers the driver gives: one per attempt to get a place, never used again.
Invocation = int
#: Numbers the machine gives: one per environment, never used again.
SlotId = int


# What happened ---------------------------------------------------------------------------------------------------------
class Wanted(Struct, frozen=True, gc=False):
    """An invocation needs a place."""

    invocation: Invocation
    revision: str
    memory_mib: int
    #: How many invocations one slot of this revision runs at a time.
    concurrency: int
    #: Whose slots it may have; "": nobody's in particular.
    tenant: str = ""


class Ready(Struct, frozen=True, gc=False):
    """A slot came up."""

    slot: SlotId
    #: It can be frozen.
    freezes: bool = False


class Loaded(Struct, frozen=True, gc=False):
    """A slot that was started ahead is done with loading: it has loaded, or it has failed to."""

    slot: SlotId
    #: It can be frozen.
    freezes: bool = False


class Done(Struct, frozen=True, gc=False):
    """A slot's invocation ended, one way or another, and the slot can take more unless it is spent."""

    slot: SlotId
    invocation: Invocation
    #: It is to be given nothing more.
    spent: bool = False


class Gone(Struct, frozen=True, gc=False):
    """A slot is no more: it failed to start, died (what it ran is answered elsewhere), or was stopped."""

    slot: SlotId
    #: It came up, and what it was to be kept up with did not load: the function's own failure, of which callers are not told.
    unloaded: bool = False


class Pinned(Struct, frozen=True, gc=False):
    """So many slots of a revision are to be up at any time, called or not; 0: as many as calls need."""

    revision: str
    memory_mib: int
    concurrency: int
    slots: int


class Bounded(Struct, frozen=True, gc=False):
    """There are never more than so many slots of a revision; None: as many as calls need. Those at work are let be."""

    revision: str
    memory_mib: int
    concurrency: int
    slots_max: int | None


class Retired(Struct, frozen=True, gc=False):
    """A revision is nobody's current one any more. Those who want it all the same are still served."""

    revision: str


class Replaced(Struct, frozen=True, gc=False):
    """A revision is the current one in place of `before`: Retired is said of that by this, too.

    As many slots of it are started ahead of need as `before` has in use, at most `slots_max`, if there is room for them.
    """

    revision: str
    memory_mib: int
    concurrency: int
    before: str
    slots_max: int


class GaveUp(Struct, frozen=True, gc=False):
    """An invocation waited as long as it may."""

    invocation: Invocation


class Tick(Struct, frozen=True, gc=False):
    """Time passed: due at `next_tick_s`, harmless at any time."""


# What to do ------------------------------------------------------------------------------------------------------------
class Start(Struct, frozen=True, gc=False):
    """Bring a slot up; answered by Ready or Gone."""

    slot: SlotId
    revision: str
    #: It is to be kept up: ready when it has loaded.
    pinned: bool = False
    #: Whose it is, as `Wanted` said.
    tenant: str = ""
    #: Nobody has asked for it yet: answered by Loaded, too, some time after Ready.
    ahead: bool = False


class Run(Struct, frozen=True, gc=False):
    """Give a slot an invocation; answered by Done or Gone."""

    slot: SlotId
    invocation: Invocation


class Freeze(Struct, frozen=True, gc=False):
    """Let an idle slot use no processor until it is thawed."""

    slot: SlotId


class Thaw(Struct, frozen=True, gc=False):
    """Let a frozen slot run again; a Run of it follows."""

    slot: SlotId


class Stop(Struct, frozen=True, gc=False):
    """End a slot, even one that is coming up, or frozen; answered by Gone."""

    slot: SlotId


class Refuse(Struct, frozen=True, gc=False):
    """Tell an invocation that there is no place for it.

    `why`: 'line' (too many wait), 'rate' (the revision grows as fast as it may), 'none' (there is to be no slot of it),
    'wait' (it waited too long), 'start' (environments of this revision cannot be started),
    'memory' (it needs more than the whole pool may hold).
    """

    invocation: Invocation
    why: str


Event = Wanted | Ready | Loaded | Done | Gone | Pinned | Bounded | Retired | Replaced | GaveUp | Tick
Action = Start | Run | Freeze | Thaw | Stop | Refuse
