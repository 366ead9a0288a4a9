"""CloudWatch's statistics of a summary: SampleCount, Sum, Average, Minimum, Maximum, and those that look at how values lie.

    p99, p99.9              a percentile
    tm90, TM(10%:90%)       the mean of what lies between two percentiles, or TM(80:500) between two values
    tc90, ts90, TC(…), TS(…)  how many lie there, and their sum
    wm90, WM(…)             the mean with what lies outside moved to the edges
    PR(:300), PR(100:2000)  the share of values in a range, in percent
    IQM                     the mean of the middle half

Pure. What looks at how values lie is as exact as the sketch (`ondol.model.summaries`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ondol.model.summaries import Summary

SIMPLE: Final[Mapping[str, Callable[[Summary], float]]] = {
    "SampleCount": lambda summary: summary.count,
    "Average": lambda summary: summary.average,
    "Sum": lambda summary: summary.sum,
    "Minimum": lambda summary: summary.low,
    "Maximum": lambda summary: summary.high,
}

_SHORT: Final = re.compile(r"(p|tm|wm|tc|ts)(100|\d{1,2}(?:\.\d{1,10})?)", re.ASCII)
_LONG: Final = re.compile(r"(TM|WM|PR|TC|TS)\((?:(\d+(?:\.\d+)?)(%?))?:(?:(\d+(?:\.\d+)?)(%?))?\)", re.ASCII)
_CHARS_MAX: Final = 80


@dataclass(frozen=True, slots=True)
class Statistic:
    """One statistic. `low` and `high` bound what it looks at: percentiles, or values."""

    kind: str
    low: float = 0.0
    high: float = 100.0
    percent: bool = True

    @property
    def simple(self) -> bool:
        """Whether it can be had without a sketch."""
        return self.kind in SIMPLE

    def of(self, summary: Summary) -> float | None:
        """Its value; None where the sketch cannot say."""
        if self.simple:
            return SIMPLE[self.kind](summary)
        if self.kind == "p":
            return summary.percentile(self.high)
        if not summary.percentiles:
            return None
        inside = list(self._inside(summary))
        count = sum(times for _, times in inside)
        total = sum(value * times for value, times in inside)
        found = {"tc": count, "ts": total, "pr": count / summary.count * 100}.get(self.kind)
        if found is None and count:
            found = self._winsorized(summary, inside, total) if self.kind == "wm" else total / count
        return found

    def _inside(self, summary: Summary) -> Iterator[tuple[float, float]]:
        """(value, how often) of what lies between the bounds; a bin that a percentile cuts counts in part."""
        if not self.percent:
            yield from (step for step in summary.steps() if self.low < step[0] <= self.high)
            return
        low, high, seen = self.low / 100 * summary.count, self.high / 100 * summary.count, 0.0
        for value, times in summary.steps():
            part = min(seen + times, high) - max(seen, low)
            seen += times
            if part > 0:
                yield value, part

    def _winsorized(self, summary: Summary, inside: list[tuple[float, float]], total: float) -> float:
        """What lies below counts as the lowest inside, what lies above as the highest."""
        if self.percent:
            below, above = self.low / 100 * summary.count, (100 - self.high) / 100 * summary.count
        else:
            below = sum(times for value, times in summary.steps() if value <= self.low)
            above = sum(times for value, times in summary.steps() if value > self.high)
        return (total + below * inside[0][0] + above * inside[-1][0]) / summary.count


def parse(text: str) -> Statistic | None:
    """The statistic of that name; None for none."""
    if text in SIMPLE:
        return Statistic(text)
    if text == "IQM":
        return Statistic("tm", 25.0, 75.0)
    short = _SHORT.fullmatch(text[:_CHARS_MAX])
    if short:
        return Statistic(short[1], 0.0, float(short[2]))
    long = _LONG.fullmatch(text[:_CHARS_MAX])
    return _between(*long.groups()) if long else None


def _between(kind: str, low: str | None, low_unit: str | None, high: str | None, high_unit: str | None) -> Statistic | None:
    """With bounds of one kind, percentiles or values, at least one of them given."""
    units = {unit for bound, unit in ((low, low_unit), (high, high_unit)) if bound is not None}
    if len(units) != 1:
        return None
    percent = units == {"%"}
    made = Statistic(
        kind.lower(),
        float(low) if low is not None else 0.0 if percent else -math.inf,
        float(high) if high is not None else 100.0 if percent else math.inf,
        percent,
    )
    possible = made.low < made.high and not (percent and (made.high > 100 or kind == "PR"))
    return made if possible else None
