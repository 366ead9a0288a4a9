"""A shell of the launcher's: its directory, its control groups, its root, and the guest that waits or works in it.

Two kinds of ground. *Open ground* is for `process`: a directory with a TMPDIR and a link to the code. *Staged ground* is for
the tools: a copy of the golden view, mounted where the tool's user can reach it and shared with whatever the tool makes of it,
so that the code can be mounted into a guest that waits already. Knows nothing of lines.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from ondol import syscalls
from ondol.keeper import cleaning
from ondol.keeper.disks import TMP_MIB_DEFAULT, Disks
from ondol.keeper.view import RESOLV_FILE, View
from ondol.launcher import processes
from ondol.launcher.namespaces import Network
from ondol.launcher.tools import Place, Tool
from ondol.sandbox import NETWORK_HOST

_MS_SHARED = 1 << 20


#: In one shell: the function's own, its extensions, and who carries their telemetry.
GUESTS_MAX = 12


@dataclass
class Guest:
    """An interpreter that was started in a shell, and whatever it became."""

    #: The shell's guests are numbered, and their ends are told by these.
    number: int
    #: Beside the function's own.
    beside: bool
    #: The process that all of it lies below; 0 where there is none (yet, or any more).
    first: int = 0
    #: A second descriptor of the front's end of its wire: it tells that the guest has let go of its own.
    wire: int = -1
    #: It was killed, whatever its tool makes of that.
    killed: bool = False


@dataclass
class Shell:
    """One shell."""

    place: Place
    tool: Tool
    account: str
    network: Network = field(default_factory=Network)
    cgroups: list[int] = field(default_factory=list)
    #: Those that are there, by their numbers, and how many there have been.
    guests: dict[int, Guest] = field(default_factory=dict)
    guests_total: int = 0
    attached: bool = False
    ending: bool = False
    #: 0 where the file system bounds /tmp.
    tmp_bytes_max: int = 0
    #: What it held when that was last looked at.
    tmp_bytes: int = 0

    def counted(self, tmp_bytes: int) -> None:
        self.tmp_bytes = tmp_bytes

    @property
    def id(self) -> str:
        return self.place.name

    @property
    def firsts(self) -> list[int]:
        """The pids that everything in it lies below."""
        return [guest.first for guest in self.guests.values() if guest.first]

    def add(self, *, beside: bool) -> Guest:
        """One more guest, not started yet."""
        self.guests_total += 1
        guest = self.guests[self.guests_total] = Guest(self.guests_total, beside)
        return guest

    @property
    def directory(self) -> str:
        return self.place.directory

    @property
    def tmp(self) -> str:
        return self.place.tmp


class Ground(Protocol):
    """Where shells stand."""

    def make(self, name: str, uid: int, tool: Tool, network: str) -> Place:
        """A place for a shell of this user."""
        ...

    def show(self, shell: Shell, tree: int, path: str, target: str) -> None:
        """Show a tree (a descriptor, which is `path`) at /var/task or /opt."""
        ...

    def bound_tmp(self, shell: Shell, tmp_mib: int) -> bool:
        """Whether a guest that is there already must be started again to use it."""
        ...

    def remove(self, place: Place) -> None:
        """Take everything but the files in /tmp away."""
        ...

    def user(self, account: str) -> int:
        """The user that this account's guests run as."""
        ...

    switch: bool  #: whether that is another user than the launcher's


class OpenGround:
    """For `process`. `uid_base` 0: everybody is whoever runs the node, and the code is shown by links."""

    def __init__(self, shells: str, runtime: dict[str, str], uid_base: int) -> None:
        self._shells = shells
        self._uid_base = uid_base
        self._accounts: list[str] = []
        self._brought = f"{shells}/.runtime"
        self.switch = uid_base > 0
        os.makedirs(self._brought, mode=0o755, exist_ok=True)
        for name, source in runtime.items():
            os.symlink(source, f"{self._brought}/{name}")

    def user(self, account: str) -> int:
        return _numbered(self._accounts, account, self._uid_base) if self.switch else os.geteuid()

    def make(self, name: str, uid: int, tool: Tool, network: str) -> Place:
        del tool, network
        directory = f"{self._shells}/{name}"
        os.mkdir(directory, 0o755)
        place = Place(name=name, directory=directory, root="", bundle=directory, uid=uid, brought=self._brought)
        os.mkdir(place.tmp, 0o700)
        if self.switch:
            os.chown(place.tmp, uid, uid)
        return place

    def show(self, shell: Shell, tree: int, path: str, target: str) -> None:
        at = shell.place.task if target == "/var/task" else shell.place.opt
        if not self.switch:
            os.symlink(path, at)
            return
        # Another user: the way to the code is not for everybody, but what is mounted needs none.
        os.mkdir(at)
        _put_tree(tree, at)

    def bound_tmp(self, shell: Shell, tmp_mib: int) -> bool:
        shell.tmp_bytes_max = tmp_mib << 20
        return False

    def remove(self, place: Place) -> None:
        for at in (place.task, place.opt):
            if os.path.islink(at):
                os.unlink(at)
            elif os.path.isdir(at):
                with suppress(OSError):  # nothing was mounted
                    syscalls.umount(at)


