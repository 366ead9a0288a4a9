"""Log streams: CreateLogStream, DeleteLogStream, DescribeLogStreams."""

from __future__ import annotations

from typing import Any

from ondol.dialects.aws.logs_groups import DESCRIBED_MAX
from ondol.dialects.aws.logs_parts import Params, group_arn, group_of, invalid, opened, sealed
from ondol.dialects.aws.service import Context, Operations
from ondol.journal import LogStore, Stream


class Streams:
    """The handlers."""

    def __init__(self, store: LogStore) -> None:
        self._store = store

    def operations(self) -> Operations:
        return {
            "CreateLogStream": self.create,
            "DeleteLogStream": self.delete,
            "DescribeLogStreams": self.describe,
        }

    async def create(self, context: Context, params: Params) -> Params:
        group, stream = params["logGroupName"], params["logStreamName"]
        await self._store.create_stream(context.account, context.region, group, stream)
        return {}

    async def delete(self, context: Context, params: Params) -> Params:
        group, stream = params["logGroupName"], params["logStreamName"]
        await self._store.drop_stream(context.account, context.region, group, stream)
        return {}

    async def describe(self, context: Context, params: Params) -> Params:
        by_time = params.get("orderBy", "LogStreamName") == "LastEventTime"
        prefix = params.get("logStreamNamePrefix", "")
        if by_time and prefix:
            raise invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        group = group_of(params)
        streams = await self._store.streams(context.account, context.region, group, prefix=prefix)
        descending = params.get("descending", False)

        def place(stream: Stream) -> list[Any]:
            return [stream.last_ms or 0, stream.name] if by_time else [stream.name]

        ordered = sorted(streams, key=place, reverse=descending)
        past = _place(params.get("nextToken"), by_time=by_time)
        if past is not None:
            ordered = [each for each in ordered if (place(each) < past if descending else place(each) > past)]
        limit = params.get("limit", DESCRIBED_MAX)
        result: Params = {"logStreams": [_described(context, group, each) for each in ordered[:limit]]}
        if len(ordered) > limit:
            result["nextToken"] = sealed(place(ordered[limit - 1]))
        return result


def _place(token: str | None, *, by_time: bool) -> Any:
    """Where the page before ended; a token of the other order is refused."""
    past = opened(token, list)
    if past is not None and [type(each) for each in past] != ([int, str] if by_time else [str]):
        raise invalid("The specified nextToken is invalid.")
    return past


def _described(context: Context, group: str, stream: Stream) -> dict[str, Any]:
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        "firstEventTimestamp": stream.first_ms,
        "lastEventTimestamp": stream.last_ms,
        "lastIngestionTime": stream.ingested_ms,
        "arn": f"{group_arn(context, group)}:log-stream:{stream.name}",
        "storedBytes": 0,
    }
