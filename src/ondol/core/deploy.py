"""Deploying: create, update, publish, tag, reserve and delete, for every dialect alike.

One rule keeps changes of a function apart without locks: *whatever changes below a function writes the function's document
too, guarded by the number it was read at*. Of two changes that started from the same state one wins; the other is told Busy,
or is built again where it does not depend on what overtook it (tags, aliases, deleting).

Code is taken (`take`) before anything is written; a blob that nothing names goes with the next `collect_code`.
This module knows no dialect's names, texts or states; the dialect's view of a function travels in `annotations`.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ondol.blobs import Blobs
from ondol.clock import Clock
from ondol.core import removal, versions
from ondol.core.aliases import Aliases
from ondol.core.catalog import Index, key_of, put, revision_key
from ondol.core.commits import FRONTS_S_MAX, Commits, Operations
from ondol.core.deferrals import Deferrals
from ondol.core.items import Items
from ondol.core.pins import CONCURRENCY_UNRESERVED_MIN, Pins, pinned, unreserved
from ondol.core.settling import Settling
from ondol.core.wishes import by_tags
from ondol.model.errors import AlreadyExists, Busy, InvalidSetting, NotFound, RevisionMismatch, Unavailable
from ondol.model.functions import Code, Configuration, Function, Handle, Revision, Stage, Version
from ondol.model.isolation import USUAL, Isolation
from ondol.store import Delete, Put, Store

#: A revision that was replaced or deleted may still run for as long as a call lasts; its code stays for this long.
RETIRED_S: Final = 3600.0
TAGS_MAX: Final = 50
#: What functions may ask to reach.
NETWORKS: Final = ("none", "egress", "host")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFunction:
    """What is to be created. `handle` is the name its dialect knows it by; `name` is what handlers see."""

    dialect: str
    handle: str
    account: str
    region: str
    name: str
    code: Code
    configuration: Configuration
    tags: Mapping[str, str]
    publish: bool = False
    unnumbered: bool = False
    description: str | None = None
    per_tenant: bool = False
    versions_only: bool = False
    annotations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What there is now; `version` is set when the change published one, and `revision` is then that version's."""

    function: Function
    revision: Revision
    version: Version | None = None

    @property
    def etag(self) -> str:
        """Changes with each step of what is shown here."""
        stage = self.version.stage if self.version else self.function.stage
        return etag(self.revision.id, stage)


