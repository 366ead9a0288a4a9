"""The desk's half of the limits that all fronts share: who holds what, and who gets more (`core/leases.py`; a front's half is
`leasing.py`).

Fronts that are short are served one after another: what is free goes to them, then what the others do not use. A front that
does not answer is not waited for longer than LEND_S_MAX; what it gives later is free.

The books begin anew with each desk, and each line to a front begins with what that front holds. Until all have said so
nothing is granted, for JOIN_S_MAX at most. A front that was lost keeps its tokens until it says anew what it holds, or
for AWAY_S_MAX: longer than its supervisor and its keeper need for ending what it left behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from ondol.core.admit import Admission
from ondol.core.leases import Key, Ledger
from ondol.model.errors import Unavailable
from ondol.model.functions import Function
from ondol.node.leasing import ASK, DECLARE, GRANT, LEND, OWE, changed, counts_of
from ondol.node.link import Handler, Link

LEND_S_MAX: Final = 0.25
JOIN_S_MAX: Final = 10.0
AWAY_S_MAX: Final = 15.0
#: How often fronts are told what they owe, at first and at last.
OWE_S_MIN: Final = 0.02
OWE_S_MAX: Final = 1.0

log = logging.getLogger(__name__)


class _Wish:
    """What a front asks for, as it is being filled."""

    def __init__(self, front: int, epoch: int, wanted: dict[Key, int]) -> None:
        self.front = front
        self.epoch = epoch
        self.wanted = wanted
        self.got = dict.fromkeys(wanted, 0)
        self.open = True

    def short(self) -> list[list[Any]]:
        return [[key, wanted - self.got[key]] for key, wanted in self.wanted.items() if wanted > self.got[key]]


class Lending:
    """See the module. Make it where a loop runs; give `follow` to the index's listeners and `lost` to who sees lines close."""

    def __init__(self, fronts: int, admission: Admission) -> None:
        """`admission` is of this use alone: it is made to follow the reservations."""
        self._ledger = Ledger(fronts)
        self._admission = admission
        self._regions: set[tuple[str, str]] = set()
        #: The line of each front that has said what it holds; how often it has done so.
        self._links: dict[int, Link] = {}
        self._epochs = [0] * fronts
        self._serials = [0] * fronts
        #: Everybody has been known at some time.
        self._complete = False
        self._closing = False
        self._turn = asyncio.Lock()
        self._owing: dict[Key, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        for front in range(fronts):
            self._give_up_in(JOIN_S_MAX, front)
        self.handlers: dict[str, Handler] = {DECLARE: self._declare, ASK: self._ask}

    async def close(self) -> None:
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()

    # Limits ------------------------------------------------------------------------------------------------------------
    def follow(self, key: str, noun: Any) -> None:
        """A listener for the catalog's index. What fronts get for a function goes out before the function itself does."""
        function = changed(key)
        if not function:
            return
        self._admission.follow(key, noun)
        if isinstance(noun, Function):
            self._regions.add((noun.account, noun.region))
        for region in self._regions:
            self._limit(region, self._admission.shared(*region))
        self._limit(function, self._admission.set_aside(function) or None)

    def _limit(self, key: Key, total: int | None) -> None:
        if not self._ledger.limit(key, total) or total is None:
            return
        if self._ledger.excess(key):
            self._collect(key)
        else:
            self._spread([key])

    def _spread(self, keys: list[Key]) -> None:
        """Ahead of need, to everybody who is there."""
        for front, link in self._links.items():
            granted = self._shared(front, keys)
            if granted:
                link.cast(GRANT, granted)  # a line that takes nothing more is about to close

    def _shared(self, front: int, keys: list[Key]) -> list[list[Any]]:
        return [[key, count] for key in keys if (count := self._ledger.share(front, key))]

    # Fronts that come and go ---------------------------------------------------------------------------------------------
    async def _declare(self, link: Link, value: Any) -> list[list[Any]]:
        front, held = value
        if link.serial < self._serials[front]:
            return []  # what it said on a line that it has left, come late
        self._serials[front] = link.serial
        self._ledger.declare(front, dict(counts_of(held)))
        self._links[front] = link
        self._epochs[front] += 1
        self._stop_timer(front)
        granted = self._shared(front, self._ledger.limited)
        for key in self._ledger.limited:
            if self._ledger.excess(key):
                self._collect(key)
        self._look_complete()
        return granted

    def lost(self, link: Link) -> None:
        """A line has closed."""
        for front, its in list(self._links.items()):
            if its is link and not self._closing:
                del self._links[front]
                self._give_up_in(AWAY_S_MAX, front)

    def _give_up_in(self, seconds: float, front: int) -> None:
        self._stop_timer(front)
        self._timers[front] = asyncio.get_running_loop().call_later(seconds, self._give_up, front)

    def _stop_timer(self, front: int) -> None:
        timer = self._timers.pop(front, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self, front: int) -> None:
        log.warning("front %d does not come: the others may use what it had", front)
        self._timers.pop(front, None)
        self._ledger.give_up(front)
        self._epochs[front] += 1
        self._look_complete()

    def _look_complete(self) -> None:
        """From the moment on that everybody is known, tokens are given out."""
        if self._ledger.complete and not self._complete:
            self._complete = True
            self._spread(self._ledger.limited)

    # Fronts that are short ------------------------------------------------------------------------------------------------
    async def _ask(self, link: Link, value: Any) -> list[Any] | None:
        """What the front gets of what it wants, and whether there is no more: what a lost front holds may still come.

        None while it is not known what all of them hold.
        """
        front = next((number for number, its in self._links.items() if its is link), None)
        if front is None or not self._complete:
            return None
        wish = _Wish(front, self._epochs[front], dict(counts_of(value)))
        async with self._turn:
            if self._epochs[front] != wish.epoch:
                return None
            stamps = {key: self._ledger.stamp(key) for key in wish.wanted}
            for key, wanted in wish.wanted.items():
                wish.got[key] = self._ledger.ask(front, key, wanted)
            if wish.short():
                await self._collect_for(wish)
            wish.open = False
        if self._epochs[front] != wish.epoch:
            return None
        lost = [number for number in range(self._ledger.fronts) if number not in self._links]
        final = not any(self._ledger.held(number, key) for number in lost for key, _ in counts_of(wish.short()))
        return [[[key, count] for key, count in wish.got.items() if count and self._ledger.stamp(key) == stamps[key]], final]

    async def _collect_for(self, wish: _Wish) -> None:
        short = [key for key, _ in counts_of(wish.short())]
        lenders = [
            self._keep(self._lend(giver, link, wish))
            for giver, link in self._links.items()
            if giver != wish.front and any(self._ledger.held(giver, key) for key in short)
        ]
        if lenders:
            await asyncio.wait(lenders, timeout=LEND_S_MAX)

    async def _lend(self, giver: int, link: Link, wish: _Wish) -> None:
        """Have one front lend what is short. Never cancelled: what it gives must be written down."""
        short = wish.short()
        epoch, stamps = self._epochs[giver], {key: self._ledger.stamp(key) for key, _ in counts_of(short)}
        try:
            given = counts_of(await link.call(LEND, short))
        except Unavailable:
            return
        for key, count in given:
            if self._epochs[giver] != epoch or self._ledger.stamp(key) != stamps[key]:
                continue
            if wish.open and self._epochs[wish.front] == wish.epoch:
                self._ledger.move(giver, wish.front, key, count)
                wish.got[key] += count
            else:
                self._ledger.give_back(giver, key, count)

    # Limits that fall -------------------------------------------------------------------------------------------------------
    def _collect(self, key: Key) -> None:
        """Have fronts give back what is too much, as their calls end."""
        if key not in self._owing:
            task = self._owing[key] = self._keep(self._come_down(key))
            task.add_done_callback(lambda _: self._owing.pop(key, None))

    async def _come_down(self, key: Key) -> None:
        pause_s = OWE_S_MIN
        while True:
            owed = self._ledger.owed(key)
            told = [self._keep(self._owe(front, link, key, owed[front])) for front, link in self._links.items()]
            if told:
                await asyncio.wait(told, timeout=OWE_S_MAX)
            if not any(owed.values()):
                self._spread([key])
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, OWE_S_MAX)

    async def _owe(self, front: int, link: Link, key: Key, count: int) -> None:
        """Tell one front what it owes. Never cancelled, as `_lend`."""
        epoch, stamp = self._epochs[front], self._ledger.stamp(key)
        try:
            given = await link.call(OWE, [[key, count]])
        except Unavailable:
            return
        if given and self._epochs[front] == epoch and self._ledger.stamp(key) == stamp:
            self._ledger.give_back(front, key, given)

    def _keep(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
