"""CloudWatch Logs, reading: DescribeLogGroups, DescribeLogStreams, GetLogEvents and FilterLogEvents over the journal.

Tokens carry the place to go on from and nothing else, so that nothing is kept between calls. A page ends at its limit or at
`PAGE_BYTES_MAX`, and what a call looks through is bounded too: it may return few events, or none, and a token to go on with.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import msgspec

from ondol.dialects.aws.filters import Pattern, parse
from ondol.dialects.aws.names import partition
from ondol.dialects.aws.service import Context, Handler, Operations, ServiceError
from ondol.journal import Entry, Group, Journal, Stream
from ondol.model.errors import Invalid, NotFound

PAGE_BYTES_MAX = 1_048_576
#: What an event counts besides its text, as the service counts.
EVENT_OVERHEAD_BYTES = 26
EVENTS_MAX = 10_000
DESCRIBED_MAX = 50
#: Entries read from the journal at a time, and looked through in one call of FilterLogEvents.
READ_ENTRIES_MAX = 1000
SCANNED_ENTRIES_MAX = 20_000


class Logs:
    """The operations."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def operations(self) -> Operations:
        return {
            "DescribeLogGroups": _answering(self.describe_log_groups),
            "DescribeLogStreams": _answering(self.describe_log_streams),
            "GetLogEvents": _answering(self.get_log_events),
            "FilterLogEvents": _answering(self.filter_log_events),
        }

    async def describe_log_groups(self, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        prefix, pattern = params.get("logGroupNamePrefix", ""), params.get("logGroupNamePattern", "")
        if prefix and pattern:
            raise _invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
        limit = params.get("limit", DESCRIBED_MAX)
        after = _opened(params.get("nextToken"), str) or ""
        found: list[Group] = []
        while len(found) <= limit:
            groups = await self._journal.groups(
                context.account, context.region, prefix=prefix, after=after, limit=DESCRIBED_MAX + 1
            )
            found.extend(each for each in groups if pattern.lower() in each.name.lower())
            if len(groups) <= DESCRIBED_MAX:
                break
            after = groups[-1].name
        result: dict[str, Any] = {"logGroups": [_group(context, each) for each in found[:limit]]}
        if len(found) > limit:
            result["nextToken"] = _sealed(found[limit - 1].name)
        return result

    async def describe_log_streams(self, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        by_time = params.get("orderBy", "LogStreamName") == "LastEventTime"
        prefix = params.get("logStreamNamePrefix", "")
        if by_time and prefix:
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        group = _group_name(params)
        streams = await self._journal.streams(context.account, context.region, group, prefix=prefix)
        descending = params.get("descending", False)

        def place(stream: Stream) -> list[Any]:
            return [stream.last_ms, stream.name] if by_time else [stream.name]

        ordered = sorted(streams, key=place, reverse=descending)
        past = _opened(params.get("nextToken"), list)
        if past is not None:
            ordered = [each for each in ordered if (place(each) < past if descending else place(each) > past)]
        limit = params.get("limit", DESCRIBED_MAX)
        result: dict[str, Any] = {"logStreams": [_stream(context, group, each) for each in ordered[:limit]]}
        if len(ordered) > limit:
            result["nextToken"] = _sealed(place(ordered[limit - 1]))
        return result

    async def get_log_events(self, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        """A page of one stream. The forward token goes on behind its last event, the backward token in front of its first;
        a token that leads nowhere is given back unchanged: that is how clients see the end.
        """
        token = params.get("nextToken") or ""
        if token and token[:2] not in ("f/", "b/"):
            raise _invalid("The specified nextToken is invalid.")
        forward = token[:2] == "f/" if token else params.get("startFromHead", False)
        place = token[2:]
        search = _Search(
            context=context,
            group=_group_name(params),
            streams=(params["logStreamName"],),
            start_ms=params.get("startTime", 0),
            end_ms=params.get("endTime"),
        )
        entries, _ = await self._page(
            search,
            after=place if forward else "",
            before="" if forward else place,
            newest_first=not forward,
            limit=params.get("limit", EVENTS_MAX),
        )
        entries = entries if forward else entries[::-1]
        first, last = (entries[0].id, entries[-1].id) if entries else (place, place)
        return {
            "events": [
                {"timestamp": each.at_ms, "message": each.message, "ingestionTime": each.ingested_ms} for each in entries
            ],
            "nextForwardToken": f"f/{last}",
            "nextBackwardToken": f"b/{first}",
        }

    async def filter_log_events(self, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        group = _group_name(params)
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
            pattern=parse(params.get("filterPattern", "")),
        )
        after = _opened(params.get("nextToken"), str) or ""
        entries, place = await self._page(search, after=after, limit=params.get("limit", EVENTS_MAX))
        result: dict[str, Any] = {"events": [_filtered(each) for each in entries], "searchedLogStreams": []}
        if place:
            result["nextToken"] = _sealed(place)
        return result

    async def _streams(self, context: Context, group: str, params: dict[str, Any]) -> tuple[str, ...] | None:
        """The streams that a filter names; None for all."""
        names, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix", "")
        if names and prefix:
            raise _invalid("Only one of logStreamNames and logStreamNamePrefix can be specified.")
        if prefix:
            streams = await self._journal.streams(context.account, context.region, group, prefix=prefix)
            return tuple(each.name for each in streams)
        return tuple(names) if names else None

    async def _page(
        self, search: _Search, *, after: str = "", before: str = "", newest_first: bool = False, limit: int
    ) -> tuple[list[Entry], str]:
        """Entries up to the limit and PAGE_BYTES_MAX, and where to go on ("" at the end)."""
        found: list[Entry] = []
        size_bytes = scanned = 0
        while True:
            wanted = min(READ_ENTRIES_MAX, limit - len(found) + 1)
            entries = await search.read(self._journal, after=after, before=before, newest_first=newest_first, limit=wanted)
            for entry in entries:
                scanned += 1
                if search.pattern.matches(entry.message):
                    size_bytes += len(entry.message.encode()) + EVENT_OVERHEAD_BYTES
                    if found and (len(found) == limit or size_bytes > PAGE_BYTES_MAX):
                        return found, found[-1].id
                    found.append(entry)
                if newest_first:
                    before = entry.id
                else:
                    after = entry.id
            if not entries:  # fewer than asked for may only mean that the journal bounds its answers
                return found, ""
            if scanned >= SCANNED_ENTRIES_MAX:
                return found, before if newest_first else after


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """What is looked for."""

    context: Context
    group: str
    streams: Sequence[str] | None
    start_ms: int
    end_ms: int | None
    pattern: Pattern = Pattern()  # noqa: RUF009  # frozen

    async def read(self, journal: Journal, *, after: str, before: str, newest_first: bool, limit: int) -> Sequence[Entry]:
        return await journal.entries(
            self.context.account,
            self.context.region,
            self.group,
            streams=self.streams,
            start_ms=self.start_ms,
            end_ms=self.end_ms,
            terms=self.pattern.all,
            after=after,
            before=before,
            newest_first=newest_first,
            limit=limit,
        )


# Parts ----------------------------------------------------------------------------------------------------------------
def _answering(handler: Callable[[Context, dict[str, Any]], Awaitable[dict[str, Any]]]) -> Handler:
    """The handler, with the journal's NotFound in the service's words."""

    @wraps(handler)
    async def answer(context: Context, params: dict[str, Any]) -> dict[str, Any]:
        try:
            return await handler(context, params)
        except NotFound as error:
            message = f"The specified {error.kind} does not exist."
            raise ServiceError("ResourceNotFoundException", message) from error
        except Invalid as error:
            raise _invalid("The specified nextToken is invalid.") from error

    return answer


def _group_name(params: dict[str, Any]) -> str:
    """The group, by its name or by an ARN of it."""
    name, identifier = params.get("logGroupName"), params.get("logGroupIdentifier")
    if bool(name) == bool(identifier):
        raise _invalid("Exactly one of logGroupName and logGroupIdentifier must be specified.")
    if identifier and identifier.startswith("arn:"):
        return str(identifier.split(":", 6)[-1])
    return str(name or identifier)


def _group(context: Context, group: Group) -> dict[str, Any]:
    arn = f"arn:{partition(context.region)}:logs:{context.region}:{context.account}:log-group:{group.name}"
    return {
        "logGroupName": group.name,
        "creationTime": group.created_ms,
        "metricFilterCount": 0,
        "arn": f"{arn}:*",
        "storedBytes": group.stored_bytes,
        "logGroupClass": "STANDARD",
        "logGroupArn": arn,
    }


def _stream(context: Context, group: str, stream: Stream) -> dict[str, Any]:
    where = f"arn:{partition(context.region)}:logs:{context.region}:{context.account}"
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        "firstEventTimestamp": stream.first_ms,
        "lastEventTimestamp": stream.last_ms,
        "lastIngestionTime": stream.ingested_ms,
        "arn": f"{where}:log-group:{group}:log-stream:{stream.name}",
        "storedBytes": 0,
    }


def _filtered(entry: Entry) -> dict[str, Any]:
    return {
        "logStreamName": entry.stream,
        "timestamp": entry.at_ms,
        "message": entry.message,
        "ingestionTime": entry.ingested_ms,
        "eventId": entry.id,
    }


def _sealed(place: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _opened(token: str | None, kind: type) -> Any:
    """What `_sealed` was given; None for no token."""
    if not token:
        return None
    try:
        place = msgspec.json.decode(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError):
        place = None
    if not isinstance(place, kind):
        raise _invalid("The specified nextToken is invalid.")
    return place


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)
