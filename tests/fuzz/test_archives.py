"""Whatever bytes come: refused with one of two errors, or unpacked inside the target and nowhere else."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ondol.blobstores.archive import contents, survey
from ondol.testing.zips import Lie, zip_of

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing.archives import check, honest

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


@settings(max_examples=400, deadline=None)
@given(entries=st.lists(lies(), max_size=6), prefix=st.binary(max_size=9))
def test_strange_entries(entries, prefix):
    check(zip_of(*entries, prefix=prefix))


_HONEST = honest()
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
