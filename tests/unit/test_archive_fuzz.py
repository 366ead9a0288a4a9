"""Whatever bytes come: refused with one of two errors, or unpacked inside the target and nowhere else."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ondol.blobstores.archive import contents, survey
from ondol.blobstores.tree import unpack
from ondol.model.errors import InvalidCode, TooLarge
from ondol.testing.zips import Lie, zip_of

_PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "온", "\\", "x" * 255, "C:", "l", "m"])
_NAMES = st.lists(_PARTS, min_size=1, max_size=5).map("/".join)
_MODES = st.sampled_from([0, 0o644, 0o100755, 0o40755, 0o120777, 0o120777, 0o10644, 0o104755])


@st.composite
def lies(draw):
    name = draw(_NAMES)
    mode = draw(_MODES)
    content = draw(_NAMES).encode() if mode == 0o120777 else draw(st.binary(max_size=40))
    odd = draw(st.integers(0, 9))
    return Lie(
        name=name.encode(),
        content=content,
        mode=mode,
        method=draw(st.sampled_from([0, 8])),
        size=draw(st.integers(0, 2**32 - 1)) if odd == 0 else None,
        header=draw(st.integers(0, 300)) if odd == 1 else None,
        crc=0 if odd == 2 else None,
    )


def check(data: bytes) -> None:
    room = Path(tempfile.mkdtemp())
    try:
        (room / "outside").write_text("untouched")
        target = room / "inside" / "tree"
        target.parent.mkdir()
        try:
            plan = survey(data, unpacked_bytes_max=10_000_000)
            unpack(data, plan, target)
        except (InvalidCode, TooLarge):
            pass
        else:
            _check_tree(target, plan.unpacked_bytes)
        assert sorted(os.listdir(room)) == ["inside", "outside"]
        assert (room / "outside").read_text() == "untouched"
        assert os.listdir(room / "inside") in ([], ["tree"])
    finally:
        shutil.rmtree(room)


def _check_tree(target: Path, bytes_max: int) -> None:
    size, root = 0, os.path.realpath(target)
    for folder, folders, files in os.walk(target):
        for name in folders + files:
            path = os.path.join(folder, name)
            place = os.path.realpath(path)
            assert place == root or place.startswith(root + "/"), path
            if not os.path.islink(path) and os.path.isfile(path):
                size += os.path.getsize(path)
                assert os.lstat(path).st_mode & 0o7000 == 0
    assert size <= bytes_max


@settings(max_examples=400, deadline=None)
@given(entries=st.lists(lies(), max_size=6), prefix=st.binary(max_size=9))
def test_strange_entries(entries, prefix):
    check(zip_of(*entries, prefix=prefix))


def _honest() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", "x = 1\n" * 20)
        archive.writestr("d/e/f", b"\0\1\2")
        entry = zipfile.ZipInfo("l")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "d/e/f")
        archive.comment = b"a comment"
    return made.getvalue()


_HONEST = _honest()
_SIGNATURES = st.sampled_from([b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\xff\xff\xff\xff", b"\0\0"])


@settings(max_examples=600, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(_HONEST)), st.one_of(st.binary(min_size=1, max_size=4), _SIGNATURES)), max_size=4
    ),
    cut=st.one_of(st.none(), st.integers(0, len(_HONEST))),
)
@example(changes=[], cut=None)
def test_an_honest_archive_with_bytes_changed(changes, cut):
    data = bytearray(_HONEST)
    for at, new in changes:
        data[at : at + len(new)] = new
    check(bytes(data[:cut]))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes(data):
    check(data + b"PK\5\6" + data[:18].ljust(18, b"\0"))


@settings(max_examples=150, deadline=None)
@given(
    files=st.dictionaries(st.text("abcdef온é", min_size=1, max_size=9), st.binary(max_size=300), min_size=1, max_size=8),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_an_honest_archive_is_read_as_the_standard_library_reads_it(files, method):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    data = made.getvalue()
    assert {entry.path: b"".join(contents(data, entry)) for entry in survey(data).entries} == files
