"""The data directory: who may use it, in which format it is, and what lies where.

Opening it is all or nothing. A directory of a newer release, of another node, of another user, or of something else
altogether is refused with one sentence and left exactly as it was.

    format          the data-format number          run/            sockets, the lock
    catalog.db      functions, versions, keys       queue.db        accepted deferred calls
    metrics.db      what was measured, per minute   records.db      records of invocations
    code/SHA256/    archive.zip and tree/           journals/       log segments
    tmp/            spool files, emptied at start   shells/         /tmp of live shells
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ondol.disk import explained, sync_directory, write_whole
from ondol.model.errors import Unavailable

#: Brings the directory from format n to n+1, where n is the step's place in MIGRATIONS plus one. A step may be run again
#: after a crash in its middle, so it must bear finding its own work half or wholly done.
Migration = Callable[[Path], None]
MIGRATIONS: Final[Sequence[Migration]] = (
    # 2: journals hold packed segments, which format 1 would not see. What format 1 left is read as it is, and packed in time.
    lambda _root: None,
)

_FOLDERS: Final = ("run", "code", "journals", "tmp", "shells")
#: How long to wait for the lock while the processes of a node that was killed are going away.
_DYING_S_MAX: Final = 5.0
_GLANCE_S: Final = 0.05


class DataDir:
    """An open data directory; this process holds its lock until `close()` or death."""

    def __init__(self, root: Path, lock: int) -> None:
        self.root = root
        self._lock = lock

    @classmethod
    def open(cls, root: Path, *, owner: tuple[int, int] | None = None, migrations: Sequence[Migration] = MIGRATIONS) -> DataDir:
        """Makes the directory or takes it over; `owner` (uid, gid) is who the unprivileged processes are."""
        root = Path(os.path.abspath(root))
        newest = len(migrations) + 1
        with explained(root):
            _check_ours(root, newest)
            made = _make(root)
            try:
                _make_folder(root / "run")
                lock = _take_lock(root)
            except BaseException:
                _unmake(made)
                raise
            try:
                found = cls(root, lock)
                found._settle(newest, migrations, owner)
            except BaseException:
                _unmake(made, locked=True)
                os.close(lock)
                raise
        return found

    # What lies where ---------------------------------------------------------------------------------------------------
    @property
    def catalog(self) -> Path:
        return self.root / "catalog.db"

    @property
    def queue(self) -> Path:
        return self.root / "queue.db"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.db"

    @property
    def records(self) -> Path:
        return self.root / "records.db"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def journals(self) -> Path:
        return self.root / "journals"

    @property
    def tmp(self) -> Path:
        """Spool files; on the same filesystem as all else, so that a rename moves them into place."""
        return self.root / "tmp"

    @property
    def shells(self) -> Path:
        return self.root / "shells"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def empty_tmp(self) -> None:
        """Removes what a killed process left behind. For when nobody writes there yet."""
        _empty(self.tmp)

    @property
    def lock_descriptor(self) -> int:
        """For a child that must keep the directory locked as long as it lives. Not inherited unless passed."""
        return self._lock

    def close(self) -> None:
        """Gives the lock back."""
        if self._lock >= 0:
            # Unlocked, not only closed: a child may hold the same descriptor.
            with suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = -1

    # Steps of opening, under the lock ------------------------------------------------------------------------------------
    def _settle(self, newest: int, migrations: Sequence[Migration], owner: tuple[int, int] | None) -> None:
        number = _format(self.root)
        _check_format(self.root, number, newest)
        os.chmod(self.root, 0o700)
        if number is None:
            # Before all else: a directory that holds more than `run` has its number, whenever the power goes.
            write_whole(self.root / "format", f"{newest}\n".encode())
            number = newest
        for name in _FOLDERS:
            _make_folder(self.root / name)
        self.empty_tmp()
        for step in range(number, newest):
            migrations[step - 1](self.root)
            write_whole(self.root / "format", f"{step + 1}\n".encode())
        if owner is not None:
            for path in (self.root, *(self.root / name for name in ("format", *_FOLDERS))):
                # What the keeper keeps is the keeper's, who is whoever we are.
                given = (os.geteuid(), os.getegid()) if path == self.shells else owner
                os.chown(path, *given, follow_symlinks=path == self.root)
        sync_directory(self.root)


def _check_ours(root: Path, newest: int) -> None:
    """Looks only: refuses what must not be touched."""
    try:
        state = os.stat(root)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(state.st_mode):
        raise Unavailable(f"{root} is not a directory: choose another place for the data (--data DIR).")
    if state.st_uid != os.geteuid() and os.geteuid() != 0:
        raise Unavailable(
            f"{root} belongs to user {state.st_uid}, and this is user {os.geteuid()}: "
            "run as its owner, or choose another place (--data DIR)."
        )
    number = _format(root)
    _check_format(root, number, newest)
    if number is None:
        names = [name for name in os.listdir(root) if not name.startswith(".format.")]
        strangers = sorted(set(names) - {"run"})
        if strangers:
            raise Unavailable(
                f"{root} is not empty and was not made by Ondol ({strangers[0]!r} is in it): "
                "choose a new or an empty directory (--data DIR)."
            )


def _format(root: Path) -> int | None:
    """The data-format number; None where there is none yet."""
    try:
        text = (root / "format").read_text("ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    if not text.isdecimal() or not 1 <= len(text) <= 9 or int(text) < 1:
        raise Unavailable(f"{root / 'format'} should hold the data-format number and holds {text[:40]!r}: restore a backup.")
    return int(text)


def _check_format(root: Path, number: int | None, newest: int) -> None:
    if number is not None and number > newest:
        raise Unavailable(
            f"{root} has data format {number}, and this release knows formats up to {newest}: "
            "start the newer release that wrote it, or choose another place (--data DIR)."
        )


def _make(root: Path) -> list[Path]:
    """The directory, those above it and `run`; returns what was not there before, innermost last."""
    missing = []
    path = root / "run"
    while not path.exists():
        missing.append(path)
        path = path.parent
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir(mode=0o700 if path in {root, root / "run"} else 0o755)
            made.append(path)
    except BaseException:
        _unmake(made)
        raise
    return made


def _make_folder(path: Path) -> None:
    """A real directory: this process may be root, and who owns the place may not send it elsewhere by a link."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise Unavailable(f"{path} should be a directory and is something else: move it away.")


