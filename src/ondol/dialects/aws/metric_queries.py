"""GetMetricData's queries: checked, and answered over what the meter reads; expressions over the answers of others."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.dialects.aws import metric_math, statistics
from ondol.dialects.aws.metric_math import Grid, Line, Refused, Scope, Value
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.statistics import Statistic

QUERIES_MAX: Final = 500
_ID: Final = re.compile(r"[a-z][a-zA-Z0-9_]*", re.ASCII)
#: Periods below a minute that clients may ask for. Points are a minute apart at least all the same.
SHORT_PERIODS: Final = frozenset({1, 5, 10, 20, 30})


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query, checked. Without a statistic it is an expression."""

    id: str
    label: str
    shown: bool
    period_s: int | None
    stat: Mapping[str, Any] | None = None
    statistic: Statistic | None = None
    expression: str = ""


#: Reads the line of a query that has a statistic.
Read = Callable[[Query], Awaitable[Line]]


def parse(given: Sequence[Mapping[str, Any]]) -> list[Query]:
    """The queries of a request. Raises ServiceError with the texts that clients know."""
    if not given:
        raise refused("The parameter MetricDataQueries is required.")
    if len(given) > QUERIES_MAX:
        raise refused(f"The collection MetricDataQueries must not have a size greater than {QUERIES_MAX}.")
    queries = [_query(each, f"MetricDataQueries.member.{at}") for at, each in enumerate(given, 1)]
    if len({query.id for query in queries}) != len(queries):
        raise refused("The values for parameter id in MetricDataQueries are not unique.")
    return queries


def check_period(period_s: int, where: str) -> None:
    if period_s not in SHORT_PERIODS and (period_s < 60 or period_s % 60):
        raise refused(f"The parameter {where} must be a value in the set [1, 5, 10, 20, 30] or a multiple of 60.")


async def answer(queries: Sequence[Query], read: Read, start_s: int, end_s: int) -> dict[str, list[Line]]:
    """The lines of every query that is to be shown, by its id. Raises ServiceError."""
    lines = {query.id: await read(query) for query in queries if query.stat is not None}
    reckoning = _Reckoning(queries, lines, start_s, end_s)
    return {query.id: reckoning.lines(query) for query in queries if query.shown}


class _Reckoning:
    """Reckons expressions when they are asked for, each once."""

    def __init__(self, queries: Sequence[Query], lines: Mapping[str, Line], start_s: int, end_s: int) -> None:
        self._queries = {query.id: query for query in queries}
        self._lines = lines
        self._span = (start_s, end_s)
        self._values: dict[str, Value] = dict(lines)
        self._open: list[str] = []

    def lines(self, query: Query) -> list[Line]:
        value = self._value(query.id)
        if isinstance(value, float):
            return [Line(dict.fromkeys(self._grid(query).times, value), query.label)]
        if isinstance(value, list):
            return [
                Line(each.points, f"{query.label} {each.label}" if query.label != query.id else each.label) for each in value
            ]
        return [Line(value.points, query.label)]

    def _value(self, number: str) -> Value:
        if number in self._values:
            return self._values[number]
        query = self._queries.get(number)
        if query is None:
            raise Refused(f"no query has the id {number}")
        if number in self._open or len(self._open) >= metric_math.DEPTH_MAX:
            raise refused(f"Error in expression '{number}': it needs itself, or too many others.")
        self._open.append(number)
        scope = Scope(lookup=self._value, metrics=lambda: list(self._lines.items()), grid=self._grid(query))
        try:
            value = metric_math.evaluate(query.expression, scope)
        except Refused as error:
            raise refused(f"Error in expression '{number}': {error}.") from error
        self._open.pop()
        self._values[number] = value
        return value

    def _grid(self, query: Query) -> Grid:
        """The query's own period, or the shortest of all metrics."""
        periods = [each.period_s for each in self._queries.values() if each.stat is not None and each.period_s]
        grid = Grid(*self._span, query.period_s or min(periods, default=60))
        if len(grid.times) > metric_math.FILLED_MAX:
            raise refused(
                f"More than {metric_math.FILLED_MAX} points are asked for: choose a longer period, or a shorter time."
            )
        return grid


def _query(given: Mapping[str, Any], where: str) -> Query:
    number, stat, expression = given["Id"], given.get("MetricStat"), given.get("Expression")
    if not _ID.fullmatch(number):
        raise refused(f"The value {number} in parameter {where}.Id must match the regex ^[a-z][a-zA-Z0-9_]*$.")
    if stat and expression:
        message = (
            f"The parameters {where}.MetricStat and {where}.Expression are mutually exclusive and you have specified both."
        )
        raise refused(message)
    shown = given.get("ReturnData", True)
    if expression:
        if given.get("Period") is not None:
            check_period(given["Period"], f"{where}.Period")
        return Query(
            id=number, label=given.get("Label") or number, shown=shown, period_s=given.get("Period"), expression=expression
        )
    if not stat:
        raise refused(f"The parameter {where} must have one of MetricStat and Expression.")
    metric = stat["Metric"]
    for name in ("Namespace", "MetricName"):
        if not metric.get(name):
            raise refused(f"The parameter {where}.MetricStat.Metric.{name} is required.")
    check_period(stat["Period"], f"{where}.MetricStat.Period")
    statistic = statistics.parse(stat["Stat"])
    if statistic is None:
        raise refused(f"The value {stat['Stat'][:100]} for parameter {where}.MetricStat.Stat is not supported.")
    label = given.get("Label") or metric["MetricName"]
    return Query(id=number, label=label, shown=shown, period_s=stat["Period"], stat=stat, statistic=statistic)


def refused(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)
