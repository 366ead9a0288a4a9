"""Limits that hold across fronts, over the real line's messages with random delays, in virtual time: never over, never stuck.

Random calls at random fronts; lines that are slow and break; fronts and desks that are killed and started again; reservations
that come, go and change. ONDOL_SIM_SEEDS: how many schedules.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, defaultdict, deque
from contextlib import suppress

import pytest

from ondol.core.admit import Admission
from ondol.core.catalog import Index, put
from ondol.model.errors import Throttled
from ondol.model.functions import Pin
from ondol.node import leasing, lending
from ondol.node.following import Followers, Following
from ondol.node.lending import Lending
from ondol.node.sharing import Sharing
from ondol.store import Change, Document
from ondol.testing.pool import LoopClock, a_target, run_virtually

SEEDS = min(int(os.environ.get("ONDOL_SIM_SEEDS", "15")), 5000)
LIMIT = 12
NAMES = ("shared", "also-shared", "reserved")


class Wire(asyncio.Transport):
    """One direction of a line: in order, each piece after a delay of its own."""

    def __init__(self, draw, slowest_s):
        super().__init__()
        self.draw, self.slowest_s = draw, slowest_s
        self.other, self.protocol, self.at_s, self.closed = None, None, 0.0, False
        self.acts = deque()

    def write(self, data):
        if not self.closed:
            self.later(lambda: self.other.closed or self.other.protocol.data_received(data))

    def later(self, act):
        loop = asyncio.get_running_loop()
        self.at_s = max(self.at_s, loop.time() + self.draw.uniform(0.0, self.slowest_s))
        self.acts.append(act)  # timers of one moment may go off in any order
        loop.call_at(self.at_s, lambda: self.acts.popleft()())

    def close(self):
        if not self.closed:
            self.closed = True
            self.later(self.other.close)
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self):
        return self.closed

    def get_write_buffer_size(self):
        return 0


class Front:
    """One front's part of the matter, as app/front.py joins it."""

    def __init__(self, world, number):
        self.world, self.number = world, number
        self.index = Index()
        self.sharing = Sharing(number, world.count, concurrency_max=LIMIT, cast=lambda *_: True)
        self.admission, self.leasing = self.sharing.admission, self.sharing._leasing
        self.shares = self.leasing._shares
        self.index.listeners.append(self.sharing.follow)
        self.following = Following(
            lambda factory: world.connect(self, factory),
            self.index,
            self.sharing.handlers,
            opened=self.sharing.opened,
        )
        self.wire = None
        self.alive = True
        self.running = Counter()
        self.serving = asyncio.create_task(self.following.serve())

    async def kill(self):
        self.alive = False
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        if self.wire is not None:
            self.wire.close()


