"""Each fuzz target for a moment, on the same inputs every time; `make fuzz` gives them minutes, and `make soak` does."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import TARGETS
from fuzzing.drawing import mutations

INPUTS = 400


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
