"""StartLiveTail: an event stream that says what is logged, once a second, as long as its client listens.

What a client does not take in time is sampled: it is dropped, and the next update says so. A session ends with the key that
opened it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, Final

from ondol.clock import Clock
from ondol.dialects.aws.logs_parts import Params, group_named, invalid, must_exist, pattern_of
from ondol.dialects.aws.patterns import Pattern
from ondol.dialects.aws.service import Context, Operations
from ondol.journal import Batch, Follower, LogStore
from ondol.model.principals import Principal

UPDATE_S: Final = 1.0
SESSION_S_MAX: Final = 3 * 3600.0
UPDATE_EVENTS_MAX: Final = 500
#: Looked through for one update.
TAKEN_EVENTS_MAX: Final = 10_000

#: Of somebody who was let in: whether they still would be.
Standing = Callable[[Principal], Callable[[], bool]]

_Events = AsyncGenerator[tuple[str, Params], None]


def always(_who: Principal) -> Callable[[], bool]:
    """Where keys do not end."""
    return lambda: True


class LiveTail:
    """The handler."""

    def __init__(self, store: LogStore, clock: Clock, standing: Standing) -> None:
        self._store = store
        self._clock = clock
        self._standing = standing

    def operations(self) -> Operations:
        return {"StartLiveTail": self.start}

    async def start(self, context: Context, params: Params) -> Params:
        groups = {group_named(identifier): identifier for identifier in params["logGroupIdentifiers"]}
        names, prefixes = params.get("logStreamNames") or (), params.get("logStreamNamePrefixes") or ()
        if names and prefixes:
            raise invalid("Only one of logStreamNames and logStreamNamePrefixes can be specified.")
        if (names or prefixes) and len(groups) > 1:
            raise invalid("logStreamNames and logStreamNamePrefixes can be specified for one log group only.")
        pattern = pattern_of(params.get("logEventFilterPattern"))
        for group in groups:
            await must_exist(self._store, context, group)
        told = {
            "requestId": context.request_id,
            "sessionId": str(uuid.uuid4()),
            "logGroupIdentifiers": params["logGroupIdentifiers"],
            "logStreamNames": list(names),
            "logStreamNamePrefixes": list(prefixes),
            "logEventFilterPattern": params.get("logEventFilterPattern") or "",
        }
        tail = _Tail(pattern, frozenset(names), tuple(prefixes))
        follower = self._store.follow(context.account, context.region, groups)
        events = self._events(told, tail, follower, self._standing(context.principal))
        return {"responseStream": _Session(events, follower)}

    async def _events(self, told: Params, tail: _Tail, follower: Follower, may: Callable[[], bool]) -> _Events:
        yield "sessionStart", told
        ends_s = self._clock.now_s() + SESSION_S_MAX
        while self._clock.now_s() < ends_s:
            await asyncio.sleep(UPDATE_S)
            if not may():
                return
            batches, dropped = await follower.take(TAKEN_EVENTS_MAX)
            now_ms = int(self._clock.wall_s() * 1000)
            results, more = await asyncio.to_thread(tail.results, batches, now_ms)
            yield "sessionUpdate", {"sessionMetadata": {"sampled": bool(dropped or more)}, "sessionResults": results}
        yield "SessionTimeoutException", {"message": "The session has been open for three hours, the most that it may be."}


class _Session:
    """The events, and the follower's end with theirs: also where nobody ever asks for the first."""

    def __init__(self, events: _Events, follower: Follower) -> None:
        self._events = events
        self._follower = follower

    def __aiter__(self) -> AsyncIterator[tuple[str, Params]]:
        return self

    async def __anext__(self) -> tuple[str, Params]:
        try:
            return await anext(self._events)
        except BaseException:
            self._follower.close()
            raise

    async def aclose(self) -> None:
        self._follower.close()
        await self._events.aclose()


class _Tail:
    """What of the kept lines a session shows. Pure."""

    def __init__(self, pattern: Pattern, names: frozenset[str], prefixes: tuple[str, ...]) -> None:
        self._pattern = pattern
        self._names = names
        self._prefixes = prefixes

    def results(self, batches: Sequence[Batch], now_ms: int) -> tuple[list[dict[str, Any]], bool]:
        """At most UPDATE_EVENTS_MAX, and whether there were more."""
        found: list[dict[str, Any]] = []
        for batch in batches:
            if not self._shows(batch.stream):
                continue
            identifier = f"{batch.account}:{batch.group}"
            for event in batch.events:
                if not self._pattern.matches(event.message):
                    continue
                if len(found) == UPDATE_EVENTS_MAX:
                    return found, True
                found.append(
                    {
                        "logStreamName": batch.stream,
                        "logGroupIdentifier": identifier,
                        "message": event.message,
                        "timestamp": event.at_ms,
                        "ingestionTime": now_ms,
                    }
                )
        return found, False

    def _shows(self, stream: str) -> bool:
        if self._names:
            return stream in self._names
        return not self._prefixes or stream.startswith(self._prefixes)
