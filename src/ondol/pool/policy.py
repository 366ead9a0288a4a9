"""The pool's numbers and judgements: what may be held, how long, and how patiently. Pure functions of what they are given.

The machine asks, this module answers; it must not know slots, clocks or processes. Learning from a function's history means
giving `History` more facts and `keep_s` a better answer: nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """The bounds of one node's pool."""

    #: Sum of the memory sizes of everything that is up or coming up.
    memory_mib_max: int
    #: Environments up or coming up: bounds descriptors and processes.
    slots_max: int = 2000
    #: Environments coming up at the same time.
    starts_max: int = 16
    #: Longest waiting line, per revision and in all.
    line_revision_max: int = 1000
    line_total_max: int = 4000
    #: How many environments one revision may get for its calls at once, and in `scaling_s` after that.
    scaling_max: int = 1000
    scaling_s: float = 10.0
    #: How long an idle environment is kept, and one that never served anything.
    idle_s_max: float = 600.0
    idle_unused_s_max: float = 60.0
    #: After how long an idle environment is frozen, where that can be done: never on the way of calls that follow each other.
    freeze_s_min: float = 5.0
    #: Failed starts in a row after which those who wait are told.
    start_failures_max: int = 3
    #: Pause after the first failed start; doubles with each further one up to the second.
    backoff_s_min: float = 0.1
    backoff_s_max: float = 30.0
    #: How long others may overtake one that waits for memory; afterwards busy environments are given up for it.
    patience_s_max: float = 1.0
    #: How long one start, and one stop, may take.
    start_s_max: float = 30.0
    stop_s_max: float = 30.0
    #: How long an environment that is to be kept up may take to load.
    load_s_max: float = 130.0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known about an idle environment."""

    #: Calls it has served.
    calls: int


def keep_s(history: History, limits: PoolLimits) -> float:
    """How long an environment may stand idle. One that nobody needed after all goes earlier."""
    return limits.idle_s_max if history.calls else min(limits.idle_unused_s_max, limits.idle_s_max)


class Scaling:
    """How much a revision may still grow: a bucket that holds `scaling_max` and fills in `scaling_s`."""

    __slots__ = ("_at_s", "_left")

    def __init__(self, limits: PoolLimits, now_s: float) -> None:
        self._left = float(limits.scaling_max)
        self._at_s = now_s

    def left(self, limits: PoolLimits, now_s: float) -> float:
        """Environments that may be started now."""
        filled = self._left + (now_s - self._at_s) * limits.scaling_max / limits.scaling_s
        self._left, self._at_s = min(filled, float(limits.scaling_max)), now_s
        return self._left

    def take(self, limits: PoolLimits, now_s: float) -> None:
        """One is started; also where there is nothing left, for somebody who was let in when there was."""
        self._left = max(self.left(limits, now_s) - 1, 0.0)


def backoff_s(failures: int, limits: PoolLimits) -> float:
    """The pause after `failures` failed starts in a row."""
    assert failures > 0
    doubled = limits.backoff_s_min * 2.0 ** min(failures - 1, 30)
    return min(doubled, limits.backoff_s_max)
