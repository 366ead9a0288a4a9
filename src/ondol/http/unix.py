"""Unix sockets at paths of any length.

The kernel's sun_path holds 107 bytes; a data directory deep in a home directory does not fit. The socket is therefore
named through a descriptor of its directory (`/proc/self/fd/N/name`), which is short whatever the path is. Only the last
name has a bound.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_NAME_BYTES_MAX = 80


@contextlib.contextmanager
def short_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """A name of the same socket that fits; good inside the `with` only."""
    folder, name = os.path.split(os.fspath(path))
    if not name or len(os.fsencode(name)) > _NAME_BYTES_MAX:
        raise ValueError(f"a socket's file name has 1 to {_NAME_BYTES_MAX} bytes, this one is {name!r}")
    directory = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{name}"
    finally:
        os.close(directory)


def listen(path: str | os.PathLike[str], *, backlog: int = 512, mode: int = 0o600) -> socket.socket:
    """A listening, non-blocking socket at `path`. A file there is replaced: who calls holds the lock."""
    Path(path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as name:
            sock.bind(name)
            Path(name).chmod(mode)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


async def connect(path: str | os.PathLike[str]) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError when nobody listens there."""
    import asyncio  # who only listens, as the supervisor does, runs no loop

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with short_path(path) as name:
            await asyncio.get_running_loop().sock_connect(sock, name)
    except BaseException:
        sock.close()
        raise
    return sock
