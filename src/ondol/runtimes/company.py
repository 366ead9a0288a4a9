"""The extensions of one environment: who is there, what each is told, and when all are done. No HTTP, no processes.

*External* ones are programs in /opt/extensions, known by their names before anything runs; *internal* ones are parts of the
runtime's own process, which register while it loads. What must hold:

* An extension has at most one question open, and is given an event once.
* An INVOKE goes out when a call begins; the environment is free again when all who are told of calls have asked for their next.
  Where calls run side by side there is none: extensions are told of the end only, and of each call by telemetry.
* The first failure of any of them is a failure of the environment: `failed` has it, and no more calls are taken. It fails the
  calls that run, or that the environment loads for; one that comes later was never begun, and may go elsewhere.
* Nothing is believed: an identifier is looked up among this environment's own, and states say what is in turn.

Must not know: routes, shells, the pool.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.model.errors import Unavailable
from ondol.model.invocations import Report
from ondol.runtime import Answer, Call, Ending, LogSink, Worker
from ondol.runtimes.broadcast import Broadcast
from ondol.runtimes.company_errors import Refusal
from ondol.runtimes.extension_states import Stage, moved
from ondol.runtimes.metas import meta_of
from ondol.runtimes.program import ended
from ondol.runtimes.subscription import Deliver
from ondol.runtimes.telemetry_wanted import Api, Wanted

#: Of both kinds together.
EXTENSIONS_MAX: Final = 10
NAME_CHARS_MAX: Final = 128
INVOKE: Final = "INVOKE"
SHUTDOWN: Final = "SHUTDOWN"
_EVENTS: Final = (INVOKE, SHUTDOWN)
#: How long to wait for the exit status of a runtime that is as good as gone.
EXIT_S: Final = 0.1
#: The reasons of an end, as the pool has them and as extensions are told.
_REASONS: Final[Mapping[str, str]] = {"timeout": "timeout", "failure": "failure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What extensions are told of their function, and how its log is written."""

    account: str
    name: str
    version: str
    handler: str
    initialization: str
    #: What its environment is called: the stream of its log.
    instance: str
    memory_mib: int
    json_lines: bool
    #: Its calls may run side by side: nobody is told of a call, as the documented system has it then.
    side_by_side: bool = False

    def started(self) -> Mapping[str, Any]:
        """The record of the beginning of loading."""
        return {
            "initializationType": self.initialization,
            "phase": "init",
            "functionName": self.name,
            "functionVersion": self.version,
            "instanceId": self.instance,
            "instanceMaxMemory": self.memory_mib << 20,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an environment cannot go on: an error's type, and the message without its request id."""

    kind: str
    text: str


class Extension:
    """One of them."""

    __slots__ = ("_stage", "asking", "error_type", "events", "external", "id", "name", "waiting")

    def __init__(self, name: str, *, external: bool) -> None:
        self.name = name
        self.external = external
        self.id = str(uuid.uuid4())
        self.events: tuple[str, ...] = ()
        self.error_type = ""
        self._stage = Stage.STARTED
        #: Its open question, and what it has not been given yet.
        self.asking: asyncio.Future[Mapping[str, Any] | None] | None = None
        self.waiting: deque[Mapping[str, Any]] = deque()

    @property
    def stage(self) -> Stage:
        return self._stage

    def move(self, to: Stage, who: str = "") -> None:
        """Raises OutOfTurn, and then nothing has changed. `who`: what it is called in that."""
        self._stage = moved(self._stage, to, who or self.id)

    @property
    def idle(self) -> bool:
        """It waits for an event, and there is none."""
        return self._stage is Stage.READY and not self.waiting


class Company:
    """See the module. One for each worker, or for all that run calls side by side; make it where an event loop runs."""

    def __init__(self, about: About, names: Sequence[str], write: LogSink, left: Callable[[Company], None]) -> None:
        """`names`: of external extensions. `write`: into the environment's log. `left` is called once, by `close`."""
        self.about = about
        self._loop = asyncio.get_running_loop()
        self._write = write
        self._left = left
        self._closed = False
        self._by_name = {name: Extension(name, external=True) for name in names}
        self._by_id = {extension.id: extension for extension in self._by_name.values()}
        #: Loading has ended: nobody registers, or subscribes to telemetry, any more.
        self.settled_in = False
        self.leaving = False
        self.failed: asyncio.Future[Failure] = self._loop.create_future()
        #: Done when calls can be taken, or never will be. None: at once.
        self.loading: asyncio.Future[None] | None = None
        #: The runtime's own processes that are alive, and perhaps others; what ends them and the rest in order.
        self.workers: list[Worker] = []
        self.ending: Callable[[str], Awaitable[None]] | None = None
        #: Makes ready for telemetry, and hands batches of it over, inside.
        self.opening: Callable[[], Awaitable[None]] | None = None
        self.deliver: Deliver | None = None
        self.broadcast = Broadcast(json_lines=about.json_lines)
        #: Called by `close`.
        self.closing: list[Callable[[], None]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._report: Report | None = None
        #: What the runtime was told of the calls that it runs, by their ids.
        self._running: dict[str, Mapping[str, Any]] = {}
        #: A call that the runtime was sent before it had loaded.
        self._expected: Call | None = None
        #: Calls that wait to begin, or run, and whether one of the extensions failed while there was none, after loading.
        self._calls = 0
        self._failed_idle = False

    # The port ----------------------------------------------------------------------------------------------------------
    @property
    def there(self) -> bool:
        """Whether there is any extension."""
        return bool(self._by_name)

    async def call(self, worker: Worker, call: Call, sink: LogSink) -> Answer:
        """As `worker.call`, with the extensions told; what fails one of them fails the call.

        Nobody may be there yet: whoever registers while the runtime loads is told of the call that waits for it.
        """
        self._calls += 1
        try:
            return await self._call(worker, call, sink)
        finally:
            self._calls -= 1

    async def _call(self, worker: Worker, call: Call, sink: LogSink) -> Answer:
        late = self.about.side_by_side and self.failed.done() and self._has_loaded
        if self.loading is not None:
            await asyncio.shield(self.loading)
        if not self.settled_in and worker.init_ms is not None:
            self.settle_in()
            self.broadcast.loaded()
        if self._failed_idle or late:
            return Answer(ending=Ending.DEAD, started=False)
        if self.failed.done():
            return self._failure_of(call, sink)
        if self.there:
            self._began(call)
        else:
            self._expected = call
        answering = asyncio.ensure_future(worker.call(call, self.broadcast.tapped(sink)))
        try:
            either: set[asyncio.Future[Any]] = {answering, self.failed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else self._failure_of(call, sink)
        finally:
            answering.cancel()

    def settled(self, report: Report, produced_bytes: int) -> None:
        """The runtime is done with a call."""
        if self._closed:
            return  # it was cut short
        self._expected = None
        self._running.pop(report.invocation, None)
        if self.loading is None:
            self.settle_in()
            self.broadcast.loaded()
        if self.about.side_by_side:
            self.broadcast.reported(report)
            return
        self._report = report
        self.broadcast.runtime_done(report, produced_bytes)

    @property
    def broken(self) -> bool:
        """One of them failed, or it is closed."""
        return self.failed.done()

    @property
    def busy(self) -> Sequence[str]:
        """Who was told of the last call and has not asked for the next."""
        return [each.name for each in self._by_name.values() if INVOKE in each.events and not each.idle]

    async def rest(self, seconds: float) -> Sequence[str]:
        """Wait, at most so long, until all are done with the call that was settled; who is not."""
        began_s = self._loop.time()
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self.until(lambda: not self.busy)
        except TimeoutError:
            pass
        if self._report is not None:
            self.broadcast.report(self._report, (self._loop.time() - began_s) * 1000)
            self._report = None
        return self.busy

    def pause(self, *, on: bool) -> None:
        """None of them runs, or they go on."""
        self.broadcast.pause(on=on)

    async def leave(self, reason: str) -> None:
        """Let all end in order, within the time there is for it. `reason`: "timeout", "failure", or anything else."""
        if self.leaving:
            return
        self.leaving = True
        await self._cut_short(reason)
        if self.ending is not None:
            await self.ending(_REASONS.get(reason, "spindown"))

    async def _cut_short(self, reason: str) -> None:
        """Tell subscribers of a call that ends with its environment, and why. Of several, each report tells."""
        if self.about.side_by_side:
            return
        running = next(iter(self._running.values()), None)
        if running is None and self._expected is not None:
            running = meta_of(self._expected.meta)
            self.broadcast.start(running, self.about.version)
        if running is None:
            return
        failure = await self._failure()
        if reason != "timeout" and failure is not None:
            self.broadcast.fault(_fault(running, failure))
        self.broadcast.cut_short(running, reason, "Runtime.ExitError" if failure is None else failure.kind)

    async def _failure(self) -> Failure | None:
        """Why the environment ends: what failed first, an extension or the runtime. None: neither."""
        if self.failed.done():
            return None if self.failed.cancelled() else self.failed.result()
        worker = self.workers[-1] if self.workers else None
        if worker is None or worker.alive:
            return None
        try:
            async with asyncio.timeout(EXIT_S):
                status = await worker.ended()
        except TimeoutError:
            return None
        how = f"with error: {ended(status)}" if status else "without providing a reason"
        return Failure("Runtime.ExitError", f"Runtime exited {how}")

    def close(self) -> None:
        """No more of it: questions that are open are not answered. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.failed.cancel()
        for extension in self._by_name.values():
            if extension.asking is not None and not extension.asking.done():
                extension.asking.set_result(None)
        self.stir()
        self.broadcast.close()
        for close in self.closing:
            close()
        self.workers.clear()
        self.closing.clear()
        self.ending = self.opening = self.deliver = None
        self._left(self)

    # What extensions do ------------------------------------------------------------------------------------------------
    def register(self, name: str, events: Sequence[str]) -> Extension:
        """Raises Refusal, OutOfTurn."""
        if not name:
            raise Refusal("Extension.InvalidExtensionName", "Empty extension name")
        extension = self._by_name.get(name)
        external = extension is not None and extension.external
        side_by_side = self.about.side_by_side
        if side_by_side and events and not external:
            raise Refusal("Extension.InvalidEventType", "No events allowed for internal extensions")
        for event in events:
            if event not in _EVENTS or (side_by_side and event == INVOKE):
                raise Refusal("Extension.InvalidEventType", f"{event[:64]}: ErrorInvalidEventType")
            if event == SHUTDOWN and not external:
                raise Refusal("Extension.InvalidEventType", f"{event}: ShutdownEventNotSupportedForInternalExtension")
        if extension is None or not external:
            extension = self._internal(name)
        extension.move(Stage.REGISTERED, name)
        extension.events = tuple(event for event in _EVENTS if event in events)
        if self._expected is not None and INVOKE in events:
            extension.waiting.append(_invoke(meta_of(self._expected.meta)))
        self.stir()
        return extension

    def _internal(self, name: str) -> Extension:
        if self._is_closed_to_new:
            raise Refusal("Extension.RegistrationClosed", "Extension registration closed already")
        if name in self._by_name:
            raise Refusal("Extension.InvalidExtensionState", "Extension with this name already registered")
        if len(self._by_name) >= EXTENSIONS_MAX:
            raise Refusal("Extension.TooManyExtensions", f"Extension limit ({EXTENSIONS_MAX}) reached")
        if len(name) > NAME_CHARS_MAX:
            raise Refusal("Extension.InvalidExtensionName", f"An extension's name has at most {NAME_CHARS_MAX} characters")
        extension = self._by_name[name] = Extension(name, external=False)
        self._by_id[extension.id] = extension
        self.broadcast.listen()
        return extension

    @property
    def _is_closed_to_new(self) -> bool:
        return self.leaving or self._has_loaded

    @property
    def _has_loaded(self) -> bool:
        loaded = self.loading is None and any(worker.init_ms is not None for worker in self.workers)
        return self.settled_in or loaded

    async def subscribe(self, extension: Extension, wanted: Wanted) -> None:
        """Have telemetry delivered to it. Raises Refusal."""
        if self.opening is not None and not self._is_closed_to_new:
            try:
                await self.opening()
            except Unavailable as error:
                raise Refusal(f"{wanted.api.value.title()}.NotSupported", str(error)) from error
        if self._is_closed_to_new or self.deliver is None:
            raise Refusal(
                f"{wanted.api.value.title()}.SubscriptionClosed", "Subscriptions are taken while extensions load only"
            )
        self.broadcast.subscribe(extension.name, wanted, self.deliver)
        kind = "platform.telemetrySubscription" if wanted.api is Api.TELEMETRY else "platform.logsSubscription"
        types = ", ".join(each.title() for each in wanted.types)
        record = {"name": extension.name, "state": "Subscribed", "types": list(wanted.types)}
        self.say(f"{wanted.api.value}\tName: {extension.name}\tState: Subscribed\tTypes: [{types}]\n", kind, record)

    def find(self, identifier: str) -> Extension:
        """The one that this identifier was given to. Raises Refusal."""
        if not identifier:
            raise Refusal("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
        try:
            known = self._by_id.get(str(uuid.UUID(identifier)))
        except ValueError:
            raise Refusal("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier") from None
        if known is None or known.stage is Stage.STARTED:
            raise Refusal("Extension.UnknownExtensionIdentifier", f"Unknown extension {uuid.UUID(identifier)}")
        return known

    async def next(self, extension: Extension) -> Mapping[str, Any] | None:
        """The event that it is told next; None when there will be no more. Raises OutOfTurn."""
        extension.move(Stage.READY)
        asking: asyncio.Future[Mapping[str, Any] | None] = self._loop.create_future()
        extension.asking = asking
        self._hand_over(extension)
        self.stir()
        return await asking

    def reported(self, extension: Extension, to: Stage, error_type: str) -> None:
        """It says that it failed to initialise, or has to end. Raises OutOfTurn."""
        again = extension.stage is to
        extension.move(to)
        if not again:
            extension.error_type = error_type
            if extension.asking is not None and not extension.asking.done():
                extension.asking.set_result(None)
            kind = "Extension.InitError" if to is Stage.INIT_ERROR else "Extension.ExitError"
            self.fail(Failure(kind, f"extension {extension.name}: {error_type}"))

    # What becomes of their processes -----------------------------------------------------------------------------------
    def unlaunched(self, name: str, text: str) -> None:
        """It could not be executed."""
        extension = self._by_name[name]
        if extension.stage is Stage.STARTED:
            extension.move(Stage.LAUNCH_ERROR)
            extension.error_type = "Extension.LaunchError"
        self.fail(Failure("Extension.LaunchError", text))

    def exited(self, name: str, text: str) -> None:
        """Its process is gone; `text` says how. Nothing is wrong with that at the end."""
        del name
        self.stir()
        if not self.leaving:
            self.fail(Failure("Extension.Crash", text))

    def fail(self, failure: Failure) -> None:
        """The first counts."""
        if not self.failed.done():
            self._failed_idle = not self._calls and self._has_loaded
            self.failed.set_result(failure)
            if not self._calls:
                text = _fault({}, failure)  # no call's answer will tell of it: the log does
                self.say(text, "platform.fault", text)
            if not self._calls or self.about.side_by_side:
                self._end_idle()
        self.stir()

    def _end_idle(self) -> None:
        """With external ones the environment ends by the failure itself, else by a signal to workers that run no call."""
        for worker in () if self.externals else self.workers:
            worker.signal(signal.SIGKILL)

    # What the environment does -----------------------------------------------------------------------------------------
    async def until(self, condition: Callable[[], bool]) -> bool:
        """Wait for something about the extensions; False when one of them failed, or all ended, first."""
        while not condition():
            if self.failed.done() or self._closed:
                return False
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        return True

    def stir(self) -> None:
        """Something changed."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def externals(self) -> Sequence[Extension]:
        return [each for each in self._by_name.values() if each.external]

    @property
    def all_registered(self) -> bool:
        return all(each.stage is not Stage.STARTED for each in self.externals)

    @property
    def all_ready(self) -> bool:
        return all(each.stage is Stage.READY for each in self._by_name.values())

    def shut_down(self, reason: str, deadline_s: float) -> None:
        """Tell those who asked for it. `deadline_s`: wall time."""
        event = {"eventType": SHUTDOWN, "shutdownReason": reason, "deadlineMs": int(deadline_s * 1000)}
        for extension in self._by_name.values():
            if SHUTDOWN in extension.events:
                self._give(extension, event)

    def settle_in(self) -> None:
        """Loading has ended, in whichever way: say in the log what became of each."""
        if self.settled_in or self._closed:
            return
        self.settled_in = True
        for each in self._by_name.values():
            stage = Stage.READY if each.stage is Stage.RUNNING else each.stage  # it was ready, and has a call already
            record: dict[str, Any] = {"name": each.name, "state": stage.value, "events": list(each.events)}
            if each.error_type:
                record["errorType"] = each.error_type
            error = f"\tError Type: {each.error_type}" if each.error_type else ""
            events = ", ".join(each.events)
            self.say(
                f"EXTENSION\tName: {each.name}\tState: {stage.value}\tEvents: [{events}]{error}\n",
                "platform.extension",
                record,
            )

    def say(self, text: str, kind: str, record: Mapping[str, Any] | str) -> None:
        """A line of the platform's in the log, in its format, and an event for subscribers."""
        event = self.broadcast.platform(kind, record)
        self._write(json.dumps(event) + "\n" if self.about.json_lines else text, None)

    def _began(self, call: Call) -> None:
        meta = meta_of(call.meta)
        self._running[str(meta.get("id", ""))] = meta
        self.broadcast.start(meta, self.about.version)
        event = _invoke(meta)
        for extension in self._by_name.values():
            if INVOKE in extension.events:
                self._give(extension, event)

    def _give(self, extension: Extension, event: Mapping[str, Any]) -> None:
        extension.waiting.append(event)
        self._hand_over(extension)

    def _hand_over(self, extension: Extension) -> None:
        """When there are both an event and a question."""
        asking = extension.asking
        if extension.stage is not Stage.READY or asking is None or asking.done() or not extension.waiting:
            return
        extension.asking = None
        extension.move(Stage.RUNNING)
        asking.set_result(extension.waiting.popleft())

    def _failure_of(self, call: Call, sink: LogSink) -> Answer:
        """In the place of the function's answer."""
        failure = self.failed.result() if not self.failed.cancelled() else Failure("Extension.Crash", "it was ended")
        meta = meta_of(call.meta)
        self._expected = self._expected or call
        self.settle_in()
        sink(_fault(meta, failure), None)
        body = json.dumps({"errorType": failure.kind, "errorMessage": _message(meta, failure)}).encode()
        return Answer(ending=Ending.INIT_ERROR, meta={"error_type": failure.kind}, body=body)


def _invoke(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """What extensions are told of a call, from what its function is told."""
    return {
        "eventType": INVOKE,
        "deadlineMs": meta.get("deadline_ms", 0),
        "requestId": meta.get("id", ""),
        "invokedFunctionArn": meta.get("arn", ""),
        "tracing": {"type": "X-Amzn-Trace-Id", "value": meta.get("trace") or ""},
    }


def _message(meta: Mapping[str, Any], failure: Failure) -> str:
    """What a caller is told."""
    return f"RequestId: {meta.get('id', '')} Error: {failure.text}"


def _fault(meta: Mapping[str, Any], failure: Failure) -> str:
    """The same as a record of the log."""
    return f"{_message(meta, failure)}\n{failure.kind}\n"


def wall_s() -> float:
    """Now, as deadlines have it."""
    return time.time()
