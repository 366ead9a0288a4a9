"""One environment: a shell with a worker placed in it, and what its contract writes around calls.

It must not know of the pool's other environments, nor why it was started. What it decides:

* **Limits.** A worker that has loaded gets `timeout_s` for a call. While it is still loading, the first call may take
  INIT_S_MAX + timeout_s in all; once it has loaded, `timeout_s` counts from then.
* **Deaths.** When a call ends the worker (crash, memory, timeout, failure to load), every process in the shell is killed and
  the shell is kept with its /tmp; the next call starts a fresh worker in it, so that globals are new. That load counts into the
  call's duration and is not reported as a cold start.
* **Log order.** "Started" lines are written when the worker has loaded: at once on a warm one, else in front of the call's
  first log event or its answer. A call that never started writes none, and no report: another environment will.
* **Memory.** The peak is what the worker inherited and the peak of its cgroup. Asking costs a round trip to the keeper, so it
  is asked after the first call, after calls long enough not to notice, and otherwise in the background.

Invariants: a shell is discarded exactly once, by `close`; a call always returns; nothing here outlives `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeVar

from ondol.clock import Clock
from ondol.contract import Contract, Place
from ondol.model.errors import OndolError, Unavailable
from ondol.model.functions import Code, Revision, Target
from ondol.model.invocations import Invocation, LogEvent, Report, Status
from ondol.model.limits import INIT_S_MAX, LOG_TAIL_BYTES, MIB
from ondol.runtime import Answer, Call, Ending, Launch, Runtime, Worker
from ondol.sandbox import Sandboxes, Shell
from ondol.telemetry import Telemetry

T = TypeVar("T")

#: The least a cgroup is given, however much of the function's memory is inherited.
MEMORY_BYTES_MIN: Final = 32 * MIB
#: How often memory is asked for, and from which duration on a call waits for the answer.
USAGE_EVERY_S: Final = 1.0
USAGE_AWAITED_FROM_S: Final = 0.02
#: How often a call that is over its time looks whether loading has ended.
LOADING_POLL_S: Final = 0.02
#: How long a killed worker may take to be gone, with its last words.
DEATH_S_MAX: Final = 2.0

_LOST: Final = Answer(ending=Ending.DEAD, started=False)
_DEADLY: Final = frozenset({Ending.DEAD, Ending.INIT_ERROR})
_TIMED_OUT: Final = (Status.TIMEOUT, None)
_STATUS: Final[Mapping[Ending, Status]] = {
    Ending.OK: Status.OK,
    Ending.ERROR: Status.FAILED,
    Ending.INIT_ERROR: Status.FAILED,
    Ending.DEAD: Status.CRASHED,
    Ending.TOO_LARGE: Status.TOO_LARGE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Makings:
    """What all environments of a node are made with."""

    sandboxes: Sandboxes
    runtimes: Callable[[Revision], Runtime]
    contracts: Mapping[str, Contract]
    telemetry: Telemetry
    clock: Clock
    #: (access key id, secret, session token) for the functions of this revision.
    mint: Callable[[Revision], tuple[str, str, str]]
    #: The node's address as functions reach it.
    endpoint: str
    #: Where a code's unpacked tree is.
    tree_of: Callable[[Code], str]
    #: Bytes of memory that a worker of this revision shares with what it was forked from.
    inherited_bytes: Callable[[Revision], Awaitable[int]]
    #: What really runs this revision, when it differs from what was asked.
    substitute: Callable[[Revision], str | None]
    #: 32 hex digits, new each time.
    new_id: Callable[[], str]


class Ran(NamedTuple):
    """What one call came to."""

    #: None: it ran longer than it may.
    answer: Answer | None
    report: Report
    #: The last LOG_TAIL_BYTES of the call's log, when asked for.
    tail: bytes = b""
    #: Set when the answer streams: done once its stream has ended.
    streaming: asyncio.Future[None] | None = None

    @property
    def started(self) -> bool:
        """False: the worker was lost before it took the call up. Nothing was logged; try once more elsewhere."""
        return self.answer is None or self.answer.started


class Environment:
    """See the module. `start` once, `call` as often as the contract's concurrency allows, `close` in any case."""

    def __init__(self, revision: Revision, makings: Makings, on_death: Callable[[], None]) -> None:
        self.revision = revision
        self.makings = makings
        self.contract = makings.contracts[revision.configuration.contract]
        key_id, secret, token = makings.mint(revision)
        self.place = Place(
            environment=makings.new_id(),
            started_s=makings.clock.wall_s(),
            version=revision.version,
            endpoint=makings.endpoint,
            access_key_id=key_id,
            secret=secret,
            session_token=token,
            substitute=makings.substitute(revision),
        )
        self.calls = 0
        #: It cannot run anything any more: close it.
        self.broken = False
        self._group, self._stream = self.contract.log_place(revision, self.place)
        self._on_death = on_death
        self._shell: Shell | None = None
        self._worker: Worker | None = None
        self._burial: asyncio.Task[int | None] | None = None
        self._reviving = asyncio.Lock()
        self._running = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._memory = _Memory(makings.sandboxes, makings.clock)
        self._closed = False

    # Life --------------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Make it ready for its first call. Raises StartFailed, OutOfSpace, RuntimeMissing; `close` it then, too."""
        revision, makings = self.revision, self.makings
        configuration = revision.configuration
        self._shell = self._memory.shell = shell = await makings.sandboxes.prepare(revision.account)
        self._memory.inherited_bytes = inherited_bytes = await makings.inherited_bytes(revision)
        await makings.sandboxes.attach(
            shell,
            tree=makings.tree_of(revision.code),
            memory_bytes=max(configuration.memory_mib * MIB - inherited_bytes, MEMORY_BYTES_MIN),
            tmp_mib=configuration.tmp_mib,
        )
        for line in self.contract.opening(revision, self.place):
            self.log(line)
        await self._place_worker()

    async def close(self) -> None:
        """Leave nothing. Idempotent."""
        if self._closed:
            return
        self._closed = self.broken = True
        for task in tuple(self._tasks):
            task.cancel()
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        if self._shell is not None:
            await self.makings.sandboxes.discard(self._shell)

    async def _place_worker(self) -> Worker:
        assert self._shell is not None
        revision = self.revision
        configuration = revision.configuration
        launch = Launch(
            guest=self.contract.guest,
            handler=configuration.handler,
            runtime=configuration.runtime,
            variables=self.contract.variables(revision, self.place),
            memory_mib=configuration.memory_mib,
            timeout_s=configuration.timeout_s,
        )
        worker = await self.makings.runtimes(revision).start(self._shell, revision, launch, self.log)
        self._worker = worker
        self._spawn(self._watch(worker))
        return worker

    async def _watch(self, worker: Worker) -> None:
        """A worker that dies while nothing runs takes its environment with it."""
        await worker.ended()
        if worker is self._worker and not self._running:
            self.broken = True
            self._on_death()

    async def _revive(self) -> Worker | None:
        """A fresh worker in the same shell, after a call that ended the last one; None when that cannot be."""
        async with self._reviving:
            if self._worker is not None or self.broken:
                return self._worker
            try:
                if self._burial is not None:
                    await asyncio.shield(self._burial)
                return None if self.broken else await self._place_worker()
            except OndolError:
                self.broken = True
                return None

    def _bury(self, worker: Worker) -> Awaitable[int | None]:
        """Kill all that is in the shell, once per worker; gives the worker's exit status, None when it cannot be had."""
        if worker is self._worker:
            self._worker = None
            # Held apart from `_tasks`: it is bounded, and callers wait for it even while the environment is closed.
            self._burial = asyncio.get_running_loop().create_task(self._end(worker))
        assert self._burial is not None
        return asyncio.shield(self._burial)

    async def _end(self, worker: Worker) -> int | None:
        assert self._shell is not None
        try:
            async with asyncio.timeout(DEATH_S_MAX):
                await self.makings.sandboxes.scour(self._shell)
                return await worker.ended()
        except (OndolError, TimeoutError):
            self.broken = True
            return None
        finally:
            # What it said last has been read by now: its line ends after its log.
            worker.close()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # A call ------------------------------------------------------------------------------------------------------------
    async def call(self, call: Call, *, invocation: Invocation, target: Target, timeout_s: float, tail: bool = False) -> Ran:
        """Run one invocation. Never raises for what the function, or its environment, does."""
        self._running += 1
        run = _Run(self, invocation, target, timeout_s, tail=tail)
        try:
            answer = await self._run(run, call)
            if answer is None or isinstance(answer.body, bytes):
                return await self._settle(run, answer)
            return self._stream_of(run, answer)
        except asyncio.CancelledError:
            self.broken = True  # something still runs in it
            raise
        finally:
            if run.stream is None:
                self._leave()

    def _leave(self) -> None:
        self._running -= 1
        self.calls += 1

    async def _run(self, run: _Run, call: Call) -> Answer | None:
        """The call itself, until its answer (or the answer's head) is there. None when it ran out of time."""
        worker = self._worker or await self._revive()
        if worker is None:
            return _LOST
        run.worker = worker
        run.fresh = worker.init_ms is None
        if not run.fresh:
            run.open()
        loop = asyncio.get_running_loop()
        run.timer = loop.call_later(run.timeout_s, self._due, run)
        run.caller = asyncio.current_task()
        try:
            answer = await worker.call(call, run.log)
        except asyncio.CancelledError:
            if not run.abandoned:
                raise
            assert run.caller is not None
            run.caller.uncancel()
            return None
        finally:
            run.caller = None
        return None if run.timed_out else answer

    def _due(self, run: _Run) -> None:
        """The time may be up: see Limits in the module's docstring."""
        assert run.worker is not None
        now_s = self.makings.clock.now_s()
        loaded_ms = run.worker.init_ms
        if run.fresh and loaded_ms is None:
            left_s = min(run.begun_s + INIT_S_MAX + run.timeout_s - now_s, LOADING_POLL_S)
        elif run.fresh:
            left_s = run.begun_s + (loaded_ms or 0.0) / 1000 + run.timeout_s - now_s
        else:
            left_s = 0.0
        if left_s > 0.0005:
            run.timer = asyncio.get_running_loop().call_later(left_s, self._due, run)
            return
        run.timed_out = True
        run.ended_s = now_s
        self._spawn(self._kill(run))

    async def _kill(self, run: _Run) -> None:
        """End a call that is out of time. Its worker's death ends it; if that does not, it is ended here."""
        assert run.worker is not None
        await self._bury(run.worker)
        if run.stream is not None:
            await run.stream.finish()
        await asyncio.sleep(DEATH_S_MAX)
        if run.caller is not None:
            self.broken = run.abandoned = True
            run.caller.cancel()

    async def _settle(self, run: _Run, answer: Answer | None) -> Ran:
        """Measure, bury the dead, write what belongs behind the call."""
        run.stop_clock()
        status, exit_status = _TIMED_OUT if answer is None else (_STATUS[answer.ending], None)
        if answer is not None and answer.ending is Ending.DEAD and not answer.started:
            if not run.fresh:
                if run.worker is not None:
                    await self._bury(run.worker)
                return Ran(answer, run.report(status, None))
            answer = replace(answer, started=True)  # it died while it loaded: the function's own doing
        if answer is None or answer.ending in _DEADLY:
            out_of_memory = await self._memory.ask()
            assert run.worker is not None
            exit_status = await self._bury(run.worker)
            if status is Status.CRASHED and out_of_memory:
                status = Status.OUT_OF_MEMORY
        elif self._memory.is_due(run.duration_s):
            await self._memory.ask()
        elif self._memory.is_old():
            self._spawn(self._memory.ask())
        run.open()
        report = run.report(status, exit_status if status is Status.CRASHED else None)
        for line in self.contract.settled(report):
            run.write(line)
        self.makings.telemetry.settled(run.target, report)
        return Ran(answer, report, bytes(run.tail or b""))

    def _stream_of(self, run: _Run, answer: Answer) -> Ran:
        """An answer whose body goes on: the call is settled when that ends."""
        assert not isinstance(answer.body, bytes)
        run.stream = stream = _Stream(self, run, answer)
        return Ran(replace(answer, body=stream), run.report(_STATUS[answer.ending], None), b"", stream.ended)

    async def _settle_stream(self, run: _Run, answer: Answer, *, whole: bool) -> None:
        ending = answer.ending if whole else Ending.DEAD
        try:
            await self._settle(run, None if run.timed_out else replace(answer, ending=ending, body=b""))
        finally:
            self._leave()

    # Logs --------------------------------------------------------------------------------------------------------------
    def log(self, message: str, at_ms: int | None = None) -> None:
        """One event into this environment's stream."""
        revision = self.revision
        if at_ms is None:
            at_ms = int(self.makings.clock.wall_s() * 1000)
        event = LogEvent(at_ms, message)
        self.makings.telemetry.log(revision.account, revision.region, self._group, self._stream, event)

    def memory_peak_mib(self) -> int:
        """The most it used so far, as far as asked."""
        return min(self._memory.peak_mib(), self.revision.configuration.memory_mib)


