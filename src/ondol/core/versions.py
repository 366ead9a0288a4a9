"""Versions: revisions given a number. Pure planning; `Deployments` commits what is planned here.

Publishing copies the latest revision under an id of its own, so that a revision has one number or none and the pool never
mixes the two. Publishing what was published last gives that version again. The version without a number is published in its
own place: it gets the copy, and what it was before goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ondol.core.catalog import Index, key_of, put, revision_key, version_key
from ondol.core.commits import Operations
from ondol.model.functions import UNNUMBERED, Function, Revision, Stage, Version
from ondol.store import Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication comes to. `operations` is empty when that version is there already."""

    #: The function as it will be: its next number moved on.
    function: Function
    version: Version
    revision: Revision
    operations: Operations = ()
    #: The code that the version without a number ran until now.
    replaced: tuple[str, ...] = ()


def publish(
    index: Index,
    function: Function,
    latest: Revision,
    *,
    revision_id: str,
    now_s: float,
    description: str | None,
    stage: Stage = Stage.READY,
) -> Published:
    """Give `latest` the function's next number, unless the version before it is the same thing.

    The caller commits `operations` together with a put of `function`. `description` None: a version describes itself as the
    dialect's configuration does.
    """
    if (last := _last(index, function)) and _same(last[1], latest):
        return Published(function=function, version=last[0], revision=last[1])
    number = function.version_next
    revision = replace(latest, id=revision_id, version=number, created_s=now_s)
    version = Version(
        function=function.id, number=number, revision=revision_id, description=description or "", created_s=now_s, stage=stage
    )
    return Published(
        function=replace(function, version_next=number + 1),
        version=version,
        revision=revision,
        operations=(put(revision, if_revision=0), put(version, if_revision=0)),
    )


def republish(
    index: Index,
    function: Function,
    latest: Revision,
    *,
    revision_id: str,
    now_s: float,
    description: str | None,
    stage: Stage,
) -> Published:
    """Make `latest` what the version without a number runs, unless it is that already. Otherwise as `publish`.

    `stage` is that of a version which is new; one that ran something else is UPDATING.
    """
    before = index.version(function.id, UNNUMBERED)
    old = index.revision(function.id, before.revision) if before else None
    if before and old and _same(old, latest) and before.description == (description or ""):
        return Published(function=function, version=before, revision=old)
    revision = replace(latest, id=revision_id, version=UNNUMBERED, created_s=now_s)
    version = Version(
        function=function.id, number=UNNUMBERED, revision=revision_id, description=description or "", created_s=now_s,
        stage=Stage.UPDATING if before else stage,
    )  # fmt: skip
    return Published(
        function=function,
        version=version,
        revision=revision,
        operations=(
            put(revision, if_revision=0),
            put(version, if_revision=index.revision_of(key_of(version))),
            *((Delete(revision_key(function.id, old.id)),) if old else ()),
        ),
        replaced=old.codes if old else (),
    )


def named_by(index: Index, function: str, number: int) -> list[str]:
    """Aliases that send calls to this version."""
    return [alias.name for alias in index.aliases(function) if number in (alias.version, alias.second)]


def keys(version: Version) -> tuple[str, str]:
    """The version's document and its revision's."""
    return version_key(version.function, version.number), revision_key(version.function, version.revision)


def _last(index: Index, function: Function) -> tuple[Version, Revision] | None:
    version = index.version(function.id, function.version_next - 1)
    revision = index.revision(function.id, version.revision) if version else None
    return (version, revision) if version and revision else None


def _same(published: Revision, latest: Revision) -> bool:
    return published.code.sha256 == latest.code.sha256 and published.configuration == latest.configuration
