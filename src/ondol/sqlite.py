"""One SQLite file with one writer: what the embedded store and the embedded queue stand on. It knows no table.

All writing goes through one thread. It takes every job that is waiting, runs each inside a savepoint of one transaction, and
commits once: under load the disk is synced once per batch, not once per job, and there is no lock to wait for.

Invariants
- A job's result is handed over only after its transaction is on disk (WAL, synchronous=FULL).
- A failing job undoes its own changes and no other's. When the transaction itself fails, each job is tried alone, so that
  one that needs more room than the disk has does not take the small ones with it.
- Jobs touch nothing but the connection, so they can be run a second time.
- The format number (PRAGMA user_version) only grows; a file written by a newer release is refused untouched.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ondol.disk import explain, sync_directory
from ondol.model.errors import OndolError, OutOfSpace, Throttled, Unavailable

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Result]

#: Jobs in one transaction: bounds how long the first of them waits for the last.
BATCH_JOBS_MAX = 1000
#: Jobs waiting for the writer; more are refused as Throttled.
WAITING_JOBS_MAX = 20_000
#: How long another process (an online backup) may keep the file locked.
BUSY_MS_MAX = 5000
#: The write-ahead log is cut back to this after a checkpoint.
WAL_KEPT_BYTES_MAX = 8 * 1024 * 1024


def statements(package: str, name: str) -> Mapping[str, str]:
    """The blocks of `package`/sql/`name`; each starts with a line `-- name: WORD`."""
    text = (resources.files(package) / "sql" / name).read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)[^\n]*\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def migrations(package: str, folder: str) -> Sequence[str]:
    """The scripts of `package`/sql/`folder` in order; the n-th brings a file from format n-1 to n."""
    files = [f for f in (resources.files(package) / "sql" / folder).iterdir() if f.name.endswith(".sql")]
    files.sort(key=lambda file: file.name)
    numbers = [int(file.name.split("_")[0]) for file in files]
    assert numbers == list(range(1, len(files) + 1)), f"migrations of {package} are not numbered one by one: {numbers}"
    return [file.read_text("utf-8") for file in files]


class _Work:
    """A job on its way through the writer: its future and its end."""

    __slots__ = ("error", "future", "job", "result")

    def __init__(self, job: Job[Any], future: asyncio.Future[Any]) -> None:
        self.job = job
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None

    def settle(self) -> None:
        """On the loop. Whoever asked may have gone; the change stands all the same."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Database:
    """See the module. Made by the thread whose loop uses it; `close()` before the process leaves."""

    def __init__(
        self,
        path: Path,
        scripts: Sequence[str],
        *,
        on_commit: Callable[[], None] | None = None,
        bytes_max: int | None = None,
    ) -> None:
        self.path = path
        self._on_commit = on_commit
        self._jobs: SimpleQueue[_Work | None] = SimpleQueue()
        self._closed = False
        #: Transactions of the writer so far: the disk was synced as often.
        self.commits = 0
        self._writing = _open(path, scripts, bytes_max)
        try:
            self._reading = _connect(path)
        except BaseException:
            self._writing.close()
            raise
        self._readers = ThreadPoolExecutor(1, thread_name_prefix=f"{path.name}-read")
        self._writer = threading.Thread(target=self._write_all, name=f"{path.name}-write", daemon=True)
        self._writer.start()

    async def write(self, job: Job[Result]) -> Result:
        """Runs `job` in the writer's next transaction; its result once that is on disk."""
        if self._closed:
            raise Unavailable(f"{self.path} is closed.")
        if self._jobs.qsize() >= WAITING_JOBS_MAX:
            raise Throttled("line")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Work(job, future))
        return await future

    async def read(self, job: Job[Result]) -> Result:
        """Runs `job` in one read transaction: it sees one moment, and everything whose write has returned."""
        if self._closed:
            raise Unavailable(f"{self.path} is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, job)

    async def backup(self, target: Path) -> None:
        """A copy of this moment at `target`, while writing goes on; whole or not there."""
        if self._closed:
            raise Unavailable(f"{self.path} is closed.")
        await asyncio.to_thread(_copy, self.path, target)

    async def close(self) -> None:
        """What was asked before is done first."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._writer.join()
        self._readers.shutdown()
        self._reading.close()
        self._writing.close()

    def _read(self, job: Job[Result]) -> Result:
        connection = self._reading
        try:
            connection.execute("BEGIN")
            try:
                return job(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise explained(error, self.path) from error

    # The writer's thread ---------------------------------------------------------------------------------------------
    def _write_all(self) -> None:
        ending = False
        while not ending:
            batch: list[_Work] = []
            with suppress(Empty):
                work = self._jobs.get()
                while work is not None:
                    batch.append(work)
                    if len(batch) >= BATCH_JOBS_MAX:
                        break
                    work = self._jobs.get_nowait()
                ending = work is None
            if not batch:
                continue
            if not self._commit(batch) and len(batch) > 1:
                for work in batch:
                    self._commit([work])
            if self._on_commit is not None:
                self._on_commit()
            _settle(batch)

    def _commit(self, batch: Sequence[_Work]) -> bool:
        """One transaction; False (and every job failed) when it could not be committed."""
        connection = self._writing
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work in batch:
                self._run(work)
            connection.execute("COMMIT")
            self.commits += 1
            return True
        except Exception as error:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            for work in batch:
                work.error = explained(error, self.path) if isinstance(error, sqlite3.Error) else error
            return False

    def _run(self, work: _Work) -> None:
        """One job in its savepoint. Raises when SQLite has given up the whole transaction (it may when the disk is full)."""
        connection = self._writing
        work.result = work.error = None
        connection.execute("SAVEPOINT job")
        try:
            work.result = work.job(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise
            work.error = explained(error, self.path) if isinstance(error, sqlite3.Error) else error
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")


def _settle(batch: Sequence[_Work]) -> None:
    """Hands results over, one wake-up per loop."""
    loops: dict[asyncio.AbstractEventLoop, list[_Work]] = {}
    for work in batch:
        loops.setdefault(work.future.get_loop(), []).append(work)
    for loop, done in loops.items():
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(_settle_all, done)


def _settle_all(done: Sequence[_Work]) -> None:
    for work in done:
        work.settle()


def explained(error: sqlite3.Error, path: Path) -> OndolError:
    """SQLite's error as a sentence."""
    code = getattr(error, "sqlite_errorcode", 0)
    full = code == sqlite3.SQLITE_FULL or (code & 0xFF == sqlite3.SQLITE_IOERR and _no_room(path))
    if full:
        return OutOfSpace(f"No space is left for {path}: free some, or move the data to a larger disk (--data DIR).")
    if code & 0xFF in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN}:
        user = f"user {os.geteuid()}"
        return Unavailable(f"{path} may not be written by {user}: give it the rights, or choose another place (--data DIR).")
    if code & 0xFF in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return Unavailable(f"{path} is damaged ({error}): put a backup in its place.")
    return Unavailable(f"{path} cannot be used: {error}.")


