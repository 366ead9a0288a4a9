"""`/functions/{name}/versions` and `/aliases`: revisions given a number, and names for one or two of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Final

from msgspec import Meta, Struct

from ondol.core.catalog import Index
from ondol.core.deploy import Deployed, Deployments
from ondol.dialects.native.finding import function_of, there_are
from ondol.dialects.native.operations import Asked, Body, Operation, Reply
from ondol.model.errors import InvalidSetting, NotFound
from ondol.model.functions import UNNUMBERED, Alias, Function

ALIAS_FORM: Final = re.compile(r"(?!\d+\Z)[a-zA-Z0-9_-]{1,128}", re.ASCII)
SMALL_BYTES_MAX: Final = 64 * 1024
#: More digits than any version's number has.
DIGITS_MAX: Final = 9

_Number = Annotated[int, Meta(ge=1, le=10**DIGITS_MAX)]
_Description = Annotated[str, Meta(max_length=256)]
_Weight = Annotated[float, Meta(ge=0.0, le=1.0, description="the second version's share of the calls")]


class VersionDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version: code and settings that do not change any more."""

    number: int
    description: str
    created_s: float
    code_sha256: str
    state: str


class VersionList(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All versions of a function, by number."""

    versions: list[VersionDocument]


class VersionWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new version is said to be."""

    description: _Description = ""


class AliasWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an alias shall name."""

    version: Annotated[_Number | None, Meta(description="null: the latest code, published or not")]
    second: _Number | None = None
    second_weight: _Weight = 0.0
    description: _Description = ""


class AliasDocument(AliasWanted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name for one version, or for two with weights."""

    name: str


class AliasList(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All aliases of a function, by name."""

    aliases: list[AliasDocument]


_VERSIONS: Final = "/functions/{name}/versions"
_ALIASES: Final = "/functions/{name}/aliases"

OPERATIONS: Final = (
    Operation(
        id="versions.list", method="GET", path=_VERSIONS, summary="List a function's versions.", action="function:read",
        replies={200: Reply("The versions.", VersionList)}, refusals=(404,),
    ),
    Operation(
        id="versions.publish", method="POST", path=_VERSIONS, summary="Give the latest code and settings a number.",
        action="function:write", body=Body(bytes_max=SMALL_BYTES_MAX, schema=VersionWanted, required=False),
        replies={200: Reply("The version; the one before, when nothing has changed since.", VersionDocument)},
        refusals=(404, 409, 507),
    ),
    Operation(
        id="versions.remove", method="DELETE", path=_VERSIONS + "/{number}", summary="Remove a version that no alias names.",
        action="function:write", replies={204: Reply("It is gone.", media=())}, refusals=(404, 409, 507),
    ),
    Operation(
        id="versions.aliases", method="GET", path=_ALIASES, summary="List a function's aliases.", action="function:read",
        replies={200: Reply("The aliases.", AliasList)}, refusals=(404,),
    ),
    Operation(
        id="versions.point", method="PUT", path=_ALIASES + "/{alias}", summary="Make an alias, or point it elsewhere.",
        action="function:write", body=Body(bytes_max=SMALL_BYTES_MAX, schema=AliasWanted),
        replies={200: Reply("The alias, in force.", AliasDocument), 201: Reply("The new alias, in force.", AliasDocument)},
        refusals=(404, 409, 507),
    ),
    Operation(
        id="versions.unpoint", method="DELETE", path=_ALIASES + "/{alias}", summary="Remove an alias.", action="function:write",
        replies={204: Reply("It is gone.", media=())}, refusals=(404, 409, 507),
    ),
)  # fmt: skip


class Versions:
    """The part."""

    operations = OPERATIONS

    def __init__(self, *, index: Index, deployments: Deployments) -> None:
        self._index = index
        self._deployments = deployments

    # Versions --------------------------------------------------------------------------------------------------------
    async def list(self, asked: Asked) -> VersionList:
        function = function_of(self._index, asked)
        numbers = [version.number for version in self._index.versions(function.id)]
        return VersionList(versions=[_version(self._deployments.version(function, number)) for number in numbers])

    async def publish(self, asked: Asked) -> VersionDocument:
        wish = asked.body or VersionWanted()
        function = function_of(self._index, asked)
        return _version(await self._deployments.publish(function, description=wish.description or None))

    async def remove(self, asked: Asked) -> None:
        function = function_of(self._index, asked)
        text = asked.path["number"]
        plain = text == str(UNNUMBERED) or (text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX)
        number = int(text) if plain else 0
        if self._index.version(function.id, number) is None:
            numbers = [str(version.number) for version in self._index.versions(function.id)]
            raise NotFound("version", f"{text[:80]}; {there_are(text, numbers, 'versions')}")
        await self._deployments.delete_version(function.id, number)

    # Aliases ---------------------------------------------------------------------------------------------------------
    async def aliases(self, asked: Asked) -> AliasList:
        return AliasList(aliases=[_alias(alias) for alias in self._index.aliases(function_of(self._index, asked).id)])

    async def point(self, asked: Asked) -> tuple[int, AliasDocument]:
        function, name, wish = function_of(self._index, asked), asked.path["alias"], asked.body
        if not ALIAS_FORM.fullmatch(name):
            raise InvalidSetting("alias", f"{name[:80]!r} is no alias: 1 to 128 letters, digits, '-' and '_', not digits alone")
        alias = Alias(function=function.id, name=name, version=None)

        def change(old: Alias) -> Alias:
            return replace(
                old,
                version=wish.version,
                second=wish.second,
                second_weight=wish.second_weight if wish.second is not None else 0.0,
                description=wish.description,
            )

        if self._index.alias(function.id, name) is None:
            return 201, _alias(await self._deployments.aliases.create(change(alias)))
        return 200, _alias(await self._deployments.aliases.update(function.id, name, change))

    async def unpoint(self, asked: Asked) -> None:
        function, name = function_of(self._index, asked), asked.path["alias"]
        self._there(function, name)
        await self._deployments.aliases.delete(function.id, name)

    def _there(self, function: Function, name: str) -> None:
        if self._index.alias(function.id, name) is None:
            names = [alias.name for alias in self._index.aliases(function.id)]
            raise NotFound("alias", f"{name[:80]}; {there_are(name, names, 'aliases')}")


def _version(deployed: Deployed) -> VersionDocument:
    version, revision = deployed.version, deployed.revision
    assert version is not None, "what is shown here was published"
    return VersionDocument(
        number=version.number,
        description=version.description,
        created_s=version.created_s,
        code_sha256=revision.code.sha256,
        state=version.stage.value,
    )


def _alias(alias: Alias) -> AliasDocument:
    return AliasDocument(
        name=alias.name,
        version=alias.version,
        second=alias.second,
        second_weight=alias.second_weight,
        description=alias.description,
    )
