"""The bound on a shell's /tmp where the file system has none: walk it now and then, and tell who is over.

A walk counts blocks and entries, a slice at a time, so that a tree of a million files never holds up the keeper. It follows
nothing: directories are opened without links, by descriptor, so a function cannot lead it out of its own /tmp.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

ENTRIES_MAX = 200_000
#: Entries looked at before others get their turn.
SLICE_ENTRIES = 200
DEPTH_MAX = 64
INTERVAL_S = 1.0
#: Under way at once.
WALKS_MAX = 16
#: It was there, or was a directory, a moment ago: its owner is at work.
_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Over(Exception):  # noqa: N818
    """The tree is over its bound."""


def walk(path: str, bytes_max: int, counted: Callable[[int], None] = lambda _: None) -> Iterator[None]:
    """Yields after each slice, and tells at its end what it `counted`, in bytes. Raises Over.

    Depth first, so that as many directories are open as the tree is deep, and no more than DEPTH_MAX: a function chooses its
    tree's shape, and the keeper's descriptors are everybody's.
    """
    try:
        top = _open(path)
    except FileNotFoundError:
        return
    used = entries = 0
    stack = [top]
    try:
        while stack:
            entry = next(stack[-1][1], None)
            if entry is None:
                _close(stack.pop())
                continue
            entries += 1
            used += _size(entry, stack)
            if used > bytes_max or entries > ENTRIES_MAX:
                raise Over
            if entries % SLICE_ENTRIES == 0:
                yield
        counted(used)
    finally:
        for directory in stack:
            _close(directory)


#: A directory that is being read: its descriptor, and what is left of its entries, which are read as they are asked for.
_Directory = tuple[int, Iterator[os.DirEntry[str]]]


def _open(name: str, directory: int | None = None) -> _Directory:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        return fd, os.scandir(fd)
    except OSError:
        os.close(fd)
        raise


def _close(directory: _Directory) -> None:
    directory[1].close()  # type: ignore[attr-defined]  # typeshed knows it as a context manager only
    os.close(directory[0])


def _size(entry: os.DirEntry[str], stack: list[_Directory]) -> int:
    """Bytes on disk of one entry; a directory goes on the stack."""
    parent = stack[-1][0]
    try:
        status = os.stat(entry.name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if len(stack) >= DEPTH_MAX:
                raise Over
            stack.append(_open(entry.name, parent))
    except OSError as error:
        if error.errno in _CHANGED:
            return 0
        raise
    return status.st_blocks * 512
