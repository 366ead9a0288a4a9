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


def backoff_s(failures: int, limits: PoolLimits) -> float:
    """The pause after `failures` failed starts in a row."""
    assert failures > 0
    doubled = limits.backoff_s_min * 2.0 ** min(failures - 1, 30)
    return min(doubled, limits.backoff_s_max)
