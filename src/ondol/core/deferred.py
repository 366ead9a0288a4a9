"""Deferred calls: enqueue … claim → run → ack | retry later | dead. An accepted event is delivered at least once or ends with
its reason; what its owner wants told of that is accepted in one step with the end.

One dispatcher per node. It claims only as many as may run at once, so that a claim's lease (longer than the longest call)
holds; and of one function only as many as leave others their slots. Nothing is claimed while nobody is there to run it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from ondol.clock import Clock
from ondol.core import retry
from ondol.core.deferrals import USUAL, Rules
from ondol.core.measuring import CHAIN_DROPPED, DEFERRED_AGE, DEFERRED_DROPPED, DEFERRED_RECEIVED, DESTINATION_FAILURES
from ondol.core.outcomes import Ended, Tried
from ondol.model.deferrals import Destination, Ending
from ondol.model.errors import NotFound, OndolError, Throttled, TooLarge
from ondol.model.functions import Function
from ondol.model.limits import DEFERRED_PAYLOAD_BYTES_MAX, TIMEOUT_S_MAX
from ondol.queue import Deferred, Queue

LEASE_S: Final = TIMEOUT_S_MAX + 60.0
#: Calls under way at once, of all functions; one alone may have half of them.
RUNNING_MAX: Final = 128
#: Shortest pause after a look that found nothing while calls run, unless one ends.
LOOK_S_MIN: Final = 0.01
#: From so many calls under way on, slots are filled some at a time, so often.
CROWDED: Final = RUNNING_MAX // 4
FILL_S: Final = 0.002
#: Longest sleep between looks at the queue: bounds what a jump of the wall clock can delay.
LOOK_S_MAX: Final = 30.0
#: Pause after the queue itself failed (its disk is full, for example).
AGAIN_S: Final = 1.0
#: A function that was throttled is given nothing for so long: its other calls would fare no better.
REST_S: Final = 1.0
#: As much of an error as is kept.
ERROR_BYTES_MAX: Final = 2048

#: What concerns one call is said at level info: there may be a million of them. Its owner finds it among the dead.
log = logging.getLogger(__name__)

#: Runs one item; its answer is wanted up to so many bytes. Raises OndolError when the platform could not.
Run = Callable[[Deferred, int], Awaitable[Tried]]
#: The call that tells a destination how another ended, accepted at a moment. Raises OndolError when it cannot be told.
Sequel = Callable[[Ended, Destination, float], Deferred]
#: (account, region, function's id, what, how much). Never blocks, never raises.
Observe = Callable[[str, str, str, str, float], None]

Decision = retry.Ack | retry.Again | retry.Dead


def usual(_function: str, _qualifier: str | None) -> Rules:
    """What holds where nobody says otherwise."""
    return USUAL


def unobserved(*_: object) -> None:
    """For nodes that measure nothing."""


async def _always() -> None:
    return


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or the time is up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class Dispatcher:
    """Takes accepted calls from the queue and runs them. `woken()` tells it that something new came in."""

    def __init__(
        self,
        queue: Queue,
        run: Run,
        clock: Clock,
        *,
        rules: Callable[[str, str | None], Rules] = usual,
        sequel: Sequel | None = None,
        observe: Observe = unobserved,
        able: Callable[[], Awaitable[None]] = _always,
        shown_s: Callable[[], float] | None = None,
    ) -> None:
        """`clock` times the calls and should not jump, `shown_s` is shown to people; `able` returns once calls can run."""
        self._queue = queue
        self._run = run
        self._clock = clock
        self._rules = rules
        self._sequel = sequel
        self._observe = observe
        self._able = able
        self._shown_s = shown_s or clock.wall_s
        self._wake = asyncio.Event()
        #: A call has ended since the last look.
        self._freed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._held: Counter[str] = Counter()
        #: What functions have reserved: more of them would only be throttled.
        self._reserved: dict[str, int] = {}
        #: Throttled functions, and until when they rest (monotonic).
        self._resting: dict[str, float] = {}
        self._closing = False

    def woken(self) -> None:
        self._wake.set()

    def follow(self, key: str, noun: Any) -> None:
        """A listener for the catalog's index: keeps the reservations."""
        if not key.startswith("function/"):
            return
        self._reserved.pop(key.rpartition("/")[2], None)
        if isinstance(noun, Function) and noun.concurrency_reserved:
            self._reserved[noun.id] = noun.concurrency_reserved

    async def serve(self) -> None:
        """Until cancelled or closed. A queue that fails is asked again: what it holds is not lost."""
        while not self._closing:
            try:
                await self._able()
                await self._turn()
            except OndolError as error:
                log.warning("deferred calls wait, trying again in %.0f s: %s", AGAIN_S, error)
                await asyncio.sleep(AGAIN_S)

    async def close(self) -> None:
        """Take no more, and wait for nothing: leases bring back what was running."""
        self._closing = True
        self._wake.set()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    # Taking ----------------------------------------------------------------------------------------------------------
    async def _turn(self) -> None:
        """Start what is due and has room; sleep when that is nothing."""
        self._wake.clear()
        self._freed.clear()
        room = RUNNING_MAX - len(self._running)
        now_s = self._clock.wall_s()
        items = (
            await self._queue.claim(now_s, limit=room, lease_s=LEASE_S, held=dict(self._held), caps=self._caps())
            if room
            else []
        )
        if self._closing:
            return  # they come back with their leases
        for item in items:
            task = asyncio.create_task(self._attempt(item))
            self._running.add(task)
            self._held[item.function] += 1
            task.add_done_callback(lambda done, function=item.function: self._finished(done, function))  # type: ignore[misc]
        if not items:
            await self._sleep(now_s)
        elif len(self._running) >= CROWDED:
            await asyncio.sleep(FILL_S)  # more slots will be free: a look for each costs more than a slot that waits

    def _caps(self) -> dict[str, int]:
        now_s = self._clock.now_s()
        self._resting = {function: until_s for function, until_s in self._resting.items() if until_s > now_s}
        return {**self._reserved, **dict.fromkeys(self._resting, 0)}

    def _finished(self, task: asyncio.Task[None], function: str) -> None:
        self._running.discard(task)
        self._held[function] -= 1
        if not self._held[function]:
            del self._held[function]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a deferred call was dropped half-way, its lease brings it back", exc_info=error)
        self._freed.set()
        self._wake.set()

    async def _sleep(self, since_s: float) -> None:
        """Until something changes, or something that was not visible at `since_s` is.

        While calls run, what comes in is looked at together: most of it is for functions that have all the slots they may.
        """
        if self._running:
            await _either(self._freed, LOOK_S_MIN)
        pause_s = LOOK_S_MAX
        if len(self._running) < RUNNING_MAX:
            due_s = await self._queue.next_visible_s(since_s)
            if due_s is not None:
                pause_s = due_s - self._clock.wall_s()
            if self._resting:
                pause_s = min(pause_s, min(self._resting.values()) - self._clock.now_s())
        await _either(self._wake, min(max(pause_s, 0.01), LOOK_S_MAX))

    # One call --------------------------------------------------------------------------------------------------------
    async def _attempt(self, item: Deferred) -> None:
        ends_s = self._clock.now_s() + LEASE_S
        rules = self._rules(item.function, item.qualifier)
        now_s = self._clock.wall_s()
        decision: Decision | None = retry.before(item, rules, now_s)
        tried: Tried | None = None
        error = ""
        if decision is None:
            self._note(item, DEFERRED_AGE, max(now_s - item.accepted_s, 0.0) * 1000)
            decision, tried, error = await self._try(item, rules)
        while not await self._recorded(item, rules, decision, tried, error):
            if self._clock.now_s() >= ends_s:
                log.error("what became of deferred call %s was not written down in time: it is run again", item.id)
                return
            await asyncio.sleep(AGAIN_S)

    async def _try(self, item: Deferred, rules: Rules) -> tuple[Decision, Tried | None, str]:
        """Run it: what follows, what it came to if it ran, and what its owner is shown as its error."""
        told = rules.on_success or rules.on_failure
        try:
            tried = await self._run(item, DEFERRED_PAYLOAD_BYTES_MAX if told else ERROR_BYTES_MAX)
        except NotFound as error:
            return retry.Dead(Ending.GONE), None, str(error)
        except OndolError as error:
            if isinstance(error, Throttled):
                self._resting[item.function] = self._clock.now_s() + REST_S
            log.info("deferred call %s was refused: %s", item.id, error)
            return retry.after_refusal(item, rules, self._clock.wall_s()), None, str(error)
        except Exception:  # a mistake of ours: one call must neither vanish nor stay for ever
            log.exception("deferred call %s could not be run", item.id)
            decision = retry.after_refusal(item, rules, self._clock.wall_s())
            return decision, None, "the node failed; its log says why"
        if tried.succeeded:
            return retry.after_success(), tried, ""
        said = tried.body[:ERROR_BYTES_MAX].decode("utf-8", "replace")
        return retry.after_failure(item, rules, self._clock.wall_s()), tried, said

    # What became of it -----------------------------------------------------------------------------------------------
    async def _recorded(self, item: Deferred, rules: Rules, decision: Decision, tried: Tried | None, error: str) -> bool:
        """Write it down; False when that could not be done now."""
        try:
            match decision:
                case retry.Ack():
                    ended = Ended(item=item, ending=Ending.SUCCEEDED, at_s=self._shown_s(), tried=tried)
                    if not await self._told(ended, rules.on_success):
                        await self._queue.ack([item.id])
                case retry.Again(at_s, counted):
                    await self._queue.retry(item.id, visible_s=at_s, counted=counted, error=error)
                case retry.Dead(ending):
                    await self._end(Ended(item=item, ending=ending, at_s=self._shown_s(), tried=tried), rules, error)
        except OndolError as failure:
            log.info("what became of deferred call %s could not be written down yet: %s", item.id, failure)
            return False
        except Exception:  # a mistake of ours: said again and again rather than forgotten
            log.exception("what became of deferred call %s could not be written down", item.id)
            return False
        return True

    async def _end(self, ended: Ended, rules: Rules, error: str) -> None:
        """Without success: its destination is told, or it is kept with its reason."""
        item, too_long = ended.item, ended.ending is Ending.CHAIN_TOO_LONG
        # A chain that is too long is not made longer.
        if not await self._told(ended, None if too_long else rules.on_failure):
            counted = ended.tried is not None
            await self._queue.dead(item.id, ended.ending.value, now_s=ended.at_s, counted=counted, error=error)
        log.info("deferred call %s ended: %s", item.id, ended.ending.value)
        self._note(item, DEFERRED_DROPPED, 1)
        if too_long:
            self._note(item, CHAIN_DROPPED, 1)

    async def _told(self, ended: Ended, destination: Destination | None) -> bool:
        """End it together with telling the destination; False when there is none, or it cannot be told."""
        if destination is None or self._sequel is None:
            return False
        item = ended.item
        try:
            sequel = self._sequel(ended, destination, self._clock.wall_s())
        except (NotFound, TooLarge) as error:
            return self._undelivered(item, destination, error)
        except Exception as error:  # a mistake of ours: the call itself ends all the same
            log.exception("what to tell of deferred call %s", item.id)
            return self._undelivered(item, destination, error)
        try:
            first = await self._queue.ack([item.id], then=[sequel])
        except Throttled as error:  # anything else of the queue's passes: the end is written down later
            return self._undelivered(item, destination, error)
        if first:
            self._note(sequel, DEFERRED_RECEIVED, 1)
            self._wake.set()
        return True

    def _undelivered(self, item: Deferred, destination: Destination, error: Exception) -> bool:
        log.info("the outcome of deferred call %s could not be delivered to %s: %s", item.id, destination.name, error)
        self._note(item, DESTINATION_FAILURES, 1)
        return False

    def _note(self, item: Deferred, what: str, value: float) -> None:
        self._observe(item.account, item.region, item.function, what, value)
