"""Small work of the desk that belongs to no room of its own: following its own store, sweeping."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from ondol.core.catalog import Index
from ondol.model.errors import OndolError
from ondol.node.following import PIECE_DOCUMENTS, Followers
from ondol.node.serving import Tasks, uncollected
from ondol.store import Store

SWEEP_S: Final = 600.0

log = logging.getLogger(__name__)


async def load(store: Store, index: Index, followers: Followers, tasks: Tasks, listener: socket.socket) -> asyncio.Server:
    """Read the catalog into memory, and have the index and every front follow it from now on.

    The fronts are given theirs first, on `listener`, and make their indexes of it at the same time; they are told that they
    have all when the followers are released. Fronts that come later are sent what the index has: very many documents, held once
    more, would take as much memory as half the index.
    """
    number, documents = await store.snapshot()
    followers.load(number, documents)
    followers.hold()
    links = await asyncio.get_running_loop().create_unix_server(followers.link, sock=listener)
    remaining = iter(documents)
    while piece := list(itertools.islice(remaining, PIECE_DOCUMENTS)):
        with uncollected():
            index.load(number, piece)
        await asyncio.sleep(0)  # what the fronts are sent goes out
    followers.lean(index.packed)

    async def follow() -> None:
        async for change in store.watch(number):
            index.apply(change)
            followers.changed([change])

    tasks.start(follow(), "following the store")
    return links


async def sweep(*works: Callable[[], Awaitable[object]]) -> None:
    """Now and then, have every room remove what it need not keep."""
    while True:
        await asyncio.sleep(SWEEP_S)
        for work in works:
            try:
                await work()
            except OndolError as error:
                log.warning("something old could not be swept: %s", error)
