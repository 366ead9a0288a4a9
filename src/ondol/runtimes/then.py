"""Who waits for an answer without a coroutine, in the place of a future."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ondol.runtime import Answer

log = logging.getLogger(__name__)


class Then:
    """Hands the answer on at once, as far as a worker uses a future."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[Answer], None]) -> None:
        self._then: Callable[[Answer], None] | None = then

    def done(self) -> bool:
        return self._then is None

    def set_result(self, answer: Answer) -> None:
        then, self._then = self._then, None
        assert then is not None
        try:
            then(answer)
        except Exception:
            log.exception("an answer could not be handed on")
