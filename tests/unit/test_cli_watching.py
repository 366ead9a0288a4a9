"""What is told of files that change."""

import threading
from pathlib import Path

import pytest

from ondol.cli import package, watching
from ondol.cli.shape import Failure


@pytest.mark.parametrize(
    ("changed", "told"),
    [("app.py", True), ("lib/deep/x.json", True), (".env", True), ("node_modules/a/index.js", True), ("__pycache__/a.py", False),
     (".git/index", False), ("a/.venv/x", False), ("a.pyc", False), ("app.py~", False), (".app.py.swp", False), ("4913", False),
     (".#app.py", False), ("#app.py#", False), ("app.py___jb_tmp___", False), ("", False)],
)  # fmt: skip
def test_what_is_not_deployed_is_not_told_of(changed, told, tmp_path):
    assert watching._below(tmp_path)(None, str(tmp_path / changed)) is told


def test_a_folder_that_is_gone_is_refused_with_a_reason(tmp_path):
    with pytest.raises(Failure, match="cannot be watched"):
        next(watching.batches(tmp_path / "gone" / "app.py", threading.Event()))


def test_a_folder_packed_again_compresses_what_changed_and_nothing_else(tmp_path, monkeypatch):
    for name in ("a.py", "b.py", "c.txt"):
        (tmp_path / name).write_text(name * 100)
    monkeypatch.setattr(package, "SETTLED_NS", 0)
    packed, real = [], package._compressed

    def compressed(name, source):
        packed.append(name)
        return real(name, source)

    monkeypatch.setattr(package, "_compressed", compressed)
    memory = package.Memory()
    first = package.read(tmp_path, memory)
    assert package.read(tmp_path, memory).archive == first.archive
    assert packed == ["a.py", "b.py", "c.txt"]
    (tmp_path / "b.py").write_text("b = 1\n")
    (tmp_path / "c.txt").unlink()
    again = package.read(tmp_path, memory)
    assert packed == ["a.py", "b.py", "c.txt", "b.py"]
    assert (again.files, again.modules["b"]) == (2, "b = 1\n")
    assert again.archive == package.read(tmp_path).archive
    Path(tmp_path, "a.py").chmod(0o755)
    assert package.read(tmp_path, memory).archive == package.read(tmp_path).archive != again.archive
