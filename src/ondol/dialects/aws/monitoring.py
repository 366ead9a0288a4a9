"""CloudWatch, its metrics: ListMetrics, GetMetricStatistics, GetMetricData and PutMetricData over the meter.

Tokens carry the place to go on from and nothing else, so that nothing is kept between calls.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ondol.clock import Clock
from ondol.dialects.aws import metric_data, metric_names, metric_queries, statistics
from ondol.dialects.aws.metric_math import Line
from ondol.dialects.aws.metric_queries import Query
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.meter import MINUTE_S, Meter, Read, Series
from ondol.model.errors import TooLarge

LISTED_MAX: Final = 500
#: Series looked through in one call of ListMetrics.
SCANNED_MAX: Final = 10_000
RECENT_S: Final = 3 * 3600
#: Points of one answer of GetMetricStatistics, and of GetMetricData.
STATISTICS_POINTS_MAX: Final = 1440
DATA_POINTS_MAX: Final = 100_800

_NO_TOKEN: Final = "The token is not one that this operation gave; begin again without it."  # noqa: S105  # a sentence


class Monitoring:
    """The operations."""

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._meter = meter
        self._clock = clock

    @property
    def operations(self) -> Operations:
        return {
            "GetMetricData": self.get_metric_data,
            "GetMetricStatistics": self.get_metric_statistics,
            "ListMetrics": self.list_metrics,
            "PutMetricData": self.put_metric_data,
        }

    async def put_metric_data(self, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        self._meter.add(metric_data.points_of(context, params, self._clock.wall_s()))
        return {}

    async def list_metrics(self, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        namespace, name = params.get("Namespace"), params.get("MetricName")
        after = _opened(params.get("NextToken"))
        if params.get("OwningAccount", context.account) != context.account:
            return {"Metrics": []}
        wanted = [(each["Name"], each.get("Value")) for each in params.get("Dimensions") or ()]
        recent = params.get("RecentlyActive") is not None
        found: dict[str, dict[str, Any]] = {}
        scanned = 0
        while scanned < SCANNED_MAX:
            listed = await self._meter.series(
                context.account,
                context.region,
                space=metric_names.space_of(namespace),
                name=metric_names.name_of(namespace, name),
                since_s=self._clock.wall_s() - RECENT_S if recent else 0.0,
                after=after,
                limit=LISTED_MAX,
            )
            scanned += len(listed)
            for each in listed:
                if len(found) == LISTED_MAX:
                    return {"Metrics": list(found.values()), "NextToken": _sealed(after)}
                after = each.id
                metric = metric_names.shown(each.series)
                if metric is not None and (name in (None, metric["MetricName"])) and _has(metric, wanted):
                    found.setdefault(repr(metric), metric)  # units apart, it is one metric
            if len(listed) < LISTED_MAX:
                return {"Metrics": list(found.values())}
        return {"Metrics": list(found.values()), "NextToken": _sealed(after)}

    async def get_metric_statistics(self, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        asked = _statistics(params)
        period_s, unit, name = params["Period"], params.get("Unit"), params["MetricName"]
        if period_s not in metric_queries.SHORT_PERIODS and period_s % 60:
            message = "The parameter Period must be a value in the set [1, 5, 10, 20, 30] or a multiple of 60."
            raise metric_data.invalid(message)
        start_s, end_s = _span(params)
        if start_s >= end_s:
            raise metric_data.invalid("The parameter StartTime must be less than the parameter EndTime.")
        if (points := -(-(end_s - start_s) // period_s)) > STATISTICS_POINTS_MAX:
            raise _combination(
                f"You have requested up to {points:,} datapoints, which exceeds the limit of {STATISTICS_POINTS_MAX:,}. "
                "You may reduce the datapoints requested by increasing Period, or decreasing the time range."
            )
        series = metric_names.series_of(context, params["Namespace"], name, params.get("Dimensions") or ())
        sketches = not all(each.simple for each in asked.values())
        reads = await self._read(series, unit, (start_s, end_s, period_s), sketches=sketches) if series else ()
        return {"Label": name, "Datapoints": [_datapoint(series, each, asked) for each in reads if series]}

    async def get_metric_data(self, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        queries = metric_queries.parse(params["MetricDataQueries"])
        start_s, end_s = _span(params)
        if start_s >= end_s:
            raise metric_queries.refused("The parameter StartTime must be less than the parameter EndTime.")

        async def read(query: Query) -> Line:
            return await self._line(context, query, start_s, end_s)

        lines = await metric_queries.answer(queries, read, start_s, end_s)
        flat = [(number, line) for number, found in lines.items() for line in found]
        first = _opened(params.get("NextToken"), "InvalidNextToken")
        limit = min(params.get("MaxDatapoints") or DATA_POINTS_MAX, DATA_POINTS_MAX)
        if limit < 1:
            raise metric_queries.refused("The parameter MaxDatapoints must be at least 1.")
        return _page(flat, first, limit, newest_first=params.get("ScanBy", "TimestampDescending") == "TimestampDescending")

    async def _line(self, context: Context, query: Query, start_s: int, end_s: int) -> Line:
        assert query.stat is not None
        assert query.statistic is not None
        metric = query.stat["Metric"]
        series = metric_names.series_of(context, metric["Namespace"], metric["MetricName"], metric.get("Dimensions") or ())
        if series is None:
            return Line({}, query.label)
        span = (start_s, end_s, query.stat["Period"])
        points: dict[int, float] = {}
        for each in await self._read(series, query.stat.get("Unit"), span, sketches=not query.statistic.simple):
            value = query.statistic.of(each.summary)
            if value is not None:  # of several units the last one counts: clients that mix them ask for one
                points[each.at_s] = value
        return Line(points, query.label)

    async def _read(self, series: Series, unit: str | None, span: tuple[int, int, int], *, sketches: bool) -> Sequence[Read]:
        start_s, end_s, period_s = span
        kept = metric_names.unit_of(series, unit)
        try:
            return await self._meter.read(
                series, unit=kept, start_s=start_s, end_s=end_s, period_s=max(period_s, MINUTE_S), sketches=sketches
            )
        except TooLarge as error:
            raise _combination(f"{error}: decrease the time range.") from error


# Parts ----------------------------------------------------------------------------------------------------------------
def _statistics(params: Mapping[str, Any]) -> dict[str, statistics.Statistic]:
    asked = {}
    names = [*(params.get("Statistics") or ()), *(params.get("ExtendedStatistics") or ())]
    if not names:
        raise ServiceError(
            "MissingRequiredParameterException", "At least one of the parameters Statistics and ExtendedStatistics is required."
        )
    for name in names:
        statistic = statistics.parse(name)
        if statistic is None:
            raise metric_data.invalid(f"The value {name[:100]} for parameter ExtendedStatistics is not supported.")
        asked[name] = statistic
    return asked


def _datapoint(series: Series, read: Read, asked: Mapping[str, statistics.Statistic]) -> dict[str, Any]:
    point: dict[str, Any] = {"Timestamp": datetime.fromtimestamp(read.at_s, UTC)}
    values = {name: value for name, each in asked.items() if (value := each.of(read.summary)) is not None}
    point |= {name: value for name, value in values.items() if name in statistics.SIMPLE}
    point["Unit"] = metric_names.shown_unit(series, read.unit)
    extended = {name: value for name, value in values.items() if name not in statistics.SIMPLE}
    return point | {"ExtendedStatistics": extended} if extended else point


def _page(flat: Sequence[tuple[str, Line]], first: int, limit: int, *, newest_first: bool) -> dict[str, Any]:
    """Up to `limit` points from the `first` on, line after line. Lines without any are on the first page."""
    results: list[dict[str, Any]] = []
    seen, end = 0, first + limit
    for number, line in flat:
        ordered = sorted(line.points, reverse=newest_first)
        part = ordered[max(first - seen, 0) : max(end - seen, 0)]
        over = not ordered or seen + len(ordered) <= end
        if part or (not ordered and first == 0):
            results.append(
                {
                    "Id": number,
                    "Label": line.label,
                    "Timestamps": [datetime.fromtimestamp(at_s, UTC) for at_s in part],
                    "Values": [line.points[at_s] for at_s in part],
                    "StatusCode": "Complete" if over else "PartialData",
                }
            )
        seen += len(ordered)
    answer: dict[str, Any] = {"MetricDataResults": results, "Messages": []}
    return answer | {"NextToken": _sealed(end)} if seen > end else answer


def _span(params: Mapping[str, Any]) -> tuple[int, int]:
    """Start (whole minutes, rounded down) and end in seconds."""
    start_s, end_s = (_seconds(params[name]) for name in ("StartTime", "EndTime"))
    return start_s // MINUTE_S * MINUTE_S, end_s


def _seconds(moment: datetime) -> int:
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _has(metric: Mapping[str, Any], wanted: Sequence[tuple[str, str | None]]) -> bool:
    pairs = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
    return all(name in pairs and value in (None, pairs[name]) for name, value in wanted)


def _sealed(place: int) -> str:
    return base64.urlsafe_b64encode(f"metrics/{place}".encode()).decode()


def _opened(token: str | None, code: str = "InvalidParameterValueException") -> int:
    """What `_sealed` was given; 0 for no token."""
    if not token:
        return 0
    with contextlib.suppress(binascii.Error, ValueError):
        kind, _, place = base64.urlsafe_b64decode(token.encode()).decode().partition("/")
        if kind == "metrics" and place.isascii() and place.isdecimal() and len(place) < 16:
            return int(place)
    raise ServiceError(code, _NO_TOKEN)


def _combination(message: str) -> ServiceError:
    return ServiceError("InvalidParameterCombinationException", message)
