"""What the documentation says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ondol import config
from ondol.cli.main import ondol
from ondol.cli.reference import pages

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", pages())
def test_the_reference_is_what_the_code_generates(name):
    written = (ROOT / "docs" / "reference" / name).read_text()
    assert written == pages()[name], f"docs/reference/{name} is old: run 'make docs'"


def test_every_setting_is_documented():
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    for spec in config.SPECS:
        for name in (f"`{spec.name}`", f"`{spec.env}`", spec.flag):
            assert name in page, f"{name} is missing"


def test_every_command_is_documented_with_examples():
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    for name, command in ondol.commands.items():
        assert f"## ondol {name}\n" in page
        assert any(example.startswith("ondol ") or "ondol " in example for example in command.examples)


def test_examples_in_the_help_use_options_that_exist():
    for command in ondol.commands.values():
        known = {opt for parameter in command.params for opt in parameter.opts}
        for example in command.examples:
            used = re.findall(r"(?<=\s)--[a-z-]+", re.split(r"[#']", example)[0])
            assert set(used) <= known, f"{example}: {set(used) - known}"


def test_every_make_target_is_explained():
    makefile = (ROOT / "Makefile").read_text()
    promised = {"run", "test", "check", "bench", "bench-check", "soak", "clean", "help"}
    explained = set(re.findall(r"^([a-z-]+):.*## .", makefile, re.MULTILINE))
    assert promised <= explained


@pytest.mark.parametrize("example", sorted(p.name for p in (ROOT / "examples").iterdir() if p.is_dir()))
def test_every_example_has_a_readme_of_three_lines(example):
    assert len((ROOT / "examples" / example / "README.md").read_text().splitlines()) == 3
