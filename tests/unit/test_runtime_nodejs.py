"""Which Node.js runs what, and what a child that waits for one is told."""

import dataclasses
import json

import pytest

from ondol.runtimes.choice import Choice, Family
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.runtimes.nodejs import NodejsVersions, ahead, starts_alone
from ondol.testing.pool import a_target
from ondol_guest import frames


def an_interpreter(major):
    return Interpreter(path=f"/usr/bin/node{major}", major=major, minor=1, micro=0, prefix="/usr", language="nodejs")


def versions(*majors, substitute="none"):
    return NodejsVersions(Interpreters(map(an_interpreter, majors)), substitute)


def test_a_version_that_is_here_runs_as_asked():
    found = versions(20, 22)
    assert (found.missing("nodejs20.x"), found.substitute_for("nodejs20.x")) == (None, None)
    assert found.describe("nodejs22.x") == "/usr/bin/node22 (22.1.0)"


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("nodejs24.x", "nodejs24.x is not on this machine (found: nodejs20.x, nodejs22.x). Install Node.js 24"),
        ("nodejs16.x", "nodejs16.x is too old"),
        ("nodejs", "is unknown"),
        ("nodejs20", "is unknown"),
    ],
)
def test_what_is_missing_is_told_with_how_to_mend_it(runtime, words):
    assert words in versions(20, 22).missing(runtime)


@pytest.mark.parametrize(
    ("asked", "chosen"), [("nodejs24.x", "nodejs22.x"), ("nodejs21.x", "nodejs22.x"), ("nodejs18.x", "nodejs20.x")]
)
def test_the_nearest_version_stands_in_where_it_may(asked, chosen):
    found = versions(20, 22, substitute="nearest")
    assert (found.missing(asked), found.substitute_for(asked)) == (None, chosen)
    assert f"instead of {asked}" in found.describe(asked)
    assert found.missing("nodejs14.x"), "too old a version has no stand-in"


def test_the_choice_asks_for_node_where_node_is_known():
    choice = Choice(Interpreters([an_interpreter(20)]), others={Family.NODE: versions(20)})
    assert "no Python" in (choice.missing("nodejs20.x") or "")


@pytest.mark.parametrize(
    "name", ["NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "LD_PRELOAD", "AWS_LAMBDA_EXEC_WRAPPER", "LD_LIBRARY_PATH"]
)
def test_what_node_reads_at_its_start_needs_one_of_its_own(name):
    assert starts_alone({"MINE": "x", name: "x"})
    assert not starts_alone({"MINE": "x", "NODE_PATH": "/opt", "TZ": ":UTC", "LANG": "en_US.UTF-8"})


def configured(**changes):
    return dataclasses.replace(a_target("f").revision.configuration, **{"runtime": "nodejs20.x", "variables": {}, **changes})


def test_a_child_that_waits_is_told_to_become_node_with_a_heap_by_the_memory():
    ((kind, _, _, payload),) = frames.FrameReader().feed(ahead(versions(20), configured(memory_mib=256)))
    told = json.loads(payload)["exec"]
    assert (kind, told["wire"], told["argv"][0]) == (frames.INIT, True, "/usr/bin/node20")
    assert {"--max-semi-space-size=12", "--max-old-space-size=231"} <= set(told["argv"])


def test_nothing_is_told_ahead_for_others():
    assert ahead(versions(20), configured(runtime="python3.11")) == b""
    assert ahead(versions(20), configured(runtime="nodejs22.x")) == b""
    assert ahead(versions(20), configured(variables={"NODE_OPTIONS": "--inspect"})) == b""
