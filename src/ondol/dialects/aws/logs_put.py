"""What PutLogEvents takes of a batch, and what it rejects. Pure.

Rejected one by one: events more than two hours ahead, older than 14 days, or older than their group keeps. Refused as a whole:
a batch out of order, over its size, or longer than a day from its first event that is kept to its last.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from ondol.dialects.aws.logs_parts import invalid
from ondol.model.invocations import LogEvent

BATCH_BYTES_MAX: Final = 1_048_576
EVENT_BYTES_MAX: Final = 1_048_576
EVENT_OVERHEAD_BYTES: Final = 26
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
AHEAD_MS_MAX: Final = 2 * _HOUR_MS
AGE_DAYS_MAX: Final = 14


def kept(events: Sequence[dict[str, Any]], *, now_ms: int, retention_days: int | None) -> tuple[list[LogEvent], dict[str, int]]:
    """The events to keep, and `rejectedLogEventsInfo` (empty when there is nothing in it)."""
    _check_size(events)
    times = [event["timestamp"] for event in events]
    if any(later < earlier for earlier, later in pairwise(times)):
        raise invalid("Log events in a single PutLogEvents request must be in chronological order.")
    old = sum(at < now_ms - AGE_DAYS_MAX * _DAY_MS for at in times)
    expired = 0 if retention_days is None else sum(at < now_ms - retention_days * _DAY_MS for at in times)
    new = sum(at <= now_ms + AHEAD_MS_MAX for at in times)
    first = max(old, expired)
    if first < new and times[new - 1] - times[first] > _DAY_MS:
        raise invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
    rejected = {}
    if new < len(times):
        rejected["tooNewLogEventStartIndex"] = new
    if old:
        rejected["tooOldLogEventEndIndex"] = old
    if expired > old:
        rejected["expiredLogEventEndIndex"] = expired
    return [LogEvent(event["timestamp"], event["message"]) for event in events[first:new]], rejected


def _check_size(events: Sequence[dict[str, Any]]) -> None:
    total = 0
    for event in events:
        size = len(event["message"].encode("utf-8", "replace"))
        if size > EVENT_BYTES_MAX:
            raise invalid(f"Log event too large: {size} bytes exceeds limit of {EVENT_BYTES_MAX}")
        total += size + EVENT_OVERHEAD_BYTES
    if total > BATCH_BYTES_MAX:
        raise invalid(f"Upload too large: {total} bytes exceeds limit of {BATCH_BYTES_MAX}")
