"""Small work of the desk that belongs to no room of its own: following its own store, sweeping."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from ondol.core.catalog import Index
from ondol.core.deploy import Deployments
from ondol.disk import write_whole
from ondol.journal import Journal
from ondol.model.errors import OndolError
from ondol.node.following import Followers
from ondol.node.serving import Tasks
from ondol.store import Store

SWEEP_S: Final = 600.0

log = logging.getLogger(__name__)


async def load(store: Store, index: Index, followers: Followers, tasks: Tasks) -> None:
    """Read the catalog into memory, and have the index and every front follow it from now on."""
    number, documents = await store.snapshot()
    index.load(number, documents)
    followers.load(number, documents)

    async def follow() -> None:
        async for change in store.watch(number):
            index.apply(change)
            followers.changed([change])

    tasks.start(follow(), "following the store")


async def once_per_start(mark: Path, boot: str, work: Callable[[], Awaitable[int]]) -> int:
    """Do `work` unless this start of the node has done it: a desk that is started again finds `boot` in the file `mark`.

    What the work gives, or 0. A kill in its middle has it done again, so it must bear that.
    """
    if _read(mark) == boot:
        return 0
    done = await work()
    try:
        write_whole(mark, boot.encode())
    except OSError as error:
        log.warning("that this start's work is done could not be written down; a restarted desk does it again: %s", error)
    return done


async def serve_links(listener: socket.socket, followers: Followers) -> asyncio.Server:
    """Take the fronts' connections."""
    return await asyncio.get_running_loop().create_unix_server(followers.link, sock=listener)


async def sweep(deployments: Deployments, journal: Journal) -> None:
    """Remove code that nothing names and lines that are old, now and then."""
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await deployments.collect_code()
            await journal.append(())  # retention goes with appending, and nobody may be logging
        except OndolError as error:
            log.warning("old code or old lines could not be swept: %s", error)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
