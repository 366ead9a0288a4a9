"""What is scraped: the totals of an account as text, in Prometheus' format 0.0.4 or as OpenMetrics 1.0. Pure.

Bounded: `Totals` tells so many functions apart and no more, and no label's value is anything that a client can make up at will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ondol.core import measuring
from ondol.core.totals import Total, Totals, cumulated

Labels = Mapping[str, str]
#: (what is put behind the name, labels, value)
Sample = tuple[str, Labels, float]
Row = tuple[Labels, Total]

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: The pool's states as `Totals.gauges` has them.
STATES: Final = ("starting", "idle", "busy", "stopping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric. `name` is without the `_total` of counters."""

    name: str
    kind: str
    help: str
    samples: Callable[[Totals, list[Row]], Iterator[Sample]]


def accepted(accept: str) -> str:
    """The content type for an Accept header: OpenMetrics for whoever asks for it."""
    return OPEN_METRICS if "application/openmetrics-text" in accept.lower() else PLAIN


def exposition(totals: Totals, account: str, kind: str) -> bytes:
    """The text for an account's owner."""
    rows: list[Row] = [({"region": region, "function": name}, total) for region, name, total in totals.of_account(account)]
    lines: list[str] = []
    for family in FAMILIES:
        counter = family.kind == "counter"
        described = f"{family.name}_total" if counter and kind == PLAIN else family.name
        lines += (f"# HELP {described} {family.help}", f"# TYPE {described} {family.kind}")
        for suffix, labels, value in family.samples(totals, rows):
            lines.append(f"{family.name}{'_total' if counter else suffix}{_labels(labels)} {_number(value)}")
    if kind == OPEN_METRICS:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


# Samples ---------------------------------------------------------------------------------------------------------------
def _outcomes(_totals: Totals, rows: Iterable[Row]) -> Iterator[Sample]:
    for labels, total in rows:
        for outcome, count in sorted(total.outcomes.items()):
            yield "", {**labels, "outcome": outcome}, count


def _durations(_totals: Totals, rows: Iterable[Row]) -> Iterator[Sample]:
    for labels, total in rows:
        buckets = cumulated(total.durations)
        for bound, count in buckets.items():
            yield "_bucket", {**labels, "le": bound}, count
        yield "_sum", labels, total.duration_ms / 1000
        yield "_count", labels, buckets["+Inf"]


def _of_each(value: Callable[[Total], float]) -> Callable[[Totals, Iterable[Row]], Iterator[Sample]]:
    def samples(_totals: Totals, rows: Iterable[Row]) -> Iterator[Sample]:
        for labels, total in rows:
            yield "", labels, value(total)

    return samples


def _observed(name: str, part: int, scale: float = 1.0) -> Callable[[Totals, Iterable[Row]], Iterator[Sample]]:
    """`part` 0: how often; 1: the sum of what was seen."""

    def samples(_totals: Totals, rows: Iterable[Row]) -> Iterator[Sample]:
        for labels, total in rows:
            if name in total.observed:
                yield "", labels, total.observed[name][part] * scale

    return samples


def _times(name: str) -> Callable[[Totals, Iterable[Row]], Iterator[Sample]]:
    """Of what is observed in milliseconds."""

    def samples(_totals: Totals, rows: Iterable[Row]) -> Iterator[Sample]:
        for labels, total in rows:
            if name in total.observed:
                count, sum_ms = total.observed[name]
                yield "_sum", labels, sum_ms / 1000
                yield "_count", labels, count

    return samples


def _states(totals: Totals, _rows: Iterable[Row]) -> Iterator[Sample]:
    for state in STATES:
        if state in totals.gauges:
            yield "", {"state": state}, totals.gauges[state]


def _gauge(name: str, scale: float = 1.0) -> Callable[[Totals, Iterable[Row]], Iterator[Sample]]:
    def samples(totals: Totals, _rows: Iterable[Row]) -> Iterator[Sample]:
        if name in totals.gauges:
            yield "", {}, totals.gauges[name] * scale

    return samples


def _lost(totals: Totals, _rows: Iterable[Row]) -> Iterator[Sample]:
    for what in ("calls", "metrics", "records", "spans"):
        yield "", {"what": what}, totals.lost.get(what, 0)


def _family(name: str, kind: str, text: str, samples: Callable[[Totals, list[Row]], Iterator[Sample]]) -> Family:
    return Family(name=f"ondol_{name}", kind=kind, help=text, samples=samples)


_MIB: Final = 1024 * 1024

FAMILIES: Final = (
    _family("invocations", "counter", "Calls that ended, by how they ended.", _outcomes),
    _family("invocation_duration_seconds", "histogram", "How long calls took, without waiting and loading.", _durations),
    _family(
        "extensions_afterwards_seconds",
        "summary",
        "How long extensions worked behind their function's answers.",
        _times(measuring.AFTERWARDS),
    ),
    _family("throttles", "counter", "Calls refused because too many were under way.", _observed(measuring.THROTTLES, 1)),
    _family("cold_starts", "counter", "Calls that brought their environment up.", _of_each(lambda total: total.cold_starts)),
    _family("cold_start_seconds", "counter", "Time spent loading.", _of_each(lambda total: total.cold_ms / 1000)),
    _family("deferred_received", "counter", "Deferred calls accepted.", _observed(measuring.DEFERRED_RECEIVED, 1)),
    _family("deferred_age_seconds", "summary", "How long deferred calls waited to be run.", _times(measuring.DEFERRED_AGE)),
    _family("deferred_dropped", "counter", "Deferred calls given up.", _observed(measuring.DEFERRED_DROPPED, 1)),
    _family(
        "destination_failures",
        "counter",
        "Outcomes of deferred calls that could not be delivered.",
        _observed(measuring.DESTINATION_FAILURES, 1),
    ),
    _family(
        "dead_letter_errors",
        "counter",
        "Given-up calls that their dead-letter queue did not take.",
        _observed(measuring.DEAD_LETTER_ERRORS, 1),
    ),
    _family(
        "deferred_chain_dropped", "counter", "Calls dropped because they went round.", _observed(measuring.CHAIN_DROPPED, 1)
    ),
    _family("environments", "gauge", "Environments by what they are doing.", _states),
    _family("waiting_calls", "gauge", "Calls that wait for an environment.", _gauge("waiting")),
    _family("environment_memory_bytes", "gauge", "Memory promised to environments.", _gauge("memory_mib", _MIB)),
    _family(
        "environment_memory_max_bytes", "gauge", "Memory that may be promised to environments.", _gauge("memory_mib_max", _MIB)
    ),
    _family("failed_starts", "counter", "Environments that did not come up.", _gauge("failed_starts")),
    _family("telemetry_lost", "counter", "What could not be kept of calls, metrics and records, or sent of spans.", _lost),
)


# Text ------------------------------------------------------------------------------------------------------------------
def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
