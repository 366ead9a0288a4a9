"""One call under way in an environment: its clock, its part of the log, its report, and the rest of its answer.

It must not know of shells, workers' lives or other calls; `pool/environment.py` decides what a call's end means.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ondol.clock import Clock
from ondol.model.errors import Unavailable
from ondol.model.functions import Revision, Target
from ondol.model.invocations import Invocation, LogEvent, Report, Status
from ondol.model.limits import LOG_TAIL_BYTES
from ondol.runtime import Answer, BrokeOff, Ending, Worker

#: The answer of a worker that was gone before the call reached it.
LOST: Final = Answer(ending=Ending.DEAD, started=False)
STATUS_OF: Final[Mapping[Ending, Status]] = {
    Ending.OK: Status.OK,
    Ending.ERROR: Status.FAILED,
    Ending.INIT_ERROR: Status.FAILED,
    Ending.DEAD: Status.CRASHED,
    Ending.TOO_LARGE: Status.TOO_LARGE,
}


class Ran(NamedTuple):
    """What one call came to."""

    #: None: it ran longer than it may.
    answer: Answer | None
    #: For an answer that streams: as of the answer's head. The final one is in the log and the telemetry.
    report: Report
    #: The last LOG_TAIL_BYTES of the call's log, when asked for.
    tail: bytes = b""
    #: Set when the answer streams: what the call came to, once its stream has ended.
    streaming: asyncio.Future[Ran] | None = None

    @property
    def started(self) -> bool:
        """False: the worker was lost before it took the call up. Nothing ran, no report was written: try again elsewhere."""
        return self.answer is None or self.answer.started


class Told(Protocol):
    """Whoever began a call without a coroutine."""

    def ran(self, ran: Ran | Exception) -> None:
        """What it came to. Once, and before its last lines are written."""
        ...

    def freed(self) -> None:
        """Nothing more is done for it: its place may be given back. Once, after that."""
        ...


class Run(Struct, kw_only=True, eq=False):
    """One call."""

    invocation: Invocation
    target: Target
    timeout_s: float
    #: What its contract writes in front of it, until that is written.
    lines: Sequence[str]
    #: The end of its log, when asked for.
    tail: bytearray | None
    #: The first call of its environment; and, of its worker, one that finds it still loading.
    cold: bool
    clock: Clock
    #: Where its part of the log goes.
    sink: Callable[[Sequence[LogEvent]], None]
    begun_s: float
    begun_wall_s: float
    #: As in `Report`.
    pinned: bool
    pins: tuple[int, int] | None
    ended_s: float | None = None
    fresh: bool = False
    #: When `fresh`: how long it had been loading before.
    early_s: float = 0.0
    #: It ran out of time.
    timed_out: bool = False
    worker: Worker | None = None
    stream: Stream | None = None
    killing: asyncio.Task[None] | None = None

    def stop_clock(self) -> float:
        """The call is over (since its time ran out, if it did); its duration."""
        if self.ended_s is None:
            self.ended_s = self.clock.now_s()
        return self.ended_s - self.begun_s

    def log(self, message: str, at_ms: int | None = None) -> None:
        """The sink of what the function writes during this call; without a time it is now."""
        if self.lines:
            self.open()
        self.write((message,), int(self.clock.wall_s() * 1000) if at_ms is None else at_ms)

    def open(self) -> None:
        """Write the lines in front of the call, once."""
        lines, self.lines = self.lines, ()
        if lines:
            self.write(lines, int(self.begun_wall_s * 1000))

    def write(self, messages: Sequence[str], at_ms: int) -> None:
        """Events of this call, all of one moment (milliseconds since the epoch)."""
        self.sink([LogEvent(at_ms, message) for message in messages])
        if self.tail is not None:
            for message in messages:
                self.tail += message.encode("utf-8", "replace")[-LOG_TAIL_BYTES:]
                if not message.endswith("\n"):
                    self.tail += b"\n"  # a record is an event whatever it ends with; in the tail it is a line
            del self.tail[:-LOG_TAIL_BYTES]

    def loading_ms(self, init_ms: float) -> float:
        """Of what loading took, the part that fell into this call, which found it loading."""
        return max(init_ms - self.early_s * 1000, 0.0)

    def report(self, revision: Revision, status: Status, *, memory_peak_mib: int, exit_status: int | None = None) -> Report:
        """What was measured so far. A cold start's loading is no part of the duration; a later worker's is."""
        init_ms = self.worker.init_ms if self.cold and self.worker is not None else None
        ended_s = self.ended_s if self.ended_s is not None else self.clock.now_s()
        duration_ms = (ended_s - self.begun_s) * 1000
        if init_ms is not None and self.fresh:
            duration_ms = max(duration_ms - self.loading_ms(init_ms), 0.0)
        configuration = revision.configuration
        return Report(
            invocation=self.invocation.id,
            revision=revision.id,
            version=revision.version,
            status=status,
            duration_ms=duration_ms,
            memory_mib=configuration.memory_mib,
            memory_peak_mib=min(configuration.memory_mib, memory_peak_mib),
            timeout_s=configuration.timeout_s,
            init_ms=init_ms,
            exit_status=exit_status,
            trace=self.invocation.trace,
            ended_s=self.begun_wall_s + ended_s - self.begun_s,
            pinned=self.pinned,
            pins=self.pins,
            tenant=self.invocation.tenant,
        )


class Stream:
    """The rest of an answer. Whoever reads it may stop (`aclose`): what is left is read here, and the call ends as ever."""

    def __init__(
        self, body: AsyncIterator[bytes], settle: Callable[[Ending, BrokeOff | None], Awaitable[Ran]], bytes_max: int | None
    ) -> None:
        #: What the call came to, once it has been settled. Cancelled when it cannot be.
        self.ended: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
        self._body = aiter(body)
        #: Told, once, how the answer ended: OK, ERROR with what the function said, TOO_LARGE, or DEAD.
        self._settle = settle
        self._left_bytes = sys.maxsize if bytes_max is None else bytes_max
        #: The call ran out of time: what ends now is no whole answer.
        self.cut = False
        self._settling: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._body)
        except StopAsyncIteration:
            await self.finish(Ending.DEAD if self.cut else Ending.OK)
            if self.cut:
                raise Unavailable("the function ran out of time before its answer ended") from None
            raise
        except BrokeOff as failure:
            await self.finish(Ending.ERROR, failure)
            raise Unavailable("the function failed before its answer ended") from failure
        except Exception as error:
            await self.finish(Ending.DEAD)
            raise Unavailable("the function ended before its answer did") from error
        if len(chunk) > self._left_bytes:
            chunk = chunk[: self._left_bytes]
            if not chunk:
                await self.finish(Ending.TOO_LARGE)
                raise Unavailable("the function's answer is longer than it may be")
        self._left_bytes -= len(chunk)
        return chunk

    async def aclose(self) -> None:
        """The reader is gone; the call goes on. Returns at once."""
        if self._settling is None and self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read_on())

    async def finish(self, ending: Ending = Ending.DEAD, failure: BrokeOff | None = None) -> None:
        """Settle, once. A reader that is cancelled meanwhile leaves that to itself."""
        if self._settling is None:
            self._settling = asyncio.get_running_loop().create_task(self._finish(ending, failure))
        await asyncio.shield(self._settling)

    async def _finish(self, ending: Ending, failure: BrokeOff | None) -> None:
        try:
            ran = await self._settle(ending, failure)
        except BaseException:
            self.ended.cancel()
            raise
        self.ended.set_result(ran)

    async def _read_on(self) -> None:
        try:
            async for _ in self:
                pass
        except Unavailable:
            return  # settled as such


async def whole(ran: Ran) -> Ran:
    """A streamed answer put together, for a caller who wants it whole; as it ended, when it is not."""
    assert ran.answer is not None
    assert ran.streaming is not None
    assert not isinstance(ran.answer.body, bytes)
    parts: list[bytes] = []
    try:
        parts += [chunk async for chunk in ran.answer.body]
    except Unavailable:
        pass  # why, is told in the end
    except asyncio.CancelledError:
        await ran.answer.body.aclose()  # type: ignore[attr-defined]  # it is a Stream
        raise
    ended = await ran.streaming
    if ended.answer is None or ended.report.status is not Status.OK:
        return ended
    return ended._replace(answer=replace(ended.answer, body=b"".join(parts)))
