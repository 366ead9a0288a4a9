"""Each fuzz target for a moment, on the same inputs every time; `make fuzz` gives them minutes, and `make soak` does."""

from __future__ import annotations

import importlib
import json
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import TARGETS
from fuzzing.drawing import mutations

INPUTS = 400


def test_the_keepers_target_gets_as_far_as_showing_code():
    keeper = importlib.import_module("fuzzing.keeper")
    (attach,) = [seed for seed in keeper.SEEDS if b'"attach"' in seed]
    keeper.one(attach)
    assert keeper.FIXTURE.shown == [str(keeper.FIXTURE.top / "code" / "x" / "tree")]


def test_a_front_cannot_have_all_code_shown_in_one_shell():
    keeper = importlib.import_module("fuzzing.keeper")
    for tree in ("CODE", "CODE/", "CODE/x/..", "CODE/link", "CODE/../shells"):
        keeper.one(
            json.dumps({"n": 1, "op": "attach", "shell": "s1", "tree": tree, "memory_bytes": 1 << 27, "tmp_mib": 512}).encode()
        )
        assert keeper.FIXTURE.shown == [], tree


@pytest.fixture(params=TARGETS)
def target(request):
    return importlib.import_module(f"fuzzing.{request.param}")


def test_the_seeds_are_read(target):
    for seed in target.SEEDS:
        target.one(seed)


def test_nothing_is_found_in_a_moment(target):
    for data in mutations(target.SEEDS, target.TOKENS, random.Random(target.__name__), INPUTS):
        target.one(data)


def test_the_empty_input_and_single_bytes(target):
    for data in [b"", *(bytes([byte]) for byte in range(256))]:
        target.one(data)
