"""What both unprivileged processes do around their rooms: read their settings, serve until told to stop, keep their tasks."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from ondol.config import Settings
from ondol.model.isolation import MAKERS, Isolation
from ondol.model.principals import AccessKey
from ondol.node.lines import SupervisorLine, die_with_parent, receive
from ondol.sandbox import NETWORK_NONE

log = logging.getLogger(__name__)

#: Objects made and not yet freed between two looks for garbage: requests make few cycles.
GARBAGE_OBJECTS: Final = 50_000

_LOG_FORM: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the supervisor tells a child first."""

    settings: Settings
    #: The owner's key, and the bytes that session credentials are derived from.
    key: AccessKey
    secret: bytes
    #: Where functions and clients of this machine reach the node.
    endpoint: str
    #: Inherited listening sockets, by name.
    sockets: dict[str, int]
    #: Found by the supervisor, who sees more of the machine than its children may; as plain values.
    interpreters: list[dict[str, Any]]
    #: What the supervisor found of isolation, as plain values.
    isolation: list[dict[str, Any]] = field(default_factory=list)
    #: What functions may reach, the default first.
    networks: list[str] = field(default_factory=lambda: [NETWORK_NONE])
    #: Which of the fronts this is, from 0.
    front: int = 0
    #: What functions may ask for.
    levels: Isolation = field(default_factory=Isolation)

    def message(self) -> dict[str, Any]:
        """As JSON holds it."""
        plain = msgspec.to_builtins(self, enc_hook=str)
        assert isinstance(plain, dict)
        return plain

    @classmethod
    def of(cls, message: dict[str, Any]) -> Orders:
        return msgspec.convert(message, cls, dec_hook=lambda kind, value: kind(value))

    @property
    def data(self) -> Path:
        return self.settings.data

    @property
    def makers(self) -> set[str]:
        """The processes that make sandboxes."""
        return {MAKERS[level] for level in self.levels.offered}

    def listener(self, name: str) -> socket.socket:
        return socket.socket(fileno=self.sockets[name])


def begin(line_fd: int, role: str) -> tuple[Orders, socket.socket]:
    """First thing in a child: never outlive the supervisor, take orders, log to stderr."""
    die_with_parent()
    # Every connection and every environment costs descriptors.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    line = socket.socket(fileno=line_fd)
    received = receive(line)
    if received is None:
        sys.exit(1)
    orders = Orders.of(received[0])
    logging.basicConfig(level=orders.settings.log_level.upper(), format=f"{role} {_LOG_FORM}", stream=sys.stderr)
    return orders, line


class Tasks:
    """Background work of a process: held, and ended with it. A task that fails ends the process, which is started again."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed; starting again", task.get_name(), exc_info=error)
            if not self.failed.done():
                self.failed.set_exception(error)


def settle_garbage() -> None:
    """What is there now stays: no collection looks at it again, and what comes later is looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 100)


async def until_stopped(
    line: socket.socket, tasks: Tasks, on_line: Callable[[str, socket.socket], None], stop: Callable[[float], Awaitable[None]]
) -> None:
    """Serve until the supervisor says stop (or is gone, or a task fails), then `stop(seconds)`."""
    supervisor = SupervisorLine(line, on_line)
    settle_garbage()
    try:
        ends: list[asyncio.Future[Any]] = [supervisor.stopped, tasks.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await stop(supervisor.stopped.result() if supervisor.stopped.done() else 0.0)
        await tasks.close()
    finally:
        supervisor.close()
    if tasks.failed.done():
        tasks.failed.result()
