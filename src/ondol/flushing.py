"""Writing what was gathered, a moment later: one timer, one write at a time, and another try after one that failed.

For rooms that are told things by the thousand and keep them in a file. What is gathered, and its bounds, stay with the room; it
knows nothing of either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ondol.model.errors import OndolError

log = logging.getLogger(__name__)


class Flusher:
    """`write` writes all that waits, and raises OndolError when it cannot: then it all waits on."""

    def __init__(self, write: Callable[[], Awaitable[None]], *, what: str, after_s: float) -> None:
        """`what` is written, for the log. `after_s`: how long something waits at most while writing works."""
        self._write = write
        self._what = what
        self._after_s = after_s
        #: Held while something is written: whoever flushes waits for what was added before.
        self._writing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def schedule(self, *, early: bool = False) -> None:
        """Something waits; `early`: so much that it should not wait for the timer."""
        if early and not self._tasks:
            self._flush_soon()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._flush_soon)

    async def flush(self) -> None:
        """Write it now. Raises what `write` does."""
        async with self._writing:
            await self._write()

    async def close(self) -> None:
        """Write the last, if that can be done, and leave no timer and no task."""
        try:
            await self.flush()
        except OndolError as error:
            log.warning("the last %s could not be kept: %s", self._what, error)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _flush_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task = asyncio.get_running_loop().create_task(self._flush_or_say())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush_or_say(self) -> None:
        try:
            await self.flush()
        except OndolError as error:
            log.warning("%s could not be kept, trying again: %s", self._what, error)
            self.schedule()
