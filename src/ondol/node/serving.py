"""What both unprivileged processes do around their rooms: read their settings, serve until told to stop, keep their tasks."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from ondol.node.lines import die_with_parent, receive
from ondol.node.nursery import Birth
from ondol.node.orders import Orders

log = logging.getLogger(__name__)

#: Objects made and not yet freed between two looks for garbage: requests make few cycles.
GARBAGE_OBJECTS: Final = 50_000

_LOG_FORM: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def begin(born: Birth) -> Orders:
    """First thing in a child: never outlive the supervisor, take orders, log to stderr."""
    die_with_parent()
    # Every connection and every environment costs descriptors.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    received = receive(born.line)
    if received is None:
        sys.exit(1)
    orders = Orders.of(received[0])
    level = orders.settings.log_level.upper()
    logging.basicConfig(level=level, format=f"{born.role} {_LOG_FORM}", stream=sys.stderr)
    return replace(orders, sockets={name: born.descriptors[number] for name, number in orders.sockets.items()})


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


class SupervisorLine:
    """Watches the line in the loop: `on_line(name, socket)` for each line given, `stopped` is set by the word to stop."""

    def __init__(self, line: socket.socket, on_line: Callable[[str, socket.socket], None]) -> None:
        self._line = line
        self._on_line = on_line
        #: Resolves to the seconds there are for an orderly end.
        self.stopped: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        line.setblocking(False)
        asyncio.get_running_loop().add_reader(line.fileno(), self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._line.fileno())
        self._line.close()

    def _readable(self) -> None:
        try:
            received = receive(self._line)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            asyncio.get_running_loop().remove_reader(self._line.fileno())
            self._stop(0.0)
            return
        message, fds = received
        if "line" in message and fds:
            self._on_line(message["line"], socket.socket(fileno=fds[0]))
        elif "stop" in message:
            self._stop(float(message["stop"]))

    def _stop(self, seconds: float) -> None:
        if not self.stopped.done():
            self.stopped.set_result(seconds)


@contextmanager
def uncollected() -> Iterator[None]:
    """For the making of very many objects that stay: no collection looks at them, in between or ever after."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


def settle_garbage() -> None:
    """What is there now stays: no collection looks at it again, and what comes later is looked at less often. What was needed
    only to begin is given back to the kernel: a tenth of a desk that has read a catalog of 10,000 functions.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
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
