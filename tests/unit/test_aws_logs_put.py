"""What PutLogEvents keeps of a batch: everything is kept or accounted for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws.logs_put import kept
from ondol.dialects.aws.service import ServiceError

HOUR, DAY = 3_600_000, 86_400_000
NOW = 1_767_225_600_000


@given(
    ages=st.lists(st.integers(-3 * HOUR, 20 * DAY), min_size=1, max_size=30),
    retention_days=st.none() | st.sampled_from([1, 3, 5, 30]),
)
def test_every_event_is_kept_or_falls_into_a_part_that_is_rejected(ages, retention_days):
    times = sorted(NOW - age for age in ages)
    events = [{"timestamp": at, "message": str(at)} for at in times]
    try:
        found, rejected = kept(events, now_ms=NOW, retention_days=retention_days)
    except ServiceError as error:
        assert "24 hours" in error.message
        return
    oldest = NOW - min(14, retention_days or 14) * DAY
    assert [event.at_ms for event in found] == [at for at in times if oldest <= at <= NOW + 2 * HOUR]
    begin = max(rejected.get("tooOldLogEventEndIndex", 0), rejected.get("expiredLogEventEndIndex", 0))
    end = rejected.get("tooNewLogEventStartIndex", len(times))
    assert len(found) == max(0, end - begin)


def test_the_span_of_a_batch_counts_only_what_is_kept():
    def batch(*ages):
        return [{"timestamp": NOW - age, "message": "x"} for age in ages]

    assert len(kept(batch(15 * DAY, DAY, 0), now_ms=NOW, retention_days=None)[0]) == 2
    with pytest.raises(ServiceError, match="24 hours"):
        kept(batch(DAY + 1, 0), now_ms=NOW, retention_days=None)
