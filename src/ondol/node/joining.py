"""What the node's processes use to find each other: places, and the lines that their supervisor hands over.

Knows nothing of how they are started (`children.py`), so that front and desk need not load what starting asks of a machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from ondol.http import unix
from ondol.node.datadir import DataDir
from ondol.node.following import Connect
from ondol.node.lines import receive

#: How long a maker of sandboxes may take for ending what another front left behind.
SETTLED_S_MAX: Final = 10.0


def places(root: Path) -> DataDir:
    """The data directory's places, for a process that does not hold its lock."""
    return DataDir(root, -1)


def dialling(path: Path) -> Connect:
    """Connects protocols to a unix socket, however long its path."""

    async def connect(factory: Callable[[], asyncio.Protocol]) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        sock = await unix.connect(path)
        try:
            return await asyncio.get_running_loop().create_unix_connection(factory, sock=sock)
        except BaseException:
            sock.close()
            raise

    return connect


async def first_lines(line: socket.socket, names: Collection[str], *, settled: bool) -> dict[str, socket.socket]:
    """Wait for the supervisor to hand over the lines to all of `names`, the makers of sandboxes.

    `settled`: wait, too, until nothing is left of what fronts had that have ended.
    """
    lines: dict[str, socket.socket] = {}
    while set(names) - set(lines):
        received = await asyncio.to_thread(receive, line)
        if received is None:
            sys.exit(1)
        message, fds = received
        name = str(message.get("line"))
        if name in names and fds:
            lines[name] = socket.socket(fileno=fds.pop(0))  # of two, the later is to the maker that lives
        for fd in fds:
            with suppress(OSError):
                os.close(fd)
        if "stop" in message:
            sys.exit(0)
    if settled:
        await asyncio.gather(*(asyncio.to_thread(_wait_settled, maker) for maker in lines.values()))
    return lines


def _wait_settled(maker: socket.socket) -> None:
    maker.settimeout(SETTLED_S_MAX)
    try:
        maker.send(json.dumps({"n": 0, "op": "settled"}).encode())
        receive(maker)
    except OSError:  # it took too long, or the maker has died, and everything with it
        return
