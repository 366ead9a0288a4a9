"""What the documentation says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ondol import config
from ondol.cli.main import ondol
from ondol.cli.reference import pages
from ondol.core.permit import READS
from ondol.dialects.native import functions as native
from ondol.dialects.native.document import FunctionDocument, FunctionWanted
from ondol.dialects.native.operations import PREFIX
from ondol.dialects.native.refusals import STATUS
from ondol.dialects.native.table import TABLE
from ondol.dialects.plain import dialect as plain

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


def options_of(command):
    """Its own, and those of the commands below it."""
    below = getattr(command, "commands", {}).values()
    return {opt for each in (command, *below) for parameter in each.params for opt in parameter.opts}


def test_examples_in_the_help_use_options_that_exist():
    for command in ondol.commands.values():
        known = options_of(command)
        for example in command.examples:
            used = re.findall(r"(?<=\s)--[a-z-]+", re.split(r"[#']", example)[0])
            assert set(used) <= known, f"{example}: {set(used) - known}"


def test_every_make_target_is_explained():
    makefile = (ROOT / "Makefile").read_text()
    promised = {"run", "test", "check", "bench", "bench-check", "soak", "test-v2", "clean", "help"}
    explained = set(re.findall(r"^([a-z0-9-]+):.*## .", makefile, re.MULTILINE))
    assert promised <= explained


@pytest.mark.parametrize("example", sorted(p.name for p in (ROOT / "examples").iterdir() if p.is_dir()))
def test_every_example_has_a_readme_of_three_lines(example):
    assert len((ROOT / "examples" / example / "README.md").read_text().splitlines()) == 3


# Pages -------------------------------------------------------------------------------------------------------------------

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
WRITTEN = [page for page in PAGES if page not in {ROOT / "docs" / "reference" / name for name in pages()}]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page_name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", FENCED.sub("", page.read_text())):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page_name(page)}: {target}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("**/*.md")), ids=page_name)
def test_every_page_is_in_the_index(page):
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", index.read_text())}
    assert page == index or page in listed


@pytest.mark.parametrize("page", WRITTEN, ids=page_name)
def test_prose_fits_a_screen(page):
    lines = FENCED.sub("", page.read_text()).splitlines()
    if page.parent.parent.name != "examples":
        assert [line for line in lines if len(line) > 132 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", WRITTEN, ids=page_name)
def test_commands_on_a_page_exist_with_their_options(page):
    for line in commands_of(page.read_text()):
        words = line.split()
        name = words[1] if len(words) > 1 else ""
        if name.startswith("-"):
            assert name in {"--help", "--version"}, f"{page_name(page)}: {line}"
            continue
        assert name in ondol.commands, f"{page_name(page)}: {line}"
        known = {"--help", *options_of(ondol.commands[name])}
        assert set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", re.split(r"[#'|;&]|\$\(", line)[0])) <= known, (
            f"{page_name(page)}: {line}"
        )


def test_a_made_up_command_or_option_on_a_page_would_be_found():
    assert commands_of("```sh\nondol frobnicate\n```") == ["ondol frobnicate"]
    assert commands_of('```sh\neval "$(bin/ondol env --data X)"\n```') == ["ondol env --data X"]
    assert "ondol x --wrong" in commands_of("say `ondol x --wrong` to it")


@pytest.mark.parametrize("page", WRITTEN, ids=page_name)
def test_targets_of_make_on_a_page_exist(page):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    fenced = "\n".join(body for _, body in FENCED.findall(page.read_text()))
    assert set(re.findall(r"^make ([a-z0-9-]+)", fenced, re.MULTILINE)) <= targets


def test_the_korean_readme_has_the_commands_of_the_english_one():
    def commands(name):
        blocks = [body for language, body in FENCED.findall((ROOT / name).read_text()) if language == "sh"]
        return [line.partition("  #")[0].strip() for body in blocks for line in body.splitlines()]

    assert len(commands("README.md")) > 15
    assert commands("README.ko.md") == commands("README.md")


def test_the_native_apis_page_lists_its_operations_and_no_others():
    page = (ROOT / "docs" / "reference" / "native-api.md").read_text()
    rows = re.findall(r"^\| `([A-Z]+ /\S+)` \| (.*?)\s?\|", page, re.MULTILINE)
    assert [row for row, _ in rows] == [f"{each.method} {PREFIX}{each.path}" for each in TABLE.all]
    for (row, may), operation in zip(rows, TABLE.all, strict=True):
        assert may == ("nobody's key" if not operation.action else "look" if operation.action in READS else ""), row


def test_every_member_parameter_and_status_of_the_native_api_is_documented():
    page = (ROOT / "docs" / "reference" / "native-api.md").read_text()
    for operation in TABLE.all:
        for parameter in operation.query.__struct_fields__ if operation.query else ():
            assert f"`{parameter}`" in page, f"{operation.id}: {parameter}"
    for field in FunctionWanted.__struct_fields__:
        assert f"| `{field}` |" in page
    for field in FunctionDocument.__struct_fields__:
        assert f"`{field}`" in page
    shown = set(re.findall(r"^\| (\d{3}) \|", page, re.MULTILINE))
    refused = {status for operation in TABLE.all for status in operation.statuses - set(operation.replies)}
    assert {str(status) for status in {*STATUS.values(), *refused, 405}} == shown
    assert f"{native.PUT_BYTES_MAX:,}" in page


def test_every_status_of_plain_http_is_documented():
    page = (ROOT / "docs" / "reference" / "plain-http.md").read_text()
    shown = set(re.findall(r"^\| (\d{3}) \|", page, re.MULTILINE))
    # Raised by deploying, or by payloads that have a form: neither happens to a plain request.
    elsewhere = {"400", "409", "412", "413", "500", "501"}
    assert {str(status) for status in plain.STATUS.values()} - elsewhere <= shown


def commands_of(text):
    """What is typed for `ondol` on a page: in blocks of shell, and in code between backticks."""
    shell = [line for language, body in FENCED.findall(text) if language == "sh" for line in body.splitlines()]
    inline = re.findall(r"`((?:[\w-]+=\S+ )?ondol [^`]+)`", FENCED.sub("", text))
    found = []
    for line in shell + inline:
        for piece in re.split(r"&&|;|\$\(", line.partition("  #")[0]):
            match = re.match(r"\s*(?:\w+=\S+ )*(?:\S*/)?(ondol(?: .*)?)$", piece.partition(')"')[0])
            if match:
                found.append(match[1].strip())
    return found
