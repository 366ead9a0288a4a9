"""What a probe finds, and how it tries: in a child of its own, so that nothing of the try stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ondol import syscalls

ALL = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS


#: A finding that is asked for by its name.
WAY_OUT = "a way out for functions (egress)"


@dataclass(frozen=True)
class Finding:
    """One thing that was tried."""

    what: str
    ok: bool
    #: Without it there are no shells.
    needed: bool
    detail: str
    #: How to get it; empty when it is there.
    mend: str = ""
    #: What it means that it is missing; empty when it is there.
    means: str = ""


def enter(flags: int) -> None:
    """New namespaces, below a user namespace where this user needs one. What is mounted in there stays in there.

    Where mounts are shared, as systemd has them, a copy of the mount namespace would pass on what is mounted in it.
    """
    try:
        syscalls.unshare(flags)
    except PermissionError:
        syscalls.unshare(flags | syscalls.CLONE_NEWUSER)
    if flags & syscalls.CLONE_NEWNS:
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)


def tried(action: Callable[[], None]) -> str:
    """What went wrong in a child that tried; empty when nothing did."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 2)
        exit_with(action)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as said:
        text = said.read(4096)
    _, status = os.waitpid(pid, 0)
    return text.strip() or ("" if status == 0 else f"the try ended with status {status}")


def exit_with(action: Callable[[], None]) -> None:
    """Never returns."""
    try:
        action()
    except BaseException as error:
        os.write(2, str(error).encode())
        os._exit(1)
    os._exit(0)


def read(path: str) -> str:
    """A small file's text without its ends; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
