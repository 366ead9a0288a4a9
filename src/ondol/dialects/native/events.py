"""`/ondol/v1/events`: the deferred calls of an account: those that wait, those that run, and those that were given up."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.dialects.native.operations import Asked, Operation, Reply
from ondol.model.errors import InvalidSetting, NotFound
from ondol.model.principals import Principal
from ondol.queue import Event, Events, Owned, State

LISTED_MAX: Final = 1000
#: What runs is of most interest, what waits comes next.
ORDER: Final = (State.RUNNING, State.WAITING, State.DEAD)
_RAW: Final = msgspec.json.Decoder(Raw)

_Function = Annotated[str | None, Meta(description="of this function only, by name")]


class EventQuery(Struct, frozen=True, kw_only=True):
    """Which deferred calls, and which page of them."""

    function: _Function = None
    state: Annotated[Literal["waiting", "running", "dead"] | None, Meta(description="all without it")] = None
    limit: Annotated[int, Meta(ge=1, le=LISTED_MAX, description="at most so many")] = 100
    after: Annotated[str | None, Meta(description="`next` of the page before")] = None


class PurgeQuery(Struct, frozen=True, kw_only=True):
    """Which deferred calls are to go; what runs stays."""

    function: _Function = None
    state: Annotated[Literal["waiting", "dead"] | None, Meta(description="both without it")] = None


class EventDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deferred call. Its `id` is the request id of the call."""

    id: str
    state: Literal["waiting", "running", "dead"]
    function: str
    qualifier: str | None
    accepted_s: float
    attempts: Annotated[int, Meta(description="of the function")]
    payload_bytes: int
    refusals: Annotated[int | UnsetType, Meta(description="by the platform, in a row; while it lives")] = UNSET
    due_s: Annotated[float | UnsetType, Meta(description="while it waits")] = UNSET
    ended_s: Annotated[float | UnsetType, Meta(description="when it is dead")] = UNSET
    reason: Annotated[str | UnsetType, Meta(description="why it was given up")] = UNSET
    chain: Annotated[int | UnsetType, Meta(description="how many outcomes of other calls led to it")] = UNSET
    error: Annotated[str | UnsetType, Meta(description="what the last attempt said")] = UNSET
    payload: Annotated[Raw | UnsetType, Meta(description="its event: any JSON; where one is shown")] = UNSET
    payload_base64: Annotated[str | UnsetType, Meta(description="in place of `payload` where the event is no JSON")] = UNSET


class EventPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deferred calls: first those that run, then those that wait, then the dead; without payloads."""

    events: list[EventDocument]
    next: Annotated[str | UnsetType, Meta(description="give it as `after` for the next page")] = UNSET


class ReplayedDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dead call that waits again, under its id, as if it was accepted now."""

    id: str
    state: Literal["waiting"] = "waiting"


class PurgedDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many are gone."""

    removed: int


OPERATIONS: Final = (
    Operation(
        id="events.list", method="GET", path="/events", summary="List deferred calls.", action="event:list", query=EventQuery,
        replies={200: Reply("A page of calls.", EventPage)},
    ),
    Operation(
        id="events.show", method="GET", path="/events/{id}", summary="Show a deferred call, its payload too.",
        action="event:read", replies={200: Reply("The call.", EventDocument)}, refusals=(404,),
    ),
    Operation(
        id="events.replay", method="POST", path="/events/{id}/replay", summary="Try a dead call again.", action="event:replay",
        replies={202: Reply("It waits again.", ReplayedDocument)}, refusals=(404, 409, 429, 507),
    ),
    Operation(
        id="events.remove", method="DELETE", path="/events/{id}", summary="Remove a call that waits or is dead.",
        action="event:delete", replies={204: Reply("It is gone.", media=())}, refusals=(404, 409, 507),
    ),
    Operation(
        id="events.purge", method="DELETE", path="/events", summary="Remove all calls that wait or are dead.",
        action="event:delete", query=PurgeQuery, replies={200: Reply("How many are gone.", PurgedDocument)}, refusals=(507,),
    ),
)  # fmt: skip


class Listing(Struct, frozen=True):
    """What a listing is to show: these states one after another, the first of them from a position on."""

    states: Sequence[State]
    function: str | None
    after: int
    limit: int


class EventRoutes:
    """The part. `clock` is the dispatcher's; `woken` tells it that something waits again."""

    operations = OPERATIONS

    def __init__(self, *, events: Events, index: Index, clock: Clock, woken: Callable[[], None]) -> None:
        self._events = events
        self._index = index
        self._clock = clock
        self._woken = woken

    async def list(self, asked: Asked) -> EventPage:
        """The states one after another, each in the order of its events."""
        wanted = listing(asked.query)
        owned = self._owned(asked.principal, wanted.function)
        found: list[Event] = []
        for state in wanted.states:
            after = wanted.after if state is wanted.states[0] else 0
            found += await self._events.listed(owned, state, after=after, limit=wanted.limit + 1 - len(found))
            if len(found) > wanted.limit:
                last = found[wanted.limit - 1]
                shown = [_document(event) for event in found[: wanted.limit]]
                return EventPage(events=shown, next=f"{last.state.value}:{last.position}")
        return EventPage(events=[_document(event) for event in found])

    async def show(self, asked: Asked) -> EventDocument:
        event = await self._events.found(self._owned(asked.principal), asked.path["id"])
        return _document(event, **_payload(event.call.payload))

    async def replay(self, asked: Asked) -> ReplayedDocument:
        owned, identity = self._owned(asked.principal), asked.path["id"]
        await self._missing_function(owned, identity)
        await self._events.replay(owned, identity, self._clock.wall_s())
        self._woken()
        return ReplayedDocument(id=identity)

    async def remove(self, asked: Asked) -> None:
        await self._events.remove(self._owned(asked.principal), asked.path["id"])

    async def purge(self, asked: Asked) -> PurgedDocument:
        owned = self._owned(asked.principal, asked.query.function)
        states = [State(asked.query.state)] if asked.query.state else [State.WAITING, State.DEAD]
        return PurgedDocument(removed=sum([await self._events.purge(owned, state) for state in states]))

    # Within ------------------------------------------------------------------------------------------------------------
    def _owned(self, principal: Principal, name: str | None = None) -> Owned:
        function = self._index.named(principal.account, principal.region, name) if name is not None else None
        return Owned(account=principal.account, region=principal.region, name=name, function=function.id if function else None)

    async def _missing_function(self, owned: Owned, identity: str) -> None:
        """A call of a function that is gone would only end again, and its reason would be lost."""
        call = (await self._events.found(owned, identity)).call
        if self._index.function(call.function) is None:
            raise NotFound("function", f"{call.name or call.function}, which event {identity} is for")


def listing(query: EventQuery) -> Listing:
    """Raises InvalidSetting for a place that no page gave."""
    states = [State(query.state)] if query.state else [*ORDER]
    first, position = _cursor(query.after, states)
    return Listing(states[states.index(first) :], query.function, position, query.limit)


def _cursor(text: str | None, states: Sequence[State]) -> tuple[State, int]:
    if text is None:
        return states[0], 0
    state, _, position = text.partition(":")
    known = {each.value: each for each in states}
    if state not in known or not (position.isascii() and position.isdecimal() and len(position) <= 18):
        raise InvalidSetting("after", f"{text[:80]!r} is not the `next` of a page of this listing")
    return known[state], int(position)


def _document(event: Event, **more: Any) -> EventDocument:
    call, dead = event.call, event.state is State.DEAD
    return EventDocument(
        id=call.id,
        state=event.state.value,
        function=call.name or call.function,
        qualifier=call.qualifier,
        accepted_s=call.accepted_s,
        attempts=call.attempts,
        payload_bytes=event.payload_bytes,
        refusals=UNSET if dead else call.refusals,
        due_s=call.visible_s if event.state is State.WAITING else UNSET,
        ended_s=event.ended_s if dead else UNSET,
        reason=event.reason if dead else UNSET,
        chain=call.chain or UNSET,
        error=call.error or UNSET,
        **more,
    )


def _payload(payload: bytes) -> dict[str, Any]:
    """JSON as such; anything else in base64."""
    try:
        _RAW.decode(payload)
        payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"payload_base64": base64.b64encode(payload).decode()}
    return {"payload": Raw(payload)}
