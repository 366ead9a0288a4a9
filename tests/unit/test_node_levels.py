"""What runs at other fronts is known at each, as of a moment ago."""

from __future__ import annotations

import asyncio
import socket

from ondol.core.admit import Admission
from ondol.node.levels import LevelsEverywhere, LevelsHere
from ondol.node.link import Link
from ondol.testing.pool import a_target

FUNCTION, RESERVED = a_target("shared").function, a_target("reserved", reserved=9).function


class Front:
    """An admission, and a line to the desk."""

    async def join(self, everywhere):
        self.admission = Admission()
        self.here = LevelsHere(self.admission, lambda name, value: self.link.cast(name, value))
        one, two = socket.socketpair()
        loop = asyncio.get_running_loop()
        for sock in (one, two):
            sock.setblocking(False)
        await loop.create_unix_connection(lambda: Link(everywhere.handlers, everywhere.lost), sock=two)
        _, self.link = await loop.create_unix_connection(lambda: Link(self.here.handlers), sock=one)
        self.serving = asyncio.create_task(self.here.serve())
        return self

    async def sees(self, function, levels):
        async with asyncio.timeout(20):
            while self.admission.levels(function) != levels:
                await asyncio.sleep(0.005)

    async def leave(self):
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        self.link.close()
        await self.link.lost


async def test_levels_count_what_runs_at_the_other_fronts():
    everywhere = LevelsEverywhere()
    fronts = [await Front().join(everywhere) for _ in range(3)]
    for front in fronts:
        front.admission.enter(FUNCTION)
    fronts[1].admission.enter(RESERVED)
    for front in fronts:
        await front.sees(FUNCTION, (3, 4, 3))
        await front.sees(RESERVED, (1, 4, 3))
    fronts[1].admission.leave(RESERVED)
    for front in fronts:
        await front.sees(FUNCTION, (3, 3, 3))
    await fronts[2].leave()
    for front in fronts[:2]:
        await front.sees(FUNCTION, (2, 2, 2))
        await front.leave()
    await everywhere.close()


async def test_a_front_alone_measures_itself():
    admission = Admission()
    admission.enter(FUNCTION)
    assert admission.levels(FUNCTION) == (1, 1, 1)
    assert admission.elsewhere is None


async def test_a_new_line_is_told_what_runs_though_it_has_not_changed():
    everywhere = LevelsEverywhere()
    one, other = [await Front().join(everywhere) for _ in range(2)]
    one.admission.enter(FUNCTION)
    other.admission.enter(FUNCTION)
    await other.sees(FUNCTION, (2, 2, 2))
    again = LevelsEverywhere()
    sent = []
    here = LevelsHere(one.admission, lambda _name, value: sent.append(value) or True)
    for _ in range(2):
        here.opened()
        serving = asyncio.create_task(here.serve())
        await asyncio.sleep(0)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert sent == [one.admission.here()] * 2
    for front in (one, other):
        await front.leave()
    await everywhere.close()
    await again.close()
