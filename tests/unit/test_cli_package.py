from __future__ import annotations

import io
import os
import stat
import zipfile

import pytest

from ondol.cli import package
from ondol.cli.shape import Failure
from ondol.model import limits


def names(packed):
    return zipfile.ZipFile(io.BytesIO(packed.archive)).namelist()


@pytest.fixture
def folder(tmp_path):
    where = tmp_path / "my function"
    where.mkdir()
    (where / "app.py").write_text("def handler(event, context): return 1\n")
    return where


def test_the_same_files_make_the_same_archive_whatever_their_times(folder):
    before = package.read(folder).archive
    os.utime(folder / "app.py", (1, 1))
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"x")
    assert package.read(folder).archive == before
    (folder / "app.py").write_text("def handler(event, context): return 2\n")
    assert package.read(folder).archive != before


def test_caches_repositories_and_environments_stay_out(folder):
    for name in (
        ".git/config",
        ".venv/bin/python",
        "__pycache__/x.pyc",
        "pkg/__pycache__/y.pyc",
        "pkg/z.pyc",
        "pkg/z.py",
        ".env",
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    assert names(package.read(folder)) == [".env", "app.py", "pkg/z.py"]


def test_rights_to_execute_and_links_inside_are_kept(folder):
    (folder / "bin").mkdir()
    (folder / "bin" / "tool").write_text("#!/bin/sh\n")
    (folder / "bin" / "tool").chmod(0o700)
    (folder / "shortcut").symlink_to("bin/tool")
    (folder / "also").symlink_to("bin")
    archive = zipfile.ZipFile(io.BytesIO(package.read(folder).archive))
    modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert modes["bin/tool"] == stat.S_IFREG | 0o755
    assert modes["app.py"] == stat.S_IFREG | 0o644
    assert stat.S_ISLNK(modes["shortcut"]) and archive.read("shortcut") == b"bin/tool"
    assert stat.S_ISLNK(modes["also"]) and "also/tool" not in modes


@pytest.mark.parametrize("target", ["/etc/hostname", "../secret", "../my function/app.py"])
def test_a_link_that_leaves_the_folder_is_refused(folder, target):
    (folder.parent / "secret").write_text("s")
    (folder / "link").symlink_to(target)
    with pytest.raises(Failure, match="links out of"):
        package.read(folder)


def test_what_is_no_file_is_refused_by_name(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(Failure, match="pipe is neither file"):
        package.read(folder)


def test_a_single_file_is_packed_alone_and_gives_its_name(folder):
    packed = package.read(folder / "app.py")
    assert names(packed) == ["app.py"]
    assert packed.name == "app"


def test_a_zip_file_is_sent_as_it_is(folder, tmp_path):
    path = tmp_path / "build.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("main.py", "def handler(a, b): ...")
        archive.writestr("pkg/inner.py", "def handler(a, b): ...")
    packed = package.read(path)
    assert packed.archive == path.read_bytes()
    assert set(packed.modules) == {"main"}
    assert packed.name == "build"


def test_names_are_made_of_what_a_function_may_be_called(folder):
    assert package.read(folder).name == "my-function"


def test_nothing_to_deploy_is_refused(tmp_path):
    with pytest.raises(Failure, match="does not exist"):
        package.read(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Failure, match="no file to deploy"):
        package.read(tmp_path / "empty")


def test_bounds_are_checked_before_anything_is_read(folder, monkeypatch):
    with (folder / "large.bin").open("wb") as file:
        file.truncate(limits.CODE_UNPACKED_BYTES_MAX)
    with pytest.raises(Failure, match="unpacked: at most 262,144,000"):
        package.read(folder)
    (folder / "large.bin").unlink()
    monkeypatch.setattr(limits, "CODE_ENTRIES_MAX", 0)
    with pytest.raises(Failure, match="1 files: at most 0"):
        package.read(folder)


def test_an_archive_that_is_too_large_zipped_is_refused(folder, monkeypatch):
    monkeypatch.setattr(limits, "CODE_ZIPPED_BYTES_MAX", 10)
    with pytest.raises(Failure, match="bytes zipped: at most 10"):
        package.read(folder)


def test_a_bomb_is_refused_by_what_it_declares(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 100_000)
    monkeypatch.setattr(limits, "CODE_UNPACKED_BYTES_MAX", 99_999)
    with pytest.raises(Failure, match="100,000 bytes unpacked"):
        package.read(path)


def of(**modules):
    return package.Package(archive=b"", name="f", modules=modules, files=1, unpacked_bytes=1)


@pytest.mark.parametrize(
    ("modules", "handler"),
    [
        ({"lambda_function": "def lambda_handler(event, context): ..."}, "lambda_function.lambda_handler"),
        ({"app": "async def handler(e, c): ..."}, "app.handler"),
        ({"main": "from inner import handler"}, "main.handler"),
        ({"handler": "handler = make()"}, "handler.handler"),
        (
            {"app": "def handler(e, c): ...", "lambda_function": "def lambda_handler(e, c): ..."},
            "lambda_function.lambda_handler",
        ),
        ({"greet": "def help(): ...\ndef hello(event, context): ..."}, "greet.hello"),
        ({"greet": "def hello(event, context=None, *, x=1): ..."}, "greet.hello"),
        ({"greet": "def one(a, b): ...\ndef two(a, b): ..."}, None),
        ({"greet": "def _hidden(a, b): ..."}, None),
        ({"greet": "def hello(a, b, *, c): ..."}, None),
        ({"greet": "def nested():\n    def handler(a, b): ..."}, None),
        ({"app": "def handler(:"}, None),
        ({}, None),
    ],
)
def test_the_handler_is_found_by_reading_the_code(modules, handler):
    assert package.guess_aws_handler(of(**modules)) == handler


def test_code_is_never_run_to_find_the_handler(tmp_path):
    (tmp_path / "app.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef handler(e, c): ...\n")
    assert package.guess_aws_handler(package.read(tmp_path / "app.py")) == "app.handler"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("modules", "handler"),
    [
        ({"app": "app = Flask(__name__)"}, "app:app"),
        ({"wsgi": "application: object = get()"}, "wsgi:application"),
        ({"site": "def app(environ, start_response): ..."}, "site:app"),
        ({"a": "app = 1", "b": "app = 2"}, None),
        ({"app": "x = 1"}, None),
    ],
)
def test_the_web_application_is_found_by_reading_the_code(modules, handler):
    assert package.guess_web_handler(of(**modules)) == handler
