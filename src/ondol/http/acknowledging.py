"""Acknowledgements that do not wait.

A client that writes a request in pieces, and lets none go while one is under way (Nagle's algorithm, on unless switched off),
stands still for 40 ms at each: the kernel holds the acknowledgement back for an answer to ride on, which cannot come before
the request is whole.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress


def acknowledge(transport: asyncio.BaseTransport | None) -> None:
    """Have the kernel acknowledge what was read so far, and what comes next, at once; it forgets that by itself."""
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
        with suppress(OSError):  # the connection is gone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
