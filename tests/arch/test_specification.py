"""SPECIFICATION.md promises nothing that no test holds; it and the table of threats name no test that is not there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SPECIFICATION.md").read_text()
SECURITY = (ROOT / "docs" / "explain" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT + SECURITY)))
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def rows():
    """The cells of each promise."""
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith(("| ---", "| promise |"))
    ]


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda part: part)
def test_every_test_that_is_named_exists(file, test):
    assert re.search(rf"^\s*(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {test}"


def test_every_promise_says_how_far_it_is_kept():
    assert len(rows()) > 30
    for promise, _number, held_by, state in rows():
        assert state.startswith(("held", "tried", "pending", "see bench/RESULTS.md")), promise
        if state.startswith("held"):
            assert "tests/" in held_by, f"{promise}: held by what?"
        if state.startswith("see bench"):
            assert re.match(r"`make (bench|bench-check)`", held_by), promise


def test_every_target_of_make_that_is_named_exists():
    assert set(re.findall(r"`make ([a-z0-9-]+)`", TEXT)) <= TARGETS


def test_every_row_of_the_benchmarks_that_is_named_exists():
    bench = (ROOT / "bench" / "__main__.py").read_text()
    for row in re.findall(r"`make bench`: (\w+)", TEXT):
        assert f'"{row}": ' in bench, row
