"""What every `ondol.recorder.Recorder` does. Give the fixtures `recorder` and `reopen` (closes it and opens it again)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from ondol.model.invocations import Status
from ondol.model.records import Record
from ondol.recorder import Kept, Recorder

HOME = ("000000000000", "here-1")


def record(invocation: str, function: str = "f", status: Status = Status.OK, started_ms: int = 1000, **more: Any) -> Record:
    facts: dict[str, Any] = {
        "account": HOME[0], "region": HOME[1], "name": f"name-of-{function}", "revision": "r1", "version": None,
        "qualifier": None, "queue_ms": None, "start_ms": None, "handler_ms": 1.5, "memory_mib": 128, "memory_peak_mib": 40,
    }  # fmt: skip
    return Record(invocation=invocation, function=function, status=status, started_ms=started_ms, **{**facts, **more})


def ids(found: Sequence[Kept]) -> list[str]:
    return [each.record.invocation for each in found]


class RecorderSuite:
    """What was added is found again, newest first."""

    async def test_a_record_comes_back_as_it_was(self, recorder: Recorder) -> None:
        whole = record(
            "i", version=3, qualifier="live", queue_ms=0.25, start_ms=80.5, exit_status=-9, trace="Root=1-2;Sampled=1",
            status=Status.CRASHED, name="온돌",
        )  # fmt: skip
        assert recorder.add([whole, record("j")]) == 0
        assert [each.record for each in await recorder.find(*HOME)] == [record("j"), whole]

    async def test_they_are_found_by_function_outcome_time_and_id(self, recorder: Recorder) -> None:
        recorder.add([record("1", started_ms=100), record("2", "g", Status.FAILED, started_ms=200)])
        recorder.add([record("3", status=Status.TIMEOUT, started_ms=300), record("4", "g", started_ms=400)])
        assert ids(await recorder.find(*HOME)) == ["4", "3", "2", "1"]
        assert ids(await recorder.find(*HOME, function="g")) == ["4", "2"]
        assert ids(await recorder.find(*HOME, status=Status.TIMEOUT)) == ["3"]
        assert ids(await recorder.find(*HOME, failed=True)) == ["3", "2"]
        assert ids(await recorder.find(*HOME, failed=False)) == ["4", "1"]
        assert ids(await recorder.find(*HOME, since_ms=200, until_ms=400)) == ["3", "2"]
        assert ids(await recorder.find(*HOME, invocation="2")) == ["2"]
        assert ids(await recorder.find(*HOME, function="f", failed=True, since_ms=301)) == []

    async def test_each_attempt_of_a_call_has_its_own(self, recorder: Recorder) -> None:
        recorder.add([record("i", status=Status.FAILED), record("other"), record("i")])
        assert [each.record.status for each in await recorder.find(*HOME, invocation="i")] == [Status.OK, Status.FAILED]

    async def test_pages_follow_one_another_while_more_come_in(self, recorder: Recorder) -> None:
        recorder.add([record(str(n), "f" if n % 2 else "g") for n in range(20)])
        found: list[Kept] = []
        while page := await recorder.find(*HOME, function="f", before=found[-1].place if found else None, limit=3):
            found += page
            recorder.add([record("late")])
        assert ids(found) == [str(n) for n in range(19, 0, -2)]

    async def test_accounts_and_regions_do_not_see_one_another(self, recorder: Recorder) -> None:
        recorder.add([record("mine"), record("theirs", account="111111111111")])
        assert ids(await recorder.find(*HOME)) == ["mine"]
        assert ids(await recorder.find("111111111111", HOME[1], invocation="theirs")) == ["theirs"]
        assert ids(await recorder.find(HOME[0], "there-1")) == []

    async def test_readers_at_the_same_time_all_see_what_was_added(self, recorder: Recorder) -> None:
        recorder.add([record(str(n)) for n in range(100)])
        found = await asyncio.gather(*(recorder.find(*HOME, invocation=str(n)) for n in range(20)))
        assert [ids(each) for each in found] == [[str(n)] for n in range(20)]

    async def test_everything_is_there_after_a_restart(
        self, recorder: Recorder, reopen: Callable[[], Awaitable[Recorder]]
    ) -> None:
        recorder.add([record("1"), record("2")])
        again = await reopen()
        again.add([record("3")])
        assert ids(await again.find(*HOME)) == ["3", "2", "1"]

    @pytest.mark.parametrize("limit", [1, 3])
    async def test_no_more_than_was_asked_for(self, recorder: Recorder, limit: int) -> None:
        recorder.add([record(str(n)) for n in range(5)])
        assert len(await recorder.find(*HOME, limit=limit)) == limit
