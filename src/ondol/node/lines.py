"""What comes over the supervisor's line to a child: settings first, then lines to other children, then the word to stop."""

from __future__ import annotations

import array
import ctypes
import json
import os
import signal
import socket
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
