"""Random ids: of requests, and in trace headers.

The kernel is asked for POOL_BYTES at a time, since a system call for each id costs more than all the rest of making it.
"""

from __future__ import annotations

import os
from typing import Final

from ondol.accelerator import hot

POOL_BYTES: Final = 2048


class _Digits:
    """Hexadecimal digits that are given out once."""

    __slots__ = ("_at", "_text")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._text = ""
        self._at = 0

    def take(self, count: int) -> str:
        at = self._at
        end = at + count
        if end > len(self._text):
            self._text = os.urandom(POOL_BYTES).hex()
            at, end = 0, count
        self._at = end
        return self._text[at:end]


_digits = _Digits()
#: A forked child must not give out its parent's.
os.register_at_fork(after_in_child=_digits.forget)
#: `digits(n)`: n random lower-case hexadecimal digits, at most 2 * POOL_BYTES.
digits = _digits.take


def new_request_id() -> str:
    """A random UUID's text; `uuid.uuid4` takes three times as long."""
    drawn = digits(32)
    return hot.uuid_of(drawn) or _uuid_of(drawn)


def _uuid_of(drawn: str) -> str:
    return f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-{'89ab'[int(drawn[16], 16) & 3]}{drawn[17:20]}-{drawn[20:]}"
