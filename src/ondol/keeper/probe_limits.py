"""Tries what bounds a shell: control groups, each controller for itself, and disks for /tmp. A node can run without."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable

from ondol import syscalls
from ondol.keeper.cgroup_places import NONE_MOUNTED
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.disks import Disks
from ondol.keeper.surroundings import Surroundings
from ondol.keeper.trying import Finding, enter, read, tried

#: By controller: what it is called here, and what it means that it is missing.
_CONTROLLERS = {
    "memory": (
        "memory limit",
        (
            "a function's memory is not limited as a whole, and not measured. Each of its processes is limited (RLIMIT_DATA: "
            "its size and 1 GiB; what processes share does not count), which stops accidents only; no gvisor"
        ),
    ),
    "pids": ("number of processes", "a function's processes are bounded by RLIMIT_NPROC only, all of an account's together"),
    "cpu": ("CPU weight", "all functions share the processors evenly, whatever their memory"),
}
_FREEZES = ("freezing", "what a function leaves running goes on using the processor while nothing is called")
_NO_DISKS = "a function that writes more to /tmp than its size is ended a little later, not told that the disk is full"
_TRY_MIB = 16
_SCOPE = "systemd-run --user --scope -p Delegate=yes ondol up"


def control_groups(around: Surroundings | None = None, look: Callable[[str], Cgroups] = Cgroups.look) -> list[Finding]:
    """One finding for each controller, and one for freezing."""
    around = around or Surroundings()
    found = groups(look)
    findings = []
    for controller, (name, means) in _CONTROLLERS.items():
        what = f"control groups: {name} ({controller})"
        at = [f"version {h.version}, in {os.path.dirname(h.parent)}" for h in found.hierarchies if controller in h.controllers]
        if at:
            findings.append(Finding(what, ok=True, needed=False, detail=at[0]))
        else:
            to_mend = how_to_mend(controller, found, around)
            findings.append(Finding(what, ok=False, needed=False, detail=found.missing, mend=to_mend, means=means))
    what, means = f"control groups: {_FREEZES[0]}", _FREEZES[1]
    if found.freezes:
        return [*findings, Finding(what, ok=True, needed=False, detail="groups of version 2 can be made")]
    to_mend = how_to_mend("", found, around)
    missing = Finding(what, ok=False, needed=False, detail="no writable group of version 2", mend=to_mend, means=means)
    return [*findings, missing]


def groups(look: Callable[[str], Cgroups] = Cgroups.look) -> Cgroups:
    """What a node of this process's would have; nothing of it stays."""
    return look(f"probe{os.getpid()}")


def how_to_mend(controller: str, found: Cgroups, around: Surroundings | None = None) -> str:
    """What gives a node the control groups that it lacks; `controller`: which of them, or "" for any of version 2."""
    around = around or Surroundings()
    root, managed = os.geteuid() == 0, os.path.isdir(f"{around.root}run/systemd/system")
    options = around.options("control groups")
    reasons = (
        (
            bool(controller) and _off(around, controller),
            f"boot with cgroup_enable={controller} (the kernel has it switched off)",
        ),
        (bool(options), options),
        (NONE_MOUNTED in found.missing, "as root: mount -t cgroup2 none /sys/fs/cgroup"),
        (root and os.strerror(errno.EROFS) in found.missing, "as root: mount -o remount,rw /sys/fs/cgroup"),
        (root, "run the node as root of the machine"),
        (
            managed and bool(found.hierarchies),
            f"as root: Delegate=cpu memory pids for user@.service; log in anew; then {_SCOPE}",
        ),
        (managed, f"{_SCOPE}, or a user service with Delegate=yes (docs/howto/run-as-a-service.md); or run as root"),
        (True, "run as root, or have root start the node in a group of version 2 that this user owns"),
    )
    return next(mend for holds, mend in reasons if holds)


def _off(around: Surroundings, controller: str) -> bool:
    """Whether the kernel has it switched off."""
    for line in read(f"{around.root}proc/cgroups").splitlines():
        name, *numbers = line.split()
        if name == controller:
            return numbers[-1] == "0"
    return False


def disks() -> Finding:
    """A file system of its own for a shell's /tmp: made, mounted and let go of."""

    def make() -> None:
        enter(syscalls.CLONE_NEWNS)
        with tempfile.TemporaryDirectory(prefix="ondol-probe-") as directory:
            made = Disks(directory, mib=_TRY_MIB)
            if made.missing:
                raise OSError(made.missing)

    what = "disks for /tmp"
    if not syscalls.may_mount():
        mend = Surroundings().options("loop devices") or "run the node as root of the machine"
        return Finding(what, ok=False, needed=False, detail="only root can mount them", mend=mend, means=_NO_DISKS)
    error = tried(make)
    if not error:
        return Finding(what, ok=True, needed=False, detail="loop devices and mkfs.ext4 work")
    modprobe = Surroundings().options("loop devices") or "as root: modprobe loop"
    mend = "apt install e2fsprogs" if "mkfs" in error else modprobe
    return Finding(what, ok=False, needed=False, detail=error, mend=mend, means=_NO_DISKS)


def crashes(around: Surroundings | None = None) -> Finding:
    """Whether a program of the machine is started for each crash, which no limit of the process that crashes prevents."""
    pattern = read(f"{(around or Surroundings()).root}proc/sys/kernel/core_pattern")
    what = "crashes (core_pattern)"
    if not pattern.startswith("|"):
        return Finding(what, ok=True, needed=False, detail="no program of the machine is started for them")
    program = pattern[1:].split(" ")[0]
    means = f"the machine's {program} is started for every crash of a function and reads what that chose to leave"
    mend = "as root, on machines for strangers' code: sysctl -w kernel.core_pattern=core"
    return Finding(what, ok=False, needed=False, detail=f"crashes are given to {program}", mend=mend, means=means)
