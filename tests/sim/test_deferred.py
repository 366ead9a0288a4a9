"""The dispatcher in virtual time under everything that goes wrong: each accepted call ends exactly once, and says how.

Random functions that succeed, fail, are throttled or take long; a disk that is full now and then; fronts that are away; desks
that are killed and started again. ONDOL_SIM_SEEDS: how many schedules (200).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from ondol.core.deferrals import USUAL
from ondol.core.deferred import RUNNING_MAX, Dispatcher
from ondol.core.outcomes import Tried
from ondol.core.retry import CHAIN_MAX
from ondol.model.deferrals import Destination
from ondol.model.errors import NotFound, Throttled, Unavailable
from ondol.queue import Deferred
from ondol.testing.pool import LoopClock, run_virtually
from ondol.testing.queue import MemoryQueue

SEEDS = min(int(os.environ.get("ONDOL_SIM_SEEDS", "60")), 5000)
EVENTS = 60
#: Everything is over by then: the longest age, and some for the last pauses.
OVER_S = 8 * 3600.0
FUNCTIONS = ["good", "flaky", "bad", "slow", "full", "teller", "gone"]


class World:
    """A queue, and a desk at a time that works on it; the front keeps running what a killed desk had asked for."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.queue = MemoryQueue()
        self.front, self.away = {}, False
        self.started, self.running, self.most = defaultdict(list), 0, 0
        self.kills = []
        self.accepted, self.told, self.serving = set(), {}, None
        self.start()

    # The desk --------------------------------------------------------------------------------------------------------
    def start(self):
        self.queue.release()
        self.dispatcher = Dispatcher(self.queue, self.ask, LoopClock(), rules=self.rules, sequel=self.sequel, able=self.able)
        self.serving = asyncio.create_task(self.dispatcher.serve())

    async def kill(self):
        self.kills.append(LoopClock().now_s())
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        await self.dispatcher.close()

    async def able(self):
        while self.away:
            await asyncio.sleep(1)

    def rules(self, function, _qualifier):
        on_success = Destination(dialect="d", account="1", region="r", name="teller") if function == "teller" else None
        return replace(USUAL, retries_max=2 if function != "bad" else 1, on_success=on_success)

    def sequel(self, ended, destination, now_s):
        """A fresh id each time it is made, so that one told twice would be seen."""
        made = event(f"{ended.item.id}+{len(self.told)}", destination.name, now_s, chain=ended.item.chain + 1)
        self.told[made.id] = ended.item.id
        return made

    # The front -------------------------------------------------------------------------------------------------------
    async def ask(self, item, _bytes_max):
        if self.away:
            raise Unavailable("no front is there")
        key = (item.id, item.attempts)
        if key not in self.front:
            self.front[key] = asyncio.create_task(self.run(item))
        await asyncio.wait([self.front[key]])  # a desk that is killed leaves it there for the next one
        return self.front.pop(key).result()

    async def run(self, item):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.draw.uniform(0, 800 if item.function == "slow" else 2))
        finally:
            self.running -= 1
        if item.function == "gone":
            raise NotFound("function", "gone")
        if item.function == "full" and self.draw.random() < 0.9:
            raise Throttled("function")
        self.started[item.id, item.attempts].append(LoopClock().now_s())
        fails = item.function == "bad" or (item.function == "flaky" and self.draw.random() < 0.5)
        return Tried(succeeded=not fails, body=b"said")

    # What happens ----------------------------------------------------------------------------------------------------
    async def accept(self, number):
        item = event(f"{number}", self.draw.choice(FUNCTIONS), LoopClock().wall_s())
        try:
            await self.queue.enqueue([item])
        except Unavailable:
            return
        self.accepted.add(item.id)
        self.dispatcher.woken()

    async def trouble(self):
        match self.draw.randrange(5):
            case 0:
                await self.kill()
                await asyncio.sleep(self.draw.uniform(0, 5))
                self.start()
            case 1:
                self.queue.fails = {
                    name for name in ("claim", "ack", "retry", "dead", "enqueue", "then") if self.draw.random() < 0.5
                }
                await asyncio.sleep(self.draw.uniform(0, 60))
                self.queue.fails = set()
            case 2:
                self.away = True
                await asyncio.sleep(self.draw.uniform(0, 60))
                self.away = False
            case _:
                await asyncio.sleep(self.draw.uniform(0, 300))

    async def live(self):
        for number in range(EVENTS):
            await self.accept(number)
            if self.draw.random() < 0.3:
                await self.trouble()
        await asyncio.sleep(OVER_S)
        await self.kill()


def event(name, function, now_s, chain=0):
    return Deferred(
        id=name, account="1", region="r", function=function, qualifier=None, payload=b"", context={}, accepted_s=now_s,
        visible_s=now_s, chain=chain,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_goes_wrong_each_accepted_call_ends_once_and_says_how(seed):
    async def story():
        world = World(seed)
        await world.live()
        return world

    world = run_virtually(story())
    assert not world.queue.waiting, "something never ended"
    dead, tried = world.queue.reasons, {name for name, _ in world.started}
    assert world.accepted <= tried | dead.keys(), "something vanished untried"
    # A try is made twice only when a desk was killed that knew its end and had not written it down.
    for moments in world.started.values():
        for first, again in itertools.pairwise(moments):
            assert any(first <= kill <= again for kill in world.kills)
    # The function is tried as often as it may.
    assert all(attempts <= 2 for _, attempts in world.started)
    assert world.most <= 2 * RUNNING_MAX
    # What is told is told once for each end, and a chain ends.
    told = Counter(parent for name, parent in world.told.items() if name in tried | dead.keys())
    assert set(told.values()) <= {1}
    assert all(name.count("+") == CHAIN_MAX for name, why in dead.items() if why == "chain too long")
    assert {why for name, why in dead.items()} <= {
        "retries exhausted", "event age exceeded", "the function is gone", "chain too long",
    }  # fmt: skip
