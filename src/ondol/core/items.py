"""Writing what a dialect keeps for itself. In force at every front when a method returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ondol.core.catalog import Index, delete, key_of, put
from ondol.core.commits import Commits, Operations
from ondol.model.errors import AlreadyExists, NotFound
from ondol.model.items import Item


class Items:
    """The use cases. One per process that writes."""

    def __init__(self, index: Index, commits: Commits) -> None:
        self.index = index
        self._commits = commits

    async def create(self, item: Item, *, items_max: int | None = None) -> Item:
        """Raises AlreadyExists; OverflowError where there are `items_max` of its kind already."""

        def build() -> Operations:
            if self._there(item) is not None:
                raise AlreadyExists(f"{item.kind} already exists: {item.name}")
            of_kind = self.index.items(item.dialect, item.kind, item.account, item.region)
            if items_max is not None and len(of_kind) >= items_max:
                raise OverflowError(f"there are {items_max} of kind {item.kind}")
            return [put(item, if_revision=0)]

        await self._commits.everywhere(await self._commits.retrying(build))
        return item

    async def change(self, item: Item, make: Callable[[Item], Item]) -> Item:
        """Replace it by what `make` makes of it as it is now. Raises NotFound, and what `make` raises."""
        made: list[Item] = []

        def build() -> Operations:
            current = self._there(item)
            if current is None:
                raise NotFound(item.kind, item.name)
            new = make(current)
            made[:] = [replace(new, dialect=item.dialect, kind=item.kind, account=item.account, region=item.region)]
            return [put(made[0], self.index.revision_of(key_of(item)))] if made[0] != current else []

        await self._commits.everywhere(await self._commits.retrying(build))
        return made[0]

    async def delete(self, item: Item, check: Callable[[Item], None] | None = None) -> None:
        """Nothing of that name is no error. `check` may raise what keeps it from going."""

        def build() -> Operations:
            current = self._there(item)
            if current is None:
                return []
            if check is not None:
                check(current)
            return [delete(current)]

        await self._commits.everywhere(await self._commits.retrying(build))

    def _there(self, item: Item) -> Item | None:
        return self.index.item(item.dialect, item.kind, item.account, item.region, item.name)
