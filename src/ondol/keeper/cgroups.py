"""Control groups: one directory per shell and hierarchy, below one parent per node.

Version 1 (memory and pids hierarchies), version 2, or none: `Cgroups.find` takes what it can write to. Where version 1 has the
controllers, a group of version 2 beside them, if it is mounted, is there to freeze: version 1's freezer does not let a frozen
process die. Directories are made when a shell is prepared, never on a request's way (making one takes up to 20 ms). Knows
nothing of shells but their names.
"""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass, field

PIDS_MAX = 1024
_V2_CONTROLLERS = ("memory", "pids")


@dataclass(frozen=True)
class Hierarchy:
    """One tree with what it controls here. `parent` is this node's directory in it."""

    version: int
    controllers: tuple[str, ...]
    parent: str


@dataclass
class Cgroups:
    """What this node may use; empty when there is nothing."""

    hierarchies: list[Hierarchy] = field(default_factory=list)
    #: Why there is less than there could be.
    missing: str = ""

    @classmethod
    def find(cls, node: str) -> Cgroups:
        """Make (or take over) the node's parents."""
        found = cls()
        name = f"ondol-{node}"
        for mounted in _mounted():
            if mounted.version == 1:
                found._take_v1(mounted, name)
        have = {c for h in found.hierarchies for c in h.controllers}
        for mounted in _mounted():
            if mounted.version == 2 and not have:
                found._take_v2(mounted, name)
        if not found.freezes:
            for mounted in _mounted():
                if mounted.version == 2 and not found.freezes:
                    found._take_freezer(mounted, name)
        have = {c for h in found.hierarchies for c in h.controllers}
        lacking = [c for c in _V2_CONTROLLERS if c not in have]
        if lacking:
            found.missing = f"no writable cgroup for {' and '.join(lacking)}"
        return found

    @property
    def freezes(self) -> bool:
        """Whether a shell's processes can be kept from running."""
        return any(hierarchy.version == 2 for hierarchy in self.hierarchies)

    def freeze(self, name: str, *, on: bool) -> None:
        """Let none of this shell's processes run, or let them again. Raises OSError where that cannot be, ENOENT at the end."""
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2:
                _write(f"{hierarchy.parent}/{name}/cgroup.freeze", "1" if on else "0")
                return
        raise OSError(errno.ENOTSUP, "no control group of version 2 to freeze with")

    def make(self, name: str) -> list[int]:
        """This shell's groups; descriptors of their cgroup.procs."""
        descriptors: list[int] = []
        try:
            for hierarchy in self.hierarchies:
                path = f"{hierarchy.parent}/{name}"
                os.mkdir(path, 0o755)
                if "pids" in hierarchy.controllers:
                    _write(f"{path}/pids.max", str(PIDS_MAX))
                descriptors.append(os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for fd in descriptors:
                os.close(fd)
            self.remove(name)
            raise
        return descriptors

    def memory_peak(self, name: str) -> list[int]:
        """A descriptor of the file that says the most memory this shell used; none where there is no such file."""
        for hierarchy in self.hierarchies:
            if "memory" in hierarchy.controllers:
                file = "memory.max_usage_in_bytes" if hierarchy.version == 1 else "memory.peak"
                try:
                    return [os.open(f"{hierarchy.parent}/{name}/{file}", os.O_RDONLY | os.O_CLOEXEC)]
                except OSError:  # memory.peak came with Linux 5.19
                    return []
        return []

    def limit(self, name: str, memory_bytes: int) -> None:
        for hierarchy in self.hierarchies:
            if "memory" not in hierarchy.controllers:
                continue
            path = f"{hierarchy.parent}/{name}"
            if hierarchy.version == 1:
                _write(f"{path}/memory.limit_in_bytes", str(memory_bytes))
                _try_write(f"{path}/memory.memsw.limit_in_bytes", str(memory_bytes))
            else:
                _write(f"{path}/memory.max", str(memory_bytes))
                _try_write(f"{path}/memory.swap.max", "0")

    def usage(self, name: str) -> tuple[int, int]:
        """(peak bytes, processes ended for want of memory)."""
        for hierarchy in self.hierarchies:
            if "memory" not in hierarchy.controllers:
                continue
            path = f"{hierarchy.parent}/{name}"
            if hierarchy.version == 1:
                peak, kills = f"{path}/memory.max_usage_in_bytes", f"{path}/memory.oom_control"
            else:
                peak, kills = f"{path}/memory.peak", f"{path}/memory.events"
            return _number(peak) or _number(f"{path}/memory.current"), _field(kills, "oom_kill")
        return 0, 0

    def remove(self, name: str) -> bool:
        """Whether it is gone; False while a process is still leaving it."""
        gone = True
        for hierarchy in self.hierarchies:
            try:
                os.rmdir(f"{hierarchy.parent}/{name}")
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone

    def remove_all(self) -> bool:
        """Kill what is left in any of this node's groups and remove them, and the parents. Whether all is gone."""
        gone = True
        for hierarchy in self.hierarchies:
            for path, _, _ in os.walk(hierarchy.parent, topdown=False):
                _kill_all(path)
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    continue
                except OSError:
                    gone = False
        return gone

    def _take_v1(self, mounted: _Mounted, name: str) -> None:
        wanted = tuple(c for c in mounted.controllers if c in _V2_CONTROLLERS)
        if not wanted or any(c in h.controllers for c in wanted for h in self.hierarchies):
            return
        for directory in (mounted.own, mounted.top):
            try:
                os.makedirs(f"{directory}/{name}", exist_ok=True)
                if "memory" in wanted:
                    _try_write(f"{directory}/{name}/memory.use_hierarchy", "1")
                if os.access(f"{directory}/{name}/cgroup.procs", os.W_OK):
                    self.hierarchies.append(Hierarchy(1, wanted, f"{directory}/{name}"))
                    return
            except OSError:
                continue

    def _take_freezer(self, mounted: _Mounted, name: str) -> None:
        """A parent without controllers, beside version 1's: only what every group of version 2 can do."""
        for directory in (mounted.own, mounted.top):
            path = f"{directory}/{name}"
            try:
                os.makedirs(path, exist_ok=True)
                if os.access(f"{path}/cgroup.freeze", os.W_OK) and os.access(f"{path}/cgroup.procs", os.W_OK):
                    self.hierarchies.append(Hierarchy(2, (), path))
                    return
                os.rmdir(path)
            except OSError:
                continue

    def _take_v2(self, mounted: _Mounted, name: str) -> None:
        """The nearest ancestor that lets us make a group with controllers: our own has processes, so it rarely can."""
        directory = mounted.own
        while directory.startswith(mounted.top):
            path = f"{directory}/{name}"
            for controller in _V2_CONTROLLERS:
                _try_write(f"{directory}/cgroup.subtree_control", f"+{controller}")
            try:
                os.makedirs(path, exist_ok=True)
                for controller in _V2_CONTROLLERS:
                    _try_write(f"{path}/cgroup.subtree_control", f"+{controller}")
                have = tuple(c for c in _V2_CONTROLLERS if c in _read(f"{path}/cgroup.subtree_control").split())
                if have and os.access(f"{path}/cgroup.procs", os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK):
                    self.hierarchies.append(Hierarchy(2, have, path))
                    return
                os.rmdir(path)
            except OSError:
                pass  # not ours to write: the next one up may be
            directory = os.path.dirname(directory)


@dataclass(frozen=True)
class _Mounted:
    """A mounted hierarchy: its top, and the group this process is in, as paths."""

    version: int
    controllers: tuple[str, ...]
    top: str
    own: str


def _mounted() -> list[_Mounted]:
    own: dict[str, str] = {}
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    found = []
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        root, top = left.split(" ")[3:5]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup":
            here = tuple(c for c in options.split(",") if c in own)
        elif kind == "cgroup2":
            here = ("",)
        else:
            continue
        if here:
            found.append(_Mounted(2 if kind == "cgroup2" else 1, here, top, _below(top, root, own.get(here[0], "/"))))
    return found


def _below(top: str, root: str, path: str) -> str:
    """Where the group `path` is seen under `top`, which shows the hierarchy from `root` on."""
    if root != "/" and path.startswith(root):
        path = path[len(root) :]
    seen = top + path.rstrip("/")
    return seen if os.path.isdir(seen) and "/.." not in seen else top


def _kill_all(path: str) -> None:
    _try_write(f"{path}/cgroup.kill", "1")
    for pid in _read(f"{path}/cgroup.procs").split():
        if pid != "0":
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _try_write(path: str, text: str) -> None:
    try:
        _write(path, text)
    except OSError:
        return  # an older kernel, or not ours: who needs it looks whether it took


def _number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _field(path: str, name: str) -> int:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
