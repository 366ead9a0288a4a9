"""The catalog as nouns: which document holds what, and the in-memory index that both processes answer from.

Only this module knows the keys. The hot path reads the `Index` and never a database; the desk commits `Put`s made here, and
every process's index follows by `apply`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec

from ondol.model.deferrals import Deferral
from ondol.model.functions import Alias, Function, Handle, Pin, Revision, Version
from ondol.model.items import Item
from ondol.model.principals import AccessKey
from ondol.store import Change, Delete, Document, Packed, Put, packed

Noun = TypeVar("Noun")
#: What is written into the catalog.
Written = Function | Revision | Version | Alias | Pin | Deferral | Handle | AccessKey | Item


def function_key(account: str, region: str, function: str) -> str:
    return f"function/{account}/{region}/{function}"


def revision_key(function: str, revision: str) -> str:
    return f"revision/{function}/{revision}"


def version_key(function: str, number: int) -> str:
    return f"version/{function}/{number:010d}"


def alias_key(function: str, name: str) -> str:
    return f"alias/{function}/{name}"


def pin_key(function: str, qualifier: str | None) -> str:
    return f"pin/{function}/{qualifier or '$latest'}"


def deferral_key(function: str, qualifier: str | None) -> str:
    """No alias can be called "$latest"."""
    return f"deferral/{function}/{qualifier or '$latest'}"


def handle_key(dialect: str, account: str, region: str, name: str) -> str:
    return f"handle/{dialect}/{account}/{region}/{name}"


def key_key(access_key_id: str) -> str:
    return f"key/{access_key_id}"


def item_key(dialect: str, kind: str, account: str, region: str, name: str) -> str:
    """No region can be called "-"."""
    return f"item/{dialect}/{kind}/{account}/{region or '-'}/{name}"


def put(noun: Written, if_revision: int | None = None) -> Put:
    """The operation that writes `noun` where it belongs."""
    return Put(key_of(noun), msgspec.to_builtins(noun), if_revision)


def delete(noun: Written) -> Delete:
    return Delete(key_of(noun))


def key_of(noun: Written) -> str:  # noqa: PLR0911  one line per noun
    match noun:
        case Function():
            return function_key(noun.account, noun.region, noun.id)
        case Revision():
            return revision_key(noun.function, noun.id)
        case Version():
            return version_key(noun.function, noun.number)
        case Alias():
            return alias_key(noun.function, noun.name)
        case Pin():
            return pin_key(noun.function, noun.qualifier)
        case Deferral():
            return deferral_key(noun.function, noun.qualifier)
        case Handle():
            return handle_key(noun.dialect, noun.account, noun.region, noun.name)
        case AccessKey():
            return key_key(noun.id)
        case Item():
            return item_key(noun.dialect, noun.kind, noun.account, noun.region, noun.name)


#: What a document's value comes as.
Value = dict[str, Any] | bytes | None


def decode(value: dict[str, Any] | bytes, noun: type[Noun]) -> Noun:
    """The noun that a document's value holds, packed or not."""
    if isinstance(value, bytes):
        kind: Any = noun
        made: Noun = _decoder(kind).decode(value)
        return made
    return msgspec.convert(value, noun)


