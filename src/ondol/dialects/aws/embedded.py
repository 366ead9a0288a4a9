"""The embedded metric format: log lines that are JSON with `_aws.CloudWatchMetrics` become metrics.

A line that is none, or not as the format has it, is a log line and nothing else: nobody is told. Bounded: as many metrics,
dimensions and values as the format allows, POINTS_MAX points of one line, the meter's bound of series, and so many lines of an
account in a second; what is beyond is counted as lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.clock import Clock
from ondol.core.totals import Totals
from ondol.dialects.aws.metric_data import FUTURE_S_MAX, PAST_S_MAX, VALUE_MAX
from ondol.dialects.aws.metric_names import NO_UNIT, RESERVED
from ondol.meter import Dimensions, Meter, Point, Series
from ondol.model.summaries import Summary, of_values

METRICS_MAX: Final = 100
DIMENSIONS_MAX: Final = 30
VALUES_MAX: Final = 100
NAME_CHARS_MAX: Final = 255
VALUE_CHARS_MAX: Final = 1024
#: Points of one line: each metric counts once for each set of dimensions.
POINTS_MAX: Final = 1000
#: Lines of one account that are read in a second, and their letters: a line takes some 40 µs of the desk's time.
LINES_PER_S_MAX: Final = 5_000
CHARS_PER_S_MAX: Final = 4 * 1024 * 1024

#: No time at all: beyond it a number is not even divided.
_MOMENT_MS_MAX: Final = 1e15
_SIGN: Final = '"CloudWatchMetrics"'


def embedding(meter: Meter, totals: Totals, clock: Clock) -> Callable[[Sequence[Any]], None]:
    """Reads log batches for metrics, which go to the meter: [account, region, group, stream, [[at_ms, message], …]]."""
    return _Embedding(meter, totals, clock)


class _Embedding:
    """See `embedding`."""

    def __init__(self, meter: Meter, totals: Totals, clock: Clock) -> None:
        self._meter = meter
        self._totals = totals
        self._clock = clock
        self._second = 0
        #: What has been read this second, by account: lines, and their letters.
        self._read: dict[str, tuple[int, int]] = {}

    def __call__(self, batches: Sequence[Any]) -> None:
        now_s = self._clock.wall_s()
        for account, region, _group, _stream, events in batches:
            for at_ms, message in events:
                if _SIGN not in message:
                    continue
                if not self._has_time(account, len(message)):
                    self._totals.lose("metrics", 1)
                    continue
                points = points_of((account, region), message, at_ms / 1000, now_s)
                if points:
                    self._totals.lose("metrics", self._meter.add(points))

    def _has_time(self, account: str, chars: int) -> bool:
        """Whether one more line of this account may be read in this second."""
        second = int(self._clock.now_s())
        if second != self._second:
            self._second, self._read = second, {}
        lines, so_far = self._read.get(account, (0, 0))
        if lines >= LINES_PER_S_MAX or so_far >= CHARS_PER_S_MAX:
            return False
        self._read[account] = (lines + 1, so_far + chars)
        return True


def points_of(where: tuple[str, str], message: str, at_s: float, now_s: float) -> list[Point]:
    """The points of one line of an account and region; none if it is no such line. `at_s`: when the line was written."""
    try:
        document = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return []
    told = document.get("_aws") if isinstance(document, dict) else None
    directives = told.get("CloudWatchMetrics") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(directives, list):
        return []
    moment = told.get("Timestamp")
    if isinstance(moment, int | float) and abs(moment) < _MOMENT_MS_MAX:
        at_s = moment / 1000
    if not now_s - PAST_S_MAX <= at_s <= now_s + FUTURE_S_MAX:
        return []
    points: list[Point] = []
    for directive in directives:
        for point in _points(where, directive, document, at_s):
            if len(points) == POINTS_MAX:
                return points
            points.append(point)
    return points


def _points(where: tuple[str, str], directive: Any, document: Mapping[str, Any], at_s: float) -> Iterator[Point]:
    if not isinstance(directive, dict):
        return
    namespace, metrics = _text(directive.get("Namespace"), NAME_CHARS_MAX), directive.get("Metrics")
    wanted = directive.get("Dimensions", [[]])
    if not namespace or namespace.startswith(RESERVED) or not isinstance(metrics, list) or not isinstance(wanted, list):
        return
    sets = [found for each in wanted if (found := _dimensions(each, document)) is not None]
    for metric in metrics[:METRICS_MAX]:
        name = _text(metric.get("Name"), NAME_CHARS_MAX) if isinstance(metric, dict) else ""
        summary = _summary(document.get(name)) if name else None
        if summary is not None:
            unit = _text(metric.get("Unit"), NAME_CHARS_MAX) or NO_UNIT
            for dimensions in sets:
                yield Point(Series(*where, namespace, name, dimensions, unit), at_s, summary)


def _dimensions(names: Any, document: Mapping[str, Any]) -> Dimensions | None:
    """A set's values; None when one is missing."""
    if not isinstance(names, list) or len(names) > DIMENSIONS_MAX:
        return None
    pairs = {}
    for each in names:
        name = _text(each, NAME_CHARS_MAX)
        value = _text(document.get(name), VALUE_CHARS_MAX)
        if not name or not value:
            return None
        pairs[name] = value
    return tuple(sorted(pairs.items()))


def _summary(given: Any) -> Summary | None:
    values = given if isinstance(given, list) else [given]
    if not 0 < len(values) <= VALUES_MAX:
        return None
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not abs(value) <= VALUE_MAX:
            return None
    return of_values((float(value), 1.0) for value in values)


def _text(value: Any, chars_max: int) -> str:
    """A text of a length that may be; else ""."""
    return value if isinstance(value, str) and len(value) <= chars_max else ""
