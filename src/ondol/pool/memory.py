"""What a shell used: its peak read from the kernel's own file where the shell has one, else asked of the keeper, and seldom.

Asking is a round trip, too much for a warm call; whether the kernel ended something for want of memory is asked after a death.
It must not know of calls or workers. The last figures stand when nobody answers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Coroutine
from typing import Any, Final

from ondol.clock import Clock
from ondol.model.errors import OndolError
from ondol.model.limits import MIB
from ondol.sandbox import Sandboxes, Shell

#: The kernel's file is read again once calls have run for so long: a page takes a microsecond to fault in, so that what is
#: shown lags by a few MiB at most.
READ_EVERY_RUN_S: Final = 0.002
#: How often is often enough, and from which duration on a call does not notice that it waits for the answer.
ASK_EVERY_S: Final = 1.0
AWAITED_FROM_S: Final = 0.02


class Memory:
    """The memory of one environment: what its worker inherited, and the peak of its cgroup."""

    __slots__ = ("_asked_s", "_clock", "_oom_kills", "_peak_bytes", "_sandboxes", "_unread_s", "inherited_bytes", "shell")

    def __init__(self, sandboxes: Sandboxes, clock: Clock) -> None:
        self.shell: Shell | None = None
        self.inherited_bytes = 0
        self._sandboxes = sandboxes
        self._clock = clock
        self._peak_bytes = 0
        self._oom_kills = 0
        #: How long calls have run since the file was read; the first call always reads it.
        self._unread_s = READ_EVERY_RUN_S
        self._asked_s: float | None = None

    def peak_mib(self, ran_s: float) -> int:
        """The most it used so far, as far as read or asked. `ran_s`: how long the call at hand ran."""
        self._unread_s += ran_s
        if self._unread_s >= READ_EVERY_RUN_S:
            self._unread_s = 0.0
            self._read()
        return -(-(self.inherited_bytes + self._peak_bytes) // MIB)

    def _read(self) -> None:
        file = -1 if self.shell is None else self.shell.files.get("memory_peak", -1)
        if file >= 0:
            with contextlib.suppress(OSError, ValueError):
                self._peak_bytes = max(self._peak_bytes, int(os.pread(file, 32, 0)))

    def is_old(self, now_s: float) -> bool:
        """Never asked, or long ago, where it must be asked."""
        if self.shell is not None and "memory_peak" in self.shell.files:
            return False
        return self._asked_s is None or now_s - self._asked_s >= ASK_EVERY_S

    def is_worth_waiting_for(self, duration_s: float) -> bool:
        """Whether the call that ended now should wait until the figures are fresh."""
        return self._asked_s is None or duration_s >= AWAITED_FROM_S

    def ask(self) -> Coroutine[Any, Any, bool]:
        """Refresh; whether the kernel ended something for want of memory since the last time."""
        self._asked_s = self._clock.now_s()  # now, not when the question is sent: it is asked once
        return self._ask()

    async def _ask(self) -> bool:
        assert self.shell is not None
        try:
            usage = await self._sandboxes.usage(self.shell)
        except OndolError:
            return False
        self._peak_bytes = max(self._peak_bytes, usage.memory_peak_bytes)
        grew = usage.oom_kills > self._oom_kills
        self._oom_kills = usage.oom_kills
        return grew
