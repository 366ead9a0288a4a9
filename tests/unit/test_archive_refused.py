"""Archives that must be refused before anything is written."""

from __future__ import annotations

import io
import stat
import struct
import zipfile

import pytest

from ondol.blobstores.archive import contents, survey
from ondol.model.errors import InvalidCode, TooLarge
from ondol.testing.zips import Lie, files, link, zip_of

MIB = 1024 * 1024


def named(*names: str | bytes) -> bytes:
    return zip_of(*(Lie(name=name.encode() if isinstance(name, str) else name, content=b"x") for name in names))


NAMES = {
    "climbs": "../evil",
    "climbs inside": "a/../../evil",
    "climbs and comes back": "a/../b",
    "only climbs": "..",
    "climbing directory": "a/../",
    "absolute": "/etc/passwd",
    "two slashes": "//etc/passwd",
    "drive": "C:/evil",
    "drive without a slash": "c:evil",
    "backslash": "..\\evil",
    "windows path": "a\\b.py",
    "nul": "app.py\0.txt",
    "latin-1": b"caf\xe9.py",
    "surrogate": b"\xed\xa0\x80.py",
    "overlong utf-8": b"\xc0\xae\xc0\xae/evil",
    "empty": "",
    "only dots": "./.",
    "long part": "x" * 256,
    "long part of wide letters": "온" * 90,
    "long path": "/".join(["x" * 200] * 20),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_could_mean_another_place_is_refused(name):
    with pytest.raises(InvalidCode):
        survey(named("app.py", name))


TWICE = {
    "the same name": named("a.py", "a.py"),
    "the same place": named("a.py", "./a.py"),
    "the same place, slashes": named("d/a.py", "d//a.py"),
    "a file and a directory": named("a", "a/b.py"),
    "a directory and a file": named("a/b.py", "a"),
    "a directory entry and a file": zip_of(Lie(name=b"a/", mode=0o40755), *files("a")),
    "a file below a link": zip_of(link("a", "d"), *files("d/x", "a/x")),
    "a link over a directory": zip_of(*files("d/x"), link("d", "e")),
    "a link and a file": zip_of(link("a", "b"), *files("a")),
}


@pytest.mark.parametrize("data", TWICE.values(), ids=TWICE)
def test_a_path_has_one_owner(data):
    with pytest.raises(InvalidCode):
        survey(data)


LINKS = {
    "absolute": [link("l", "/etc/passwd")],
    "up": [link("l", "../x")],
    "up from below": [link("d/l", "../../x")],
    "up after down": [link("l", "a/../../x")],
    "through a link": [link("a", "d/e"), link("d/e/up", "../.."), link("l", "a/up/../x")],
    "through a link to a link": [link("one", "d"), link("d/two", ".."), link("three", "one/two/../x")],
    "in a circle": [link("a", "b"), link("b", "a")],
    "to itself": [link("a", "a")],
    "to itself and on": [link("a", "a/b")],
    "to nothing": [link("l", "")],
    "with a nul": [link("l", "a\0b")],
    "with a backslash": [link("l", "..\\x")],
    "too long": [link("l", "a/" * 600)],
    "not utf-8": [Lie(name=b"l", content=b"\xff\xfe", mode=0o120777)],
    "with a directory's name": [Lie(name=b"l/", content=b"x", mode=0o120777)],
}


@pytest.mark.parametrize("entries", LINKS.values(), ids=LINKS)
def test_a_link_that_leaves_the_archive_is_refused(entries):
    with pytest.raises(InvalidCode):
        survey(zip_of(*files("d/e/f"), *entries))


def test_links_that_take_for_ever_to_prove_are_refused():
    deep = [link(f"l{n}", f"l{n + 1}/../" * 15 + f"l{n + 1}") for n in range(60)]
    with pytest.raises(InvalidCode):
        survey(zip_of(*deep, *files("l60/x")))


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_pipes_and_sockets_are_refused(kind):
    with pytest.raises(InvalidCode, match="neither a file"):
        survey(zip_of(Lie(name=b"null", mode=kind | 0o666)))


@pytest.mark.parametrize("flags", [0x1, 0x41, 0x2001])
def test_an_encrypted_entry_is_refused(flags):
    with pytest.raises(InvalidCode, match="encrypted"):
        survey(zip_of(Lie(name=b"a", content=b"x", flags=flags)))


@pytest.mark.parametrize("method", [1, 6, 9, 12, 14, 93, 99])
def test_an_unknown_compression_is_refused(method):
    with pytest.raises(InvalidCode, match=f"method {method}"):
        survey(zip_of(Lie(name=b"a", content=b"x", method=method, local_method=method)))


BROKEN = {
    "nothing": b"",
    "text": b"hello",
    "half": named("a.py", "b.py")[: len(named("a.py", "b.py")) // 2],
    "last byte missing": named("a.py")[:-1],
    "something behind": named("a.py") + b"x",
    "more entries than counted": zip_of(*files("a", "b"), count=1),
    "fewer entries than counted": zip_of(*files("a", "b"), count=3),
    "directory too long": zip_of(*files("a"), directory_size=40),
    "directory too short": zip_of(*files("a"), directory_size=50),
    "directory beyond the file": zip_of(*files("a"), directory_offset=10_000),
    "directory larger than the file": zip_of(*files("a"), directory_size=10_000),
    "another disk": zip_of(Lie(name=b"a", disk=3)),
    "header beyond the file": zip_of(Lie(name=b"a", header=10_000)),
    "header in the middle": zip_of(Lie(name=b"a", content=b"x", header=3)),
    "another name in front": zip_of(Lie(name=b"good.py", local_name=b"evil.py")),
    "another method in front": zip_of(Lie(name=b"a", content=b"x", local_method=0)),
    "longer than the file": zip_of(Lie(name=b"a", content=b"x", packed_size=5000)),
    "two sizes": zip_of(Lie(name=b"a", content=b"xy", method=0, size=5)),
    "two entries, one body": zip_of(Lie(name=b"a", content=b"x"), Lie(name=b"a", content=b"x", header=0)),
    "a directory with contents": zip_of(Lie(name=b"d/", content=b"x", mode=0o40755)),
    "a size that is missing": zip_of(Lie(name=b"a", size=0xFFFFFFFF)),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_an_archive_that_contradicts_itself_is_refused(data):
    with pytest.raises(InvalidCode):
        survey(data)


def test_entries_that_share_bytes_are_refused():
    kernel = zip_of(Lie(name=b"b", content=b"x" * 1000))
    body = kernel[: kernel.index(b"PK\1\2")]
    data = zip_of(Lie(name=b"a", content=body, method=0), Lie(name=b"b", content=b"x" * 1000, header=31))
    with pytest.raises(InvalidCode, match="overlap"):
        survey(data)


def test_declared_sizes_are_summed_up():
    with pytest.raises(TooLarge, match="Unzipped size must be smaller than 1048576 bytes") as refused:
        survey(zip_of(*(Lie(name=f"{n}".encode(), size=MIB // 2) for n in range(3))), unpacked_bytes_max=MIB)
    assert refused.value.limit_bytes == MIB
    assert refused.value.actual_bytes == MIB // 2 * 3


def test_a_size_in_64_bits_is_summed_up_too():
    extra = struct.pack("<2HQ", 1, 8, 2**40)
    with pytest.raises(TooLarge):
        survey(zip_of(Lie(name=b"a", size=0xFFFFFFFF, extra=extra)))


LIARS = {
    "larger than it says": Lie(name=b"a", content=bytes(50 * MIB), size=1000),
    "larger by one": Lie(name=b"a", content=b"abc", size=2),
    "smaller than it says": Lie(name=b"a", content=b"abc", size=4),
    "wrong checksum": Lie(name=b"a", content=b"abc", crc=1),
    "cut off": Lie(name=b"a", content=bytes(range(256)) * 9, packed_size=100),
    "something behind": Lie(name=b"a", content=b"abc", after=b"behind", packed_size=11),
    "a whole piece behind": Lie(name=b"a", content=b"abc", after=bytes(3 * MIB), packed_size=5 + 3 * MIB),
    "no deflate at all": Lie(name=b"a", content=b"", method=8, after=b"\xff" * 20, packed_size=22),
}


@pytest.mark.parametrize("entry", LIARS.values(), ids=LIARS)
def test_contents_are_what_was_declared_or_nothing(entry):
    data = zip_of(entry)
    plan = survey(data)
    written = 0
    with pytest.raises(InvalidCode):
        for piece in contents(data, plan.entries[0]):
            written += len(piece)
    assert written <= plan.unpacked_bytes


def test_too_many_entries_are_refused():
    assert len(survey(named(*(str(n) for n in range(20))), entries_max=20).entries) == 20
    with pytest.raises(InvalidCode, match="entries"):
        survey(named(*(str(n) for n in range(21))), entries_max=20)


def test_directories_that_only_paths_name_are_counted():
    with pytest.raises(InvalidCode, match="more than 20 files and directories"):
        survey(named("/".join("abcdefghijklmnopqrstuvwxyz")), entries_max=20)


def test_a_hostile_name_is_shown_harmlessly():
    with pytest.raises(InvalidCode) as refused:
        survey(named("../\x1b[31m\n" + "온" * 500))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


def test_an_archive_of_several_disks_is_refused():
    data = bytearray(named("a.py"))
    end = data.rindex(b"PK\5\6")
    data[end + 4] = 1
    with pytest.raises(InvalidCode, match="several"):
        survey(bytes(data))


def test_a_stored_archive_inside_an_archive_is_just_a_file():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("inner.zip", named("a.py"))
    assert [entry.path for entry in survey(made.getvalue()).entries] == ["inner.zip"]
