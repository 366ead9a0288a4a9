"""Where a node may make control groups: reads what is mounted and where this process stands in it, and takes the best place.

Version 1: below the own group of each controller's hierarchy, else at its top. Version 2 has one tree, two rules that decide,
and one owner for each part of it:


* Processes and controllers do not share a group: a group that hands controllers down holds no process (only the machine's
  topmost may). Where the node's own group was given to it for good (systemd's `Delegate=yes`, or the top a container sees),
  everything in it is moved into a leaf, `ondol-main`, and the functions' groups are made beside that.
* Who moves a process must be able to write the common ancestor of both places. So an ordinary user needs a group in which the
  node was started, or one above it that is that user's.
* Who moves itself into a group of whole processes waits for a grace period of the kernel's; into a *threaded* group, whose
  parent it is in already, it does not. There can be such where there are no controllers: on hybrid hosts.
* A group that systemd made for something else is not divided: root then takes the machine's topmost, an ordinary user the
  nearest slice that is theirs.

On hybrid hosts version 2 is taken too, without controllers: its groups can be killed and frozen whole.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

CONTROLLERS = ("memory", "pids", "cpu")
#: Where the node's own processes go in a group that is divided.
LEAF = "ondol-main"
NONE_MOUNTED = "no control group file system is mounted"
#: Rounds of moving processes out, while new ones are started.
_ROUNDS_MAX = 100
_DELEGATED = ("trusted.delegate", "user.delegate")
_SYSTEMD = "/run/systemd/system"


@dataclass(frozen=True)
class Hierarchy:
    """One tree with what it controls here. `parent` is this node's directory in it."""

    version: int
    controllers: tuple[str, ...]
    parent: str


@dataclass(frozen=True)
class Mounted:
    """A mounted hierarchy: its top, and the group this process is in, as paths."""

    version: int
    controllers: tuple[str, ...]
    top: str
    own: str


def take(name: str, *, look: bool = False) -> tuple[list[Hierarchy], dict[str, str]]:
    """This node's parents, made or taken over; and reasons why some could not be, each with the first place where it held.

    `look`: they are made and removed again, no process is moved, no controller handed down: what that would give is foretold.
    """
    reasons: dict[str, str] = {}
    found: list[Hierarchy] = []
    there = mounted()
    for each in there:
        if each.version == 1:
            wanted = tuple(c for c in each.controllers if c in CONTROLLERS and c not in _controlled(found))
            if wanted:
                found += _take_v1(each, wanted, name, reasons)
    for each in there:
        if each.version == 2 and not any(hierarchy.version == 2 for hierarchy in found):  # it may be mounted twice
            wanted = tuple(c for c in CONTROLLERS if c not in _controlled(found))
            found += _take_v2(each, wanted, name, reasons, look=look)
    if not there:
        reasons[NONE_MOUNTED] = "/proc/self/mountinfo"
    if "pids" not in _controlled(found):  # a group that counts nothing would pass for one that does
        found = [hierarchy for hierarchy in found if hierarchy.controllers or not (look or _remove(hierarchy.parent))]
    if look:
        for hierarchy in found:
            _remove(hierarchy.parent)
    return found, reasons


def lacking(found: list[Hierarchy], reasons: dict[str, str]) -> str:
    """What is not controlled, and why; empty when all is."""
    names = [c for c in CONTROLLERS if c not in _controlled(found)]
    if not names:
        return ""
    why = "; ".join(f"{place}: {reason}" for reason, place in reasons.items())
    return f"no writable control group for {', '.join(names)}" + (f" ({why})" if why else "")


