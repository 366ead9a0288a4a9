"""A front's half of the limits that all fronts share: what it holds, and how it gets more (`core/leases.py`; the desk's half is
`lending.py`).

A call that finds room here asks nobody. One that does not waits until the desk was asked, once for all that wait, and is then
let in or refused; so it is refused only when no front has room that is not in use. While the desk is away, or a front that has
some, such a call waits for AWAY_S_MAX at most: they are being started again, and others go on with what they have.

Invariants: what the desk grants is taken on once, on the line that it came by; a new line begins with saying what is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ondol.core.admit import Admission
from ondol.core.leases import Key, Shares
from ondol.model.errors import Throttled, Unavailable
from ondol.model.functions import Function
from ondol.node.link import Handler, Link

#: Messages on the line between front and desk: what a front holds, its wish for more; the desk's gifts, and what it wants back.
DECLARE: Final = "leases"
ASK: Final = "lease"
GRANT: Final = "grant"
LEND: Final = "lend"
OWE: Final = "owe"
#: How long a call waits for more room while the desk, or a front, is away.
AWAY_S_MAX: Final = 5.0
AGAIN_S: Final = 0.05
#: How long the desk may take; it asks the other fronts, which answer from memory.
ANSWER_S_MAX: Final = 5.0
#: Calls that wait for more room at once; more are refused.
WAITING_MAX: Final = 2000

log = logging.getLogger(__name__)


def changed(key: str) -> str:
    """The function that may have another limit, now that this document of the catalog has changed; "": none."""
    kind, *parts = key.split("/")
    return parts[-1] if kind == "function" else parts[0] if kind == "pin" else ""


def plain_of(counts: dict[Key, int]) -> list[list[Any]]:
    """As the line holds it."""
    return [[key, count] for key, count in counts.items()]


def counts_of(value: Any) -> list[tuple[Key, int]]:
    """Read from the line, where a pair has become a list."""
    return [(key if isinstance(key, str) else (key[0], key[1]), count) for key, count in value]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call that wants to be let in."""

    function: Function
    done: asyncio.Future[None]
    until_s: float
    #: Its caller waits, so that it counts against the rate, too.
    paced: bool = False
    #: The desk was asked after this call came.
    asked: bool = False

    @property
    def keys(self) -> tuple[Key, ...]:
        """What would let it in."""
        if self.function.concurrency_reserved is None:
            return self.function.id, (self.function.account, self.function.region)
        return (self.function.id,)


class Leasing:
    """See the module. `number`: of this front, from 0."""

    def __init__(self, number: int, admission: Admission, shares: Shares, opened: Callable[[], None] = lambda: None) -> None:
        """`opened` is called after each new line."""
        self._number = number
        self._also = opened
        self._admission = admission
        self._shares = shares
        self._link: Link | None = None
        self._waiting: deque[_Waiting] = deque()
        self._asking: asyncio.Task[None] | None = None
        self.handlers: dict[str, Handler] = {GRANT: self._granted, LEND: self._lend, OWE: self._owe}

    def follow(self, key: str, _noun: Any) -> None:
        """A listener for the catalog's index, behind the admission's: what nobody sets aside any more is not held any more."""
        function = changed(key)
        if function and not self._admission.set_aside(function):
            self._shares.forget(function)

    async def opened(self, link: Link) -> None:
        """On each new line to the desk: say what is held. Raises Unavailable when it closes meanwhile."""
        self._link = None  # what still comes from the old one is not counted any more
        granted = await link.call(DECLARE, [self._number, plain_of(self._shares.held())])
        self._link = link
        self._shares.grant(counts_of(granted))
        self._also()

    # Calls that were refused ---------------------------------------------------------------------------------------------
    async def borrow(self, function: Function, paced: bool = False) -> None:
        """Enter the function, `paced` or not, with room that another front has; raises Throttled when none has any."""
        if function.concurrency_reserved == 0 or len(self._waiting) >= WAITING_MAX:
            raise Throttled("account" if function.concurrency_reserved is None else "function")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(function, loop.create_future(), loop.time() + AWAY_S_MAX, paced)
        self._waiting.append(waiting)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_all(), name="asking for room")
        try:
            await waiting.done
        except asyncio.CancelledError:
            if waiting.done.done() and not waiting.done.cancelled() and waiting.done.exception() is None:
                self._admission.leave(function)
            raise

    async def _ask_for_all(self) -> None:
        try:
            while self._waiting:
                self._let_in()
                if self._waiting and not await self._ask_once():
                    await asyncio.sleep(AGAIN_S)
        except Exception:  # a mistake of ours must leave nobody waiting
            log.exception("calls could not be let in")
            for waiting in self._waiting:
                _settle(waiting, Unavailable("the node failed; its log says why"))
            self._waiting.clear()
        finally:
            self._asking = None

    async def _ask_once(self) -> bool:
        """Ask the desk for what those want who wait now; whether that was its last word."""
        link = self._link
        if link is None or not link.open:
            return False
        wants = Counter(key for waiting in self._waiting for key in waiting.keys if self._is_limited(key))
        for waiting in self._waiting:
            waiting.asked = True
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                answer = await link.call(ASK, plain_of(dict(wants)))
        except Unavailable:
            answer = None
        except TimeoutError:
            log.warning("the desk did not say within %.0f s what may be used", ANSWER_S_MAX)
            link.abort()  # what it granted after all is settled on a new line
            answer = None
        final: bool
        granted, final = answer if answer is not None and link is self._link else ([], False)
        self._shares.grant(counts_of(granted))
        if not final:
            for waiting in self._waiting:
                waiting.asked = False
        return final

    def _is_limited(self, key: Key) -> bool:
        return isinstance(key, tuple) or self._admission.set_aside(key) > 0

    def _let_in(self) -> None:
        """Whoever finds room now; who was asked for and finds none, or waited too long, is refused."""
        now_s = asyncio.get_running_loop().time()
        for _ in range(len(self._waiting)):
            waiting = self._waiting.popleft()
            if waiting.done.done():  # it was cancelled
                continue
            try:
                self._admission.enter(waiting.function, paced=waiting.paced)
            except Throttled as refused:
                if waiting.asked or now_s >= waiting.until_s:
                    _settle(waiting, refused)
                else:
                    self._waiting.append(waiting)
            else:
                waiting.done.set_result(None)

    # What the desk says --------------------------------------------------------------------------------------------------
    # On a line that is gone nothing is given and nothing taken: what is held has been said anew.
    async def _granted(self, link: Link, value: Any) -> None:
        if link is self._link:
            self._shares.grant(counts_of(value))

    async def _lend(self, link: Link, value: Any) -> list[list[Any]]:
        if link is not self._link:
            return []
        return [[key, given] for key, count in counts_of(value) if (given := self._shares.lend(key, count))]

    async def _owe(self, link: Link, value: Any) -> int:
        [(key, count)] = counts_of(value)
        return self._shares.owe(key, count) if link is self._link else 0


def _settle(waiting: _Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)
