"""Format, lint and types, as tests: one runner says whether everything is well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


TOOLS = {
    "format": ("ruff", "format", "--check", "--output-format", "concise", "."),
    "lint": ("ruff", "check", "--output-format", "concise", "."),
    "types": ("mypy",),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_sources_pass(tool):
    ran = subprocess.run([sys.executable, "-m", *TOOLS[tool]], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, f"{ran.stdout[-4000:]}{ran.stderr[-2000:]}"
