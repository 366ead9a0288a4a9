"""What a function's owner says about its deferred calls, and what then holds for one of them.

`Deferrals` writes; `rules` reads, from the index and nothing else, so that the dispatcher always follows the last word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ondol.clock import Clock
from ondol.core.catalog import Index, deferral_key, key_of, put
from ondol.core.commits import Commits, Operations
from ondol.core.resolve import number_of
from ondol.model.deferrals import Deferral, Destination
from ondol.model.errors import InvalidSetting, NotFound
from ondol.model.functions import Function
from ondol.model.limits import DEFERRED_AGE_S_MAX, DEFERRED_AGE_S_MIN, DEFERRED_RETRIES_MAX
from ondol.store import Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for one deferred call."""

    retries_max: int = DEFERRED_RETRIES_MAX
    age_s_max: float = DEFERRED_AGE_S_MAX
    #: None: whatever the account has left; 0: it may not run at all.
    concurrency_max: int | None = None
    on_success: Destination | None = None
    on_failure: Destination | None = None


USUAL: Final = Rules()


def rules(index: Index, function: str, qualifier: str | None) -> Rules:
    """What holds for calls of `function` that came with `qualifier`; the usual rules for a function that is gone."""
    found = index.function(function)
    said = index.deferral(function, qualifier)
    if said is None:
        return USUAL if found is None or found.concurrency_reserved is None else _reserved(found)
    return Rules(
        retries_max=DEFERRED_RETRIES_MAX if said.retries_max is None else said.retries_max,
        age_s_max=DEFERRED_AGE_S_MAX if said.age_s_max is None else said.age_s_max,
        concurrency_max=found.concurrency_reserved if found else None,
        on_success=said.on_success,
        on_failure=said.on_failure,
    )


def _reserved(function: Function) -> Rules:
    return replace(USUAL, concurrency_max=function.concurrency_reserved)


class Deferrals:
    """The use cases: `put`, `update`, `delete`. In force when they return: the process that writes is the one that reads."""

    def __init__(self, index: Index, commits: Commits, clock: Clock) -> None:
        self._index = index
        self._commits = commits
        self._clock = clock

    async def put(self, deferral: Deferral) -> Deferral:
        """Replace whatever was said. Raises NotFound (function, version, alias), InvalidSetting."""
        return await self._write(deferral.function, deferral.qualifier, lambda _: deferral)

    async def update(self, function: str, qualifier: str | None, change: Callable[[Deferral], Deferral]) -> Deferral:
        """Replace what was said by what `change` makes of it. Raises as `put`, and NotFound (deferral)."""

        def changed(current: Deferral | None) -> Deferral:
            if current is None:
                raise NotFound("deferral", f"{function}:{qualifier or ''}")
            return change(current)

        return await self._write(function, qualifier, changed)

    async def delete(self, function: str, qualifier: str | None) -> None:
        """The usual rules hold again. Raises NotFound (deferral)."""

        def build() -> Operations:
            if self._index.deferral(function, qualifier) is None:
                raise NotFound("deferral", f"{function}:{qualifier or ''}")
            return [Delete(deferral_key(function, qualifier))]

        await self._commits.retrying(build)

    async def _write(self, function: str, qualifier: str | None, make: Callable[[Deferral | None], Deferral]) -> Deferral:
        made: list[Deferral] = []

        def build() -> Operations:
            target = self._target(function, qualifier)
            wanted = make(self._index.deferral(function, qualifier))
            made[:] = [replace(wanted, function=function, qualifier=qualifier, updated_s=self._clock.wall_s())]
            self._check(made[0])
            # The function's document is written along, so that neither it nor a version or alias can go meanwhile.
            return [
                put(target, self._index.revision_of(key_of(target))),
                put(made[0], self._index.revision_of(key_of(made[0]))),
            ]

        await self._commits.retrying(build)
        return made[0]

    def _target(self, function: str, qualifier: str | None) -> Function:
        found = self._index.function(function)
        if found is None:
            raise NotFound("function", function)
        if qualifier is None:
            return found
        number = number_of(qualifier)
        there = self._index.alias(function, qualifier) if number is None else self._index.version(function, number)
        if there is None:
            raise NotFound("alias" if number is None else "version", f"{found.name}:{qualifier}")
        return found

    def _check(self, deferral: Deferral) -> None:
        retries, age_s = deferral.retries_max, deferral.age_s_max
        if retries is not None and not 0 <= retries <= DEFERRED_RETRIES_MAX:
            raise InvalidSetting("retries_max", f"a call is tried 0 to {DEFERRED_RETRIES_MAX} times more, not {retries}")
        if age_s is not None and not DEFERRED_AGE_S_MIN <= age_s <= DEFERRED_AGE_S_MAX:
            raise InvalidSetting(
                "age_s_max", f"a call may wait {DEFERRED_AGE_S_MIN} to {DEFERRED_AGE_S_MAX} seconds, not {age_s}"
            )
        for destination in (deferral.on_success, deferral.on_failure):
            if destination is not None:
                self._check_destination(deferral, destination)

    def _check_destination(self, deferral: Deferral, destination: Destination) -> None:
        found = find(self._index, destination)
        if found is None:
            raise NotFound("destination", f"{destination.name}:{destination.qualifier or ''}")
        if found.id == deferral.function:
            raise InvalidSetting("destination", "a function cannot be its own destination")
        if found.per_tenant:
            raise InvalidSetting("destination", f"{found.name} keeps its tenants apart, and nobody would say whose it is told")


def find(index: Index, destination: Destination) -> Function | None:
    """The function that a destination means now; None when it, its version or its alias is gone."""
    at = destination
    function = index.handle(at.dialect, at.account, at.region, at.name)
    if function is None or at.qualifier is None:
        return function
    number = number_of(at.qualifier)
    there = index.alias(function.id, at.qualifier) if number is None else index.version(function.id, number)
    return function if there else None
