"""The bones of docs/explain/architecture.md, held by tools rather than by good will."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"

#: What no neutral room may say: systems' names, and nouns of theirs.
VENDOR_WORDS = re.compile(
    r"aws|amazon|lambda|sigv4|boto|google|azure|microsoft|openwhisk|openfaas|naver|oracle|picloud|cloudwatch|dynamodb"
    r"|(?<![a-z])(arns?|gcp|s3|sqs|sns)(?![a-z0-9])",
    re.IGNORECASE,
)
#: Where a system's name is an example of a string that the room itself takes no notice of.
EXAMPLES = ('("aws", "web")',)
NEUTRAL_ROOMS = ("model", "pool", "core")


def modules(folder: Path = SOURCE) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_every_import_goes_down_the_layers():
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [str(lint), "--config", "importlinter.ini", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]


def neutral_modules() -> list[Path]:
    ports = sorted((SOURCE / "ondol").glob("*.py"))
    ports = [port for port in ports if port.name not in ("app.py", "config.py", "__main__.py")]
    return ports + [module for room in NEUTRAL_ROOMS for module in modules(SOURCE / "ondol" / room)]


def vendor_words(code: str) -> list[str]:
    """Tokens with a vendor's word: names, texts and comments; Python's own keyword is none."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        keyword = token.type == tokenize.NAME and token.string == "lambda"
        for number, line in enumerate([] if keyword else token.string.splitlines(), token.start[0]):
            if VENDOR_WORDS.search(line) and not any(example in line for example in EXAMPLES):
                found.append(f"{number}: {line.strip()}")
    return found


def test_core_pool_model_and_ports_know_no_vendor():
    said = [f"{path.relative_to(ROOT)}:{line}" for path in neutral_modules() for line in vendor_words(path.read_text())]
    assert not said, "\n".join(said)


@pytest.mark.parametrize(
    "code", ["x = 'arn:x'", "# as AWS does", "def get_arn(): ...", "LAMBDA = 1", "import boto3", '"""An S3 key."""']
)
def test_the_vendor_grep_finds(code):
    assert vendor_words(code)


@pytest.mark.parametrize("code", ["f = lambda x: x", "warning = 'learned'", "yarn = 1", "# earned"])
def test_the_vendor_grep_lets_pass(code):
    assert not vendor_words(code)


def test_the_guest_can_be_read_by_python_3_8():
    for path in modules(SOURCE / "ondol_guest"):
        ast.parse(path.read_text(), str(path), feature_version=(3, 8))


@pytest.mark.parametrize(
    "room", ["src", "docs", "examples", ".ci", "Makefile", "README.md", "pyproject.toml", "importlinter.ini"]
)
def test_nothing_names_the_machine_it_was_written_on(room):
    path = ROOT / room
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    for file in files:
        if file.suffix in (".pyc", ".png"):
            continue
        found = re.search(r"(?<![\w.])/(work|root)/[a-z.]", file.read_text(errors="replace"))
        assert not found, f"{file.relative_to(ROOT)} says {found.group() if found else ''}"
