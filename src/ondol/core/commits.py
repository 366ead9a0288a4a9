"""Writing the catalog, and reading one's own writes.

Use cases decide on what the `Index` says and commit with `if_revision`, so nothing is locked: whoever was overtaken is told
(`RevisionMismatch`) or, where the change does not depend on what it overtook, builds its operations again (`retrying`).
A commit returns once this process's index shows it, and `everywhere` once every front's does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from ondol.core.catalog import Index
from ondol.model.errors import Busy, RevisionMismatch, Unavailable
from ondol.store import Delete, Put, Store

#: The index follows the store over a watch in the same machine; longer than this means that the watch is gone.
FOLLOW_S_MAX: Final = 10.0
#: A front that does not follow for this long is being restarted by its supervisor.
FRONTS_S_MAX: Final = 10.0
#: How often a change that was overtaken is built again.
ATTEMPTS_MAX: Final = 16

Operations = Sequence[Put | Delete]


class Commits:
    """One per process that writes. `fronts_have(number)` returns when every front's index has that change."""

    def __init__(self, store: Store, index: Index, fronts_have: Callable[[int], Awaitable[None]]) -> None:
        self._store = store
        self._index = index
        self._fronts_have = fronts_have
        self._waiting: set[asyncio.Future[None]] = set()
        index.listeners.append(self._applied)

    async def commit(self, operations: Operations) -> int:
        """Write all or nothing; the number of the change, which this process's index now shows."""
        number = await self._store.commit(operations)
        await self._follow(lambda: self._index.number >= number)
        return number

    async def retrying(self, build: Callable[[], Operations]) -> int:
        """Commit what `build` makes of the index as it is, again whenever it was overtaken; nothing to write is no change."""
        for _ in range(ATTEMPTS_MAX):
            before = self._index.number
            operations = build()
            if not operations:
                return before
            try:
                return await self.commit(operations)
            except RevisionMismatch:
                # The store is ahead of us: what overtook us is on its way.
                await self._follow(lambda before=before: self._index.number > before)  # type: ignore[misc]
        raise Busy(f"it was changed {ATTEMPTS_MAX} times while this change was being written; try again")

    async def everywhere(self, number: int) -> None:
        """Return when calls that arrive at any front see change `number`."""
        try:
            async with asyncio.timeout(FRONTS_S_MAX):
                await self._fronts_have(number)
        except TimeoutError:
            raise Unavailable(
                f"the change is saved, but a front has not taken it up within {FRONTS_S_MAX:.0f} s; "
                "it will when it is back (`ondol doctor` shows what is wrong)"
            ) from None

    def close(self) -> None:
        self._index.listeners.remove(self._applied)

    async def _follow(self, reached: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(FOLLOW_S_MAX):
                while not reached():
                    step = asyncio.get_running_loop().create_future()
                    self._waiting.add(step)
                    try:
                        await step
                    finally:
                        self._waiting.discard(step)
        except TimeoutError:
            raise Unavailable(
                f"the catalog's watch has stood still for {FOLLOW_S_MAX:.0f} s; the change may be saved: "
                "look before trying again, and restart the node if this goes on"
            ) from None

    def _applied(self, _key: str, _noun: Any) -> None:
        for step in self._waiting:
            if not step.done():
                step.set_result(None)
