"""Lines: SOCK_SEQPACKET sockets that carry one JSON object per message, and descriptors with it.

Never blocks: what the peer does not take yet waits in a bounded outbox, and a peer that lets it fill is a broken one.
Knows no operation. Invariant: a received descriptor is handed on or closed, once.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from typing import Any

from ondol import syscalls

MESSAGE_BYTES_MAX = 65536
DESCRIPTORS_MAX = 16
OUTBOX_MESSAGES_MAX = 4096

Message = dict[str, Any]


class Closed(Exception):  # noqa: N818
    """The peer is gone, or speaks another language."""


class Line:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._outbox: deque[tuple[bytes, list[int]]] = deque()

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def backlog(self) -> int:
        """Messages that wait for the peer."""
        return len(self._outbox)

    def receive(self) -> tuple[Message, list[int]] | None:
        """The next message with its descriptors, or None when there is none now. Raises Closed."""
        try:
            data, fds, flags = syscalls.recv_fds(self._sock, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise Closed(str(error)) from error
        try:
            if not data:
                raise Closed("end of line")
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise Closed("a message too long")
            message = json.loads(data)
            if not isinstance(message, dict):
                raise Closed("a message that is no object")
        except (Closed, ValueError, RecursionError) as error:
            close_all(fds)
            raise Closed(str(error)) from error
        return message, fds

    def send(self, message: Message, fds: tuple[int, ...] | list[int] = ()) -> None:
        """Send, now or when the peer takes it. The descriptors stay the caller's. Raises Closed."""
        data = json.dumps(message, separators=(",", ":")).encode()
        if not self._outbox and self._try(data, list(fds)):
            return
        if len(self._outbox) >= OUTBOX_MESSAGES_MAX:
            raise Closed("the peer does not read")
        self._outbox.append((data, [os.dup(fd) for fd in fds]))

    def flush(self) -> None:
        """Send what waits, as far as the peer takes it. Raises Closed."""
        while self._outbox:
            data, fds = self._outbox[0]
            if not self._try(data, fds):
                return
            self._outbox.popleft()
            close_all(fds)

    def close(self) -> None:
        for _, fds in self._outbox:
            close_all(fds)
        self._outbox.clear()
        self._sock.close()

    def _try(self, data: bytes, fds: list[int]) -> bool:
        try:
            if fds:
                socket.send_fds(self._sock, [data], fds, socket.MSG_NOSIGNAL)
            else:
                self._sock.send(data, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            raise Closed(str(error)) from error
        return True


def close_all(fds: list[int] | tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
