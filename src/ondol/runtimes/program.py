"""A child that is to become a program: telling it so, and hearing why it could not. What it then does is others' business."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

from ondol.runtimes.metas import meta_of
from ondol.sandbox import Child
from ondol_guest import frames

#: What a child may say on the wire before it is executed.
WIRE_BYTES_MAX: Final = 8192

log = logging.getLogger(__name__)


class Becoming:
    """Owns the child's wire, which closes when the program is there. Make it where an event loop runs."""

    def __init__(self, wire: int, failed: Callable[[str, int], None]) -> None:
        """`failed` is called with the program's path and the system's error number when it could not be executed."""
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        self._said = bytearray()
        self._wire = socket.socket(fileno=wire)
        self._wire.setblocking(False)
        self._loop.add_reader(self._wire.fileno(), self._heard)

    def tell(self, told: Mapping[str, Any]) -> None:
        """What to become (`ondol_guest.executing`). Raises OSError: it is small, and nothing was sent before."""
        data = frames.pack(frames.INIT, 0, json.dumps({"exec": told}).encode())
        if self._wire.send(data) != len(data):
            raise OSError(errno.EMSGSIZE, "more than a socket takes at once")

    def close(self) -> None:
        """Hear no more. Idempotent."""
        if self._wire.fileno() >= 0:
            self._loop.remove_reader(self._wire.fileno())
            self._wire.close()

    def _heard(self) -> None:
        """The wire closes when the program is there; before that comes why it is not."""
        try:
            data = self._wire.recv(WIRE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._said += data
        if data and len(self._said) <= WIRE_BYTES_MAX:
            return
        self.close()
        try:
            for kind, _, _, payload in frames.FrameReader().feed(bytes(self._said)):
                if kind == frames.INIT_FAILED:
                    meta = meta_of(frames.split_meta(payload)[0])
                    self._failed(str(meta.get("exec", "")), int(meta.get("errno", 0)))
        except (frames.BrokenFrame, ValueError, TypeError, OverflowError) as error:
            log.warning("a child that was to be executed broke the protocol: %s", error)


async def exit_of(child: Child) -> int:
    """How it ended. When nobody can tell, its zygote is gone, and then it was killed."""
    try:
        return await child.wait()
    except Exception as error:
        log.warning("how process %d ended is not known: %s", child.pid, error)
        return -signal.SIGKILL


def ended(status: int) -> str:
    """How a process ended, as the documented system writes it. `status`: exit status, or minus the signal's number."""
    if status == 0:
        return "exit code 0"
    if status > 0:
        return f"exit status {status}"
    return f"signal: {(signal.strsignal(-status) or str(-status)).lower()}"


def reason(number: int) -> str:
    """What the system calls its error, as the documented one writes it."""
    text = os.strerror(number)
    return text[:1].lower() + text[1:]
