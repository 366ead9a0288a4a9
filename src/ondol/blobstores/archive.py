"""Zip archives, hostile until proven. Pure: bytes in, a plan out; nothing is written here, and no clock or disk is read.

`survey` reads the whole central directory and every local header before anything is unpacked, and refuses what could write
outside the target, be read in two ways, or grow beyond its bounds. `contents` then yields one entry's bytes and never more
than the survey promised.

Refused: names that are absolute, climb (`..`), hold a drive letter, a backslash or NUL, are not UTF-8, or are too long; a
path that is there twice, or is a file and a directory; links that leave the archive, also by way of other links; devices,
pipes, sockets; encryption, split archives and methods other than stored and deflate; entries that share bytes; a directory
that does not say the same as the entries; more bytes or entries than the limits.
"""

from __future__ import annotations

import calendar
import re
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

from ondol.model.errors import InvalidCode, TooLarge
from ondol.model.limits import CODE_ENTRIES_MAX, CODE_UNPACKED_BYTES_MAX

#: One path's bytes and one component's: what Linux takes, with room for the target's own path.
PATH_BYTES_MAX: Final = 3000
NAME_BYTES_MAX: Final = 255
LINK_BYTES_MAX: Final = 1024
#: Links followed while proving that a link stays inside; the kernel gives up at 40 too.
LINK_HOPS_MAX: Final = 40
#: Path components walked for all links together: bounds the time a survey takes.
LINK_STEPS_MAX: Final = 2_000_000
#: Bytes handed over at a time.
PIECE_BYTES: Final = 1024 * 1024

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _PATCHED, _STRONG, _UTF8, _MASKED = 0x1, 0x20, 0x40, 0x800, 0x2000
_ZIP64_EXTRA, _TIME_EXTRA = 0x0001, 0x5455
_ALL16, _ALL32 = 0xFFFF, 0xFFFFFFFF
_NO_MODE = 0xFFFF


