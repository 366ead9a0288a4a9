"""Jobs of the helper process: an archive becomes `SHA256/archive.zip` and `SHA256/tree/`, whole or not at all.

A job works in a directory of its own below `scratch` and renames it into place last. Ended at any moment, it leaves at most
that directory, which `clear` removes, or the next start of the node. Arguments and results are plain data, because they cross
a process.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from ondol.blobstores.archive import Planned, Survey, What, contents, survey
from ondol.blobstores.sources import looked_at
from ondol.disk import explained, sync_directory, sync_filesystem, write_all
from ondol.model.errors import InvalidCode, TooLarge
from ondol.model.limits import CODE_ENTRIES_MAX, CODE_UNPACKED_BYTES_MAX

#: Functions run as another user than the one who unpacks; the data directory above is closed to all others.
_DIRECTORY_MODE = 0o755
#: Entries of an archive whose files are synced one by one.
_SYNCED_SINGLY_MAX = 32


def take(
    *,
    archive: str,
    shelf: str,
    scratch: str,
    zipped_bytes_max: int = CODE_UNPACKED_BYTES_MAX,
    unpacked_bytes_max: int = CODE_UNPACKED_BYTES_MAX,
    entries_max: int = CODE_ENTRIES_MAX,
) -> dict[str, Any]:
    """Checks, unpacks and keeps the zip file `archive`; what a `Code` says about it."""
    place = Path(shelf)
    with explained(place):
        data = _content(Path(archive), zipped_bytes_max)
        if not data:
            raise InvalidCode("The archive is empty.")
        plan = survey(data, unpacked_bytes_max=unpacked_bytes_max, entries_max=entries_max)
        if not any(entry.what is What.FILE for entry in plan.entries):
            raise InvalidCode("The archive holds no file.")
        sha256 = hashlib.sha256(data).hexdigest()
        kept = place / sha256
        if kept.is_dir():
            os.utime(kept)  # wanted again: `sweep` counts its age from now
        else:
            _keep(data, plan, kept, Path(scratch))
    found = looked_at(data, plan.entries)
    return {"sha256": sha256, "zipped_bytes": len(data), "unpacked_bytes": plan.unpacked_bytes, **found}


def merge(*, sha256s: list[str], shelf: str, scratch: str) -> str:
    """Makes one tree of those of several blobs, later ones over earlier ones; its name is that of this list of blobs.

    Its files are the blobs' own, linked: it costs directories, and outlives the blobs.
    """
    place = Path(shelf)
    sha256 = hashlib.sha256("\n".join(["merged", *sha256s]).encode()).hexdigest()
    kept = place / sha256
    with explained(place):
        if kept.is_dir():
            os.utime(kept)
            return sha256
        work = Path(scratch) / f"merge-{sha256}-{secrets.token_hex(4)}"
        try:
            _make(work)
            _make(work / "tree")
            for each in sha256s:
                _overlay(place / each / "tree", work / "tree")
            sync_filesystem(work)
            with suppress(FileExistsError):
                _rename(work, kept)
            sync_directory(place)
        finally:
            if work.exists():
                shutil.rmtree(work)
    return sha256


def _is_unchecked(entry: os.DirEntry[str]) -> bool:
    """Whether it is a compiled module that is taken without a look at its source: another tree may bring another source."""
    if not entry.name.endswith(".pyc") or not entry.is_file(follow_symlinks=False):
        return False
    with open(entry.path, "rb") as file:
        flags = file.read(8)[4:]
    return int.from_bytes(flags, "little") & 0b11 == 0b01 and Path(entry.path).parent.name == "__pycache__"


def _overlay(source: Path, target: Path) -> None:
    """Puts a tree over another; what is in the way goes. Nothing is written through a link."""
    left = [(source, target)]
    while left:
        above, below = left.pop()
        with os.scandir(above) as found:
            for entry in found:
                goal = below / entry.name
                if entry.is_dir(follow_symlinks=False):
                    if goal.is_symlink() or not goal.is_dir():
                        goal.unlink(missing_ok=True)
                        _make(goal)
                    left.append((Path(entry.path), goal))
                    continue
                if _is_unchecked(entry):
                    continue
                if goal.is_dir() and not goal.is_symlink():
                    shutil.rmtree(goal)
                goal.unlink(missing_ok=True)
                os.link(entry.path, goal, follow_symlinks=False)


def sweep(*, shelf: str, scratch: str, keep: list[str], older_than_s: float) -> int:
    """Removes every blob that is not in `keep` and was last taken before `older_than_s`; how many went."""
    kept, gone = frozenset(keep), 0
    with explained(Path(shelf)), os.scandir(shelf) as found:
        for entry in found:
            if entry.name in kept or entry.stat(follow_symlinks=False).st_mtime >= older_than_s:
                continue
            # Out of sight in one step, then piece by piece.
            away = Path(scratch) / f"gone-{entry.name}-{secrets.token_hex(4)}"
            os.rename(entry.path, away)
            shutil.rmtree(away)
            gone += 1
    return gone


def clear(scratch: Path) -> None:
    """Remove what jobs left that were ended with their process. Only while no job runs."""
    with suppress(OSError):
        for name in os.listdir(scratch):
            if name.startswith(("take-", "merge-", "gone-")):
                shutil.rmtree(scratch / name, ignore_errors=True)


def _content(path: Path, bytes_max: int) -> bytes:
    """The whole file, once: what is checked is what is unpacked is what is kept."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= bytes_max:
            data = file.read(bytes_max + 1)
            size = max(size, len(data))
    if size > bytes_max:
        raise TooLarge(f"Zipped size must be smaller than {bytes_max} bytes", limit_bytes=bytes_max, actual_bytes=size)
    return data


