"""What a node leaves when it is killed: control groups under its parent, and directories of its shells. Run at start and at the end.

Processes and mounts need no cleaning: they end with the keeper's pid and mount namespaces.
"""

from __future__ import annotations

import os
import subprocess
import time

from ondol.keeper.cgroups import Cgroups

CLEAN_S_MAX = 5.0
_RM = "/bin/rm"


def clean(cgroups: Cgroups, shells: str) -> bool:
    """Remove everything; whether it is gone."""
    deadline = time.monotonic() + CLEAN_S_MAX
    remove_trees([entry.path for entry in _entries(shells)])
    while not cgroups.remove_all():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return not _entries(shells)


def remove_trees(paths: list[str]) -> None:
    """Wait until they are gone. `rm` and not Python: it is quick with trees made to be slow or deep."""
    if paths:
        subprocess.run([_RM, "-rf", "--one-file-system", "--", *paths], check=False, stdin=subprocess.DEVNULL)


def start_removing(path: str) -> int:
    """The pid of a process that removes the tree."""
    return os.posix_spawn(_RM, [_RM, "-rf", "--one-file-system", "--", path], {"PATH": "/usr/bin:/bin"})


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
