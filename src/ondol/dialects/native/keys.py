"""`/keys`: access keys of the account. A secret is shown once, when its key is made."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from ondol.core.keys import NAME_CHARS_MAX, Keys
from ondol.dialects.native.operations import Asked, Body, Operation, Reply
from ondol.model.principals import AccessKey

SMALL_BYTES_MAX: Final = 16 * 1024

_Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX, description="for people, who tell their keys apart by it")]


class KeyWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made."""

    name: _Name = ""
    read_only: Annotated[bool, Meta(description="may look at all in the account, and neither change nor call")] = False


class KeyDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is shown of a key: never its secret."""

    id: str
    name: str
    read_only: bool
    created_s: float
    node: Annotated[bool, Meta(description="the node's own first key, which cannot be removed")]


class KeyMade(KeyDocument, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key, with its secret: it is not shown again."""

    secret: str


class KeyList(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All keys of the account, oldest first."""

    keys: list[KeyDocument]


OPERATIONS: Final = (
    Operation(
        id="keys.list", method="GET", path="/keys", summary="List the account's access keys.", action="key:list",
        replies={200: Reply("The keys.", KeyList)},
    ),
    Operation(
        id="keys.create", method="POST", path="/keys", summary="Make an access key.", action="key:create",
        body=Body(bytes_max=SMALL_BYTES_MAX, schema=KeyWanted, required=False),
        replies={201: Reply("The key with its secret, in force.", KeyMade)}, refusals=(409, 507),
    ),
    Operation(
        id="keys.remove", method="DELETE", path="/keys/{id}", summary="Remove an access key: it is nobody's at once.",
        action="key:delete", replies={204: Reply("It is gone.", media=())}, refusals=(404, 409, 507),
    ),
)  # fmt: skip


class KeyRoutes:
    """The part."""

    operations = OPERATIONS

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def list(self, asked: Asked) -> KeyList:
        return KeyList(keys=[KeyDocument(**self._shown(key)) for key in self._keys.of(asked.principal.account)])

    async def create(self, asked: Asked) -> KeyMade:
        wish = asked.body or KeyWanted()
        key = await self._keys.create(asked.principal.account, name=wish.name, read_only=wish.read_only)
        return KeyMade(**self._shown(key), secret=key.secret)

    async def remove(self, asked: Asked) -> None:
        await self._keys.remove(asked.principal.account, asked.path["id"])

    def _shown(self, key: AccessKey) -> dict[str, Any]:
        return {
            "id": key.id,
            "name": key.name,
            "read_only": key.read_only,
            "created_s": key.created_s,
            "node": key.id == self._keys.own,
        }
