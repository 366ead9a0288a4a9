"""Zygotes: how the keeper starts one. What a zygote then does is `ondol_guest/zygote.py`.

A zygote is the function's user in the account's user namespace, in a copy of the golden view, with three capabilities that are
worth something in that namespace only (entering shells, giving capabilities up). It never runs user code, and it is under the
filter of system calls before its program is read; the first message on its line says what its children put up besides.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from dataclasses import dataclass

from ondol import syscalls
from ondol.keeper.accounts import Account
from ondol.keeper.shells import become_function_user, leave_old_root, quiet_signals
from ondol.keeper.view import View
from ondol.walls.built import Walls

PROGRAM = "/var/runtime/ondol_guest/zygote.py"
_KEEP = (syscalls.CAP_SYS_ADMIN, syscalls.CAP_SYS_CHROOT, syscalls.CAP_SETPCAP)
_STAGE = "/tmp"  # noqa: S108
#: As functions expect it. An unlimited one would also lay out addresses in a way that can be guessed.
STACK_BYTES = 8 << 20


@dataclass
class Zygote:
    """The keeper's side of one zygote. `socket` is the front's end until it is handed over."""

    pid: int
    pidfd: int
    socket: socket.socket


def begin(account: Account, view: View, interpreter: str, walls: Walls, ahead: str = "") -> Zygote:
    """Start one; its first message says that it is ready. `ahead`: the set of modules that it imports besides."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = view.copy()
    try:
        pid = os.fork()
        if pid == 0:
            _become_zygote(theirs, account.userns, root, interpreter, walls.filters.zygote)
    finally:
        os.close(root)
    theirs.close()
    ours.setblocking(False)
    ours.send(json.dumps({"walls": walls.message(), "ahead": ahead}).encode(), socket.MSG_NOSIGNAL)
    return Zygote(pid, os.pidfd_open(pid), ours)


def rss_bytes(zygote: Zygote) -> int:
    """What each of its children starts out with. What a process says of itself is its most, counted from before its exec."""
    with open(f"/proc/{zygote.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def _become_zygote(line: socket.socket, userns: int, root: int, interpreter: str, program: bytes) -> None:
    """Never returns."""
    try:
        quiet_signals()
        syscalls.close_all_but([line.fileno(), userns, root])
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.setsid()
        syscalls.leave_session_keyring()  # accounts have none in common
        syscalls.setns(userns, syscalls.CLONE_NEWUSER)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.move_mount(root, _STAGE)
        os.chdir(_STAGE)
        leave_old_root()
        become_function_user()
        _keep_three()
        _usual_addresses()
        os.set_inheritable(line.fileno(), True)
        path = os.path.realpath(interpreter)
        syscalls.install_filter(program)
        os.execve(path, [path, "-I", "-S", PROGRAM, str(line.fileno())], _ENVIRONMENT)  # noqa: S606
    except BaseException as error:
        print(f"keeper: zygote of {interpreter}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
    finally:
        os._exit(1)


#: LD_LIBRARY_PATH is read at exec alone, and whoever is forked loads libraries that its function or layers brought.
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp",  # noqa: S108
    "LD_LIBRARY_PATH": "/var/task:/var/task/lib:/opt/lib",
}  # fmt: skip


def _keep_three() -> None:
    mask = sum(1 << capability for capability in _KEEP)
    syscalls.drop_bounding(_KEEP)
    syscalls.set_capabilities(mask, inheritable=mask)
    syscalls.raise_ambient(_KEEP)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def _usual_addresses() -> None:
    """Addresses at random, whatever the node was started with: a debugger, for one, switches that off for all it starts."""
    syscalls.usual_personality()
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    bounded = hard != resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_STACK, (min(STACK_BYTES, hard) if bounded else STACK_BYTES, hard))
