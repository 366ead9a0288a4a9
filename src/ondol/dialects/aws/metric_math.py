"""CloudWatch's metric math, the part that is built: ids and numbers, + - * / and parentheses, and a few functions.

    SUM, AVG, MIN, MAX      of [m1, m2, …] or METRICS(): point by point; of one series: one number
    FILL(m, 0|REPEAT|LINEAR)  values where there are none
    METRICS(), METRICS("part")  every metric of the request (whose id has that part in it)
    RATE(m)                 the change per second since the point before
    ABS, CEIL, FLOOR        of each value

A point of a combination is where both sides have one; dividing by nothing gives none. Everything else is refused with a
sentence. Pure; raises Refused. Bounded: an expression has at most 2,048 letters by the service's model and nests DEPTH_MAX
deep.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

DEPTH_MAX: Final = 32
#: Points that FILL may make of one line.
FILLED_MAX: Final = 100_800

Points = Mapping[int, float]


class Refused(Exception):  # noqa: N818  # reads as what happened
    """The expression is none, or one that is not built. `str()` is a sentence."""


@dataclass(frozen=True, slots=True)
class Line:
    """One time series: values by their time in seconds."""

    points: Points
    label: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """The times there could be values at: what FILL fills."""

    start_s: int
    end_s: int
    period_s: int

    @property
    def times(self) -> range:
        return range(self.start_s, self.end_s, self.period_s)


Value = float | Line | list[Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an expression can name. `lookup` gives the value of an id, `metrics` those of METRICS() with their ids."""

    lookup: Callable[[str], Value]
    metrics: Callable[[], Sequence[tuple[str, Line]]]
    grid: Grid


_TOKEN: Final = re.compile(
    r'\s*(?:(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|([A-Za-z][A-Za-z0-9_]*)|("[^"]*"|\'[^\']*\')|([-+*/()\[\],]))'
)
_WORDS: Final = frozenset({"REPEAT", "LINEAR"})
_NOT_BUILT: Final = {
    "SELECT": "Ondol does not do Metrics Insights queries (SELECT); name each metric in a MetricStat",
    "SEARCH": "Ondol does not do SEARCH; name each metric in a MetricStat, and METRICS() for all of them",
}


def evaluate(text: str, scope: Scope) -> Value:
    """What an expression comes to. Raises Refused."""
    for word, sentence in _NOT_BUILT.items():
        if re.match(rf"\s*{word}\b", text, re.IGNORECASE):
            raise Refused(sentence)
    parser = _Parser(_tokens(text), scope)
    try:
        value = parser.sum()
    except OverflowError as error:
        raise Refused("its values grow beyond all numbers") from error
    if parser.next:
        raise Refused(f"{parser.next!r} is not expected there")
    return value


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Refused(f"{text[at : at + 20]!r} cannot be read")
        found.append(match[0].strip())
        at = match.end()
    return found


@dataclass(slots=True)
class _Parser:
    """Reads and reckons at once, from left to right."""

    tokens: list[str]
    scope: Scope
    at: int = 0
    depth: int = field(default=0)

    @property
    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.next
        if not token:
            raise Refused("it ends too early")
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise Refused(f"{token!r} is missing before {self.tokens[self.at - 1]!r}")

    def sum(self) -> Value:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise Refused(f"it nests {DEPTH_MAX} deep, and may no deeper")
        value = self.product()
        while self.next in ("+", "-"):
            value = combined(self.take(), value, self.product())
        self.depth -= 1
        return value

    def product(self) -> Value:
        value = self.factor()
        while self.next in ("*", "/"):
            value = combined(self.take(), value, self.factor())
        return value

    def factor(self) -> Value:
        minus = False
        while self.next == "-":
            self.take()
            minus = not minus
        value = self.atom()
        return combined("*", -1.0, value) if minus else value

    def atom(self) -> Value:
        found = self.take()
        if found[0].isdigit():
            if not math.isfinite(float(found)):
                raise Refused(f"{found} is beyond all numbers")
            return float(found)
        if found == "(":
            value = self.sum()
            self.expect(")")
            return value
        if found == "[":
            return self.array()
        if found[0].isalpha():
            return self.call(found.upper()) if self.next == "(" else self.scope.lookup(found)
        raise Refused(f"{found!r} is not expected there")

    def array(self) -> list[Line]:
        found: list[Line] = []
        while True:
            value = self.sum()
            if isinstance(value, float):
                raise Refused("an array is of metrics, not of numbers")
            found += value if isinstance(value, list) else [value]
            if self.take() == "]":
                return found
            if self.tokens[self.at - 1] != ",":
                raise Refused("an array's parts are separated by commas")

    def call(self, name: str) -> Value:
        self.expect("(")
        if name == "METRICS":
            part = self.take().strip("\"'") if self.next[:1] in ('"', "'") else ""
            self.expect(")")
            return [line for number, line in self.scope.metrics() if part in number]
        function = _FUNCTIONS.get(name)
        if function is None:
            built = ", ".join(sorted([*_FUNCTIONS, "METRICS"]))
            raise Refused(f"Ondol does not do {name}(); it does {built}, and + - * /")
        value = self.sum()
        how: float | str | None = None
        if name == "FILL":
            self.expect(",")
            how = self.take().upper() if self.next.upper() in _WORDS else self.number()
        self.expect(")")
        return function(value, how, self.scope.grid)

    def number(self) -> float:
        value = self.sum()
        if not isinstance(value, float):
            raise Refused("FILL takes a number, REPEAT or LINEAR")
        return value


