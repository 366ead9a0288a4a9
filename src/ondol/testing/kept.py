"""What takes long to make and never changes, in the checkout's cache: made once for all processes and runs."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: Of what comes from registries and compilers.
CACHE: Final = Path(__file__).resolve().parents[3] / ".cache" / "clients"
_READY: Final = "made"


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name, which `make` fills where it is not there whole. What `make` raises leaves none."""
    folder = CACHE / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another may be at it
        if not (folder / _READY).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / _READY).touch()
    return folder
