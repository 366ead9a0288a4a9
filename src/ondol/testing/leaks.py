"""Who is who among a node's processes, and what of a node is where it should not be.

Knows a node by its data directory, its first process and what /proc, /sys and the control groups show; no room of the node.
A leak is what *stays*: things come and go while a node works, so `lasting` looks until no suspect of the first look is left.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ondol.testing.node import Node

_GLANCE_S: Final = 0.02

#: (pid, start time in ticks): a pid alone may be somebody else's by now.
Life = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc."""

    pid: int
    parent: int
    state: str
    born: int
    words: bytes

    @property
    def life(self) -> Life:
        return self.pid, self.born

    @property
    def dead(self) -> bool:
        return self.state in ("Z", "X")


def processes() -> dict[int, Process]:
    """All that there are now."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
                found[int(entry)] = Process(int(entry), int(fields[1]), fields[0], int(fields[19]), words)
    return found


def below(pid: int, all_of_them: dict[int, Process]) -> list[Process]:
    """The process and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for process in all_of_them.values():
        children.setdefault(process.parent, []).append(process.pid)
    found = [pid] if pid in all_of_them else []
    for each in found:
        found += children.get(each, [])
    return [all_of_them[each] for each in found]


def roles(node: Node) -> dict[str, list[int]]:
    """Pids by what they are: supervisor, keeper, inner, maker, nursery, front, desk, helper, zygote, init, guest."""
    found: dict[str, list[int]] = {}
    names: dict[int, str] = {}
    for process in below(node.process.pid, processes()):
        if process.dead:
            continue
        name = names[process.pid] = _role(process, node.process.pid, names.get(process.parent, ""))
        found.setdefault(name, []).append(process.pid)
    return found


def _role(process: Process, first: int, parent: str) -> str:
    if process.pid == first:
        return "supervisor"
    if parent in ("zygote", "guest"):
        return "guest"
    by_words = {
        # What makes a shell is a fork of the inner half, and has its words until it becomes an init.
        b"keeper/__main__.py": {"keeper": "inner", "inner": "maker", "maker": "maker"}.get(parent, "keeper"),
        b"ondol.app\0front": "front",
        b"ondol.app\0desk": "desk",
        b"ondol.app\0nursery": "nursery",
        b"ondol.blobstores.worker": "helper",
        b"ondol_guest/zygote.py": "zygote",
    }
    if parent == "inner" and process.words == b"init\0":
        return "init"
    return next((name for words, name in by_words.items() if words in process.words), "other")


@dataclass
class Witness:
    """Remembers every process it has seen below a node, across the node's starts."""

    seen: set[Life] = field(default_factory=set)

    def look(self, node: Node) -> None:
        self.seen |= {process.life for process in below(node.process.pid, processes())}

    def strays(self, node: Node) -> set[str]:
        """Processes that were the node's, or are by their words or control group, and are not below it any more."""
        everyone = processes()
        ours = {process.pid for process in below(node.process.pid, everyone)} | {os.getpid()}
        return {
            f"process {process.pid} {process.words[:80]!r}"
            for process in everyone.values()
            if process.pid not in ours and not process.dead and (process.life in self.seen or _named(process, node))
        }


def _named(process: Process, node: Node) -> bool:
    if os.fsencode(node.data) in process.words and b"\0up\0" in process.words + b"\0":
        return True
    with contextlib.suppress(OSError):
        return f"/ondol-{node.id}/" in Path(f"/proc/{process.pid}/cgroup").read_text()
    return False


# While a node lives -------------------------------------------------------------------------------------------------------
def suspects(node: Node, witness: Witness) -> set[str]:
    """What may be a leak at this moment: strays, mounts outside, and remains of shells in which no process lives."""
    groups = _groups(node)
    living = {path.name for path in groups if _populated(path)}
    found = witness.strays(node) | _mounts(node)
    found |= {f"group {path}" for path in groups if path.name not in living}
    if groups or living:
        found |= {f"loop device on {shell}" for shell in _loops(node) if shell not in living and not shell.startswith(".")}
        found |= {f"shell {name}" for name in _names(node.data / "shells") if name not in living and not name.startswith(".")}
    return found | {f"spool file {name}" for name in _names(node.data / "tmp")}


def remains(node: Node, witness: Witness) -> set[str]:
    """What is left of a node that is not running. Its catalog, queue, code, journals and templates stay, of course."""
    found = witness.strays(node) | _mounts(node)
    found |= {f"group {path}" for path in _groups(node)} | {f"group {path}" for path in _parents(node)}
    found |= {f"loop device on {shell}" for shell in _loops(node)}
    found |= {f"shell {name}" for name in _names(node.data / "shells")}
    found |= {f"spool file {name}" for name in _names(node.data / "tmp")}
    return found | {f"run/{name}" for name in _names(node.data / "run") if name.endswith(".sock") or name == "node.json"}


def lasting(see: Callable[[], set[str]], seconds_max: float) -> tuple[set[str], float]:
    """What is there at every look until none is left or the time is over; and the seconds that took."""
    begun_s = time.monotonic()
    left = see()
    while left and time.monotonic() - begun_s < seconds_max:
        time.sleep(_GLANCE_S)
        left &= see()
    return left, time.monotonic() - begun_s


def _names(folder: Path) -> Iterable[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(folder)
    return []


def _mounts(node: Node) -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {f"mount {line.split()[4]}" for line in lines if str(node.data) in line.split()[4]}


def _parents(node: Node) -> list[Path]:
    """The node's directory in each control group hierarchy."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.partition(" - ")[2].split()[0] in ("cgroup", "cgroup2"):
            found += [Path(top) for top, _, _ in os.walk(line.split()[4]) if top.endswith(f"/ondol-{node.id}")]
    return found


def _groups(node: Node) -> list[Path]:
    """The directories of shells in each hierarchy."""
    return [parent / name for parent in _parents(node) for name in _names(parent) if (parent / name).is_dir()]


def _populated(group: Path) -> bool:
    with contextlib.suppress(OSError):
        return bool((group / "cgroup.procs").read_text().strip())
    return False


def _loops(node: Node) -> set[str]:
    """Shells whose disk has a loop device."""
    found = set()
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it goes while we look
            path = backing.read_text().removesuffix(" (deleted)\n").strip()
            if path.startswith(f"{node.data}/shells/"):
                found.add(Path(path).parent.name)
    return found
