"""Small work of the desk that belongs to no room of its own: following its own store, journaling what fronts send, sweeping."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from ondol.core.catalog import Index
from ondol.core.deploy import Deployments
from ondol.disk import write_whole
from ondol.journal import Batch, Journal
from ondol.model.errors import OndolError
from ondol.model.invocations import LogEvent
from ondol.node.following import Followers
from ondol.node.link import Handler, Link
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


def journaling(journal: Journal) -> Handler:
    """Takes a front's log batches: [account, region, group, stream, [[at_ms, message], …]]."""

    async def take(_link: Link, value: Any) -> None:
        batches = [
            Batch(account, region, group, stream, [LogEvent(at_ms, message) for at_ms, message in events])
            for account, region, group, stream, events in value
        ]
        try:
            await journal.append(batches)
        except OndolError as error:
            log.warning("%d log batches could not be kept: %s", len(batches), error)

    return take


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


async def sweep(deployments: Deployments) -> None:
    """Remove code that nothing names, now and then."""
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await deployments.collect_code()
        except OndolError as error:
            log.warning("old code could not be swept: %s", error)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
