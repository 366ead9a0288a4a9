"""Totals since the desk started: counters that only grow, for whoever asks again and again and looks at the differences.

At most FUNCTIONS_MAX functions are told apart; what others do is counted under OTHERS, so that no total is ever too small.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ondol.core.measuring import AFTERWARDS, THROTTLES, Sum
from ondol.model.summaries import middle_of

FUNCTIONS_MAX: Final = 500
#: No function can be called so.
OTHERS: Final = "(others)"
#: Upper bounds of the durations' histogram, in milliseconds; what is longer is in the last bucket.
BOUNDS_MS: Final = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 900_000)


@dataclass(slots=True)
class Total:
    """Of one function in one account and region."""

    #: By `Status.value`.
    outcomes: dict[str, int] = field(default_factory=dict)
    #: Calls per duration: one bucket for each of BOUNDS_MS, and one for what is longer.
    durations: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    duration_ms: float = 0.0
    cold_starts: int = 0
    cold_ms: float = 0.0
    #: By the name of what was observed: how often, and the sum of the values.
    observed: dict[str, tuple[int, float]] = field(default_factory=dict)


class Totals:
    """See the module."""

    def __init__(self, functions_max: int = FUNCTIONS_MAX) -> None:
        self._functions_max = functions_max
        self._totals: dict[tuple[str, str, str], Total] = {}
        #: The node at this moment, as its front last said: environments per state, memory.
        self.gauges: dict[str, float] = {}
        #: What could not be kept, by what it was.
        self.lost: dict[str, int] = {}

    def add(self, taken: Sum) -> None:
        total = self._of(taken.account, taken.region, taken.name)
        for status, count in taken.outcomes.items():
            total.outcomes[status] = total.outcomes.get(status, 0) + count
        for number, calls in taken.bins.items():
            total.durations[bisect_left(BOUNDS_MS, middle_of(number))] += int(calls)
        total.duration_ms += taken.duration.sum
        total.cold_starts += taken.cold_starts
        total.cold_ms += taken.cold_ms
        if taken.afterwards.count:
            _observe(total, AFTERWARDS, taken.afterwards.count, taken.afterwards.sum)
        if taken.throttles:
            _observe(total, THROTTLES, taken.throttles, float(taken.throttles))

    def observe(self, account: str, region: str, function: str, name: str, value: float) -> None:
        _observe(self._of(account, region, function), name, 1, value)

    def lose(self, what: str, count: int) -> None:
        if count:
            self.lost[what] = self.lost.get(what, 0) + count

    def of_account(self, account: str) -> Iterator[tuple[str, str, Total]]:
        """(region, function, total), sorted."""
        for (owner, region, name), total in sorted(self._totals.items()):
            if owner == account:
                yield region, name, total

    def _of(self, account: str, region: str, name: str) -> Total:
        total = self._totals.get((account, region, name))
        if total is None:
            if len(self._totals) >= self._functions_max:
                name = OTHERS
            total = self._totals.setdefault((account, region, name), Total())
        return total


def cumulated(durations: list[int]) -> Mapping[str, int]:
    """A histogram's buckets as (upper bound in seconds, how many are at most so long)."""
    found: dict[str, int] = {}
    seen = 0
    for bound_ms, count in zip(BOUNDS_MS, durations, strict=False):
        seen += count
        found[f"{bound_ms / 1000:g}"] = seen
    found["+Inf"] = seen + durations[-1]
    return found


def _observe(total: Total, name: str, count: int, value: float) -> None:
    times, sum_ = total.observed.get(name, (0, 0.0))
    total.observed[name] = (times + count, sum_ + value)
