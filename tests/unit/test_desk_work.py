"""What the desk does once per start of the node."""

from __future__ import annotations

import pytest

from ondol.node.desk_work import once_per_start


@pytest.fixture
def work():
    async def work():
        work.done += 1
        return 7

    work.done = 0
    return work


async def test_a_restarted_desk_does_not_do_again_what_this_start_has_done(tmp_path, work):
    assert await once_per_start(tmp_path / "boot", "one", work) == 7
    assert await once_per_start(tmp_path / "boot", "one", work) == 0
    assert work.done == 1


async def test_the_next_start_does_it_again(tmp_path, work):
    for boot in ("one", "two", "one"):
        await once_per_start(tmp_path / "boot", boot, work)
    assert work.done == 3


async def test_work_that_failed_is_done_again(tmp_path, work):
    async def failing():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await once_per_start(tmp_path / "boot", "one", failing)
    assert await once_per_start(tmp_path / "boot", "one", work) == 7


async def test_a_mark_that_cannot_be_written_costs_a_second_time_only(tmp_path, work):
    for _ in range(2):
        assert await once_per_start(tmp_path / "missing" / "boot", "one", work) == 7
