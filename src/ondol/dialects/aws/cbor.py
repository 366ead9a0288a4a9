"""CBOR (RFC 8949), as much of it as the RPC v2 protocol has: numbers, texts, bytes, lists, maps with text keys, epoch times.

Pure. Reading takes definite and indefinite lengths and every width of number; writing gives the shortest form of whole numbers
and doubles for all others. Bounded by its input: nothing is made of a length that the bytes left could not fill, and nothing
nests deeper than DEPTH_MAX. `decode` raises ValueError and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ondol.dialects.aws import scalars

DEPTH_MAX: Final = 64

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_EPOCH_TAG: Final = 1
_INDEFINITE: Final = 31
_BREAK: Final = 0xFF
_SIMPLE_VALUES: Final[Mapping[int, bool | None]] = {20: False, 21: True, 22: None, 23: None}
_FLOATS: Final = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_WIDTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}


def decode(data: bytes) -> Any:
    """The one item that `data` is. Raises ValueError."""
    reader = _Reader(data)
    value = reader.item(0)
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes too many")
    return value


def encode(value: Any) -> bytes:
    """Raises TypeError for what CBOR, or this much of it, has no word for."""
    out = bytearray()
    _write(out, value)
    return bytes(out)


class _Reader:
    """Reads one item after the other."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def item(self, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise ValueError(f"items nest {DEPTH_MAX} deep, and no deeper")
        initial = self.byte()
        kind, info = initial >> 5, initial & 31
        if kind == _SIMPLE:
            return self.simple(info)
        if kind in (_BYTES, _TEXT):
            return self.string(kind, info)
        if kind == _LIST:
            return self.list(info, depth + 1)
        if kind == _MAP:
            return self.map(info, depth + 1)
        number = self.number(info)
        if kind == _TAG:
            return self.tagged(number, depth + 1)
        return number if kind == _UNSIGNED else -1 - number

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("the bytes end too early")
        self.at += 1
        return self.data[self.at - 1]

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ValueError("the bytes end too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, info: int) -> int:
        if info < 24:
            return info
        width = _WIDTHS.get(info)
        if width is None:
            raise ValueError(f"no length: {info}")
        return int.from_bytes(self.take(width))

    def simple(self, info: int) -> Any:
        if info in _SIMPLE_VALUES:
            return _SIMPLE_VALUES[info]
        form = _FLOATS.get(info)
        if form is None:
            raise ValueError(f"no simple value: {info}")
        return form.unpack(self.take(form.size))[0]

    def string(self, kind: int, info: int) -> bytes | str:
        if info == _INDEFINITE:
            parts = []
            while not self.ends():
                initial = self.byte()
                if initial >> 5 != kind or initial & 31 == _INDEFINITE:
                    raise ValueError("a string's part is of another kind")
                parts.append(self.take(self.number(initial & 31)))
            whole = b"".join(parts)
        else:
            whole = self.take(self.number(info))
        return whole.decode() if kind == _TEXT else whole

    def list(self, info: int, depth: int) -> list[Any]:
        if info == _INDEFINITE:
            items = []
            while not self.ends():
                items.append(self.item(depth))
            return items
        return [self.item(depth) for _ in range(self.length(info, 1))]

    def map(self, info: int, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        left = None if info == _INDEFINITE else self.length(info, 2)
        while not self.ends() if left is None else len(made) < left:
            key = self.item(depth)
            if not isinstance(key, str):
                raise ValueError("a map's key is no text")  # noqa: TRY004  # all that is wrong with bytes looks alike
            if key in made:
                raise ValueError(f"a map has the key {key!r} twice")
            made[key] = self.item(depth)
        return made

    def tagged(self, tag: int, depth: int) -> datetime:
        value = self.item(depth)
        if tag != _EPOCH_TAG or isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"no time in seconds: tag {tag}")
        return scalars.timestamp(value)

    def length(self, info: int, item_bytes_min: int) -> int:
        count = self.number(info)
        if count * item_bytes_min > len(self.data) - self.at:
            raise ValueError("the bytes end too early")
        return count

    def ends(self) -> bool:
        """Whether an item of indefinite length is over."""
        if self.at < len(self.data) and self.data[self.at] == _BREAK:
            self.at += 1
            return True
        return False


def _write(out: bytearray, value: Any) -> None:  # noqa: C901  one branch per kind of value
    if value is None:
        out.append(0xF6)
    elif isinstance(value, bool):
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, int):
        _head(out, *((_UNSIGNED, value) if value >= 0 else (_NEGATIVE, -1 - value)))
    elif isinstance(value, float):
        out.append(0xFB)
        out += struct.pack(">d", value)
    elif isinstance(value, str):
        encoded = value.encode()
        _head(out, _TEXT, len(encoded))
        out += encoded
    elif isinstance(value, bytes):
        _head(out, _BYTES, len(value))
        out += value
    elif isinstance(value, datetime):
        _head(out, _TAG, _EPOCH_TAG)
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        seconds = round(aware.timestamp(), 3)
        _write(out, int(seconds) if seconds.is_integer() else seconds)
    elif isinstance(value, Mapping):
        _head(out, _MAP, len(value))
        for key, each in value.items():
            _write(out, key)
            _write(out, each)
    elif isinstance(value, list | tuple):
        _head(out, _LIST, len(value))
        for each in value:
            _write(out, each)
    else:
        raise TypeError(f"CBOR has no word for {type(value).__name__}")


def _head(out: bytearray, kind: int, number: int) -> None:
    """A kind, and its number in as few bytes as it fits in."""
    if number < 24:
        out.append(kind << 5 | number)
        return
    for info, width in _WIDTHS.items():
        if number < 1 << 8 * width:
            out.append(kind << 5 | info)
            out += number.to_bytes(width)
            return
    raise TypeError(f"a number of more than 64 bits: {number}")
