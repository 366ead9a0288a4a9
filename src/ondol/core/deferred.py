"""Deferred calls: enqueue … claim → run → ack | retry later | dead. An accepted event is delivered at least once or ends with
its reason.

One dispatcher per node. It claims only as many as may run at once, so that a claim's lease (longer than the longest call)
holds; what a dead node had claimed comes back when the lease ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ondol.clock import Clock
from ondol.core import retry
from ondol.model.errors import NotFound, OndolError
from ondol.model.limits import TIMEOUT_S_MAX
from ondol.queue import Deferred, Queue

LEASE_S: Final = TIMEOUT_S_MAX + 60.0
RUNNING_MAX: Final = 64
#: Longest sleep between looks at the queue: bounds what a jump of the wall clock can delay.
LOOK_S_MAX: Final = 30.0
#: Pause after the queue itself failed (its disk is full, for example).
AGAIN_S: Final = 1.0

log = logging.getLogger(__name__)

#: Runs one item: True when the function succeeded, False when it failed; raises OndolError when the platform could not.
Run = Callable[[Deferred], Awaitable[bool]]


class Dispatcher:
    """Takes accepted calls from the queue and runs them. `woken()` tells it that something new came in."""

    def __init__(self, queue: Queue, run: Run, clock: Clock) -> None:
        self._queue = queue
        self._run = run
        self._clock = clock
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False

    def woken(self) -> None:
        self._wake.set()

    async def serve(self) -> None:
        """Until cancelled or closed. A queue that fails is asked again: what it holds is not lost."""
        while not self._closing:
            try:
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

    async def _turn(self) -> None:
        """Start what is due and has room; sleep when that is nothing."""
        self._wake.clear()
        room = RUNNING_MAX - len(self._running)
        items = await self._queue.claim(self._clock.wall_s(), limit=room, lease_s=LEASE_S) if room else []
        if self._closing:
            return  # they come back with their leases
        for item in items:
            task = asyncio.create_task(self._attempt(item))
            self._running.add(task)
            task.add_done_callback(self._finished)
        if not items:
            await self._sleep()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _sleep(self) -> None:
        due_s = await self._queue.next_visible_s() if len(self._running) < RUNNING_MAX else None
        pause_s = LOOK_S_MAX if due_s is None else min(max(due_s - self._clock.wall_s(), 0.01), LOOK_S_MAX)
        try:
            await asyncio.wait_for(self._wake.wait(), pause_s)
        except TimeoutError:
            return

    async def _attempt(self, item: Deferred) -> None:
        decision: retry.Ack | retry.Again | retry.Dead
        try:
            succeeded = await self._run(item)
        except NotFound:
            decision = retry.Dead("the function is gone")
        except OndolError as error:
            decision = retry.after_refusal(item, self._clock.wall_s())
            log.info("deferred call %s was refused: %s", item.id, error)
        except Exception:  # a mistake of ours: one call must neither vanish nor stay for ever
            decision = retry.after_refusal(item, self._clock.wall_s())
            log.exception("deferred call %s could not be run", item.id)
        else:
            decision = retry.after_success() if succeeded else retry.after_failure(item, self._clock.wall_s())
        try:
            await self._record(item, decision)
        except OndolError as error:
            log.warning(
                "what became of deferred call %s could not be written down, its lease brings it back: %s", item.id, error
            )

    async def _record(self, item: Deferred, decision: retry.Ack | retry.Again | retry.Dead) -> None:
        match decision:
            case retry.Ack():
                await self._queue.ack([item.id])
            case retry.Again(at_s, counted):
                await self._queue.retry(item.id, visible_s=at_s, counted=counted)
            case retry.Dead(reason):
                log.warning("deferred call %s ends: %s", item.id, reason)
                await self._queue.dead(item.id, reason)
