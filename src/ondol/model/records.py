"""A record: what is kept of one invocation. Payloads are no part of it.

One is made for every call, and they travel and are kept by the thousand: a struct that is written down as an array. So members
are only ever added at the end, with a default.
"""

from __future__ import annotations

from msgspec import Struct

from ondol.model.invocations import Status


class Record(Struct, frozen=True, kw_only=True, array_like=True):
    """One attempt: a deferred call that is tried again leaves one record per try, with the same `invocation`."""

    invocation: str
    account: str
    region: str
    #: The function's opaque id, and its name when it ran.
    function: str
    name: str
    revision: str
    version: int | None
    #: As the caller gave it: a version, an alias, or None.
    qualifier: str | None
    status: Status
    #: When the handler was handed the event (or its environment began to load): milliseconds since the epoch.
    started_ms: int
    #: Where the time went, in milliseconds: until an environment was there (None: not measured), loading (None: it was warm),
    #: the handler.
    queue_ms: float | None
    start_ms: float | None
    handler_ms: float
    memory_mib: int
    memory_peak_mib: int
    #: How the process ended, for CRASHED: exit status >= 0, or minus the signal's number.
    exit_status: int | None = None
    #: The trace header the call carried.
    trace: str | None = None

    @property
    def ended_ms(self) -> float:
        """When the handler was done."""
        return self.started_ms + (self.start_ms or 0.0) + self.handler_ms
