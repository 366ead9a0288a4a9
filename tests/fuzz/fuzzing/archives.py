"""The reader of uploaded archives: refused with one of two errors, or unpacked inside the target and nowhere else."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from ondol.blobstores.archive import survey
from ondol.blobstores.tree import unpack
from ondol.model.errors import InvalidCode, TooLarge
from ondol.testing.zips import Lie, files, link, zip_of

from fuzzing.drawing import Draw

_NAMES = (b"a", b"b", b"..", b".", b"", b"/", b"\\", b"c", b"l", b"x" * 255, "온".encode(), b"\xff", b"C:", b"\0", b"~")
_MODES = (0, 0o644, 0o100755, 0o040755, 0o120777, 0o010644, 0o104755, 0o060666, 0xFFFF)


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
    for folder, folders, plain in os.walk(target):
        for name in folders + plain:
            path = os.path.join(folder, name)
            place = os.path.realpath(path)
            assert place == root or place.startswith(root + "/"), path
            if not os.path.islink(path) and os.path.isfile(path):
                size += os.path.getsize(path)
                assert os.lstat(path).st_mode & 0o7000 == 0
    assert size <= bytes_max


def honest() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", "x = 1\n" * 20)
        archive.writestr("d/e/f", b"\0\1\2")
        entry = zipfile.ZipInfo("l")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "d/e/f")
        archive.comment = b"a comment"
    return made.getvalue()


SEEDS = [
    b"\0" + honest(),
    b"\0" + zip_of(*files("a", "b/c"), link("l", "a"), comment=b"PK"),
    b"\0" + zip_of(Lie(name=b"a", content=b"x" * 5000), prefix=b"#!/usr/bin/env python3\n"),
    b"\1" + bytes(range(250)),
    b"\1" + bytes(range(250, 0, -1)) * 2,
]
TOKENS = [
    b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"\xff\xff\xff\xff", b"\0\0\0\0", b"../", b"/etc/passwd",
    b"\1\0\x1c\0", b"\xff\xff", b"\x75\x70",
]  # fmt: skip


def one(data):
    """The first byte says whether the rest is an archive, or what one is made by."""
    if data[:1] == b"\0":
        check(data[1:])
        return
    draw = Draw(data[1:])
    lies = []
    for _ in range(draw.randint(0, 5)):
        content = b"/".join(draw.choices(_NAMES, k=draw.randint(0, 4)))
        lies.append(
            Lie(
                name=b"/".join(draw.choices(_NAMES, k=draw.randint(1, 4))),
                content=content,
                mode=draw.choice(_MODES),
                flags=draw.choice((0, 0, 0, 1, 8, 0x800, 0x41)),
                method=draw.choice((0, 8, 8)),
                extra=draw.randbytes(draw.choice((0, 0, 4, 9))),
                size=draw.choice((None, None, None, 0, 1, 2**32 - 1)),
                packed_size=draw.choice((None, None, None, 0, 2**32 - 1)),
                crc=draw.choice((None, None, None, 0)),
                local_name=draw.choice((None, None, None, b"other")),
                local_method=draw.choice((None, None, None, 0, 99)),
                header=draw.choice((None, None, None, 0, 2**31)),
                disk=draw.choice((0, 0, 0, 1)),
            )
        )
    check(zip_of(*lies, prefix=draw.randbytes(draw.choice((0, 0, 3))), count=draw.choice((None, None, 0, 65535))))
