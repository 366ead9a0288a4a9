"""What one of several fronts shares with the others, put together; a front that is alone has all of it, and asks nobody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ondol.core.admit import Admission
from ondol.core.leases import Shares
from ondol.model.functions import Function
from ondol.node.leasing import Leasing
from ondol.node.levels import LevelsHere
from ondol.node.link import Handler, Link


class Sharing:
    """`admission` counts; `follow` is a listener for the catalog's index; the rest is None, or nothing, with one front."""

    def __init__(self, front: int, fronts: int, *, concurrency_max: int, cast: Callable[[str, Any], bool]) -> None:
        """`front`: which one this is, from 0. `cast`: a message to the desk; whether it could be sent."""
        self.borrow: Callable[[Function, bool], Awaitable[None]] | None = None
        self.opened: Callable[[Link], Awaitable[None]] | None = None
        self.handlers: dict[str, Handler] = {}
        self._leasing: Leasing | None = None
        self._levels: LevelsHere | None = None
        if fronts == 1:
            self.admission = Admission(concurrency_max=concurrency_max)
            return
        shares = Shares(lambda key: self.admission.used(key))  # noqa: PLW0108  # made below
        self.admission = Admission(concurrency_max=concurrency_max, leased=shares.usable)
        self._levels = LevelsHere(self.admission, cast)
        self._leasing = Leasing(front, self.admission, shares, self._levels.opened)
        self.borrow, self.opened = self._leasing.borrow, self._leasing.opened
        self.handlers = {**self._leasing.handlers, **self._levels.handlers}

    def follow(self, key: str, noun: Any) -> None:
        self.admission.follow(key, noun)
        if self._leasing is not None:
            self._leasing.follow(key, noun)

    async def serve(self) -> None:
        """Until cancelled, or nobody needs it."""
        if self._levels is not None:
            await self._levels.serve()
