"""Pins: how many environments are to be up, called or not, for which qualifier; and what that means for revisions.

`Pins` writes; `wanted` and `shares` read, from the index and nothing else: every front follows the last word, also when an
alias is pointed elsewhere. Pinned environments count against the function's reservation, or else are set aside from what the
account's other functions share, like a reservation.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ondol.clock import Clock
from ondol.core.catalog import Index, key_of, pin_key, put
from ondol.core.commits import Commits, Operations
from ondol.core.resolve import number_of
from ondol.model.errors import AlreadyExists, InvalidSetting, NotFound
from ondol.model.functions import Function, Pin, Revision
from ondol.model.limits import CONCURRENCY_PER_ACCOUNT
from ondol.store import Delete

#: What setting aside must leave to the functions that set nothing aside.
CONCURRENCY_UNRESERVED_MIN: Final = 100


class Pins:
    """The use cases: `put`, `delete`."""

    def __init__(self, index: Index, commits: Commits, clock: Clock, setting_aside: asyncio.Lock) -> None:
        """`setting_aside` is held by whoever sums up what functions have set aside and then adds to it."""
        self._index = index
        self._commits = commits
        self._clock = clock
        self._setting_aside = setting_aside

    async def put(self, function: str, qualifier: str | None, environments: int) -> Pin:
        """Replace whatever was said for this qualifier.

        Raises NotFound (function, version, alias), AlreadyExists when the version is pinned under another name, and
        InvalidSetting: 'tenants' (they would be no tenant's), 'scaled' (`scale` says how many), 'reserved' (more than the
        function reserves), 'unreserved' (more than is left to the account) or 'minimum' (too little would be left).
        """
        made: list[Pin] = []

        def build() -> Operations:
            target = self._target(function, qualifier)
            self._check(target, qualifier, environments)
            made[:] = [Pin(function=function, qualifier=qualifier, environments=environments, updated_s=self._clock.wall_s())]
            # The function's document is written along, so that neither it nor a version or alias can go meanwhile.
            return [
                put(target, self._index.revision_of(key_of(target))),
                put(made[0], self._index.revision_of(key_of(made[0]))),
            ]

        async with self._setting_aside:  # the sum goes over other functions' documents, so one at a time
            number = await self._commits.retrying(build)
        await self._commits.everywhere(number)
        return made[0]

    async def scale(self, function: str, qualifier: str, least: int, most: int | None) -> Pin:
        """Keep `least` up, and never have more than `most`; nothing is set aside for them. Raises NotFound."""
        made = Pin(
            function=function, qualifier=qualifier, environments=least, environments_max=most, aside=False,
            updated_s=self._clock.wall_s(),
        )  # fmt: skip

        def build() -> Operations:
            target = self._target(function, qualifier)
            return [
                put(target, self._index.revision_of(key_of(target))),
                put(made, self._index.revision_of(key_of(made))),
            ]

        await self._commits.everywhere(await self._commits.retrying(build))
        return made

    async def delete(self, function: str, qualifier: str | None) -> bool:
        """As many environments as calls need, again; whether there was something to take back."""
        if self._index.pin(function, qualifier) is None:
            return False
        await self._commits.everywhere(await self._commits.retrying(lambda: [Delete(pin_key(function, qualifier))]))
        return True

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

    def _check(self, function: Function, qualifier: str | None, environments: int) -> None:
        if environments < 1:
            raise InvalidSetting("environments", f"at least one environment can be pinned, not {environments}")
        if function.versions_only:
            raise InvalidSetting("scaled", f"how many environments of {function.name} are up, its scaling configuration says")
        if function.per_tenant:
            raise InvalidSetting(
                "tenants", f"{function.name} keeps its tenants apart: an environment that is up before a call is nobody's"
            )
        meant = versions_of(self._index, function.id, qualifier)
        for pin in self._index.pins(function.id):
            if pin.qualifier != qualifier and meant & versions_of(self._index, function.id, pin.qualifier):
                raise AlreadyExists(f"the version is pinned already, as {pin.qualifier or 'the latest'}")
        others = sum(pin.environments for pin in self._index.pins(function.id) if pin.qualifier != qualifier)
        reserved = function.concurrency_reserved
        if reserved is not None:
            if others + environments > reserved:
                raise InvalidSetting(
                    "reserved", f"{others + environments} pinned are more than the {reserved} that are reserved"
                )
            return
        free = unreserved(self._index, function.account, function.region, but=function.id) - others
        if environments > free:
            raise InvalidSetting("unreserved", f"{environments} are more than the {free} that are not reserved")
        if free - environments < CONCURRENCY_UNRESERVED_MIN:
            raise InvalidSetting(
                "minimum", f"{environments} would leave {free - environments}; at least {CONCURRENCY_UNRESERVED_MIN} must stay"
            )


def versions_of(index: Index, function: str, qualifier: str | None) -> set[int | None]:
    """The versions that a qualifier means now; None stands for the latest revision."""
    if qualifier is None:
        return {None}
    if (number := number_of(qualifier)) is not None:
        return {number}
    alias = index.alias(function, qualifier)
    if alias is None:
        return set()
    return {alias.version} if alias.second is None else {alias.version, alias.second}


def pinned(index: Index, function: str) -> int:
    """How many environments of a function are to be up."""
    return sum(pin.environments for pin in index.pins(function) if pin.aside)


def set_aside(index: Index, function: Function) -> int:
    """How much of the account's concurrency is this function's alone."""
    reserved = function.concurrency_reserved
    return pinned(index, function.id) if reserved is None else reserved


def unreserved(index: Index, account: str, region: str, but: str = "") -> int:
    """Concurrency of the account that no function (but the one named) has set aside."""
    functions = (f for f in index.functions() if (f.account, f.region) == (account, region) and f.id != but)
    return CONCURRENCY_PER_ACCOUNT - sum(set_aside(index, f) for f in functions)


def shares(index: Index, pin: Pin) -> list[tuple[Revision, int]]:
    """The revisions that a pin means now, and how many environments of each: an alias's two versions share by its weights."""
    function = index.function(pin.function)
    if function is None:
        return []
    alias = index.alias(pin.function, pin.qualifier) if pin.qualifier else None
    if alias is not None and alias.second is not None:
        second = round(pin.environments * alias.second_weight)
        counts: list[tuple[int | None, int]] = [(alias.version, pin.environments - second), (alias.second, second)]
    else:
        counts = [(number, pin.environments) for number in versions_of(index, pin.function, pin.qualifier)]
    found = []
    for number, count in counts:
        version = index.version(pin.function, number) if number is not None else None
        revision = index.revision(pin.function, version.revision if version else function.latest)
        if revision is not None and count and (number is None) == (version is None):
            found.append((revision, count))
    return found


def wanted(index: Index) -> dict[str, tuple[Revision, int]]:
    """By revision: how many environments are to be up now."""
    found: dict[str, tuple[Revision, int]] = {}
    for pin in index.pins():
        for revision, count in shares(index, pin):
            found[revision.id] = (revision, found.get(revision.id, (revision, 0))[1] + count)
    return found


def bounds(index: Index) -> dict[str, tuple[Revision, int]]:
    """By revision: how many environments there may be of those that are bounded."""
    found: dict[str, tuple[Revision, int]] = {}
    for pin in index.pins():
        number = number_of(pin.qualifier or "") if pin.environments_max is not None else None
        version = index.version(pin.function, number) if number is not None else None
        revision = index.revision(pin.function, version.revision) if version else None
        if revision is not None and pin.environments_max is not None:
            found[revision.id] = (revision, pin.environments_max)
    return found
