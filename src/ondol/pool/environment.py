"""One environment: a shell with a worker placed in it, and what its contract writes around calls.

It must not know of the pool's other environments, nor why it was started. What it decides:

* **Limits.** A worker that has loaded gets `timeout_s` for a call. While it is still loading, the first call may take
  INIT_S_MAX + timeout_s in all; once it has loaded, `timeout_s` counts from then.
* **Deaths.** When a call ends the worker (crash, memory, timeout, failure to load), every process in the shell is killed and
  the shell is kept with its /tmp; the next call starts a fresh worker in it, so that globals are new. That load counts into the
  call's duration and is not reported as a cold start.
* **Company.** What runs beside a worker is told of calls, and may take longer than it: the answer goes to the caller, and the
  environment rests until all are done, at most for the rest of the call's `timeout_s`. Then they are asked to leave before
  anything is killed, as whenever it ends.
* **Log order.** "Started" lines are written in front of the call's first log event or its answer; of one that takes longer than
  OPENED_S_MAX in a worker that has loaded, then. A call that never started writes no report: another environment will.
* **Memory.** The peak is what the worker inherited and the peak of its cgroup. Asking costs a round trip to the keeper, so it
  is asked after the first call, after calls long enough not to notice, and otherwise in the background.

Invariants: a shell is discarded exactly once, by `close`; a call always returns; nothing here outlives `close`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from ondol.contract import Place
from ondol.model.errors import OndolError, StartFailed
from ondol.model.functions import Revision, Target
from ondol.model.invocations import Invocation, Report, Status
from ondol.model.limits import INIT_S_MAX, MIB, RESULT_BYTES_MAX, TMP_MIB_MIN
from ondol.pool.alarm import Alarm
from ondol.pool.lines import Lines
from ondol.pool.makings import Makings, launch_of, opt_tree
from ondol.pool.memory import Memory
from ondol.pool.run import LOST, STATUS_OF, Ran, Run, Stream, Told, whole
from ondol.runtime import Answer, Begin, BrokeOff, Call, Company, Ending, LogSink, Worker
from ondol.sandbox import NODE_SOCKET, NODE_URL, Shell
from ondol.telemetry import LogPlace

T = TypeVar("T")
_log = logging.getLogger(__name__)

#: The least a cgroup is given, however much of the function's memory is inherited.
MEMORY_BYTES_MIN: Final = 32 * MIB
#: How long a call's "started" lines may wait for what it writes, or for its end.
OPENED_S_MAX: Final = 0.02
#: How often a call that is over its time looks whether loading has ended.
LOADING_POLL_S: Final = 0.02
LAST_WORDS_POLL_S: Final = 0.005
#: How long a killed worker may take to be gone, with its last words; one that ends by itself is given some of that to do so.
DEATH_S_MAX: Final = 8.0


class Environment:
    """See the module. `start` once, `call` as often as the contract's concurrency allows, `close` in any case."""

    def __init__(
        self,
        revision: Revision,
        makings: Makings,
        on_death: Callable[[], None],
        *,
        pinned: bool = False,
        tenant: str | None = None,
    ) -> None:
        self.revision = revision
        #: Whose it is, if it is somebody's: it runs no other's calls.
        self.tenant = tenant
        self.makings = makings
        self.contract = makings.contracts[revision.configuration.contract].of(revision)
        self.place = Place(
            environment=makings.new_id(),
            started_s=makings.clock.wall_s(),
            version=revision.version,
            endpoint=makings.endpoint,
            access_key_id="",  # these three: see `start`
            secret="",
            session_token="",
            substitute=makings.substitute(revision),
            pinned=pinned,
        )
        self.calls = 0
        #: When it was up and began to load, if it was started before anybody asked.
        self.ahead_s: float | None = None
        #: It cannot run anything any more: close it.
        self.broken = False
        #: It is to be given nothing more: close it once what it runs has ended.
        self.spent = False
        log_place = LogPlace(revision.account, revision.region, *self.contract.log_place(revision, self.place))
        self._lines = Lines(log_place, makings.telemetry, makings.clock)
        self._loop = asyncio.get_running_loop()
        self._on_death = on_death
        self._shell: Shell | None = None
        self._worker: Worker | None = None
        #: Its way to take a call without a coroutine, if it has one.
        self._begin: Begin | None = None
        self._concluding: set[asyncio.Task[None]] = set()
        self._burial: asyncio.Task[int | None] | None = None
        self._reviving = asyncio.Lock()
        self._running = 0
        #: Set while others in it are not yet done with the last call: it is not free.
        self.resting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sandboxes = makings.sandboxes(revision)
        self._memory = Memory(self._sandboxes, makings.clock)
        self._alarm: Alarm[Run] = Alarm(self._due)
        self._opening: Alarm[Run] = Alarm(Run.open)
        self._closed = False

    # Life --------------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Make it ready for its first call. Raises StartFailed, OutOfSpace, RuntimeMissing; `close` it then, too."""
        revision, makings = self.revision, self.makings
        configuration = revision.configuration
        self._shell = self._memory.shell = shell = await self._sandboxes.prepare(
            revision.account, makings.interpreter(revision), makings.network(revision), makings.ahead(revision)
        )
        self._memory.inherited_bytes = inherited_bytes = await makings.inherited_bytes(revision)
        attached = self._loop.create_task(
            self._sandboxes.attach(
                shell,
                tree=makings.tree_of(revision.code),
                opt_tree=opt_tree(revision, makings),
                memory_bytes=max(configuration.memory_mib * MIB - inherited_bytes, MEMORY_BYTES_MIN),
                tmp_mib=configuration.tmp_mib,
            )
        )
        # Meanwhile the worker is told all the rest; not where it would see more change than the code: another /tmp, an /opt.
        early = shell.early and configuration.opt is None and configuration.tmp_mib == TMP_MIB_MIN
        try:
            await asyncio.sleep(0)  # the question is on its way before anything else is done
            key_id, secret, token = makings.mint(revision, self.place.environment)
            self.place = dataclasses.replace(self.place, access_key_id=key_id, secret=secret, session_token=token)
            if not early:
                await attached
            self._answer_inside(shell)
            for line in self.contract.opening(revision, self.place):
                self._lines.log(line)
            await self._place_worker(attached if early else None)
            await attached
        except BaseException:
            attached.cancel()
            await asyncio.gather(attached, return_exceptions=True)  # looked at: another failure may have come first
            raise

    def _answer_inside(self, shell: Shell) -> None:
        """From a network of its own it reaches the node by the socket that the shell was made with."""
        answering = self.makings.answering
        if answering is not None and not self._closed and NODE_SOCKET in shell.files:
            answering.hang(shell.files.pop(NODE_SOCKET), self._caller)
            self.place = dataclasses.replace(self.place, endpoint=NODE_URL)

    @property
    def _caller(self) -> str:
        return f"{self.revision.account}/{self.place.environment}"

    @property
    def freezes(self) -> bool:
        """Whether it can be frozen while it is idle."""
        return self._shell is not None and self._shell.freezes

    def freeze(self, *, on: bool) -> None:
        """Let it use no processor, or let it go on: asked at once, done soon. A call need not wait: its message does."""
        if not self.broken:
            company = self._company
            if company is not None and company.there:
                company.pause(on=on)
            self._spawn(self._freeze(on=on))

    @property
    def _company(self) -> Company | None:
        return self._worker.company if self._worker is not None else None

    async def _freeze(self, *, on: bool) -> None:
        assert self._shell is not None
        try:
            await self._sandboxes.freeze(self._shell, on=on)
        except OndolError as error:
            if not on and self._worker is not None and not self.broken:
                _log.warning("environment %s could not be thawed: %s", self.place.environment, error)
                self.broken = True
                await self._bury(self._worker)  # a call that it was given ends, and goes elsewhere if it can

    @property
    def fresh(self) -> bool:
        """Its next call is its first, and would find it not loaded."""
        return not self.calls and not self.place.pinned and not (self.ahead_s is not None and self._has_loaded())

    def _has_loaded(self) -> bool:
        return self._worker is not None and self._worker.init_ms is not None

    def _early_s(self, run: Run) -> float:
        """How long it had been loading when its first call came."""
        return run.begun_s - self.ahead_s if self.ahead_s is not None and not self.calls else 0.0

    def loaded(self) -> Coroutine[Any, Any, None]:
        """Returns when the function has been loaded. Raises StartFailed when that fails."""
        assert self._worker is not None
        return self._await_loaded(self._worker)

    async def _await_loaded(self, worker: Worker) -> None:
        while worker.init_ms is None and worker.alive:  # noqa: ASYNC110  (the port has no event for it)
            await asyncio.sleep(LOADING_POLL_S)
        if not worker.alive or self.broken:
            raise StartFailed(f"{self.revision.name} could not be loaded; its log says why")

    async def close(self) -> None:
        """Leave nothing. Idempotent."""
        if self._closed:
            return
        self._closed = self.broken = True
        company = self._company
        # The alarm goes on: a call whose worker says nothing any more still ends when its time is up.
        for task in tuple(self._tasks):
            task.cancel()
        if company is not None and company.there:
            await self._farewell(company)
        self._let_go()
        if self.makings.answering is not None:
            self.makings.answering.take_down(self._caller)
        if self._shell is not None:
            await self._sandboxes.discard(self._shell)

    async def _farewell(self, company: Company) -> None:
        """Nobody needs it any more: what is frozen is thawed for that."""
        assert self._shell is not None
        try:
            if self._shell.freezes:
                await self._sandboxes.freeze(self._shell, on=False)
            company.pause(on=False)
            await company.leave("")
        except OndolError as error:
            _log.warning("environment %s could not be asked to leave: %s", self.place.environment, error)

    def _let_go(self) -> None:
        """Once closed: the last call that it runs sees the worker die and buries it; one that nobody buried is let go here."""
        if self._closed and self._worker is not None and not self._running:
            self._dismiss(self._worker)
            self._worker = None

    def _dismiss(self, worker: Worker) -> None:
        """Let go of it, and of those who were with it."""
        worker.close()
        if worker.company is not None:
            worker.company.close()

    async def _place_worker(self, attached: Awaitable[None] | None = None) -> Worker:
        worker = self._worker = await self._launch(attached)
        self._begin = worker.begin
        self._spawn(self._watch(worker))
        return worker

    async def _launch(self, attached: Awaitable[None] | None = None) -> Worker:
        """A process in the shell, to which the function is handed; `attached`: when its code is there, None: it is."""
        assert self._shell is not None
        revision = self.revision
        variables = self.contract.variables(revision, self.place)
        caller = self._caller if self.place.endpoint == NODE_URL else ""
        launch = launch_of(revision, self.contract.guest, variables, caller=caller, attached=attached)
        worker = await self.makings.runtimes(revision).start(
            self._shell, revision, launch, self.contract.sifted(self._lines.log)
        )
        if self._closed:  # while it was on its way
            self._dismiss(worker)
            raise StartFailed("the environment was ended while a worker was placed in it")
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
            except Exception as error:
                if not isinstance(error, OndolError):
                    _log.error("placing a worker of %s failed", self.revision.name, exc_info=error)
                self.broken = True
                return None

    def _bury(self, worker: Worker, reason: str = "failure") -> Awaitable[int | None]:
        """End all that is in the shell, once per worker; gives the worker's exit status, None when it cannot be had."""
        if worker is self._worker:
            self._worker = None
            # Held apart from `_tasks`: it is bounded, and callers wait for it even while the environment is closed.
            self._burial = self._loop.create_task(self._end(worker, reason))
        assert self._burial is not None
        return asyncio.shield(self._burial)

    async def _end(self, worker: Worker, reason: str) -> int | None:
        assert self._shell is not None
        try:
            if worker.company is not None and worker.company.there:
                await worker.company.leave(reason)
            async with asyncio.timeout(DEATH_S_MAX):
                if not self._closed:  # otherwise all in it is being ended anyway
                    await self._sandboxes.scour(self._shell)
                status = await worker.ended()
                # Until its end has been seen on its line, too: what it said last belongs to the call.
                while worker.alive:  # noqa: ASYNC110  (the port has no event for it)
                    await asyncio.sleep(LAST_WORDS_POLL_S)
                return status
        except (OndolError, TimeoutError):
            self.broken = True
            return None
        finally:
            self._dismiss(worker)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # A call ------------------------------------------------------------------------------------------------------------
    async def call(
        self,
        call: Call,
        *,
        invocation: Invocation,
        target: Target,
        timeout_s: float,
        tail: bool = False,
        pins: tuple[int, int] | None = None,
    ) -> Ran:
        """Run one invocation. Never raises for what the function, or its environment, does."""
        run = self._run_of(invocation, target, timeout_s, tail=tail, pins=pins)
        self._running += 1
        try:
            answer = await self._run(run, call)
            return await self._concluded(run, answer)
        except asyncio.CancelledError:
            self._abandon(run)
            self._alarm.clear(run)
            run.stop_clock()
            raise
        finally:
            if run.stream is None:
                self._leave(run)

    def _run_of(
        self,
        invocation: Invocation,
        target: Target,
        timeout_s: float,
        *,
        tail: bool = False,
        pins: tuple[int, int] | None = None,
    ) -> Run:
        if invocation.tenant != self.tenant:
            raise RuntimeError("a tenant's call was brought to another's environment")
        clock = self.makings.clock
        return Run(
            invocation=invocation,
            target=target,
            timeout_s=timeout_s,
            lines=self.contract.started(invocation, target),
            tail=bytearray() if tail else None,
            cold=not self.calls and self.fresh,
            clock=clock,
            sink=self._lines.write,
            begun_s=clock.now_s(),
            begun_wall_s=clock.wall_s(),
            pinned=self.place.pinned and not target.function.versions_only,
            pins=pins,
        )

    async def _concluded(self, run: Run, answer: Answer | None) -> Ran:
        """From the answer (or its head) to what the call came to."""
        if answer is None or isinstance(answer.body, bytes):
            return await self._settle(run, answer)
        if run.invocation.streamed:
            return self._stream_of(run, answer, answer.body, self.contract.stream_bytes_max)
        return await whole(self._stream_of(run, answer, answer.body, RESULT_BYTES_MAX))

    # A call without a coroutine ----------------------------------------------------------------------------------------
    @property
    def prompt(self) -> bool:
        """Whether a call can be begun in it without a coroutine: it has run others, and its worker is ready for the next."""
        worker = self._worker
        if self._begin is None or worker is None or not worker.alive or worker.init_ms is None or not self.calls or self.broken:
            return False
        return worker.company is None or not worker.company.there

    def begin(
        self,
        call: Call,
        *,
        invocation: Invocation,
        target: Target,
        timeout_s: float,
        told: Told,
        pins: tuple[int, int] | None = None,
    ) -> None:
        """As `call`, of one that wants neither tail nor stream, while `prompt`: its caller is told before all else is done."""
        assert self._begin is not None
        run = self._run_of(invocation, target, timeout_s, pins=pins)
        self._running += 1
        run.worker = self._worker
        self._alarm.set(run, timeout_s)
        self._opening.set(run, OPENED_S_MAX)
        self._begin(call, self.contract.sifted(run.log), partial(self._answered, run, told))

    def _answered(self, run: Run, told: Told, answer: Answer) -> None:
        usual = answer.ending in (Ending.OK, Ending.ERROR) and isinstance(answer.body, bytes)
        if run.timed_out or not usual or self._memory.is_old(run.begun_s):
            task = self._loop.create_task(self._conclude(run, None if run.timed_out else answer, told))
            self._concluding.add(task)  # `close` must not cancel it
            task.add_done_callback(self._concluding.discard)
            return
        self._alarm.clear(run)
        status = Status.OK if answer.ending is Ending.OK else Status.FAILED
        report = run.report(self.revision, status, memory_peak_mib=self._memory.peak_mib(run.stop_clock()))
        try:
            told.ran(Ran(answer, report))
            self._write_end(run, report, answer)
        finally:
            self._leave(run)
            told.freed()

    async def _conclude(self, run: Run, answer: Answer | None, told: Told) -> None:
        try:
            ran: Ran | Exception = await self._concluded(run, answer)
        except Exception as error:
            ran = error
        if run.stream is None:
            self._leave(run)
        try:
            told.ran(ran)
        finally:
            told.freed()

    def _abandon(self, _: Run) -> None:
        """Nobody waits for a call that goes on."""
        self.broken = True

    def _leave(self, run: Run) -> None:
        self.calls += 1
        company = run.worker.company if run.worker is not None else None
        if company is None or not company.there or run.worker is not self._worker or self.broken:
            self._running -= 1
            self._let_go()
        else:
            self.resting = self._spawn(self._rest(run, company))

    async def _rest(self, run: Run, company: Company) -> None:
        """The call has been answered; it is over when all who were told of it are done."""
        assert run.worker is not None
        now_s = self.makings.clock.now_s
        try:
            began_s = now_s()
            late = await company.rest(run.begun_s + run.timeout_s - began_s)
            self.makings.telemetry.rested(run.target, now_s() - began_s)
            if not run.worker.alive or company.broken:
                self.broken = True
            elif late:
                what = f"RequestId: {run.invocation.id} Error: these did not ask for their next event: {', '.join(late)}"
                self._lines.log(f"{what}; the function's {run.timeout_s:g} s are over, and all in its environment is ended\n")
                await self._bury(run.worker, "timeout")
        finally:
            self._running -= 1
            self._let_go()

    async def _run(self, run: Run, call: Call) -> Answer | None:
        """The call itself, until its answer (or the answer's head) is there. None when it ran out of time."""
        worker = self._worker or await self._revive()
        if worker is None:
            return LOST
        run.worker = worker
        run.fresh = worker.init_ms is None
        answering = self._sent(worker, call, self.contract.sifted(run.log))
        if run.fresh:
            run.early_s = self._early_s(run)
        else:
            run.open()
        self._alarm.set(run, run.timeout_s)
        answer = await answering
        return None if run.timed_out else answer

    def _sent(self, worker: Worker, call: Call, sink: LogSink) -> Awaitable[Answer]:
        """The answer to come: by its company where there is any, or may come to be while it loads."""
        company = worker.company
        if company is not None and (company.there or worker.init_ms is None):
            return company.call(worker, call, sink)
        return worker.call(call, sink)

    def _due(self, run: Run) -> None:
        """The time may be up: see Limits in the module's docstring."""
        assert run.worker is not None
        now_s = self.makings.clock.now_s()
        loaded_ms = run.worker.init_ms
        if run.fresh and loaded_ms is None:
            left_s = min(run.begun_s + INIT_S_MAX + run.timeout_s - now_s, LOADING_POLL_S)
        elif run.fresh:
            left_s = run.begun_s + run.loading_ms(loaded_ms or 0.0) / 1000 + run.timeout_s - now_s
        else:
            left_s = 0.0
        if left_s > 0.0005:
            self._alarm.set(run, left_s)
            return
        run.timed_out = True
        run.ended_s = now_s
        run.killing = self._loop.create_task(self._kill(run))  # `close` must not cancel it

    async def _kill(self, run: Run) -> None:
        """End a call that is out of time. Its worker's death ends it, or the end of waiting for that."""
        assert run.worker is not None
        if run.stream is not None:
            run.stream.cut = True
        await self._bury(run.worker, "timeout")
        if run.stream is not None:
            await run.stream.finish()

    async def _settle(self, run: Run, answer: Answer | None) -> Ran:
        """Measure, bury the dead, write what belongs behind the call."""
        self._alarm.clear(run)
        duration_s = run.stop_clock()
        if answer is not None and answer.ending is Ending.DEAD and not answer.started:
            if not run.fresh:
                return await self._lost(run, answer)
            answer = replace(answer, started=True)  # it died while it loaded: the function's own doing
        status = Status.TIMEOUT if answer is None else Status.OK if answer.ending is Ending.OK else STATUS_OF[answer.ending]
        exit_status = None
        if answer is None or answer.ending is Ending.DEAD or answer.ending is Ending.INIT_ERROR:
            status, exit_status = await self._autopsy(run, status)
        elif self._memory.is_old(run.begun_s):
            if self._memory.is_worth_waiting_for(duration_s):
                await self._memory.ask()
            else:
                self._spawn(self._memory.ask())
        peak_mib = self._memory.peak_mib(duration_s)
        report = run.report(self.revision, status, memory_peak_mib=peak_mib, exit_status=exit_status)
        self._write_end(run, report, answer)
        return Ran(answer, report, bytes(run.tail or b""))

    def _write_end(self, run: Run, report: Report, answer: Answer | None) -> None:
        self._opening.clear(run)
        run.open()
        run.write(self.contract.settled(report), int(self.makings.clock.wall_s() * 1000))
        self.makings.telemetry.settled(run.target, report)
        company = run.worker.company if run.worker is not None else None
        if company is not None and company.there:
            company.settled(report, len(answer.body) if answer is not None and isinstance(answer.body, bytes) else 0)

    async def _lost(self, run: Run, answer: Answer) -> Ran:
        """The worker was gone before the call reached it."""
        self._opening.clear(run)
        if run.worker is not None:
            await self._bury(run.worker)
        return Ran(answer, run.report(self.revision, Status.CRASHED, memory_peak_mib=self._memory.peak_mib(0.0)))

    async def _autopsy(self, run: Run, status: Status) -> tuple[Status, int | None]:
        """What the worker died of, and its exit status. It is buried afterwards.

        The kernel may have ended a child of the worker's for want of memory, and the worker itself may have left for a reason
        of its own: only one that was killed, too, was out of memory.
        """
        assert run.worker is not None
        out_of_memory = await self._memory.ask()
        exit_status = await self._bury(run.worker)
        if status is not Status.CRASHED:
            return status, None
        if out_of_memory and exit_status in (None, -signal.SIGKILL):
            return Status.OUT_OF_MEMORY, None
        return Status.CRASHED, exit_status

    def _stream_of(self, run: Run, answer: Answer, body: AsyncIterator[bytes], bytes_max: int | None) -> Ran:
        """An answer whose body goes on: the call is settled when that ends. What would become too long ends its worker."""

        async def settle(ending: Ending, failure: BrokeOff | None) -> Ran:
            end = replace(answer, ending=answer.ending if ending is Ending.OK else ending, body=b"")
            if failure is not None:
                end = replace(end, meta={**answer.meta, "error_type": failure.kind}, body=failure.details)
            try:
                if ending is Ending.TOO_LARGE and run.worker is not None:
                    run.stop_clock()
                    await self._bury(run.worker)
                return await self._settle(run, None if run.timed_out else end)
            finally:
                self._leave(run)

        run.stream = stream = Stream(body, settle, bytes_max)
        report = run.report(self.revision, STATUS_OF[answer.ending], memory_peak_mib=self._memory.peak_mib(0.0))
        return Ran(replace(answer, body=stream), report, b"", stream.ended)
