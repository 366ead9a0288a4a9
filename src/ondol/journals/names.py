"""What things of the log store are called: directories for any name, ids for entries.

Pure, but for a long name, which is read from its group's file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote, unquote

from ondol.journals.about import read_about
from ondol.model.errors import Invalid

#: A directory's name may have 255 bytes; longer group names keep their start and end in a digest.
_NAME_BYTES_MAX = 200


def safe(name: str) -> str:
    """A directory's name for any text: readable where possible, never '.', '..' or hidden, and unique."""
    quoted = quote(name, safe="", errors="replace").replace("~", "%7E") or "%"
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) <= _NAME_BYTES_MAX:
        return quoted
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32]
    return f"{quoted[: _NAME_BYTES_MAX - 40]}~{digest}"


def name_of(folder: Path) -> str:
    """The group's name again."""
    return read_about(folder).name if "~" in folder.name else unquote(folder.name)


def identity(order: tuple[int, int]) -> str:
    """An entry's id: its time and its place; as text it sorts as the numbers do."""
    return f"{order[0]:015d}{order[1]:020d}"


def place(identity: str) -> tuple[int, int]:
    """Time and place again. Raises Invalid."""
    if len(identity) != 35 or not identity.isascii() or not identity.isdecimal():
        raise Invalid(f"{identity[:60]!r} is not the id of a log entry")
    return int(identity[:15]), int(identity[15:])
