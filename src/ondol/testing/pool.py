"""Fakes around the pool: scripted sandboxes, runtime and workers, a plain contract, a telemetry that remembers, virtual time.

Nothing here starts a process or waits for a real second. `run_virtually` runs a coroutine on a loop whose time jumps to the
next timer whenever everything waits; use `LoopClock` with it, so that both tell the same time.
"""

# ruff: noqa: ARG002  (a fake takes all that its port gives it)

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ondol.contract import Place
from ondol.model.errors import OndolError, StartFailed
from ondol.model.functions import Code, Configuration, Function, Revision, Target
from ondol.model.invocations import Invocation, LogEvent, Outcome, Report
from ondol.model.principals import Kind, Principal
from ondol.runtime import Answer, Call, Company, Ending, Launch, LogSink
from ondol.sandbox import NETWORK_NONE, Shell, Usage, Zygote
from ondol.telemetry import LogPlace

T = TypeVar("T")


# Time ------------------------------------------------------------------------------------------------------------------
class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: says how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("everything waits, and no timer is set: this would wait for ever")
            self.now_s += max(timeout, 0.0)
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only when nothing else happens, and then at once."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class LoopClock:
    """A `Clock` that tells the running loop's time."""

    def wall_s(self) -> float:
        return 1_700_000_000.0 + asyncio.get_running_loop().time()

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, run in virtual time."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        run_virtually(test(*arguments, **named))

    return run


# Workers ---------------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Script:
    """How the next workers behave. `handler` gets the worker, the call and the log sink; without it a call answers at once."""

    handler: Callable[[ScriptedWorker, Call, LogSink], Awaitable[Answer]] | None = None
    load_s: float = 0.0
    #: What loading writes.
    says: Sequence[str] = ()
    #: Raised by `Runtime.start`.
    start_error: Exception | None = None
    start_s: float = 0.0
    inits: int = 0
    #: That of each of them.
    company: Company | None = None


class ScriptedWorker:
    """A `Worker` that does as its script says until it is killed."""

    def __init__(self, script: Script, sink: LogSink) -> None:
        loop = asyncio.get_running_loop()
        self.script = script
        self.sink = sink
        self.company = script.company
        self.signals: list[int] = []
        self.calls = 0
        self.closed = False
        self._loop = loop
        self._began_s = loop.time()
        self._death: asyncio.Future[int] = loop.create_future()
        self._said = False

    @property
    def alive(self) -> bool:
        return not self._death.done()

    @property
    def init_ms(self) -> float | None:
        return self.script.load_s * 1000 if self._loop.time() >= self._began_s + self.script.load_s else None

    def die(self, status: int) -> None:
        """End, with an exit status or minus a signal's number."""
        if not self._death.done():
            self._death.set_result(status)

    async def call(self, call: Call, sink: LogSink) -> Answer:
        self.calls += 1
        if self.script.handler is None and self.script.load_s == 0.0 and self.alive:
            return Answer(ending=Ending.OK, body=call.payload, init_ms=0.0 if self.calls == 1 else None)
        work = self._loop.create_task(self._work(call, sink))
        either: set[asyncio.Future[Any]] = {work, self._death}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            return Answer(ending=Ending.DEAD, started=self.init_ms is not None)
        finally:
            work.cancel()
            await asyncio.wait({work})

    def begin(self, call: Call, sink: LogSink, then: Callable[[Answer], None]) -> None:
        """The same without a coroutine of the caller's."""
        self._loop.create_task(self.call(call, sink)).add_done_callback(lambda task: then(task.result()))

    async def _work(self, call: Call, sink: LogSink) -> Answer:
        left_s = self._began_s + self.script.load_s - self._loop.time()
        if left_s > 0:
            await asyncio.sleep(left_s)
        if not self._said:
            self._said = True
            for line in self.script.says:
                self.sink(line, None)
        if self.script.handler is None:
            return Answer(ending=Ending.OK, body=call.payload, init_ms=self.init_ms)
        return await self.script.handler(self, call, sink)

    async def ended(self) -> int:
        return await asyncio.shield(self._death)

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def close(self) -> None:
        self.closed = True
        self.die(-9)  # what nobody listens to any more is as good as dead: its calls end


