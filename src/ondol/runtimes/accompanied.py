"""Functions with extensions: a runtime whose workers have company in their shell. The decorator of all runtimes of a level.

External extensions are started first, each a program that a fork in the shell becomes; when all have registered, the runtime is
started as ever, and calls are taken once it has loaded and every extension has asked for its first event. Internal ones need no
start: any function of this contract may turn out to have some while it loads.

Ending in order has the documented times: none without extensions, half a second with internal ones only, two seconds with
external ones, of which the runtime gets 30 % for its SIGTERM. What is still there then is killed with the shell.

Where calls run side by side, all of an environment's workers share one company: extensions come with the first, whose loading
theirs is part of, and each later worker is started once they have registered.

Must not know: what extensions are told, contracts' texts, the pool.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ondol.model.errors import OndolError, RuntimeMissing, StartFailed
from ondol.model.functions import Revision
from ondol.runtime import Answer, Begin, Call, Ending, Launch, LogSink, Runtime, Worker
from ondol.runtime import Company as AnyCompany
from ondol.runtimes.api import ADDRESS, Callers
from ondol.runtimes.beside import Beside, Fork
from ondol.runtimes.choice import Choice
from ondol.runtimes.company import SHUTDOWN, About, Company, Failure, wall_s
from ondol.runtimes.courier import Courier
from ondol.sandbox import Child, Sandboxes, Shell

#: With internal extensions only, and with external ones; and the runtime's part of the latter.
INTERNAL_S: Final = 0.5
EXTERNAL_S: Final = 2.0
RUNTIME_SHARE: Final = 0.3
LOADING_POLL_S: Final = 0.002

Start = Callable[[], Awaitable[Worker]]
_log = logging.getLogger(__name__)


class Accompanied:
    """`ondol.runtime.Runtime` over the one that launches."""

    def __init__(self, runtime: Runtime, sandboxes: Sandboxes, choice: Choice, callers: Callers) -> None:
        self._runtime = runtime
        self._sandboxes = sandboxes
        self._choice = choice
        self._callers = callers

    def find(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        return self._runtime.find(runtime)

    async def start(self, shell: Shell, revision: Revision, launch: Launch, sink: LogSink) -> Worker:
        """As the runtime below; with extensions, their registration comes before its own start."""
        if launch.guest != "aws" or not (launch.caller or launch.extensions):
            return await self._runtime.start(shell, revision, launch, sink)
        if not launch.caller:
            raise StartFailed(
                f"{revision.name} has extensions in its layers ({', '.join(launch.extensions)}), which call a node's API from "
                "a network of their own: deploy it for the isolation sandbox, bwrap or crun, and a network of none or egress"
            )
        launch = dataclasses.replace(launch, variables={**launch.variables, "AWS_LAMBDA_RUNTIME_API": ADDRESS})
        known = self._callers.company(launch.caller) if launch.calls_max > 1 else None
        company = known or self._company(shell, revision, launch, sink)

        async def start() -> Worker:
            worker = await self._runtime.start(shell, revision, launch, company.broadcast.tapped(sink))
            company.workers = [each for each in company.workers if each.alive] + [worker]
            return worker

        if company.failed.done():
            raise StartFailed(f"an extension of {revision.name} failed, and with it its environment")
        if launch.extensions and known is None:
            beside = Beside(company, self._forking(shell), launch, sink)
            company.closing.append(beside.close)
            company.ending = lambda reason: end(company, beside, reason)
            return First(company, beside, start)
        if launch.extensions:
            return Escorted(company, start)
        try:
            worker = await start()
        except BaseException:
            if known is None:
                company.close()
            raise
        worker.company = company
        return worker

    def _company(self, shell: Shell, revision: Revision, launch: Launch, sink: LogSink) -> Company:
        company = Company(_about(revision, launch), launch.extensions, sink, lambda who: self._callers.part(launch.caller, who))
        courier = Courier(self._forking(shell))
        company.opening, company.deliver = courier.open, courier.deliver
        company.closing.append(courier.close)
        company.ending = lambda reason: end(company, None, reason)
        self._callers.join(launch.caller, company)
        return company

    def _forking(self, shell: Shell) -> Fork:
        async def fork() -> Child:
            carrier = self._choice.newest()
            if carrier is None:
                raise RuntimeMissing("extensions", "There is no Python on this machine that could start them.")
            return await (await self._sandboxes.zygote(shell.account, carrier.path)).fork_beside(shell)

        return fork


def _about(revision: Revision, launch: Launch) -> About:
    variables = launch.variables
    return About(
        account=revision.account,
        name=revision.name,
        version=variables.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
        handler=launch.handler,
        initialization=variables.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        instance=variables.get("AWS_LAMBDA_LOG_STREAM_NAME", ""),
        memory_mib=launch.memory_mib,
        json_lines=variables.get("AWS_LAMBDA_LOG_FORMAT") == "JSON",
        side_by_side=revision.configuration.concurrency > 0,
    )


class Escorted:
    """`ondol.runtime.Worker`: the runtime's own, once external extensions have registered. Make it where an event loop runs."""

    def __init__(self, company: Company, start: Start) -> None:
        self.company: AnyCompany | None = company
        self.begin: Begin | None = None
        self._company = company
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._worker: Worker | None = None
        self._init_ms: float | None = None
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._watching: asyncio.Task[None] | None = None
        company.failed.add_done_callback(lambda _: self._end(-signal.SIGKILL))
        self._loading = self._loop.create_task(self._load())

    # The port ----------------------------------------------------------------------------------------------------------
    @property
    def alive(self) -> bool:
        return not self._ended.done() and (self._worker is None or self._worker.alive)

    @property
    def init_ms(self) -> float | None:
        return self._init_ms

    async def ended(self) -> int:
        if self._worker is None and self._company.leaving:
            self._end(-signal.SIGKILL)  # there never was one
        return await asyncio.shield(self._ended)

    async def call(self, call: Call, sink: LogSink) -> Answer:
        if self._worker is None:
            await asyncio.wait({self._loading})
        if self._worker is not None:
            return await self._worker.call(call, sink)
        return Answer(ending=Ending.DEAD, started=False)

    def signal(self, number: int) -> None:
        if self._worker is not None:
            self._worker.signal(number)

    def close(self) -> None:
        self._loading.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if self._worker is not None:
            self._worker.close()
        self._end(-signal.SIGKILL)

    # Its beginning -----------------------------------------------------------------------------------------------------
    async def _load(self) -> None:
        began_s = self._loop.time()
        try:
            await self._load_all()
        except OndolError as error:
            self._failed(error)
        finally:
            took_ms = (self._loop.time() - began_s) * 1000
            if self._worker is not None and self._worker.init_ms is not None:
                self._init_ms = took_ms
            self._loaded(took_ms)

    def _failed(self, error: OndolError) -> None:
        """It could not be started, and the others go on."""
        _log.warning("a worker of %s could not be started: %s", self._company.about.name, error)
        self._end(-signal.SIGKILL)

    def _loaded(self, took_ms: float) -> None:
        """Or not: `_init_ms` says."""

    async def _load_all(self) -> None:
        company = self._company
        if not await company.until(lambda: company.all_registered):
            return
        worker = self._worker = await self._start()
        self._watching = self._loop.create_task(self._watch(worker))
        while worker.init_ms is None and worker.alive and not company.failed.done():  # noqa: ASYNC110  (the port has no event)
            await asyncio.sleep(LOADING_POLL_S)

    async def _watch(self, worker: Worker) -> None:
        self._end(await worker.ended())
        self._company.stir()

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)


