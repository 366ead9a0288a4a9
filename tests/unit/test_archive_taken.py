"""Archives that honest tools write, and what becomes of them."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import zipapp
import zipfile

import pytest

from ondol.blobstores.archive import What, contents, survey
from ondol.blobstores.tree import unpack
from ondol.testing.zips import Lie, files, link, zip_of


def unpacked(data, target):
    unpack(data, survey(data), target)
    return target


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_python_writes_archives_that_are_taken(tmp_path, method):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method, allowZip64=True) as archive:
        archive.mkdir("empty")
        archive.writestr("app.py", "x = 1\n")
        archive.writestr("온돌/🔥.txt", "warm")
        archive.writestr("big", os.urandom(100) + bytes(3_000_000))
        with archive.open("streamed", "w", force_zip64=True) as file:
            file.write(b"written with sizes behind")
    tree = unpacked(made.getvalue(), tmp_path / "tree")
    assert (tree / "app.py").read_text() == "x = 1\n"
    assert (tree / "온돌/🔥.txt").read_text() == "warm"
    assert (tree / "big").stat().st_size == 3_000_100
    assert (tree / "streamed").read_bytes() == b"written with sizes behind"
    assert (tree / "empty").is_dir()


def test_an_archive_written_to_a_pipe_is_taken():
    made = _Pipe()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", "x" * 10_000)
    (entry,) = survey(made.getvalue()).entries
    assert b"".join(contents(made.getvalue(), entry)) == b"x" * 10_000


class _Pipe(io.BytesIO):
    """Can be written from start to end only, so that sizes stand behind the data."""

    def seekable(self):
        return False

    def tell(self):
        raise OSError("a pipe has no place")

    def seek(self, *_):
        raise OSError("a pipe has no place")


def test_an_archive_with_an_interpreters_line_in_front_is_taken(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/__main__.py").write_text("print(1)")
    zipapp.create_archive(tmp_path / "source", tmp_path / "app.pyz", interpreter="/usr/bin/env python3")
    assert [entry.path for entry in survey((tmp_path / "app.pyz").read_bytes()).entries] == ["__main__.py"]


def test_offsets_may_all_be_off_by_what_stands_in_front(tmp_path):
    data = zip_of(*files("a", "d/b"), prefix=b"#!/bin/sh\n" * 9)
    tree = unpacked(data, tmp_path / "tree")
    assert (tree / "d/b").read_bytes() == b"d/b"


def test_a_comment_is_no_hindrance_even_if_it_looks_like_an_end(tmp_path):
    data = zip_of(*files("a"), comment=b"PK\5\6" + b"a comment that tries" * 3)
    assert [entry.path for entry in survey(data).entries] == ["a"]


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not installed")
def test_info_zip_writes_archives_that_are_taken(tmp_path):
    source = tmp_path / "source"
    (source / "pkg").mkdir(parents=True)
    (source / "app.py").write_text("x = 1\n")
    (source / "pkg/run").write_text("#!/bin/sh\n")
    (source / "pkg/run").chmod(0o755)
    (source / "now").symlink_to("pkg/run")
    os.utime(source / "app.py", (1_700_000_001, 1_700_000_001))
    subprocess.run(["zip", "-qry", tmp_path / "a.zip", "."], cwd=source, check=True)
    tree = unpacked((tmp_path / "a.zip").read_bytes(), tmp_path / "tree")
    assert os.readlink(tree / "now") == "pkg/run"
    assert stat.S_IMODE((tree / "pkg/run").stat().st_mode) == 0o755
    assert (tree / "app.py").stat().st_mtime == 1_700_000_001


MODES = {
    0o100644: 0o644,
    0o100600: 0o644,
    0o100755: 0o755,
    0o100700: 0o755,
    0o100400: 0o444,
    0o106755: 0o755,
    0o101777: 0o777,
    0o644: 0o644,
    0: 0o644,
}


@pytest.mark.parametrize(("mode", "expected"), MODES.items(), ids=oct)
def test_what_the_owner_may_read_or_run_everybody_may(tmp_path, mode, expected):
    tree = unpacked(zip_of(Lie(name=b"f", content=b"x", mode=mode)), tmp_path / "tree")
    assert stat.S_IMODE((tree / "f").stat().st_mode) == expected


def test_directories_are_open_whatever_the_umask_and_the_archive_say(tmp_path):
    data = zip_of(Lie(name=b"d/", mode=0o40700), *files("d/e/f"))
    before = os.umask(0o077)
    try:
        tree = unpacked(data, tmp_path / "tree")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tree, tree / "d", tree / "d/e")} == {0o755}


LINKS = {
    "beside": ("l", "a"),
    "down": ("l", "d/b"),
    "up and inside": ("d/l", "../a"),
    "to the root": ("d/l", ".."),
    "to itself's directory": ("d/l", "."),
    "to what is not there": ("l", "missing/../a"),
    "through a link": ("l", "dd/b"),
    "with odd slashes": ("l", "d//./b"),
}


@pytest.mark.parametrize(("name", "target"), LINKS.values(), ids=LINKS)
def test_links_inside_are_kept_as_written(tmp_path, name, target):
    data = zip_of(*files("a", "d/b"), link("dd", "d"), link(name, target))
    tree = unpacked(data, tmp_path / "tree")
    assert os.readlink(tree / name) == target
    assert os.path.realpath(tree / name).startswith(os.path.realpath(tree))


def test_times_are_kept_and_nonsense_is_tamed(tmp_path):
    extra = struct.pack("<2HBL", 0x5455, 5, 1, 1_234_567_890)
    data = zip_of(
        Lie(name=b"exact", extra=extra),
        Lie(name=b"dos", date=(2024 - 1980) << 9 | 2 << 5 | 29, time=12 << 11 | 30 << 5 | 5),
        Lie(name=b"zero", date=0, time=0),
        Lie(name=b"nonsense", date=0xFFFF, time=0xFFFF),
    )
    tree = unpacked(data, tmp_path / "tree")
    times = {path.name: int(path.stat().st_mtime) for path in tree.iterdir()}
    assert times["exact"] == 1_234_567_890
    assert times["dos"] == 1_709_209_810
    assert times["zero"] == 315_532_800
    assert 0 < times["nonsense"] < 2**32


def test_a_directory_named_twice_is_one_directory():
    data = zip_of(Lie(name=b"d/", mode=0o40755), Lie(name=b"d/", mode=0o40755), *files("d/a"))
    assert [entry.what for entry in survey(data).entries] == [What.DIRECTORY, What.DIRECTORY, What.FILE]


def test_names_without_meaning_are_straightened(tmp_path):
    data = zip_of(Lie(name=b"./", mode=0o40755), *files("./a", "d//b", "d/./c"))
    tree = unpacked(data, tmp_path / "tree")
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*")) == ["a", "d", "d/b", "d/c"]


def test_more_entries_than_the_old_format_counts_are_taken():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for n in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"d/{n}"), b"")
    assert len(survey(made.getvalue()).entries) == 66_000


def test_the_module_needs_no_file_and_no_clock():
    """It is pure: the helper may run it on bytes from anywhere."""
    code = "import sys; import ondol.blobstores.archive; print('socket' in sys.modules, 'asyncio' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]


def test_entries_whose_mode_is_minus_one_have_none(tmp_path):
    # What Maven's tools write for directories they make up.
    made = zip_of(
        Lie(name=b"META-INF/maven/", method=0, mode=0xFFFF), Lie(name=b"META-INF/maven/pom.xml", content=b"<x/>", mode=0xFFFF)
    )
    tree = unpacked(made, tmp_path / "tree")
    assert (tree / "META-INF/maven").is_dir()
    assert stat.S_IMODE((tree / "META-INF/maven/pom.xml").stat().st_mode) == 0o644
