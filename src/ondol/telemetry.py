"""The port for what is kept of invocations: log events and reports go out here, off the hot path's way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ondol.model.functions import Target
from ondol.model.invocations import LogEvent, Report


class LogPlace(NamedTuple):
    """Where an environment's log goes: the stream of one environment in its contract's group."""

    account: str
    region: str
    group: str
    stream: str


class Telemetry(Protocol):
    """Never blocks and never fails: what cannot be kept is counted and dropped (bounded, marked in the log)."""

    def log(self, place: LogPlace, events: Sequence[LogEvent]) -> None: ...

    def waited(self, invocation: str, seconds: float) -> None:
        """An invocation (its id) that had to wait for its environment is about to run; those that had not are not mentioned."""
        ...

    def settled(self, target: Target, report: Report) -> None: ...

    def rested(self, target: Target, seconds: float) -> None:
        """What runs beside a function took so long behind its answer to a call, until all were done with it."""
        ...

    def throttled(self, account: str, region: str, function: str) -> None: ...
