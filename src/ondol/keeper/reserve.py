"""What of the disk is kept for the node: functions together leave so much of it free, however much each may write.

Each /tmp has its bound, and the sum of those may be more than the disk. Under the reserve no shell is prepared or attached, and
of those that hold something the largest holder is ended, one after the other, until there is room again: its files go with it,
and its function is told that its process was killed. Who does not hold much is not ended: the disk is somebody else's then.
Knows nothing of lines or of how shells end.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from ondol.keeper.loop import Loop, Sleep, Step

MIB_DEFAULT = 256
INTERVAL_S = 0.05
#: How long the kernel and a front may take to let go of an ended shell before the next one is ended.
FREED_S_MAX = 1.0
#: Who holds less is not ended.
HELD_BYTES_MIN = 16 << 20

_Shell = TypeVar("_Shell")


class Reserve:
    """Of the disk that `directory` is on. `mib` 0: nothing is kept."""

    def __init__(self, loop: Loop, directory: str, mib: int) -> None:
        self._loop = loop
        self._directory = directory
        self._bytes = mib << 20
        self._ending = False

    def check(self) -> None:
        """Raises OSError (ENOSPC) when there is no room for another shell."""
        left = self._left()
        if left < self._bytes:
            raise OSError(
                errno.ENOSPC,
                f"the data directory's disk has {left >> 20} MiB left, and {self._bytes >> 20} MiB are kept for the node "
                "(--disk-reserve-mib): make room, or give the data directory a larger disk",
            )

    def watch(self, shells: Mapping[str, _Shell], held: Callable[[_Shell], int], end: Callable[[_Shell], Step | None]) -> None:
        """Look from now on. `held`: bytes of a shell's on the disk; `end`: what ends it, whole; None where it ends already."""
        if self._bytes and not self._ending and self._left() < self._bytes and shells:
            most, largest = max(((held(shell), shell) for shell in list(shells.values())), key=lambda pair: pair[0])
            ending = end(largest) if most >= HELD_BYTES_MIN else None
            if ending is not None:
                self._ending = True
                self._loop.spawn(self._until_ended(ending))
        self._loop.later(INTERVAL_S, lambda: self.watch(shells, held, end))

    def _until_ended(self, ending: Step) -> Step:
        try:
            yield from ending
            waited_s = 0.0
            while self._left() < self._bytes and waited_s < FREED_S_MAX:  # the front has to let go of the namespaces, too
                yield Sleep(INTERVAL_S)
                waited_s += INTERVAL_S
        finally:
            self._ending = False

    def _left(self) -> int:
        there = os.statvfs(self._directory)
        return there.f_bavail * there.f_frsize


def held(directory: str) -> int:
    """Bytes on disk of the images in a shell's directory."""
    found = 0
    with suppress(OSError):  # it goes while we look
        for entry in os.scandir(directory):
            if entry.name.endswith(".img"):
                found += entry.stat(follow_symlinks=False).st_blocks * 512
    return found
