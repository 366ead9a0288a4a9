"""Reading a guest's log pipe without ever waiting for it, and without letting it keep the loop from other work."""

from __future__ import annotations

import asyncio
import fcntl
import os
import termios
from collections.abc import Callable
from typing import Final

from ondol.model.limits import LOG_EVENT_BYTES_MAX, MIB
from ondol.runtime import LogSink
from ondol_guest import frames

#: Read at one go while other work waits: it may be as many lines.
READ_BYTES: Final = 16 * 1024
#: Read at most when a result waits for the lines in front of it: more than a pipe holds.
DRAIN_BYTES_MAX: Final = 2 * MIB
#: … and as many lines of it: what is left comes behind the result.
DRAIN_EVENTS_MAX: Final = 16_384
#: One environment's log beyond this rate waits in its pipe, and its writer with it.
LOG_BYTES_PER_S: Final = 32 * MIB
#: The same for events, since an empty line costs as much as a long one.
LOG_EVENTS_PER_S: Final = 20_000
#: The rate is kept in slices of this length.
SLICE_S: Final = 0.1

#: What FIONREAD says of an empty pipe.
_NOTHING: Final = bytes(4)


class LogPipe:
    """Owns the non-blocking read end `fd`; every event goes to `sink` as soon as it is read. `loaded` is called at LOG_MARK."""

    def __init__(self, fd: int, sink: LogSink, loaded: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._sink = sink
        self._loaded = loaded
        self._reader = frames.LogReader(LOG_EVENT_BYTES_MAX)
        self._slice_began_s = 0.0
        self._slice_bytes = 0
        self._slice_events = 0
        self._events = 0
        self._pause: asyncio.TimerHandle | None = None
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._ready)

    def drain(self) -> None:
        """Take all that is in the pipe now."""
        if self._fd < 0 or fcntl.ioctl(self._fd, termios.FIONREAD, _NOTHING) == _NOTHING:
            return  # asking costs less than the exception of a read that finds nothing, and most calls write nothing
        left, events_max = DRAIN_BYTES_MAX, self._events + DRAIN_EVENTS_MAX
        while left > 0 and self._events < events_max:
            size = self._read()
            if size < READ_BYTES:  # one read takes what there is: less than asked for was all
                return
            left -= size

    def flush(self) -> None:
        """An unfinished line is an event too: nothing more of it will come."""
        if self._reader.holds_bytes:
            self._pass_on(self._reader.flush())

    def close(self) -> None:
        """Take the last lines and let go of the pipe. Idempotent."""
        if self._fd < 0:
            return
        self.drain()
        self.flush()
        self._let_go()

    def _ready(self) -> None:
        before = self._events
        size = self._read()
        self._pace(size, self._events - before)

    def _read(self) -> int:
        """Read once; how much. 0 when there is nothing, or nobody left to write."""
        if self._fd < 0:
            return 0
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.flush()
            self._let_go()
            return 0
        self._pass_on(self._reader.feed(data))
        return len(data)

    def _pass_on(self, events: list[tuple[str | None, int | None]]) -> None:
        self._events += len(events)
        for text, at_ms in events:
            if text is None:
                self._loaded()
            else:
                self._sink(text, at_ms)

    def _pace(self, size: int, events: int) -> None:
        """Stop listening until the share that was used up has come round again."""
        now_s = self._loop.time()
        if now_s - self._slice_began_s >= SLICE_S:
            self._slice_began_s, self._slice_bytes, self._slice_events = now_s, 0, 0
        self._slice_bytes += size
        self._slice_events += events
        used_s = max(self._slice_bytes / LOG_BYTES_PER_S, self._slice_events / LOG_EVENTS_PER_S)
        if used_s > SLICE_S and self._fd >= 0 and self._pause is None:
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_at(self._slice_began_s + used_s, self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._ready)

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if not self._loop.is_closed():
            self._loop.remove_reader(fd)
        os.close(fd)
