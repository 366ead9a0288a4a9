"""Aliases: a name for one version, or for two with weights. In force at every front when a method returns."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import replace

from ondol.core.catalog import Index, alias_key, deferral_key, key_of, pin_key, put
from ondol.core.commits import Commits, Operations
from ondol.model.errors import AlreadyExists, InvalidSetting, NotFound, RevisionMismatch
from ondol.model.functions import Alias
from ondol.store import Delete, Put


class Aliases:
    """The function's document is written along with each alias, so that neither it nor a version can go meanwhile."""

    def __init__(self, index: Index, commits: Commits) -> None:
        self._index = index
        self._commits = commits

    def etag(self, alias: Alias) -> str:
        """An opaque token, shaped like a UUID, that changes with each write."""
        key = alias_key(alias.function, alias.name)
        digest = hashlib.sha256(f"{key}/{self._index.revision_of(key)}".encode()).digest()
        return str(uuid.UUID(bytes=digest[:16], version=4))

    async def create(self, alias: Alias) -> Alias:
        """Raises AlreadyExists, NotFound (function, version), InvalidSetting."""

        def build() -> Operations:
            if self._index.alias(alias.function, alias.name):
                raise AlreadyExists(f"alias already exists: {alias.name}")
            self._check(alias)
            return [self._guard(alias.function), put(alias, 0)]

        await self._commits.everywhere(await self._commits.retrying(build))
        return alias

    async def update(self, function: str, name: str, change: Callable[[Alias], Alias], *, if_etag: str | None = None) -> Alias:
        """Replace an alias by what `change` makes of it. Raises NotFound, RevisionMismatch, InvalidSetting."""
        made: list[Alias] = []

        def build() -> Operations:
            current = self._index.alias(function, name)
            if current is None:
                raise NotFound("alias", name)
            if if_etag is not None and if_etag != self.etag(current):
                raise RevisionMismatch(f"alias {name} has changed since it was read; read it again")
            made[:] = [replace(change(current), function=function, name=name)]
            self._check(made[0])
            return [self._guard(function), put(made[0], self._index.revision_of(alias_key(function, name)))]

        await self._commits.everywhere(await self._commits.retrying(build))
        return made[0]

    async def delete(self, function: str, name: str) -> None:
        """None of that name is no error. What was said about its deferred calls and its environments goes with it."""

        def build() -> Operations:
            if self._index.alias(function, name) is None:
                return []
            return [Delete(alias_key(function, name)), Delete(deferral_key(function, name)), Delete(pin_key(function, name))]

        await self._commits.everywhere(await self._commits.retrying(build))

    def _check(self, alias: Alias) -> None:
        for number in (alias.version, alias.second):
            if number is not None and self._index.version(alias.function, number) is None:
                raise NotFound("version", str(number))
        if alias.second is None:
            return
        if alias.version is None:
            raise InvalidSetting("version", "the latest revision cannot share calls with a version; publish it first")
        if alias.second == alias.version:
            raise InvalidSetting("second", f"version {alias.second} is already what the alias names")
        if not 0.0 <= alias.second_weight <= 1.0:
            raise InvalidSetting("second_weight", f"a weight is from 0 to 1, not {alias.second_weight}")

    def _guard(self, function: str) -> Put:
        found = self._index.function(function)
        if found is None:
            raise NotFound("function", function)
        return put(found, self._index.revision_of(key_of(found)))
