"""What is kept of many values instead of the values: count, sum, extremes, and a bounded sketch for percentiles. Pure.

The sketch counts values in bins that grow by a constant factor: bin i holds the values in (GROWTH**(i-1), GROWTH**i]. A
percentile is answered with a value that is at most ERROR_MAX away from the true one, relative to it (the extremes and whatever
is equal to them are exact). Beyond BINS_MAX different bins the lowest ones are joined: then low percentiles lose their
precision, high ones keep it.

Invariants: it makes no difference in which order is merged, as long as no bins are joined; a sketch covers every value or says
that it does not (`percentiles`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

#: Relative error of a percentile.
ERROR_MAX: Final = 0.01
GROWTH: Final = (1 + ERROR_MAX) / (1 - ERROR_MAX)
BINS_MAX: Final = 1024
#: Nothing, and what is below it: below the bin of the smallest float.
ZERO_BIN: Final = -40_000
#: One multiplication instead of a division per value.
PER_LOG: Final = 1 / math.log(GROWTH)


def bin_of(value: float) -> int:
    """The bin that counts a value."""
    return math.ceil(math.log(value) * PER_LOG) if value > 0 else ZERO_BIN


def middle_of(number: int) -> float:
    """The value that stands for a bin: equally far, relatively, from both its ends."""
    return 0.0 if number == ZERO_BIN else 2 * GROWTH**number / (GROWTH + 1)


@dataclass(frozen=True, slots=True)
class Summary:
    """Of at least one value. `bins` is left empty while all values are equal, or when only these four numbers are known."""

    count: float
    sum: float
    low: float
    high: float
    bins: Mapping[int, float] = field(default_factory=dict)

    @property
    def average(self) -> float:
        return self.sum / self.count

    @property
    def percentiles(self) -> bool:
        """Whether the sketch can answer: it covers every value, and none is negative."""
        return self.low >= 0 and abs(sum(self.sketch.values()) - self.count) <= 1e-9 * self.count

    @property
    def sketch(self) -> Mapping[int, float]:
        """The bins, also where they go without saying."""
        if not self.bins and self.low == self.high:
            return {bin_of(self.low): self.count}
        return self.bins

    def percentile(self, percent: float) -> float | None:
        """The value below which `percent` (0 to 100) of all lie; None where the sketch cannot say."""
        if not self.percentiles:
            return None
        if percent <= 0:
            return self.low
        if percent >= 100:
            return self.high
        wanted = self.count * percent / 100
        seen = 0.0
        for value, count in self.steps():
            seen += count
            if seen >= wanted * (1 - 1e-12):
                return value
        return self.high

    def steps(self) -> Iterator[tuple[float, float]]:
        """(value, how often), ascending: as the sketch remembers them."""
        ordered = sorted(self.sketch.items())
        for at, (number, count) in enumerate(ordered):
            if at == len(ordered) - 1:
                yield self.high if len(ordered) == 1 else min(middle_of(number), self.high), count
            else:
                yield max(middle_of(number), self.low), count


def of_values(values: Iterable[tuple[float, float]]) -> Summary:
    """Of values, each with how often it came (more than never). Raises ValueError for none."""
    count = total = 0.0
    low, high = math.inf, -math.inf
    bins: dict[int, float] = {}
    for value, times in values:
        count += times
        total += value * times
        low, high = min(low, value), max(high, value)
        number = bin_of(value)
        bins[number] = bins.get(number, 0.0) + times
    if not count:
        raise ValueError("a summary is of at least one value")
    return Summary(count, total, low, high, {} if low == high else bounded(bins))


def merged(one: Summary, other: Summary) -> Summary:
    """Of the values of both."""
    low, high = min(one.low, other.low), max(one.high, other.high)
    if low == high:
        return Summary(one.count + other.count, one.sum + other.sum, low, high)
    bins = dict(one.sketch)
    for number, count in other.sketch.items():
        bins[number] = bins.get(number, 0.0) + count
    return Summary(one.count + other.count, one.sum + other.sum, low, high, bounded(bins))


def bounded(bins: dict[int, float]) -> dict[int, float]:
    """At most BINS_MAX of them: the lowest are joined."""
    if len(bins) <= BINS_MAX:
        return bins
    ordered = sorted(bins)
    joined, kept = ordered[: len(bins) - BINS_MAX + 1], ordered[len(bins) - BINS_MAX + 1 :]
    return {joined[-1]: sum(bins[number] for number in joined), **{number: bins[number] for number in kept}}
