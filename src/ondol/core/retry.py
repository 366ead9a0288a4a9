"""What becomes of a deferred call after an attempt. Pure: time comes in, a decision goes out.

The rules are the field's usual ones: the function's own failures are retried twice, after one and two minutes; the platform's
(throttles, nothing could be started) are retried with growing pauses for six hours and do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ondol.queue import Deferred

RETRIES_MAX: Final = 2
AGE_S_MAX: Final = 6 * 3600.0
PLATFORM_PAUSE_S_MAX: Final = 300.0


@dataclass(frozen=True, slots=True)
class Ack:
    """It succeeded."""


@dataclass(frozen=True, slots=True)
class Again:
    """Not before `at_s` (wall time); `counted` tries use up RETRIES_MAX."""

    at_s: float
    counted: bool


@dataclass(frozen=True, slots=True)
class Dead:
    """It ends here."""

    reason: str


def after_success() -> Ack:
    return Ack()


def after_failure(item: Deferred, now_s: float) -> Again | Dead:
    """The function itself failed; `item.attempts` counts the tries before this one."""
    if item.attempts >= RETRIES_MAX:
        return Dead("retries exhausted")
    at_s = now_s + 60.0 * (item.attempts + 1)
    return Dead("event age exceeded") if at_s - item.accepted_s > AGE_S_MAX else Again(at_s, counted=True)


def after_refusal(item: Deferred, now_s: float) -> Again | Dead:
    """The platform could not run it: the pause is as long as it has already waited, within one second and five minutes."""
    age_s = now_s - item.accepted_s
    if age_s > AGE_S_MAX:
        return Dead("event age exceeded")
    return Again(now_s + min(max(age_s, 1.0), PLATFORM_PAUSE_S_MAX), counted=False)
