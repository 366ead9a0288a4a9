"""What of the disk is kept for the node: functions together leave so much of it free, however much each may write.

Each /tmp has its bound, and the sum of those may be more than the disk. Under the reserve no shell is prepared or attached, and
of those that hold something the largest holder is ended, one after the other, until there is room again: its files go with it,
and its function is told that its process was killed. Who does not hold much is not ended: the disk is somebody else's then.

A writer may be quicker than that: memory takes a gigabyte a second before any of it is on a disk. So

- while the disk falls so fast that the reserve would be reached within SOON_S, it is looked at more often, and what each holds
  is counted at each look: counts of a second ago may say that nobody holds anything;
- with less than half of the reserve left, and still falling, the next holder is ended without waiting for what the last one
  held: there is one more writer, at least. While it does not fall, nobody is ended for what is on its way out.

Knows nothing of lines or of how shells end.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from ondol.keeper.loop import Loop, Sleep, Step

MIB_DEFAULT = 256
INTERVAL_S = 0.05
#: While the disk falls fast.
HURRIED_S = 0.005
SOON_S = 0.5
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
        #: Shells that were ended for it, and of which something may still be there.
        self._ending = 0
        #: What was left when that was last looked at, and when that was.
        self._last = (0, 0.0)

    def check(self) -> None:
        """Raises OSError (ENOSPC) when there is no room for another shell."""
        left = self._left()
        if left < self._bytes:
            raise OSError(
                errno.ENOSPC,
                f"the data directory's disk has {left >> 20} MiB left, and {self._bytes >> 20} MiB are kept for the node "
                "(--disk-reserve-mib): make room, or give the data directory a larger disk",
            )

    def watch(
        self,
        shells: Mapping[str, _Shell],
        held: Callable[[_Shell], int],
        end: Callable[[_Shell], Step | None],
        count: Callable[[], None],
    ) -> None:
        """Look from now on. `held`: bytes of a shell's on the disk, as last counted; `count`: counts them anew.

        `end`: what ends a shell, whole; None where it ends already.
        """
        if self._bytes:
            (before, at_s), now_s, left = self._last, time.monotonic(), self._left()
            self._last = (left, now_s)
            fell = before - left
            hurried = fell > 0 and left - fell / (now_s - at_s) * SOON_S < self._bytes
            if hurried:
                count()
            if left < self._bytes and (not self._ending or (fell > 0 and left < self._bytes // 2)):
                self._end_largest(shells, held, end)
            self._loop.later(HURRIED_S if hurried else INTERVAL_S, lambda: self.watch(shells, held, end, count))

    def _end_largest(
        self, shells: Mapping[str, _Shell], held: Callable[[_Shell], int], end: Callable[[_Shell], Step | None]
    ) -> None:
        """The one that holds most of those that are not ending, if that is much."""
        sizes = [(held(shell), shell) for shell in shells.values()]
        for size, shell in sorted(sizes, key=lambda pair: pair[0], reverse=True):
            if size < HELD_BYTES_MIN:
                return
            if (ending := end(shell)) is not None:
                self._ending += 1
                self._loop.spawn(self._until_ended(ending))
                return

    def _until_ended(self, ending: Step) -> Step:
        try:
            yield from ending
            waited_s = 0.0
            while self._left() < self._bytes and waited_s < FREED_S_MAX:  # the front has to let go of the namespaces, too
                yield Sleep(INTERVAL_S)
                waited_s += INTERVAL_S
        finally:
            self._ending -= 1

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
