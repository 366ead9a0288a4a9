"""What an archive's sources ask for, and whether they would mind that it was imported before them. Pure; runs in the helper.

A zygote may have sets of modules ready that many functions import: "sdk" is boto3 and botocore, with what these import. Whoever
brings a copy of any of it, or bends where modules come from, must find an interpreter that has imported none of it. Where it is
not plain that nothing of the kind happens, it counts as if it did: that costs time, the other way round would change what the
function sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ondol.blobstores.archive import Planned, What, contents

#: By set of modules, what a source imports that wants it.
_ASKING: Final = {"sdk": re.compile(rb"^[ \t]*(?:import|from)[ \t]+boto3\b", re.MULTILINE)}
#: Names that nobody may bring, in whatever folder: what is imported ahead, what takes its place, and what changes modules that
#: it uses and therefore wants to come first.
_BROUGHT: Final = frozenset(
    {"boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six", "awscrt", "gevent", "eventlet"}
)
#: Sources that look at, or change, what is imported and from where; or that reset loggers which exist before they do.
_BENDING: Final = re.compile(
    rb"sys\s*\.\s*(?:path|modules|meta_path)|\b(?:addsitedir|__import__|import_module|monkey|dictConfig|fileConfig)\b"
)
#: Archives in archives, and files that say where to find more.
_NESTED: Final = (".zip", ".whl", ".egg", ".pth")
#: More than this is not looked at, and counts as minding.
SOURCES_MAX: Final = 400
SOURCES_BYTES_MAX: Final = 4 << 20


def looked_at(data: bytes, entries: Iterable[Planned]) -> dict[str, Any]:
    """`asks`, `minds` and `extensions` of a `Code`, for the archive `data` with these entries."""
    entries = list(entries)
    asks: set[str] = set()
    minds = False
    for source in _sources(data, entries):
        if source is None or _BENDING.search(source):
            minds = True
        if source is not None:
            asks |= {name for name, asking in _ASKING.items() if asking.search(source)}
    return {"asks": sorted(asks), "minds": minds, "extensions": sorted(_extensions(entries))}


def _extensions(entries: Iterable[Planned]) -> Iterator[str]:
    """What stands in extensions/ itself and is no directory."""
    for entry in entries:
        folder, _, name = entry.path.partition("/")
        if folder == "extensions" and name and "/" not in name and entry.what in (What.FILE, What.LINK):
            yield name


def _sources(data: bytes, entries: Iterable[Planned]) -> Iterator[bytes | None]:
    """Each Python source; None for what is not looked into, or need not be."""
    count = size = 0
    for entry in entries:
        stems = {part.partition(".")[0].partition("-")[0] for part in entry.path.split("/")}
        if entry.what is What.LINK or stems & _BROUGHT or entry.path.endswith(_NESTED):
            yield None
        elif entry.what is What.FILE and entry.path.endswith(".pyc"):
            yield None  # it may be imported without its source
        elif entry.what is What.FILE and entry.path.endswith(".py"):
            count, size = count + 1, size + entry.size_bytes
            if count > SOURCES_MAX or size > SOURCES_BYTES_MAX:
                yield None
                return
            yield b"".join(contents(data, entry))
