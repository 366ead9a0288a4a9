"""Control groups: one directory per shell and hierarchy, below one parent per node.

Version 1 (a hierarchy per controller), version 2, or both on hybrid hosts: `Cgroups.find` takes what it can write to
(`cgroup_places.py` says where that is). Directories are made when a shell is prepared, never on a request's way (making one
takes up to 20 ms). Knows nothing of shells but their names.

CPU time is by weight: a function weighs as much as its memory, and all functions of a node together half of what an ordinary
group weighs, such as the one with the node's own processes (version 1: as much as one process on each CPU). So, however many,
they do not starve who serves them. Nobody is held back while there is time left.
"""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass, field

from ondol.keeper import cgroup_places
from ondol.keeper.cgroup_places import Hierarchy, read, try_write, write

PIDS_MAX = 1024
#: What the buffers of a shell's sockets hold, where version 1 counts them apart: else one function could take all that the
#: machine allows to TCP, and leave nothing to others' connections. Version 2 counts them as the shell's memory.
SOCKETS_BYTES_MAX = 64 << 20
#: The memory with which a function weighs as much as an ordinary group of the machine's: one CPU's worth at Lambda.
WEIGHT_BYTES = 1769 << 20
#: The most a group may weigh, in ordinary groups: the kernel's bound in version 2.
WEIGHT_TIMES_MAX = 100
#: An ordinary group's weight, as the versions count.
_WEIGHT_V2, _SHARES_V1 = 100, 1024


