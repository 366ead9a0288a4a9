"""Which CPU the front and the guest that it calls run on.

Where calls come one at a time, a guest that is woken on another CPU finds that one asleep, and so does the front when the
answer comes: waking a CPU takes longer than a small function does. So after ALONE calls in a row that were each alone, the
front stays on the CPU where it is, and asks the guest, in the call's flags, to wait for its next call there. As soon as two
calls are under way, both may run anywhere again: then a CPU each is faster. Handlers see nothing of it: a guest has all its
CPUs back before it hands a call over (`ondol_guest.aws`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

from ondol.syscalls import current_cpu
from ondol_guest import frames

#: Calls in a row, each alone, before the front stays where it is.
ALONE: Final = 64
#: After so many in a row the scheduler chooses anew: what else runs on that CPU may have changed.
ANEW: Final = 16_384

log = logging.getLogger(__name__)


class Affinity:
    """Of one front, for all its guests. Costs a call two additions."""

    __slots__ = ("_cpus", "_flags", "_in_a_row", "_set", "_under_way", "_where")

    def __init__(
        self,
        cpus: frozenset[int] | None = None,
        *,
        where: Callable[[], int] = current_cpu,
        set_cpus: Callable[[set[int] | frozenset[int]], None] = lambda cpus: os.sched_setaffinity(0, cpus),
    ) -> None:
        #: All that this process may use; with one, or with one that a frame cannot name, there is nothing to choose.
        self._cpus = frozenset(os.sched_getaffinity(0)) if cpus is None else cpus
        self._where = where
        self._set = set_cpus
        self._under_way = 0
        self._in_a_row = 0
        self._flags = 0
        if len(self._cpus) < 2 or max(self._cpus) > frames.CPU_MAX:
            self._in_a_row = -1 << 62  # never ALONE

    def begins(self) -> int:
        """A call is about to be sent: the flags for it."""
        self._under_way += 1
        if self._under_way > 1:
            if self._in_a_row > 0:
                self._apart()
            return 0
        self._in_a_row += 1
        if self._in_a_row == ALONE:
            self._together()
        elif self._in_a_row == ANEW:
            self._apart()
        return self._flags

    def ended(self) -> None:
        """One that began is over."""
        self._under_way -= 1

    def _together(self) -> None:
        cpu = self._where()
        if cpu in self._cpus and self._may({cpu}):
            self._flags = cpu + 1 << frames.CPU_SHIFT

    def _apart(self) -> None:
        self._in_a_row = 0
        if self._flags:
            self._flags = 0
            self._may(self._cpus)

    def _may(self, cpus: set[int] | frozenset[int]) -> bool:
        """Run on these only. False when the machine has come to see that otherwise."""
        try:
            self._set(cpus)
        except OSError as error:
            log.info("this process may not choose its CPU any more: %s", error)
            return False
        return True
