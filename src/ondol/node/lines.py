"""A child's end of the supervisor's line: settings first, then lines to other children, then the word to stop."""

from __future__ import annotations

import array
import asyncio
import ctypes
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

MESSAGE_BYTES_MAX: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies; leave at once if that has happened already."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def receive(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """One message and its descriptors; None when the supervisor is gone."""
    data, ancillary, _flags, _address = line.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_SPACE(8 * 4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return (json.loads(data), list(fds)) if data else None


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