def _no_room(path: Path) -> bool:
    try:
        state = os.statvfs(path.parent)
    except OSError:
        return False
    return state.f_bavail == 0


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun and ended by hand; the connection moves between threads, never used by two at once.
    connection = sqlite3.connect(path, timeout=BUSY_MS_MAX / 1000, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _open(path: Path, scripts: Sequence[str], bytes_max: int | None) -> sqlite3.Connection:
    """The writer's connection, the file in the newest format."""
    try:
        # Made by us so that nobody else can read it, whatever the umask.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise explain(error, path) from error
    connection: sqlite3.Connection | None = None
    try:
        connection = _connect(path)
        _check_format(connection, path, len(scripts))
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES_MAX}")
        if bytes_max is not None:
            page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {max(1, bytes_max // page_bytes)}")
        _migrate(connection, scripts)
        return connection
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise explained(error, path) from error
        raise


def _check_format(connection: sqlite3.Connection, path: Path, newest: int) -> None:
    number = connection.execute("PRAGMA user_version").fetchone()[0]
    if number > newest:
        raise Unavailable(
            f"{path} has data format {number}, and this release knows formats up to {newest}: "
            "start the newer release that wrote it."
        )


def _migrate(connection: sqlite3.Connection, scripts: Sequence[str]) -> None:
    """Forward, all steps or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        number = connection.execute("PRAGMA user_version").fetchone()[0]
        for script in scripts[number:]:
            for statement in _split(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(scripts)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _split(script: str) -> Sequence[str]:
    """The statements of a script; `executescript` would commit before it starts."""
    found, part = [], ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            found.append(part)
            part = ""
    return found


def _copy(source: Path, target: Path) -> None:
    """On a connection of its own: neither writer nor readers wait for it."""
    part = target.with_name(f".{target.name}.part")
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        with closing(_connect(source)) as original, closing(_connect(part)) as copy:
            original.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # a backup is one file: no log next to it
        os.replace(part, target)
        sync_directory(target.parent)
    except BaseException as error:
        for left in part.parent.glob(f"{part.name}*"):
            left.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explain(error, target) from error
        if isinstance(error, sqlite3.Error):
            raise explained(error, target) from error
        raise
