"""Admission: how many invocations run or wait, counted before anything is started (decision 10).

Concurrency belongs to an account in a region. A function with a reservation may use exactly that many and takes them out of
what the others share, whether it uses them or not. One without a reservation that has environments pinned takes as many out
of what the others share, uses those first, and shares beyond them. Counting only: no I/O, no waiting; the time is an input.
What was entered is left with the *same* `Function`, so that a reservation changed meanwhile cannot unbalance the books.

Calls that somebody waits for are *paced*, too: ten times as many a second as may be running (`core/pace.py`), of a function
with a reservation by that, of the others together by what they share.

One of several fronts may only use what it was leased of each limit (`core/leases.py`); who is refused may borrow more.

Invariants: no count is ever negative; a count that falls to nothing takes no memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ondol.core.leases import Key
from ondol.core.pace import Bucket
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

    def __init__(
        self,
        *,
        concurrency_max: int = CONCURRENCY_PER_ACCOUNT,
        leased: Mapping[Key, int] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`leased`: how much of each limit may be used here; None: all of it. `now_s`: a clock that never goes back."""
        self.concurrency_max = concurrency_max
        self._leased = leased
        self._now_s = now_s
        #: Calls that may come in, by the limit that they count against.
        self._buckets: dict[Key, Bucket] = {}
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

    def enter(self, function: Function, *, paced: bool = False) -> None:
        """Count one more; raises Throttled('function' | 'account') when there is no room for it.

        `paced`: somebody waits for its answer; raises Throttled('function rate' | 'account rate') when too many came just now.
        """
        running = self._functions.get(function.id, 0)
        region = (function.account, function.region)
        bucket = None
        if paced:
            key = region if function.concurrency_reserved is None else function.id
            bucket = self._buckets.get(key)
            if bucket is None or bucket.left <= 0:
                bucket = self._refilled(key)
        if function.concurrency_reserved is not None:
            most = function.concurrency_reserved
            if running >= (most if self._leased is None else min(most, self._leased.get(function.id, 0))):
                raise Throttled("function")
            self._reserved[region] = self._reserved.get(region, 0) + 1
        else:
            shared = self._shared.get(region, 0)
            if self._pins and self._enter_own(function, region):
                self._functions[function.id] = running + 1
                if bucket is not None:
                    bucket.left -= 1
                return
            most = self.concurrency_max - self._set_aside.get(region, 0)
            if shared >= (most if self._leased is None else min(most, self._leased.get(region, 0))):
                raise Throttled("account")
            self._shared[region] = shared + 1
        self._functions[function.id] = running + 1
        if bucket is not None:
            bucket.left -= 1

    def _refilled(self, key: Key) -> Bucket | None:
        """The limit's bucket with what has come by now; None where nothing may run at all, which is for others to refuse."""
        concurrency = self._usable(key)
        if not concurrency:
            return None
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(concurrency, self._now_s())
        elif not bucket.refill(concurrency, self._now_s()):
            raise Throttled("function rate" if isinstance(key, str) else "account rate")
        return bucket

    def _usable(self, key: Key) -> int:
        """How many may run at once here that count against this limit; pins of functions without a reservation belong to it."""
        if isinstance(key, str):
            return self._leased_of(key, self.set_aside(key))
        own = [
            self._leased_of(function, share)
            for function, (region, share) in self._shares.items()
            if region == key and self._known[function].concurrency_reserved is None
        ]
        return self._leased_of(key, self.shared(*key)) + sum(own)

    def _leased_of(self, key: Key, most: int) -> int:
        return most if self._leased is None else min(most, self._leased.get(key, 0))

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
                pins[qualifier] = noun.environments if noun.aside else 0
            if not pins:
                del self._pins[function]
            self._set(function)

    def _set(self, function: str) -> None:
        """Set aside what this function has to itself now."""
        before = self._shares.pop(function, None)
        if before is not None:
            _less(self._set_aside, before[0], before[1])
        known = self._known.get(function)
        share = 0
        if known is not None:
            reserved = known.concurrency_reserved
            share = sum(self._pins.get(function, {}).values()) if reserved is None else reserved
        if known is not None and share:
            region = (known.account, known.region)
            self._shares[function] = (region, share)
            self._set_aside[region] = self._set_aside.get(region, 0) + share
        after = self._shares.get(function)
        if after != before:  # what may come in is reckoned anew
            self._buckets.pop(function, None)
            for share_of in (before, after):
                if share_of is not None:
                    self._buckets.pop(share_of[0], None)


def _less(counts: dict[Any, int], key: Any, by: int = 1) -> None:
    left = counts[key] - by
    assert left >= 0, f"more left than entered: {key}"
    if left:
        counts[key] = left
    else:
        del counts[key]