def _keep(data: bytes, plan: Survey, kept: Path, scratch: Path) -> None:
    work = scratch / f"take-{kept.name}-{secrets.token_hex(4)}"
    try:
        _make(work)
        # On disk before it can be seen: few files one by one, because a whole disk may have much else to write.
        singly = len(plan.entries) <= _SYNCED_SINGLY_MAX
        unpack(data, plan, work / "tree", sync=singly)
        descriptor = os.open(work / "archive.zip", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if singly:
            for folder, _, _ in os.walk(work):
                sync_directory(Path(folder))
        else:
            sync_filesystem(work)
        with suppress(FileExistsError):  # somebody was faster with the same bytes
            _rename(work, kept)
        sync_directory(kept.parent)
    finally:
        if work.exists():
            shutil.rmtree(work)


def _rename(work: Path, kept: Path) -> None:
    try:
        os.rename(work, kept)
    except OSError as error:
        if kept.is_dir():
            raise FileExistsError(kept) from error
        raise


def unpack(data: bytes, plan: Survey, target: Path, *, sync: bool = False) -> None:
    """Writes the plan below `target`, which must not exist.

    Links come last: nothing is ever written through one.
    """
    _make(target)
    made = {""}
    directories, links = [], []
    for entry in plan.entries:
        if entry.what is What.LINK:
            links.append(entry)
        elif entry.what is What.DIRECTORY:
            directories.append(entry)
            _directory(target, entry.path, made)
        else:
            _directory(target, entry.path.rpartition("/")[0], made)
            _file(data, entry, target / entry.path, sync=sync)
    for entry in links:
        _directory(target, entry.path.rpartition("/")[0], made)
        os.symlink(entry.target, target / entry.path)
        os.utime(target / entry.path, (entry.modified_s, entry.modified_s), follow_symlinks=False)
    for entry in directories:  # now that nothing is made inside them any more
        os.utime(target / entry.path, (entry.modified_s, entry.modified_s))


def _directory(target: Path, path: str, made: set[str]) -> None:
    missing = []
    while path not in made:
        missing.append(path)
        made.add(path)
        path = path.rpartition("/")[0]
    for path in reversed(missing):
        _make(target / path)


def _make(path: Path) -> None:
    os.mkdir(path)
    os.chmod(path, _DIRECTORY_MODE)  # whatever the umask


def _file(data: bytes, entry: Planned, path: Path, *, sync: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        for piece in contents(data, entry):
            write_all(descriptor, piece)
        os.fchmod(descriptor, entry.mode)
        os.utime(descriptor, (entry.modified_s, entry.modified_s))
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
