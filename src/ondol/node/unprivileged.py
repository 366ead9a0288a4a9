"""How a node that runs as root starts a process that must not be root: the launcher of front and desk.

    PYTHON -I -S …/ondol/node/unprivileged.py --uid N --gid N --parent PID [--keep PATH]… [--fd N]… -- PROGRAM ARGUMENT…

The program keeps its real paths, also where an ancestor lets only root pass (an interpreter or a checkout below a mode-700
home): in a mount namespace of its own, a small tmpfs takes that ancestor's place and shows nothing but the paths to keep.
Then ids, capabilities and new privileges are given up, every descriptor but those named is closed, and the program is
executed. It dies with its parent.

Standard library and `ondol.syscalls` only: it runs before the environment can be trusted to be reachable.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

from ondol import syscalls, ways

EXIT_NOT_STARTED = 70
#: The ids that front and desk get where nobody chose others; below those of accounts.
UID_DEFAULT = GID_DEFAULT = 1_999_999


def command(
    argv: Sequence[str], *, uid: int, gid: int, keep: Iterable[Path], fds: Iterable[int], python: str = sys.executable
) -> list[str]:
    """The argument vector that runs `argv` so. `keep`: all it needs that may lie below a private directory."""
    arguments = ["--uid", str(uid), "--gid", str(gid), "--parent", str(os.getpid())]
    for path in keep:
        arguments += ["--keep", str(path)]
    for fd in fds:
        arguments += ["--fd", str(fd)]
    return [python, "-I", "-S", __file__, *arguments, "--", *argv]


def hand_over(path: Path, uid: int, gid: int, *, but: Sequence[str] = ("shells", "shells-process", "shells-tools")) -> None:
    """Give a directory and everything in it to the unprivileged processes. Follows no link.

    `but`: names in `path` that stay root's: the keeper works in there, and nobody else may bend its way.
    """
    for directory, names, files in os.walk(path):
        if directory == str(path):
            names[:] = [name for name in names if name not in but]
        for name in (".", *files, *(n for n in names if os.path.islink(os.path.join(directory, n)))):
            os.chown(os.path.join(directory, name), uid, gid, follow_symlinks=False)


def become(uid: int, gid: int, keep: Sequence[Path]) -> None:
    """This process becomes an ordinary user's that still sees `keep`. Does nothing to a process that is one already."""
    if os.geteuid() == 0:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
        ways.open_ways(uid, gid, keep)
        syscalls.drop_bounding()
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    syscalls.leave_session_keyring()
    syscalls.set_capabilities(0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # cleared by the change of ids; its own /proc entries must be its own


def _die_with(parent: int) -> None:
    """Set again after the change of ids, which clears it."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        raise OSError("the parent is gone")


def main(argv: Sequence[str]) -> int:
    """Become and execute; returns only when it cannot."""
    uid = gid = parent = 0
    keep: list[Path] = []
    fds: list[int] = []
    arguments = iter(argv)
    for flag in arguments:
        if flag == "--":
            break
        value = next(arguments)
        match flag:
            case "--uid":
                uid = int(value)
            case "--gid":
                gid = int(value)
            case "--parent":
                parent = int(value)
            case "--keep":
                keep.append(Path(value))
            case "--fd":
                fds.append(int(value))
            case _:
                raise SystemExit(f"unknown option {flag}")
    program = list(arguments)
    try:
        here = os.getcwd()
        become(uid, gid, keep)
        _die_with(parent)
        syscalls.close_all_but(fds)
        os.chdir(here if os.access(here, os.X_OK) else "/")
        os.execv(program[0], program)  # noqa: S606
    except OSError as error:
        print(f"cannot start {program[0]} as user {uid}: {error}", file=sys.stderr)  # noqa: T201
    return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
