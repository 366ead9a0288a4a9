"""The catalog port: a revisioned document store with watch (decision 1).

Every change gets one number, growing by at least one; a commit of several operations is one transaction, and its
operations get consecutive numbers. Whoever holds `snapshot()` and then follows `watch(since)` has everything.
Values are msgpack-able plain data (dicts, lists, str, int, float, bool, None).

Keys are '/'-separated, written by `ondol.core.catalog` only::

    function/ACCOUNT/REGION/FUNCTION          revision/FUNCTION/REVISION        code/SHA256
    version/FUNCTION/0000000001               alias/FUNCTION/NAME               handle/DIALECT/ACCOUNT/REGION/NAME
    deferral/FUNCTION/QUALIFIER               key/ACCESS_KEY_ID                 setting/NAME
    item/DIALECT/KIND/ACCOUNT/REGION/NAME
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec


@dataclass(frozen=True, slots=True)
class Document:
    """A value and the number of the change that wrote it."""

    key: str
    value: dict[str, Any]
    revision: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A document whose value is still msgpack: who passes very many on, or makes nouns of them, needs no more."""

    key: str
    data: bytes
    revision: int

    @property
    def value(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.msgpack.decode(self.data)
        return found


def packed(document: Document | Packed) -> Packed:
    """The same, packed."""
    if isinstance(document, Packed):
        return document
    return Packed(document.key, msgspec.msgpack.encode(document.value), document.revision)


@dataclass(frozen=True, slots=True)
class Put:
    """Write `value`. `if_revision`: None = in any case, 0 = only if absent, n = only if that is its revision."""

    key: str
    value: dict[str, Any]
    if_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the document; removing what is not there is no error unless `if_revision` asks."""

    key: str
    if_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the catalog. `value` is None for a removal, and bytes where it is still packed."""

    number: int
    key: str
    value: dict[str, Any] | bytes | None


class Store(Protocol):
    """See the module. Raises RevisionMismatch where an `if_revision` does not hold, OutOfSpace when the disk is full."""

    async def get(self, key: str) -> Document | None: ...

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[Document]:
        """In key order, keys greater than `after`."""
        ...

    async def commit(self, operations: Sequence[Put | Delete]) -> int:
        """All or nothing; the number of the last change. On disk when it returns."""
        ...

    async def snapshot(self) -> tuple[int, Sequence[Document | Packed]]:
        """Everything, and the number of the newest change in it."""
        ...

    def watch(self, since: int) -> AsyncIterator[Change]:
        """Changes with numbers greater than `since`, in order, for ever. Raises ValueError for a `since` pruned away."""
        ...

    async def close(self) -> None: ...
