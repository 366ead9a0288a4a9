"""The port for code: archives named by their SHA-256, and the read-only trees unpacked from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ondol.model.functions import Code


class Blobs(Protocol):
    """Taking the same archive twice is one blob. Raises InvalidCode, TooLarge, OutOfSpace; never leaves half a tree."""

    async def take(self, archive: Path) -> Code:
        """Check, unpack and keep the zip file at `archive` (left in place). Runs in a helper process."""
        ...

    async def merge(self, codes: Sequence[Code]) -> Code:
        """One tree of several: where two have the same path, the later one's is there. It has no archive."""
        ...

    def tree(self, code: Code) -> Path:
        """The unpacked tree's directory; bound read-only into shells."""
        ...

    def archive(self, code: Code) -> Path:
        """The zip file as uploaded."""
        ...

    async def keep_only(self, sha256s: frozenset[str]) -> int:
        """Remove every blob not named and older than an hour; how many went."""
        ...
