"""kill -9 of any one process of a busy node: nothing of it stays, the node recovers by itself, and what was promised is kept."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from ondol.testing import leaks
from ondol.testing.keepers import sweepers
from ondol.testing.load import HEARD, Load, until
from ondol.testing.node import running_node
from ondol.testing.patience import PATIENCE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

#: Generous, for a busy machine; the soak records how long it really takes.
CLEAN_S_MAX = 10.0 * PATIENCE
RECOVER_S_MAX = 20.0 * PATIENCE


@pytest.fixture(scope="module")
def busy(possible):
    """A node with clients at work, for all the kills."""
    with running_node(*HEARD) as node, Load(node, functions=2, callers=2, pause_s=0.1) as load:
        witness = leaks.Witness()
        until(load.serves, RECOVER_S_MAX)
        yield node, load, witness
        load.stop()


def kill(node, witness, victim):
    """One process of that kind, once there is one; its pid."""
    until(lambda: leaks.roles(node).get(victim), RECOVER_S_MAX)
    witness.look(node)
    pid = leaks.roles(node)[victim][-1]
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.mark.parametrize(
    "victim", ["guest", "init", "zygote", "inner", "keeper", "front", "helper", "desk", "nursery", "front", "guest"]
)
def test_a_kill_leaves_nothing_and_the_node_goes_on(busy, victim):
    node, load, witness = busy
    pid = kill(node, witness, victim)
    until(load.serves, RECOVER_S_MAX)
    left, _ = leaks.lasting(lambda: leaks.suspects(node, witness), CLEAN_S_MAX)
    assert not left, node.said()[-4000:]
    assert pid not in [pid for pids in leaks.roles(node).values() for pid in pids]
    assert node.process.poll() is None
    assert load.wrong == [], node.said()[-4000:]


def test_what_was_acknowledged_before_any_kill_is_there(busy):
    node, load, _ = busy
    load.stop()
    until(lambda: not load.unheard(), 90 * PATIENCE)
    assert load.missing() == set()
    assert load.wrong == []


@pytest.fixture
def lonely(possible):
    """A node that the test kills whole."""
    with running_node(*HEARD) as node:
        yield node


def test_a_killed_node_leaves_nothing_and_the_next_start_has_everything(lonely):
    witness = leaks.Witness()
    with Load(lonely, functions=2, callers=2, pause_s=0.1) as load:
        until(load.serves, RECOVER_S_MAX)
        time.sleep(1)
        witness.look(lonely)
        lonely.process.kill()
        lonely.process.wait()
        left, _ = leaks.lasting(lambda: leaks.remains(lonely, witness), CLEAN_S_MAX)
        assert not left, lonely.said()[-4000:]
        load.stop()
        again = lonely.restart()
        try:
            load.node = again
            until(load.serves, RECOVER_S_MAX)
            until(lambda: not load.unheard(), 30 * PATIENCE)
            assert load.missing() == set()
            assert load.wrong == []
        finally:
            again.stop()


def test_when_everybody_is_killed_at_once_nothing_is_left_without_a_new_start(lonely):
    witness = leaks.Witness()
    with Load(lonely, functions=1, callers=1, pause_s=0.1) as load:
        until(load.serves, RECOVER_S_MAX)
        witness.look(lonely)
        load.stop()
        pids = [pid for pids in leaks.roles(lonely).values() for pid in pids]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        lonely.process.wait()
        left, _ = leaks.lasting(lambda: leaks.remains(lonely, witness) | set(map(str, sweepers(lonely.data))), CLEAN_S_MAX)
        assert not left, lonely.said()[-4000:]


def test_a_node_that_is_started_while_the_killed_one_is_dying_is_not_swept_away_with_it(lonely):
    for _ in range(3):
        lonely.process.kill()
        lonely.process.wait()
        again = lonely.restart()
        lonely.process, lonely.endpoint = again.process, again.endpoint
        with Load(again, functions=1, callers=0) as load:
            until(load.serves, RECOVER_S_MAX)
            assert lonely.said().count("the keeper ended") == 0
            aws = again.client()
            for name in [*load.names, *load.deployed]:
                load.stop()
                aws.delete_function(FunctionName=name)
