"""Deployed code is compiled once, where nothing of it is run, and kept where imports find it."""

import asyncio
import os
import subprocess
import sys

import pytest

from ondol.blobstores import tree as trees
from ondol.node.compiling import Compiling, keep
from ondol.runtimes.choice import Choice
from ondol.runtimes.forked import ForkedPython
from ondol.runtimes.interpreters import Interpreters
from ondol.testing.pool import a_target
from ondol.testing.sandboxes import LocalSandboxes

FOUND = Interpreters.discover()
OWN = f"python3.{sys.version_info.minor}"
TAG = sys.implementation.cache_tag


@pytest.fixture
def code(tmp_path):
    """A code's folder with a tree."""
    package = tmp_path / "tree" / "package"
    package.mkdir(parents=True)
    (tmp_path / "tree" / "app.py").write_text("print('run')\nVALUE = 'compiled'\n")
    (package / "__init__.py").write_text("")
    (package / "broken.py").write_text("def (:\n")
    (package / "struct.py").write_text("raise SystemExit('run by the compiler')\n")
    return tmp_path


def compile_it(folder, name=OWN):
    async def run():
        sandboxes = LocalSandboxes()
        runtime = ForkedPython(sandboxes, Choice(FOUND))
        compiling = Compiling(
            sandboxes=lambda _: sandboxes,
            runtimes=lambda _: runtime,
            interpreter=Choice(FOUND).interpreter,
            folder=lambda _: folder,
        )
        await compiling.compile(a_target(runtime=name).revision, name)
        left = set(sandboxes.shells)
        await sandboxes.close()
        assert not left, "a shell was left"

    asyncio.run(run())


def imported(folder, python=sys.executable):
    command = [python, "-B", "-c", "import app; print(app.VALUE, app.__file__)"]
    done = subprocess.run(command, cwd=folder / "tree", capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("name", [interpreter.name for interpreter in FOUND.all()])
def test_what_was_compiled_is_what_is_imported_whatever_becomes_of_the_source(code, name):
    compile_it(code, name)
    source = code / "tree" / "app.py"
    source.write_text("VALUE = 'from the source'\n")
    value, file = imported(code, FOUND.get(name).path)
    assert value == "compiled"
    assert os.path.samefile(code / "tree" / file, source)
    assert (code / f"compiled-{name}").exists()


def test_what_cannot_be_compiled_is_left_out_and_nothing_else(code):
    compile_it(code)
    made = sorted(path.name for path in (code / "tree" / "package" / "__pycache__").iterdir())
    assert made == [f"__init__.{TAG}.pyc", f"struct.{TAG}.pyc"]


def test_a_function_s_own_cache_files_are_left_alone(code):
    cache = code / "tree" / "__pycache__"
    cache.mkdir()
    (cache / f"app.{TAG}.pyc").write_bytes(b"its own")
    compile_it(code)
    assert [path.read_bytes() for path in cache.iterdir()] == [b"its own"]


def told(*parts):
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


@pytest.mark.parametrize(
    "target", ["../__pycache__/a.cpython-311.pyc", "/etc/__pycache__/a.cpython-311.pyc", "a.pyc", "x/../__pycache__/a.b-1.pyc"]
)
def test_a_guest_names_no_other_place(code, target):
    with pytest.raises(ValueError, match="cache file"):
        keep(code / "tree", told(b"app.py", target.encode(), b"x"))


def test_a_guest_writes_through_no_link_and_beside_sources_only(code, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.py").write_text("")
    (code / "tree" / "link").symlink_to(outside)
    (code / "tree" / "__pycache__").symlink_to(outside)
    for target in (f"link/__pycache__/a.{TAG}.pyc", f"__pycache__/app.{TAG}.pyc", f"package/__pycache__/none.{TAG}.pyc"):
        keep(code / "tree", told(b"x.py", target.encode(), b"x"))
    assert sorted(path.name for path in outside.iterdir()) == ["a.py"]
    with pytest.raises(ValueError, match="too early"):
        keep(code / "tree", told(b"app.py", b"x")[:-1])


def test_trees_that_are_laid_over_each_other_keep_no_compiled_module_of_another_source(code, tmp_path):
    shelf, scratch = tmp_path / "shelf", tmp_path / "scratch"
    scratch.mkdir()
    compile_it(code)
    (shelf / "one").mkdir(parents=True)
    (code / "tree").rename(shelf / "one" / "tree")
    (shelf / "two" / "tree").mkdir(parents=True)
    (shelf / "two" / "tree" / "app.py").write_text("VALUE = 'other'\n")
    made = trees.merge(sha256s=["one", "two"], shelf=str(shelf), scratch=str(scratch))
    assert imported(shelf / made)[0] == "other"