def etag(revision: str, stage: Stage) -> str:
    """An opaque token, shaped like a UUID, that changes with each revision and each step of its way into force."""
    digest = hashlib.sha256(f"{revision}/{stage.value}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


class Deployments:
    """The use cases. One per process that writes the catalog."""

    def __init__(
        self,
        *,
        store: Store,
        blobs: Blobs,
        index: Index,
        clock: Clock,
        ids: Callable[[], str],
        fronts_have: Callable[[int], Awaitable[None]],
        networks: Sequence[str] = NETWORKS,
        isolation: Isolation = USUAL,
    ) -> None:
        self.index = index
        self._networks = networks
        self._isolation = isolation
        self._blobs = blobs
        self._clock = clock
        self._ids = ids
        self._commits = Commits(store, index, fronts_have)
        self.settling = Settling(index, self._commits)
        self.aliases = Aliases(index, self._commits)
        self.deferrals = Deferrals(index, self._commits, clock)
        self.items = Items(index, self._commits)
        self._reserving = asyncio.Lock()
        self.pins = Pins(index, self._commits, clock, self._reserving)
        #: Code that nothing names any more, or not yet, and when that began (monotonic).
        self._retired: dict[str, float] = {}

    async def close(self) -> None:
        await self.settling.close()
        self._commits.close()

    def settle_interrupted(self) -> int:
        """At start: finish what a crash left half-way; how many functions."""
        return self.settling.settle_interrupted()

    async def in_force(self, function: str) -> None:
        """Return when calls that arrive at any front run what the catalog says. Raises Unavailable after `FRONTS_S_MAX`."""
        try:
            async with asyncio.timeout(FRONTS_S_MAX):
                await self.settling.settled(function)
        except TimeoutError:
            raise Unavailable(
                f"the change is saved, but not in force after {FRONTS_S_MAX:.0f} s; it will be when all fronts are back"
            ) from None

    def wall_s(self) -> float:
        """The time that is written down: seconds since the epoch."""
        return self._clock.wall_s()

    # Looking -------------------------------------------------------------------------------------------------------
    def latest(self, function: Function) -> Deployed:
        """What an unqualified call runs."""
        revision = self.index.revision(function.id, function.latest)
        if revision is None:
            raise NotFound("function", function.name)
        return Deployed(function=function, revision=revision)

    def version(self, function: Function, number: int) -> Deployed:
        """One published version, or the one without a number."""
        version = self.index.version(function.id, number)
        revision = self.index.revision(function.id, version.revision) if version else None
        if version is None or revision is None:
            raise NotFound("version", f"{function.name}:{number}")
        return Deployed(function=function, revision=revision, version=version)

    # Creating and updating -----------------------------------------------------------------------------------------
    async def take(self, archive: Path) -> Code:
        """Check, unpack and keep an archive. What is not deployed within `RETIRED_S` goes again."""
        code = await self._blobs.take(archive)
        self._retired[code.sha256] = self._clock.now_s()
        return code

    async def merge(self, codes: Sequence[Code]) -> Code | None:
        """What is shown beside a function's code, made of several archives; None for none. Kept as `take` keeps."""
        if not codes:
            return None
        code = codes[0] if len(codes) == 1 else await self._blobs.merge(codes)
        self._retired[code.sha256] = self._clock.now_s()
        return code

    async def create(self, new: NewFunction) -> Deployed:
        """A function with its handle, first revision and, on request, first version, in one commit. Raises AlreadyExists.

        One name is one function, whichever dialect gave it: people see them in one list.
        """
        if self.index.named(new.account, new.region, new.handle):
            raise AlreadyExists(f"function already exists: {new.handle}")
        configuration = by_tags(new.configuration, new.tags)
        self._check_asked(configuration)
        now_s, function_id, revision_id = self._clock.wall_s(), self._ids(), self._ids()
        revision = Revision(
            id=revision_id, account=new.account, region=new.region, function=function_id, name=new.name,
            code=new.code, configuration=configuration, created_s=now_s,
        )  # fmt: skip
        function = Function(
            id=function_id, account=new.account, region=new.region, name=new.name, latest=revision_id, created_s=now_s,
            stage=Stage.CREATING, tags=dict(new.tags), per_tenant=new.per_tenant, annotations=dict(new.annotations),
            versions_only=new.versions_only,
        )  # fmt: skip
        _check_tags(function.tags)
        deployed, operations = self._published(
            Deployed(function=function, revision=revision), new.publish, new.unnumbered, new.description
        )
        handle = Handle(dialect=new.dialect, account=new.account, region=new.region, name=new.handle, function=function.id)
        # The handle comes last: who finds it finds everything else.
        writes = [put(revision, 0), *operations, put(deployed.function, 0), put(handle, 0)]
        try:
            await self._commits.commit(writes)
        except RevisionMismatch:
            raise AlreadyExists(f"function already exists: {new.handle}") from None
        self.settling.start(function.id)
        return deployed

    async def update(
        self,
        base: Function,
        *,
        code: Code | None = None,
        configuration: Configuration | None = None,
        if_etag: str | None = None,
        publish: bool = False,
        unnumbered: bool = False,
        dry_run: bool = False,
    ) -> Deployed:
        """A new latest revision of `base`, a function as its caller read it; what is None stays as it is.

        Raises Busy when another change is under way or came first, RevisionMismatch when `if_etag` is stale.
        """
        current, number = self._free(base, if_etag)
        if configuration is not None:
            self._check_asked(configuration)
        old = self.latest(current).revision
        revision = replace(
            old,
            id=self._ids(),
            code=code or old.code,
            configuration=configuration or old.configuration,
            created_s=self._clock.wall_s(),
        )
        function = replace(current, latest=revision.id, stage=Stage.UPDATING)
        deployed, operations = self._published(Deployed(function=function, revision=revision), publish, unnumbered, None)
        if dry_run:
            return deployed
        writes = [
            put(revision, 0), *operations, put(deployed.function, number), Delete(revision_key(base.id, old.id)),
        ]  # fmt: skip
        await self._write(base, writes)
        self._retire(*old.codes)
        self.settling.start(base.id)
        return deployed

    async def publish(
        self, base: Function, *, unnumbered: bool = False, description: str | None = None, if_etag: str | None = None
    ) -> Deployed:
        """Give the latest revision a number; in force everywhere on return. The same thing again is the same version.

        `unnumbered`: it becomes what the version without a number runs, once that version's stage says so.
        """
        current, number = self._free(base, if_etag)
        latest = self.latest(current).revision
        publish, stage = (versions.republish, Stage.CREATING) if unnumbered else (versions.publish, Stage.READY)
        found = publish(
            self.index, base, latest, revision_id=self._ids(), now_s=self._clock.wall_s(), description=description, stage=stage
        )
        if found.operations:
            await self._write(base, [*found.operations, put(found.function, number)])
            self._retire(*found.replaced)
        if unnumbered:
            self.settling.start(base.id)
        else:
            await self._commits.everywhere(self.index.number)
        return Deployed(function=found.function, revision=found.revision, version=found.version)

    def check(self, base: Function, if_etag: str | None = None) -> None:
        """Raise what `update` or `publish` would raise now, before the work of preparing them."""
        self._free(base, if_etag)

    # Facts beside the revision -------------------------------------------------------------------------------------
    async def retag(self, function: str, *, add: Mapping[str, str] | None = None, remove: frozenset[str] = frozenset()) -> None:
        """Set and remove tags. Where one of them asks something of the node, the function gets a new latest revision."""
        base = self._there(function)
        configuration = self.latest(base).revision.configuration
        wished = by_tags(configuration, add or {}, remove)
        if wished != configuration:
            await self.update(base, configuration=wished)

        def build() -> Operations:
            current = self._there(function)
            tags = {key: value for key, value in {**current.tags, **(add or {})}.items() if key not in remove}
            _check_tags(tags)
            return [self._put(current, tags=tags)] if tags != current.tags else []

        await self._commits.retrying(build)

    async def annotate(
        self, function: str, dialect: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """Replace what a dialect keeps about a function by what `change` makes of it; in force at every front on return.

        Raises NotFound, and what `change` raises.
        """
        made: list[Mapping[str, Any]] = []

        def build() -> Operations:
            current = self._there(function)
            before = current.annotations.get(dialect, {})
            made[:] = [change(before)]
            if made[0] == before:
                return []
            return [self._put(current, annotations={**current.annotations, dialect: dict(made[0])})]

        await self._commits.everywhere(await self._commits.retrying(build))
        return made[0]

    async def reserve(self, function: str, executions: int | None) -> None:
        """Set aside (None: give back) concurrency of the account for one function. Raises InvalidSetting."""
        async with self._reserving:  # the sum goes over other functions' documents, so one at a time
            target = self._there(function)
            free = self.unreserved(target.account, target.region, but=function)
            if executions is not None and free - executions < CONCURRENCY_UNRESERVED_MIN:
                raise InvalidSetting(
                    "concurrency_reserved",
                    f"{executions} reserved would leave {max(free - executions, 0)} to the account's other functions; "
                    f"at least {CONCURRENCY_UNRESERVED_MIN} must stay",
                )
            kept = pinned(self.index, function)
            if executions is not None and executions < kept:
                raise InvalidSetting("pins", f"{executions} reserved are fewer than the {kept} environments that are pinned")
            number = await self._commits.retrying(lambda: [self._put(self._there(function), concurrency_reserved=executions)])
        await self._commits.everywhere(number)

    def unreserved(self, account: str, region: str, but: str = "") -> int:
        """Concurrency of the account that no function (but the one named) has set aside."""
        return unreserved(self.index, account, region, but)

    # Removing ------------------------------------------------------------------------------------------------------
    async def delete(self, function: str) -> None:
        """The function with its handles, aliases, versions and revisions. Raises NotFound."""
        codes = [code for revision in self.index.revisions(function) for code in revision.codes]
        number = await self._commits.retrying(lambda: removal.of_function(self.index, self._there(function)))
        self._retire(*codes)
        await self._commits.everywhere(number)

    async def delete_version(self, function: str, number: int) -> None:
        """One version; none of that number is no error. Raises InUse while an alias names it."""
        found = self.index.version(function, number)
        revision = self.index.revision(function, found.revision) if found else None
        await self._commits.retrying(lambda: removal.of_version(self.index, self._there(function), number))
        if revision:
            self._retire(*revision.codes)

    async def collect_code(self) -> int:
        """Remove blobs that nothing names and nothing has used for `RETIRED_S`; how many went. Call it now and then."""
        now_s = self._clock.now_s()
        self._retired = {sha256: at_s for sha256, at_s in self._retired.items() if now_s - at_s < RETIRED_S}
        named = {code for revision in self.index.revisions() for code in revision.codes}
        return await self._blobs.keep_only(frozenset(named | self.index.item_codes() | self._retired.keys()))

    def _check_asked(self, configuration: Configuration) -> None:
        """Raise InvalidSetting for what this node does not give."""
        self._isolation.check(configuration.isolation)
        if configuration.network not in ("", *self._networks):
            raise InvalidSetting(
                "network",
                f"the network {configuration.network!r} is not given by this node, which gives {', '.join(self._networks)}; "
                "its operator decides with --network",
            )

    # Within --------------------------------------------------------------------------------------------------------
    def _published(
        self, latest: Deployed, publish: bool, unnumbered: bool, description: str | None
    ) -> tuple[Deployed, Operations]:
        """`latest` with its version, if one is asked for, which comes into force along with it."""
        if not publish:
            return latest, ()
        made = versions.republish if unnumbered else versions.publish
        found = made(
            self.index, latest.function, latest.revision, revision_id=self._ids(), now_s=self._clock.wall_s(),
            description=description, stage=Stage.CREATING,
        )  # fmt: skip
        self._retire(*found.replaced)
        return Deployed(function=found.function, revision=found.revision, version=found.version), found.operations

    def _free(self, base: Function, if_etag: str | None) -> tuple[Function, int]:
        """`base` as it is now, and the number at which it may be written. Raises NotFound, RevisionMismatch, Busy."""
        current = self._there(base.id)
        if if_etag is not None and if_etag != etag(current.latest, current.stage):
            raise RevisionMismatch(f"{base.name} has changed since it was read; read it again")
        if current.stage is not Stage.READY or current.latest != base.latest:
            raise Busy(f"a change of {base.name} is under way; try again when it is done")
        return current, self.index.revision_of(key_of(current))

    async def _write(self, base: Function, operations: Operations) -> None:
        try:
            await self._commits.commit(operations)
        except RevisionMismatch:
            raise Busy(f"another change of {base.name} came first; try again when it is done") from None

    def _put(self, function: Function, **changes: Any) -> Put:
        return put(replace(function, **changes), self.index.revision_of(key_of(function)))

    def _there(self, function: str) -> Function:
        found = self.index.function(function)
        if found is None:
            raise NotFound("function", function)
        return found

    def _retire(self, *sha256s: str) -> None:
        self._retired.update(dict.fromkeys(sha256s, self._clock.now_s()))


def _check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > TAGS_MAX:
        raise InvalidSetting("tags", f"a function has at most {TAGS_MAX} tags, not {len(tags)}")
