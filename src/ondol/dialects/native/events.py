"""`/ondol/v1/events`: the deferred calls of an account: those that wait, those that run, and those that were given up.

What there is stands in `OPERATIONS`. JSON out; nothing is read of a body.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.core.permit import permit
from ondol.http.messages import Request, Response
from ondol.model.errors import InvalidSetting, NotFound
from ondol.model.principals import Principal
from ondol.queue import Event, Events, Owned, State

PREFIX: Final = "/ondol/v1"
LISTED_MAX: Final = 1000
LISTED_USUAL: Final = 100
#: What runs is of most interest, what waits comes next.
ORDER: Final = (State.RUNNING, State.WAITING, State.DEAD)
_RAW: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that can be asked."""

    method: str
    #: Below /ondol/v1; {id} stands for one segment.
    path: str
    #: Of `EventRoutes`.
    handler: str
    #: What the principal must be permitted.
    action: str
    #: Query parameters, and what they mean.
    query: Mapping[str, str]
    #: Status of the answer when it went well, and what the answer is.
    status: int
    answer: str


_FUNCTION: Final = "of this function only, by name"
OPERATIONS: Final = (
    Operation(
        method="GET", path="/events", handler="list", action="event:list", status=200, answer="events, without payloads",
        query={
            "function": _FUNCTION, "state": "waiting, running or dead; all without it",
            "limit": f"at most so many, up to {LISTED_MAX}", "after": "`next` of the page before",
        },
    ),
    Operation(
        method="GET", path="/events/{id}", handler="show", action="event:read", query={}, status=200, answer="an event",
    ),
    Operation(
        method="POST", path="/events/{id}/replay", handler="replay", action="event:replay", query={}, status=202,
        answer="the event, which waits again as if it was accepted now",
    ),
    Operation(
        method="DELETE", path="/events/{id}", handler="remove", action="event:delete", query={}, status=204, answer="nothing",
    ),
    Operation(
        method="DELETE", path="/events", handler="purge", action="event:delete", status=200, answer="how many are gone",
        query={"function": _FUNCTION, "state": "waiting or dead; both without it"},
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listing:
    """What a listing is to show: these states one after another, the first of them from a position on."""

    states: Sequence[State]
    function: str | None
    after: int
    limit: int


class EventRoutes:
    """See the module. `clock` is the dispatcher's; `woken` tells it that something waits again."""

    def __init__(self, *, events: Events, index: Index, clock: Clock, woken: Callable[[], None]) -> None:
        self._events = events
        self._index = index
        self._clock = clock
        self._woken = woken

    async def serve(self, request: Request, principal: Principal) -> Response | None:
        """The answer; None when nothing here is meant. Raises OndolError."""
        found = match(request.method, request.path)
        if found is None:
            return None
        operation, identity = found
        permit(principal, operation.action, principal.account, identity or "*")
        query = query_of(request.query, operation)
        handler: Callable[[Principal, str, Mapping[str, str]], Awaitable[Any]] = getattr(self, f"_{operation.handler}")
        document = await handler(principal, identity, query)
        if document is None:
            return Response(operation.status)
        return Response(operation.status, (("content-type", "application/json"),), msgspec.json.encode(document))

    # The operations ----------------------------------------------------------------------------------------------------
    async def _list(self, principal: Principal, _identity: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The states one after another, each in the order of its events."""
        wanted = listing(query)
        owned = self._owned(principal, wanted.function)
        found: list[Event] = []
        for state in wanted.states:
            after = wanted.after if state is wanted.states[0] else 0
            found += await self._events.listed(owned, state, after=after, limit=wanted.limit + 1 - len(found))
            if len(found) > wanted.limit:
                last = found[wanted.limit - 1]
                shown = [self._document(event) for event in found[: wanted.limit]]
                return {"events": shown, "next": f"{last.state.value}:{last.position}"}
        return {"events": [self._document(event) for event in found]}

    async def _show(self, principal: Principal, identity: str, _query: Mapping[str, str]) -> dict[str, Any]:
        event = await self._events.found(self._owned(principal), identity)
        return self._document(event) | _payload(event.call.payload)

    async def _replay(self, principal: Principal, identity: str, _query: Mapping[str, str]) -> dict[str, Any]:
        owned = self._owned(principal)
        await self._missing_function(owned, identity)
        await self._events.replay(owned, identity, self._clock.wall_s())
        self._woken()
        return {"id": identity, "state": State.WAITING.value}

    async def _remove(self, principal: Principal, identity: str, _query: Mapping[str, str]) -> None:
        await self._events.remove(self._owned(principal), identity)

    async def _purge(self, principal: Principal, _identity: str, query: Mapping[str, str]) -> dict[str, Any]:
        owned = self._owned(principal, query.get("function"))
        states = [_state(query["state"])] if "state" in query else [State.WAITING, State.DEAD]
        if State.RUNNING in states:
            raise InvalidSetting("state", "what runs cannot be removed; wait until it has ended")
        return {"removed": sum([await self._events.purge(owned, state) for state in states])}

    # Within ------------------------------------------------------------------------------------------------------------
    def _owned(self, principal: Principal, name: str | None = None) -> Owned:
        function = self._index.named(principal.account, principal.region, name) if name is not None else None
        return Owned(account=principal.account, region=principal.region, name=name, function=function.id if function else None)

    async def _missing_function(self, owned: Owned, identity: str) -> None:
        """A call of a function that is gone would only end again, and its reason would be lost."""
        call = (await self._events.found(owned, identity)).call
        if self._index.function(call.function) is None:
            raise NotFound("function", f"{call.name or call.function}, which event {identity} is for")

    def _document(self, event: Event) -> dict[str, Any]:
        call = event.call
        document: dict[str, Any] = {
            "id": call.id,
            "state": event.state.value,
            "function": call.name or call.function,
            "qualifier": call.qualifier,
            "accepted_s": call.accepted_s,
            "attempts": call.attempts,
            "payload_bytes": event.payload_bytes,
        }
        if event.state is State.DEAD:
            document |= {"ended_s": event.ended_s, "reason": event.reason}
        else:
            document["refusals"] = call.refusals
        if event.state is State.WAITING:
            document["due_s"] = call.visible_s
        if call.chain:
            document["chain"] = call.chain
        return document | ({"error": call.error} if call.error else {})


def match(method: str, path: str) -> tuple[Operation, str] | None:
    """The operation that is meant, and the id in its path."""
    asked = path.removeprefix(PREFIX).rstrip("/").split("/")
    for operation in OPERATIONS:
        wanted = operation.path.split("/")
        alike = method == operation.method and len(asked) == len(wanted)
        if alike and all(part in ("{id}", given) for part, given in zip(wanted, asked, strict=True)):
            return operation, unquote(asked[2]) if len(asked) > 2 else ""
    return None


def listing(query: Mapping[str, str]) -> Listing:
    """Raises InvalidSetting."""
    states = [_state(query["state"])] if "state" in query else list(ORDER)
    first, position = _cursor(query.get("after"), states)
    return Listing(states[states.index(first) :], query.get("function"), position, _limit(query.get("limit")))


def query_of(text: str, operation: Operation) -> dict[str, str]:
    """The parameters, all of them the operation's. Raises InvalidSetting."""
    try:
        given = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=20))
    except ValueError as error:
        raise InvalidSetting("query", "the query has more parameters than there are") from error
    for name in given:
        if name not in operation.query:
            known = ", ".join(operation.query) or "none"
            raise InvalidSetting(name, f"there is no query parameter {name!r} here; known: {known}")
    return given


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise InvalidSetting("state", f"{text!r} is no state: waiting, running or dead") from None


def _limit(text: str | None) -> int:
    if text is None:
        return LISTED_USUAL
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= LISTED_MAX):
        raise InvalidSetting("limit", f"{text!r} is no number from 1 to {LISTED_MAX}")
    return int(text)


def _cursor(text: str | None, states: list[State]) -> tuple[State, int]:
    if text is None:
        return states[0], 0
    state, _, position = text.partition(":")
    known = {each.value: each for each in states}
    if state not in known or not (position.isascii() and position.isdecimal() and len(position) <= 18):
        raise InvalidSetting("after", f"{text!r} is not the `next` of a page of this listing")
    return known[state], int(position)


def _payload(payload: bytes) -> dict[str, Any]:
    """JSON as such; anything else in base64."""
    try:
        _RAW.decode(payload)
        payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"payload_base64": base64.b64encode(payload).decode()}
    return {"payload": msgspec.Raw(payload)}
