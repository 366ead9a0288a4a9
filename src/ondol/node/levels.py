"""What runs at other fronts, so that each front can measure the concurrency of all of them. Both halves.

A front says every SAY_S, if that has changed, what runs at it; the desk tells each front the sum of the others'. So what is
measured when a call ends is exact for its own front, and for the others as of a moment ago.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from ondol.core.admit import Admission, Levels, Region
from ondol.node.link import Handler, Link

#: Messages on the line between front and desk: what runs here, and what runs elsewhere.
HERE: Final = "levels"
ELSEWHERE: Final = "elsewhere"
SAY_S: Final = 0.1
#: What several fronts say is gathered for so long.
GATHER_S: Final = 0.02

_EMPTY: Final = Levels()


class LevelsHere:
    """A front's half. `cast(name, value)` answers whether the desk could take it."""

    def __init__(self, admission: Admission, cast: Callable[[str, Any], bool]) -> None:
        self._admission = admission
        self._cast = cast
        self.handlers: dict[str, Handler] = {ELSEWHERE: self._elsewhere}
        self._said = _EMPTY

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            here = self._admission.here()
            if here != self._said and self._cast(HERE, here):
                self._said = here
            await asyncio.sleep(SAY_S)

    def opened(self) -> None:
        """A new line: the desk knows nothing."""
        self._said = _EMPTY

    async def _elsewhere(self, _link: Link, value: Any) -> None:
        self._admission.elsewhere = msgspec.convert(value, Levels)


class LevelsEverywhere:
    """The desk's half. Give `lost` to who sees lines close."""

    def __init__(self) -> None:
        self._fronts: dict[Link, Levels] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.handlers: dict[str, Handler] = {HERE: self._take}

    def lost(self, link: Link) -> None:
        if self._fronts.pop(link, None) is not None:
            self._soon()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _take(self, link: Link, value: Any) -> None:
        self._fronts[link] = msgspec.convert(value, Levels)
        self._soon()

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        for link in list(self._fronts):
            link.cast(ELSEWHERE, summed(levels for other, levels in self._fronts.items() if other is not link))


def summed(levels: Iterable[Levels]) -> Levels:
    """All of them together."""
    functions: Counter[str] = Counter()
    regions: dict[Region, tuple[int, int]] = {}
    for each in levels:
        functions.update(each.functions)
        for region, (shared, reserved) in each.regions.items():
            before = regions.get(region, (0, 0))
            regions[region] = before[0] + shared, before[1] + reserved
    return Levels(dict(functions), regions)