class _Run:
    """One call under way: its log, its clock."""

    __slots__ = (
        "abandoned", "begun_s", "begun_wall_ms", "caller", "cold", "ended_s", "environment", "fresh", "invocation", "lines",
        "stream", "tail", "target", "timed_out", "timeout_s", "timer", "worker",
    )  # fmt: skip

    def __init__(
        self, environment: Environment, invocation: Invocation, target: Target, timeout_s: float, *, tail: bool
    ) -> None:
        clock = environment.makings.clock
        self.environment = environment
        self.invocation = invocation
        self.target = target
        self.timeout_s = timeout_s
        self.lines: Sequence[str] = environment.contract.started(invocation, target)
        self.tail = bytearray() if tail else None
        self.begun_s = clock.now_s()
        self.begun_wall_ms = int(clock.wall_s() * 1000)
        self.ended_s = 0.0
        #: The first call of this environment; and, of this worker, one that finds it still loading.
        self.cold = not environment.calls
        self.fresh = False
        self.timed_out = False
        self.abandoned = False
        self.worker: Worker | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.caller: asyncio.Task[Any] | None = None
        self.stream: _Stream | None = None

    @property
    def duration_s(self) -> float:
        return self.ended_s - self.begun_s

    def stop_clock(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.timed_out:
            self.ended_s = self.environment.makings.clock.now_s()

    def log(self, message: str, at_ms: int | None = None) -> None:
        """The sink of what the function writes during this call."""
        if self.lines:
            self.open()
        self.write(message, at_ms)

    def open(self) -> None:
        """Write the lines in front of the call, once."""
        lines, self.lines = self.lines, ()
        for line in lines:
            self.write(line, self.begun_wall_ms)

    def write(self, message: str, at_ms: int | None = None) -> None:
        self.environment.log(message, at_ms)
        if self.tail is not None:
            self.tail += message.encode("utf-8", "replace")[-LOG_TAIL_BYTES:]
            del self.tail[:-LOG_TAIL_BYTES]

    def report(self, status: Status, exit_status: int | None) -> Report:
        revision = self.environment.revision
        init_ms = self.worker.init_ms if self.cold and self.worker is not None else None
        ended_s = self.ended_s or self.environment.makings.clock.now_s()
        duration_ms = (ended_s - self.begun_s) * 1000
        if init_ms is not None and self.fresh:
            duration_ms = max(duration_ms - init_ms, 0.0)
        return Report(
            invocation=self.invocation.id,
            revision=revision.id,
            version=revision.version,
            status=status,
            duration_ms=duration_ms,
            memory_mib=revision.configuration.memory_mib,
            memory_peak_mib=self.environment.memory_peak_mib(),
            timeout_s=revision.configuration.timeout_s,
            init_ms=init_ms,
            exit_status=exit_status,
            trace=self.invocation.trace,
        )


class _Stream:
    """The rest of an answer. Whoever reads it may stop: what is left is read here, so that the call ends as it would have."""

    def __init__(self, environment: Environment, run: _Run, answer: Answer) -> None:
        assert not isinstance(answer.body, bytes)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._environment = environment
        self._run = run
        self._answer = answer
        self._body = aiter(answer.body)
        self._whole = False
        self._finishing = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._body)
        except StopAsyncIteration:
            self._whole = True
            await self.finish()
            raise
        except Exception as error:
            await self.finish()
            raise Unavailable("the function ended before its answer did") from error

    async def aclose(self) -> None:
        """The reader is gone. The call goes on."""
        if not self._finishing:
            self._environment._spawn(self._read_on())  # noqa: SLF001  (one class in two parts)

    async def _read_on(self) -> None:
        with contextlib.suppress(Unavailable):
            async for _ in self:
                pass

    async def finish(self) -> None:
        """Settle, once."""
        if self._finishing:
            return
        self._finishing = True
        try:
            await self._environment._settle_stream(self._run, self._answer, whole=self._whole)  # noqa: SLF001
        finally:
            if not self.ended.done():
                self.ended.set_result(None)


