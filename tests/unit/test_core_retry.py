"""What becomes of a deferred call after an attempt."""

from __future__ import annotations

import pytest

from ondol.core.retry import AGE_S_MAX, Ack, Again, Dead, after_failure, after_refusal, after_success
from ondol.queue import Deferred


def item(attempts=0, accepted_s=1000.0):
    return Deferred(
        id="i", account="1", region="r", function="f", qualifier=None, payload=b"", context={},
        accepted_s=accepted_s, visible_s=0.0, attempts=attempts,
    )  # fmt: skip


def test_success_ends_it():
    assert after_success() == Ack()


@pytest.mark.parametrize(
    ("attempts", "then"), [(0, Again(1060.0, counted=True)), (1, Again(1120.0, counted=True)), (2, Dead("retries exhausted"))]
)
def test_a_functions_own_failure_is_tried_twice_more(attempts, then):
    assert after_failure(item(attempts), 1000.0) == then


def test_a_failure_that_could_only_be_tried_when_it_is_too_old_ends_it():
    assert after_failure(item(), 1000.0 + AGE_S_MAX - 59.0) == Dead("event age exceeded")
    assert isinstance(after_failure(item(), 1000.0 + AGE_S_MAX - 61.0), Again)


@pytest.mark.parametrize(
    ("age_s", "pause_s"), [(0, 1), (0.2, 1), (20, 20), (299, 299), (301, 300), (AGE_S_MAX, 300), (-5000, 1)]
)
def test_a_refusal_does_not_count_and_its_pause_grows_with_age(age_s, pause_s):
    now_s = 1000.0 + age_s
    assert after_refusal(item(attempts=2), now_s) == Again(now_s + pause_s, counted=False)


def test_refusals_end_when_the_call_is_too_old():
    assert after_refusal(item(), 1000.0 + AGE_S_MAX + 1) == Dead("event age exceeded")
