"""`/records`: what is kept of the account's invocations, newest first. Payloads are no part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from ondol.core.catalog import Index
from ondol.dialects.native.operations import Asked, Operation, Reply
from ondol.model.errors import InvalidSetting, NotFound
from ondol.model.invocations import Status
from ondol.model.records import Record
from ondol.recorder import Kept, Recorder

LISTED_MAX: Final = 1000
#: More than any place has, and few enough for the store's integers.
DIGITS_MAX: Final = 18
#: No time is later: in milliseconds, some 30,000 years from now.
TIME_MS_MAX: Final = 10**15
_Status = Literal["ok", "failed", "timeout", "crashed", "out_of_memory", "too_large"]


class RecordQuery(Struct, frozen=True, kw_only=True):
    """Which records."""

    function: Annotated[str | None, Meta(description="of this function only, by name")] = None
    status: Annotated[_Status | None, Meta(description="how it ended")] = None
    failed: Annotated[bool | None, Meta(description="true: every status but ok; false: ok alone")] = None
    since_ms: Annotated[int, Meta(ge=0, le=TIME_MS_MAX, description="started then or later, since the epoch")] = 0
    until_ms: Annotated[
        Annotated[int, Meta(ge=0, le=TIME_MS_MAX)] | None, Meta(description="started before then, since the epoch")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=LISTED_MAX, description="at most so many")] = 100
    after: Annotated[str | None, Meta(description="`next` of the page before")] = None


class RecordDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt of a call; a deferred call that is tried again leaves one for each."""

    request_id: str
    function: Annotated[str, Meta(description="its name when it ran")]
    version: int | None
    qualifier: Annotated[str | None, Meta(description="as the caller gave it")]
    status: _Status
    started_ms: int
    queue_ms: Annotated[float | None, Meta(description="until an environment was there; null: not measured")]
    start_ms: Annotated[float | None, Meta(description="loading; null: it was warm")]
    handler_ms: float
    memory_mib: int
    memory_peak_mib: int
    exit_status: Annotated[int | None, Meta(description="for crashed: >= 0, or minus the signal's number")]
    trace: str | None


class RecordPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records, newest first."""

    records: list[RecordDocument]
    next: Annotated[str | None, Meta(description="give it as `after` for older ones; null when there were none")]


OPERATIONS: Final = (
    Operation(
        id="records.list", method="GET", path="/records", summary="List records of invocations, newest first.",
        action="record:list", query=RecordQuery, replies={200: Reply("A page of records.", RecordPage)},
    ),
    Operation(
        id="records.show", method="GET", path="/records/{id}", summary="The records of one call, by its request id.",
        action="record:read", replies={200: Reply("Its attempts, newest first.", RecordPage)}, refusals=(404,),
    ),
)  # fmt: skip


class Records:
    """The part."""

    operations = OPERATIONS

    def __init__(self, *, index: Index, recorder: Recorder) -> None:
        self._index = index
        self._recorder = recorder

    async def list(self, asked: Asked) -> RecordPage:
        query: RecordQuery = asked.query
        account, region = asked.principal.account, asked.principal.region
        function = self._index.named(account, region, query.function) if query.function else None
        if query.function and function is None:
            return RecordPage(records=[], next=None)
        found = await self._recorder.find(
            account,
            region,
            function=function.id if function else None,
            status=Status(query.status) if query.status else None,
            failed=query.failed,
            since_ms=query.since_ms,
            until_ms=query.until_ms,
            before=_place(query.after),
            limit=query.limit,
        )
        return _page(found)

    async def show(self, asked: Asked) -> RecordPage:
        account, region, identity = asked.principal.account, asked.principal.region, asked.path["id"]
        found = await self._recorder.find(account, region, invocation=identity, limit=LISTED_MAX)
        if not found:
            raise NotFound("record", identity[:80])
        return RecordPage(records=[_document(kept.record) for kept in found], next=None)


def _place(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX):
        raise InvalidSetting("after", f"{text[:80]!r} is not the `next` of a page of this listing")
    return int(text)


def _page(found: Sequence[Kept]) -> RecordPage:
    """Fewer than were asked for mean nothing: only where there are none is the end."""
    return RecordPage(records=[_document(kept.record) for kept in found], next=str(found[-1].place) if found else None)


def _document(record: Record) -> RecordDocument:
    return RecordDocument(
        request_id=record.invocation,
        function=record.name,
        version=record.version,
        qualifier=record.qualifier,
        status=record.status.value,
        started_ms=record.started_ms,
        queue_ms=record.queue_ms,
        start_ms=record.start_ms,
        handler_ms=record.handler_ms,
        memory_mib=record.memory_mib,
        memory_peak_mib=record.memory_peak_mib,
        exit_status=record.exit_status,
        trace=record.trace,
    )
