"""The helper process: heavy, blocking work that must not stall the node (unpacking archives, reading 70 MB bodies).

`Helper` is the node's half, `main` the process's. The helper is a fresh interpreter, not a fork of the desk; it starts with
the first job, does one job at a time at low priority, and leaves when its line closes or the node dies. It knows the jobs it
was given by name ("module:function", plain data in and out) and no other.

Frames on the line: four bytes of length, then msgpack.
    node -> helper   {"n": 7, "job": "blobs.take", "with": {…}}
    helper -> node   {"n": 7, "done": …}   or   {"n": 7, "error": [class in ondol.model.errors, text, {attributes}]}
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import ondol
from ondol.model import errors
from ondol.model.errors import OndolError, Throttled, TooLarge, Unavailable

#: Both ways: the largest request a client may send (70,167,211 bytes of JSON) fits, and the archive decoded from it.
FRAME_BYTES_MAX = 128 * 1024 * 1024
#: How much the node's half reads at a time.
_READ_BYTES = 1024 * 1024
_HEAD_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperLimits:
    """How long, how many, how much."""

    job_s_max: float = 180.0
    #: Jobs waiting for the one that runs; more are refused as Throttled.
    waiting_jobs_max: int = 64
    #: The helper's address space: a job that wants more fails alone.
    memory_bytes_max: int = 4 * 1024**3
    niceness: int = 10
    stop_s_max: float = 2.0


class _EndedError(Exception):
    """The helper left before it answered."""


class Helper:
    """The node's half. `await helper.call("blobs.take", archive=…)`."""

    def __init__(
        self, jobs: Mapping[str, str], limits: HelperLimits | None = None, *, clear: Callable[[], None] | None = None
    ) -> None:
        """`clear` removes what a job leaves that was ended with its process: called in a thread, when there is none."""
        self._jobs = dict(jobs)
        self._clear = clear
        self._limits = limits or HelperLimits()
        self._turn = asyncio.Lock()
        #: Jobs asked for and not done; held here, because whoever asked may stop waiting.
        self._work: set[asyncio.Future[Any]] = set()
        self._count = 0
        self._line: _Line | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The helper's process; None while there is none."""
        return None if self._line is None else self._line.process.pid

    async def call(self, job: str, /, **arguments: Any) -> Any:
        """Runs `job` in the helper. What it raises of `ondol.model.errors` is raised here.

        A helper that dies is replaced and the job done again, once: jobs are whole or nothing. Whoever stops waiting does not
        stop the job.
        """
        if job not in self._jobs:
            raise KeyError(f"the helper was given no job named {job!r}")
        if len(self._work) >= self._limits.waiting_jobs_max:
            raise Throttled("line")
        work = asyncio.ensure_future(self._run(job, arguments))
        self._work.add(work)
        work.add_done_callback(self._left)
        return await asyncio.shield(work)

    async def close(self) -> None:
        """Waits for the job that runs, within bounds, then ends the process."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.stop_s_max):
                await self._turn.acquire()
                self._turn.release()
        await self._drop()

    def _left(self, work: asyncio.Future[Any]) -> None:
        self._work.discard(work)
        if not work.cancelled():
            work.exception()  # seen, even when nobody waits any more

    async def _run(self, job: str, arguments: dict[str, Any]) -> Any:
        async with self._turn:
            for last in (False, True):
                if self._closed:
                    raise Unavailable("The node is stopping.")
                try:
                    async with asyncio.timeout(self._limits.job_s_max):
                        return await self._ask(job, arguments)
                except _EndedError as error:
                    await self._drop()
                    if last:
                        raise Unavailable(f"The helper process died twice over {job}; try a smaller upload.") from error
                except TimeoutError as error:
                    await self._drop()
                    raise Unavailable(f"{job} took longer than {self._limits.job_s_max:g} s and was ended.") from error
            raise AssertionError("unreachable")

    async def _ask(self, job: str, arguments: dict[str, Any]) -> Any:
        if self._line is None:
            self._line = await _Line.start(self._jobs, self._limits)
        self._count += 1
        reply = await self._line.ask({"n": self._count, "job": job, "with": arguments})
        if reply.get("n") != self._count:
            raise _EndedError
        if "error" in reply:
            raise _raised(*reply["error"])
        return reply["done"]

    async def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.end(self._limits.stop_s_max)
            if self._clear is not None:
                await asyncio.to_thread(self._clear)


class _Line:
    """One helper process and the stream to it."""

    def __init__(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, jobs: Mapping[str, str], limits: HelperLimits) -> _Line:
        ours, theirs = socket.socketpair()
        settings = {
            "jobs": jobs,
            "fd": theirs.fileno(),
            "parent": os.getpid(),
            "niceness": limits.niceness,
            "memory_bytes_max": limits.memory_bytes_max,
        }
        source = str(Path(ondol.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
        with theirs:
            # Started by this thread, not a pooled one: the helper dies with the thread that made it (PR_SET_PDEATHSIG).
            process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-P", "-m", __name__, json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=_READ_BYTES)
        return cls(process, reader, writer)

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        frame = msgspec.msgpack.encode(request)
        if len(frame) > FRAME_BYTES_MAX:
            raise TooLarge("The request is too large.", limit_bytes=FRAME_BYTES_MAX, actual_bytes=len(frame))
        try:
            self._writer.write(len(frame).to_bytes(_HEAD_BYTES, "big"))
            self._writer.write(frame)
            await self._writer.drain()
            size = int.from_bytes(await self._reader.readexactly(_HEAD_BYTES), "big")
            if size > FRAME_BYTES_MAX:
                raise _EndedError
            reply = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise _EndedError from error
        return msgspec.msgpack.decode(reply, type=dict[str, Any])

    async def end(self, stop_s_max: float) -> None:
        """Nothing of it is left when this returns."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
        with suppress(ProcessLookupError):
            self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.process.wait, stop_s_max)


