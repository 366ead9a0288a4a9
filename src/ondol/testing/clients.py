"""Other people's clients and libraries, from their registries, kept in the cache: a test installs what it needs itself.

A registry or a toolchain that is absent skips the test with its reason, and fails it in CI.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import pytest

from ondol.testing.kept import kept

INSTALL_S_MAX: Final = 900.0
#: How registries' clients say that they did not get there, as against: that the package cannot be had.
_OFFLINE: Final = (
    "Temporary failure in name resolution", "Network is unreachable", "Connection refused", "EAI_AGAIN", "ENOTFOUND",
    "ECONNREFUSED", "dial tcp", "Failed to establish a new connection", "No matching distribution found",
    "Unknown host", "Could not transfer",
)  # fmt: skip


def venv(*requirements: str) -> Path:
    """The `bin` of a virtual environment with these packages from PyPI, made by the Python that runs the test."""

    def make(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder / "venv")])
        _run([*_pip(folder / "venv" / "bin" / "python"), *requirements])

    return _kept(f"venv {sys.version} {sorted(requirements)}", make) / "venv" / "bin"


def vendored(*requirements: str) -> Path:
    """A folder into which these packages from PyPI were installed, as one packs them with a function."""

    def make(folder: Path) -> None:
        _run([*_pip(Path(sys.executable)), "--target", str(folder / "site"), *requirements])

    return _kept(f"site {sys.version} {sorted(requirements)}", make) / "site"


def packed(site: Path, prefix: str = "", **more: str) -> bytes:
    """An archive of a folder of packages, and more modules beside them, by name."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(site.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, f"{prefix}{path.relative_to(site)}")
        for name, text in more.items():
            archive.writestr(f"{name}.py", text)
    return made.getvalue()


def node_modules(*packages: str) -> Path:
    """A folder with these packages from npm in its `node_modules`."""
    npm = program("npm")

    def make(folder: Path) -> None:
        (folder / "package.json").write_text('{"type": "module", "private": true}')
        _run([npm, "install", "--silent", "--no-audit", "--no-fund", *packages], cwd=folder)

    return _kept(f"npm {sorted(packages)}", make)


def built(name: str, files: Mapping[str, str], *commands: Sequence[str], env: Mapping[str, str] | None = None) -> Path:
    """A folder with these files, in which the commands were run once."""

    def make(folder: Path) -> None:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        for command in commands:
            _run(command, cwd=folder, env={**os.environ, **(env or {})})

    return _kept(f"{name} {json.dumps([files, commands], sort_keys=True)}", make)


def program(name: str) -> str:
    """A toolchain's program; skips where it is not installed."""
    found = shutil.which(name)
    if found is None:
        absent(f"{name} is not installed")
    return found


def _pip(python: Path) -> list[str]:
    return [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]


def _kept(what: str, make: Callable[[Path], None]) -> Path:
    return kept(hashlib.sha256(what.encode()).hexdigest()[:16], make)


def _run(command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=INSTALL_S_MAX, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-2000:]
        if any(words in said for words in _OFFLINE):
            absent(f"{' '.join(command)[:200]} found no registry: {said[-300:]}")
        raise AssertionError(f"{command} left with {done.returncode}: {said}")


def absent(reason: str) -> NoReturn:
    """Skip the test for what is not there; in CI, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
