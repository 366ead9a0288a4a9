"""Disks of ended shells to which nothing was written: the next shell of the same account has one again.

Most functions never write to /tmp, and to make a disk, mount it and take it apart again costs a shell more than all else. So
the keeper holds on to a shell's disk while that lives, and afterwards hands it on if it can be seen that nothing ever happened
to it: its root directory is what it was when the disk was made, to each time stamp (a file that was made and removed again has
changed two of them, and nobody can set the time of the last change); no block and no inode of it is in use that was not, it can
still be written to; and its image has not grown, as it would by files without a name.

Invariants: a disk stays with its account's user; one that was in a shell with the machine's network, where a process can hand
what it has open to one of another shell, is not handed on. Knows nothing of shells.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass, replace

from ondol import syscalls
from ondol.keeper.disks import TMP_MIB_DEFAULT, Disks
from ondol.keeper.loop import Loop

#: In all, and for how long one waits for a shell.
SPARES_MAX = 32
SPARE_S_MAX = 30.0
TRIM_EVERY_S = 2.0
#: A disk must be so old before a function sees it: within one tick of the kernel's clock two changes have the same time.
SETTLED_S = 0.05
#: What the kernel writes to an image by itself.
_GROWN_BYTES_MAX = 256 << 10

_State = tuple[int, ...]


@dataclass(frozen=True)
class Disk:
    """A hold on one, besides its shell's."""

    mounted: int
    image: str
    uid: int
    made_s: float
    #: When that was made, and the image's bytes.
    state: _State
    image_bytes: int

    @property
    def untouched(self) -> bool:
        """Whether nothing has ever been done to it. False where that cannot be told."""
        try:
            return _state(self.mounted) == self.state and _bytes(self.image) <= self.image_bytes + _GROWN_BYTES_MAX
        except OSError:
            return False

    @property
    def settled(self) -> bool:
        """Whether a change from now on would be seen."""
        return time.monotonic() - self.made_s >= SETTLED_S


class Spares:
    """Of one node, in a directory beside its shells'."""

    def __init__(self, loop: Loop, disks: Disks, directory: str) -> None:
        self._loop = loop
        self._disks = disks
        self._directory = f"{directory}/.spare"
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._number = 0
        #: The oldest first, with the time at which each came.
        self._spares: deque[tuple[float, Disk]] = deque()

    def take(self, path: str, uid: int, gid: int) -> tuple[int, Disk | None]:
        """A disk of the usual size, in the image file `path`: a detached mount, and the hold on it if there can be one."""
        for spare in reversed(self._spares):
            if spare[1].uid == uid:
                self._spares.remove(spare)
                disk = spare[1]
                os.rename(disk.image, path)
                return syscalls.open_tree_at(disk.mounted), replace(disk, image=path)
        mounted = self._disks.make(path, TMP_MIB_DEFAULT, uid, gid)
        try:
            held = syscalls.open_tree_at(mounted)
        except OSError:  # before Linux 6.15 there is no copy of a detached mount
            return mounted, None
        return mounted, Disk(held, path, uid, time.monotonic(), _state(held), _bytes(path))

    def give_back(self, disk: Disk) -> None:
        """Its shell is no more, and its directory is about to go."""
        if len(self._spares) >= SPARES_MAX or not disk.untouched:
            os.close(disk.mounted)
            return
        self._number += 1
        kept = replace(disk, image=f"{self._directory}/{self._number}.img")
        try:
            os.rename(disk.image, kept.image)
        except OSError:
            os.close(disk.mounted)
            return
        if not self._spares:
            self._loop.later(TRIM_EVERY_S, self._trim)
        self._spares.append((time.monotonic(), kept))

    def _trim(self) -> None:
        """Let go of one that has waited too long; again while there are any."""
        if self._spares and time.monotonic() - self._spares[0][0] > SPARE_S_MAX:
            _, disk = self._spares.popleft()
            os.close(disk.mounted)
            os.unlink(disk.image)
        if self._spares:
            self._loop.later(TRIM_EVERY_S, self._trim)


def _state(mounted: int) -> _State:
    """All that is known of the root directory, and what the file system has left."""
    root, whole = os.fstat(mounted), os.statvfs(mounted)
    times = (root.st_atime_ns, root.st_mtime_ns, root.st_ctime_ns)
    named = (root.st_mode, root.st_nlink, root.st_uid, root.st_gid, root.st_size, root.st_blocks)
    return (*times, *named, whole.f_bfree, whole.f_ffree, whole.f_flag)


def _bytes(image: str) -> int:
    return os.stat(image).st_blocks * 512
