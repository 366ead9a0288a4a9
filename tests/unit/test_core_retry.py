"""What becomes of a deferred call before and after an attempt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.core.deferrals import USUAL
from ondol.core.retry import (
    CHAIN_MAX,
    PAUSE_S_MAX,
    Ack,
    Again,
    Dead,
    after_failure,
    after_refusal,
    after_success,
    before,
)
from ondol.model.deferrals import Ending
from ondol.queue import Deferred

AGE_S_MAX = 21600.0
TOO_OLD, EXHAUSTED = Dead(Ending.TOO_OLD), Dead(Ending.RETRIES_EXHAUSTED)


def item(attempts=0, accepted_s=1000.0, **more):
    return Deferred(
        id="i", account="1", region="r", function="f", qualifier=None, payload=b"", context={},
        accepted_s=accepted_s, visible_s=0.0, attempts=attempts, **more,
    )  # fmt: skip


def test_success_ends_it():
    assert after_success() == Ack()


@pytest.mark.parametrize(
    ("attempts", "then"), [(0, Again(1060.0, counted=True)), (1, Again(1120.0, counted=True)), (2, EXHAUSTED)]
)
def test_a_functions_own_failure_is_tried_twice_more(attempts, then):
    assert after_failure(item(attempts), USUAL, 1000.0) == then


@pytest.mark.parametrize(("retries", "attempts"), [(0, 0), (1, 1), (2, 2)])
def test_it_is_tried_as_often_as_its_owner_says(retries, attempts):
    rules = replace(USUAL, retries_max=retries)
    assert after_failure(item(attempts), rules, 1000.0) == EXHAUSTED
    if attempts:
        assert isinstance(after_failure(item(attempts - 1), rules, 1000.0), Again)


def test_a_failure_that_could_only_be_tried_when_it_is_too_old_ends_it():
    assert after_failure(item(), USUAL, 1000.0 + AGE_S_MAX - 59.0) == TOO_OLD
    assert isinstance(after_failure(item(), USUAL, 1000.0 + AGE_S_MAX - 61.0), Again)
    # With the shortest age there is no time for a second minute.
    assert after_failure(item(1), replace(USUAL, age_s_max=60), 1061.0) == TOO_OLD


@pytest.mark.parametrize(("refusals", "pause_s"), [(0, 1), (1, 2), (5, 32), (8, 256), (9, 300), (5000, 300)])
def test_a_refusal_does_not_count_and_each_pause_is_twice_the_last(refusals, pause_s):
    for now_s in (1000.0, 5000.0, -5000.0):  # also for a clock that was set back
        decision = after_refusal(item(attempts=2, refusals=refusals), USUAL, now_s)
        assert decision == Again(now_s + pause_s, counted=False)


def test_refusals_end_when_the_call_is_too_old_and_not_before():
    assert after_refusal(item(refusals=9), USUAL, 1000.0 + AGE_S_MAX) == TOO_OLD
    assert after_refusal(item(refusals=9), USUAL, 900.0 + AGE_S_MAX) == Again(1000.0 + AGE_S_MAX, counted=False)


def test_what_is_too_old_is_not_tried_any_more():
    assert before(item(), USUAL, 1000.0 + AGE_S_MAX - 0.1) is None
    assert before(item(), USUAL, 1000.0 + AGE_S_MAX) == TOO_OLD
    assert before(item(), replace(USUAL, age_s_max=60), 1060.0) == TOO_OLD


def test_where_no_concurrency_is_left_by_the_owner_nothing_is_tried():
    none = replace(USUAL, concurrency_max=0)
    assert before(item(), none, 1000.0) == after_refusal(item(), none, 1000.0) == Dead(Ending.NO_CONCURRENCY)
    assert before(item(), replace(USUAL, concurrency_max=1), 1000.0) is None


def test_a_chain_ends_after_sixteen_calls():
    assert before(item(chain=CHAIN_MAX - 1), USUAL, 1000.0) is None
    assert before(item(chain=CHAIN_MAX), USUAL, 1000.0) == Dead(Ending.CHAIN_TOO_LONG)


@given(
    attempts=st.integers(0, 3),
    refusals=st.integers(0, 10_000),
    retries=st.integers(0, 2),
    age_s=st.integers(60, 21600),
    late_s=st.floats(-1e6, 1e6),
)
def test_no_decision_puts_a_call_off_beyond_its_time_or_the_longest_pause(attempts, refusals, retries, age_s, late_s):
    rules = replace(USUAL, retries_max=retries, age_s_max=age_s)
    call, now_s = item(attempts, refusals=refusals), 1000.0 + late_s
    for decide in (after_failure, after_refusal):
        decision = decide(call, rules, now_s)
        if isinstance(decision, Again):
            assert now_s <= decision.at_s <= now_s + PAUSE_S_MAX
            assert decision.at_s - call.accepted_s <= age_s
