"""The runtime port: how an environment is launched and talked to.

**An answer that streams.** A worker that has the first bytes, or knows that there will be some, answers with `ending` OK and an
async iterator as `body`; what belongs to the whole answer is in `meta`. The iterator ends in one of three ways:

* it stops: the answer is whole;
* it raises `BrokeOff`: the function itself failed in mid-stream, and this is what it says of it. Its environment lives on;
* it raises anything else: the process is gone. It must do so also when the process is killed while somebody waits for bytes.

Reading is what moves it: an iterator that nobody asks takes nothing more from the function, so that a slow client makes the
function's write wait. Who stops reading calls `aclose` on what the pool gave, and the rest is read and thrown away there. A
worker may stream its answer to any call: where it is wanted whole, the pool puts it together. What frames and metas are agreed
on: docs/explain/streaming.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from msgspec import Struct, field

from ondol.model.functions import Revision
from ondol.model.invocations import Report
from ondol.sandbox import Shell


class BrokeOff(Exception):  # noqa: N818  # what happened, not what to call it
    """Raised by an answer's body: the function failed in mid-stream."""

    def __init__(self, kind: str, details: bytes) -> None:
        """`kind`: the error's type, as the function's side names it; `details`: the contract's error payload, if any."""
        super().__init__(kind)
        self.kind = kind
        self.details = details


class Ending(Enum):
    """How one call ended, as the runtime saw it."""

    OK = "ok"
    ERROR = "error"  #: the function's own failure; `body` is the contract's error payload
    INIT_ERROR = "init_error"  #: loading the handler failed, or what runs beside it; the worker is gone
    DEAD = "dead"  #: the process left without answering; `started` says whether the handler may have run
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All that a new environment is told."""

    guest: str  #: module in ondol_guest with the contract's guest half
    handler: str
    runtime: str
    variables: Mapping[str, str]  #: the whole process environment
    memory_mib: int
    timeout_s: int
    #: So many calls run in its environment at a time, at most.
    calls_max: int = 1
    #: The name under which its requests come to the node, by the socket of its shell; "": by none.
    caller: str = ""
    #: Names of the programs that run beside it, from its /opt.
    extensions: tuple[str, ...] = ()
    #: Of `variables`, those that the function's owner set.
    own: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: When the code can be read; None: now. A worker may be told all the rest before. Awaited by as many as want to know.
    attached: Awaitable[None] | None = None


class Call(Struct, frozen=True, kw_only=True):
    """One invocation for a worker. `meta` (JSON bytes) is between the contract's two halves."""

    meta: bytes
    payload: bytes
    body: AsyncIterator[bytes] | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """What a worker answered. `body` streams for contracts whose answers do."""

    ending: Ending
    meta: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""
    started: bool = True
    #: Set on the environment's first answer: how long loading took.
    init_ms: float | None = None


#: Called with what the function wrote: text of one event, and its time in ms or None for "now".
LogSink = Callable[[str, int | None], None]


#: As `Worker.call`, but the answer is handed over, from within the loop's turn that brought it.
Begin = Callable[[Call, LogSink, Callable[[Answer], None]], None]


class Company(Protocol):
    """What runs beside a worker in its shell, and is told of its calls."""

    @property
    def there(self) -> bool:
        """Whether anything does: otherwise nothing else here need be asked."""
        ...

    async def call(self, worker: Worker, call: Call, sink: LogSink) -> Answer:
        """As `worker.call`, once all are ready; what fails one of them fails the call.

        Also while nobody is there yet and the worker is loading: whoever joins meanwhile is told of the call.
        """
        ...

    def settled(self, report: Report, produced_bytes: int) -> None:
        """The worker is done with a call."""
        ...

    @property
    def broken(self) -> bool:
        """One of them failed: nothing more is to be run with it."""
        ...

    @property
    def busy(self) -> Sequence[str]:
        """Who is not yet done with the last call."""
        ...

    async def rest(self, seconds: float) -> Sequence[str]:
        """Wait, at most so long, until all are done with the last call; who is not."""
        ...

    def pause(self, *, on: bool) -> None:
        """None of them is allowed to run, or they are again."""
        ...

    async def leave(self, reason: str) -> None:
        """Let the worker and the others end by themselves, within the time there is for it. Idempotent.

        `reason`: "timeout", "failure", or "" when nobody needs the environment any more.
        """
        ...

    def close(self) -> None:
        """Answer none of them any more, once the last worker they were with is closed. Idempotent."""
        ...


class Worker(Protocol):
    """A process placed in a shell with one revision loaded, or loading."""

    #: Who else is in its shell, or may come to be; None: nobody will. Where calls run side by side, all workers have the same.
    company: Company | None

    @property
    def begin(self) -> Begin | None:
        """Its way to take a call without a coroutine; None: it has none."""
        ...

    def call(self, call: Call, sink: LogSink) -> Awaitable[Answer]:
        """Send one call, and wait for its answer. Always await what this gives. At most the contract's concurrency at a time.
        Never raises for what the guest does.
        """
        ...

    async def ended(self) -> int:
        """Exit status >= 0, or minus the signal, once the process is gone (kills nothing)."""
        ...

    @property
    def alive(self) -> bool: ...

    @property
    def init_ms(self) -> float | None:
        """How long loading took; None while it goes on. A call's time counts from here."""
        ...

    def signal(self, number: int) -> None:
        """Have the signal sent to its process; it is sent soon, or the process is gone, or cannot be reached alone."""
        ...

    def close(self) -> None:
        """Let go of descriptors: calls under way end as DEAD. The shell's owner kills the process."""
        ...


class Runtime(Protocol):
    """One way to launch. Raises RuntimeMissing, StartFailed."""

    def find(self, runtime: str) -> str | None:
        """Why this runtime id cannot run here, with how to mend it; None when it can."""
        ...

    async def start(self, shell: Shell, revision: Revision, launch: Launch, sink: LogSink) -> Worker:
        """Place a process in an attached shell and hand it `launch`.

        Returns at once: loading goes on, and its failure is the first call's answer.
        """
        ...
