"""Which walls this kernel lets us put up: tried, not guessed, in a process of its own, so that nothing of it stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from ondol import syscalls
from ondol.walls import landlock
from ondol.walls.built import NoWalls, Walls, build, confine


class Found(NamedTuple):
    """One thing that was tried, as `ondol.keeper.probe.Finding` has it."""

    what: str
    ok: bool
    needed: bool
    detail: str
    mend: str = ""
    means: str = ""


def found() -> list[Found]:
    """Both walls."""
    try:
        walls = build()
    except NoWalls as error:
        return [Found("seccomp", ok=False, needed=True, detail=str(error), mend="run the node on one of those machines")]
    return [seccomp(walls), landlocked(walls)]


def seccomp(walls: Walls) -> Found:
    """The filter of system calls. Without it there is no sandbox."""

    def try_() -> None:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.install_filter(walls.filters.function)
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
        except PermissionError:
            return
        raise OSError(errno.ENOTRECOVERABLE, "the filter was taken, and denies nothing")

    error = _tried(try_)
    mend = "" if not error else "a kernel with CONFIG_SECCOMP_FILTER is needed"
    return Found("seccomp (a filter of system calls)", not error, needed=True, detail=error or "works", mend=mend)


def landlocked(walls: Walls) -> Found:
    """The second wall around files."""
    abi = syscalls.landlock_abi()
    what = "Landlock (a second wall around files)"
    mend = "Linux 5.19 or newer with landlock in the boot option lsm="
    means = "the read-only view stands alone, without a second wall around files"
    if abi < landlock.ABI_MIN:
        detail = f"the kernel has version {abi}, {landlock.ABI_MIN} is needed" if abi else "the kernel has none, or it is off"
        return Found(what, ok=False, needed=False, detail=detail, mend=mend, means=means)

    def try_() -> None:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        confine(walls.init)
        try:
            os.open("/dev/null", os.O_WRONLY)
        except PermissionError:
            return
        raise OSError(errno.ENOTRECOVERABLE, "the rules were taken, and deny nothing")

    error = _tried(try_)
    lacks = "" if abi >= 6 else "; signals and abstract sockets are not held, which needs version 6 (Linux 6.12)"
    if error:
        return Found(what, ok=False, needed=False, detail=error, mend=mend, means=means)
    return Found(what, ok=True, needed=False, detail=f"version {abi}{lacks}")


def _tried(action: Callable[[], None]) -> str:
    """What went wrong in a child that tried; empty when nothing did."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as said:
        text = said.read(4096)
    _, status = os.waitpid(pid, 0)
    return text.strip() or ("" if status == 0 else f"the try ended with status {status}")
