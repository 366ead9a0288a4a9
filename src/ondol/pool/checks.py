"""What must hold of a machine at any moment, asserted. For tests: it looks at everything, the hot path does not pay for it."""

from __future__ import annotations

from ondol.pool.crew import Crew, Slot, State, key_of
from ondol.pool.machine import Machine


def check(machine: Machine, now_s: float) -> None:
    """Assert every invariant of the machine's docstring."""
    alive = [slot for slot in machine.slots.values() if slot.state is not State.STOPPING]
    idle = [slot for slot in alive if slot.state is State.IDLE]
    leaving = [slot for slot in alive if slot.leaving]
    assert machine.live == len(alive) <= machine.limits.slots_max
    assert machine.used_mib == sum(slot.crew.memory_mib for slot in alive) <= machine.limits.memory_mib_max
    assert machine.idle == {slot.id: slot for slot in idle if not slot.pinned}
    assert machine.idle_mib == sum(slot.crew.memory_mib for slot in machine.idle.values())
    assert (machine.leaving, machine.leaving_mib) == (len(leaving), sum(slot.crew.memory_mib for slot in leaving))
    assert machine.starting == sum(len(crew.coming) for crew in machine.crews.values()) <= machine.limits.starts_max
    used_s = [slot.used_s for slot in machine.idle.values()]
    assert used_s == sorted(used_s), "the coldest is not at the front"
    assert machine.awake == {slot.id: slot for slot in idle if slot.freezes and not slot.frozen}
    used_s = [slot.used_s for slot in machine.awake.values()]
    assert used_s == sorted(used_s), "the one to freeze next is not at the front"
    tenants = [crew for crew in machine.crews.values() if crew.tenant]
    assert sorted(crew.key for crews in machine.tenancies.values() for crew in crews.values()) == sorted(c.key for c in tenants)
    for slot in alive:
        _check_slot(machine, slot)
    for crew in machine.crews.values():
        _check_crew(machine, crew, now_s)
    assert len(machine.waiting) == sum(len(crew.line) for crew in machine.crews.values()) <= machine.limits.line_total_max
    if machine.hungry and machine.starting < machine.limits.starts_max:
        head = next(iter(machine.hungry.values()))
        assert not machine.fits(head, machine.idle_mib, len(machine.idle)), "there is room, and nothing starts"


def _check_slot(machine: Machine, slot: Slot) -> None:
    crew = slot.crew
    assert machine.crews.get(crew.key) is crew, "a slot of a forgotten crew"
    assert len(slot.running) <= crew.concurrency
    assert bool(slot.running) == (slot.state is State.BUSY)
    assert (slot.id in crew.coming) == (slot.state is State.STARTING)
    has_room = slot.state in (State.IDLE, State.BUSY) and len(slot.running) < crew.concurrency
    assert (slot.id in crew.roomy(slot)) == (has_room and not slot.leaving)
    assert (slot.id in crew.kept) == slot.pinned
    assert not slot.frozen or slot.state is State.IDLE, "a frozen slot is given work"
    stays = crew.key in machine.succession.handovers
    assert not (crew.retired and slot.state is State.IDLE and not stays), "a retired slot that idles"
    assert not (slot.ahead and (slot.pinned or slot.freezes))


def _check_crew(machine: Machine, crew: Crew, now_s: float) -> None:
    assert machine.crews[key_of(crew.revision, crew.tenant)] is crew
    assert crew.slots == sum(s.crew is crew for s in machine.slots.values() if s.state is not State.STOPPING)
    assert not ((crew.spare or crew.free) and crew.line), "somebody waits while a slot has room"
    assert len(crew.line) <= machine.limits.line_revision_max
    assert all(machine.waiting.get(invocation) is crew for invocation in crew.line)
    assert len(crew.kept) <= crew.pins
    kept = crew.pins or crew.slots_max is not None
    assert crew.slots or crew.line or crew.failures or kept, "an empty crew that is not forgotten"
    assert (crew.key in machine.failing) == bool(crew.failures)
    assert not crew.pin_failures or crew.key in machine.unloaded
    assert (crew.key in machine.patient) == (bool(crew.line) and crew.key not in machine.hungry)
    due = crew.key in machine.patient and crew.review_s(machine.limits) <= now_s  # it is looked at next
    if crew.key in machine.hungry or not (crew.failures or crew.pin_failures or due):
        assert (crew.key in machine.hungry) == crew.hungry(now_s, machine.limits), "its turn is not as its need"
