"""`/functions/{name}/pins`: environments that are up, and loaded, before they are called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct

from ondol.core.catalog import Index
from ondol.core.deploy import Deployments
from ondol.core.pins import shares
from ondol.dialects.native.finding import function_of, there_are
from ondol.dialects.native.operations import Asked, Body, Operation, Reply
from ondol.dialects.native.reading import short
from ondol.model.errors import NotFound
from ondol.model.functions import Pin

#: How calls that name neither a version nor an alias are called here: no alias can have this name.
LATEST: Final = "$latest"
SMALL_BYTES_MAX: Final = 4096

#: Of each revision, how many environments are up because they are to be, and why there are not more, if that is known.
Keeping = Callable[[], Awaitable[Mapping[str, tuple[int, str]]]]


class PinWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many environments shall be up."""

    environments: Annotated[int, Meta(ge=1, le=100_000)]


class PinDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Environments that are to be up for calls with one qualifier."""

    qualifier: Annotated[str, Meta(description="a version, an alias, or $latest: calls that name neither")]
    environments: int
    up: Annotated[int, Meta(description="how many are, and have loaded")]
    why: Annotated[str, Meta(description="why there are not more, if that is known")]
    updated_s: float


class PinList(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All pins of a function, by qualifier."""

    pins: list[PinDocument]


_PINS: Final = "/functions/{name}/pins"

OPERATIONS: Final = (
    Operation(
        id="pins.list", method="GET", path=_PINS, summary="List the environments that are to be up.", action="function:read",
        replies={200: Reply("The pins.", PinList)}, refusals=(404,),
    ),
    Operation(
        id="pins.put", method="PUT", path=_PINS + "/{qualifier}", summary="Keep so many environments up.",
        action="function:write", body=Body(bytes_max=SMALL_BYTES_MAX, schema=PinWanted),
        replies={200: Reply("The pin; its environments are on their way.", PinDocument)}, refusals=(404, 409, 507),
    ),
    Operation(
        id="pins.remove", method="DELETE", path=_PINS + "/{qualifier}", summary="Keep as many up as calls need, again.",
        action="function:write", replies={204: Reply("It is gone.", media=())}, refusals=(404, 409, 507),
    ),
)  # fmt: skip


class Pins:
    """The part."""

    operations = OPERATIONS

    def __init__(self, *, index: Index, deployments: Deployments, keeping: Keeping) -> None:
        self._index = index
        self._deployments = deployments
        self._keeping = keeping

    async def list(self, asked: Asked) -> PinList:
        function = function_of(self._index, asked)
        kept = await self._keeping()
        return PinList(pins=[self._shown(pin, kept) for pin in self._index.pins(function.id)])

    async def put(self, asked: Asked) -> PinDocument:
        function, text = function_of(self._index, asked), asked.path["qualifier"]
        pin = await self._deployments.pins.put(function.id, _qualifier(text), asked.body.environments)
        return self._shown(pin, {})

    async def remove(self, asked: Asked) -> None:
        function, text = function_of(self._index, asked), asked.path["qualifier"]
        if not await self._deployments.pins.delete(function.id, _qualifier(text)):
            pinned = [pin.qualifier or LATEST for pin in self._index.pins(function.id)]
            raise NotFound("pin", f"{short(text)}; {there_are(text, pinned, 'pins')}")

    def _shown(self, pin: Pin, kept: Mapping[str, tuple[int, str]]) -> PinDocument:
        found = [kept.get(revision.id, (0, "")) for revision, _ in shares(self._index, pin)]
        return PinDocument(
            qualifier=pin.qualifier or LATEST,
            environments=pin.environments,
            up=min(sum(up for up, _ in found), pin.environments),
            why=next((why for _, why in found if why), ""),
            updated_s=pin.updated_s,
        )


def _qualifier(text: str) -> str | None:
    return None if text == LATEST else text
