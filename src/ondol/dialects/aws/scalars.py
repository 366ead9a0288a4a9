"""Scalars between their texts on the wire and Python: timestamps in AWS's three formats, numbers, booleans, base64.

Pure. Raises ValueError for what cannot be read; the codec says where it stood.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

#: botocore's names of the formats.
EPOCH = "unixTimestamp"
ISO = "iso8601"
HTTP = "rfc822"

INTEGERS = frozenset({"integer", "long", "short", "byte"})
FLOATS = frozenset({"float", "double", "bigdecimal"})
#: Beyond these a timestamp is a mistake, and datetime cannot hold it.
_EPOCH_S_MIN, _EPOCH_S_MAX = -62_135_596_800, 253_402_300_799


def from_text(kind: str, text: str) -> Any:
    """A scalar of a uri, query string or header."""
    if kind in INTEGERS:
        return int(text)
    if kind in FLOATS:
        return float(text)
    if kind == "boolean":
        return _boolean(text)
    if kind == "timestamp":
        return timestamp(text)
    if kind == "blob":
        return blob(text)
    return text


def to_text(kind: str, value: Any, timestamp_format: str | None = None) -> str:
    """What `from_text` reads."""
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp":
        return str(from_timestamp(value, timestamp_format or ISO))
    if kind == "blob":
        return base64.b64encode(value).decode()
    return str(value)


def blob(text: str) -> bytes:
    """Base64 with AWS's tolerance: whitespace is passed over, padding may be missing."""
    squeezed = "".join(text.split())
    padded = squeezed + "=" * (-len(squeezed) % 4)
    try:
        return base64.b64decode(padded, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def timestamp(value: str | float) -> datetime:
    """Seconds since the epoch, ISO 8601 or an HTTP date, as an aware datetime."""
    try:
        seconds = float(value)
    except ValueError:
        return _date(str(value))
    if not _EPOCH_S_MIN <= seconds <= _EPOCH_S_MAX:
        raise ValueError(f"no time: {value}")
    return datetime.fromtimestamp(seconds, UTC)


def from_timestamp(value: datetime | str | float, form: str) -> str | float | int:
    """A time as `form` writes it. A text goes through as it is: some shapes keep one."""
    if isinstance(value, str):
        return value
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if form == EPOCH:
        seconds = round(moment.timestamp(), 3)
        return int(seconds) if seconds.is_integer() else seconds
    if form == HTTP:
        return format_datetime(moment.astimezone(UTC), usegmt=True)
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{moment.microsecond // 1000:03d}Z" if moment.microsecond else f"{text}Z"


def _date(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = parsedate_to_datetime(text)
        except (TypeError, IndexError) as error:
            raise ValueError(f"no time: {text}") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _boolean(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise ValueError(f"no boolean: {text}")
