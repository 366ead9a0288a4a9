"""Which segments have been kept long enough: by their group's age, and, the oldest first, by the size of all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ondol.journals.about import read_about
from ondol.journals.group import JournalLimits

_DAY_S: Final = 86_400.0


def stale(root: Path, limits: JournalLimits, now_s: float) -> Sequence[Path]:
    """The files to remove. A segment is as old as its last line."""
    found: list[tuple[float, int, Path, float]] = []
    for folder in root.glob("*/*/[!.]*"):
        with suppress(OSError):  # dropped meanwhile
            paths = list(folder.glob("*.log*"))
            days = read_about(folder).settings.retention_days if paths else None
            ends_s = now_s - (limits.age_s_max if days is None else days * _DAY_S)
            for path in paths:
                with suppress(FileNotFoundError):  # packed meanwhile
                    state = path.stat()
                    found.append((state.st_mtime, state.st_size, path, ends_s))
    found.sort()
    total = sum(size for _, size, _, _ in found)
    removed = []
    for modified_s, size, path, ends_s in found:
        if modified_s < ends_s or total > limits.journal_bytes_max:
            removed.append(path)
            total -= size
    return removed
