"""Figures: medians of rounds, their spread, targets, and the page that shows them. Pure: nothing is measured here."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

MARK = "bench-check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row: what was measured in each round."""

    what: str
    unit: str
    rounds: Sequence[float]
    #: "<= 8", ">= 6000" or nothing.
    target: str = ""
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if not self.target:
            return None
        relation, limit = self.target.split()
        if relation not in ("<=", ">=", "<", ">"):
            raise ValueError(f"a target reads '<= NUMBER' or '>= NUMBER', not {self.target!r}")
        bound = float(limit.replace(",", ""))
        return {"<=": self.median <= bound, ">=": self.median >= bound, "<": self.median < bound, ">": self.median > bound}[
            relation
        ]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what was done, and its figures."""

    title: str
    text: str
    figures: list[Figure] = field(default_factory=list)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed."""
    if not values:
        raise ValueError("there is no percentile of nothing")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__trunc__() - 1)]


def number(value: float) -> str:
    """Three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def row(figure: Figure) -> str:
    """As Markdown."""
    relation = {"<=": "≤", ">=": "≥"}
    target = " ".join(relation.get(word, word) for word in figure.target.split()) or "–"
    met = {True: "yes", False: "**no**", None: "–"}[figure.met]
    spread = f"{number(min(figure.rounds))}–{number(max(figure.rounds))}" if len(figure.rounds) > 1 else "one round"
    return f"| {figure.what} | {target} | {number(figure.median)} {figure.unit} | {spread} | {met} | {figure.note} |"


def page(facts: Sequence[str], sections: Sequence[Section], recorded: dict[str, float]) -> str:
    """The whole of RESULTS.md."""
    lines = ["# What was measured", "", *(f"- {fact}" for fact in facts), ""]
    for section in sections:
        lines += section_lines(section)
    lines += [f"<!-- {MARK}: {json.dumps(recorded, sort_keys=True)} -->", ""]
    return "\n".join(lines)


def section_lines(section: Section, level: int = 2) -> list[str]:
    """As Markdown, under a heading of this level."""
    lines = [f"{'#' * level} {section.title}", "", section.text, ""]
    if section.figures:
        lines += ["| figure | target | median | min–max | met | note |", "| --- | --- | --- | --- | --- | --- |"]
        lines += [row(figure) for figure in section.figures] + [""]
    return lines


def recorded(text: str) -> dict[str, float]:
    """What `page` wrote for the check; empty when there is nothing."""
    found = re.search(rf"<!-- {MARK}: (\{{.*?\}}) -->", text)
    if not found:
        return {}
    return {str(name): float(value) for name, value in json.loads(found[1]).items()}


def regressions(before: dict[str, float], now: dict[str, float], *, allowed: float) -> list[str]:
    """Sentences about what grew by more than `allowed` (0.25 is a quarter)."""
    return [
        f"{name}: CPU per request is {now[name]:.2f} times the floor's; {before[name]:.2f} was recorded, {now[name] / before[name] - 1:+.0%}"
        for name in sorted(before.keys() & now.keys())
        if now[name] > before[name] * (1 + allowed)
    ]
