"""Kills and the orderly end of a node that an ordinary user runs, without any right of root's."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from ondol.testing import leaks
from ondol.testing.keepers import USER
from ondol.testing.load import HEARD, Load, deploy, until
from ondol.testing.node import leftovers, running_node, start
from ondol.testing.patience import PATIENCE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

CLEAN_S_MAX = 10.0 * PATIENCE
RECOVER_S_MAX = 20.0 * PATIENCE
#: The promise for Ctrl-C, and what a busy machine may add to it.
STOP_S_MAX = 5.0
SLACK_S = 3.0
ASLEEP = "import time\ndef handler(event, context):\n    print('asleep', flush=True)\n    time.sleep(60)\n"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a node as somebody else")


@pytest.fixture(scope="module")
def theirs(possible):
    """An ordinary user's node with clients at work."""
    with running_node(*HEARD, user=USER) as node, Load(node, functions=2, callers=2, pause_s=0.1) as load:
        until(load.serves, RECOVER_S_MAX)
        yield node, load, leaks.Witness()
        load.stop()


def remains_of_shells(node):
    """Where there are no control groups to tell shells by, they are counted: as many directories as inits."""
    names = [name for name in os.listdir(node.data / "shells") if not name.startswith(".")]
    return set(names) if len(names) != len(leaks.roles(node).get("init", [])) else set()


@needs_root
@pytest.mark.parametrize("victim", ["guest", "init", "zygote", "inner", "keeper", "front", "desk"])
def test_a_kill_in_an_ordinary_users_node_leaves_nothing_and_the_node_goes_on(theirs, victim):
    node, load, witness = theirs
    witness.look(node)
    os.kill(leaks.roles(node)[victim][-1], signal.SIGKILL)
    until(load.serves, RECOVER_S_MAX)
    left, _ = leaks.lasting(lambda: leaks.suspects(node, witness) | remains_of_shells(node), CLEAN_S_MAX)
    assert not left, node.said()[-4000:]
    assert load.wrong == [], node.said()[-4000:]


@needs_root
def test_an_ordinary_users_killed_node_leaves_nothing_and_the_next_start_has_everything(possible):
    witness = leaks.Witness()
    with running_node(*HEARD, user=USER) as node, Load(node, functions=1, callers=1, pause_s=0.1) as load:
        until(load.serves, RECOVER_S_MAX)
        witness.look(node)
        node.process.kill()
        node.process.wait()
        left, _ = leaks.lasting(lambda: leaks.remains(node, witness), CLEAN_S_MAX)
        assert not left, node.said()[-4000:]
        load.stop()
        again = start(node.data, *node.flags, user=USER)
        try:
            load.node = again
            until(load.serves, RECOVER_S_MAX)
            until(lambda: not load.unheard(), 30 * PATIENCE)
            assert load.missing() == set()
        finally:
            again.stop()
        assert load.wrong == []


@needs_root
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_an_ordinary_users_node_ends_in_seconds_also_in_the_middle_of_a_long_call(possible, how):
    with running_node(user=USER) as node:
        aws = node.client(read_timeout=30)
        deploy(aws, "sleeper", source=ASLEEP, timeout_s=60)
        caller = threading.Thread(target=calling, args=(aws, "sleeper"))
        caller.start()
        until(lambda: asleep(node), RECOVER_S_MAX)
        pids = node.processes()
        begun_s = time.monotonic()
        assert node.stop(how) == 0
        assert time.monotonic() - begun_s < STOP_S_MAX + SLACK_S
        caller.join(RECOVER_S_MAX)
        assert not caller.is_alive()
        assert leftovers(node, pids) == []


def calling(aws, name):
    with contextlib.suppress(Exception):  # the node goes away under it, in whatever way
        aws.invoke(FunctionName=name)


def asleep(node):
    logs = node.client("logs")
    with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
        return any(
            "asleep" in event["message"] for event in logs.filter_log_events(logGroupName="/aws/lambda/sleeper")["events"]
        )
    return False
