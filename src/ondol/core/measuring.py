"""What is measured of functions: how calls are summed up at the front, and the series that the sums become at the desk. Pure.

Each sum is of one function, qualifier, version and minute. Series are kept for the account as a whole (no dimension), for the
function, for the function as it was called (qualifier; "" when it was called without one), and, for aliases, for the version
that ran. Concurrency is noted whenever a call ends: no level is ever reached that no call's end sees, so its maximum is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ondol.core.resolve import number_of
from ondol.meter import MINUTE_S, PLATFORM, Dimensions, Point, Series
from ondol.model.functions import UNNUMBERED, Target, version_name
from ondol.model.invocations import Report, Status
from ondol.model.summaries import Summary, bin_of, bounded

INVOCATIONS: Final = "invocations"
ERRORS: Final = "errors"
THROTTLES: Final = "throttles"
DURATION: Final = "duration"
#: How long what runs beside functions worked behind their answers; of functions with extensions only.
AFTERWARDS: Final = "extensions_afterwards"
CONCURRENCY: Final = "concurrency"
UNRESERVED: Final = "concurrency_unreserved"
COLD_STARTS: Final = "cold_starts"
#: Calls in environments that are kept up, and calls of such revisions that had to run elsewhere.
PINNED: Final = "pinned_invocations"
SPILLED: Final = "pinned_spillovers"
#: Environments that are kept up: how many are at work, and their share of all that there are (0..1).
PINNED_AT_WORK: Final = "pinned_concurrency"
PINNED_SHARE: Final = "pinned_utilization"
#: What other rooms observe (`Measures.observe`): of deferred calls and their destinations.
DEFERRED_RECEIVED: Final = "deferred_received"
DEFERRED_AGE: Final = "deferred_age_ms"
DEFERRED_DROPPED: Final = "deferred_dropped"
DESTINATION_FAILURES: Final = "destination_failures"
DEAD_LETTER_ERRORS: Final = "dead_letter_errors"
CHAIN_DROPPED: Final = "deferred_chain_dropped"

COUNT: Final = "count"
MILLISECONDS: Final = "milliseconds"
#: Everything that is measured, and its unit.
UNITS: Final[Mapping[str, str]] = {
    INVOCATIONS: COUNT,
    ERRORS: COUNT,
    THROTTLES: COUNT,
    DURATION: MILLISECONDS,
    AFTERWARDS: MILLISECONDS,
    CONCURRENCY: COUNT,
    UNRESERVED: COUNT,
    COLD_STARTS: COUNT,
    PINNED: COUNT,
    SPILLED: COUNT,
    PINNED_AT_WORK: COUNT,
    PINNED_SHARE: COUNT,
    DEFERRED_RECEIVED: COUNT,
    DEFERRED_AGE: MILLISECONDS,
    DEFERRED_DROPPED: COUNT,
    DESTINATION_FAILURES: COUNT,
    DEAD_LETTER_ERRORS: COUNT,
    CHAIN_DROPPED: COUNT,
}

#: Names of dimensions.
FUNCTION: Final = "function"
QUALIFIER: Final = "qualifier"
VERSION: Final = "version"
#: How a version is written in a dimension when it is the latest revision.
LATEST: Final = version_name(None)
PUBLISHED: Final = version_name(UNNUMBERED)

#: (of the function, of the account, of the account without reservations): calls under way.
Levels = tuple[int, int, int]
#: One call.
Measurement = tuple[Target, Report, Levels]
#: Account, region, name, qualifier, version, minute.
_Key = tuple[str, str, str, str | None, int | None, int]


@dataclass(slots=True)
class Range:
    """Count, sum and extremes of what was added."""

    count: int = 0
    sum: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def add(self, value: float) -> None:
        if not self.count:
            self.low = self.high = value
        elif value < self.low:
            self.low = value
        elif value > self.high:
            self.high = value
        self.count += 1
        self.sum += value

    def add_all(self, values: Sequence[float]) -> None:
        """The same as each of them, of which there is one at least."""
        low, high = min(values), max(values)
        if not self.count:
            self.low, self.high = low, high
        else:
            self.low, self.high = min(self.low, low), max(self.high, high)
        self.count += len(values)
        self.sum += sum(values)

    def summary(self, bins: Mapping[int, float] | None = None) -> Summary:
        return Summary(self.count, self.sum, self.low, self.high, (bins or {}) if self.low != self.high else {})


@dataclass(slots=True, kw_only=True)
class Sum:
    """Calls of one function, qualifier, version and minute."""

    account: str
    region: str
    name: str
    qualifier: str | None
    version: int | None
    minute_s: int
    #: How many ended how, by `Status.value`.
    outcomes: dict[str, int] = field(default_factory=dict)
    duration: Range = field(default_factory=Range)
    bins: dict[int, float] = field(default_factory=dict)
    running: Range = field(default_factory=Range)
    cold_starts: int = 0
    cold_ms: float = 0.0
    throttles: int = 0
    pinned: int = 0
    spilled: int = 0
    pinned_at_work: Range = field(default_factory=Range)
    pinned_share: Range = field(default_factory=Range)
    afterwards: Range = field(default_factory=Range)
    afterwards_bins: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Level:
    """Calls under way in one account and region, as seen in one minute: all, and those of functions without a reservation."""

    account: str
    region: str
    minute_s: int
    all: Range = field(default_factory=Range)
    shared: Range = field(default_factory=Range)


@dataclass(slots=True)
class Sums:
    """What a front has summed up since it last said so."""

    sums: list[Sum]
    levels: list[Level]
    #: Calls that fell through because there were too many different sums.
    lost: int = 0

    def __bool__(self) -> bool:
        return bool(self.sums or self.levels or self.lost)


class Tally:
    """The front's half: adds calls up. At most `sums_max` different sums wait; calls beyond are counted as lost."""

    def __init__(self, sums_max: int = 20_000) -> None:
        self._sums_max = sums_max
        self._sums: dict[_Key, Sum] = {}
        self._levels: dict[tuple[str, str, int], Level] = {}
        self._lost = 0

    def add(self, target: Target, report: Report, levels: Levels) -> None:
        """One call."""
        self.add_all([(target, report, levels)])

    def add_all(self, calls: Iterable[Measurement]) -> None:
        """Calls in any order: those of one sum are added together."""
        groups: dict[_Key, list[Measurement]] = {}
        for call in calls:
            target, report, _ = call
            function, minute_s = target.function, int(report.ended_s) // MINUTE_S * MINUTE_S
            key = (function.account, function.region, function.name, target.qualifier, report.version, minute_s)
            group = groups.get(key)
            if group is None:
                groups[key] = [call]
            else:
                group.append(call)
        for key, group in groups.items():
            found = self._sum(key, len(group))
            if found is not None:
                _add_group(found, group)
                where = (found.account, found.region, found.minute_s)
                level = self._levels.get(where)
                if level is None:
                    level = self._levels[where] = Level(account=where[0], region=where[1], minute_s=where[2])
                level.all.add_all([levels[1] for _, _, levels in group])
                level.shared.add_all([levels[2] for _, _, levels in group])

    def rest(self, target: Target, at_s: float, milliseconds: float) -> None:
        """Behind the answer to a call, what runs beside the function worked so long, until `at_s` (wall time)."""
        function, minute_s = target.function, int(at_s) // MINUTE_S * MINUTE_S
        where = (function.account, function.region, function.name)
        found = self._sum((*where, target.qualifier, target.revision.version, minute_s), 0)
        if found is not None:
            found.afterwards.add(milliseconds)
            number = bin_of(milliseconds)
            found.afterwards_bins[number] = found.afterwards_bins.get(number, 0.0) + 1

    def throttle(self, account: str, region: str, name: str, at_s: float, count: int = 1) -> None:
        """Calls of the function of this name were refused for want of room."""
        found = self._sum((account, region, name, None, None, int(at_s) // MINUTE_S * MINUTE_S), 1)
        if found is not None:
            found.throttles += count

    def take(self) -> Sums:
        """All that has been added up; begins anew."""
        taken = Sums(list(self._sums.values()), list(self._levels.values()), self._lost)
        self._sums, self._levels, self._lost = {}, {}, 0
        return taken

    def put_back(self, taken: Sums) -> None:
        """What `take` gave could not be said: it waits on. For right after `take` only."""
        self._sums = {(s.account, s.region, s.name, s.qualifier, s.version, s.minute_s): s for s in taken.sums}
        self._levels = {(level.account, level.region, level.minute_s): level for level in taken.levels}
        self._lost = taken.lost

    @property
    def empty(self) -> bool:
        return not (self._sums or self._lost)

    def _sum(self, key: _Key, calls: int) -> Sum | None:
        found = self._sums.get(key)
        if found is None:
            if len(self._sums) >= self._sums_max:
                self._lost += calls
                return None
            account, region, name, qualifier, version, minute_s = key
            found = self._sums[key] = Sum(
                account=account, region=region, name=name, qualifier=qualifier, version=version, minute_s=minute_s
            )
        return found


def _add_group(found: Sum, group: Sequence[Measurement]) -> None:
    durations_ms = [counted_ms(report) for _, report, _ in group]
    found.duration.add_all(durations_ms)
    for number in map(bin_of, durations_ms):
        found.bins[number] = found.bins.get(number, 0.0) + 1
    found.running.add_all([levels[0] for _, _, levels in group])
    well = 0
    for _, report, _ in group:
        if report.status is Status.OK:
            well += 1
        else:
            status = report.status.value
            found.outcomes[status] = found.outcomes.get(status, 0) + 1
        if report.init_ms is not None:
            found.cold_starts += 1
            found.cold_ms += report.init_ms
        if report.pins is not None:
            at_work, up = report.pins
            found.pinned += report.pinned
            found.spilled += not report.pinned
            found.pinned_at_work.add(at_work)
            found.pinned_share.add(at_work / up if up else 0.0)
    if well:
        status = Status.OK.value
        found.outcomes[status] = found.outcomes.get(status, 0) + well


def counted_ms(report: Report) -> float:
    """How long a call took, as it is counted: one that ran out of time counts with its limit, not with what ending it took."""
    return report.timeout_s * 1000.0 if report.status is Status.TIMEOUT else report.duration_ms


# The desk's half -------------------------------------------------------------------------------------------------------
def points_of(taken: Sum) -> Iterator[Point]:
    """What a sum adds to which series."""
    calls = sum(taken.outcomes.values())
    for dimensions in dimensions_of(taken.name, taken.qualifier, taken.version):
        for name, summary in _summaries(taken, calls):
            if name != CONCURRENCY or dimensions:  # the account's own is a level, not what its functions' come to
                yield _point((taken.account, taken.region), name, dimensions, taken.minute_s, summary)
    if taken.throttles:
        summary = ones(taken.throttles)
        for dimensions in dimensions_of(taken.name, None, None)[:2]:
            yield _point((taken.account, taken.region), THROTTLES, dimensions, taken.minute_s, summary)


def points_of_level(level: Level) -> Iterator[Point]:
    """What the levels of an account add to which series."""
    for name, range_ in ((CONCURRENCY, level.all), (UNRESERVED, level.shared)):
        if range_.count:
            yield _point((level.account, level.region), name, (), level.minute_s, range_.summary())


def observed(account: str, region: str, function: str, name: str, *, value: float, at_s: float) -> Iterator[Point]:
    """What one observation of a function adds to which series; of what is counted, `value` is how many there were.

    Raises KeyError for what is not measured.
    """
    summary = ones(int(value)) if UNITS[name] == COUNT else Summary(1, value, value, value)
    for dimensions in dimensions_of(function, None, None)[:2]:
        yield _point((account, region), name, dimensions, at_s, summary)


def dimensions_of(name: str, qualifier: str | None, version: int | None) -> list[Dimensions]:
    """Of the series that a call counts into: the account's, the function's, the one of how it was called, the version's.

    In each, names are sorted: a series is found by them.
    """
    function = (FUNCTION, name)
    as_called = (function, (QUALIFIER, qualifier or ""))
    found: list[Dimensions] = [(), (function,), as_called]
    if qualifier is not None and number_of(qualifier) is None:
        found.append((*as_called, (VERSION, version_name(version))))
    return found


def ones(count: int, of: int | None = None) -> Summary:
    """`count` ones, and zeros up to `of` values."""
    of = count if of is None else of
    bins = {bin_of(1): count, bin_of(0): of - count} if 0 < count < of else {}
    return Summary(of, count, 1.0 if count == of else 0.0, 1.0 if count else 0.0, bins)


def _summaries(taken: Sum, calls: int) -> Iterator[tuple[str, Summary]]:
    if taken.afterwards.count:
        yield AFTERWARDS, taken.afterwards.summary(bounded(dict(taken.afterwards_bins)))
    if not calls:
        return
    yield INVOCATIONS, ones(calls)
    yield ERRORS, ones(calls - taken.outcomes.get(Status.OK.value, 0), calls)
    yield DURATION, taken.duration.summary(bounded(dict(taken.bins)))
    yield CONCURRENCY, taken.running.summary()
    if taken.cold_starts:
        yield COLD_STARTS, ones(taken.cold_starts)
    if taken.pinned_at_work.count:
        yield PINNED, ones(taken.pinned, taken.pinned + taken.spilled)
        yield SPILLED, ones(taken.spilled, taken.pinned + taken.spilled)
        yield PINNED_AT_WORK, taken.pinned_at_work.summary()
        yield PINNED_SHARE, taken.pinned_share.summary()


def _point(where: tuple[str, str], name: str, dimensions: Dimensions, at_s: float, summary: Summary) -> Point:
    return Point(Series(*where, PLATFORM, name, dimensions, UNITS[name]), at_s, summary)
