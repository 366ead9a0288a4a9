"""The pool's decisions without the pool's I/O.

`Machine.handle(event, now_s)` is the only way to change the state, and the actions it returns are its only effect. It must
not know asyncio, clocks, processes or what a revision is: the driver (`pool/driver.py`) turns actions into environments and
their news into events, and the simulator (`tests/sim`) replays a week in a second.

A *slot* is one environment, STARTING -> IDLE <-> BUSY -> STOPPING; a *crew* is the slots and the waiting line of one revision
(`crew.py`). A revision that keeps its tenants apart has a crew for each: no rule here gives a crew's slot to another's call.

    warm first     the slot used last gets the next invocation, so that the others grow cold and can go
    pins           so many slots of a crew are kept up and loaded, called or not: they are given work before the others, never
                   make room for anybody, and take room from idle ones that nobody pinned
    one line       who waits gets whatever comes free first: a slot that was started for another, or one that finished
    wait or start  a slot is started for those who would wait longer than a start takes, going by the revision's recent calls;
                   without a history, for every waiting invocation that no coming slot covers (`policy.Tempo`)
    starts         revisions take turns; at most `starts_max` at a time
    scaling        a revision grows by at most `scaling_max` slots at once; who would need more is refused
    bounds         where somebody said so, a revision has so many slots and no more: its calls wait for them
    room           memory and slots are bounded; of the coldest idle slots of anyone, those worth least make room. A crew that
                   has waited longer than `patience_s_max` for room is overtaken no more, and busy slots of others are given
                   up after their call
    freezing       a slot that has idled for `freeze_s_min` is frozen, and thawed when it is given something to run
    updates        when a revision is replaced, slots of the new one are started ahead for those that the old one has in use, if
                   there is room; the idle old ones go when those have loaded, failed, or taken too long, or to make room
    failing        a revision whose starts fail is tried one at a time, with growing pauses; after `start_failures_max` in
                   a row its waiters are told, and newcomers too until the pause is over

Every handler asserts what it touches; `checks.check` asserts everything and is for tests, because it looks at every slot.

Invariants: memory and slots stay in bounds; a slot runs at most its concurrency, one revision and one tenant; nobody waits
while a slot of its crew has room; nobody waits longer than a start takes (nor than `trust_s_max`) without one on its way,
unless starts, room or a pause forbid it; lines are bounded.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import assert_never

from ondol.pool.crew import Crew, Slot, State, key_of
from ondol.pool.events import (
    Action,
    Bounded,
    Done,
    Event,
    Freeze,
    GaveUp,
    Gone,
    Invocation,
    Loaded,
    Pinned,
    Ready,
    Refuse,
    Replaced,
    Retired,
    Run,
    SlotId,
    Start,
    Stop,
    Thaw,
    Tick,
    Wanted,
)
from ondol.pool.policy import History, PoolLimits, ahead_of_need, backoff_s, keep_s, worth
from ondol.pool.succession import last_used_s
from ondol.pool.tables import Tables

#: How many crews behind one that waits for room are looked at for one that fits: bounds the cost of an event.
LOOK_AHEAD = 8
#: How many of the coldest idle slots are weighed against each other when one must go.
COLDEST = 16


class Machine(Tables):
    """See the module."""

    def __init__(self, limits: PoolLimits) -> None:
        super().__init__(limits)
        self._looked_s = -math.inf

    def handle(self, event: Event, now_s: float) -> list[Action]:
        """Take note of `event` and say what to do, in this order."""
        self._looked_s = now_s
        match event:
            case Wanted():
                actions = self._wanted(event, now_s)
            case Done():
                actions = self._done(event, now_s)
            case Ready():
                actions = self._ready(event, now_s)
            case Loaded():
                actions = self._loaded(event, now_s)
            case Gone():
                actions = self._gone(event, now_s)
            case GaveUp():
                actions = self._gave_up(event, now_s)
            case Tick():
                actions = self._tick(now_s)
            case _:
                actions = self._wished(event, now_s)
        return actions

    def _wished(self, event: Pinned | Bounded | Retired | Replaced, now_s: float) -> list[Action]:
        """Something is to be otherwise from now on."""
        match event:
            case Pinned():
                actions = self._pinned(event, now_s)
            case Bounded():
                actions = self._bounded(event, now_s)
            case Retired():
                self.succession.handovers.pop(event.revision, None)
                actions = self._retired(event.revision, now_s)
            case Replaced():
                actions = self._replaced(event, now_s)
            case _:
                assert_never(event)
        return actions

    def take(self, revision: str, invocation: Invocation, now_s: float) -> SlotId | None:
        """As `Wanted` of nobody in particular, where a slot is warm and awake; None, and nothing has changed, where none is."""
        crew = self.crews.get(revision)
        slot = crew.warmest() if crew is not None else None
        if slot is None or slot.frozen:
            return None
        self._looked_s = now_s
        self._occupy(slot, invocation, now_s)
        return slot.id

    def is_warm(self, revision: str, tenant: str = "") -> bool:
        """Whether an invocation of this revision would find a place at once."""
        crew = self.crews.get(key_of(revision, tenant) if tenant else revision)
        return crew is not None and bool(crew.spare or crew.free)

    def next_tick_s(self, now_s: float) -> float | None:
        """When a Tick will have something to do; None: not before another event. Before `now_s`: it is overdue, since whoever
        asks is late. What was due when an event was last handled waits for another event, not for time.
        """
        times = [crew.retry_at_s if crew.line or crew.pins else self._forgiven_at_s(crew) for crew in self.failing.values()]
        times += [crew.pin_at_s for crew in self.unloaded.values()]
        times += [handover.until_s for handover in self.succession.handovers.values()]
        times += [crew.review_s(self.limits) for crew in self.patient.values()]
        if self.hungry:
            times.append(self._starving_at_s(next(iter(self.hungry.values()))))
        times = [at_s for at_s in times if self._looked_s < at_s < math.inf]
        if self.idle:
            coldest = next(iter(self.idle.values()))
            goes_s = coldest.used_s + keep_s(History(calls=coldest.calls), self.limits)
            # Warmer ones may have to go earlier; looking that often is often enough.
            times.append(max(now_s, min(goes_s, now_s + self._shortest_idle_s())))
        if self.awake:
            times.append(max(now_s, next(iter(self.awake.values())).used_s + self.limits.freeze_s_min))
        return min(times, default=None)

    # What happened -----------------------------------------------------------------------------------------------------
    def _wanted(self, want: Wanted, now_s: float) -> list[Action]:
        crew = self.crews.get(key_of(want.revision, want.tenant) if want.tenant else want.revision)
        slot = crew.warmest() if crew is not None else None
        if slot is not None:
            self._occupy(slot, want.invocation, now_s)
            if slot.frozen:
                slot.frozen = False
                return [Thaw(slot.id), Run(slot.id, want.invocation)]
            return [Run(slot.id, want.invocation)]
        if crew is None:
            if want.memory_mib > self.limits.memory_mib_max:
                return [Refuse(want.invocation, "memory")]
            crew = self._crew(want, now_s, want.tenant)
        assert (crew.memory_mib, crew.concurrency) == (want.memory_mib, want.concurrency), "a revision never changes"
        crew.line[want.invocation] = now_s
        why = self._why_not(crew, now_s)
        if why:
            del crew.line[want.invocation]
            self._forget(crew, now_s)
            return [Refuse(want.invocation, why)]
        self.waiting[want.invocation] = crew
        self._queue_up(crew, now_s)
        return self._grow(now_s)

    def _why_not(self, crew: Crew, now_s: float) -> str:
        """Why the last of this crew's line may not wait in it; "" when it may."""
        if self._is_broken(crew, now_s):
            return "start"
        if crew.slots_max == 0:
            return "none"
        if len(crew.line) > self.limits.line_revision_max or len(self.waiting) >= self.limits.line_total_max:
            return "line"
        if crew.wanting(now_s, self.limits) and crew.scaling.left(self.limits, now_s) < 1:
            return "rate"
        return ""

    def _done(self, done: Done, now_s: float) -> list[Action]:
        slot = self.slots.get(done.slot)
        if slot is None or slot.state is State.STOPPING:
            return []  # it was ended with what it ran
        assert slot.state is State.BUSY, f"Done from a slot that is {slot.state}"
        slot.running.remove(done.invocation)
        self._learn(slot, now_s)
        slot.used_s = now_s
        slot.calls += 1
        if done.spent and not slot.leaving:
            self._give_up(slot, now_s)
        actions = self._hand_on(slot, now_s)
        if slot.leaving:
            self._queue_up(slot.crew, now_s)  # its line got nothing
        if self.hungry:
            actions += self._grow(now_s)
        return actions

    def _ready(self, ready: Ready, now_s: float) -> list[Action]:
        slot = self.slots[ready.slot]
        if slot.state is State.STOPPING:
            return []  # came up while being ended
        assert slot.state is State.STARTING, f"Ready from a slot that is {slot.state}"
        crew = slot.crew
        del crew.coming[slot.id]
        self.starting -= 1
        crew.failures = 0
        self.failing.pop(crew.key, None)
        if slot.pinned:
            crew.pin_failures = 0
            self.unloaded.pop(crew.key, None)
        slot.state = State.BUSY  # for a moment: `_hand_on` lets it rest when nobody waits
        slot.used_s = now_s
        slot.freezes = ready.freezes and not slot.ahead  # it would never load
        actions = self._hand_on(slot, now_s)
        slot.cold = bool(actions) and not slot.pinned
        self._queue_up(crew, now_s)
        return actions + self._grow(now_s)

    def _loaded(self, loaded: Loaded, now_s: float) -> list[Action]:
        slot = self.slots.get(loaded.slot)
        if slot is None or slot.state is State.STOPPING:
            return []
        assert slot.ahead, "Loaded from a slot that was not started ahead"
        assert slot.state is not State.STARTING, "Loaded before Ready"
        slot.ahead = False
        slot.freezes = loaded.freezes
        if slot.state is State.IDLE:
            slot.calls = max(slot.calls, 1)  # kept like those that it stands for
            slot.used_s = now_s
            for table in (slot.crew.free, self.idle):
                del table[slot.id]
                table[slot.id] = slot  # to the warm end
            if slot.freezes:
                self.awake[slot.id] = slot
        return self._see_off(now_s)

    def _gone(self, gone: Gone, now_s: float) -> list[Action]:
        slot = self.slots.pop(gone.slot, None)
        if slot is None or slot.state is State.STOPPING:
            return self._see_off(now_s)  # given up before: its crew may be another by now
        crew = slot.crew
        failed_to_start = slot.state is State.STARTING
        self._strike(slot)
        actions: list[Action] = []
        if gone.unloaded:
            crew.pin_failures += 1
            crew.pin_at_s = now_s + backoff_s(crew.pin_failures, self.limits)
            self.unloaded[crew.key] = crew
        elif failed_to_start:
            actions = self._start_failed(crew, now_s)
        self._queue_up(crew, now_s)
        self._forget(crew, now_s)
        actions += self._see_off(now_s)
        return actions + self._grow(now_s)

    def _gave_up(self, event: GaveUp, now_s: float) -> list[Action]:
        crew = self.waiting.pop(event.invocation, None)
        if crew is None:
            return []  # it has been given a slot or an answer meanwhile
        del crew.line[event.invocation]
        self._queue_up(crew, now_s)
        self._forget(crew, now_s)
        return [Refuse(event.invocation, "wait"), *self._grow(now_s)]

    def _pinned(self, event: Pinned, now_s: float) -> list[Action]:
        crew = self.crews.get(event.revision)
        if crew is None:
            if not event.slots or event.memory_mib > self.limits.memory_mib_max:
                return []
            crew = self._crew(event, now_s)
        if event.slots:
            crew.retired = False
        crew.pins = event.slots
        crew.pin_failures, crew.pin_at_s = 0, 0.0
        self.unloaded.pop(crew.key, None)
        actions: list[Action] = []
        idle_first = sorted(crew.kept.values(), key=lambda slot: slot.state is not State.IDLE)
        for slot in idle_first[: max(len(crew.kept) - crew.pins, 0)]:
            if slot.running:
                self._unpin(slot)
            else:
                actions.append(self._stop(slot, now_s))
        self._queue_up(crew, now_s)
        self._forget(crew, now_s)
        return actions + self._grow(now_s)

    def _unpin(self, slot: Slot) -> None:
        """One that runs something becomes like any other."""
        crew = slot.crew
        del crew.kept[slot.id]
        slot.pinned = False
        if crew.spare.pop(slot.id, None) is not None:
            crew.free[slot.id] = slot

    def _bounded(self, event: Bounded, now_s: float) -> list[Action]:
        crew = self.crews.get(event.revision)
        if crew is None:
            if event.slots_max is None or event.memory_mib > self.limits.memory_mib_max:
                return []
            crew = self._crew(event, now_s)
        crew.slots_max = event.slots_max
        if crew.slots_max is None:
            self._queue_up(crew, now_s)
            self._forget(crew, now_s)
            return self._grow(now_s)
        idle = [slot for slot in (*crew.free.values(), *crew.spare.values()) if slot.state is State.IDLE]
        actions: list[Action] = [self._stop(slot, now_s) for slot in idle[: max(crew.slots - crew.slots_max, 0)]]
        self._queue_up(crew, now_s)
        return actions + self._grow(now_s)

    def _replaced(self, event: Replaced, now_s: float) -> list[Action]:
        before = self.crews.get(event.before)
        actions = self._start_ahead(before, event, now_s) if before is not None and not self.hungry else []
        return actions + self._retired(event.before, now_s)

    def _start_ahead(self, before: Crew, event: Replaced, now_s: float) -> list[Action]:
        """Start what may be needed soon, where nobody goes short for it; who is replaced gives its room. Tried only once."""
        alive = (slot for slot in self.slots.values() if slot.crew is before and slot.state is not State.STOPPING)
        own = [slot for slot in alive if not slot.pinned]
        used_s = [last_used_s(slot, now_s) for slot in own]
        wanted = min(ahead_of_need([now_s - at_s for at_s in used_s], self.limits), event.slots_max)
        crew = self.crews.get(event.revision) or self._crew(event, now_s)
        crew.retired = False
        crew.called_s = max([crew.called_s, before.called_s, *used_s])
        idle = deque(slot for slot in own if slot.state is State.IDLE)
        actions: list[Action] = []
        heirs: list[SlotId] = []
        while len(heirs) < wanted and self._may_start_ahead(crew, now_s):
            if not self.fits(crew, len(idle) * before.memory_mib, len(idle)):
                break
            while not self.fits(crew, 0, 0):
                actions.append(self._stop(idle.popleft(), now_s))
            start = self._start(crew, now_s, ahead=True)
            heirs.append(start.slot)
            actions.append(start)
        self._forget(crew, now_s)
        if heirs and idle:
            self.succession.begin(before, heirs, now_s + self.limits.handover_s_max)
        return actions

    def _may_start_ahead(self, crew: Crew, now_s: float) -> bool:
        """Half of the starts are left to calls."""
        if self.starting >= self.limits.starts_max // 2 or crew.full or crew.failures:
            return False
        return crew.scaling.left(self.limits, now_s) >= 1

    def _see_off(self, now_s: float) -> list[Action]:
        """Idle slots of replaced revisions go when those that were started ahead in their place have loaded."""
        return [self._stop(slot, now_s) for slot in self.succession.finished(self.slots, now_s)]

    def _retired(self, revision: str, now_s: float) -> list[Action]:
        actions: list[Action] = []
        for crew in [self.crews.get(revision), *self.tenancies.get(revision, {}).values()]:
            if crew is not None:
                actions += self._retire(crew, now_s)
        actions += self._see_off(now_s)
        return actions + self._grow(now_s)

    def _retire(self, crew: Crew, now_s: float) -> list[Action]:
        actions = self._pinned(Pinned(crew.revision, crew.memory_mib, crew.concurrency, 0), now_s) if crew.pins else []
        if crew.key not in self.crews:
            return actions
        crew.retired = True
        going: list[Slot] = []
        if crew.key not in self.succession.handovers:
            going += [slot for slot in (*crew.spare.values(), *crew.free.values()) if slot.state is State.IDLE]
        if not crew.line:
            going += crew.coming.values()
        actions += [self._stop(slot, now_s) for slot in going]
        self._forget(crew, now_s)
        return actions

    def _tick(self, now_s: float) -> list[Action]:
        actions: list[Action] = []
        shortest_s = self._shortest_idle_s()
        for slot in list(self.idle.values()):
            if now_s < slot.used_s + shortest_s:
                break  # the rest is warmer
            if now_s >= slot.used_s + keep_s(History(calls=slot.calls), self.limits):
                actions.append(self._stop(slot, now_s))
        actions += self._freeze(now_s) + self._see_off(now_s)
        for crew in [*self.failing.values(), *self.unloaded.values(), *self.patient.values()]:
            self._queue_up(crew, now_s)
            self._forget(crew, now_s)
        return actions + self._grow(now_s)

    def _freeze(self, now_s: float) -> list[Action]:
        actions: list[Action] = []
        while self.awake:
            slot = next(iter(self.awake.values()))
            if now_s < slot.used_s + self.limits.freeze_s_min:
                break  # the rest is warmer
            del self.awake[slot.id]
            slot.frozen = True
            actions.append(Freeze(slot.id))
        return actions

    # One slot ----------------------------------------------------------------------------------------------------------
    def _occupy(self, slot: Slot, invocation: Invocation, now_s: float) -> None:
        """A free slot takes an invocation."""
        slot.began_s = slot.crew.prompt[slot.id] = now_s
        if slot.state is State.IDLE:
            slot.state = State.BUSY
            self.awake.pop(slot.id, None)
            if not slot.pinned:
                del self.idle[slot.id]
                self.idle_mib -= slot.crew.memory_mib
        slot.running.add(invocation)
        if len(slot.running) >= slot.crew.concurrency:
            del slot.crew.roomy(slot)[slot.id]

    def _learn(self, slot: Slot, now_s: float) -> None:
        """A call of this slot is over."""
        crew = slot.crew
        crew.prompt.pop(slot.id, None)
        if slot.cold:
            slot.cold = False
            crew.tempo.started(now_s - slot.asked_s)
        elif slot.calls or slot.pinned:
            crew.tempo.called(now_s - slot.began_s)

    def _hand_on(self, slot: Slot, now_s: float) -> list[Action]:
        """A slot that is up has room: for those who wait, else it rests, or leaves."""
        crew = slot.crew
        actions: list[Action] = []
        if slot.leaving:
            return actions if slot.running else [self._stop(slot, now_s)]
        while crew.line and len(slot.running) < crew.concurrency:
            invocation, _ = crew.line.popitem(last=False)
            del self.waiting[invocation]
            slot.running.add(invocation)
            crew.prompt.pop(slot.id, None)
            slot.began_s = crew.prompt[slot.id] = now_s
            actions.append(Run(slot.id, invocation))
        if actions:
            crew.served_s = now_s
            self._queue_up(crew, now_s)
        if len(slot.running) < crew.concurrency:
            roomy = crew.roomy(slot)
            roomy.pop(slot.id, None)
            roomy[slot.id] = slot  # to the warm end
            if not slot.running:
                if crew.retired:
                    return [self._stop(slot, now_s)]
                slot.state = State.IDLE
                if slot.freezes:
                    self.awake[slot.id] = slot
                if not slot.pinned:
                    self.idle[slot.id] = slot
                    self.idle_mib += crew.memory_mib
        return actions

    def _stop(self, slot: Slot, now_s: float) -> Stop:
        assert not slot.running, "a slot that runs something is never stopped"
        self._strike(slot)
        slot.state = State.STOPPING
        if slot.crew.slots_max is not None:
            self._queue_up(slot.crew, now_s)  # there may be another in its place
        self._forget(slot.crew, now_s)
        return Stop(slot.id)

    # One crew ----------------------------------------------------------------------------------------------------------
    def _is_broken(self, crew: Crew, now_s: float) -> bool:
        """Its starts fail, and the next try is not due."""
        return crew.failures >= self.limits.start_failures_max and now_s < crew.retry_at_s and not crew.slots

    def _start_failed(self, crew: Crew, now_s: float) -> list[Action]:
        """Pause; when it is one failure too many, refuse those whom nothing that is still coming will serve."""
        crew.failures += 1
        crew.retry_at_s = now_s + backoff_s(crew.failures, self.limits)
        self.failing[crew.key] = crew
        actions: list[Action] = []
        if crew.failures >= self.limits.start_failures_max and not self._is_up(crew):
            while crew.uncovered() > 0:
                invocation, _ = crew.line.popitem()
                del self.waiting[invocation]
                actions.append(Refuse(invocation, "start"))
        return actions

    def _is_up(self, crew: Crew) -> bool:
        """Has slots that will serve its line in the end, whatever becomes of starts."""
        return crew.slots > len(crew.coming)

    # Growth ------------------------------------------------------------------------------------------------------------
    def _grow(self, now_s: float) -> list[Action]:
        """Start slots for those who wait, idle ones of anyone making room, until something forbids it."""
        actions: list[Action] = []
        while self.hungry and self.starting < self.limits.starts_max:
            crew = self._next_to_grow(now_s)
            if crew is None:
                break
            while not self.fits(crew, 0, 0):
                actions.append(self._stop(self._worth_least(now_s), now_s))
            actions.append(self._start(crew, now_s))
        if self.hungry:
            self._press(next(iter(self.hungry.values())), now_s)
        return actions

    def _worth_least(self, now_s: float) -> Slot:
        """Which idle slot goes to make room: one of a revision that was replaced, or of the coldest the one that saves least
        (`policy.worth`).
        """
        spare = self.succession.spare()
        if spare is not None:
            return spare

        def worth_of(slot: Slot) -> float:
            crew = slot.crew
            return worth(
                History(
                    calls=slot.calls,
                    age_s=now_s - slot.asked_s,
                    idle_s=now_s - slot.used_s,
                    start_s=crew.tempo.start_s(self.limits),
                    memory_mib=crew.memory_mib,
                )
            )

        return min(islice(self.idle.values(), COLDEST), key=worth_of)

    def _next_to_grow(self, now_s: float) -> Crew | None:
        """The first in turn for whom room can be made now. One that starves is overtaken by nobody.

        When there is nobody, a first that does not starve goes to the end, so that one that does gets to the front.
        """
        for position, crew in enumerate(self.hungry.values()):
            if self.fits(crew, self.idle_mib, len(self.idle)):
                return crew
            if self._is_starving(crew, now_s) or position == LOOK_AHEAD:
                break
        head = next(iter(self.hungry.values()))
        if not self._is_starving(head, now_s):
            self.hungry.move_to_end(head.key)
        return None

    def _is_starving(self, crew: Crew, now_s: float) -> bool:
        return now_s >= self._starving_at_s(crew)

    def _starving_at_s(self, crew: Crew) -> float:
        """Nobody in a line moves: neither its first nor anybody before it was served for so long."""
        if not crew.line:
            return math.inf
        first_since_s = next(iter(crew.line.values()))
        return max(first_since_s, crew.served_s) + self.limits.patience_s_max

    def _start(self, crew: Crew, now_s: float, *, ahead: bool = False) -> Start:
        pinned = not ahead and not crew.wanting(now_s, self.limits)
        slot = Slot(self._next_slot, crew, now_s, asked_s=now_s, pinned=pinned, ahead=ahead)
        if slot.pinned:
            crew.kept[slot.id] = slot
        else:
            crew.scaling.take(self.limits, now_s)
        self._next_slot += 1
        self.slots[slot.id] = slot
        crew.coming[slot.id] = slot
        crew.slots += 1
        self.live += 1
        self.starting += 1
        self.used_mib += crew.memory_mib
        self._queue_up(crew, now_s)
        if crew.key in self.hungry:
            self.hungry.move_to_end(crew.key)
        return Start(slot.id, crew.revision, slot.pinned, crew.tenant, ahead)

    def _press(self, crew: Crew, now_s: float) -> None:
        """Give up busy slots of others, the oldest first, for a crew that starves for want of room."""
        if crew.slots == self.live or not self._is_starving(crew, now_s):
            return
        for slot in self.slots.values():
            if self.fits(crew, self.idle_mib + self.leaving_mib, len(self.idle) + self.leaving):
                return
            if slot.state is State.BUSY and slot.crew is not crew and not slot.leaving and not slot.pinned:
                self._give_up(slot, now_s)

    def _give_up(self, slot: Slot, now_s: float) -> None:
        """It takes nothing more, and stops after what it runs."""
        slot.leaving = True
        slot.crew.roomy(slot).pop(slot.id, None)
        slot.crew.prompt.pop(slot.id, None)
        self._queue_up(slot.crew, now_s)
        self.leaving += 1
        self.leaving_mib += slot.crew.memory_mib
