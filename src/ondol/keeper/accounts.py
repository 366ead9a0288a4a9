"""Accounts: one user namespace each, below the keeper's, in which its shells and zygotes live.

Inside, one user is known: the function's (993:990). On the host it is an id of the account's own when the keeper is root, and
the keeper's own user when it is not. Knows nothing of shells. Invariant: a namespace has its maps before anything enters it.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from ondol import syscalls
from ondol.keeper.view import GID, UID

UID_BASE = 2_000_000
ACCOUNTS_MAX = 60_000


@dataclass(frozen=True)
class Account:
    """An account's user namespace and what its user is called outside."""

    name: str
    userns: int
    uid: int
    gid: int


class Accounts:
    """Made at first use, kept while the keeper lives."""

    def __init__(self, *, rootless: bool, uid_base: int = UID_BASE) -> None:
        self._rootless = rootless
        self._uid_base = uid_base
        self._known: dict[str, Account] = {}

    def get(self, name: str) -> Account:
        if name not in self._known:
            if len(self._known) >= ACCOUNTS_MAX:
                raise OSError(f"more than {ACCOUNTS_MAX} accounts on one node")
            self._known[name] = self._make(name)
        return self._known[name]

    def _make(self, name: str) -> Account:
        host = 0 if self._rootless else self._uid_base + len(self._known)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        go_reader, go_writer = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _in_new_namespace(writer, go_reader)
        os.close(writer)
        os.close(go_reader)
        try:
            if os.read(reader, 1) != b"+":
                raise OSError("no user namespace for the account could be made")
            _write(f"/proc/{pid}/uid_map", f"{UID} {host} 1")
            _write(f"/proc/{pid}/gid_map", f"{GID} {host} 1")
            userns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            os.write(go_writer, b"+")
            os.read(reader, 1)
        finally:
            os.close(reader)
            os.close(go_writer)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return Account(name, userns, host, host)


def _in_new_namespace(writer: int, go: int) -> None:
    """The forked half: hold the namespace open until it has its maps."""
    try:
        syscalls.close_all_but([writer, go])
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        os.write(writer, b"+")
        os.read(go, 1)
        _no_more_below()
        os.write(writer, b"+")
        os.read(go, 1)
    finally:
        os._exit(1)


def _no_more_below() -> None:
    """Functions get no user namespaces of their own: in there they would be root, with the kernel's mount code to play with."""
    try:
        _write("/proc/sys/user/max_user_namespaces", "0")
    except OSError:
        return  # a /proc without it; the locks of a later release close this road, too


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
