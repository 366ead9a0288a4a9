"""Who may do what."""

from __future__ import annotations

import pytest

from ondol.core.permit import READS, permit
from ondol.model.errors import Denied
from ondol.model.principals import Kind, Principal


def someone(kind, account="1"):
    return Principal(kind=kind, account=account, region="here", name="someone")


def test_an_owner_may_all_in_their_account():
    permit(someone(Kind.OWNER), "function:delete", "1", "f")


def test_the_platform_may_everywhere():
    permit(someone(Kind.NODE), "function:invoke", "2", "f")


@pytest.mark.parametrize("action", sorted(READS))
def test_a_reader_may_look(action):
    permit(someone(Kind.READER), action, "1", "f")
    with pytest.raises(Denied):
        permit(someone(Kind.READER), action, "2", "f")


@pytest.mark.parametrize(
    "action", ["function:invoke", "function:write", "function:delete", "key:list", "key:create", "", "new:read"]
)
def test_a_reader_may_nothing_that_is_not_known_to_be_a_look(action):
    with pytest.raises(Denied):
        permit(someone(Kind.READER), action, "1", "f")


def test_what_is_a_look_by_its_name_lists_or_reads():
    assert {action.partition(":")[2] for action in READS} == {"list", "read"}


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.NODE, Kind.OWNER)])
def test_all_others_may_nothing_even_in_their_own_account(kind):
    with pytest.raises(Denied) as caught:
        permit(someone(kind), "function:invoke", "1", "f")
    assert (caught.value.action, caught.value.resource) == ("function:invoke", "f")


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.NODE])
def test_nobody_but_the_platform_may_anything_in_anothers_account(kind):
    with pytest.raises(Denied):
        permit(someone(kind), "log:read", "2")
