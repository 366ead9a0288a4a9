"""Telling another function of a deferred call's outcome: itself a deferred call, made here and accepted with the end.

What a function is told is a record in its own system's words: `render` makes it, and the composition root hands it in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ondol.core.catalog import Index
from ondol.core.deferrals import find
from ondol.model.deferrals import Destination, Ending
from ondol.model.errors import NotFound, TooLarge
from ondol.model.limits import DEFERRED_PAYLOAD_BYTES_MAX
from ondol.queue import Deferred


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What one try of the function came to."""

    succeeded: bool
    #: What it answered, or its error; the first bytes of it when not `whole`.
    body: bytes = b""
    whole: bool = True
    #: The version that ran; None: the latest revision.
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A deferred call that has come to its end."""

    item: Deferred
    ending: Ending
    #: Wall time.
    at_s: float
    #: The try that ended it; None: it ended without one.
    tried: Tried | None

    @property
    def tries(self) -> int:
        """How often the function was tried in all."""
        return self.item.attempts + (self.tried is not None)


class Outcomes:
    """Makes the calls that tell of outcomes. `ids`: a fresh invocation id for each."""

    def __init__(self, index: Index, render: Callable[[Ended], bytes], ids: Callable[[], str]) -> None:
        self._index = index
        self._render = render
        self._ids = ids

    def sequel(self, ended: Ended, destination: Destination, now_s: float) -> Deferred:
        """The call that tells `destination`. Raises NotFound when it is gone, TooLarge for more than a deferred call holds."""
        function = find(self._index, destination)
        if function is None:
            raise NotFound("destination", destination.name)
        if ended.tried is not None and not ended.tried.whole:
            raise _too_large(len(ended.tried.body) + 1)
        payload = self._render(ended)
        if len(payload) > DEFERRED_PAYLOAD_BYTES_MAX:
            raise _too_large(len(payload))
        trace = ended.item.context.get("trace")
        return Deferred(
            id=self._ids(),
            account=function.account,
            region=function.region,
            function=function.id,
            name=function.name,
            qualifier=destination.qualifier,
            payload=payload,
            context={"trace": trace},
            accepted_s=now_s,
            visible_s=now_s,
            chain=ended.item.chain + 1,
        )


def _too_large(size: int) -> TooLarge:
    message = f"the record of the outcome has {size} bytes or more, at most {DEFERRED_PAYLOAD_BYTES_MAX} are delivered"
    return TooLarge(message, limit_bytes=DEFERRED_PAYLOAD_BYTES_MAX, actual_bytes=size)
