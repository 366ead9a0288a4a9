"""Admission: how many invocations run or wait, counted before anything is started (decision 10).

Concurrency belongs to an account in a region. A function with a reservation may use exactly that many and takes them out of
what the others share, whether it uses them or not. Counting only: no I/O, no clock, no waiting. What was entered is left
with the *same* `Function`, so that a reservation changed meanwhile cannot unbalance the books.

One of several fronts may only use what it was leased of each limit (`core/leases.py`); who is refused may borrow more.

Invariants: no count is ever negative; a count that falls to nothing takes no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ondol.core.leases import Key
from ondol.model.errors import Throttled
from ondol.model.functions import Function
from ondol.model.limits import CONCURRENCY_PER_ACCOUNT

Region = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Levels:
    """What is under way: by function id; and per region, of functions without a reservation and of those with one."""

    functions: dict[str, int] = field(default_factory=dict)
    regions: dict[Region, tuple[int, int]] = field(default_factory=dict)


class Admission:
    """Counts what is under way. Give `follow` to the catalog's listeners, so that reservations are known."""

    def __init__(self, *, concurrency_max: int = CONCURRENCY_PER_ACCOUNT, leased: Mapping[Key, int] | None = None) -> None:
        """`leased`: how much of each limit may be used here; None: all of it."""
        self.concurrency_max = concurrency_max
        self._leased = leased
        #: What runs at other fronts, for what is measured; None: there are none.
        self.elsewhere: Levels | None = None
        #: Under way, by function id.
        self._functions: dict[str, int] = {}
        #: Under way in functions without a reservation.
        self._shared: dict[Region, int] = {}
        #: Under way in functions with one.
        self._reserved: dict[Region, int] = {}
        #: What is set aside: each function's document and their sum.
        self._reservations: dict[str, tuple[Region, int]] = {}
        self._set_aside: dict[Region, int] = {}

    def enter(self, function: Function) -> None:
        """Count one more; raises Throttled('function' | 'account') when there is no room for it."""
        running = self._functions.get(function.id, 0)
        if function.concurrency_reserved is not None:
            most = function.concurrency_reserved
            if running >= (most if self._leased is None else min(most, self._leased.get(function.id, 0))):
                raise Throttled("function")
            region = (function.account, function.region)
            self._reserved[region] = self._reserved.get(region, 0) + 1
        else:
            region = (function.account, function.region)
            shared = self._shared.get(region, 0)
            most = self.concurrency_max - self._set_aside.get(region, 0)
            if shared >= (most if self._leased is None else min(most, self._leased.get(region, 0))):
                raise Throttled("account")
            self._shared[region] = shared + 1
        self._functions[function.id] = running + 1

    def leave(self, function: Function) -> None:
        """Count one less: once for each `enter` that did not raise."""
        _less(self._functions, function.id)
        _less(self._shared if function.concurrency_reserved is None else self._reserved, (function.account, function.region))

    def levels(self, function: Function) -> tuple[int, int, int]:
        """Under way now, at all fronts: of this function, of its account in its region, and there of functions without a
        reservation.
        """
        region = (function.account, function.region)
        running = self._functions.get(function.id, 0)
        shared, reserved = self._shared.get(region, 0), self._reserved.get(region, 0)
        if self.elsewhere is not None:
            running += self.elsewhere.functions.get(function.id, 0)
            there = self.elsewhere.regions.get(region, (0, 0))
            shared, reserved = shared + there[0], reserved + there[1]
        return running, shared + reserved, shared

    def here(self) -> Levels:
        """All that is under way here."""
        regions = {*self._shared, *self._reserved}
        counts = {region: (self._shared.get(region, 0), self._reserved.get(region, 0)) for region in regions}
        return Levels(dict(self._functions), counts)

    def used(self, key: Key) -> int:
        """How much of a limit is under way here."""
        return self._shared.get(key, 0) if isinstance(key, tuple) else self._functions.get(key, 0)

    def running(self, function: str) -> int:
        """How many of this function are under way."""
        return self._functions.get(function, 0)

    def shared(self, account: str, region: str) -> int:
        """The concurrency that functions without a reservation share."""
        return self.concurrency_max - self._set_aside.get((account, region), 0)

    def follow(self, key: str, noun: Any) -> None:
        """A listener for the catalog's index: keeps the sum of the reservations."""
        before = self._reservations.pop(key, None)
        if before is not None:
            _less(self._set_aside, before[0], before[1])
        if isinstance(noun, Function) and noun.concurrency_reserved:
            region = (noun.account, noun.region)
            self._reservations[key] = (region, noun.concurrency_reserved)
            self._set_aside[region] = self._set_aside.get(region, 0) + noun.concurrency_reserved


def _less(counts: dict[Any, int], key: Any, by: int = 1) -> None:
    left = counts[key] - by
    assert left >= 0, f"more left than entered: {key}"
    if left:
        counts[key] = left
    else:
        del counts[key]
