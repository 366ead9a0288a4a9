"""From "written" to "in force": a change is reported done only when every front knows it.

Create and update answer at once, with a `Stage` that says so; one task per function then waits for the fronts and writes
READY. What a crash leaves half-way is taken up at the next start (`settle_interrupted`). Only what is not newer than the
change that the fronts were asked for is marked, so an update that comes in between waits for its own turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from ondol.core.catalog import Index, key_of, put
from ondol.core.commits import Commits, Operations
from ondol.model.errors import OndolError
from ondol.model.functions import Function, Stage, Version

#: Between two tries while a front or the disk is away.
AGAIN_S_MIN: Final = 0.2
AGAIN_S_MAX: Final = 10.0

log = logging.getLogger(__name__)


class Settling:
    """Tasks that finish changes: at most one per function."""

    def __init__(self, index: Index, commits: Commits, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._index = index
        self._commits = commits
        self._sleep = sleep
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, function: str) -> None:
        """Finish what is under way for `function`. Cheap when that is already being done."""
        if function not in self._tasks:
            # The task looks again before it ends, in one step with leaving the table: nothing falls between.
            self._tasks[function] = asyncio.create_task(self._settle(function), name=f"settle {function}")

    def settle_interrupted(self) -> int:
        """At start: take up what another life of this process left; how many functions."""
        unsettled = [function.id for function in self._index.functions() if self._unsettled(function.id)]
        for function in unsettled:
            self.start(function)
        return len(unsettled)

    async def idle(self) -> None:
        """Return when nothing is under way."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def settled(self, function: str) -> None:
        """Return when nothing is under way for `function`."""
        task = self._tasks.get(function)
        if task is not None:
            await asyncio.wait([task])

    async def close(self) -> None:
        """Stop; what is left is taken up at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self, function: str) -> None:
        pause_s = AGAIN_S_MIN
        try:
            while self._unsettled(function):
                try:
                    await self._step(function)
                    pause_s = AGAIN_S_MIN
                except OndolError as error:
                    log.warning(
                        "function %s is saved but not in force yet, trying again in %.1f s: %s", function, pause_s, error
                    )
                    await self._sleep(pause_s)
                    pause_s = min(pause_s * 2, AGAIN_S_MAX)
        finally:
            del self._tasks[function]

    async def _step(self, function: str) -> None:
        number = self._index.number
        await self._commits.everywhere(number)

        def ready() -> Operations:
            return [
                put(replace(noun, stage=Stage.READY), if_revision=self._index.revision_of(key_of(noun)))
                for noun in self._unsettled(function)
                if self._index.revision_of(key_of(noun)) <= number
            ]

        await self._commits.retrying(ready)

    def _unsettled(self, function: str) -> list[Function | Version]:
        found = self._index.function(function)
        nouns: list[Function | Version] = [found] if found else []
        nouns += self._index.versions(function)
        return [noun for noun in nouns if noun.stage is not Stage.READY]
