"""The pool's numbers and judgements: what may be held, how long, and how patiently. Pure functions of what they are given.

The machine asks, this module answers; it must not know slots, clocks or processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """The bounds of one node's pool."""

    #: Sum of the memory sizes of everything that is up or coming up.
    memory_mib_max: int
    #: Pools of one node, each with as much.
    pools: int = 1
    #: Environments up or coming up: bounds descriptors and processes.
    slots_max: int = 2000
    #: Environments coming up at the same time.
    starts_max: int = 16
    #: Longest waiting line, per revision and in all.
    line_revision_max: int = 1000
    line_total_max: int = 4000
    #: Processors of this machine: so many calls that compute run side by side.
    processors: int = 1
    #: The longest that a call waits because waiting seems quicker than starting, without anything that has been started.
    trust_s_max: float = 1.0
    #: How many environments one revision may get for its calls at once, and in `scaling_s` after that.
    scaling_max: int = 1000
    scaling_s: float = 10.0
    #: How long an idle environment is kept, and one that never served anything.
    idle_s_max: float = 600.0
    idle_unused_s_max: float = 60.0
    #: After how long an idle environment is frozen, where that can be done: never on the way of calls that follow each other.
    freeze_s_min: float = 5.0
    #: When a revision is replaced: how many environments of the new one are started ahead of calls at most; how lately one of
    #: the old must have been used for another to be started in its place; and how long the old ones stay for them.
    ahead_max: int = 4
    ahead_s_max: float = 60.0
    handover_s_max: float = 10.0
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
    #: How long it has been there, and how long it has been idle.
    age_s: float = 0.0
    idle_s: float = 0.0
    #: What a start of its revision takes longer than a call, and what it holds.
    start_s: float = 0.0
    memory_mib: int = 1


def keep_s(history: History, limits: PoolLimits) -> float:
    """How long an environment may stand idle. One that nobody needed after all goes earlier."""
    return limits.idle_s_max if history.calls else min(limits.idle_unused_s_max, limits.idle_s_max)


def ahead_of_need(unused_s: Sequence[float], limits: PoolLimits) -> int:
    """How many environments are to be started ahead in place of those that were not used for so long.

    One for each that was used lately; and one where none was, but one is still kept for its last call.
    """
    kept = [seconds for seconds in unused_s if seconds < limits.idle_s_max]
    lately = sum(seconds < limits.ahead_s_max for seconds in kept)
    return min(max(lately, min(len(kept), 1)), limits.ahead_max)


def worth(history: History) -> float:
    """What keeping it saves: seconds of starts, for each second and MiB. Whoever is worth least makes room for others.

    How often it was called so far says how soon it is likely to be called again, less so the longer it has not been.
    """
    calls_per_s = (history.calls + 1) / (history.age_s + 1)
    return calls_per_s / (1 + history.idle_s) * max(history.start_s, _MOMENT_S) / history.memory_mib


#: Of what is measured, what calls are expected to take: longer than most of them.
_QUANTILE = 0.75
_STEP = 0.2
_UP, _DOWN = math.exp(_STEP * _QUANTILE), math.exp(-_STEP * (1 - _QUANTILE))
#: A call that has run for so many times what is expected is not expected to end soon.
STUCK_TIMES = 2.0
#: A shorter start or call is as good as one of this length.
_MOMENT_S = 0.0001
#: How much the last cold start counts among all.
_LAST_SHARE = 0.3


class Tempo:
    """How quick a revision's calls and cold starts are lately, and what follows for those who wait."""

    __slots__ = ("_cold_s", "_duration_s")

    def __init__(self) -> None:
        self._duration_s = 0.0
        self._cold_s = 0.0

    @property
    def known(self) -> bool:
        """Whether there is a history to go by."""
        return self._duration_s > 0 and self._cold_s > 0

    @property
    def stuck_s(self) -> float:
        """From when on a running call is not expected to end soon."""
        return self._duration_s * STUCK_TIMES

    def called(self, seconds: float) -> None:
        """A call in an environment that had loaded took so long: the estimate moves a step, so that outliers hardly count."""
        if not self._duration_s:
            self._duration_s = max(seconds, _MOMENT_S)
        else:
            self._duration_s = max(self._duration_s * (_UP if seconds > self._duration_s else _DOWN), _MOMENT_S)

    def started(self, seconds: float) -> None:
        """From the decision to start an environment to its first answer it took so long."""
        self._cold_s = seconds if not self._cold_s else self._cold_s + (seconds - self._cold_s) * _LAST_SHARE

    def start_s(self, limits: PoolLimits) -> float:
        """How much longer a call takes that has to start its environment."""
        return min(max(self._cold_s - self._duration_s, _MOMENT_S), limits.trust_s_max)

    def needed(self, waiting: int, prompt: int, limits: PoolLimits) -> int:
        """How many environments should be coming for `waiting` calls, with `prompt` at work that are expected to be free soon.

        Whoever is served in the time that a start takes waits for that; for the others, one that is started serves as many
        as it can in that time again, and at least one. Fewer than there are processors are never thought enough while
        somebody waits: those idle.
        """
        if not self.known:
            return waiting
        turns = int(self.start_s(limits) / self._duration_s)
        left = max(waiting - prompt * turns, 0)
        return max(math.ceil(left / max(turns, 1)), min(waiting, limits.processors - prompt))


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
