"""What functions may reach: the operator's word, the machine's means, the function's wish."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ondol.model.errors import StartFailed, Unavailable
from ondol.node.networking import given, networking, shortcoming
from ondol.testing.pool import a_target

THERE = SimpleNamespace(ok=True, detail="by the kernel", mend="")
MISSING = SimpleNamespace(ok=False, detail="no pasta", mend="apt install passt")


@pytest.mark.parametrize(
    ("asked", "way_out", "expected"),
    [
        ("auto", THERE, ["egress", "none"]),
        ("auto", MISSING, ["none"]),
        ("none", THERE, ["none"]),
        ("none", MISSING, ["none"]),
        ("egress", THERE, ["egress", "none"]),
        ("host", THERE, ["egress", "none", "host"]),
        ("host", MISSING, ["none", "host"]),
    ],
)
def test_a_node_gives_what_it_was_told_and_the_machine_can(asked, way_out, expected):
    assert given(asked, way_out) == expected


def test_egress_by_name_that_cannot_be_had_is_refused_with_how_to_mend_it():
    with pytest.raises(Unavailable, match="--network egress cannot be had on this machine: no pasta.*apt install passt"):
        given("egress", MISSING)


def test_less_than_usual_is_said_and_what_was_asked_for_is_not():
    assert "apt install passt" in shortcoming("auto", MISSING)
    assert "apt install passt" in shortcoming("host", MISSING)
    assert shortcoming("none", MISSING) == shortcoming("auto", THERE) == ""


def test_a_function_gets_what_it_asks_for_or_else_the_nodes_first():
    of = networking(["egress", "none"])
    assert of(a_target().revision) == "egress"
    assert of(a_target(network="none").revision) == "none"


def test_what_the_node_does_not_give_is_not_started_and_says_what_to_do():
    with pytest.raises(StartFailed, match="'host', which this node does not give.*egress, none.*--network host"):
        networking(["egress", "none"])(a_target(network="host").revision)
