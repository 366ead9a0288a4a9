"""The contract port: how a handler is called, host half. The guest half is a module in `ondol_guest`.

The host half renders what the guest cannot say: its variables, the payloads of timeouts and crashes, and the lines that the
platform writes around an invocation. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ondol.model.functions import Revision, Target
from ondol.model.invocations import Invocation, Outcome, Report
from ondol.runtime import Answer, LogSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Facts of one environment that its variables show."""

    environment: str  #: 32 hex digits
    started_s: float  #: wall time
    version: int | None
    #: The node's address as functions reach it, and scoped credentials.
    endpoint: str
    access_key_id: str
    secret: str
    session_token: str
    #: What really runs the function, when it differs from what was asked ("python3.11"), else None.
    substitute: str | None = None
    #: It was brought up, and loaded, before any call.
    pinned: bool = False


class Contract(Protocol):
    """One per way of calling. All methods are pure."""

    #: Key in Configuration.contract.
    name: str
    #: Module in ondol_guest.
    guest: str
    #: Invocations that one environment serves at a time.
    concurrency: int
    #: Bytes that an answer may stream; None: without end.
    stream_bytes_max: int | None

    def of(self, revision: Revision) -> Contract:
        """The contract for this revision's environments: itself, or one that writes as the revision's configuration asks."""
        ...

    def log_place(self, revision: Revision, place: Place) -> tuple[str, str]:
        """(group, stream)."""
        ...

    def variables(self, revision: Revision, place: Place) -> Mapping[str, str]:
        """The whole process environment."""
        ...

    def meta(self, invocation: Invocation, target: Target, *, deadline_ms: int) -> bytes:
        """JSON for the guest half. `deadline_ms`: milliseconds since the epoch."""
        ...

    def sifted(self, sink: LogSink) -> LogSink:
        """The sink for what the function itself writes: `sink`, or one that holds back what shall not be shown."""
        ...

    def opening(self, revision: Revision, place: Place) -> Sequence[str]:
        """Lines written when an environment begins to load."""
        ...

    def started(self, invocation: Invocation, target: Target) -> Sequence[str]:
        """Lines written before the handler runs."""
        ...

    def settled(self, report: Report) -> Sequence[str]:
        """Lines written after it."""
        ...

    def outcome(self, invocation: Invocation, report: Report, answer: Answer | None) -> Outcome:
        """What the caller gets; `answer` is None for timeouts. Errors of the platform's making are rendered here.

        Asked twice of an answer that streams: of its head, and of how it ended (then `answer.body` tells of a failure).
        """
        ...


Body = bytes | AsyncIterator[bytes]
Meta = Mapping[str, Any]
