"""Ways for an ordinary user through directories that let only root pass, in a mount namespace of one's own.

An interpreter or a checkout may lie below a mode-700 home. There a small tmpfs takes the barring directory's place and shows
nothing but the paths to keep, at their real names. Standard library and `ondol.syscalls` only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ondol import syscalls


def open_ways(uid: int, gid: int, keep: Sequence[Path]) -> None:
    """Put a tmpfs with nothing but `keep` over each directory on the way that this user may not pass."""
    for wall, paths in walls(uid, gid, keep).items():
        trees = {path: syscalls.open_tree(os.path.realpath(path), recursive=True) for path in paths}
        syscalls.mount("ondol-way", wall, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=1m")
        for path, tree in trees.items():
            _place(tree, path)
            os.close(tree)
        where = os.open(wall, os.O_PATH | os.O_CLOEXEC)
        syscalls.mount_setattr(where, syscalls.ATTR_RDONLY)
        os.close(where)


def walls(uid: int, gid: int, keep: Sequence[Path]) -> dict[str, list[str]]:
    """The outermost directories that bar the way, each with the outermost paths to show below it, shortest first."""
    found: dict[str, list[str]] = {}
    wanted = {os.path.abspath(p) for p in keep} | {os.path.realpath(p) for p in keep}
    for path in sorted(wanted, key=len):
        wall = next((str(a) for a in reversed(Path(path).parents) if not _may_pass(a, uid, gid)), None)
        if wall is None:
            continue
        shown = found.setdefault(wall, [])
        if not any(path.startswith(f"{other}/") for other in shown):
            shown.append(path)
    return found


def _may_pass(directory: Path, uid: int, gid: int) -> bool:
    try:
        status = directory.stat()
    except FileNotFoundError:
        return True
    bit = stat.S_IXUSR if status.st_uid == uid else stat.S_IXGRP if status.st_gid == gid else stat.S_IXOTH
    return bool(status.st_mode & bit)


def _place(tree: int, path: str) -> None:
    """Directories on the way are for everybody to pass, whatever the operator's umask."""
    umask = os.umask(0o022)
    try:
        _make_place(tree, path)
    finally:
        os.umask(umask)
    syscalls.move_mount(tree, path)


def _make_place(tree: int, path: str) -> None:
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