class First(Escorted):
    """The one that extensions are started for: their beginning and its own are the environment's loading."""

    def __init__(self, company: Company, beside: Beside, start: Start) -> None:
        super().__init__(company, start)
        self._beside = beside
        company.loading = self._loop.create_future()
        company.broadcast.listen()
        company.broadcast.platform("platform.initStart", company.about.started())

    async def _load_all(self) -> None:
        company = self._company
        await self._beside.launch()
        await super()._load_all()
        worker = self._worker
        if worker is None:
            return
        loaded = worker.init_ms is not None and worker.alive
        status = "success" if loaded else "error"
        record = {"initializationType": company.about.initialization, "status": status, "phase": "init"}
        company.broadcast.platform("platform.initRuntimeDone", record)
        if loaded:
            await company.until(lambda: company.all_ready or not worker.alive)

    def _failed(self, error: OndolError) -> None:
        self._company.fail(Failure("Extension.LaunchError", str(error)))

    def _loaded(self, took_ms: float) -> None:
        company = self._company
        company.settle_in()
        status = "error" if self._init_ms is None or company.failed.done() else "success"
        metrics = {"durationMs": round(took_ms, 3)}
        about = {"initializationType": company.about.initialization, "phase": "init", "status": status}
        company.broadcast.platform("platform.initReport", {**about, "metrics": metrics})
        company.broadcast.loaded()
        assert company.loading is not None
        if not company.loading.done():
            company.loading.set_result(None)


async def end(company: Company, beside: Beside | None, reason: str) -> None:
    """Have the runtime, then the extensions end by themselves, as long as there is time."""
    loop = asyncio.get_running_loop()
    left_s = EXTERNAL_S if beside is not None else INTERNAL_S
    end_s = loop.time() + left_s
    flushing = [loop.create_task(each.flush()) for each in company.broadcast.subscriptions]
    workers = [worker for worker in company.workers if worker.alive]
    for worker in workers:
        worker.signal(signal.SIGTERM)
    ends = [asyncio.ensure_future(worker.ended()) for worker in workers]
    if not await _within(left_s * (RUNTIME_SHARE if beside is not None else 1.0), ends):
        for worker in workers:
            worker.signal(signal.SIGKILL)
    if flushing:
        await _within(end_s - loop.time(), flushing)
    if beside is None:
        return
    company.shut_down(reason, wall_s() + end_s - loop.time())
    told = [each.name for each in company.externals if SHUTDOWN in each.events]
    waiting = [asyncio.shield(beside.processes[name].exit) for name in told if name in beside.processes]
    await _within(end_s - loop.time(), waiting)


async def _within(seconds: float, work: list[asyncio.Future[Any]] | list[asyncio.Task[Any]]) -> bool:
    """Whether all is done in that time; what is not is given up."""
    if not work:
        return True
    _, left = await asyncio.wait(work, timeout=max(seconds, 0.0))
    for each in left:
        each.cancel()
    return not left
