"""Logs as they come, as server-sent events: the journal is looked at twice a second, and at once while there is more.

Bounded: so many streams, each for so long, each keeping so many ids. An entry that is kept late, behind one that was sent
already, is still sent, once, when it is among the last of its time; a client that comes back begins strictly behind the id it
names. Knows no function: it is told the group.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from ondol.clock import Clock
from ondol.http.messages import Response
from ondol.journal import Entry, Journal
from ondol.model.errors import Invalid, InvalidSetting, NotFound, OndolError, Throttled

EVENT_STREAM: Final = "text/event-stream"
STREAMS_MAX: Final = 64
#: A stream ends after this; its client comes back by itself and goes on.
STREAM_S_MAX: Final = 3600.0
POLL_S: Final = 0.5
#: A silent stream says so, for the proxies in between.
HEARTBEAT_S: Final = 15.0
HEARTBEAT: Final = b": nothing new\n\n"
PAGE_MAX: Final = 1000
#: How late an entry may be kept and is still sent.
LATE_MS: Final = 5_000
#: How long a client waits before it comes back, in milliseconds.
OPENING: Final = b"retry: 1000\n\n"
SHOWN_MAX: Final = 4 * PAGE_MAX


class Place(NamedTuple):
    """Whose log."""

    account: str
    region: str
    group: str


class LiveLogs:
    """Opens streams, and ends them all with `close`."""

    def __init__(self, journal: Journal, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._journal = journal
        self._clock = clock
        self._sleep = sleep
        self._open = 0
        #: Moves on when all that are open shall end.
        self._round = 0

    @property
    def streams(self) -> int:
        """How many are open."""
        return self._open

    def close(self) -> None:
        """Every stream that is open ends within POLL_S: the front that it goes through wants to go."""
        self._round += 1

    async def open(self, place: Place, *, since_ms: int, after: str, may: Callable[[], bool]) -> Response:
        """The stream of what is kept at `place` since then, and behind the entry `after`, while its reader `may` read.

        Raises InvalidSetting, Throttled.
        """
        if self._open >= STREAMS_MAX:
            raise Throttled(f"{STREAMS_MAX} live logs are followed already", retry_after_s=10.0)
        reader = _Reader(self._journal, place, since_ms, after)
        first = await reader.more()  # here, so that what is wrong with the request is still a refusal
        headers = (("content-type", EVENT_STREAM), ("cache-control", "no-store"), ("x-accel-buffering", "no"))
        return Response(200, headers, self._serve(reader, first, may))

    async def _serve(self, reader: _Reader, entries: Sequence[Entry], may: Callable[[], bool]) -> AsyncIterator[bytes]:
        """From its first line to its end, or until it is closed."""
        self._open += 1
        this_round = self._round
        try:
            yield OPENING
            ends_s, said_s = self._clock.now_s() + STREAM_S_MAX, self._clock.now_s()
            while self._round == this_round and may() and self._clock.now_s() < ends_s:
                if entries:
                    said_s = self._clock.now_s()
                    yield b"".join(event_of(entry) for entry in entries)
                elif self._clock.now_s() - said_s >= HEARTBEAT_S:
                    said_s = self._clock.now_s()
                    yield HEARTBEAT
                if len(entries) < PAGE_MAX:
                    await self._sleep(POLL_S)
                entries = await reader.more()
        except OndolError as error:
            # The head has gone out: all that is left is to say why it ends; the client comes back and hears more.
            yield b": " + " ".join(str(error).split()).encode() + b"\n\n"
        finally:
            self._open -= 1


class _Reader:
    """How far one stream has come."""

    def __init__(self, journal: Journal, place: Place, since_ms: int, after: str) -> None:
        self._journal = journal
        self._place = place
        self._since_ms = since_ms
        #: Nothing at or before this was ever to be sent.
        self._begin = after
        self._last: Entry | None = None
        self._shown: OrderedDict[str, None] = OrderedDict()

    async def more(self) -> list[Entry]:
        """What has been kept since the last look, at most PAGE_MAX behind what was sent and as many late ones."""
        try:
            late = await self._late()
            after = self._last.id if self._last else self._begin
            new = await self._journal.entries(*self._place, start_ms=self._since_ms, after=after, limit=PAGE_MAX)
        except NotFound:
            return []  # nothing was ever written there
        except Invalid as error:
            raise InvalidSetting("after", str(error)) from error
        found = [*late, *new]
        self._shown.update(dict.fromkeys(entry.id for entry in found))
        while len(self._shown) > SHOWN_MAX:
            self._shown.popitem(last=False)
        if new:
            self._last = new[-1]
        return found

    async def _late(self) -> list[Entry]:
        """What was kept late, with a time before the last that was sent."""
        if self._last is None:
            return []
        start_ms = max(self._since_ms, self._last.at_ms - LATE_MS)
        looked = await self._journal.entries(
            *self._place, start_ms=start_ms, after=self._begin, before=self._last.id, newest_first=True, limit=PAGE_MAX
        )
        return [entry for entry in reversed(looked) if entry.id not in self._shown]


def event_of(entry: Entry) -> bytes:
    """One event: its id, and the entry as JSON on one line."""
    data = msgspec.json.encode({"id": entry.id, "at_ms": entry.at_ms, "stream": entry.stream, "message": entry.message})
    return b"id: " + entry.id.encode() + b"\ndata: " + data + b"\n\n"