class What(Enum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One entry that was found good, as it will be unpacked."""

    what: What
    #: Relative, '/'-separated, without '.', '..' or empty components.
    path: str
    #: Permission bits; links have none.
    mode: int
    modified_s: int
    size_bytes: int
    crc: int
    #: Where its packed bytes lie in the archive.
    start: int
    packed_bytes: int
    deflated: bool
    #: Where a link points, as written in it.
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A whole archive that was found good. Directories that only other entries' paths name are in no entry."""

    entries: Sequence[Planned]
    unpacked_bytes: int


@dataclass(frozen=True, slots=True)
class _Record:
    """An entry as the central directory tells it."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    header: int
    mode: int
    date: int
    time: int
    extra: bytes


#: A directory as a tree: names to subdirectories, links, or None for a file.
_Tree = dict[str, "_Tree | str | None"]


def survey(data: bytes, *, unpacked_bytes_max: int = CODE_UNPACKED_BYTES_MAX, entries_max: int = CODE_ENTRIES_MAX) -> Survey:
    """What `data` will unpack to. Raises InvalidCode or TooLarge."""
    directory, count, size, shift = _directory(data)
    if count > entries_max:
        raise InvalidCode(f"The archive has {count} entries; at most {entries_max} are taken.")
    entries, ends, total = [], [], 0
    tree: _Tree = {}
    nodes = 0
    for record in _records(data[directory : directory + size], count):
        total += record.size_bytes
        if total > unpacked_bytes_max:
            message = f"Unzipped size must be smaller than {unpacked_bytes_max} bytes"
            raise TooLarge(message, limit_bytes=unpacked_bytes_max, actual_bytes=total)
        entry, start = _plan(data, record, record.header + shift, directory)
        nodes += _plant(tree, entry)
        if nodes > entries_max:
            raise InvalidCode(f"The archive has more than {entries_max} files and directories.")
        entries.append(entry)
        ends.append((start, entry.start + entry.packed_bytes))
    _check_apart(ends)
    _check_links(tree, entries)
    return Survey(entries=entries, unpacked_bytes=total)


def contents(data: bytes, entry: Planned) -> Iterator[bytes]:
    """The entry's bytes, in pieces; raises InvalidCode as soon as they are not what the archive says they are."""
    packed = memoryview(data)[entry.start : entry.start + entry.packed_bytes]
    crc, size = 0, 0
    for piece in _inflate(packed, entry) if entry.deflated else _pieces(packed):
        size += len(piece)
        if size > entry.size_bytes:
            raise InvalidCode(f"{_shown(entry.path)} is larger than the archive says.")
        crc = zlib.crc32(piece, crc)
        yield piece
    if size != entry.size_bytes:
        raise InvalidCode(f"{_shown(entry.path)} is shorter than the archive says.")
    if crc != entry.crc:
        raise InvalidCode(f"{_shown(entry.path)} is damaged: its checksum is wrong.")


# The central directory -------------------------------------------------------------------------------------------------
def _directory(data: bytes) -> tuple[int, int, int, int]:
    """Where the central directory lies, its entries and bytes, and by how much the archive's offsets are off.

    They are off when something stands in front of the archive (a self-extractor's or an interpreter's line); all by the same.
    """
    end = _end(data)
    _, disk, first_disk, here, count, size, offset, _ = _END.unpack_from(data, end)
    limit = end
    if end >= _END64_LOCATOR.size and data[end - _END64_LOCATOR.size :].startswith(b"PK\x06\x07"):
        limit = end - _END64_LOCATOR.size - _END64.size
        if limit < 0 or not data.startswith(b"PK\x06\x06", limit):
            raise InvalidCode("The archive's end record is damaged.")
        _, _, _, _, disk, first_disk, here, count, size, offset = _END64.unpack_from(data, limit)
    if disk or first_disk or here != count:
        raise InvalidCode("The archive is one part of several: upload it as one file.")
    directory = limit - size
    shift = directory - offset
    if directory < 0 or shift < 0:
        raise InvalidCode("The archive's directory does not lie where its end record says.")
    return directory, count, size, shift


def _end(data: bytes) -> int:
    """The end record: the last one whose comment ends with the file."""
    at = len(data) - _END.size + 1
    lowest = max(0, len(data) - _END.size - _ALL16)
    while (at := data.rfind(b"PK\x05\x06", lowest, at + 3)) >= 0:
        if at + _END.size + _END.unpack_from(data, at)[-1] == len(data):
            return at
    raise InvalidCode("This is not a zip archive, or its end is missing.")


def _records(directory: bytes, count: int) -> Iterator[_Record]:
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise InvalidCode("The archive's directory is cut off.")
        fields = _CENTRAL.unpack_from(directory, at)
        (signature, _, _, _, _, flags, method, time, date, crc, packed, size) = fields[:12]
        (name_bytes, extra_bytes, comment_bytes, disk, _, attributes, header) = fields[12:]
        if signature != b"PK\x01\x02":
            raise InvalidCode("The archive's directory is damaged.")
        at += _CENTRAL.size
        name = directory[at : at + name_bytes]
        extra = directory[at + name_bytes : at + name_bytes + extra_bytes]
        at += name_bytes + extra_bytes + comment_bytes
        if at > len(directory):
            raise InvalidCode("The archive's directory is cut off.")
        size, packed, header = _widened(extra, size, packed, header)
        if disk not in {0, _ALL16}:
            raise InvalidCode("The archive is one part of several: upload it as one file.")
        yield _Record(name, flags, method, crc, packed, size, header, _recorded(attributes >> 16), date, time, extra)
    if at != len(directory):
        raise InvalidCode("The archive's directory holds more than its end record says.")


def _recorded(mode: int) -> int:
    """Zero, which is none, for minus one: Maven's tools write that where they know no mode, in every jar."""
    return 0 if mode == _NO_MODE else mode


def _widened(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """The three numbers, taken from the zip64 field where they do not fit."""
    field = _field(extra, _ZIP64_EXTRA)
    values, at = [], 0
    for value in (size, packed, header):
        if value == _ALL32:
            if at + 8 > len(field):
                raise InvalidCode("The archive's directory is damaged: a size is missing.")
            value = int.from_bytes(field[at : at + 8], "little")  # noqa: PLW2901 - one number, in the width it needs
            at += 8
        values.append(value)
    return values[0], values[1], values[2]


def _field(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return b""


# One entry ---------------------------------------------------------------------------------------------------------------
def _plan(data: bytes, record: _Record, header: int, directory: int) -> tuple[Planned, int]:
    """The entry as it will be unpacked, and where its local header starts."""
    name = _text(record.name)
    if record.flags & (_ENCRYPTED | _STRONG | _MASKED):
        raise InvalidCode(f"{_shown(name)} is encrypted.")
    if record.method not in {_STORED, _DEFLATED} or record.flags & _PATCHED:
        raise InvalidCode(f"{_shown(name)} is compressed by method {record.method}; 'stored' and 'deflate' are read.")
    if record.method == _STORED and record.packed_bytes != record.size_bytes:
        raise InvalidCode(f"{_shown(name)} has two sizes.")
    start = _start(data, record, header, directory)
    what = _what(name, record)
    entry = Planned(
        what=what,
        path=_path(name),
        mode=_mode(what, record.mode),
        modified_s=_modified_s(record),
        size_bytes=record.size_bytes,
        crc=record.crc,
        start=start,
        packed_bytes=record.packed_bytes,
        deflated=record.method == _DEFLATED,
    )
    return (_with_target(data, entry) if what is What.LINK else entry), header


def _start(data: bytes, record: _Record, header: int, directory: int) -> int:
    """Where the packed bytes start: the local header must be there, say the same, and end before the directory."""
    if header + _LOCAL.size > directory:
        raise InvalidCode(f"{_shown(_text(record.name))} does not lie inside the archive.")
    signature, _, flags, method, *_, name_bytes, extra_bytes = _LOCAL.unpack_from(data, header)
    start: int = header + _LOCAL.size + name_bytes + extra_bytes
    name = data[header + _LOCAL.size : header + _LOCAL.size + name_bytes]
    if signature != b"PK\x03\x04" or name != record.name or method != record.method or flags & _ENCRYPTED:
        raise InvalidCode(f"{_shown(_text(record.name))} is described in two different ways.")
    if start + record.packed_bytes > directory:
        raise InvalidCode(f"{_shown(_text(record.name))} does not lie inside the archive.")
    return start


def _text(name: bytes) -> str:
    """Names are UTF-8, flagged so or not: that is what tools on Linux and macOS write. Nothing else is guessed at."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidCode(f"{name!r}: the name is not UTF-8; make the archive with a tool that writes UTF-8.") from error


def _what(name: str, record: _Record) -> What:
    kind = stat.S_IFMT(record.mode)
    named_directory = name.endswith("/")
    if kind == stat.S_IFLNK and not named_directory:
        return What.LINK
    if kind == stat.S_IFDIR or (named_directory and kind in {0, stat.S_IFREG}):
        if record.size_bytes:
            raise InvalidCode(f"{_shown(name)} is a directory with contents.")
        return What.DIRECTORY
    if kind not in {0, stat.S_IFREG}:
        raise InvalidCode(f"{_shown(name)} is neither a file, a directory nor a link.")
    return What.FILE


def _path(name: str) -> str:
    """The name without what changes nothing ('a//b', './a'); refused if it could mean a place outside."""
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise InvalidCode(f"{_shown(name)}: the name is absolute; names are relative to the function's root.")
    if "\\" in name or "\0" in name:
        raise InvalidCode(f"{_shown(name)}: the name holds a backslash or NUL; separate directories by '/'.")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise InvalidCode(f"{_shown(name)}: the name climbs out of its directory.")
    path = "/".join(parts)
    too_long = any(len(part) * 4 > NAME_BYTES_MAX and len(part.encode()) > NAME_BYTES_MAX for part in parts)
    if too_long or len(path.encode()) > PATH_BYTES_MAX:
        raise InvalidCode(f"{_shown(name)}: the name is longer than a file's may be.")
    if not path and not name.endswith(("/", ".")):
        raise InvalidCode("An entry has no name.")
    return path


def _mode(what: What, mode: int) -> int:
    """Permission bits for a tree that another user reads: what the owner may read or run, everybody may.

    Write permission is not spread, set-user-id and its kin are dropped, and an entry without a mode gets the usual one.
    """
    if what is What.DIRECTORY:
        return 0o755
    if mode == 0:
        return 0o644
    readable = mode & 0o500
    return (mode & 0o777) | readable >> 3 | readable >> 6


def _modified_s(record: _Record) -> int:
    """Seconds since the epoch. The classic field has no zone: read as UTC, so that unpacking twice gives the same tree."""
    field = _field(record.extra, _TIME_EXTRA)
    if len(field) >= 5 and field[0] & 1:
        return int.from_bytes(field[1:5], "little")
    date, time = record.date, record.time
    day, month = max(1, date & 31), min(12, max(1, date >> 5 & 15))
    parts = ((date >> 9) + 1980, month, day, time >> 11, time >> 5 & 63, (time & 31) * 2)
    return min(calendar.timegm(parts), _ALL32)


# Together -----------------------------------------------------------------------------------------------------------------
def _plant(tree: _Tree, entry: Planned) -> int:
    """Puts the entry where it belongs; how many files and directories that made. Refuses a second owner of a path."""
    *above, name = entry.path.split("/")
    made = 0
    if not entry.path:  # the root itself: './'
        if entry.what is not What.DIRECTORY:
            raise InvalidCode("An entry has no name.")
        return 0
    for part in above:
        if part not in tree:
            made += 1
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InvalidCode(f"{_shown(entry.path)}: a directory above it is also a file or a link.")
        tree = inner
    if name not in tree:
        tree[name] = {} if entry.what is What.DIRECTORY else entry.target if entry.what is What.LINK else None
        return made + 1
    if entry.what is not What.DIRECTORY or not isinstance(tree[name], dict):
        raise InvalidCode(f"{_shown(entry.path)} is in the archive twice.")
    return made  # a directory named twice is harmless


def _check_apart(ranges: list[tuple[int, int]]) -> None:
    """No byte belongs to two entries: that is how a small archive pretends to be a large one."""
    ranges.sort()
    for (_, end), (start, _) in pairwise(ranges):
        if start < end:
            raise InvalidCode("Entries of the archive overlap.")


def _with_target(data: bytes, entry: Planned) -> Planned:
    if not 0 < entry.size_bytes <= LINK_BYTES_MAX:
        raise InvalidCode(f"{_shown(entry.path)} is a link to nowhere.")
    target = _text(b"".join(contents(data, entry)))
    if target.startswith("/") or "\0" in target or "\\" in target:
        raise InvalidCode(f"{_shown(entry.path)} links to {_shown(target)}, outside the archive.")
    return Planned(
        what=What.LINK,
        path=entry.path,
        mode=0,
        modified_s=entry.modified_s,
        size_bytes=entry.size_bytes,
        crc=entry.crc,
        start=entry.start,
        packed_bytes=entry.packed_bytes,
        deflated=entry.deflated,
        target=target,
    )


def _check_links(tree: _Tree, entries: Sequence[Planned]) -> None:
    steps = 0
    for entry in entries:
        if entry.what is What.LINK:
            steps += _check_inside(tree, entry)
            if steps > LINK_STEPS_MAX:
                raise InvalidCode("The archive's links lead through too many others.")


def _check_inside(tree: _Tree, entry: Planned) -> int:
    """Walks the link as the kernel would, through the archive's other links, and refuses where it leaves the root.

    Returns how many steps that took.
    """
    above = [tree]
    for part in entry.path.split("/")[:-1]:
        inner = above[-1][part]
        assert isinstance(inner, dict)
        above.append(inner)
    ahead = [*reversed(entry.target.split("/"))]
    hops, steps = 1, 0
    while ahead:
        steps += 1
        part = ahead.pop()
        if part == "..":
            above.pop()
            if not above:
                raise InvalidCode(f"{_shown(entry.path)} links to {_shown(entry.target)}, outside the archive.")
        elif part not in {"", "."}:
            found = above[-1].get(part)
            if isinstance(found, str):
                hops += 1
                ahead += reversed(found.split("/"))
            else:
                # A file, or nothing: what follows can only be '..', and that is counted as if it were a directory.
                above.append(found if isinstance(found, dict) else {})
        if hops > LINK_HOPS_MAX:
            raise InvalidCode(f"{_shown(entry.path)} links in a circle, or through too many other links.")
    return steps


# Bytes ----------------------------------------------------------------------------------------------------------------------
def _pieces(packed: memoryview) -> Iterator[bytes]:
    for at in range(0, len(packed), PIECE_BYTES):
        yield bytes(packed[at : at + PIECE_BYTES])


def _inflate(packed: memoryview, entry: Planned) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in _pieces(packed):
            if inflater.eof:
                raise InvalidCode(f"{_shown(entry.path)} has bytes behind its end.")
            ahead = piece
            while ahead:
                yield inflater.decompress(ahead, PIECE_BYTES)
                ahead = inflater.unconsumed_tail
        while not inflater.eof and (made := inflater.decompress(b"", PIECE_BYTES)):
            yield made
    except zlib.error as error:
        raise InvalidCode(f"{_shown(entry.path)} is damaged: {error}.") from error
    if inflater.unused_data:
        raise InvalidCode(f"{_shown(entry.path)} has bytes behind its end.")
    if not inflater.eof:
        raise InvalidCode(f"{_shown(entry.path)} is cut off.")


def _shown(name: str) -> str:
    """A hostile name, fit for a message."""
    text = name.encode("unicode_escape").decode("ascii")
    return f"'{text[:120]}…'" if len(text) > 120 else f"'{text}'"
