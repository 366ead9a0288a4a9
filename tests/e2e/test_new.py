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
from ondol.testing.kept import CACHE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PYTHON = f"python3.{sys.version_info[1]}"
NODES = [name for name in runtimes_here() if name.startswith("nodejs")]

#: What builders say who do not reach their registry.
UNREACHED = (
    "dial tcp",
    "failed to download from",
    "failed to query replaced source",
    "Unknown host",
    "Could not transfer artifact",
)


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
            # How well Rust's compiler optimises is not what is tried here; and what it made is kept for the next time.
            kept = str(CACHE / "rust-starter")
            env = {**os.environ, "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0", "CARGO_TARGET_DIR": kept}
            built = subprocess.run(words, cwd=folder.parent, env=env, capture_output=True, text=True, timeout=550, check=False)
            if built.returncode and any(sign in built.stderr + built.stdout for sign in UNREACHED):
                pytest.skip(f"what {folder.name} is made from cannot be fetched here")
            assert built.returncode == 0, built.stderr


@pytest.mark.parametrize(
    ("arguments", "programs"),
    [((), ()), (("--runtime", PYTHON), ()), (("--runtime", NODES[-1] if NODES else "nodejs22.x"), ("node",)),
     (("--runtime", "provided.al2023"), ("curl",)), (("--runtime", "provided.al2023", "--language", "go"), ("go",)),
     (("--runtime", "provided.al2023", "--language", "rust"), ("cargo",)),
     (("--runtime", "provided.al2023", "--language", "java"), ("mvn", "java"))],
    ids=["default", "python", "node", "shell", "go", "rust", "java"],
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
        (("a", "--runtime", "ruby3.4"), "there is no starter for ruby3.4"),
        (("a", "--runtime", "provided.al2023", "--language", "cobol"), "no starter for provided.al2023 in cobol"),
        (("a", "--language", "go"), "no starter for"),
        (("a b",), "cannot be a function's name"),
        (("full",), "is there already"),
    ):
        done = node.ondol("new", *arguments, cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
