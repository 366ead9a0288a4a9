"""Zip archives as no honest tool writes them: every field can be a lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Lie:
    """One entry; what is None is told truly."""

    name: bytes
    content: bytes = b""
    mode: int = 0o100644
    flags: int = 0
    method: int = 8
    date: int = 0x5C22
    time: int = 0
    extra: bytes = b""
    size: int | None = None
    packed_size: int | None = None
    crc: int | None = None
    local_name: bytes | None = None
    local_method: int | None = None
    header: int | None = None
    disk: int = 0
    after: bytes = b""


def zip_of(
    *entries: Lie,
    prefix: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    directory_size: int | None = None,
    directory_offset: int | None = None,
) -> bytes:
    """The archive; offsets are counted from the end of `prefix`."""
    body, directory = b"", b""
    for entry in entries:
        packed = _packed(entry)
        size = len(entry.content) if entry.size is None else entry.size
        packed_size = len(packed) if entry.packed_size is None else entry.packed_size
        crc = zlib.crc32(entry.content) if entry.crc is None else entry.crc
        header = len(body) if entry.header is None else entry.header
        local_name = entry.name if entry.local_name is None else entry.local_name
        local_method = entry.method if entry.local_method is None else entry.local_method
        when = (entry.time, entry.date, crc, packed_size, size)
        body += struct.pack("<4s3H2H3L2H", b"PK\3\4", 20, entry.flags, local_method, *when, len(local_name), 0)
        body += local_name + packed + entry.after
        directory += struct.pack("<4s4H2H3L", b"PK\1\2", 0x31E, 20, entry.flags, entry.method, *when)
        lengths = (len(entry.name), len(entry.extra), 0, entry.disk, 0)
        directory += struct.pack("<5H2L", *lengths, entry.mode << 16, header) + entry.name + entry.extra
    number = len(entries) if count is None else count
    end = struct.pack(
        "<4s4H2LH",
        b"PK\5\6",
        0,
        0,
        number,
        number,
        len(directory) if directory_size is None else directory_size,
        len(body) if directory_offset is None else directory_offset,
        len(comment),
    )
    return prefix + body + directory + end + comment


def link(name: str, target: str) -> Lie:
    """A symbolic link."""
    return Lie(name=name.encode(), content=target.encode(), mode=0o120777)


def files(*names: str) -> Sequence[Lie]:
    """Small honest files."""
    return [Lie(name=name.encode(), content=name.encode()) for name in names]


def _packed(entry: Lie) -> bytes:
    if entry.method == 0:
        return entry.content
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(entry.content) + deflater.flush()
