"""Everything the platform itself can fail with. A function's own failure is no exception but an `Outcome`.

    OndolError
    ├── Invalid              what was asked for cannot be
    │   ├── InvalidPayload       the event is not what the contract takes
    │   ├── InvalidSetting       one configuration field is out of its range
    │   └── InvalidCode          the archive cannot be taken
    ├── NotFound             no such function, version, alias, environment …
    ├── Conflict             true of another moment
    │   ├── AlreadyExists
    │   ├── RevisionMismatch     the caller's `if_revision` is stale
    │   ├── Busy                 an update of the same thing is under way
    │   └── InUse                something else names it, so it cannot go
    ├── Denied               who asks is known, and may not
    ├── TooLarge             more bytes than the limit named
    ├── Throttled            admission refused: try again later
    └── Unavailable          the platform could not; nothing is the caller's fault
        ├── RuntimeMissing       the interpreter the function asks for is not on this machine
        ├── NotBuilt             a documented thing that this release does not do
        ├── StartFailed          no environment could be started
        └── OutOfSpace           the data directory's disk is full

No status codes here: each dialect has its own table, and a test asserts that every leaf is in every table.
"""

from __future__ import annotations


class OndolError(Exception):
    """The root. `str(error)` is a sentence for the user."""


class Invalid(OndolError):
    """What was asked for cannot be."""


class InvalidPayload(Invalid):
    """The event is not what the contract takes."""


class InvalidSetting(Invalid):
    """One configuration field is out of its range."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class InvalidCode(Invalid):
    """The archive cannot be taken."""


class NotFound(OndolError):
    """There is no such thing. `kind` says what was looked for: function, version, alias, code …"""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} not found: {name}")
        self.kind = kind
        self.name = name


class Conflict(OndolError):
    """True of another moment."""


class AlreadyExists(Conflict):
    """The name is taken."""


class RevisionMismatch(Conflict):
    """The caller's `if_revision` is stale."""


class Busy(Conflict):
    """An update of the same thing is under way."""


class InUse(Conflict):
    """Something else names it, so it cannot go. `by`: the names of what does."""

    def __init__(self, message: str, *, by: tuple[str, ...]) -> None:
        super().__init__(message)
        self.by = by


class Denied(OndolError):
    """Who asks is known, and may not."""

    def __init__(self, message: str, *, action: str = "", resource: str = "") -> None:
        super().__init__(message)
        self.action = action
        self.resource = resource


class TooLarge(OndolError):
    """More bytes than the limit."""

    def __init__(self, message: str, *, limit_bytes: int, actual_bytes: int = 0) -> None:
        super().__init__(message)
        self.limit_bytes = limit_bytes
        self.actual_bytes = actual_bytes


class Throttled(OndolError):
    """Admission refused. `reason`: 'account', 'function' (reserved concurrency), 'line' (the waiting line is full)
    'rate' (it gets new environments as fast as it may), 'account rate' or 'function rate' (more calls a second than may be).
    """

    def __init__(self, reason: str, *, retry_after_s: float = 1.0) -> None:
        many = "invocations a second" if reason.endswith(" rate") else "concurrent invocations"
        super().__init__(f"too many {many} ({reason})")
        self.reason = reason
        self.retry_after_s = retry_after_s


class Unavailable(OndolError):
    """The platform could not."""


class RuntimeMissing(Unavailable):
    """The interpreter the function asks for is not on this machine; the message says how to get it."""

    def __init__(self, runtime: str, message: str) -> None:
        super().__init__(message)
        self.runtime = runtime


class NotBuilt(Unavailable):
    """A documented thing that this release does not do; the message says what to use instead."""


class StartFailed(Unavailable):
    """No environment could be started."""


class OutOfSpace(Unavailable):
    """The data directory's disk is full."""
