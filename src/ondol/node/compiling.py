"""Code that has been deployed is compiled once for its interpreter, so that no cold start does it again.

A guest of our own does it (`ondol_guest/compiling.py`) in a shell that runs nothing else: the function's text is read there,
and never run. What it makes is kept beside the code, without a check of the source, which cannot change: code is named by its
digest. Where anything goes wrong, environments compile for themselves, as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from ondol.model.errors import OndolError
from ondol.model.functions import Revision
from ondol.model.limits import MIB
from ondol.runtime import Call, Ending, Launch, Runtime
from ondol.sandbox import Sandboxes

MEMORY_MIB: Final = 512
TMP_MIB: Final = 512
COMPILE_S_MAX: Final = 60.0
#: Code that waits for its turn; more is compiled by its environments.
WAITING_MAX: Final = 10_000
#: Answers of one guest: bounds what a guest can have written.
ANSWERS_MAX: Final = 2_000
_CACHE: Final = re.compile(r"(?P<folder>(?:[^/\0]+/)*)__pycache__/(?P<stem>[^/\0]+)\.[a-z]+-[0-9]+[a-z]*\.pyc")

log = logging.getLogger(__name__)


class Interpreting(Protocol):
    """An interpreter."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str: ...


class Compiling:
    """`listen` is a listener of the catalog; `serve` does one after the other."""

    def __init__(
        self,
        *,
        sandboxes: Callable[[Revision], Sandboxes],
        runtimes: Callable[[Revision], Runtime],
        interpreter: Callable[[str], Interpreting | None],
        folder: Callable[[Revision], Path],
    ) -> None:
        """`interpreter`: what runs a runtime. `folder`: where a revision's code lies, with its `tree`."""
        self._sandboxes = sandboxes
        self._runtimes = runtimes
        self._interpreter = interpreter
        self._folder = folder
        self._waiting: dict[tuple[str, str], Revision] = {}
        self._woken = asyncio.Event()

    def listen(self, _key: str, noun: Any) -> None:
        if not isinstance(noun, Revision) or len(self._waiting) >= WAITING_MAX:
            return
        interpreter = self._interpreter(noun.configuration.runtime)
        if interpreter is not None and noun.configuration.runtime.startswith("python"):
            self._waiting.setdefault((noun.code.sha256, interpreter.name), noun)
            self._woken.set()

    async def serve(self, ready: asyncio.Event) -> None:
        """Until cancelled; from `ready` on."""
        await ready.wait()
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                (_, interpreter), revision = self._waiting.popitem()
                await self.compile(revision, interpreter)

    async def compile(self, revision: Revision, interpreter: str) -> None:
        """Have it beside the code, unless it is there. Never raises for what the code, or its guest, does."""
        done = self._folder(revision) / f"compiled-{interpreter}"
        if done.exists():
            return
        try:
            async with asyncio.timeout(COMPILE_S_MAX):
                await self._in_a_shell(revision)
        except (OndolError, OSError, ValueError, TimeoutError) as error:
            log.warning("the code of %s could not be compiled ahead: %s", revision.name, error or "it took too long")
        try:
            done.touch()  # once is enough: what fails now fails again
        except OSError:
            return  # it was removed meanwhile

    async def _in_a_shell(self, revision: Revision) -> None:
        sandboxes, tree = self._sandboxes(revision), self._folder(revision) / "tree"
        interpreter = self._interpreter(revision.configuration.runtime)
        shell = await sandboxes.prepare(revision.account, interpreter.path if interpreter else "")
        try:
            await sandboxes.attach(shell, tree=str(tree), memory_bytes=MEMORY_MIB * MIB, tmp_mib=TMP_MIB)
            launch = Launch(
                guest="compiling",
                handler="",
                runtime=revision.configuration.runtime,
                variables={},
                memory_mib=MEMORY_MIB,
                timeout_s=int(COMPILE_S_MAX),
            )
            worker = await self._runtimes(revision).start(shell, revision, launch, _ignore)
            try:
                after = ""
                for _ in range(ANSWERS_MAX):
                    answer = await worker.call(Call(meta=b"{}", payload=json.dumps({"after": after}).encode()), _ignore)
                    if answer.ending is not Ending.OK or not answer.body:
                        return
                    assert isinstance(answer.body, bytes | bytearray)
                    after = await asyncio.to_thread(keep, tree, bytes(answer.body))
            finally:
                worker.close()
        finally:
            await sandboxes.discard(shell)


def keep(tree: Path, told: bytes) -> str:
    """Write what a guest made beside its sources; the last module's name. Raises ValueError for what no guest of ours says."""
    last = ""
    parts = list(_parts(told))
    for name, target, data in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        last = name.decode()
        if target:
            _write(tree, target.decode(), data)
    return last


def _parts(told: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(told):
        size = int.from_bytes(told[at : at + 4], "little")
        if at + 4 + size > len(told):
            raise ValueError("a guest's answer ends too early")
        yield told[at + 4 : at + 4 + size]
        at += 4 + size


def _write(tree: Path, target: str, data: bytes) -> None:
    """One cache file, where its source is and nothing stands in its place. No link is followed on the way."""
    named = _CACHE.fullmatch(target)
    folders = [part for part in (named["folder"] if named else "").split("/") if part]
    if named is None or ".." in folders or "." in folders:
        raise ValueError(f"a guest names a cache file {target[:200]!r}")
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    at = os.open(tree, flags)
    try:
        for part in folders:
            at = _below(at, part, flags)
        if not stat.S_ISREG(os.stat(f"{named['stem']}.py", dir_fd=at, follow_symlinks=False).st_mode):
            return
        with contextlib.suppress(FileExistsError):
            os.mkdir("__pycache__", 0o755, dir_fd=at)
        at = _below(at, "__pycache__", flags)
        _write_whole(at, target.rpartition("/")[2], data)
    except (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError):
        return  # the function's own files stand there, or let nobody write
    finally:
        os.close(at)


def _below(at: int, part: str, flags: int) -> int:
    below = os.open(part, flags, dir_fd=at)
    os.close(at)
    return below


def _write_whole(at: int, name: str, data: bytes) -> None:
    """Under its name it is whole from the first moment on. Raises FileExistsError when there is one."""
    draft = f".{name}.draft"
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444, dir_fd=at)
    with os.fdopen(file, "wb") as opened:
        opened.write(data)
        os.fchmod(opened.fileno(), 0o444)
    try:
        os.link(draft, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
    finally:
        os.unlink(draft, dir_fd=at)


def _ignore(_text: str, _at_ms: int | None = None) -> None:
    """What a compiler warns of is its author's business, when it is run."""
