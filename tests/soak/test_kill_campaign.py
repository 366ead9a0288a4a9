"""Random kills of a node under continuous load, and what must hold after each. Not for every day: `make soak`.

ONDOL_SOAK_KILLS   how many (60)      ONDOL_SOAK_SEED   of the draws (the time, printed)
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections import defaultdict

import pytest

from ondol.testing import leaks
from ondol.testing.load import HEARD, Load, until
from ondol.testing.node import running_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(0)]

KILLS = int(os.environ.get("ONDOL_SOAK_KILLS", "60"))
SEED = int(os.environ.get("ONDOL_SOAK_SEED", str(int(time.time()))))
#: Each as often as the others.
VICTIMS = ["guest", "init", "zygote", "inner", "keeper", "front", "helper", "desk", "supervisor", "everybody"]
#: The promise.
CLEAN_S_MAX = 3.0
#: What takes longer is a failure either way; this long it is looked at, to tell a slow machine from a leak.
LATE_S_MAX = 20.0
RECOVER_S_MAX = 15.0
#: A function whose process was killed is tried again after one minute, then after two.
DEFERRED_S_MAX = 200.0


class Campaign:
    """One node, one load, one witness; and the times."""

    def __init__(self, node, load, draw):
        self.node, self.load, self.draw = node, load, draw
        self.witness = leaks.Witness()
        self.clean_s = defaultdict(list)
        self.recovered_s = defaultdict(list)
        self.failures = []

    def kill(self, victim):
        self.witness.look(self.node)
        roles = leaks.roles(self.node)
        if victim == "everybody":
            for pids in roles.values():
                for pid in pids:
                    signalled(pid)
        elif victim in roles:
            signalled(self.draw.choice(roles[victim]))
        else:
            return  # there is none at this moment
        if victim in ("supervisor", "everybody"):
            self.node.process.wait()
            self.expect_clean(victim, self.remains)
            self.restart()
        begun_s = time.monotonic()
        try:
            until(self.load.serves, RECOVER_S_MAX)
        except TimeoutError:
            self.failures.append(f"{victim}: the node did not recover: {self.node.said()[-3000:]}")
        self.recovered_s[victim].append(time.monotonic() - begun_s)
        self.expect_clean(victim if victim not in ("supervisor", "everybody") else "next start", self.suspects)
        if self.load.wrong:
            self.failures += [f"{victim}: {sentence}" for sentence in self.load.wrong]
            self.load.wrong.clear()

    def restart_cleanly(self):
        """The last act: nothing of what was promised may hang on a process that still lives."""
        self.node.stop()
        self.expect_clean("stop", self.remains)
        self.restart()

    def restart(self):
        again = self.node.restart()
        self.node.process, self.node.endpoint, self.node.credentials = again.process, again.endpoint, again.credentials
        self.load.node = again

    def expect_clean(self, victim, see):
        left, seconds = leaks.lasting(see, CLEAN_S_MAX)
        self.clean_s[victim].append(seconds)
        if left:
            still, more = leaks.lasting(lambda: left & see(), LATE_S_MAX)
            fate = "and still there" if still else f"and gone {more:.1f} s later"
            self.failures.append(f"{victim}: left behind after {CLEAN_S_MAX:g} s, {fate}: {sorted(left)}")

    def remains(self):
        return leaks.remains(self.node, self.witness)

    def suspects(self):
        return leaks.suspects(self.node, self.witness)

    def summary(self):
        lines = [f"{'victim':12} {'kills':>5} {'answers again, s (median, max)':>32} {'nothing left, s (median, max)':>31}"]
        for victim in [*VICTIMS, "next start", "stop"]:
            recovered, clean = self.recovered_s.get(victim, []), self.clean_s.get(victim, [])
            if clean:
                lines.append(f"{victim:12} {len(clean):5} {times(recovered):>32} {times(clean):>31}")
        return "\n".join(lines + [f"{count:7} {what}" for what, count in sorted(self.load.counts.items())])


def times(found):
    return f"{statistics.median(found):.2f}, {max(found):.2f}" if found else "-"


def signalled(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_random_kills_leak_nothing_and_break_no_promise(capsys):
    draw = random.Random(SEED)
    begun_s = time.monotonic()
    with running_node(*HEARD) as node, Load(node, functions=4, callers=4, pause_s=0.05, seed=SEED) as load:
        until(load.serves, RECOVER_S_MAX)
        campaign = Campaign(node, load, draw)
        deck = []
        for _ in range(KILLS):
            if not deck:
                deck = draw.sample(VICTIMS, len(VICTIMS))
            time.sleep(draw.uniform(0.2, 2.0))
            campaign.kill(deck.pop())
        load.stop()
        campaign.restart_cleanly()
        try:
            until(lambda: not load.unheard(), DEFERRED_S_MAX)
        except TimeoutError:
            campaign.failures.append(f"deferred calls that never ran: {sorted(load.unheard())}")
        campaign.failures += sorted(load.missing()) + load.wrong
        again = sum(count - 1 for count in load.ear.heard.values())
        with capsys.disabled():
            print(f"\nseed {SEED}, {KILLS} kills, {time.monotonic() - begun_s:.0f} s\n{campaign.summary()}")
            print(f"{len(load.accepted)} deferred calls acknowledged, none lost, {again} runs more than one")
            print(f"{len(load.deployed)} deploys acknowledged\n{len(campaign.failures)} failures")
        assert campaign.failures == []