class World:
    def __init__(self, seed, *, fronts=None, slowest_s=0.005):
        self.draw = random.Random(seed)
        self.slowest_s = slowest_s
        self.count = fronts or self.draw.choice([2, 2, 3, 5])
        self.number = 0
        self.documents = {}
        self.desk = None
        self.wires = []
        #: Calls that run, by key; a killed front's run until they are ended for it.
        self.in_use = Counter()
        #: The most that ran at once since each moment that somebody remembers.
        self.peaks = {}
        self.entered, self.refused = Counter(), Counter()
        for name in NAMES:
            self.write(name, reserved=4 if name == "reserved" else None)
        self.start_desk()
        self.fronts = [Front(self, number) for number in range(self.count)]

    # Catalog -----------------------------------------------------------------------------------------------------------
    def write(self, name, *, reserved):
        self.publish(put(a_target(name, reserved=reserved).function))

    def publish(self, made):
        self.number += 1
        self.documents[made.key] = Document(made.key, made.value, self.number)
        if self.desk is not None:
            change = Change(self.number, made.key, made.value)
            self.desk[0].apply(change)
            self.desk[1].changed([change])

    # The desk ----------------------------------------------------------------------------------------------------------
    def start_desk(self):
        index = Index()
        lender = Lending(self.count, Admission(concurrency_max=LIMIT))
        followers = Followers(dict(lender.handlers), fronts=self.count)
        followers.listeners.append(lender.lost)
        index.listeners.append(lender.follow)
        index.load(self.number, self.documents.values())
        followers.load(self.number, list(self.documents.values()))
        self.desk = (index, followers, lender)

    async def kill_desk(self):
        _, _, lender = self.desk
        self.desk = None
        await lender.close()
        for wire in self.wires:
            wire.close()
        self.wires.clear()

    async def connect(self, front, factory):
        await asyncio.sleep(self.draw.uniform(0.0, self.slowest_s))
        if self.desk is None or not front.alive:
            raise ConnectionRefusedError
        ours, theirs = Wire(self.draw, self.slowest_s), Wire(self.draw, self.slowest_s)
        ours.other, theirs.other = theirs, ours
        ours.protocol, theirs.protocol = factory(), self.desk[1].link()
        front.wire = ours
        self.wires.append(theirs)
        theirs.protocol.connection_made(theirs)
        ours.protocol.connection_made(ours)
        return ours, ours.protocol

    # Calls -------------------------------------------------------------------------------------------------------------
    async def call(self, front, name, seconds, *, paced=False):
        """As core/invoke.py admits. None: refused."""
        function = next((f for f in front.index.functions() if f.name == name), None)
        if function is None or not front.alive:
            return None
        mark = object()
        key = function.id if function.concurrency_reserved is not None else (function.account, function.region)
        self.peaks[mark] = Counter(self.in_use)
        try:
            try:
                front.admission.enter(function, paced=paced)
            except Throttled:
                await front.leasing.borrow(function, paced)
        except Throttled:
            self.refused[name] += 1
            return key, self.peaks.pop(mark)[key]
        self.peaks.pop(mark)
        if not front.alive:
            return None  # it was killed while this call waited, and so was the call
        self.entered[name] += 1
        self.in_use[key] += 1
        front.running[key] += 1
        self.look(key)
        try:
            await asyncio.sleep(seconds)
        finally:
            if front.alive:
                front.admission.leave(function)
                self.in_use[key] -= 1
                front.running[key] -= 1
        return None

    def look(self, key):
        for peak in self.peaks.values():
            peak[key] = max(peak[key], self.in_use[key])

    def over(self):
        """What is used beyond its limit."""
        reserved = Counter()
        for document in self.documents.values():
            reserved[document.value.get("id")] = document.value.get("concurrency_reserved") or 0
        limits = defaultdict(lambda: LIMIT - reserved.total(), reserved)
        return {key: used for key, used in self.in_use.items() if used > limits[key]}

    async def restart(self, front):
        """Kill it and, when what it ran has been ended for it, start its successor."""
        await front.kill()
        await asyncio.sleep(self.draw.uniform(0.05, 2.0))
        self.in_use.subtract(front.running)
        self.fronts[front.number] = Front(self, front.number)

    async def end(self):
        for front in self.fronts:
            await front.kill()
        if self.desk is not None:
            await self.kill_desk()
        await asyncio.sleep(1)

    # The end -----------------------------------------------------------------------------------------------------------
    async def settled(self):
        """When nothing runs, both halves' books agree, and every token is there."""
        await asyncio.sleep(lending.AWAY_S_MAX + lending.JOIN_S_MAX + 10)
        ledger = self.desk[2]._ledger
        for key in ledger.limited:
            held = [front.shares._held.get(key, 0) for front in self.fronts]
            assert held == [ledger.held(number, key) for number in range(self.count)], key
            assert [front.shares.usable.get(key, 0) for front in self.fronts] == held, "something is owed for ever"
            assert sum(held) + ledger.free(key) == ledger._limits[key]
        assert not any(front.leasing._waiting for front in self.fronts)


async def calls_at_random(world, count, *, seconds=0.3):
    tasks = []
    for _ in range(count):
        front = world.draw.choice(world.fronts[: world.draw.choice([1, world.count])])  # demand is uneven
        tasks.append(asyncio.create_task(world.call(front, world.draw.choice(NAMES), world.draw.expovariate(1 / seconds))))
        await asyncio.sleep(world.draw.expovariate(100))
        assert not world.over(), "more run than may"
    return tasks


