"""From a function and a qualifier to the revision that runs. Pure: the random draw is an input."""

from __future__ import annotations

from typing import Final

from ondol.core.catalog import Index
from ondol.model.errors import NotFound
from ondol.model.functions import Alias, Function, Revision, Target

#: More digits than any version's number has: a longer text names none, and is not made a number of.
DIGITS_MAX: Final = 18


def resolve(index: Index, function: Function, qualifier: str | None, draw: float) -> Target:
    """The target of one call. `draw` is uniform in [0, 1) and chooses between an alias's two versions.

    Raises NotFound for a version or alias that is not there.
    """
    if qualifier is None and function.versions_only:
        revision = _newest(index, function)
    elif qualifier is None:
        revision = index.revision(function.id, function.latest)
    elif qualifier.isascii() and qualifier.isdecimal():
        revision = _of_version(index, function, int(qualifier)) if len(qualifier) <= DIGITS_MAX else None
    elif (alias := index.alias(function.id, qualifier)) is not None:
        revision = _of_alias(index, function, alias, draw)
    else:
        revision = None
    if revision is None and qualifier is None:
        raise NotFound("published version", function.name)
    if revision is None:
        raise NotFound("version" if (qualifier or "").isdecimal() else "alias", f"{function.name}:{qualifier}")
    return Target(function=function, revision=revision, qualifier=qualifier)


def _newest(index: Index, function: Function) -> Revision | None:
    newest = max(index.versions(function.id), key=lambda version: version.number, default=None)
    return index.revision(function.id, newest.revision) if newest else None


def _of_alias(index: Index, function: Function, alias: Alias, draw: float) -> Revision | None:
    number = alias.second if alias.second is not None and draw < alias.second_weight else alias.version
    if number is None:
        return _newest(index, function) if function.versions_only else index.revision(function.id, function.latest)
    return _of_version(index, function, number)


def _of_version(index: Index, function: Function, number: int) -> Revision | None:
    version = index.version(function.id, number)
    return index.revision(function.id, version.revision) if version else None