def _raised(kind: str, text: str, attributes: dict[str, Any]) -> Exception:
    """The error a job raised, made again on this side."""
    known = getattr(errors, kind, None)
    if not (isinstance(known, type) and issubclass(known, OndolError)):
        return Unavailable(f"The helper process failed: {kind}: {text}")
    error: OndolError = known.__new__(known, text)
    error.__dict__.update(attributes)
    return error


# The process's half --------------------------------------------------------------------------------------------------------
def main(settings: Mapping[str, Any]) -> None:
    """Serves jobs until the line closes."""
    _settle_in(settings)
    jobs: dict[str, str] = settings["jobs"]
    line = socket.socket(fileno=settings["fd"])
    while (head := _exactly(line, _HEAD_BYTES)) is not None:
        frame = _exactly(line, int.from_bytes(head, "big"))
        if frame is None:
            return
        request = msgspec.msgpack.decode(frame, type=dict[str, Any])
        reply = _answer(jobs, request)
        del frame, request  # they may be large, and the next may be long in coming
        try:
            line.sendall(len(reply).to_bytes(_HEAD_BYTES, "big"))
            line.sendall(reply)
        except OSError:
            return


def _answer(jobs: Mapping[str, str], request: Mapping[str, Any]) -> bytes:
    """The reply's frame; whatever a job does wrong is an error of that job."""
    number = request["n"]
    try:
        reply = msgspec.msgpack.encode({"n": number, "done": _function(jobs[request["job"]])(**request["with"])})
        if len(reply) > FRAME_BYTES_MAX:
            raise TooLarge("The answer is too large.", limit_bytes=FRAME_BYTES_MAX, actual_bytes=len(reply))
        return reply
    except Exception as error:
        attributes = {k: v for k, v in vars(error).items() if isinstance(v, str | int | float | bool)}
        return msgspec.msgpack.encode({"n": number, "error": [type(error).__name__, str(error), attributes]})


def _function(name: str) -> Callable[..., Any]:
    module, _, qualname = name.partition(":")
    function = getattr(importlib.import_module(module), qualname)
    assert callable(function)
    return function  # type: ignore[no-any-return]


def _exactly(line: socket.socket, size: int) -> bytes | None:
    """That many bytes, or None when the line closed."""
    parts = bytearray()
    while len(parts) < size:
        try:
            part = line.recv(min(size - len(parts), 1024 * 1024))
        except OSError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)


def _settle_in(settings: Mapping[str, Any]) -> None:
    """Low priority, bounded memory, and no life after the node's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the node decides when we leave
    libc = ctypes.CDLL(None, use_errno=True)
    die_with_parent, set_io_priority = 1, {"x86_64": 251, "aarch64": 30}.get(os.uname().machine)
    libc.prctl(die_with_parent, signal.SIGKILL)
    if os.getppid() != settings["parent"]:
        sys.exit(0)  # the node died before the line above
    with suppress(OSError):
        os.nice(settings["niceness"])
    if set_io_priority is not None:
        best_effort_lowest = (2 << 13) | 7
        libc.syscall(set_io_priority, 1, 0, best_effort_lowest)
    resource.setrlimit(resource.RLIMIT_AS, (settings["memory_bytes_max"], settings["memory_bytes_max"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