@pytest.mark.parametrize("seed", range(SEEDS))
def test_never_more_run_than_may_and_nobody_is_refused_while_there_is_room(seed):
    async def story():
        world = World(seed)
        await asyncio.sleep(1)
        refusals = [found for found in await asyncio.gather(*await calls_at_random(world, 400)) if found]
        limits = {key: world.desk[2]._ledger._limits[key] for key in world.desk[2]._ledger.limited}
        for key, peak in refusals:
            # Fronts are asked within the same few milliseconds, not in the same instant.
            assert peak >= limits[key] - (world.count - 1), "it was refused, and there was room"
        assert refusals
        assert world.entered["shared"]
        assert world.entered["reserved"]
        await world.settled()
        await world.end()

    run_virtually(story())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_kills_of_fronts_and_desks_and_broken_lines_lose_no_token_and_make_none(seed):
    async def story():
        world = World(seed, slowest_s=random.Random(seed).choice([0.001, 0.01, 0.1]))
        restarts, calls = [], []
        for _ in range(25):
            calls += await calls_at_random(world, 20)
            match world.draw.choice(["nothing", "line", "desk", "front"]):
                case "line":
                    wire = world.draw.choice(world.fronts).wire
                    if wire is not None:
                        wire.close()
                case "desk" if world.desk is not None:
                    await world.kill_desk()
                    await asyncio.sleep(world.draw.uniform(0.0, 0.5))
                    world.start_desk()
                case "front":
                    front = world.draw.choice(world.fronts)
                    if front.alive:
                        restarts.append(asyncio.create_task(world.restart(front)))
        began_s = LoopClock().now_s()
        _, late = await asyncio.wait(calls, timeout=60)
        assert not late or not any(not task.done() for task in late), "a call waits for ever"
        assert LoopClock().now_s() - began_s < leasing.AWAY_S_MAX + 10
        await asyncio.gather(*restarts)
        await world.settled()
        full = [world.call(world.fronts[0], "reserved", 1.0) for _ in range(5)]
        assert [found is None for found in await asyncio.gather(*full)].count(False) == 1
        await world.end()

    run_virtually(story())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_reservations_that_change_are_in_force_everywhere_in_the_end(seed):
    async def story():
        world = World(seed)
        calls = []
        for _ in range(15):
            for _ in range(20):
                front = world.draw.choice(world.fronts)
                calls.append(asyncio.create_task(world.call(front, world.draw.choice(NAMES), world.draw.expovariate(5))))
                await asyncio.sleep(world.draw.expovariate(100))
            world.write(world.draw.choice(NAMES), reserved=world.draw.choice([None, None, 0, 1, 3]))
        await asyncio.gather(*calls)
        await world.settled()
        for name in NAMES:
            await asyncio.gather(*(world.call(front, name, 0.1) for front in world.fronts for _ in range(LIMIT)))
            assert not world.over()
        await world.end()

    run_virtually(story())


def test_a_front_that_lets_in_as_many_a_second_as_it_may_borrows_of_the_others_rate():
    async def story():
        world = World(1, fronts=2)
        await asyncio.sleep(1)
        alone = 10 * world.fronts[0].shares.usable[a_target().function.account, a_target().function.region]
        calls = [await world.call(world.fronts[0], "shared", 0.0, paced=True) for _ in range(1000)]
        let_in, most = calls.count(None), 10 * (LIMIT - 4)
        assert alone < let_in, "nothing was borrowed"
        assert let_in <= 2 * most + 10 * LIMIT, "more than the limit's rate"
        await world.settled()
        await world.end()

    run_virtually(story())


@pytest.mark.parametrize("fronts", [2, 3])
def test_what_pins_set_aside_is_used_first_wherever_its_calls_arrive_and_by_nobody_else(fronts):
    async def story():
        world = World(1, fronts=fronts)
        world.publish(put(Pin(function=a_target("shared").function.id, qualifier=None, environments=3)))
        await asyncio.sleep(1)
        busy = [world.call(world.fronts[-1], "also-shared", 5.0) for _ in range(LIMIT)]
        others = asyncio.gather(*busy)
        await asyncio.sleep(1)
        assert sum(world.in_use.values()) == LIMIT - 4 - 3
        mine = await asyncio.gather(*(world.call(world.fronts[0], "shared", 1.0) for _ in range(5)))
        assert [found is None for found in mine].count(True) == 3
        await others
        mine = await asyncio.gather(*(world.call(world.fronts[0], "shared", 1.0) for _ in range(LIMIT)))
        assert [found is None for found in mine].count(True) == LIMIT - 4
        await world.settled()
        await world.end()

    run_virtually(story())