def _unmake(made: Sequence[Path], *, locked: bool = False) -> None:
    """Takes back what a failed start made, and nothing that holds anything else. Files only if the lock was ours."""
    for path in reversed(made):
        for name in ("lock", "format") if locked else ():
            with suppress(OSError):
                (path / name).unlink()
        for name in _FOLDERS if locked else ():
            with suppress(OSError):
                (path / name).rmdir()
        with suppress(OSError):
            path.rmdir()


def _take_lock(root: Path) -> int:
    """The lock's descriptor. A node that lives refuses at once; one that is dying is waited for."""
    path = root / "run" / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline_s = time.monotonic() + _DYING_S_MAX
    try:
        while not _locked(descriptor):
            holder = os.pread(descriptor, 20, 0).decode("ascii", errors="replace").strip()
            alive = not holder.isdecimal() or _alive(int(holder))
            if alive or time.monotonic() > deadline_s:
                raise Unavailable(
                    f"Another node (process {holder or 'unknown'}) uses {root}: stop it, or give this one its own --data DIR."
                )
            time.sleep(_GLANCE_S)
        with suppress(OSError):  # it is only what a second node is told; on a full disk a node must still start and read
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: int) -> bool:
    """Whether it runs; one that was killed and that its parent has not asked after does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()[0]
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ESRCH)
    return state not in {"Z", "X"}


def _empty(folder: Path) -> None:
    """Removes what a killed node left behind."""
    for name in os.listdir(folder):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