@cache
def _decoder(noun: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(noun)


class Index:
    """Everything of the catalog that answers requests, in memory, as of change `number`."""

    def __init__(self) -> None:
        self.number = 0
        #: How often anything changed here: what was worked out from the index holds as long as this stays.
        self.changes = 0
        #: Called after each change with the key and the noun (None for a removal).
        self.listeners: list[Callable[[str, Any], None]] = []
        self._functions: dict[str, Function] = {}
        self._numbers: dict[str, int] = {}
        self._revisions: dict[str, dict[str, Revision]] = {}
        #: Bytes of code as uploaded, by account and region; each revision counts.
        self._stored: dict[tuple[str, str], int] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._aliases: dict[str, dict[str, Alias]] = {}
        self._pins: dict[str, dict[str, Pin]] = {}
        self._deferrals: dict[str, dict[str, Deferral]] = {}
        self._handles: dict[tuple[str, str, str, str], str] = {}
        #: The same, by function.
        self._called: dict[str, dict[tuple[str, str, str, str], None]] = {}
        self._names: dict[tuple[str, str, str], list[str]] = {}
        self._keys: dict[str, AccessKey] = {}
        #: (dialect, kind, account, region) -> name -> what is kept.
        self._items: dict[tuple[str, str, str, str], dict[str, Item]] = {}

    def load(self, number: int, documents: Iterable[Document | Packed]) -> None:
        """Start from a snapshot."""
        for document in documents:
            self.apply(Change(document.revision, document.key, packed(document).data))
        self.number = number

    def apply(self, change: Change) -> None:
        """One step. Kinds this release does not know are passed over."""
        kind, *parts = change.key.split("/")
        noun = getattr(self, f"_apply_{kind}", _nothing)(parts, change.value)
        if change.value is None:
            self._numbers.pop(change.key, None)
        else:
            self._numbers[change.key] = change.number
        self.number = max(self.number, change.number)
        self.changes += 1
        for listener in self.listeners:
            listener(change.key, noun)

    def revision_of(self, key: str) -> int:
        """The number of the change that last wrote `key`; 0 when there is none: what `if_revision` wants."""
        return self._numbers.get(key, 0)

    def documents(self) -> list[str]:
        """The keys of everything there is."""
        return list(self._numbers)

    def packed(self) -> Iterator[Packed]:
        """The documents of everything there is, made of the nouns again; of kinds this release does not know there are none."""
        for noun in self._nouns():
            key = key_of(noun)
            yield Packed(key, msgspec.msgpack.encode(noun), self._numbers[key])

    # What is asked -------------------------------------------------------------------------------------------------
    def function(self, function: str) -> Function | None:
        return self._functions.get(function)

    def handle(self, dialect: str, account: str, region: str, name: str) -> Function | None:
        """The function a dialect calls `name`."""
        return self._functions.get(self._handles.get((dialect, account, region, name), ""))

    def handles(self, function: str) -> list[Handle]:
        """Everything that a function is called."""
        return [
            Handle(dialect=d, account=a, region=r, name=n, function=function) for d, a, r, n in self._called.get(function, ())
        ]

    def functions(self) -> list[Function]:
        """All of them, in no order."""
        return list(self._functions.values())

    def named(self, account: str, region: str, name: str) -> Function | None:
        """The function that any dialect calls `name`."""
        for dialect in {dialect for dialect, *_ in self._names}:
            found = self.handle(dialect, account, region, name)
            if found is not None:
                return found
        return None

    def names(self, dialect: str, account: str, region: str, *, after: str = "", limit: int = 10_000) -> Sequence[str]:
        """Names the dialect gave, in order, greater than `after`."""
        names = self._names.get((dialect, account, region), [])
        start = bisect_right(names, after) if after else 0
        return names[start : start + limit]

    def revision(self, function: str, revision: str) -> Revision | None:
        return self._revisions.get(function, {}).get(revision)

    def revisions(self, function: str | None = None) -> list[Revision]:
        """All revisions (of a function)."""
        if function is not None:
            return list(self._revisions.get(function, {}).values())
        return [revision for revisions in self._revisions.values() for revision in revisions.values()]

    def stored_bytes(self, account: str, region: str) -> int:
        """What the code of all revisions of an account in a region comes to, as uploaded."""
        return self._stored.get((account, region), 0)

    def version(self, function: str, number: int) -> Version | None:
        return self._versions.get(function, {}).get(number)

    def versions(self, function: str) -> list[Version]:
        """By number."""
        return [v for _, v in sorted(self._versions.get(function, {}).items())]

    def alias(self, function: str, name: str) -> Alias | None:
        return self._aliases.get(function, {}).get(name)

    def aliases(self, function: str) -> list[Alias]:
        """By name."""
        return [a for _, a in sorted(self._aliases.get(function, {}).items())]

    def pin(self, function: str, qualifier: str | None) -> Pin | None:
        return self._pins.get(function, {}).get(qualifier or "$latest")

    def pins(self, function: str | None = None) -> list[Pin]:
        """All of them (of a function), by qualifier."""
        if function is None:
            return [pin for pins in self._pins.values() for pin in pins.values()]
        return [p for _, p in sorted(self._pins.get(function, {}).items())]

    def deferral(self, function: str, qualifier: str | None) -> Deferral | None:
        """What is said about deferred calls that come with exactly this qualifier."""
        return self._deferrals.get(function, {}).get(qualifier or "$latest")

    def deferrals(self, function: str) -> list[Deferral]:
        """By qualifier; first that of calls without one."""
        return [d for _, d in sorted(self._deferrals.get(function, {}).items())]

    def key(self, access_key_id: str) -> AccessKey | None:
        return self._keys.get(access_key_id)

    def keys(self) -> list[AccessKey]:
        return list(self._keys.values())

    def item(self, dialect: str, kind: str, account: str, region: str, name: str) -> Item | None:
        """What a dialect keeps for itself under a name."""
        return self._items.get((dialect, kind, account, region), _NONE).get(name)

    def items(self, dialect: str, kind: str, account: str, region: str) -> list[Item]:
        """Everything of a kind, by name."""
        return [item for _, item in sorted(self._items.get((dialect, kind, account, region), _NONE).items())]

    def items_everywhere(self, dialect: str, kind: str) -> list[Item]:
        """Everything of a kind, of all accounts and regions, in no order."""
        return [i for (d, k, *_), items in self._items.items() if (d, k) == (dialect, kind) for i in items.values()]

    def item_codes(self) -> set[str]:
        """The code that items hold on to."""
        return {code for items in self._items.values() for item in items.values() for code in item.codes}

    def _nouns(self) -> Iterator[Written]:
        yield from self._functions.values()
        by_function: tuple[Mapping[str, Mapping[Any, Written]], ...] = (
            self._revisions, self._versions, self._aliases, self._pins, self._deferrals,
        )  # fmt: skip
        for tables in by_function:
            for table in tables.values():
                yield from table.values()
        for function in self._called:
            yield from self.handles(function)
        yield from self._keys.values()
        for items in self._items.values():
            yield from items.values()

    # What changes ----------------------------------------------------------------------------------------------------
    def _apply_function(self, parts: list[str], value: Value) -> Function | None:
        return _keep(self._functions, parts[2], value, Function)

    def _apply_revision(self, parts: list[str], value: Value) -> Revision | None:
        before = self._revisions.get(parts[0], {}).get(parts[1])
        made = _keep_under(self._revisions, parts[0], parts[1], value, Revision)
        for revision, sign in ((before, -1), (made, 1)):
            if revision is not None:
                at = revision.account, revision.region
                self._stored[at] = self._stored.get(at, 0) + sign * revision.code.zipped_bytes
        return made

    def _apply_version(self, parts: list[str], value: Value) -> Version | None:
        return _keep_under(self._versions, parts[0], int(parts[1]), value, Version)

    def _apply_alias(self, parts: list[str], value: Value) -> Alias | None:
        return _keep_under(self._aliases, parts[0], parts[1], value, Alias)

    def _apply_pin(self, parts: list[str], value: Value) -> Pin | None:
        return _keep_under(self._pins, parts[0], parts[1], value, Pin)

    def _apply_deferral(self, parts: list[str], value: Value) -> Deferral | None:
        return _keep_under(self._deferrals, parts[0], parts[1], value, Deferral)

    def _apply_key(self, parts: list[str], value: Value) -> AccessKey | None:
        return _keep(self._keys, parts[0], value, AccessKey)

    def _apply_item(self, parts: list[str], value: Value) -> Item | None:
        dialect, kind, account, region = parts[:4]
        table = self._items.setdefault((dialect, kind, account, "" if region == "-" else region), {})
        return _keep(table, "/".join(parts[4:]), value, Item)

    def _apply_handle(self, parts: list[str], value: Value) -> Handle | None:
        dialect, account, region, name = parts[0], parts[1], parts[2], "/".join(parts[3:])
        at = (dialect, account, region, name)
        names = self._names.setdefault(at[:3], [])
        if value is None:
            named = self._handles.pop(at, None)
            if named is not None:
                names.remove(name)
                self._forget_called(named, at)
            return None
        handle = decode(value, Handle)
        before = self._handles.get(at)
        if before is None:
            insort(names, name)
        else:
            self._forget_called(before, at)
        self._handles[at] = handle.function
        self._called.setdefault(handle.function, {})[at] = None
        return handle

    def _forget_called(self, function: str, at: tuple[str, str, str, str]) -> None:
        called = self._called[function]
        del called[at]
        if not called:
            del self._called[function]


#: Nothing of a kind.
_NONE: dict[str, Item] = {}


def _keep(table: dict[Any, Noun], key: Any, value: Value, noun: type[Noun]) -> Noun | None:
    if value is None:
        table.pop(key, None)
        return None
    table[key] = made = decode(value, noun)
    return made


def _keep_under(tables: dict[str, dict[Any, Noun]], outer: str, key: Any, value: Value, noun: type[Noun]) -> Noun | None:
    table = tables.setdefault(outer, {})
    made = _keep(table, key, value, noun)
    if not table:
        del tables[outer]
    return made


def _nothing(parts: list[str], value: Value) -> None:
    """A kind of document that another release writes."""
