"""docs/reference/runtimes.md says what calls come to in each language: the same is recorded again here and compared."""

from __future__ import annotations

import pytest

from bench import languages, programs, shapes
from ondol.keeper import probe

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SHOWN = languages.read_table(languages.PAGE.read_text(), languages.HEADS["shapes"])
HERE = {program.name: program for program in programs.programs()}
#: Where no memory limit can be set, nothing is told of one.
LIMITED = all(found.ok for found in probe.probe() if found.what == "control groups")


def test_the_page_has_a_row_for_every_kind_of_program_and_its_timings():
    timed = languages.read_table(languages.PAGE.read_text(), languages.HEADS["timings"])
    assert timed.keys() == SHOWN.keys()
    for kind in ("Python 3", "Node.js", "Go", "Rust", "Java", "a shell's bootstrap"):
        assert any(name.startswith(kind) for name in SHOWN), f"{languages.PAGE} has no row of {kind}"


@pytest.mark.parametrize("name", HERE)
def test_what_the_page_says_of_a_language_is_what_its_functions_do(aws, name):
    program = HERE[name]
    if name not in SHOWN:
        pytest.skip(f"the page was made on a machine without {name}")
    try:
        program.files()
    except programs.Missing as missing:
        pytest.skip(str(missing))
    found = shapes.record(aws, program, f"page{list(HERE).index(name)}")
    columns = [column for column in shapes.SHAPES if LIMITED or column != "out of memory"]
    said = {column: SHOWN[name][column].strip("`") for column in columns}
    assert {column: found[column] for column in columns} == said
