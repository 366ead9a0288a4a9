"""What is measured, as CloudWatch calls it: namespaces, names, dimensions and units, both ways. Pure.

The platform's own metrics are `AWS/Lambda`'s, with its dimensions: none (the account), FunctionName, FunctionName and
Resource (`name`, `name:alias` or `name:version`), and ExecutedVersion besides for aliases. All other namespaces are their
users', as given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.core import measuring as core
from ondol.dialects.aws.names import LATEST, LATEST_PUBLISHED
from ondol.dialects.aws.service import Context
from ondol.meter import PLATFORM, Dimensions, Series

NAMESPACE: Final = "AWS/Lambda"
#: No data can be put into these.
RESERVED: Final = "AWS/"
#: The unit of data that came without one.
NO_UNIT: Final = "None"
#: What only one of them is called by, here and in the core.
_VERSIONS: Final = {core.LATEST: LATEST, core.PUBLISHED: LATEST_PUBLISHED}
_NEUTRAL: Final = {shown: neutral for neutral, shown in _VERSIONS.items()}

NAMES: Final[Mapping[str, str]] = {
    core.INVOCATIONS: "Invocations",
    core.ERRORS: "Errors",
    core.THROTTLES: "Throttles",
    core.DURATION: "Duration",
    core.AFTERWARDS: "PostRuntimeExtensionsDuration",
    core.CONCURRENCY: "ConcurrentExecutions",
    core.UNRESERVED: "UnreservedConcurrentExecutions",
    core.PINNED: "ProvisionedConcurrencyInvocations",
    core.SPILLED: "ProvisionedConcurrencySpilloverInvocations",
    core.PINNED_AT_WORK: "ProvisionedConcurrentExecutions",
    core.PINNED_SHARE: "ProvisionedConcurrencyUtilization",
    core.DEFERRED_RECEIVED: "AsyncEventsReceived",
    core.DEFERRED_AGE: "AsyncEventAge",
    core.DEFERRED_DROPPED: "AsyncEventsDropped",
    core.DESTINATION_FAILURES: "DestinationDeliveryFailures",
    core.DEAD_LETTER_ERRORS: "DeadLetterErrors",
    core.CHAIN_DROPPED: "RecursiveInvocationsDropped",
}
UNITS: Final[Mapping[str, str]] = {core.COUNT: "Count", core.MILLISECONDS: "Milliseconds"}
_NEUTRAL_NAMES: Final = {shown: name for name, shown in NAMES.items()}
_NEUTRAL_UNITS: Final = {shown: unit for unit, shown in UNITS.items()}


def series_of(context: Context, namespace: str, name: str, dimensions: Sequence[Mapping[str, Any]]) -> Series | None:
    """The series that a client means, of any unit; None for one of the platform's that there cannot be."""
    where = (context.account, context.region)
    pairs = {each["Name"]: each.get("Value", "") for each in dimensions}
    if namespace != NAMESPACE:
        return Series(*where, namespace, name, tuple(sorted(pairs.items())))
    neutral = _neutral(pairs)
    if name not in _NEUTRAL_NAMES or neutral is None:
        return None
    return Series(*where, PLATFORM, _NEUTRAL_NAMES[name], neutral)


def unit_of(series: Series, unit: str | None) -> str | None:
    """A unit that a client asks for, as it is kept; None for any."""
    return unit if unit is None or series.space != PLATFORM else _NEUTRAL_UNITS.get(unit, "no such unit")


def shown_unit(series: Series, unit: str) -> str:
    return UNITS.get(unit, NO_UNIT) if series.space == PLATFORM else unit


def space_of(namespace: str | None) -> str | None:
    """For listing: the space of a namespace; None for all."""
    return PLATFORM if namespace == NAMESPACE else namespace


def name_of(namespace: str | None, name: str | None) -> str | None:
    """For listing: a metric's name as it is kept; None for all, to be looked through by the names that are shown."""
    if name is None or (namespace is None and name in _NEUTRAL_NAMES):
        return None
    return _NEUTRAL_NAMES.get(name, "no such name") if namespace == NAMESPACE else name


def shown(series: Series) -> dict[str, Any] | None:
    """A `Metric`; None for what CloudWatch has no name for."""
    if series.space != PLATFORM:
        dimensions = [{"Name": name, "Value": value} for name, value in series.dimensions]
        return {"Namespace": series.space, "MetricName": series.name, "Dimensions": dimensions}
    if series.name not in NAMES:
        return None
    return {"Namespace": NAMESPACE, "MetricName": NAMES[series.name], "Dimensions": _shown(dict(series.dimensions))}


def _shown(pairs: Mapping[str, str]) -> list[dict[str, str]]:
    function = pairs.get(core.FUNCTION, "")
    found = {"FunctionName": function} if function else {}
    if core.QUALIFIER in pairs:
        found["Resource"] = f"{function}:{pairs[core.QUALIFIER]}" if pairs[core.QUALIFIER] else function
    if core.VERSION in pairs:
        found["ExecutedVersion"] = _VERSIONS.get(pairs[core.VERSION], pairs[core.VERSION])
    return [{"Name": name, "Value": value} for name, value in found.items()]


def _neutral(pairs: Mapping[str, str]) -> Dimensions | None:
    if not pairs:
        return ()
    function = pairs.get("FunctionName")
    if function is None or pairs.keys() - {"FunctionName", "Resource", "ExecutedVersion"}:
        return None
    found = {core.FUNCTION: function}
    if "Resource" in pairs:
        name, _, qualifier = pairs["Resource"].partition(":")
        if name != function:
            return None
        found[core.QUALIFIER] = qualifier
    if "ExecutedVersion" in pairs:
        found[core.VERSION] = _NEUTRAL.get(pairs["ExecutedVersion"], pairs["ExecutedVersion"])
    return tuple(sorted(found.items()))
