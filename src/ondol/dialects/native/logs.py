"""`/functions/{name}/logs`: what a function, and the platform about it, wrote: a page, or live as server-sent events.

A page is JSON; asked for with `Accept: text/event-stream` it is a stream of what is there and then of what comes. An event's id
is its entry's, so that a client that comes back with `Last-Event-ID` goes on where it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final

from msgspec import Meta, Struct

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.core.keys import standing
from ondol.dialects.native.finding import function_of
from ondol.dialects.native.live import EVENT_STREAM, LiveLogs, Place
from ondol.dialects.native.operations import JSON, Asked, Operation, Reply
from ondol.http.messages import Response
from ondol.journal import Entry, Journal
from ondol.model.errors import Invalid, InvalidSetting, NotFound
from ondol.model.functions import Revision

LISTED_MAX: Final = 10_000
#: How far back a live stream begins when nobody says.
LIVE_BEGINS: Final = "0s"
_AGE: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MOMENT: Final = re.compile(r"\d{1,15}", re.ASCII)


class LogQuery(Struct, frozen=True, kw_only=True):
    """Which part of a log."""

    since: Annotated[
        str | None,
        Meta(description="an age such as 30s, 15m, 2h or 7d, or milliseconds since the epoch; a page: all; live: from now on"),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=LISTED_MAX, description="entries of a page, at most")] = 1000
    after: Annotated[str, Meta(description="an entry's id: what came behind it (live: the header Last-Event-ID wins)")] = ""


class LogEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line, or what was written at once. `stream`: the environment that wrote it."""

    id: str
    at_ms: int
    stream: str
    message: str


class LogPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entries in order of time."""

    entries: list[LogEntry]
    next: Annotated[
        str | None, Meta(description="give it as `after` for what comes next; an empty page says that nothing has come yet")
    ]


OPERATIONS: Final = (
    Operation(
        id="logs.read", method="GET", path="/functions/{name}/logs", summary="Read a function's log, or follow it live.",
        action="log:read", query=LogQuery,
        replies={200: Reply("A page, or a stream of events whose data are entries.", LogPage, (JSON, EVENT_STREAM))},
        refusals=(404, 429),
    ),
)  # fmt: skip


class Logs:
    """The part. `group_of`: the log group that a revision's contract writes to."""

    operations = OPERATIONS

    def __init__(
        self, *, index: Index, journal: Journal, group_of: Callable[[Revision], str], clock: Clock, live: LiveLogs
    ) -> None:
        self._index = index
        self._journal = journal
        self._group_of = group_of
        self._clock = clock
        self._live = live

    async def read(self, asked: Asked) -> LogPage | Response:
        query: LogQuery = asked.query
        function = function_of(self._index, asked)
        revision = self._index.revision(function.id, function.latest)
        if revision is None:
            raise NotFound("function", function.name)
        place = Place(function.account, function.region, self._group_of(revision))
        if EVENT_STREAM in asked.request.header("accept").lower():
            resumed = asked.request.header("last-event-id") or query.after
            since_ms = self._since_ms(query.since or ("" if resumed else LIVE_BEGINS))
            return await self._live.open(place, since_ms=since_ms, after=resumed, may=standing(self._index, asked.principal))
        found = await self._page(place, query)
        return LogPage(entries=[entry_of(entry) for entry in found], next=found[-1].id if found else query.after or None)

    async def _page(self, place: Place, query: LogQuery) -> list[Entry]:
        since_ms = self._since_ms(query.since or "")
        try:
            return list(await self._journal.entries(*place, start_ms=since_ms, after=query.after, limit=query.limit))
        except NotFound:
            return []  # it never wrote
        except Invalid as error:
            raise InvalidSetting("after", str(error)) from error

    def _since_ms(self, text: str) -> int:
        """Milliseconds since the epoch. Raises InvalidSetting."""
        if not text:
            return 0
        age = _AGE.fullmatch(text)
        if age:
            return max(0, int(self._clock.wall_s() * 1000) - int(age[1]) * _UNIT_MS[age[2]])
        if _MOMENT.fullmatch(text):
            return int(text)
        raise InvalidSetting("since", "since: expected an age such as 15m (s, m, h or d), or milliseconds since the epoch")


def entry_of(entry: Entry) -> LogEntry:
    """What is shown of an entry."""
    return LogEntry(id=entry.id, at_ms=entry.at_ms, stream=entry.stream, message=entry.message)
