"""Log events: PutLogEvents, GetLogEvents, FilterLogEvents, TestMetricFilter.

A page ends at its limit or at `PAGE_BYTES_MAX`, and what a call looks through is bounded too: it may return few events, or
none, and a token to go on with. Patterns are tried on another thread: a page of long lines must not hold up the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.clock import Clock
from ondol.dialects.aws.logs_parts import (
    Params,
    bad_token,
    group_of,
    invalid,
    must_exist,
    opened,
    pattern_of,
    sealed,
)
from ondol.dialects.aws.logs_put import kept
from ondol.dialects.aws.patterns import Pattern, parse
from ondol.dialects.aws.service import Context, Operations
from ondol.journal import Batch, Entry, Journal, LogStore
from ondol.model.errors import Invalid

PAGE_BYTES_MAX: Final = 1_048_576
#: What an event counts besides its text, as the service counts.
EVENT_OVERHEAD_BYTES: Final = 26
EVENTS_MAX: Final = 10_000
#: Entries read from the journal at a time, and looked through in one call of FilterLogEvents.
READ_ENTRIES_MAX: Final = 2000
SCANNED_ENTRIES_MAX: Final = 20_000

_EVERYTHING: Final = parse("")


class Events:
    """The handlers."""

    def __init__(self, store: LogStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def operations(self) -> Operations:
        return {
            "PutLogEvents": self.put,
            "GetLogEvents": self.get,
            "FilterLogEvents": self.filter,
            "TestMetricFilter": self.test,
        }

    async def put(self, context: Context, params: Params) -> Params:
        """Sequence tokens are taken and passed over, as by the service of today; each answer has one."""
        group, stream = params["logGroupName"], params["logStreamName"]
        await must_exist(self._store, context, group, stream)
        settings = await self._store.configure(context.account, context.region, group, lambda found: found)
        now_ms = int(self._clock.wall_s() * 1000)
        events, rejected = kept(params["logEvents"], now_ms=now_ms, retention_days=settings.retention_days)
        if events:
            await self._store.append([Batch(context.account, context.region, group, stream, events)])
        result: Params = {"nextSequenceToken": f"{now_ms:056d}"}
        if rejected:
            result["rejectedLogEventsInfo"] = rejected
        return result

    async def get(self, context: Context, params: Params) -> Params:
        """A page of one stream. The forward token goes on behind its last event, the backward token in front of its first;
        a token that leads nowhere is given back unchanged: that is how clients see the end.
        """
        token = params.get("nextToken") or ""
        if token and token[:2] not in ("f/", "b/"):
            raise bad_token()
        forward = token[:2] == "f/" if token else params.get("startFromHead", False)
        place = token[2:]
        search = _Search(
            context=context,
            group=group_of(params),
            streams=(params["logStreamName"],),
            start_ms=params.get("startTime", 0),
            end_ms=params.get("endTime"),
        )
        entries, _ = await self._page(search, place, newest_first=not forward, limit=params.get("limit", EVENTS_MAX))
        entries = entries if forward else entries[::-1]
        first, last = (entries[0].id, entries[-1].id) if entries else (place, place)
        return {
            "events": [
                {"timestamp": each.at_ms, "message": each.message, "ingestionTime": each.ingested_ms} for each in entries
            ],
            "nextForwardToken": f"f/{last}",
            "nextBackwardToken": f"b/{first}",
        }

    async def filter(self, context: Context, params: Params) -> Params:
        group = group_of(params)
        streams = await self._streams(context, group, params)
        if streams is not None and not streams:
            return {"events": [], "searchedLogStreams": []}
        end_ms = params.get("endTime")
        search = _Search(
            context=context,
            group=group,
            streams=streams,
            start_ms=params.get("startTime", 0),
            end_ms=None if end_ms is None else end_ms + 1,  # here, unlike in GetLogEvents, the end is included
            pattern=pattern_of(params.get("filterPattern")),
        )
        token = opened(params.get("nextToken"), list) or [bool(params.get("startFromHead", True)), ""]
        if [type(each) for each in token] != [bool, str]:
            raise bad_token()
        forward, place = token
        limit = params.get("limit", EVENTS_MAX)
        entries, place = await self._page(search, place, newest_first=not forward, limit=limit)
        result: Params = {"events": [_filtered(each) for each in entries], "searchedLogStreams": []}
        if place:
            result["nextToken"] = sealed([forward, place])
        return result

    async def test(self, _context: Context, params: Params) -> Params:
        pattern = pattern_of(params["filterPattern"])

        def matches() -> list[dict[str, Any]]:
            return [
                {"eventNumber": count, "eventMessage": message, "extractedValues": pattern.extract(message)}
                for count, message in enumerate(params["logEventMessages"], 1)
                if pattern.matches(message)
            ]

        return {"matches": await asyncio.to_thread(matches)}

    async def _streams(self, context: Context, group: str, params: Params) -> tuple[str, ...] | None:
        """The streams that a filter names; None for all."""
        names, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix", "")
        if names and prefix:
            raise invalid("Only one of logStreamNames and logStreamNamePrefix can be specified.")
        if prefix:
            streams = await self._store.streams(context.account, context.region, group, prefix=prefix)
            return tuple(each.name for each in streams)
        return tuple(names) if names else None

    async def _page(self, search: _Search, place: str, *, newest_first: bool, limit: int) -> tuple[list[Entry], str]:
        """Entries from a place on, up to the limit and PAGE_BYTES_MAX, and where to go on ("" at the end)."""
        found: list[Entry] = []
        size_bytes = scanned = 0
        while True:
            wanted = min(READ_ENTRIES_MAX, limit - len(found) + 1)
            entries = await search.read(self._store, place, newest_first=newest_first, limit=wanted)
            for entry in await search.matching(entries):
                size_bytes += len(entry.message.encode()) + EVENT_OVERHEAD_BYTES
                if found and (len(found) == limit or size_bytes > PAGE_BYTES_MAX):
                    return found, found[-1].id
                found.append(entry)
            if not entries:  # fewer than asked for may only mean that the journal bounds its answers
                return found, ""
            place = entries[-1].id
            scanned += len(entries)
            if scanned >= SCANNED_ENTRIES_MAX:
                return found, place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """What is looked for."""

    context: Context
    group: str
    streams: Sequence[str] | None
    start_ms: int
    end_ms: int | None
    pattern: Pattern = _EVERYTHING

    async def read(self, journal: Journal, place: str, *, newest_first: bool, limit: int) -> Sequence[Entry]:
        try:
            return await journal.entries(
                self.context.account,
                self.context.region,
                self.group,
                streams=self.streams,
                start_ms=self.start_ms,
                end_ms=self.end_ms,
                terms=self.pattern.needed,
                after="" if newest_first else place,
                before=place if newest_first else "",
                newest_first=newest_first,
                limit=limit,
            )
        except Invalid as error:
            raise bad_token() from error

    async def matching(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        if self.pattern is _EVERYTHING or not entries:
            return entries
        matches = self.pattern.matches
        return await asyncio.to_thread(lambda: [entry for entry in entries if matches(entry.message)])


def _filtered(entry: Entry) -> dict[str, Any]:
    return {
        "logStreamName": entry.stream,
        "timestamp": entry.at_ms,
        "message": entry.message,
        "ingestionTime": entry.ingested_ms,
        "eventId": entry.id,
    }
