"""What a node leaves when it is killed: control groups under its parent, and directories of its shells. Run at start and at the
end.

Processes and mounts need no cleaning: they end with the keeper's pid and mount namespaces.
"""

from __future__ import annotations

import os
import subprocess
import time

from ondol.keeper import forwarding
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.networks import MACHINE_DEVICES

CLEAN_S_MAX = 5.0
_RM, _FIND = "/bin/rm", "/usr/bin/find"


class NotOurs(OSError):  # noqa: N818
    """The directory could lead the keeper elsewhere."""


def open_shells(path: str) -> int:
    """The shells' directory, made when missing. Only its owner may have a say in what lies in it. Raises NotOurs."""
    try:  # noqa: SIM105
        os.mkdir(path, 0o711)
    except FileExistsError:
        pass  # from an earlier run
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(fd)
        raise NotOurs(f"{path} belongs to user {status.st_uid}, or others may write in it; remove it, the keeper makes its own")
    return fd


def clean(cgroups: Cgroups, shells: int) -> bool:
    """Remove everything; whether it is gone. `shells` is the directory's descriptor."""
    forwarding.put_back(MACHINE_DEVICES)
    deadline = time.monotonic() + CLEAN_S_MAX
    remove_trees(shells, os.listdir(shells))
    while not cgroups.remove_all():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return not os.listdir(shells)


def remove_litter(data: str) -> None:
    """What a killed node can no more remove itself: its spool files, its sockets, and the card that says where it listens."""
    for folder, ends in (("tmp", ("",)), ("run", (".sock", "node.json"))):
        try:
            fd = os.open(f"{data}/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # who owns the data directory may have made something else of it
        remove_trees(fd, [name for name in os.listdir(fd) if name.endswith(ends)])
        os.close(fd)


def remove_trees(directory: int, names: list[str]) -> None:
    """Wait until they are gone. `rm` and not Python: it is quick with trees made to be slow or deep."""
    if names:
        paths = [f"./{name}" for name in names]
        command = [_RM, "-rf", "--one-file-system", "--", *paths]
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, cwd=f"/proc/self/fd/{directory}")


def remove_own(directory: str) -> bool:
    """Remove a shell's directory as the keeper made it, images and all; False when a function's own files are in it."""
    try:
        for name in os.listdir(directory):
            path = f"{directory}/{name}"
            if name.endswith(".img"):
                os.unlink(path)
            else:
                os.rmdir(path)
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def start_emptying(path: str) -> int:
    """The pid of a process that removes all that is in this directory. Follows no link."""
    return os.posix_spawn(_FIND, [_FIND, path, "-xdev", "-mindepth", "1", "-delete"], {"PATH": "/usr/bin:/bin"})


def start_removing(path: str) -> int:
    """The pid of a process that removes the tree."""
    return os.posix_spawn(_RM, [_RM, "-rf", "--one-file-system", "--", path], {"PATH": "/usr/bin:/bin"})
