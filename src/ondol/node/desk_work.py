"""Small work of the desk that belongs to no room of its own: following its own store, sweeping."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from ondol.core.catalog import Index
from ondol.model.errors import OndolError
from ondol.node.following import Followers
from ondol.node.serving import Tasks, uncollected
from ondol.store import Store

SWEEP_S: Final = 600.0

log = logging.getLogger(__name__)


async def load(store: Store, index: Index, followers: Followers, tasks: Tasks) -> None:
    """Read the catalog into memory, and have the index and every front follow it from now on."""
    number, documents = await store.snapshot()
    with uncollected():
        index.load(number, documents)
        followers.load(number, documents)

    async def follow() -> None:
        async for change in store.watch(number):
            index.apply(change)
            followers.changed([change])

    tasks.start(follow(), "following the store")


async def serve_links(listener: socket.socket, followers: Followers) -> asyncio.Server:
    """Take the fronts' connections."""
    return await asyncio.get_running_loop().create_unix_server(followers.link, sock=listener)


async def sweep(*works: Callable[[], Awaitable[object]]) -> None:
    """Now and then, have every room remove what it need not keep."""
    while True:
        await asyncio.sleep(SWEEP_S)
        for work in works:
            try:
                await work()
            except OndolError as error:
                log.warning("something old could not be swept: %s", error)
