"""The queue's port in memory, for tests: same rules as on disk, gone with the process."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ondol.model.errors import OutOfSpace
from ondol.queue import Deferred, share


@dataclass(frozen=True, slots=True)
class Buried:
    """A call that was given up."""

    call: Deferred
    reason: str
    error: str


class MemoryQueue:
    """A `Queue`. Methods named in `fails` raise OutOfSpace instead; "then" is an ack that something follows."""

    def __init__(self) -> None:
        #: What is neither done nor dead, in the order of acceptance, and until when it is hidden.
        self.waiting: dict[str, Deferred] = {}
        self.leases: dict[str, float] = {}
        self.buried: dict[str, Buried] = {}
        self.fails: set[str] = set()
        #: How often it was asked for work.
        self.claims = 0
        self._last = ""

    @property
    def reasons(self) -> dict[str, str]:
        """Why each that was given up was."""
        return {name: buried.reason for name, buried in self.buried.items()}

    async def enqueue(self, items: Sequence[Deferred]) -> None:
        self._check("enqueue")
        for item in items:
            self.waiting.setdefault(item.id, item)

    async def claim(
        self,
        now_s: float,
        *,
        limit: int,
        lease_s: float,
        held: Mapping[str, int] | None = None,
        caps: Mapping[str, int] | None = None,
    ) -> Sequence[Deferred]:
        self._check("claim")
        self.claims += 1
        found: list[Deferred] = []
        under_way = Counter(held)
        lines = self._lines(now_s)

        def may(function: str) -> bool:
            free = limit - len(found)
            capped = (caps or {}).get(function, free + under_way[function])
            return under_way[function] < capped and (held is None or share(free, under_way[function]) > 0)

        while len(found) < limit and (ready := [name for name, line in lines.items() if line and may(name)]):
            self._last = min((name for name in ready if name > self._last), default=min(ready))
            item = lines[self._last].popleft()
            self.leases[item.id] = now_s + lease_s
            under_way[self._last] += 1
            found.append(item)
        return found

    async def ack(self, ids: Sequence[str], then: Sequence[Deferred] = ()) -> bool:
        self._check("ack")
        if then:
            self._check("then")
        gone = [self._forget(each) for each in ids]
        if any(gone):
            for item in then:
                self.waiting.setdefault(item.id, item)
        return any(gone)

    async def retry(self, id: str, *, visible_s: float, counted: bool, error: str = "") -> None:  # noqa: A002  # the port's word
        self._check("retry")
        was = self.waiting.get(id)
        if was is not None:
            refusals = 0 if counted else was.refusals + 1
            attempts = was.attempts + counted
            self.waiting[id] = replace(was, visible_s=visible_s, attempts=attempts, refusals=refusals, error=error)
            self.leases.pop(id, None)

    async def dead(
        self,
        id: str,  # noqa: A002  # the port's word
        reason: str,
        *,
        now_s: float,  # noqa: ARG002  # the port's word
        counted: bool = False,
        error: str = "",
    ) -> None:
        self._check("dead")
        call = self.waiting.get(id)
        if call is not None:
            call = replace(call, attempts=call.attempts + counted)
            self.buried.setdefault(id, Buried(call, reason, error or call.error))
            self._forget(id)

    async def next_visible_s(self, after_s: float) -> float | None:
        return min((at_s for at_s in map(self._visible_s, self.waiting) if at_s > after_s), default=None)

    async def close(self) -> None:
        return

    def release(self) -> None:
        """As at the start of a process: every lease ends."""
        self.leases.clear()

    def _check(self, method: str) -> None:
        if method in self.fails:
            raise OutOfSpace("the disk is full")

    def _visible_s(self, name: str) -> float:
        return self.leases.get(name, self.waiting[name].visible_s)

    def _lines(self, now_s: float) -> dict[str, deque[Deferred]]:
        """Each function's visible calls, the oldest first."""
        lines: dict[str, deque[Deferred]] = {}
        visible = [name for name in self.waiting if self._visible_s(name) <= now_s]
        for name in sorted(visible, key=self._visible_s):
            lines.setdefault(self.waiting[name].function, deque()).append(self.waiting[name])
        return lines

    def _forget(self, name: str) -> bool:
        self.leases.pop(name, None)
        return self.waiting.pop(name, None) is not None