@dataclass
class Cgroups:
    """What this node may use; empty when there is nothing."""

    hierarchies: list[Hierarchy] = field(default_factory=list)
    #: Why there is less than there could be.
    missing: str = ""
    #: The parent in version 2 that this process is in: groups below are joined thread by thread (`enter`).
    entered: str = ""

    @classmethod
    def find(cls, node: str) -> Cgroups:
        """Make (or take over) the node's parents."""
        found, reasons = cgroup_places.take(f"ondol-{node}")
        for hierarchy in found:
            if hierarchy.version == 1:
                try_write(f"{hierarchy.parent}/cpu.shares", str(_SHARES_V1 * (os.cpu_count() or 1)))
            else:
                try_write(f"{hierarchy.parent}/cpu.weight", str(_WEIGHT_V2 // 2))
        return cls(found, cgroup_places.lacking(found, reasons))

    @classmethod
    def look(cls, node: str) -> Cgroups:
        """What `find` would give; changes nothing that stays."""
        found, reasons = cgroup_places.take(f"ondol-{node}", look=True)
        return cls(found, cgroup_places.lacking(found, reasons))

    def enter(self) -> None:
        """Be in the node's parent of version 2, with all that this process is to fork, where that has no controllers.

        Below it groups can then be *threaded*: who moves itself into one takes no lock, as in version 1. A group of whole
        processes is joined under the lock that every fork waits for, after a grace period of the kernel's: some 10 ms.
        """
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2 and not hierarchy.controllers and try_write(f"{hierarchy.parent}/cgroup.procs", "0"):
                self.entered = hierarchy.parent

    @property
    def controllers(self) -> frozenset[str]:
        """What is controlled, of "memory", "pids" and "cpu"."""
        return frozenset(c for hierarchy in self.hierarchies for c in hierarchy.controllers)

    @property
    def freezes(self) -> bool:
        """Whether a shell's processes can be kept from running. Version 2 only: version 1 lets no frozen process die."""
        return any(hierarchy.version == 2 for hierarchy in self.hierarchies)

    def freeze(self, name: str, *, on: bool) -> None:
        """Let none of this shell's processes run, or let them again. Raises OSError where that cannot be, ENOENT at the end."""
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2:
                write(f"{hierarchy.parent}/{name}/cgroup.freeze", "1" if on else "0")
                return
        raise OSError(errno.ENOTSUP, "no control group of version 2 to freeze with")

    def make(self, name: str) -> list[int]:
        """This shell's groups; descriptors of the file of each that a process of one thread joins it by.

        Of version 1 that is `tasks`: whoever moves itself by that does without the lock that a whole process is moved under,
        which every fork of the machine's waits for, and which takes a grace period of the kernel's to get. Of version 2 it is
        `cgroup.threads`, if `enter` could be done.
        """
        descriptors: list[int] = []
        try:
            for hierarchy in self.hierarchies:
                path = f"{hierarchy.parent}/{name}"
                os.mkdir(path, 0o755)
                if "pids" in hierarchy.controllers:
                    write(f"{path}/pids.max", str(PIDS_MAX))
                if hierarchy.version == 1 and "memory" in hierarchy.controllers:
                    try_write(f"{path}/memory.kmem.tcp.limit_in_bytes", str(SOCKETS_BYTES_MAX))
                file = "tasks" if hierarchy.version == 1 else "cgroup.procs"
                if hierarchy.parent == self.entered and try_write(f"{path}/cgroup.type", "threaded"):
                    file = "cgroup.threads"
                descriptors.append(os.open(f"{path}/{file}", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for fd in descriptors:
                os.close(fd)
            self.remove(name)
            raise
        return descriptors

    def memory_peak(self, name: str) -> list[int]:
        """A descriptor of the file that says the most memory this shell used; none where there is no such file."""
        for hierarchy in self._with("memory"):
            file = "memory.max_usage_in_bytes" if hierarchy.version == 1 else "memory.peak"
            try:
                return [os.open(f"{hierarchy.parent}/{name}/{file}", os.O_RDONLY | os.O_CLOEXEC)]
            except OSError:  # memory.peak came with Linux 5.19
                return []
        return []

    def limit(self, name: str, memory_bytes: int) -> None:
        """No more memory than that, no swap, and CPU time in proportion.

        The kernel ends the largest process of a group that wants more, not all of them (`memory.oom.group` stays 0): a function
        whose child was too large can still say so, as at Lambda.
        """
        for hierarchy in self._with("memory"):
            path = f"{hierarchy.parent}/{name}"
            if hierarchy.version == 1:
                if not try_write(f"{path}/memory.limit_in_bytes", str(memory_bytes)):  # more than the two together may be now
                    try_write(f"{path}/memory.memsw.limit_in_bytes", str(memory_bytes))
                    write(f"{path}/memory.limit_in_bytes", str(memory_bytes))
                try_write(f"{path}/memory.memsw.limit_in_bytes", str(memory_bytes))
            else:
                write(f"{path}/memory.max", str(memory_bytes))
                try_write(f"{path}/memory.swap.max", "0")
        self.weigh(name, memory_bytes)

    def weigh(self, name: str, memory_bytes: int) -> None:
        """CPU time in proportion to this memory."""
        for hierarchy in self._with("cpu"):
            path = f"{hierarchy.parent}/{name}"
            if hierarchy.version == 1:
                try_write(f"{path}/cpu.shares", str(weight(memory_bytes, _SHARES_V1, 2)))
            else:
                try_write(f"{path}/cpu.weight", str(weight(memory_bytes, _WEIGHT_V2, 1)))

    def hurry(self, name: str) -> None:
        """All the weight there is, for those who die: a process ends on its own group's time."""
        self.weigh(name, WEIGHT_BYTES * WEIGHT_TIMES_MAX)

    def usage(self, name: str) -> tuple[int, int]:
        """(peak bytes, processes ended for want of memory)."""
        for hierarchy in self._with("memory"):
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
            try_write(f"{hierarchy.parent}/cgroup.kill", "1")  # all below it at once, also who forks; Linux 5.14, version 2
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

    def _with(self, controller: str) -> list[Hierarchy]:
        """The hierarchy that controls it, if any."""
        return [hierarchy for hierarchy in self.hierarchies if controller in hierarchy.controllers][:1]


def weight(memory_bytes: int, ordinary: int, least: int) -> int:
    """A function's weight where an ordinary group has `ordinary`."""
    return min(max(memory_bytes * ordinary // WEIGHT_BYTES, least), WEIGHT_TIMES_MAX * ordinary)


def _kill_all(path: str) -> None:
    for pid in read(f"{path}/cgroup.procs").split():
        if pid != "0":
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue


def _number(path: str) -> int:
    text = read(path).strip()
    return int(text) if text.isdigit() else 0


def _field(path: str, name: str) -> int:
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
