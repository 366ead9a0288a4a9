"""How many of everything a tree of processes holds: what must be the same after ten thousand environments as before.

Counts what only grows when something leaks: processes, mounts of every mount namespace, control groups, namespaces, loop
devices, descriptors, files, resident memory. Knows processes by their pid, and a node by its directory and id.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

Census = Mapping[str, int]

_GLANCE_S: Final = 0.05
_KINDS: Final = ("mnt", "pid", "ipc", "uts", "net", "user", "cgroup")
_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


def take(roles: Mapping[str, Iterable[int]], data: Path, node: str) -> dict[str, int]:
    """Count. `roles`: pids by what they are; `data`: the directory looked into; `node`: what control groups are named by."""
    found: dict[str, int] = {}
    for role, pids in sorted(roles.items()):
        living = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        found[f"processes: {role}"] = len(living)
        found[f"descriptors: {role}"] = sum(_entries(f"/proc/{pid}/fd") for pid in living)
        found[f"rss KiB: {role}"] = max((_rss_kib(pid) for pid in living), default=0)
    everybody = [pid for pids in roles.values() for pid in pids]
    found["namespaces"] = len({link for pid in everybody for link in _namespaces(pid)})
    found["mounts"] = _mounts([*everybody, os.getpid()], data)
    found["control groups"] = sum(1 for _ in _groups(node))
    found["loop devices"] = _loops(data)
    found["shells"] = _entries(str(data / "shells"))
    found["spool files"] = _entries(str(data / "tmp"))
    found["files"] = sum(len(folders) + len(files) for _, folders, files in os.walk(data))
    return found


def settled(see: Callable[[], Census], like: Census, seconds_max: float) -> Census:
    """The first census in which nothing is more than in `like`, or the last one before the time is over."""
    deadline_s = time.monotonic() + seconds_max
    while (seen := see()) and grown(like, seen) and time.monotonic() < deadline_s:
        time.sleep(_GLANCE_S)
    return seen


def grown(before: Census, after: Census, *, spare: Mapping[str, int] | None = None) -> dict[str, tuple[int, int]]:
    """What there is more of, by more than `spare` says (memory and files apart: those grow with what is kept on purpose)."""
    allowed = spare or {}
    return {
        name: (before.get(name, 0), count)
        for name, count in after.items()
        if not name.startswith("rss") and name != "files" and count > before.get(name, 0) + allowed.get(name, 0)
    }


def table(before: Census, after: Census) -> str:
    """For people: one line for each thing counted."""
    return "\n".join(f"{name:28} {before.get(name, 0):>9,} -> {after.get(name, 0):>9,}" for name in sorted({*before, *after}))


def _entries(folder: str) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(folder))
    return 0


def _rss_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KIB
    return 0


def _namespaces(pid: int) -> list[str]:
    links = []
    for kind in (*_KINDS, "pid_for_children"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return links


def _mounts(pids: Iterable[int], data: Path) -> int:
    """Of each mount namespace once; of ours only what the node has in it."""
    ours, count, seen = os.readlink("/proc/self/ns/mnt"), 0, set()
    for pid in pids:
        with contextlib.suppress(OSError):
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
            count += sum(1 for line in lines if namespace != ours or str(data) in line)
    return count


def _groups(node: str) -> Iterable[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.partition(" - ")[2].split()[0] in ("cgroup", "cgroup2"):
            for path, _, _ in os.walk(line.split()[4]):
                if f"/ondol-{node}/" in path:
                    yield path


def _loops(data: Path) -> int:
    count = 0
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it goes while we look
            path = backing.read_text()
            count += path.startswith(f"{data}/shells/") and not path.startswith(f"{data}/shells/.spare/")
    return count