@dataclass(slots=True)
class ScriptedRuntime:
    """A `Runtime` that puts scripted workers into scripted shells."""

    sandboxes: ScriptedSandboxes
    script: Script = field(default_factory=Script)
    missing: str | None = None
    launches: list[Launch] = field(default_factory=list)
    workers: list[ScriptedWorker] = field(default_factory=list)

    def find(self, runtime: str) -> str | None:
        return self.missing

    async def start(self, shell: Shell, revision: Revision, launch: Launch, sink: LogSink) -> ScriptedWorker:
        self.launches.append(launch)
        if self.script.start_s:
            await asyncio.sleep(self.script.start_s)
        if self.script.start_error is not None:
            raise self.script.start_error
        known = self.sandboxes.known(shell)
        worker = ScriptedWorker(self.script, sink)
        self.workers.append(worker)
        known.workers.append(worker)
        return worker


@dataclass(slots=True)
class ScriptedShell:
    """What is known of a live shell."""

    account: str
    tree: str | None = None
    opt_tree: str = ""
    memory_bytes: int = 0
    tmp_mib: int = 0
    scoured: int = 0
    frozen: bool = False
    usage: Usage = field(default_factory=lambda: Usage(memory_peak_bytes=0, oom_kills=0))
    workers: list[ScriptedWorker] = field(default_factory=list)


class ScriptedSandboxes:
    """`Sandboxes` in memory. `errors` maps a method's name to what its next calls raise; `delays` to the seconds they take."""

    def __init__(self) -> None:
        self.shells: dict[str, ScriptedShell] = {}
        self.discarded: list[str] = []
        self.errors: dict[str, OndolError] = {}
        self.delays: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.freezes = True
        self.early = False
        self._next = 0

    async def _enter(self, method: str) -> None:
        self.counts[method] = self.counts.get(method, 0) + 1
        if method in self.delays:
            await asyncio.sleep(self.delays[method])
        if method in self.errors:
            raise self.errors[method]

    def known(self, shell: Shell) -> ScriptedShell:
        if shell.id not in self.shells:
            raise StartFailed(f"there is no shell {shell.id}")
        return self.shells[shell.id]

    async def prepare(self, account: str, interpreter: str = "", network: str = NETWORK_NONE, told: bytes = b"") -> Shell:
        await self._enter("prepare")
        self._next += 1
        shell = Shell(
            id=f"shell-{self._next}",
            account=account,
            namespaces={},
            cgroups=(),
            network=network,
            freezes=self.freezes,
            early=self.early,
        )
        self.shells[shell.id] = ScriptedShell(account)
        return shell

    async def attach(self, shell: Shell, *, tree: str, memory_bytes: int, tmp_mib: int, opt_tree: str = "") -> None:
        await self._enter("attach")
        known = self.known(shell)
        assert known.tree is None, "a shell is attached once"
        known.tree, known.memory_bytes, known.tmp_mib, known.opt_tree = tree, memory_bytes, tmp_mib, opt_tree

    async def freeze(self, shell: Shell, *, on: bool) -> None:
        await self._enter("freeze" if on else "thaw")
        self.known(shell).frozen = on

    async def scour(self, shell: Shell) -> None:
        await self._enter("scour")
        known = self.known(shell)
        known.scoured += 1
        known.frozen = False
        for worker in known.workers:
            worker.die(-9)

    async def discard(self, shell: Shell) -> None:
        await self._enter("discard")
        known = self.shells.pop(shell.id, None)
        if known is not None:
            self.discarded.append(shell.id)
            for worker in known.workers:
                worker.die(-9)

    async def usage(self, shell: Shell) -> Usage:
        await self._enter("usage")
        return self.known(shell).usage

    async def zygote(self, account: str, interpreter: str) -> Zygote:
        raise NotImplementedError("scripted workers are forked from nothing")

    async def close(self) -> None:
        self.shells.clear()


