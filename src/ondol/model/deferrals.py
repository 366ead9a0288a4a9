"""Deferred calls: how they are tried again, where their outcomes go, and how they end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A function that is told of outcomes, by name: whoever has that name when there is something to tell."""

    dialect: str
    account: str
    region: str
    name: str
    qualifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """What an owner says about a function's deferred calls, for each qualifier they come with; none falls back to another."""

    function: str
    #: Version number or alias of the calls it is for; None: those that name neither.
    qualifier: str | None = None
    #: Tries after the first; None: as many as usual.
    retries_max: int | None = None
    #: Seconds from acceptance after which a call is not run any more; None: as long as usual.
    age_s_max: int | None = None
    on_success: Destination | None = None
    on_failure: Destination | None = None
    #: Wall time of the last change.
    updated_s: float = 0.0


class Ending(Enum):
    """How a deferred call ended. The values are what its owner reads."""

    SUCCEEDED = "succeeded"  #: the function did what it was asked
    RETRIES_EXHAUSTED = "retries exhausted"  #: it failed as often as it may
    TOO_OLD = "event age exceeded"  #: it was not done in the time it had
    NO_CONCURRENCY = "no concurrency"  #: its owner lets none of the function run
    GONE = "the function is gone"  #: it was deleted, or the version or alias was
    CHAIN_TOO_LONG = "chain too long"  #: functions went on calling each other through their destinations
