"""What becomes of a deferred call before and after an attempt. Pure: time comes in, a decision goes out.

The rules are the field's usual ones, within what the function's owner says: the function's own failures are retried twice,
after one and two minutes; the platform's (throttles, nothing could be started) are retried with growing pauses for as long as
the call may wait, and do not count. A call that is too old is not run any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ondol.core.deferrals import Rules
from ondol.model.deferrals import Ending
from ondol.queue import Deferred

#: After the function's n-th failure it waits n times as long.
FAILURE_PAUSE_S: Final = 60.0
REFUSAL_PAUSE_S_MIN: Final = 1.0
REFUSAL_PAUSE_S_MAX: Final = 300.0
#: The longest that any decision puts a call off.
PAUSE_S_MAX: Final = REFUSAL_PAUSE_S_MAX
#: Calls in one chain of outcomes: what would be one more is not run.
CHAIN_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Ack:
    """It succeeded."""


@dataclass(frozen=True, slots=True)
class Again:
    """Not before `at_s` (wall time); `counted` tries use up the retries."""

    at_s: float
    counted: bool


@dataclass(frozen=True, slots=True)
class Dead:
    """It ends here."""

    ending: Ending


def before(item: Deferred, rules: Rules, now_s: float) -> Dead | None:
    """What ends a call without another try."""
    if item.chain >= CHAIN_MAX:
        return Dead(Ending.CHAIN_TOO_LONG)
    if rules.concurrency_max == 0:
        return Dead(Ending.NO_CONCURRENCY)
    if now_s - item.accepted_s >= rules.age_s_max:
        return Dead(Ending.TOO_OLD)
    return None


def after_success() -> Ack:
    return Ack()


def after_failure(item: Deferred, rules: Rules, now_s: float) -> Again | Dead:
    """The function itself failed; `item.attempts` counts the tries before this one."""
    if item.attempts >= rules.retries_max:
        return Dead(Ending.RETRIES_EXHAUSTED)
    at_s = now_s + FAILURE_PAUSE_S * (item.attempts + 1)
    return Dead(Ending.TOO_OLD) if at_s - item.accepted_s > rules.age_s_max else Again(at_s, counted=True)


def after_refusal(item: Deferred, rules: Rules, now_s: float) -> Again | Dead:
    """The platform could not run it: each pause is twice the one before, and none leads beyond the call's time."""
    if rules.concurrency_max == 0:
        return Dead(Ending.NO_CONCURRENCY)
    ends_s = item.accepted_s + rules.age_s_max
    if now_s >= ends_s:
        return Dead(Ending.TOO_OLD)
    pause_s = min(REFUSAL_PAUSE_S_MIN * 2.0 ** min(item.refusals, 30), REFUSAL_PAUSE_S_MAX)
    return Again(min(now_s + pause_s, ends_s), counted=False)
