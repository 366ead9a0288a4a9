"""Telemetry's last steps, the node's half: a process of ours in the shell carries each batch to whom it is for.

The node never connects to anything in there, nor reads what is answered: `ondol_guest/courier.py` does, behind the function's
walls and in its memory, and says of each batch whether it was taken. It is started by the first subscription.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ondol.model.errors import StartFailed, Unavailable
from ondol.runtime import Call, Ending
from ondol.runtimes.link import Link
from ondol.runtimes.telemetry_wanted import Wanted
from ondol.sandbox import Child
from ondol_guest import frames
from ondol_guest.courier import DELIVERY_S_MAX

#: More than the courier itself allows: then it is the courier that is stuck.
ANSWER_S_MAX: Final = DELIVERY_S_MAX + 2.0

#: What it may hold where each process is bounded by itself: some batches, twice.
MEMORY_MIB: Final = 64

log = logging.getLogger(__name__)


class Courier:
    """Of one environment. `fork` puts a child into its shell."""

    def __init__(self, fork: Callable[[], Awaitable[Child]]) -> None:
        self._fork = fork
        self._starting: asyncio.Task[Link] | None = None

    async def open(self) -> None:
        """Start it, once. Raises Unavailable where there can be none."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except OSError as error:
            raise StartFailed(f"telemetry cannot be delivered: {error}") from error

    async def deliver(self, wanted: Wanted, data: bytes) -> bool:
        """Whether the subscriber took it. Never raises for what happens inside."""
        meta = {"protocol": wanted.protocol, "port": wanted.port, "path": wanted.path, "method": wanted.method}
        call = Call(meta=json.dumps(meta).encode(), payload=data)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await self.open()
                assert self._starting is not None
                answer = await self._starting.result().call(call, _nowhere)
        except (Unavailable, TimeoutError) as error:
            log.info("a batch of telemetry could not be delivered: %s", error or "no answer")
            return False
        return answer.ending is Ending.OK

    def close(self) -> None:
        """Let go of it; whoever ends the shell's processes ends it."""
        if self._starting is None:
            return
        self._starting.cancel()
        self._starting.add_done_callback(lambda done: None if done.cancelled() or done.exception() else done.result().close())

    async def _start(self) -> Link:
        init = {"guest": "courier", "handler": "", "variables": {}, "memory_mib": MEMORY_MIB, "cwd": "/", "path": []}
        init["path_last"] = ["/var/runtime"]
        return await Link.open(await self._fork(), frames.pack(frames.INIT, 0, json.dumps(init).encode()), _nowhere)


def _nowhere(text: str, at_ms: int | None) -> None:
    """It has nothing to say; what stands in its log was written by somebody who took its place."""
