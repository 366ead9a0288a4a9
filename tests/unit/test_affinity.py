"""When a front asks its guests to wait where it runs."""

import pytest

from ondol.runtimes.affinity import ALONE, ANEW, Affinity
from ondol_guest import frames

ALL = frozenset({0, 1, 2, 3})


class Machine:
    """The CPUs that a process was put on, in order."""

    def __init__(self, cpus=ALL, where=2):
        self.asked = []
        self.refuses = False
        self.affinity = Affinity(cpus, where=lambda: where, set_cpus=self.put)

    def put(self, cpus):
        if self.refuses:
            raise OSError("no")
        self.asked.append(set(cpus))

    def calls(self, count):
        """One after the other; the flags of the last."""
        for _ in range(count):
            flags = self.affinity.begins()
            self.affinity.ended()
        return flags


def test_calls_that_are_each_alone_bring_front_and_guest_together():
    machine = Machine()
    assert machine.calls(ALONE - 1) == 0
    assert machine.asked == []
    assert machine.calls(1) == 3 << frames.CPU_SHIFT
    assert machine.calls(10) == 3 << frames.CPU_SHIFT
    assert machine.asked == [{2}]


def test_two_calls_at_once_part_them_until_there_have_been_as_many_alone():
    machine = Machine()
    machine.calls(ALONE)
    machine.affinity.begins()
    assert machine.affinity.begins() == 0
    assert machine.asked == [{2}, ALL]
    machine.affinity.ended()
    machine.affinity.ended()
    assert machine.calls(ALONE - 1) == 0
    assert machine.calls(1) == 3 << frames.CPU_SHIFT


def test_now_and_then_the_place_is_chosen_anew():
    machine = Machine()
    machine.calls(ANEW)
    assert machine.asked == [{2}, ALL]


@pytest.mark.parametrize("cpus", [frozenset({1}), frozenset({0, frames.CPU_MAX + 1})])
def test_where_there_is_nothing_to_choose_nothing_is_asked_for(cpus):
    machine = Machine(cpus, where=min(cpus))
    assert machine.calls(2 * ALONE) == 0
    assert machine.asked == []


def test_a_machine_that_refuses_is_left_as_it_is():
    machine = Machine()
    machine.refuses = True
    assert machine.calls(2 * ALONE) == 0


def test_no_flag_of_a_call_is_taken_for_another():
    usual = frames.MORE | frames.LAST | frames.ERROR
    assert not usual >> frames.CPU_SHIFT
    assert (frames.CPU_MAX + 1) << frames.CPU_SHIFT <= 0xFFFF
