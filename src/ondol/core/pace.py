"""How many calls a second may be let in that somebody waits for: ten times a limit on concurrency.

A bucket for each limit, of one second's worth, which fills as time goes by. The time is looked at only when a bucket is empty:
a call costs one subtraction, and what may come in at once is up to what two seconds bring. Pure: time is an input.

Of several fronts each has ten times what it holds of the limit (`core/leases.py`); who is refused may borrow more of that.
"""

from __future__ import annotations

from typing import Final

#: Calls a second for each that may be running.
RATE: Final = 10


class Bucket:
    """Of one limit. `left`: calls that may come in before anybody looks at the time."""

    __slots__ = ("_at_s", "_most", "left")

    def __init__(self, concurrency: int, now_s: float) -> None:
        self.left = self._most = RATE * concurrency
        self._at_s = now_s

    def refill(self, concurrency: int, now_s: float) -> bool:
        """Add what has come since it was last done; what the limit has grown by comes at once. Whether a call may come in."""
        most = RATE * concurrency
        came = int((now_s - self._at_s) * most)
        if came >= most:
            self.left, self._at_s = most, now_s
        elif came > 0:
            self.left, self._at_s = min(self.left + came, most), self._at_s + came / most  # the rest of a call is not lost
        if most > self._most:
            self.left = min(self.left + most - self._most, most)
        self._most = most
        return self.left > 0
