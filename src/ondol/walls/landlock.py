"""What may be done with which files, as Landlock has it. Pure; `ondol.syscalls` makes the calls.

The view is read-only already, and everything else is hidden. This is the second wall: were a mount writable by mistake, or a
file system's own check of rights wrong, it could still be written only where the list says. A rule on "/" covers what is
mounted below it later, such as the code. One on `/tmp` is for the file system that is there when the rule is made.

Landlock also keeps signals and abstract unix sockets within the processes of one environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in range(13, 16))

SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2
_QUIET: Final = 1
#: The first version knows no REFER, and without it forbids to move a file from one directory to another.
ABI_MIN: Final = 2

_LOOK: Final = EXECUTE | READ_FILE | READ_DIR
_USE: Final = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
_OWN: Final = (1 << 16) - 1 & ~(MAKE_CHAR | MAKE_BLOCK)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@dataclass(frozen=True)
class Rules:
    """One domain. `handled`: the rights that it is about; one that no rule gives is denied."""

    handled: int
    scoped: int
    #: Of landlock_restrict_self.
    flags: int
    #: (path, rights), for paths that exist in every view.
    paths: tuple[tuple[str, int], ...]


def function(abi: int) -> Rules | None:
    """For an environment; None where the kernel's version is too old to be of use."""
    paths = [("/", _LOOK), ("/tmp", _OWN), ("/dev/shm", _OWN), ("/proc", READ_FILE | WRITE_FILE | TRUNCATE)]  # noqa: S108
    return _rules(abi, [*paths, *((device, _USE) for device in _DEVICES)])


def init(abi: int) -> Rules | None:
    """For a shell's PID 1: nothing can be written."""
    return _rules(abi, [("/", _LOOK)])


def _rules(abi: int, paths: list[tuple[str, int]]) -> Rules | None:
    if abi < ABI_MIN:
        return None
    handled = (1 << 14) - 1
    handled |= TRUNCATE if abi >= 3 else 0
    handled |= IOCTL_DEV if abi >= 5 else 0
    return Rules(
        handled=handled,
        scoped=SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if abi >= 6 else 0,
        flags=_QUIET if abi >= 7 else 0,  # denials of a function's do not fill the machine's audit log
        paths=tuple((path, rights & handled) for path, rights in paths),
    )
