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
    #: What a start takes, roughly: a line that those who are up will have served by then needs no start.
    start_expected_s: float = 0.01
    #: Calls shorter than this are quick: of those, this many of a revision run at a time (a processor each), and more wait in
    #: the line, where they wait for a processor sooner than in one more process that needs its turn and its caches …
    quick_s: float = 0.002
    quick_running_max: int = 2
    #: … but not longer than this: then they take what is idle.
    quick_wait_s_max: float = 0.01
    #: How long an idle environment is kept, and one that never served anything.
    idle_s_max: float = 600.0
    idle_unused_s_max: float = 60.0
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


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known about an idle environment."""

    #: Calls it has served.
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is known about a revision that somebody waits for."""

    waiting: int
    #: Environments up, and coming up.
    up: int
    coming: int
    #: How long calls take, lately; None: not known.
    call_s: float | None
    #: Whether the first whom nothing that is coming up will take has waited beyond `overdue_at_s`.
    overdue: bool


def keep_s(history: History, limits: PoolLimits) -> float:
    """How long an environment may stand idle. One that nobody needed after all goes earlier."""
    return limits.idle_s_max if history.calls else min(limits.idle_unused_s_max, limits.idle_s_max)


def is_sooner_in_line(fastest_s: float | None, busy: int, limits: PoolLimits) -> bool:
    """Whether a call does better to wait for one of the `busy` environments than to take an idle one."""
    return fastest_s is not None and fastest_s < limits.quick_s and busy >= limits.quick_running_max


def is_start_due(line: Line, limits: PoolLimits) -> bool:
    """Whether one more environment would serve a waiting line sooner than those that are up and coming up.

    What is known of the calls is what they took lately; one who is overdue has seen that those under way are others.
    """
    if not line.up or line.call_s is None or line.overdue:
        return True
    return line.waiting * line.call_s > limits.start_expected_s * (line.up + line.coming)


def overdue_at_s(since_s: float, limits: PoolLimits) -> float:
    """Until when one who waits since `since_s` may be left to those that are up."""
    return since_s + 2 * limits.start_expected_s


def backoff_s(failures: int, limits: PoolLimits) -> float:
    """The pause after `failures` failed starts in a row."""
    assert failures > 0
    doubled = limits.backoff_s_min * 2.0 ** min(failures - 1, 30)
    return min(doubled, limits.backoff_s_max)
