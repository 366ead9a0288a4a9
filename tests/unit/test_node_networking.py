"""What functions may reach: the operator's word, the machine's means, the level of isolation, the function's wish."""

from __future__ import annotations

import pytest

from ondol.keeper.probe import WAY_OUT
from ondol.model.errors import StartFailed, Unavailable
from ondol.node.networking import decide, networking
from ondol.testing.pool import a_target

THERE = [{"what": WAY_OUT, "ok": True, "detail": "by the kernel", "mend": ""}]
MISSING = [{"what": WAY_OUT, "ok": False, "detail": "no pasta", "mend": "apt install passt"}]


@pytest.mark.parametrize(
    ("asked", "level", "findings", "expected"),
    [
        ("auto", "sandbox", THERE, ["egress", "none"]),
        ("auto", "sandbox", MISSING, ["none"]),
        ("none", "sandbox", THERE, ["none"]),
        ("none", "sandbox", MISSING, ["none"]),
        ("egress", "sandbox", THERE, ["egress", "none"]),
        ("host", "sandbox", THERE, ["egress", "none", "host"]),
        ("host", "sandbox", MISSING, ["none", "host"]),
        ("auto", "gvisor", THERE, ["egress", "none"]),
        ("auto", "crun", MISSING, ["none"]),
        ("host", "bwrap", MISSING, ["none", "host"]),
        ("auto", "process", [], ["host"]),
        ("host", "process", [], ["host"]),
    ],
)
def test_a_node_gives_what_it_was_told_and_the_machine_can(asked, level, findings, expected):
    assert decide(asked, level, findings, lambda _: None) == expected


@pytest.mark.parametrize(
    ("asked", "level", "said"),
    [
        ("egress", "sandbox", "--network egress cannot be had: no pasta.*apt install passt"),
        ("egress", "gvisor", "--network egress cannot be had: no pasta.*apt install passt"),
        ("egress", "process", "plain processes share the machine's"),
        ("none", "process", "--network none cannot be had with --isolation process"),
    ],
)
def test_what_is_asked_for_by_name_and_cannot_be_had_is_refused_with_how_to_mend_it(asked, level, said):
    with pytest.raises(Unavailable, match=said):
        decide(asked, level, MISSING, lambda _: None)


@pytest.mark.parametrize(
    ("asked", "findings", "sentences"), [("auto", MISSING, 1), ("host", MISSING, 1), ("none", MISSING, 0), ("auto", THERE, 0)]
)
def test_less_than_usual_is_said_once_and_what_was_asked_for_is_not(asked, findings, sentences):
    said = []
    decide(asked, "sandbox", findings, said.append)
    assert len(said) == sentences
    assert all("apt install passt" in sentence for sentence in said)


def test_a_function_gets_what_it_asks_for_or_else_the_nodes_first():
    of = networking(["egress", "none"])
    assert of(a_target().revision) == "egress"
    assert of(a_target(network="none").revision) == "none"


def test_what_the_node_does_not_give_is_not_started_and_says_what_to_do():
    with pytest.raises(StartFailed, match="'host', which this node does not give.*egress, none.*--network host"):
        networking(["egress", "none"])(a_target(network="host").revision)
