"""The keeper's event loop: one thread, descriptors, timers, and steps of work written as generators.

A step yields `Sleep(seconds)` or `Readable(fd, seconds)`; the latter gets True when there is something to read and False when
the time is over. Nothing in here blocks but `run`. asyncio would do the same for five more megabytes in every fork of the
keeper.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sleep:
    """Go on after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Readable:
    """Go on when `fd` can be read, or after so many seconds."""

    fd: int
    seconds: float


Step = Generator["Sleep | Readable", bool, Any]


class Loop:
    """See the module."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._running = True
        #: Called when a child may have ended.
        self.on_children: Callable[[], None] = lambda: None
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeups = (reader, writer)
        self._before = (
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False),
            signal.signal(signal.SIGCHLD, lambda *_: None),
        )
        self.watch(reader, self._woken)

    def close(self) -> None:
        """Give back what is the process's: its wake-up descriptor and signal handler."""
        signal.set_wakeup_fd(self._before[0])
        signal.signal(signal.SIGCHLD, self._before[1])
        self._selector.close()
        for fd in self._wakeups:
            os.close(fd)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        self._selector.unregister(fd)

    def also_writable(self, fd: int, *, wanted: bool) -> None:
        """Whether the callback of `fd` is wanted when it can be written to, too."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(fd, events, self._selector.get_key(fd).data)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), callback))

    def spawn(self, step: Step) -> None:
        """Run `step` until it first waits; the rest goes on by itself."""
        self._advance(step, None)

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        while self._running:
            wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self._selector.select(wait):
                self._guarded(key.data)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                self._guarded(heapq.heappop(self._timers)[2])

    def _advance(self, step: Step, went_well: bool | None) -> None:
        try:
            wanted = next(step) if went_well is None else step.send(went_well)
        except StopIteration:
            return
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return
        if isinstance(wanted, Sleep):
            self.later(wanted.seconds, lambda: self._advance(step, True))
        else:
            self._await(step, wanted)

    def _await(self, step: Step, wanted: Readable) -> None:
        open_ = True

        def end(*, went_well: bool) -> None:
            nonlocal open_
            if open_:
                open_ = False
                self.unwatch(wanted.fd)
                self._advance(step, went_well)

        self.watch(wanted.fd, lambda: end(went_well=True))
        self.later(wanted.seconds, lambda: end(went_well=False))

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # one broken request must not end everybody's shells
            traceback.print_exc(file=sys.stderr)

    def _woken(self) -> None:
        try:
            while os.read(self._wakeups[0], 4096):
                pass
        except BlockingIOError:
            pass
        self.on_children()
