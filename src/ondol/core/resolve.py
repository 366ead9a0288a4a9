"""From a function and a qualifier to the revision that runs. Pure: the random draw is an input."""

from __future__ import annotations

from typing import Final

from ondol.core.catalog import Index
from ondol.model.errors import NotFound
from ondol.model.functions import UNNUMBERED, Alias, Function, Revision, Target

#: More digits than any version's number has: a longer text names none, and is not made a number of.
DIGITS_MAX: Final = 18


def number_of(qualifier: str) -> int | None:
    """The number of the version that a qualifier names; None for an alias's name.

    What begins with "$", as no alias's name does, is what a dialect calls the version without a number.
    """
    if qualifier.isascii() and qualifier.isdecimal():
        return int(qualifier) if len(qualifier) <= DIGITS_MAX else 0  # which is no version's
    return UNNUMBERED if qualifier.startswith("$") else None


def resolve(index: Index, function: Function, qualifier: str | None, draw: float) -> Target:
    """The target of one call. `draw` is uniform in [0, 1) and chooses between an alias's two versions.

    Raises NotFound for a version or alias that is not there.
    """
    if qualifier is None:
        revision = _latest(index, function)
    elif (number := number_of(qualifier)) is not None:
        revision = _of_version(index, function, number)
    elif (alias := index.alias(function.id, qualifier)) is not None:
        revision = _of_alias(index, function, alias, draw)
    else:
        revision = None
    if revision is None and qualifier is None:
        raise NotFound("published version", function.name)
    if revision is None:
        raise NotFound("alias" if number_of(qualifier or "") is None else "version", f"{function.name}:{qualifier}")
    return Target(function=function, revision=revision, qualifier=qualifier)


def _latest(index: Index, function: Function) -> Revision | None:
    """What runs where no version is named."""
    if function.versions_only:
        return _of_version(index, function, UNNUMBERED)
    return index.revision(function.id, function.latest)


def _of_alias(index: Index, function: Function, alias: Alias, draw: float) -> Revision | None:
    number = alias.second if alias.second is not None and draw < alias.second_weight else alias.version
    return _latest(index, function) if number is None else _of_version(index, function, number)


def _of_version(index: Index, function: Function, number: int) -> Revision | None:
    version = index.version(function.id, number)
    return index.revision(function.id, version.revision) if version else None