class _Memory:
    """What a shell used, asked for seldom: each question is a round trip to the keeper."""

    def __init__(self, sandboxes: Sandboxes, clock: Clock) -> None:
        self.shell: Shell | None = None
        self.inherited_bytes = 0
        self._sandboxes = sandboxes
        self._clock = clock
        self._peak_bytes = 0
        self._oom_kills = 0
        self._asked_s: float | None = None

    def is_due(self, duration_s: float) -> bool:
        """Worth waiting for: never asked, or the call was long enough not to notice."""
        return self._asked_s is None or (duration_s >= USAGE_AWAITED_FROM_S and self.is_old())

    def is_old(self) -> bool:
        return self._asked_s is None or self._clock.now_s() - self._asked_s >= USAGE_EVERY_S

    async def ask(self) -> bool:
        """Refresh; whether the kernel ended something for want of memory since the last time."""
        assert self.shell is not None
        self._asked_s = self._clock.now_s()
        try:
            usage = await self._sandboxes.usage(self.shell)
        except OndolError:
            return False  # the last figures stand
        self._peak_bytes = max(self._peak_bytes, usage.memory_peak_bytes)
        grew = usage.oom_kills > self._oom_kills
        self._oom_kills = usage.oom_kills
        return grew

    def peak_mib(self) -> int:
        return -(-(self.inherited_bytes + self._peak_bytes) // MIB)
