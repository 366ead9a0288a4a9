"""The node's listening sockets, bound before anything is started: what cannot be had is one clear sentence and no half node."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import Any, Final

from ondol.model.errors import Unavailable

BACKLOG: Final = 2048


def listen_many(host: str, port: int, count: int) -> list[socket.socket]:
    """So many sockets that listen on one port, among which the kernel shares out connections. Raises as `listen`.

    Who holds one of them keeps what comes to it waiting, whoever accepts from it, so that no connection is refused meanwhile.
    """
    first = listen(host, port, shared=count > 1)
    socks = [first]
    try:
        while len(socks) < count:
            socks.append(_bound(first.family, first.getsockname(), shared=True, alone=False))
            socks[-1].listen(BACKLOG)
    except OSError as error:
        for sock in socks:
            sock.close()
        raise Unavailable(_sentence(error, host, port)) from None
    return socks


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket. Raises Unavailable with a sentence that says how to mend it.

    `shared`: more of ours may listen beside it. It is refused all the same where another listens already.
    """
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise Unavailable(
            f"{host!r} is no address of this machine ({error.strerror}): choose another --listen HOST:PORT"
        ) from None
    family, _kind, _protocol, _name, where = address
    try:
        sock = _bound(family, where, shared=shared, alone=True)
    except OSError as error:
        raise Unavailable(_sentence(error, host, port)) from None
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Unavailable(_sentence(error, host, port)) from None
    return sock


def _bound(family: int, where: Any, *, shared: bool, alone: bool) -> socket.socket:
    """`alone`: only where nobody else is, not even one who would share."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if not alone:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
        if shared:  # said after binding: before, another node that shares its port would have been joined
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        sock.close()
        raise
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
