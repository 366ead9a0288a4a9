"""Each starter of `ondol new` deploys and answers."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest

from ondol.cli.doctor import runtimes_here

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PYTHON = f"python3.{sys.version_info[1]}"
NODES = [name for name in runtimes_here() if name.startswith("nodejs")]


def needs(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        assert not os.environ.get("CI"), f"CI must have {missing}"
        pytest.skip(f"{', '.join(missing)} not installed")


def begin(node, folder, *arguments):
    """`ondol new` and then what it says, with deploy in the place of dev."""
    made = node.ondol("new", folder.name, *arguments, cwd=folder.parent)
    assert made.returncode == 0, made.stderr
    for line in made.stdout.splitlines():
        words = shlex.split(line)
        if words[0] == "ondol":
            done = node.ondol("deploy", *words[2:], cwd=folder.parent)
            assert done.returncode == 0, done.stderr
        else:
            built = subprocess.run(words, cwd=folder.parent, capture_output=True, text=True, timeout=200, check=False)
            if built.returncode and "dial tcp" in built.stderr:
                pytest.skip("Go's modules cannot be fetched here")
            assert built.returncode == 0, built.stderr


@pytest.mark.parametrize(
    ("arguments", "programs"),
    [((), ()), (("--runtime", PYTHON), ()), (("--runtime", NODES[-1] if NODES else "nodejs22.x"), ("node",)),
     (("--runtime", "provided.al2023"), ("curl",)), (("--runtime", "provided.al2023", "--language", "go"), ("go",))],
    ids=["default", "python", "node", "shell", "go"],
)  # fmt: skip
def test_a_starter_deploys_and_answers(node, tmp_path, name, arguments, programs):
    needs(*programs)
    begin(node, tmp_path / name, *arguments)
    done = node.ondol("invoke", name, "--data", '{"name": "Ada"}', "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["payload"]["greeting"].startswith("Hello")
    assert node.ondol("rm", name).returncode == 0


@pytest.mark.parametrize("runtime", ["web", "command"])
def test_a_web_starter_deploys_and_answers(node, tmp_path, name, runtime):
    begin(node, tmp_path / name, "--runtime", runtime)
    answer = node.http("GET", f"/fn/{name}/")
    assert (answer.status, answer.data[:5]) == (200, b"Hello")
    assert node.http("DELETE", f"/ondol/v1/functions/{name}").status in (200, 204)


def test_what_cannot_be_begun_is_refused_in_a_sentence(node, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for arguments, said in (
        (("a", "--runtime", "java17"), "there is no starter for java17"),
        (("a", "--runtime", "provided.al2023", "--language", "cobol"), "no starter for provided.al2023 in cobol"),
        (("a", "--language", "go"), "no starter for"),
        (("a b",), "cannot be a function's name"),
        (("full",), "is there already"),
    ):
        done = node.ondol("new", *arguments, cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
