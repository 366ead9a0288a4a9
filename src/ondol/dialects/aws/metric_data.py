"""What clients put into CloudWatch: data checked as the service checks it, and made points of. Pure.

Resolution is a minute: data with StorageResolution 1 are taken and kept per minute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ondol.dialects.aws.metric_names import NO_UNIT, RESERVED
from ondol.dialects.aws.service import Context, ServiceError
from ondol.meter import Point, Series
from ondol.model.summaries import Summary, of_values

DATA_MAX: Final = 1000
VALUES_MAX: Final = 150
#: Beyond these a value is refused.
VALUE_MAX: Final = 2.0**360
PAST_S_MAX: Final = 14 * 86_400
FUTURE_S_MAX: Final = 2 * 3600


def points_of(context: Context, params: Mapping[str, Any], now_s: float) -> list[Point]:
    """Of a PutMetricData's parameters. Raises ServiceError; then none of the data is taken."""
    namespace = params["Namespace"]
    if namespace.startswith(RESERVED):
        raise invalid(f"The value {namespace} for parameter Namespace is invalid.")
    data = [("MetricData", each) for each in params.get("MetricData") or ()]
    for at, entity in enumerate(params.get("EntityMetricData") or (), 1):
        data += [(f"EntityMetricData.member.{at}.MetricData", each) for each in entity.get("MetricData") or ()]
    if not data:
        raise ServiceError("MissingRequiredParameterException", "The parameter MetricData is required.")
    if len(data) > DATA_MAX:
        raise invalid(f"The collection MetricData must not have a size greater than {DATA_MAX}.")
    numbers: dict[str, int] = {}
    points = []
    for member, datum in data:
        numbers[member] = numbers.get(member, 0) + 1
        points.append(_point(context, namespace, datum, now_s, f"{member}.member.{numbers[member]}"))
    return points


def _point(context: Context, namespace: str, datum: Mapping[str, Any], now_s: float, where: str) -> Point:
    dimensions = dimensions_of(datum.get("Dimensions") or (), where)
    unit = datum.get("Unit", NO_UNIT)
    series = Series(context.account, context.region, namespace, datum["MetricName"], dimensions, unit)
    return Point(series, _at_s(datum.get("Timestamp"), now_s, where), _summary(datum, where))


def dimensions_of(given: Sequence[Mapping[str, Any]], where: str) -> tuple[tuple[str, str], ...]:
    """Sorted by name, each name once."""
    pairs = {each["Name"]: each["Value"] for each in given}
    if len(pairs) != len(given):
        raise invalid(f"The parameter {where}.Dimensions has a name more than once.")
    return tuple(sorted(pairs.items()))


def _at_s(moment: datetime | None, now_s: float, where: str) -> float:
    if moment is None:
        return now_s
    at_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if at_s < now_s - PAST_S_MAX:
        raise invalid(f"The parameter {where}.Timestamp must specify a time no more than two weeks in the past.")
    if at_s > now_s + FUTURE_S_MAX:
        raise invalid(f"The parameter {where}.Timestamp must specify a time no more than two hours in the future.")
    return at_s


def _summary(datum: Mapping[str, Any], where: str) -> Summary:
    given = [name for name in ("Value", "Values", "StatisticValues") if datum.get(name) is not None]
    if len(given) > 1:
        message = (
            f"The parameters {where}.{given[0]} and {where}.{given[1]} are mutually exclusive and you have specified both."
        )
        raise ServiceError("InvalidParameterCombinationException", message)
    if not given:
        message = f"At least one of the parameters {where}.Value, {where}.Values and {where}.StatisticValues must be specified."
        raise ServiceError("MissingRequiredParameterException", message)
    if given == ["Value"]:
        value = _number(datum["Value"], f"{where}.Value")
        return Summary(1.0, value, value, value)
    return _of_set(datum["StatisticValues"], where) if given == ["StatisticValues"] else _of_values(datum, where)


def _of_values(datum: Mapping[str, Any], where: str) -> Summary:
    values, counts = datum["Values"], datum.get("Counts")
    counts = [1.0] * len(values) if counts is None else counts
    if len(values) != len(counts):
        raise invalid(f"The parameters {where}.Values and {where}.Counts must be of the same size.")
    if not 0 < len(values) <= VALUES_MAX:
        raise invalid(f"The collection {where}.Values must have a size of 1 to {VALUES_MAX}.")
    for count in counts:
        if not _number(count, f"{where}.Counts") > 0:
            raise invalid(f"The value {count} for parameter {where}.Counts is invalid.")
    return of_values((_number(value, f"{where}.Values"), count) for value, count in zip(values, counts, strict=True))


def _of_set(given: Mapping[str, Any], where: str) -> Summary:
    where = f"{where}.StatisticValues"
    count, total, low, high = (_number(given[name], f"{where}.{name}") for name in ("SampleCount", "Sum", "Minimum", "Maximum"))
    if count <= 0:
        raise invalid(f"The value {count} for parameter {where}.SampleCount is invalid.")
    if low > high:
        raise invalid(f"The parameter {where}.Maximum must be greater than {where}.Minimum.")
    return Summary(count, total, low, high)


def _number(value: float, where: str) -> float:
    if not math.isfinite(value) or abs(value) > VALUE_MAX:
        raise invalid(f"The value {value} for parameter {where} is invalid.")
    return float(value)


def invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", message)