def test_a_limit_that_falls_is_reached_though_every_front_is_busy_all_the_time():
    async def story():
        world = World(1, fronts=2)
        await asyncio.sleep(1)
        until_s = LoopClock().now_s() + 5

        async def client(front):
            while LoopClock().now_s() < until_s:
                await world.call(front, "shared", 0.05)
                await asyncio.sleep(0)

        clients = [asyncio.create_task(client(front)) for front in world.fronts for _ in range(LIMIT)]
        await asyncio.sleep(1.01)
        assert sum(world.in_use.values()) == LIMIT - 4
        world.write("also-shared", reserved=5)
        await asyncio.sleep(1)
        assert sum(world.in_use.values()) == LIMIT - 4 - 5
        await asyncio.gather(*clients)
        await world.end()

    run_virtually(story())


def test_while_the_desk_is_away_what_a_front_has_goes_on_and_more_is_waited_for_and_refused():
    async def story():
        world = World(1, fronts=2)
        await asyncio.sleep(1)
        await world.kill_desk()
        began_s = LoopClock().now_s()
        results = await asyncio.gather(*(world.call(world.fronts[0], "shared", 10.0) for _ in range(5)))
        assert [found is None for found in results].count(True) == (LIMIT - 4) // 2
        assert LoopClock().now_s() - began_s < 10 + leasing.AWAY_S_MAX
        await world.end()

    run_virtually(story())


def test_while_a_front_is_away_calls_wait_for_what_it_had_instead_of_being_refused():
    async def story():
        world = World(1, fronts=2)
        await asyncio.sleep(1)
        restart = asyncio.create_task(world.restart(world.fronts[1]))
        results = await asyncio.gather(*(world.call(world.fronts[0], "shared", 20.0) for _ in range(8)))
        assert [found is None for found in results] == [True] * 8
        await restart
        await world.end()

    run_virtually(story())


def test_a_call_that_waits_is_let_in_when_one_that_runs_here_ends():
    async def story():
        world = World(1, fronts=2)
        await asyncio.sleep(1)
        await world.kill_desk()
        results = await asyncio.gather(*(world.call(world.fronts[0], "shared", 1.0) for _ in range(8)))
        assert [found is None for found in results] == [True] * 8
        await world.end()

    run_virtually(story())


def test_a_front_that_does_not_come_back_leaves_what_it_had_to_the_others():
    async def story():
        world = World(1, fronts=2)
        await asyncio.sleep(1)
        await world.fronts[1].kill()
        began_s = LoopClock().now_s()
        results = await asyncio.gather(*(world.call(world.fronts[0], "shared", 10) for _ in range(8)))
        assert [found is None for found in results].count(True) == 4, "the others waited"
        assert LoopClock().now_s() == began_s + 10
        await asyncio.sleep(lending.AWAY_S_MAX + 1)
        results = await asyncio.gather(*(world.call(world.fronts[0], "shared", 0.5) for _ in range(9)))
        assert [found is None for found in results].count(True) == 8
        await world.end()

    run_virtually(story())


def test_a_front_that_hangs_holds_the_others_up_for_a_moment_only_and_what_it_gives_late_is_counted():
    async def story():
        world = World(1, fronts=2)
        await asyncio.sleep(1)
        theirs = world.fronts[1].wire.other
        theirs.slowest_s, world.draw = 3.0, random.Random(1)
        true, theirs.draw = theirs.draw, random.Random(2)
        theirs.draw.uniform = lambda _low, high: high
        results = await asyncio.gather(*(world.call(world.fronts[0], "shared", 0.5) for _ in range(5)))
        assert [found is None for found in results].count(True) == 4
        await asyncio.sleep(10)
        theirs.draw, theirs.slowest_s = true, 0.001
        results = await asyncio.gather(*(world.call(world.fronts[0], "shared", 0.5) for _ in range(8)))
        assert [found is None for found in results].count(True) == 8
        await world.settled()
        await world.end()

    run_virtually(story())


def test_a_cancelled_call_that_was_let_in_is_let_out():
    async def story():
        world = World(1, fronts=2)
        await asyncio.sleep(1)
        front = world.fronts[0]
        calls = [asyncio.create_task(world.call(front, "shared", 60.0)) for _ in range(4)]
        await asyncio.sleep(0.1)
        late = asyncio.create_task(world.call(front, "shared", 60.0))
        while not front.leasing._waiting:
            await asyncio.sleep(0)
        waiting = front.leasing._waiting[0]
        waiting.done.add_done_callback(lambda _: late.cancel())
        with suppress(asyncio.CancelledError):
            await late
        assert front.admission.used(("000000000000", waiting.function.region)) == 4
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await world.end()

    run_virtually(story())