class StagedGround:
    """For the tools. `stage`: a directory of a file system in memory that the accounts' users may pass."""

    def __init__(self, shells: str, stage: str, view: View, disks: Disks | None, uid_base: int) -> None:
        self._shells = shells
        self._stage = stage
        self._view = view
        self._disks = disks
        self._uid_base = uid_base
        self._accounts: list[str] = []
        self.switch = uid_base > 0

    def user(self, account: str) -> int:
        return _numbered(self._accounts, account, self._uid_base) if self.switch else os.geteuid()

    def make(self, name: str, uid: int, tool: Tool, network: str) -> Place:
        directory, bundle = f"{self._shells}/{name}", f"{self._stage}/{name}"
        place = Place(name=name, directory=directory, root=f"{bundle}/root", bundle=bundle, uid=uid, brought="")
        os.mkdir(directory, 0o711)
        os.mkdir(bundle, 0o755)
        os.mkdir(place.root)
        os.mkdir(place.state, 0o700)
        if self.switch:
            os.chown(place.state, uid, uid)
        root = self._view.copy()
        try:
            syscalls.move_mount(root, place.root)
        finally:
            os.close(root)
        mounted = self._tmp(place, None if tool.holds_tmp else TMP_MIB_DEFAULT)
        try:
            syscalls.move_mount(mounted, f"{place.root}/tmp")  # noqa: S108
        finally:
            os.close(mounted)
        if network == NETWORK_HOST:  # names are asked for where the machine asks
            syscalls.mount(f"{place.root}/{RESOLV_FILE}", f"{place.root}/etc/resolv.conf", "", syscalls.MS_BIND)
        syscalls.mount("none", place.root, "", syscalls.MS_REC | _MS_SHARED)
        return place

    def show(self, shell: Shell, tree: int, path: str, target: str) -> None:
        del path
        mounted = syscalls.open_tree_at(tree)
        try:
            syscalls.mount_setattr(mounted, syscalls.ATTR_RDONLY | syscalls.ATTR_NOSUID | syscalls.ATTR_NODEV)
            for first in shell.firsts if shell.tool.private_root else ():
                self._show_inside(first, mounted, target)
            syscalls.move_mount(mounted, shell.place.root + target)
        finally:
            os.close(mounted)

    def _show_inside(self, first: int, mounted: int, target: str) -> None:
        copy = syscalls.open_tree_at(mounted)
        try:
            processes.put_inside(first, copy, target)
        finally:
            os.close(copy)

    def bound_tmp(self, shell: Shell, tmp_mib: int) -> bool:
        if self._disks is None or shell.tool.holds_tmp:
            shell.tmp_bytes_max = tmp_mib << 20
            return False
        if tmp_mib == TMP_MIB_DEFAULT:
            return False
        mounted = self._tmp(shell.place, tmp_mib)
        try:
            syscalls.move_mount(mounted, f"{shell.place.root}/tmp")  # noqa: S108
        finally:
            os.close(mounted)
        return True  # Landlock's rules are about the one that was there

    def remove(self, place: Place) -> None:
        with suppress(OSError):  # it was never mounted
            syscalls.umount(place.root)
        if os.path.isdir(place.bundle):
            directory = os.open(self._stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                cleaning.remove_trees(directory, [place.name])
            finally:
                os.close(directory)

    def _tmp(self, place: Place, mib: int | None) -> int:
        """A detached mount: a disk of this size where there are disks; without a size, or without disks, a directory."""
        if self._disks is not None and mib is not None:
            return self._disks.make(f"{place.tmp}-{mib}.img", mib, place.uid, place.uid)
        os.mkdir(place.tmp)
        os.chmod(place.tmp, 0o1777)  # noqa: S103
        if self.switch:
            os.chown(place.tmp, place.uid, place.uid)
        mounted = syscalls.open_tree(place.tmp)
        syscalls.mount_setattr(mounted, syscalls.ATTR_NOSUID | syscalls.ATTR_NODEV)
        return mounted


def _put_tree(tree: int, at: str) -> None:
    mounted = syscalls.open_tree_at(tree)
    try:
        syscalls.mount_setattr(mounted, syscalls.ATTR_RDONLY | syscalls.ATTR_NOSUID | syscalls.ATTR_NODEV)
        syscalls.move_mount(mounted, at)
    finally:
        os.close(mounted)


def _numbered(known: list[str], account: str, base: int) -> int:
    """Each account has a number of its own, in the order they came."""
    if account not in known:
        known.append(account)
    return base + known.index(account)


def guest_of(tool: Tool, interpreter: str, walls: str, bounds: frozenset[str]) -> Sequence[str]:
    """The interpreter, and what the guest's start is told. `bounds`: what control groups bound."""
    return [
        interpreter,
        *(["--init"] if tool.needs_init else []),
        *(["--bounds", ",".join(sorted(bounds))] if bounds else []),
        *(["--walls", walls] if tool.walled else []),
    ]
