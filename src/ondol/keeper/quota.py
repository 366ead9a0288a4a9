"""The bound on a shell's /tmp where the file system has none: walk it now and then, and tell who is over.

A walk counts blocks and entries, a slice at a time, so that a tree of a million files never holds up the keeper. It follows
nothing: directories are opened without links, by descriptor, so a function cannot lead it out of its own /tmp.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

ENTRIES_MAX = 200_000
#: Entries looked at before others get their turn.
SLICE_ENTRIES = 200
DEPTH_MAX = 64
INTERVAL_S = 1.0


class Over(Exception):  # noqa: N818
    """The tree is over its bound."""


def walk(path: str, bytes_max: int) -> Iterator[None]:
    """Yields after each slice. Raises Over."""
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    used = entries = 0
    stack = [top]
    try:
        while stack:
            directory = stack.pop()
            try:
                names = os.listdir(directory)
                for name in names:
                    entries += 1
                    used += _size(directory, name, stack)
                    if used > bytes_max or entries > ENTRIES_MAX:
                        raise Over
                    if entries % SLICE_ENTRIES == 0:
                        yield
            finally:
                os.close(directory)
    finally:
        for directory in stack:
            os.close(directory)


def _size(directory: int, name: str, stack: list[int]) -> int:
    """Bytes on disk of one entry; directories go on the stack."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if len(stack) >= DEPTH_MAX * 8:
                raise Over
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            stack.append(os.open(name, flags, dir_fd=directory))
    except FileNotFoundError:
        return 0
    return status.st_blocks * 512
