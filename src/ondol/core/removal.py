"""Removing: which documents go with a function or a version. Pure planning; `Deployments` commits."""

from __future__ import annotations

from ondol.core.catalog import Index, alias_key, delete, key_of, put, version_key
from ondol.core.commits import Operations
from ondol.core.resolve import number_of
from ondol.core.versions import keys, named_by
from ondol.model.errors import InUse
from ondol.model.functions import Function, version_name
from ondol.store import Delete


def of_function(index: Index, function: Function) -> Operations:
    """Everything of a function: names first, so that nobody finds half of it."""
    return [
        *(delete(handle) for handle in index.handles(function.id)),
        Delete(key_of(function), if_revision=index.revision_of(key_of(function))),
        *(Delete(alias_key(function.id, alias.name)) for alias in index.aliases(function.id)),
        *(delete(pin) for pin in index.pins(function.id)),
        *(delete(deferral) for deferral in index.deferrals(function.id)),
        *(Delete(version_key(function.id, version.number)) for version in index.versions(function.id)),
        *(delete(revision) for revision in index.revisions(function.id)),
    ]


def of_version(index: Index, function: Function, number: int) -> Operations:
    """One version and its revision; nothing when there is none. Raises InUse."""
    if aliases := named_by(index, function.id, number):
        named = f"the alias {aliases[0]}; point it" if len(aliases) == 1 else f"the aliases {', '.join(aliases)}; point them"
        raise InUse(f"version {version_name(number)} is named by {named} elsewhere first", by=tuple(aliases))
    version = index.version(function.id, number)
    if version is None:
        return []
    guard = put(function, index.revision_of(key_of(function)))
    return [
        guard,
        *(delete(each) for each in index.deferrals(function.id) if each.qualifier and number_of(each.qualifier) == number),
        *(delete(each) for each in index.pins(function.id) if each.qualifier and number_of(each.qualifier) == number),
        *(Delete(key) for key in keys(version)),
    ]
