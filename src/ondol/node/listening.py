"""The node's listening sockets, bound before anything is started: what cannot be had is one clear sentence and no half node."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import Final

from ondol.model.errors import Unavailable

BACKLOG: Final = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises Unavailable with a sentence that says how to mend it."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise Unavailable(
            f"{host!r} is no address of this machine ({error.strerror}): choose another --listen HOST:PORT"
        ) from None
    family, kind, protocol, _name, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Unavailable(_sentence(error, host, port)) from None
    return sock


def _sentence(error: OSError, host: str, port: int) -> str:
    mend = "choose another with --listen HOST:PORT"
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is in use, by another node perhaps (`ondol ls` would tell): stop it, or {mend}"
        case errno.EACCES | errno.EPERM:
            return f"port {port} may only be used by root: {mend} above 1023"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine: {mend}"
    return f"cannot listen on {host}:{port} ({error.strerror}): {mend}"
