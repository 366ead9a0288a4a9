"""The pool as the core sees it: a place for an invocation, warm if there is one, else a cold start or a wait.

The driver turns the machine's actions into environments and their news into the machine's events; it decides nothing itself.
It must not know what a contract renders or who asked. A warm `acquire` runs without a task, a timer or a turn of the loop.

Invariants: each lease is given back once; each start and stop is a task that the pool holds until it has ended; starts are
never cancelled half-way (a shell could be lost), they are stopped once they have come up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from msgspec import Struct

from ondol.clock import Clock
from ondol.contract import Contract
from ondol.model.errors import OndolError, RuntimeMissing, StartFailed, Throttled, Unavailable
from ondol.model.functions import Code, Revision, Target
from ondol.model.invocations import Invocation
from ondol.pool.alarm import Alarm
from ondol.pool.crew import State
from ondol.pool.environment import Environment
from ondol.pool.events import (
    Action,
    Bounded,
    Done,
    Event,
    Freeze,
    GaveUp,
    Gone,
    Loaded,
    Pinned,
    Ready,
    Refuse,
    Replaced,
    Retired,
    Run,
    SlotId,
    Start,
    Stop,
    Thaw,
    Tick,
    Wanted,
)
from ondol.pool.machine import Machine
from ondol.pool.makings import Answering, Makings, as_asked, inherits_nothing, no_network, nothing, random_id, whichever
from ondol.pool.policy import PoolLimits
from ondol.pool.run import Ran, Told
from ondol.pool.several import Several
from ondol.runtime import Call, Runtime
from ondol.sandbox import Sandboxes
from ondol.telemetry import Telemetry

_log = logging.getLogger(__name__)

#: The pool looks after itself at most this often.
TICK_S_MIN = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The pool at one moment."""

    starting: int
    idle: int
    busy: int
    stopping: int
    #: Idle ones that are frozen.
    frozen: int
    waiting: int
    memory_mib: int
    memory_mib_max: int
    #: Since the node came up.
    cold_starts: int
    failed_starts: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Of one revision: how many environments are up because they are to be, and why there are not more, if that is known."""

    up: int
    why: str = ""


class Lease(Struct, eq=False):
    """A place for one invocation. `release` it in any case; a streaming answer keeps it until its end by itself."""

    pool: Pool
    slot: SlotId
    number: int
    environment: Environment
    #: The environment has not served a call yet.
    cold: bool
    #: How long it took to get this place, if it was not there at once.
    waited_s: float = 0.0
    released: bool = False
    streaming: asyncio.Future[Ran] | None = None

    async def call(self, call: Call, *, invocation: Invocation, target: Target, timeout_s: float, tail: bool = False) -> Ran:
        """Run the invocation here. When the result says that it was not started, get another lease and try once more."""
        pins = self._noted(invocation, target)
        ran = await self.environment.call(call, invocation=invocation, target=target, timeout_s=timeout_s, tail=tail, pins=pins)
        self.streaming = ran.streaming
        return ran

    def begin(self, call: Call, *, invocation: Invocation, target: Target, timeout_s: float, told: Told) -> bool:
        """As `call`, without a coroutine. False, and nothing was done, where it needs one."""
        if not self.environment.prompt:
            return False
        pins = self._noted(invocation, target)
        self.environment.begin(call, invocation=invocation, target=target, timeout_s=timeout_s, told=told, pins=pins)
        return True

    def _noted(self, invocation: Invocation, target: Target) -> tuple[int, int] | None:
        if self.waited_s:
            self.pool.makings.telemetry.waited(invocation.id, self.waited_s)
        # Of what its scaling says is up, nothing is set aside, and nothing counted so.
        return None if target.function.versions_only else self.pool.pins_at_work(target.revision.id)

    def release(self) -> None:
        """Give the place back. Idempotent."""
        if self.released:
            return
        self.released = True
        if self.streaming is not None and not self.streaming.done():
            self.streaming.add_done_callback(self._over)
        else:
            self._over()

    def _over(self, _: object = None) -> None:
        """The call is; what else was told of it may not be done yet."""
        resting = self.environment.resting
        if resting is not None and not resting.done():
            resting.add_done_callback(self._over)
        else:
            self.pool._give_back(self.slot, self.number, self.environment)  # noqa: SLF001  (its other half)


class _Waiter(Struct, eq=False):
    """One who asked for a place."""

    revision: Revision
    told: Callable[[Lease | OndolError], None]
    since_s: float


class Pool:
    """See the module. `acquire`, `replace`, `retire`, and at the end `drain` and `close`."""

    def __init__(
        self,
        *,
        limits: PoolLimits,
        sandboxes: Sandboxes | Callable[[Revision], Sandboxes],
        runtimes: Callable[[Revision], Runtime],
        contracts: Mapping[str, Contract],
        telemetry: Telemetry,
        clock: Clock,
        mint: Callable[[Revision, str], tuple[str, str, str]],
        endpoint: str,
        tree_of: Callable[[Code], str],
        inherited_bytes: Callable[[Revision], Awaitable[int]] | None = None,
        interpreter: Callable[[Revision], str] | None = None,
        ahead: Callable[[Revision], bytes] | None = None,
        substitute: Callable[[Revision], str | None] | None = None,
        new_id: Callable[[], str] | None = None,
        answering: Answering | None = None,
        network: Callable[[Revision], str] | None = None,
    ) -> None:
        self.makings = Makings(
            sandboxes=sandboxes if callable(sandboxes) else lambda _: sandboxes,
            runtimes=runtimes,
            contracts=contracts,
            telemetry=telemetry,
            clock=clock,
            mint=mint,
            endpoint=endpoint,
            tree_of=tree_of,
            inherited_bytes=inherited_bytes or inherits_nothing,
            interpreter=interpreter or whichever,
            ahead=ahead or nothing,
            substitute=substitute or as_asked,
            new_id=new_id or random_id,
            answering=answering,
            network=network or no_network,
        )
        self.limits = limits
        self._machine = Machine(limits)
        self._now_s = clock.now_s
        self._environments: dict[SlotId, Environment] = {}
        self._starts: dict[SlotId, asyncio.Task[None]] = {}
        #: Of what was started ahead: waiting for it to have loaded.
        self._loads: dict[SlotId, asyncio.Task[None]] = {}
        self._stops: dict[SlotId, asyncio.Task[None]] = {}
        self._waiters: dict[int, _Waiter] = {}
        self._patience: Alarm[int] = Alarm(lambda invocation: self._tell(GaveUp(invocation)))
        #: Revisions that the machine may ask a start for.
        self._revisions: dict[str, Revision] = {}
        #: Revisions of which so many environments are to be kept up; and why the last of them did not load.
        self._pins: dict[str, tuple[Revision, int]] = {}
        self._unloaded: dict[str, str] = {}
        #: Revisions of which there may be so many environments.
        self._bounds: dict[str, tuple[Revision, int]] = {}
        #: Why the last start of a revision failed.
        self._failures: dict[str, OndolError] = {}
        self._invocations = 0
        self._leases = 0
        self._cold_starts = 0
        self._failed_starts = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0
        self._closing = False
        self._quiet: asyncio.Event | None = None

    # What the core asks ------------------------------------------------------------------------------------------------
    async def acquire(self, target: Target, *, wait_s_max: float, tenant: str | None = None) -> Lease:
        """A place for one invocation of the target's revision, among the tenant's own if there is one.

        Raises Throttled('line') when too many wait or this one waited `wait_s_max`, Throttled('rate') when the revision grows
        as fast as it may; RuntimeMissing, StartFailed, OutOfSpace when no environment can be started; Unavailable at the end.
        """
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()

        def told(place: Lease | OndolError) -> None:
            if future.done():  # cancelled
                if isinstance(place, Lease):
                    place.release()
            elif isinstance(place, Lease):
                future.set_result(place)
            else:
                future.set_exception(place)

        invocation = self.ask(target, told, wait_s_max=wait_s_max, tenant=tenant)
        if future.done():
            return future.result()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().release()
            raise
        finally:
            if self._waiters.pop(invocation, None) is not None:
                self._tell(GaveUp(invocation))

    def ask(
        self, target: Target, told: Callable[[Lease | OndolError], None], *, wait_s_max: float, tenant: str | None = None
    ) -> int:
        """As `acquire`, without a coroutine: `told` gets the place, at once or later, or what `acquire` would raise."""
        revision = target.revision
        invocation = self._invocations = self._invocations + 1
        if tenant is None and not self._closing:
            slot = self._machine.take(revision.id, invocation, self._now_s())
            if slot is not None:
                told(self._lease(slot, invocation))
                return invocation
        refused = self._refusal(revision, tenant or "")
        if refused is not None:
            told(refused)
            return invocation
        memory_mib = revision.configuration.memory_mib
        want = Wanted(invocation, revision.id, memory_mib, self._side_by_side(revision), tenant or "")
        actions = self._machine.handle(want, self._now_s())
        if len(actions) == 1:
            action = actions[0]
            if type(action) is Run:
                told(self._lease(action.slot, invocation))
                return invocation
        self._waiters[invocation] = _Waiter(revision, told, self._now_s())
        self._revisions[revision.id] = revision
        self._patience.set(invocation, wait_s_max)
        self._do(actions)
        return invocation

    def _refusal(self, revision: Revision, tenant: str) -> OndolError | None:
        """What no amount of waiting would mend."""
        if self._closing:
            return Unavailable("the node is going down: try again on another, or later")
        if self._machine.is_warm(revision.id, tenant):
            return None
        runtime = revision.configuration.runtime
        missing = self.makings.runtimes(revision).find(runtime)
        return RuntimeMissing(runtime, missing) if missing is not None else None

    def retire(self, revision: str) -> None:
        """Nothing points to this revision any more: let its environments go, the idle ones now."""
        self._tell(Retired(revision))

    def replace(self, before: str, revision: Revision, ahead_max: int | None = None) -> None:
        """Nothing points to `before` any more, but to `revision`.

        As many environments of that are started ahead as the old one has in use, at most so many; the old idle ones go when
        these have loaded.
        """
        configuration = revision.configuration
        if self._closing or self.makings.runtimes(revision).find(configuration.runtime) is not None:
            self.retire(before)
            return
        self._revisions[revision.id] = revision
        most = self.limits.ahead_max if ahead_max is None else ahead_max
        self._tell(Replaced(revision.id, configuration.memory_mib, self._side_by_side(revision), before, most))

    def pin(self, wanted: Mapping[str, tuple[Revision, int]]) -> None:
        """Keep so many environments of each revision up and loaded; of those not named, as many as calls need."""
        if self._closing:
            return
        for revision, _ in [pin for pin in self._pins.values() if pin[0].id not in wanted]:
            del self._pins[revision.id]
            self._unloaded.pop(revision.id, None)
            self._keep(revision, 0)
        for revision, slots in wanted.values():
            if self._pins.get(revision.id, (revision, 0))[1] != slots:
                self._pins[revision.id] = (revision, slots)
                self._unloaded.pop(revision.id, None)
                self._keep(revision, slots)

    def bound(self, wanted: Mapping[str, tuple[Revision, int]]) -> None:
        """Have no more than so many environments of each revision; of those not named, as many as calls need."""
        if self._closing:
            return
        for revision, _ in [bound for bound in self._bounds.values() if bound[0].id not in wanted]:
            del self._bounds[revision.id]
            self._tell(Bounded(revision.id, revision.configuration.memory_mib, self._side_by_side(revision), None))
        for revision, most in wanted.values():
            if self._bounds.get(revision.id, (revision, None))[1] != most:
                self._bounds[revision.id] = (revision, most)
                self._revisions[revision.id] = revision
                self._tell(Bounded(revision.id, revision.configuration.memory_mib, self._side_by_side(revision), most))

    def _side_by_side(self, revision: Revision) -> int:
        configuration = revision.configuration
        return configuration.concurrency or self.makings.contracts[configuration.contract].concurrency

    def _keep(self, revision: Revision, slots: int) -> None:
        self._revisions[revision.id] = revision
        self._tell(Pinned(revision.id, revision.configuration.memory_mib, self._side_by_side(revision), slots))

    def kept(self) -> dict[str, Kept]:
        """By revision: what has become of the environments that are to be kept up."""
        found = {}
        for revision, _ in self._pins.values():
            crew = self._machine.crews.get(revision.id)
            failure = self._failures.get(revision.id)
            why = self._unloaded.get(revision.id) or (str(failure) if failure else "")
            up = sum(slot.state in (State.IDLE, State.BUSY) for slot in crew.kept.values()) if crew else 0
            found[revision.id] = Kept(up, why if crew else self._too_large(revision))
        return found

    def pins_at_work(self, revision: str) -> tuple[int, int] | None:
        """Of the environments kept up for this revision: how many run something, of how many. None: none are wanted."""
        if revision not in self._pins:
            return None
        crew = self._machine.crews.get(revision)
        slots = [slot.state for slot in crew.kept.values()] if crew else []
        return slots.count(State.BUSY), len(slots) - slots.count(State.STARTING)

    def stats(self) -> Stats:
        states = [slot.state for slot in self._machine.slots.values()]
        return Stats(
            starting=states.count(State.STARTING),
            idle=states.count(State.IDLE),
            busy=states.count(State.BUSY),
            stopping=states.count(State.STOPPING),
            frozen=sum(slot.frozen for slot in self._machine.slots.values()),
            waiting=len(self._machine.waiting),
            memory_mib=self._machine.used_mib,
            memory_mib_max=self.limits.memory_mib_max,
            cold_starts=self._cold_starts,
            failed_starts=self._failed_starts,
        )

    async def drain(self, seconds: float) -> bool:
        """Take nothing new and wait until all that was taken has ended, at most `seconds`; whether it has."""
        self._closing = True
        self._quiet = asyncio.Event()
        self._look_quiet()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """End every environment, whatever it runs. Call `drain` first to be polite."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for invocation in tuple(self._waiters):
            self._answer(invocation, Unavailable("the node went down while this invocation waited"))
        await asyncio.gather(*self._starts.values(), return_exceptions=True)
        for load in self._loads.values():
            load.cancel()
        await asyncio.gather(*self._loads.values(), return_exceptions=True)
        environments = list(self._environments.values())
        self._environments.clear()
        await asyncio.gather(*(self._end(environment) for environment in environments))
        await asyncio.gather(*self._stops.values(), return_exceptions=True)

    # Waiting -----------------------------------------------------------------------------------------------------------
    def _answer(self, invocation: int, answer: Lease | OndolError) -> None:
        self._patience.clear(invocation)
        waiter = self._waiters.pop(invocation, None)
        if waiter is not None:
            if isinstance(answer, Lease):
                answer.waited_s = self._now_s() - waiter.since_s
            waiter.told(answer)
        elif isinstance(answer, Lease):
            answer.release()  # whoever waited was cancelled

    # Events and actions ------------------------------------------------------------------------------------------------
    def _tell(self, event: Event) -> None:
        self._do(self._machine.handle(event, self._now_s()))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Run():
                    self._answer(action.invocation, self._lease(action.slot, action.invocation))
                case Start():
                    self._starts[action.slot] = self._task(self._start(action, self._revisions[action.revision]))
                case Freeze() | Thaw():
                    environment = self._environments.get(action.slot)
                    if environment is not None:
                        environment.freeze(on=isinstance(action, Freeze))
                case Stop():
                    self._stops[action.slot] = self._task(self._stop(action.slot))
                case Refuse():
                    if action.invocation in self._waiters:  # else whoever waited was cancelled
                        self._answer(action.invocation, self._why(action))
                case _:
                    assert_never(action)
        self._set_timer()
        self._look_quiet()

    def _lease(self, slot: SlotId, invocation: int) -> Lease:
        environment = self._environments[slot]
        self._leases += 1
        return Lease(self, slot, invocation, environment, not environment.calls and environment.fresh)

    def _give_back(self, slot: SlotId, invocation: int, environment: Environment) -> None:
        """A lease ended."""
        self._leases -= 1
        if environment.broken:
            self._lose(slot)
            return
        now_s = self._now_s()
        actions = self._machine.handle(Done(slot, invocation, environment.spent), now_s)
        if actions:
            self._do(actions)
        elif self._timer is None or self._timer_at_s > now_s + self.limits.freeze_s_min:
            self._set_timer()
        if self._quiet is not None:
            self._look_quiet()

    def _lose(self, slot: SlotId) -> None:
        """An environment broke, or its worker died while idle."""
        environment = self._environments.pop(slot, None)
        if environment is not None:
            self._stops[slot] = self._task(self._discard(slot, environment))
        self._tell(Gone(slot))

    def _died(self, slot: SlotId) -> None:
        if not self._closing and slot not in self._starts:  # one that is to load first is told of by its start
            self._lose(slot)

    def _why(self, refusal: Refuse) -> OndolError:
        """The machine's reason as the caller's error."""
        revision = self._waiters[refusal.invocation].revision
        match refusal.why:
            case "start":
                return self._failures.get(revision.id) or StartFailed(f"no environment of {revision.name} could be started")
            case "memory":
                return StartFailed(self._too_large(revision))
            case "none":
                return Throttled("function")
            case "rate":
                return Throttled("rate", retry_after_s=max(self.limits.scaling_s / self.limits.scaling_max, 1.0))
            case _:
                return Throttled("line")

    def _too_large(self, revision: Revision) -> str:
        share, mend = "this node's functions share", "or the node more"
        if self.limits.pools > 1:
            share, mend = f"each of this node's {self.limits.pools} fronts has", "or the node more memory or fewer fronts"
        return (
            f"{revision.name} asks for {revision.configuration.memory_mib} MiB, and {share} "
            f"{self.limits.memory_mib_max} MiB: give the function less, {mend}"
        )

    # Starting and stopping ---------------------------------------------------------------------------------------------
    async def _start(self, asked: Start, revision: Revision) -> None:
        slot, pinned = asked.slot, asked.pinned
        environment: Environment | None = None
        loading = False
        try:
            made = Several if revision.configuration.concurrency > 1 else Environment
            environment = made(revision, self.makings, lambda: self._died(slot), pinned=pinned, tenant=asked.tenant or None)
            async with asyncio.timeout(self.limits.start_s_max):
                await environment.start()
            if pinned:
                loading = True
                async with asyncio.timeout(self.limits.load_s_max):
                    await environment.loaded()
        except Exception as error:
            self._failed_starts += 1
            if loading:
                self._unloaded[revision.id] = str(error) or f"{revision.name} did not load in {self.limits.load_s_max:g} s"
            else:
                self._failures[revision.id] = _as_ondol_error(revision, error, self.limits.start_s_max)
            self._starts.pop(slot)
            self._tell(Gone(slot, loading))
            if environment is not None:
                await self._end(environment)
            return
        self._cold_starts += not (pinned or asked.ahead)
        self._failures.pop(revision.id, None)
        if pinned:
            self._unloaded.pop(revision.id, None)
        self._environments[slot] = environment
        self._starts.pop(slot)
        if asked.ahead:
            environment.ahead_s = self._now_s()
            self._loads[slot] = load = self._task(environment.loaded())
            load.add_done_callback(lambda load: self._loaded(slot, load))
        self._tell(Ready(slot, environment.freezes))

    def _loaded(self, slot: SlotId, load: asyncio.Task[None]) -> None:
        """What was started ahead has loaded, or has failed to: its log says why, and a call will be told."""
        self._loads.pop(slot, None)
        environment = self._environments.get(slot)
        if not load.cancelled() and load.exception() is None and environment is not None and not self._closing:
            self._tell(Loaded(slot, environment.freezes))

    async def _stop(self, slot: SlotId) -> None:
        start = self._starts.get(slot)
        if start is not None:
            await asyncio.wait([start])
        environment = self._environments.pop(slot, None)
        if environment is not None:
            await self._end(environment)
        self._stops.pop(slot, None)
        self._tell(Gone(slot))

    async def _discard(self, slot: SlotId, environment: Environment) -> None:
        await self._end(environment)
        self._stops.pop(slot, None)

    async def _end(self, environment: Environment) -> None:
        try:
            async with asyncio.timeout(self.limits.stop_s_max):
                await environment.close()
        except (OndolError, TimeoutError) as error:
            # The keeper ends every shell of a front whose line closes: nothing is left in the end.
            _log.warning("environment %s could not be ended: %s", environment.place.environment, error or "no answer")

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    # Time --------------------------------------------------------------------------------------------------------------
    def _set_timer(self) -> None:
        """Have the machine told when it next wants to look."""
        now_s = self._now_s()
        at_s = self._machine.next_tick_s(now_s)
        if at_s is None or (self._closing and not self._waiters):
            return
        if self._timer is not None:
            if self._timer_at_s <= at_s:
                return
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = asyncio.get_running_loop().call_later(max(at_s - now_s, TICK_S_MIN), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._tell(Tick())
        crews, tenancies = self._machine.crews, self._machine.tenancies
        for table in (self._revisions, self._failures):
            for revision in [revision for revision in table if revision not in crews and revision not in tenancies]:
                del table[revision]

    def _look_quiet(self) -> None:
        if self._quiet is not None and not self._leases and not self._waiters:
            self._quiet.set()


def _as_ondol_error(revision: Revision, error: Exception, start_s_max: float) -> OndolError:
    if isinstance(error, OndolError):
        return error
    if isinstance(error, TimeoutError):
        return StartFailed(f"an environment of {revision.name} did not come up within {start_s_max:g} s")
    _log.error("starting an environment of %s failed", revision.name, exc_info=error)
    return StartFailed(f"no environment of {revision.name} could be started: {error}")
