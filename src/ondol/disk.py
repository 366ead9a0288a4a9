"""What every room that writes files needs: sentences for a full disk, and files that are whole or not there.

It knows nothing of what is written. Its one rule: a file that another process can see under its name is complete.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ondol.model.errors import OndolError, OutOfSpace, Unavailable

#: The disk is full, the user's quota is used up, or a file may not grow further.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """Turns the operating system's refusals into one sentence about `place` that says how to mend it."""
    try:
        yield
    except OSError as error:
        raise explain(error, place) from error


def explain(error: OSError, place: Path) -> OndolError:
    """The error to raise for `error`, met while writing to `place`."""
    if error.errno in _FULL:
        return OutOfSpace(f"No space is left for {place}: free some, or move the data to a larger disk (--data DIR).")
    if error.errno in _REFUSED:
        user = f"user {os.geteuid()}"
        return Unavailable(
            f"{error.filename or place} may not be written by {user}: give it the rights, or choose another place (--data DIR)."
        )
    return Unavailable(f"{error.filename or place} cannot be used: {error.strerror or error}.")


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """`path` holds `content` and is on disk when this returns, or is as it was before."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    sync_directory(path.parent)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Every byte of `content`, or an OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: Path) -> None:
    """Names made, changed or removed in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(path: Path) -> None:
    """Everything written below `path` is on disk. One call, where syncing 10,000 small files one by one takes seconds."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(descriptor)
