"""What changes in the files that are deployed, as batches of names; by watchfiles, which asks the kernel.

What is never deployed is never told of, and neither is what editors leave beside a file for a moment. `.gitignore` is not read:
what git ignores is often just what is to be deployed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ondol.cli import package
from ondol.cli.shape import Exit, Failure

#: Changes that follow each other within this are one batch; a batch is told of after at most the second.
STEP_MS: Final = 25
BATCH_MS_MAX: Final = 250
#: How soon the end is noticed.
GLANCE_MS: Final = 500
#: Swap files, backups and lock files of editors, and vim's probe.
_LITTER: Final = re.compile(r".*~|\.#.*|\..*\.sw.|.*\.swp|4913|.*___jb_.*|\.DS_Store|#.*#")


def batches(path: Path, stop: threading.Event) -> Iterator[frozenset[str]]:
    """Names of what changed below a folder, or the name of a file, until `stop` is set. Raises Failure."""
    import watchfiles  # its loading costs more than most commands take

    root = path.resolve()
    folder = root.is_dir()
    wanted = _below(root) if folder else _only(root)
    if not root.parent.is_dir():
        raise Failure(Exit.REFUSED, f"{path} cannot be watched: there is no folder {root.parent}.")
    try:
        for found in watchfiles.watch(
            root if folder else root.parent,
            watch_filter=wanted,
            step=STEP_MS,
            debounce=BATCH_MS_MAX,
            rust_timeout=GLANCE_MS,
            recursive=folder,
            stop_event=stop,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            base = root if folder else root.parent
            yield frozenset(Path(changed).relative_to(base).as_posix() for _, changed in found)
    except OSError as error:
        mend = (
            "raise fs.inotify.max_user_watches, or deploy a smaller folder" if "limit" in str(error) else "is it still there?"
        )
        raise Failure(Exit.REFUSED, f"{path} cannot be watched: {error}: {mend}.") from None


def _below(root: Path) -> Callable[[object, str], bool]:
    def wanted(_: object, changed: str) -> bool:
        parts = Path(changed).relative_to(root).parts
        if not parts or package.EXCLUDED_DIRECTORIES.intersection(parts):
            return False
        return not parts[-1].endswith(package.EXCLUDED_SUFFIXES) and not _LITTER.fullmatch(parts[-1])

    return wanted


def _only(file: Path) -> Callable[[object, str], bool]:
    name = str(file)
    return lambda _, changed: changed == name
