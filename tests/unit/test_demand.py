"""How many prepared shells are worth keeping."""

import socket

import pytest

from ondol.sandboxes.demand import HALF_LIFE_S, IDLE_S, QUIET_S, Demand
from ondol.sandboxes.kept import KeptSandboxes


def after(times, least=8, most=64):
    demand = Demand(least, most)
    for at_s in times:
        demand.taken(at_s)
    return demand


def test_a_few_are_kept_when_nobody_asks():
    assert Demand(8, 64).wanted(100.0) == 8
    assert after([1.0, 5.0, 9.0]).wanted(9.0) == 8


def test_as_many_are_kept_as_were_taken_together_and_no_more_than_may_be():
    burst = [10.0 + n / 100 for n in range(30)]
    assert after(burst).wanted(10.3) == 30
    assert after([10.0] * 500).wanted(10.0) == 64
    assert after([n / 2 for n in range(100)]).wanted(50.0) == 8  # two a second are none together


def test_what_is_not_wanted_any_more_is_forgotten_by_and_by():
    demand = after([10.0] * 40)
    wanted = [demand.wanted(10.0 + times * HALF_LIFE_S) for times in range(5)]
    assert wanted == [40, 20, 10, 8, 8]


def test_who_wants_none_ready_gets_none():
    assert after([1.0] * 40, least=0).wanted(1.0) == 0


def test_of_what_is_dear_some_are_kept_while_it_is_in_use_then_one_then_none():
    demand = Demand(2, 16, dear=True)
    assert demand.wanted(5.0) == 0, "nobody ever asked"
    demand.taken(10.0)
    assert [demand.wanted(10.0 + after_s) for after_s in (0.0, QUIET_S, QUIET_S + 1, IDLE_S, IDLE_S + 1)] == [2, 2, 1, 1, 0]


def test_of_what_is_dear_a_burst_is_kept_up_to_its_bound():
    assert after_dear([10.0] * 40).wanted(10.0) == 16


def after_dear(times):
    demand = Demand(2, 16, dear=True)
    for at_s in times:
        demand.taken(at_s)
    return demand


@pytest.mark.parametrize(("memory_mib", "most"), [(64, 2), (1024, 8), (8192, 64), (1_000_000, 64)])
async def test_programs_that_wait_take_a_part_of_the_memory_at_most(memory_mib, most):
    ours, keepers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sandboxes = KeptSandboxes(ours, memory_mib_max=memory_mib)
    kind = ("a", "/usr/bin/python3", "none", b"told")
    for _ in range(200):
        sandboxes._wish(kind).taken(0.0)
    assert sandboxes._wish(kind).wanted(0.0) == most
    await sandboxes.close()
    keepers.close()
