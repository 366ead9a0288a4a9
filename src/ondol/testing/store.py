"""The catalog's port in memory, for tests: same rules as on disk, gone with the process."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence

from ondol.model.errors import RevisionMismatch
from ondol.store import Change, Delete, Document, Put


class MemoryStore:
    """A `Store`. `changes_kept_max` bounds how far back a watch can start."""

    def __init__(self, changes_kept_max: int = 100_000) -> None:
        self._documents: dict[str, Document] = {}
        self._changes: list[Change] = []
        self._pruned = 0  # the number up to which changes are gone
        self._number = 0
        self._kept_max = changes_kept_max
        self._changed = asyncio.Event()
        #: Operations of every commit so far, for tests that count or look.
        self.commits: list[Sequence[Put | Delete]] = []
        #: What the next commit raises instead of writing.
        self.fail_next: Exception | None = None

    async def get(self, key: str) -> Document | None:
        return copy.deepcopy(self._documents.get(key))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[Document]:
        keys = sorted(key for key in self._documents if key.startswith(prefix) and key > after)
        return [copy.deepcopy(self._documents[key]) for key in keys[:limit]]

    async def commit(self, operations: Sequence[Put | Delete]) -> int:
        await asyncio.sleep(0)  # a real store gives way here, so races show in tests
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        self._check(operations)
        self.commits.append(operations)
        for operation in operations:
            self._number += 1
            self._write(operation)
        del self._changes[: -self._kept_max]
        if self._changes:
            self._pruned = self._changes[0].number - 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return self._number

    async def snapshot(self) -> tuple[int, Sequence[Document]]:
        return self._number, [copy.deepcopy(self._documents[key]) for key in sorted(self._documents)]

    async def watch(self, since: int) -> AsyncIterator[Change]:
        if since < self._pruned:
            msg = f"changes up to {self._pruned} are gone; take a snapshot"
            raise ValueError(msg)
        while True:
            changed = self._changed
            for change in self._changes[max(0, since - self._pruned) :]:
                since = change.number
                yield change
            if since == self._number:
                await changed.wait()

    async def close(self) -> None:
        self._documents.clear()

    def _check(self, operations: Sequence[Put | Delete]) -> None:
        """Each `if_revision` against the state as earlier operations of the same commit leave it."""
        seen: dict[str, int] = {}
        for step, operation in enumerate(operations, self._number + 1):
            document = self._documents.get(operation.key)
            actual = seen.get(operation.key, document.revision if document else 0)
            if operation.if_revision is not None and operation.if_revision != actual:
                raise RevisionMismatch(f"{operation.key} is at {actual}, not {operation.if_revision}")
            seen[operation.key] = step if isinstance(operation, Put) else 0

    def _write(self, operation: Put | Delete) -> None:
        if isinstance(operation, Put):
            value = copy.deepcopy(operation.value)
            self._documents[operation.key] = Document(operation.key, value, self._number)
            self._changes.append(Change(self._number, operation.key, copy.deepcopy(value)))
        else:
            self._documents.pop(operation.key, None)
            self._changes.append(Change(self._number, operation.key, None))
