"""Processes under measurement: started (pinned or not) in a session of their own, their CPU time read from /proc, ended whole.

CPU time is the user and system time of a process and of the children it has waited for, so that what a process spent is not
lost when it ends while the tree above it lives.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
STOP_S_MAX = 5.0
START_S_MAX = 60.0

#: In /proc/PID/stat, after the name: parent, and the four times.
_PARENT, _TIMES = 1, slice(11, 15)


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/PID/stat, and the command line."""

    pid: int
    parent: int
    cpu_us: float
    command: str


def parse_stat(text: str, command: str = "") -> Stat:
    """What `text` (/proc/PID/stat) says; the name in it may hold spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    return Stat(int(text.split(" ", 1)[0]), int(fields[_PARENT]), sum(map(int, fields[_TIMES])) * TICK_US, command)


def tree(root: int) -> list[Stat]:
    """`root` and everything below it, parents first."""
    below: dict[int, list[Stat]] = {}
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                stat = parse_stat(Path(f"/proc/{entry}/stat").read_text(), command)
                below.setdefault(stat.parent, []).append(stat)
                if stat.pid == root:
                    found.append(stat)
    for stat in found:
        found += below.get(stat.pid, [])
    return found


def group(stat: Stat, group_of_parent: str | None) -> str:
    """Which part of a node a process is. The children of the keeper's zygotes, and the inits of shells, count as guests."""
    if "ondol.app front" in stat.command:
        return "front"
    if "ondol.app desk" in stat.command or group_of_parent == "desk":
        return "desk"
    if "keeper/__main__.py" in stat.command:
        return "keeper"
    if group_of_parent == "keeper":
        return "zygotes" if "zygote.py" in stat.command else "guests"
    if group_of_parent in ("zygotes", "guests"):
        return "guests"
    return "supervisor"


def grouped(stats: Sequence[Stat]) -> dict[int, str]:
    """The part that each process of a node's tree is, by its id; `stats` has parents first."""
    groups: dict[int, str] = {}
    for stat in stats:
        groups[stat.pid] = group(stat, groups.get(stat.parent))
    return groups


def cpu_us(root: int, *, parts: bool = False) -> dict[str, float]:
    """CPU time so far of a tree: "all", and of a node also that of its parts."""
    stats = tree(root)
    used = {"all": sum(stat.cpu_us for stat in stats)}
    if parts:
        groups = grouped(stats)
        for stat in stats:
            used[groups[stat.pid]] = used.get(groups[stat.pid], 0.0) + stat.cpu_us
    return used


@contextlib.contextmanager
def on_cpus(cpus: set[int] | None) -> Iterator[None]:
    """What is started inside runs on these CPUs only; None leaves it where it may run."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def clean_environment() -> dict[str, str]:
    """Ours, without what tells clients and servers about other servers."""
    foreign = ("AWS_", "ONDOL_", "LAMBDA_", "GATEWAY_", "MINISTACK_", "GUNICORN_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


@contextlib.contextmanager
def running(
    command: Sequence[str], *, port: int, cpus: set[int] | None, cwd: Path, env: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Start a server, wait until it listens on `port`, yield its process id, end it with all its children."""
    log = cwd / f"{port}.log"
    with log.open("wb") as messages, on_cpus(cpus):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            cwd=cwd,
            start_new_session=True,
            env={**clean_environment(), **(env or {})},
        )
    try:
        _await_port(process, port, log)
        yield process.pid
    finally:
        end(process)


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args[0]} did not start: {log.read_text(errors='replace')[-800:]}")
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the session to stop, then end what is left of its tree."""
    pids = [stat.pid for stat in tree(process.pid)]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S_MAX)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = {stat.pid for stat in tree(1)} & set(pids)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)