# Contract and telemetry ------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class PlainContract:
    """A `Contract` whose lines can be read in an assertion."""

    name: str = "plain"
    guest: str = "plain"
    concurrency: int = 1
    stream_bytes_max: int | None = None

    def of(self, revision: Revision) -> PlainContract:  # all are alike
        return self

    def log_place(self, revision: Revision, place: Place) -> tuple[str, str]:
        return f"/{revision.name}", place.environment

    def variables(self, revision: Revision, place: Place) -> Mapping[str, str]:
        return {**revision.configuration.variables, "KEY": place.access_key_id, "ENDPOINT": place.endpoint}

    def meta(self, invocation: Invocation, target: Target, *, deadline_ms: int) -> bytes:
        return b"{}"

    def sifted(self, sink: LogSink) -> LogSink:
        return sink

    def opening(self, revision: Revision, place: Place) -> Sequence[str]:
        return ("opening",)

    def started(self, invocation: Invocation, target: Target) -> Sequence[str]:
        return (f"started {invocation.id}",)

    def settled(self, report: Report) -> Sequence[str]:
        return (f"settled {report.invocation} {report.status.value}",)

    def outcome(self, invocation: Invocation, report: Report, answer: Answer | None) -> Outcome:
        body = answer.body if answer is not None else b""
        return Outcome(status=report.status, body=body, target_version=report.version, report=report)


@dataclass(slots=True)
class Notebook:
    """A `Telemetry` that remembers."""

    events: list[tuple[str, LogEvent]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    throttles: list[str] = field(default_factory=list)
    waits: list[tuple[str, float]] = field(default_factory=list)
    rests: list[float] = field(default_factory=list)

    def log(self, place: LogPlace, events: Sequence[LogEvent]) -> None:
        self.events += [(place.stream, event) for event in events]

    def waited(self, invocation: str, seconds: float) -> None:
        self.waits.append((invocation, seconds))

    def settled(self, target: Target, report: Report) -> None:
        self.reports.append(report)

    def rested(self, target: Target, seconds: float) -> None:
        self.rests.append(seconds)

    def throttled(self, account: str, region: str, function: str) -> None:
        self.throttles.append(function)

    def lines(self) -> list[str]:
        """All that was written, in order."""
        return [event.message for _, event in self.events]


# Nouns -----------------------------------------------------------------------------------------------------------------
def a_target(
    name: str = "hello",
    *,
    revision: str | None = None,
    reserved: int | None = None,
    per_tenant: bool = False,
    **configuration: Any,
) -> Target:
    """A function and its latest revision."""
    settings: dict[str, Any] = {"contract": "plain", "runtime": "plain", "handler": "app.handler", **configuration}
    code = Code(sha256="0" * 64, zipped_bytes=1, unpacked_bytes=1)
    made = Revision(
        id=revision or f"{name}-1",
        account="000000000000",
        region="here",
        function=f"id-of-{name}",
        name=name,
        code=code,
        configuration=Configuration(**settings),
        created_s=0.0,
    )
    function = Function(
        id=made.function,
        account=made.account,
        region=made.region,
        name=name,
        latest=made.id,
        created_s=0.0,
        concurrency_reserved=reserved,
        per_tenant=per_tenant,
    )
    return Target(function=function, revision=made, qualifier=None)


def an_invocation(
    name: str = "i-1",
    target: Target | None = None,
    payload: bytes = b"{}",
    *,
    streamed: bool = True,
    tenant: str | None = None,
) -> Invocation:
    """Somebody's call of a target's function, who takes an answer as it comes unless told otherwise."""
    function = (target or a_target()).function
    principal = Principal(kind=Kind.OWNER, account=function.account, region=function.region, name="owner")
    return Invocation(
        id=name,
        function=function.id,
        qualifier=None,
        principal=principal,
        payload=payload,
        streamed=streamed,
        tenant=tenant,
    )
