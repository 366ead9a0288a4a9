"""What the native API is made of: operations, declared once; dispatch and the OpenAPI document are both made of them.

A *part* is an object with `operations`, a tuple of `Operation`s, and a coroutine method for each: the one whose name stands
behind the dot of the operation's id. It is given an `Asked`, whose query and body have been checked against what the operation
declares, and gives back the document of the first reply, (status, document) for another, or a whole `Response`.
Knows nothing of functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol
from urllib.parse import unquote

from msgspec import Struct

from ondol.http.messages import Request, Response
from ondol.http.table import Plane
from ondol.model.principals import Principal

PREFIX: Final = "/ondol/v1"
JSON: Final = "application/json"
#: What a body may have where none is asked for: it is read for the signature's sake, and thrown away.
UNASKED_BYTES_MAX: Final = 64 * 1024
#: Bodies that may be larger are held one after another.
HEAVY_BYTES: Final = 8 * 1024 * 1024
#: What every operation may answer besides what it declares.
COMMON: Final = (400, 401, 403, 503)


class Reply(Struct, frozen=True):
    """An answer when all went well. `schema`: the type of its JSON; None where it is no JSON, or nothing."""

    summary: str
    schema: Any = None
    media: tuple[str, ...] = (JSON,)


class Body(Struct, frozen=True, kw_only=True):
    """What an operation takes. `schema`: the type of its JSON, or None."""

    bytes_max: int
    schema: Any = None
    media: tuple[str, ...] = (JSON,)
    #: How the handler gets it: decoded as `schema`, as bytes, or as the path of a file that goes away afterwards.
    form: Literal["json", "bytes", "file"] = "json"
    required: bool = True


class Operation(Struct, frozen=True, kw_only=True):
    """One thing that can be asked."""

    #: "PART.METHOD", unique.
    id: str
    method: str
    #: Below PREFIX; a segment {name} stands for any.
    path: str
    summary: str
    #: What the principal must be permitted (`ondol.core.permit`); "" where the request carries its right in itself.
    action: str
    replies: Mapping[int, Reply]
    #: Statuses it refuses with, besides COMMON.
    refusals: tuple[int, ...] = ()
    #: Query parameters: a Struct whose fields have descriptions and bounds.
    query: type[Struct] | None = None
    body: Body | None = None
    #: Which process answers.
    plane: Plane = Plane.CONTROL

    @property
    def statuses(self) -> frozenset[int]:
        """All that it may answer with."""
        taking = (413, 415) if self.body else (413,)
        return frozenset((*self.replies, *self.refusals, *COMMON, *taking))

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path.strip("/").split("/"))

    @property
    def heavy(self) -> bool:
        """Whether its body may be so large that few are held at once."""
        return self.body is not None and self.body.bytes_max > HEAVY_BYTES


class Asked(Struct, frozen=True, kw_only=True):
    """A request for an operation: who asks, proven and permitted, and what for, checked."""

    operation: Operation
    request: Request
    request_id: str
    principal: Principal
    #: What stands in the path's places, decoded.
    path: Mapping[str, str]
    #: The operation's `query`, or None.
    query: Any = None
    #: By the body's form: the decoded JSON, bytes, a path; None where none is asked for, or none came.
    body: Any = None


class Part(Protocol):
    """See the module."""

    @property
    def operations(self) -> Sequence[Operation]: ...


#: What a handler gives: a document, (status, document), a response, or nothing.
Given = Struct | tuple[int, Struct] | Response | None


class Operations:
    """Finds the operation of a request."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.all = tuple(operations)
        #: By how many segments a path has, and the first of them: what is left is a handful.
        self._near: dict[tuple[int, str], list[tuple[Operation, tuple[str, ...]]]] = {}
        for operation in self.all:
            segments = operation.segments
            self._near.setdefault((len(segments), segments[0]), []).append((operation, segments))

    def at(self, path: str) -> dict[str, tuple[Operation, dict[str, str]]]:
        """By method: what is at `path`, with what stands in its places. Empty when nothing is."""
        given = path.removeprefix(PREFIX).strip("/").split("/")
        found = {}
        for operation, segments in self._near.get((len(given), given[0]), ()):
            places = _places(segments, given)
            if places is not None:
                found[operation.method] = (operation, places)
        return found


def _places(wanted: Sequence[str], given: Sequence[str]) -> dict[str, str] | None:
    places = {}
    for want, give in zip(wanted, given, strict=True):
        if want.startswith("{"):
            places[want[1:-1]] = unquote(give)
        elif want != give:
            return None
    return places
