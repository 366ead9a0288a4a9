"""Connections to a server somewhere else, by its address of HTTP. Knows nothing of what is asked there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from ondol.http.client import HttpClient
from ondol.http.limits import ClientLimits


def client_of(url: str, limits: ClientLimits) -> HttpClient:
    """A client of the server at "http://HOST[:PORT]" or "https://…". Names are looked up for each connection."""
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    return HttpClient(_dialling(host, port), limits, tls_name=host if tls else "")


def _dialling(host: str, port: int) -> Callable[[], Awaitable[socket.socket]]:
    async def dial() -> socket.socket:
        loop = asyncio.get_running_loop()
        error: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, address)
                return sock
            except OSError as failed:
                sock.close()
                error = failed
            except BaseException:
                sock.close()
                raise
        raise error

    return dial
