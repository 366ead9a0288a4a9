"""From a function and a qualifier to the revision that runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ondol.core.catalog import Index, put
from ondol.core.resolve import resolve
from ondol.model.errors import NotFound
from ondol.model.functions import UNNUMBERED, Alias, Version
from ondol.store import Change
from ondol.testing.pool import a_target

TARGET = a_target()
FUNCTION, LATEST = TARGET.function, TARGET.revision
ONE, TWO = replace(LATEST, id="r1", version=1), replace(LATEST, id="r2", version=2)


def version(number, revision):
    return Version(function=FUNCTION.id, number=number, revision=revision, description="", created_s=0.0)


def index_of(*nouns):
    index = Index()
    all_of_them = (FUNCTION, LATEST, ONE, TWO, version(1, "r1"), version(2, "r2"), *nouns)
    for number, noun in enumerate(all_of_them, 1):
        operation = put(noun)
        index.apply(Change(number, operation.key, operation.value))
    return index


def alias(number, second=None, weight=0.0):
    return Alias(function=FUNCTION.id, name="live", version=number, second=second, second_weight=weight)


def revision(qualifier, draw=0.5, *nouns):
    return resolve(index_of(*nouns), FUNCTION, qualifier, draw).revision.id


def test_without_a_qualifier_the_latest_runs():
    target = resolve(index_of(), FUNCTION, None, 0.5)
    assert (target.revision, target.function, target.qualifier) == (LATEST, FUNCTION, None)


def test_a_number_names_a_version():
    assert (revision("1"), revision("2")) == ("r1", "r2")


def test_where_only_versions_run_no_qualifier_means_the_one_without_a_number():
    function, published = replace(FUNCTION, versions_only=True), replace(LATEST, id="p", version=UNNUMBERED)
    index = index_of(published, version(UNNUMBERED, "p"), alias(None), function)
    assert [resolve(index, function, qualifier, 0.5).revision.id for qualifier in (None, "live", "$any")] == ["p"] * 3
    assert resolve(index, function, "2", 0.5).revision.id == "r2"
    with pytest.raises(NotFound) as caught:
        resolve(index_of(function), function, None, 0.5)
    assert caught.value.kind == "published version"


def test_an_alias_names_a_version_or_the_latest():
    assert revision("live", 0.5, alias(2)) == "r2"
    assert revision("live", 0.5, alias(None)) == LATEST.id


@pytest.mark.parametrize(
    ("weight", "draw", "runs"),
    [(0.0, 0.0, "r1"), (1.0, 0.999999, "r2"), (0.25, 0.2499, "r2"), (0.25, 0.25, "r1"), (0.25, 0.999, "r1")],
)
def test_an_aliass_second_version_gets_its_share(weight, draw, runs):
    assert revision("live", draw, alias(1, 2, weight)) == runs


@pytest.mark.parametrize(
    ("qualifier", "kind"),
    [
        ("3", "version"),
        ("0", "version"),
        ("dead", "alias"),
        ("9" * 10_000, "version"),
        ("٣", "alias"),
        ("$any", "version"),
        ("²", "alias"),
        ("", "alias"),
    ],
)
def test_what_is_not_there_is_said_so(qualifier, kind):
    with pytest.raises(NotFound) as caught:
        revision(qualifier)
    assert caught.value.kind == kind


def test_an_alias_whose_version_is_gone_is_not_found():
    with pytest.raises(NotFound):
        revision("live", 0.5, alias(7))