def mounted(proc: str = "/proc/self") -> list[Mounted]:
    """Every hierarchy with controllers that this process is in, and the unified one."""
    own: dict[str, str] = {}
    for line in read(f"{proc}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    found: dict[str, Mounted] = {}
    for line in read(f"{proc}/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        root, top = left.split(" ")[3:5]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup":
            here = tuple(c for c in options.split(",") if c in own)
        elif kind == "cgroup2" and "" in own:
            here = ("",)
        else:
            continue
        if here:  # of what is mounted over each other the last is to be seen
            found.pop(top, None)
            found[top] = Mounted(2 if kind == "cgroup2" else 1, here, top, _below(top, root, own[here[0]]))
    return list(found.values())


def _below(top: str, root: str, path: str) -> str:
    """Where the group `path` is seen under `top`, which shows the hierarchy from `root` on."""
    if root != "/" and path.startswith(root):
        path = path[len(root) :]
    seen = top + path.rstrip("/")
    return seen if os.path.isdir(seen) and "/.." not in seen else top


def _controlled(found: list[Hierarchy]) -> set[str]:
    return {c for hierarchy in found for c in hierarchy.controllers}


# Version 1 ---------------------------------------------------------------------------------------------------------------
def _take_v1(each: Mounted, wanted: tuple[str, ...], name: str, reasons: dict[str, str]) -> list[Hierarchy]:
    for directory in dict.fromkeys((each.own, each.top)):
        path = f"{directory}/{name}"
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            reasons.setdefault(os.strerror(error.errno or 0), directory)
            continue
        if "memory" in wanted:
            try_write(f"{path}/memory.use_hierarchy", "1")
        if os.access(f"{path}/cgroup.procs", os.W_OK):
            return [Hierarchy(1, wanted, path)]
    return []


# Version 2 ---------------------------------------------------------------------------------------------------------------
def _take_v2(
    each: Mounted, wanted: tuple[str, ...], name: str, reasons: dict[str, str], *, look: bool = False
) -> list[Hierarchy]:
    """The nearest place that gives all that is wanted, else the one that gives most."""
    best: Hierarchy | None = None
    for directory in places(each):
        try:
            divide = _may_divide(directory, each.top)
            found = (
                _foretell(directory, name, wanted, divide=divide) if look else _claim(directory, name, wanted, divide=divide)
            )
        except OSError as error:
            reasons.setdefault(os.strerror(error.errno or 0), directory)
            continue
        if best is not None and len(found.controllers) <= len(best.controllers):
            _remove(found.parent)
            continue
        if best is not None:
            _remove(best.parent)
        best = found
        if len(found.controllers) == len(wanted):
            break
    if best is not None and len(best.controllers) < len(wanted):
        reasons[f"hands down {' '.join(best.controllers) or 'none'} only"] = os.path.dirname(best.parent)
    return [] if best is None else [best]


def places(each: Mounted) -> Iterator[str]:
    """From the own group upwards. A root on a machine with systemd passes over groups that are systemd's."""
    directory = each.own
    while True:
        if os.geteuid() != 0 or directory == each.top or _may_divide(directory, each.top):
            yield directory
        if directory == each.top:
            return
        directory = os.path.dirname(directory)


def _may_divide(directory: str, top: str) -> bool:
    """Whether the group is ours to move everything in it about."""
    if directory == top:  # a container's; the machine's own needs no dividing
        return os.path.exists(f"{directory}/cgroup.type")
    return _delegated(directory) or not os.path.isdir(_SYSTEMD)


def _delegated(directory: str) -> bool:
    for attribute in _DELEGATED:
        try:
            if os.getxattr(directory, attribute) == b"1":
                return True
        except OSError:
            continue
    return False


def _claim(directory: str, name: str, wanted: tuple[str, ...], *, divide: bool) -> Hierarchy:
    """Make this node's parent in `directory`, with as much of `wanted` as can be handed down to it. Raises OSError."""
    _check(directory)
    _hand_down(directory, wanted, divide=divide)
    path = f"{directory}/{name}"
    os.makedirs(path, exist_ok=True)
    try:
        if read(f"{path}/cgroup.type").strip() not in ("domain", "domain threaded", ""):  # the latter is an earlier node's
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        _hand_down(path, wanted, divide=False)
    except OSError:
        _remove(path)
        raise
    handed = read(f"{path}/cgroup.subtree_control").split()
    return Hierarchy(2, tuple(c for c in wanted if c in handed), path)


def _foretell(directory: str, name: str, wanted: tuple[str, ...], *, divide: bool) -> Hierarchy:
    """What `_claim` would make. Raises OSError."""
    _check(directory)
    path = f"{directory}/{name}"
    os.makedirs(path, exist_ok=True)
    _remove(path)
    handed, there = (read(f"{directory}/cgroup.{file}").split() for file in ("subtree_control", "controllers"))
    free = divide or not os.path.exists(f"{directory}/cgroup.type") or not read(f"{directory}/cgroup.procs").strip()
    return Hierarchy(2, tuple(c for c in wanted if c in handed or (free and c in there)), path)


def _check(directory: str) -> None:
    """Whether this user may move processes into groups below, and hand controllers down. Raises OSError."""
    for file in ("cgroup.procs", "cgroup.subtree_control"):
        if not os.access(f"{directory}/{file}", os.W_OK):
            number = errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(number, os.strerror(number))


def _hand_down(directory: str, wanted: tuple[str, ...], *, divide: bool) -> None:
    """Have the groups below controlled, as far as the kernel lets us."""
    for controller in wanted:
        file, there = f"{directory}/cgroup.subtree_control", read(f"{directory}/cgroup.controllers").split()
        for _ in range(_ROUNDS_MAX):
            if controller not in there or controller in read(file).split() or try_write(file, f"+{controller}"):
                break
            if not divide or not _move_out(directory):
                break


def _move_out(directory: str) -> bool:
    """Move every process of the group into its leaf; False when one cannot be moved."""
    leaf = f"{directory}/{LEAF}"
    try:
        os.makedirs(leaf, exist_ok=True)
    except OSError:
        return False
    for pid in read(f"{directory}/cgroup.procs").split():
        if not try_write(f"{leaf}/cgroup.procs", pid) and os.path.exists(f"/proc/{pid}"):
            return False
    return True


# Files -------------------------------------------------------------------------------------------------------------------
def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def try_write(path: str, text: str) -> bool:
    """Whether it took: an older kernel has no such file, or it is not ours."""
    try:
        write(path, text)
    except OSError:
        return False
    return True


def _remove(path: str) -> bool:
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True
