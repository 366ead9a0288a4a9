"""The desk's sweeping: every room gets its turn."""

from __future__ import annotations

import asyncio

from ondol.model.errors import OutOfSpace
from ondol.node import desk_work
from ondol.testing.pool import virtually


@virtually
async def test_a_room_that_cannot_be_swept_keeps_no_other_from_it_and_is_tried_again():
    swept = []

    async def full():
        swept.append("full")
        raise OutOfSpace("no room")

    async def fine():
        swept.append("fine")

    sweeping = asyncio.create_task(desk_work.sweep(full, fine))
    await asyncio.sleep(desk_work.SWEEP_S * 2.5)
    sweeping.cancel()
    assert swept == ["full", "fine"] * 2
