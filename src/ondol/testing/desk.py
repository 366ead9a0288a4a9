"""The desk's half of a node over fakes: an index that follows a store, and the deploying use cases. No sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.core.deploy import Deployments
from ondol.store import Store
from ondol.testing.blobs import DirectoryBlobs
from ondol.testing.clock import VirtualClock
from ondol.testing.store import MemoryStore


class Fronts:
    """Stand-ins for the node's fronts. `hold` keeps them from taking up changes until `release`."""

    def __init__(self) -> None:
        self._free = asyncio.Event()
        self._free.set()
        #: Every change they were asked for.
        self.asked: list[int] = []

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    async def have(self, number: int) -> None:
        self.asked.append(number)
        await self._free.wait()


class Desk:
    """One life of the process that writes. Make it with `desk()`."""

    def __init__(self, store: Store, blobs: DirectoryBlobs, clock: Clock, fronts: Fronts) -> None:
        ids = count(1)
        self.store, self.blobs, self.clock, self.fronts = store, blobs, clock, fronts
        self.index = Index()
        self.deployments = Deployments(
            store=store, blobs=blobs, index=self.index, clock=clock, ids=lambda: f"{next(ids):032x}", fronts_have=fronts.have
        )

    async def follow(self, number: int) -> None:
        async for change in self.store.watch(number):
            self.index.apply(change)

    async def settled(self) -> None:
        """Return when every change is in force."""
        await self.deployments.settling.idle()


@contextlib.asynccontextmanager
async def desk(
    path: Path, *, store: Store | None = None, clock: Clock | None = None, fronts: Fronts | None = None
) -> AsyncIterator[Desk]:
    """A desk with its code below `path`; give it another's store to begin a second life."""
    path.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # a test's directory
    made = Desk(store or MemoryStore(), DirectoryBlobs(path), clock or VirtualClock(), fronts or Fronts())
    number, documents = await made.store.snapshot()
    made.index.load(number, documents)
    following = asyncio.create_task(made.follow(number))
    try:
        yield made
    finally:
        await made.deployments.close()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
