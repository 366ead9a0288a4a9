"""Code in a folder: `ondol.blobs.Blobs` for one node.

It only names places and passes work on: whatever reads an archive or removes a tree runs in the helper process (`Helper` in
worker.py, or anything with its `call`), so that the desk's loop never waits for a disk or an inflating zip.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ondol.clock import Clock, SystemClock
from ondol.model.functions import Code

#: What the helper must be able to do for a folder of blobs.
JOBS: Final[Mapping[str, str]] = {
    "blobs.take": "ondol.blobstores.tree:take",
    "blobs.merge": "ondol.blobstores.tree:merge",
    "blobs.sweep": "ondol.blobstores.tree:sweep",
}
#: A blob this young may belong to a deploy that is not in the catalog yet.
UNNAMED_S_MAX: Final = 3600.0


def merged(sha256: str, codes: Sequence[Code]) -> Code:
    """What is known of a tree that was made of several."""
    return Code(
        sha256=sha256,
        zipped_bytes=sum(code.zipped_bytes for code in codes),
        unpacked_bytes=sum(code.unpacked_bytes for code in codes),
        asks=tuple(sorted({name for code in codes for name in code.asks})),
        minds=any(code.minds for code in codes),
        extensions=tuple(sorted({name for code in codes for name in code.extensions})),
    )


class FolderBlobs:
    """`shelf` holds SHA256/archive.zip and SHA256/tree; `scratch` is on the same filesystem and emptied at start."""

    def __init__(self, shelf: Path, scratch: Path, call: Callable[..., Awaitable[Any]], *, clock: Clock | None = None) -> None:
        self._shelf = shelf
        self._scratch = scratch
        self._call = call
        self._clock = clock or SystemClock()

    async def take(self, archive: Path) -> Code:
        places = {"archive": str(archive), "shelf": str(self._shelf), "scratch": str(self._scratch)}
        found = await self._call("blobs.take", **places)
        return Code(**{**found, "asks": tuple(found["asks"]), "extensions": tuple(found["extensions"])})

    async def merge(self, codes: Sequence[Code]) -> Code:
        places = {"shelf": str(self._shelf), "scratch": str(self._scratch)}
        sha256: str = await self._call("blobs.merge", sha256s=[code.sha256 for code in codes], **places)
        return merged(sha256, codes)

    def tree(self, code: Code) -> Path:
        return self._shelf / code.sha256 / "tree"

    def archive(self, code: Code) -> Path:
        return self._shelf / code.sha256 / "archive.zip"

    async def keep_only(self, sha256s: frozenset[str]) -> int:
        gone: int = await self._call(
            "blobs.sweep",
            shelf=str(self._shelf),
            scratch=str(self._scratch),
            keep=sorted(sha256s),
            older_than_s=self._clock.wall_s() - UNNAMED_S_MAX,
        )
        return gone
