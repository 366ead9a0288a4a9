"""How many prepared shells of a kind are worth keeping, going by how many were taken lately. Pure: the time is an input."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

#: Shells that are taken within so long of each other are wanted together: a stock cannot be refilled much quicker.
TOGETHER_S: Final = 1.0
#: In so long, half of what was wanted at most is forgotten.
HALF_LIFE_S: Final = 30.0
#: Of a kind whose shells are dear, one is kept when none was taken for so long …
QUIET_S: Final = 60.0
#: … and none after this.
IDLE_S: Final = 3600.0


class Demand:
    """Of one kind: at least `least` are kept, at most `most`; in between as many as were taken within TOGETHER_S lately.

    `dear`: each costs so much that the least is kept only while the kind is in use.
    """

    __slots__ = ("_at_s", "_dear", "_least", "_most", "_peak", "_taken")

    def __init__(self, least: int, most: int, *, dear: bool = False) -> None:
        self._least = least
        self._most = max(most, least) if least else 0
        self._dear = dear
        self._taken: deque[float] = deque(maxlen=max(self._most, 1))
        self._peak = 0.0
        self._at_s = -math.inf if dear else 0.0

    def taken(self, now_s: float) -> None:
        """One was asked for, whether or not there was one."""
        self._taken.append(now_s)
        together = sum(now_s - at_s <= TOGETHER_S for at_s in self._taken)
        self._peak = max(self._decayed(now_s), float(together))
        self._at_s = now_s

    def least(self, now_s: float) -> int:
        """How many should be ready now even if nobody asks."""
        quiet_s = now_s - self._at_s
        if not self._dear or quiet_s <= QUIET_S:
            return self._least
        return min(self._least, 0 if self.is_over(now_s) else 1)

    def is_over(self, now_s: float) -> bool:
        """Whether none was asked for in so long that nothing need be kept for the next one."""
        return now_s - self._at_s > IDLE_S

    def wanted(self, now_s: float) -> int:
        """How many should be ready now."""
        return min(max(self.least(now_s), math.ceil(self._decayed(now_s) - 0.5)), self._most)

    def _decayed(self, now_s: float) -> float:
        return float(self._peak * 0.5 ** ((now_s - self._at_s) / HALF_LIFE_S)) if self._peak else 0.0
