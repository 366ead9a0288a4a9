"""What runs: an invocation, its outcome, and the facts the platform notes about it.

The function's success or failure is a value (`Outcome`); only the platform's own failure raises.

These, and what else is made anew for every call, are msgspec's structs: as frozen as a frozen dataclass, and made in a
tenth of its time (docs/decisions/0006). What is deployed is made seldom and stays dataclasses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from msgspec import Struct, field

from ondol.model.principals import Principal


class Invocation(Struct, frozen=True, kw_only=True):
    """One call of a function."""

    #: The request's id, shown to clients and handlers; the same on every attempt of a deferred call.
    id: str
    function: str  #: the function's opaque id
    qualifier: str | None  #: version number, alias name, or None
    principal: Principal
    #: The whole event, or its first bytes when `body` goes on.
    payload: bytes
    #: More of the payload, when the dialect streams it.
    body: AsyncIterator[bytes] | None = None
    #: What the contract hands through unchanged (a client context, a method and path …).
    context: Mapping[str, Any] = field(default_factory=dict)
    #: Trace header, if the caller sent one.
    trace: str | None = None
    #: Keep the last LOG_TAIL_BYTES of this call's log for the answer.
    tail: bool = False
    #: The caller takes the answer as it comes. Everybody else gets it whole, up to RESULT_BYTES_MAX.
    streamed: bool = False
    #: Whose environments it may run in, for a function that keeps its tenants apart; None for every other function.
    tenant: str | None = None
    #: It was accepted earlier: nobody waits for its answer.
    deferred: bool = False


class Status(Enum):
    """How an invocation ended."""

    OK = "ok"  #: the handler returned
    FAILED = "failed"  #: the handler raised, or its module could not be loaded
    TIMEOUT = "timeout"  #: it ran longer than its revision allows
    CRASHED = "crashed"  #: its process left without answering
    OUT_OF_MEMORY = "out_of_memory"  #: the kernel ended it at its memory limit
    TOO_LARGE = "too_large"  #: its answer is larger than RESULT_BYTES_MAX, or streams more than its contract allows


class Report(Struct, frozen=True, kw_only=True):
    """What the platform measured about one invocation: the neutral event that contracts render."""

    invocation: str
    revision: str
    version: int | None
    status: Status
    duration_ms: float
    memory_mib: int
    memory_peak_mib: int
    timeout_s: int
    #: Set when this call brought the environment up.
    init_ms: float | None = None
    #: How the process ended, for CRASHED: exit status >= 0, or minus the signal's number.
    exit_status: int | None = None
    trace: str | None = None
    #: Wall time at which it was over.
    ended_s: float = 0.0
    #: It ran in an environment that is kept up.
    pinned: bool = False
    #: Of the revision's environments that are kept up: how many were at work when the call began, and how many there were.
    #: None: none are wanted.
    pins: tuple[int, int] | None = None
    #: The invocation's.
    tenant: str | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """What an invocation came to. `body` is what the contract renders for the caller."""

    status: Status
    body: bytes | AsyncIterator[bytes]
    target_version: int | None
    report: Report | None
    #: For contracts whose answer has a head (a status code and headers).
    head: Mapping[str, Any] = field(default_factory=dict)
    #: The last bytes of the log, when asked for.
    tail: bytes = b""
    #: Set when `body` streams: what the call came to in the end (status, report, tail; `body` tells of a failure). There once
    #: the body has ended, also for a reader that left. A body that is not whole ends by raising Unavailable.
    end: Awaitable[Outcome] | None = None


class LogEvent(NamedTuple):
    """One line or record of a log."""

    at_ms: int  #: milliseconds since the epoch
    message: str