# Reckoning ---------------------------------------------------------------------------------------------------------------
_OPERATORS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def combined(sign: str, one: Value, other: Value) -> Value:
    """Point by point; each of an array's lines with the other side."""
    if isinstance(one, list) and isinstance(other, list):
        raise Refused(f"two arrays cannot stand on both sides of {sign}")
    if isinstance(one, list):
        return [_line(combined(sign, each, other)) for each in one]
    if isinstance(other, list):
        return [_line(combined(sign, one, each)) for each in other]
    reckon = _OPERATORS[sign]
    if isinstance(one, float) and isinstance(other, float):
        value = _reckoned(reckon, one, other)
        if value is None:
            raise Refused("a number is divided by zero, or grows beyond all bounds")
        return value
    times = _times(one, other)
    points = {at_s: value for at_s in times if (value := _reckoned(reckon, _at(one, at_s), _at(other, at_s))) is not None}
    return Line(points, one.label if isinstance(one, Line) else _line(other).label)


def _times(one: float | Line, other: float | Line) -> list[int]:
    if isinstance(one, float):
        return sorted(_line(other).points)
    if isinstance(other, float):
        return sorted(one.points)
    return sorted(one.points.keys() & other.points.keys())


def _at(value: float | Line, at_s: int) -> float:
    return value if isinstance(value, float) else value.points[at_s]


def _reckoned(reckon: Callable[[float, float], float], one: float, other: float) -> float | None:
    try:
        value = reckon(one, other)
    except (ZeroDivisionError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _line(value: Value) -> Line:
    if not isinstance(value, Line):
        raise Refused("a metric is expected there")
    return value


def _folded(fold: Callable[[Sequence[float]], float]) -> Callable[[Value, float | str | None, Grid], Value]:
    def folded(value: Value, _how: float | str | None, _grid: Grid) -> Value:
        if isinstance(value, float):
            return value
        if isinstance(value, Line):
            return fold(list(value.points.values())) if value.points else 0.0
        times = sorted({at_s for line in value for at_s in line.points})
        return Line({at_s: fold([line.points[at_s] for line in value if at_s in line.points]) for at_s in times})

    return folded


def _each(change: Callable[[Line], Line]) -> Callable[[Value, float | str | None, Grid], Value]:
    def changed(value: Value, _how: float | str | None, _grid: Grid) -> Value:
        if isinstance(value, list):
            return [change(line) for line in value]
        if isinstance(value, float):
            return change(Line({0: value})).points[0]
        return change(value)

    return changed


def _mapped(how: Callable[[float], float]) -> Callable[[Value, float | str | None, Grid], Value]:
    return _each(lambda line: Line({at_s: float(how(value)) for at_s, value in line.points.items()}, line.label))


def _rate(value: Value, _how: float | str | None, _grid: Grid) -> Value:
    if isinstance(value, float):
        raise Refused("RATE is of a metric")
    if isinstance(value, list):
        return [_line(_rate(line, None, _grid)) for line in value]
    times = sorted(value.points)
    points = {now: (value.points[now] - value.points[before]) / (now - before) for before, now in pairwise(times)}
    return Line(points, value.label)


def _filled(value: Value, how: float | str | None, grid: Grid) -> Value:
    if isinstance(value, float):
        raise Refused("FILL is of a metric")
    if isinstance(value, list):
        return [_line(_filled(line, how, grid)) for line in value]
    if len(grid.times) > FILLED_MAX:
        raise Refused(f"FILL makes at most {FILLED_MAX} points: ask for a longer period, or a shorter time")
    if isinstance(how, float):
        return Line({at_s: value.points.get(at_s, how) for at_s in grid.times}, value.label)
    filled = dict(value.points)
    known = sorted(filled)
    for before, after in zip(known, [*known[1:], grid.end_s], strict=False):
        for at_s in range(before + grid.period_s, after, grid.period_s):
            if how == "REPEAT":
                filled[at_s] = value.points[before]
            elif after in value.points:
                share = (at_s - before) / (after - before)
                filled[at_s] = value.points[before] + share * (value.points[after] - value.points[before])
    return Line(dict(sorted(filled.items())), value.label)


_FUNCTIONS: Final[Mapping[str, Callable[[Value, float | str | None, Grid], Value]]] = {
    "SUM": _folded(math.fsum),
    "AVG": _folded(lambda values: math.fsum(values) / len(values)),
    "MIN": _folded(min),
    "MAX": _folded(max),
    "FILL": _filled,
    "RATE": _rate,
    "ABS": _mapped(abs),
    "CEIL": _mapped(math.ceil),
    "FLOOR": _mapped(math.floor),
}
