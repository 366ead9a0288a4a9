"""The data directory is opened whole, or left exactly as it was with one sentence that says why."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import pytest

from ondol.model.errors import OutOfSpace, Unavailable
from ondol.node import datadir
from ondol.node.datadir import MIGRATIONS, DataDir


@pytest.fixture
def root(tmp_path):
    return tmp_path / "deep" / ".ondol"


def everything(root):
    return {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in sorted(root.rglob("*"))}


def holder(root):
    """Another process that has the directory open."""
    code = "import sys, pathlib; from ondol.node.datadir import DataDir; d = DataDir.open(pathlib.Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "open\n"
    return process


def end(process):
    process.kill()
    process.communicate()


def test_it_is_made_for_its_owner_alone(root):
    place = DataDir.open(root)
    folders = [place.root, place.run, place.code, place.journals, place.tmp, place.shells]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    assert (root / "format").read_text() == f"{len(MIGRATIONS) + 1}\n"
    place.close()


def test_a_directory_that_was_open_to_others_is_closed(root):
    root.mkdir(parents=True, mode=0o777)
    DataDir.open(root).close()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_what_was_kept_is_there_again_and_only_spool_files_are_gone(root):
    place = DataDir.open(root)
    (place.code / "abc").mkdir()
    place.catalog.write_text("catalog")
    (place.tmp / "upload").write_text("half")
    (place.tmp / "take-1" / "tree").mkdir(parents=True)
    (place.tmp / "link").symlink_to(place.code)
    place.close()
    place = DataDir.open(root)
    assert place.catalog.read_text() == "catalog"
    assert (place.code / "abc").is_dir()
    assert list(place.tmp.iterdir()) == []
    place.close()


def test_a_second_node_is_told_who_is_there(root):
    first = holder(root)
    try:
        before = everything(root)
        with pytest.raises(Unavailable, match=rf"Another node \(process {first.pid}\) uses .*--data DIR"):
            DataDir.open(root)
        assert everything(root) == before
    finally:
        end(first)


def test_a_node_that_was_killed_leaves_no_lock(root):
    first = holder(root)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    DataDir.open(root).close()


def test_the_processes_of_a_killed_node_are_waited_for(root):
    code = (
        "import os, sys, time, pathlib; from ondol.node.datadir import DataDir\n"
        "d = DataDir.open(pathlib.Path(sys.argv[1]))\n"
        "if os.fork() == 0: time.sleep(0.3); os._exit(0)\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=True)
    DataDir.open(root).close()


def test_closing_frees_it_even_while_a_child_holds_the_descriptor(root):
    place = DataDir.open(root)
    copy = os.dup(place.lock_descriptor)
    place.close()
    DataDir.open(root).close()
    os.close(copy)


def test_a_newer_format_is_refused_untouched(root):
    DataDir.open(root).close()
    (root / "format").write_text("7\n")
    (root / "tmp" / "kept").write_text("")
    before = everything(root)
    with pytest.raises(Unavailable, match=r"data format 7, and this release knows formats up to \d: start the newer"):
        DataDir.open(root)
    assert everything(root) == before


@pytest.mark.parametrize("text", ["", "one", "0", "-1", "9" * 400])
def test_a_format_that_is_no_number_is_refused(root, text):
    DataDir.open(root).close()
    (root / "format").write_text(text)
    with pytest.raises(Unavailable, match="should hold the data-format number"):
        DataDir.open(root)


def test_an_older_format_is_brought_forward_step_by_step(root):
    DataDir.open(root, migrations=()).close()
    steps = [lambda place: (place / "first").touch(), lambda place: (place / "second").touch()]
    place = DataDir.open(root, migrations=steps)
    assert (root / "format").read_text() == "3\n"
    assert (root / "first").exists()
    assert (root / "second").exists()
    place.close()


def test_a_step_that_fails_is_taken_again_and_those_before_are_not(root):
    DataDir.open(root, migrations=()).close()
    taken = []

    def fails(_):
        taken.append("fails")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutOfSpace):
        DataDir.open(root, migrations=[lambda _: taken.append("first"), fails])
    assert (root / "format").read_text() == "2\n"
    DataDir.open(root, migrations=[lambda _: taken.append("again"), lambda _: taken.append("second")]).close()
    assert taken == ["first", "fails", "second"]
    assert (root / "format").read_text() == "3\n"


def test_a_directory_of_the_first_format_is_opened_by_this_release(root):
    DataDir.open(root, migrations=()).close()
    (root / "journals" / "kept").write_text("lines")
    DataDir.open(root).close()
    assert (root / "format").read_text() == f"{len(MIGRATIONS) + 1}\n"
    assert (root / "journals" / "kept").read_text() == "lines"


def test_a_new_directory_needs_no_steps(root):
    DataDir.open(root, migrations=[lambda _: pytest.fail("nothing to bring forward")]).close()
    assert (root / "format").read_text() == "2\n"


def test_somebody_elses_directory_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "precious").write_text("")
    before = everything(tmp_path)
    with pytest.raises(Unavailable, match="not empty and was not made by Ondol"):
        DataDir.open(tmp_path)
    assert everything(tmp_path) == before


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="is not a directory"):
        DataDir.open(tmp_path / "file")
    with pytest.raises(Unavailable, match="cannot be used"):
        DataDir.open(tmp_path / "file" / "below")


def test_another_users_directory_is_refused(root, monkeypatch):
    DataDir.open(root).close()
    monkeypatch.setattr(datadir.os, "geteuid", lambda: os.getuid() + 4242)
    with pytest.raises(Unavailable, match="belongs to user"):
        DataDir.open(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_missing_rights_are_said(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    os.chown(closed, 0, 0)
    closed.chmod(0o555)
    child = os.fork()
    if child == 0:
        try:
            for folder in (tmp_path, *tmp_path.parents[:2]):
                folder.chmod(0o755)
            os.setuid(65534)
            DataDir.open(closed / ".ondol")
        except Unavailable as error:
            os._exit(0 if "may not be written by user 65534" in str(error) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(closed.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_it_is_given_to_whom_the_unprivileged_processes_are(root):
    DataDir.open(root, owner=(1234, 5678)).close()
    given = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in (root, *root.iterdir())}
    assert given.pop("shells") == (0, 0)  # the keeper's
    assert set(given.values()) == {(1234, 5678)}


@pytest.mark.parametrize("name", ["tmp", "code", "run"])
def test_a_folder_that_is_a_link_is_not_followed(root, tmp_path, name):
    DataDir.open(root).close()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("")
    subprocess.run(["rm", "-r", root / name], check=True)
    (root / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="should be a directory"):
        DataDir.open(root)
    assert os.listdir(tmp_path / "elsewhere") == ["precious"]


def test_a_full_disk_is_said_and_nothing_stays(root, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ondol.disk.write_all", full)
    with pytest.raises(OutOfSpace, match="No space is left for"):
        DataDir.open(root)
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_was_cut_short_anywhere_is_finished_by_the_next(root, monkeypatch):
    """Fails at the first, the second, … system call that changes something, and then opens again."""
    for stop in range(1, 30):
        with monkeypatch.context() as patch:
            counter = iter(range(stop))
            for name in ("mkdir", "open", "replace", "chmod", "pwrite"):
                patch.setattr(datadir.os, name, _until(getattr(os, name), counter))
            patch.setattr(datadir, "_unmake", lambda *_, **__: None)  # as kill -9 would
            try:
                DataDir.open(root).close()
                finished = True
            except _CutError:
                finished = False
        place = DataDir.open(root)
        assert place.tmp.is_dir()
        place.close()
        subprocess.run(["rm", "-r", root], check=True)
        if finished:
            return
    pytest.fail("it was never finished")


class _CutError(BaseException):
    """Here the power went."""


def _until(real, counter):
    def call(*args, **more):
        if next(counter, None) is None:
            raise _CutError
        return real(*args, **more)

    return call
