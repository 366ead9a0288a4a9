"""Admission: how many invocations run or wait, counted before anything is started (decision 10).

Concurrency belongs to an account in a region. A function with a reservation may use exactly that many and takes them out of
what the others share, whether it uses them or not. One without a reservation that has environments pinned takes as many out
of what the others share, uses those first, and shares beyond them. Counting only: no I/O, no clock, no waiting. What was
entered is left with the *same* `Function`, so that a reservation changed meanwhile cannot unbalance the books.

One of several fronts may only use what it was leased of each limit (`core/leases.py`); who is refused may borrow more.

Invariants: no count is ever negative; a count that falls to nothing takes no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ondol.core.leases import Key
from ondol.model.errors import Throttled
from ondol.model.functions import Function, Pin
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
        #: Under way in what functions have set aside.
        self._reserved: dict[Region, int] = {}
        #: Of functions without a reservation: under way in what their pins set aside.
        self._own: dict[str, int] = {}
        #: Every function, by id, and how many environments of it are pinned, by qualifier.
        self._known: dict[str, Function] = {}
        self._pins: dict[str, dict[str, int]] = {}
        #: What is set aside: each function's share and their sum.
        self._shares: dict[str, tuple[Region, int]] = {}
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
            if self._pins and self._enter_own(function, region):
                self._functions[function.id] = running + 1
                return
            most = self.concurrency_max - self._set_aside.get(region, 0)
            if shared >= (most if self._leased is None else min(most, self._leased.get(region, 0))):
                raise Throttled("account")
            self._shared[region] = shared + 1
        self._functions[function.id] = running + 1

    def leave(self, function: Function) -> None:
        """Count one less: once for each `enter` that did not raise."""
        region = (function.account, function.region)
        if function.concurrency_reserved is not None:
            _less(self._reserved, region)
        elif self._own and self._functions[function.id] <= self._own.get(function.id, 0):
            _less(self._own, function.id)
            _less(self._reserved, region)
        else:
            _less(self._shared, region)
        _less(self._functions, function.id)

    def _enter_own(self, function: Function, region: Region) -> bool:
        """Whether there was room in what the function's pins set aside."""
        pins = self._pins.get(function.id)
        own = self._own.get(function.id, 0)
        if pins is None:
            return False
        most = sum(pins.values())
        if own >= (most if self._leased is None else min(most, self._leased.get(function.id, 0))):
            return False
        self._own[function.id] = own + 1
        self._reserved[region] = self._reserved.get(region, 0) + 1
        return True

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
        """How much of a limit is under way here: of what functions share, or of what one has to itself."""
        if isinstance(key, tuple):
            return self._shared.get(key, 0)
        known = self._known.get(key)
        return (self._own if known is not None and known.concurrency_reserved is None else self._functions).get(key, 0)

    def set_aside(self, function: str) -> int:
        """What the function has to itself: its reservation, or its pins."""
        return self._shares.get(function, (("", ""), 0))[1]

    def running(self, function: str) -> int:
        """How many of this function are under way."""
        return self._functions.get(function, 0)

    def shared(self, account: str, region: str) -> int:
        """The concurrency that functions without a reservation share."""
        return self.concurrency_max - self._set_aside.get((account, region), 0)

    def follow(self, key: str, noun: Any) -> None:
        """A listener for the catalog's index: keeps the sum of what is set aside."""
        kind, *parts = key.split("/")
        if kind == "function":
            if isinstance(noun, Function):
                self._known[parts[-1]] = noun
            else:
                self._known.pop(parts[-1], None)
            self._set(parts[-1])
        elif kind == "pin":
            function, qualifier = parts
            pins = self._pins.setdefault(function, {})
            pins.pop(qualifier, None)
            if isinstance(noun, Pin):
                pins[qualifier] = noun.environments
            if not pins:
                del self._pins[function]
            self._set(function)

    def _set(self, function: str) -> None:
        """Set aside what this function has to itself now."""
        region, share = self._shares.pop(function, (("", ""), 0))
        if share:
            _less(self._set_aside, region, share)
        known = self._known.get(function)
        if known is None:
            return
        reserved = known.concurrency_reserved
        share = sum(self._pins.get(function, {}).values()) if reserved is None else reserved
        if share:
            region = (known.account, known.region)
            self._shares[function] = (region, share)
            self._set_aside[region] = self._set_aside.get(region, 0) + share


def _less(counts: dict[Any, int], key: Any, by: int = 1) -> None:
    left = counts[key] - by
    assert left >= 0, f"more left than entered: {key}"
    if left:
        counts[key] = left
    else:
        del counts[key]
