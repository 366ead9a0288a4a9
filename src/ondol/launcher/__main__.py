"""The launcher: makes shells for the levels whose guests start by exec. Standard library only; start it as

    PYTHON -I -S …/ondol/launcher/__main__.py --supervisor-fd N --data DIR --node-id ID --level LEVEL… [options]

    --supervisor-fd N       inherited SOCK_SEQPACKET end: {"line": "front"} + descriptor, {"stop": seconds}; its end is ours
    --data DIR              the node's data directory (absolute); code to attach lies below DIR/code
    --node-id ID            names the node's control groups (ondol-ID)
    --level NAME[=PROGRAM[=WORDS]]
                            `process` alone, or tools with their programs and more words for them; repeatable
    --interpreters P1:P2    absolute paths of the interpreters that guests may run
    --runtime NAME=PATH     what Ondol brings, shown as /var/runtime/NAME; repeatable
    --networks N1:N2        what shells may reach (none, egress, host); default none
    --disks none            /tmp is a watched directory, whatever disks there are; for tries
    --disk-reserve-mib N    what functions together leave free of the disk (default 256)
    --lock-fd N             inherited: the data directory's lock, held until all is clean

Two halves and a sweeper, as the keeper has them. For `process` nothing is asked of the kernel: the outer half ends what is left
below it. For tools the inner half is process 1 of a pid namespace, so the kernel does; as an ordinary user, below a user
namespace of its own.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import gc
import json
import resource
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from ondol import syscalls, ways
from ondol.keeper import cleaning, gateways, halves, networks
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.disks import Disks
from ondol.keeper.gateways import Gateways
from ondol.keeper.loop import Loop
from ondol.keeper.reserve import MIB_DEFAULT, Reserve
from ondol.keeper.serving import END_S_MAX
from ondol.keeper.sweeper import Sweeper
from ondol.keeper.view import GID, UID, View, prefix_of
from ondol.launcher import processes
from ondol.launcher.server import Launcher, Makings, log, with_programs
from ondol.launcher.shells import Ground, OpenGround, StagedGround
from ondol.launcher.tools import TOOLS, Tool

EXIT_USAGE, EXIT_NOT_STARTED = 64, 69
#: First host user ids of accounts when run as root; the keeper's accounts begin at 2000000 and are at most 60000.
UID_BASE = {"process": 2_100_000, "tools": 2_200_000}
#: Covered, in the tools' mount namespace only, by a file system in memory that holds the shells' roots.
STAGE = "/tmp"  # noqa: S108
_STAGE_OPTIONS = "mode=755,size=64m"


@dataclass
class Options:
    """The command line."""

    supervisor_fd: int = -1
    data: str = ""
    node_id: str = ""
    tools: dict[str, Tool] = field(default_factory=dict)
    interpreters: list[str] = field(default_factory=list)
    runtime: dict[str, str] = field(default_factory=dict)
    lock_fd: int = -1
    disks: str = "some"
    disk_reserve_mib: int = MIB_DEFAULT
    networks: list[str] = field(default_factory=lambda: [networks.NONE])

    @property
    def kind(self) -> str:
        """What stands in the names of what it makes."""
        return "process" if "process" in self.tools else "tools"


def parse(argv: list[str]) -> Options:
    """Raises ValueError."""
    options = Options()
    arguments = iter(argv)
    for flag in arguments:
        value = next(arguments, None)
        if value is None:
            raise ValueError(f"{flag} wants a value")
        match flag:
            case "--supervisor-fd" | "--lock-fd" | "--disk-reserve-mib":
                setattr(options, flag[2:].replace("-", "_"), int(value))
            case "--data":
                options.data = os.path.abspath(value)
            case "--node-id" | "--disks":
                setattr(options, flag[2:].replace("-", "_"), value)
            case "--level":
                options.tools |= _tool(value)
            case "--interpreters":
                options.interpreters = [path for path in value.split(":") if path]
            case "--networks":
                options.networks = value.split(":")
            case "--runtime":
                name, _, path = value.partition("=")
                options.runtime[name] = os.path.abspath(path)
            case _:
                raise ValueError(f"unknown option {flag}")
    _check(options)
    return options


def _tool(value: str) -> dict[str, Tool]:
    """NAME[=PROGRAM[=WORDS]]."""
    level, program, words = [*value.split("=", 2), "", ""][:3]
    if level not in TOOLS:
        raise ValueError(f"unknown level {level!r}")
    return with_programs(TOOLS, {level: (program, tuple(words.split()))})


def _check(options: Options) -> None:
    if options.supervisor_fd < 3 or not options.data or not options.node_id.isalnum() or not options.tools:
        raise ValueError("--supervisor-fd, --data, --node-id (letters and digits) and --level are needed")
    if not set(options.networks) <= set(networks.KINDS):
        raise ValueError(f"networks are of {', '.join(networks.KINDS)}")
    if "process" in options.tools and len(options.tools) > 1:
        raise ValueError("a launcher of processes is one of nothing else")


def main(argv: list[str]) -> int:
    """The outer half."""
    try:
        options = parse(argv)
    except ValueError as error:
        log(str(error))
        return EXIT_USAGE
    supervisor = os.getppid()
    if os.getpgrp() != os.getpid():
        os.setsid()  # an interrupt at the terminal is the supervisor's business
    root = syscalls.may_mount()
    try:
        if options.kind == "tools" and not root:
            enter_user_namespace()
        shells = cleaning.open_shells(f"{options.data}/shells-{options.kind}")
        name = f"{options.node_id}-{options.kind}"
        cleaning.clean(Cgroups.find(name), shells)
        cgroups = Cgroups.find(name)
        theirs = os.pidfd_open(supervisor)
        last = Sweeper(options.data, cgroups, shells, theirs)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        become = lambda: _inner(options, cgroups, shells, root=root)  # noqa: E731
        inner, _alive = halves.start_inner(become, log, namespace=options.kind == "tools")  # it stays open: its end is ours
    except OSError as error:
        log(f"cannot start: {error}; `ondol doctor` says what this machine allows")
        return EXIT_NOT_STARTED
    os.close(options.supervisor_fd)
    status = halves.watch(inner, supervisor, theirs, last)
    _end_the_rest()
    if not root and os.listdir(shells):
        os.waitpid(processes.loosen(f"{options.data}/shells-{options.kind}"), 0)
    if cleaning.clean(cgroups, shells):
        last.end()
    else:
        log("some control groups or directories could not be removed; the next start tries again")
    return status


def _end_the_rest() -> None:
    """Whatever has come to lie below this half."""
    until_s = time.monotonic() + END_S_MAX
    while time.monotonic() < until_s:
        left = processes.living([os.getpid()], [])
        processes.kill(left)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _inner(options: Options, cgroups: Cgroups, shells: int, *, root: bool) -> None:
    syscalls.set_name("ondol-launcher")
    syscalls.leave_session_keyring()
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0o022)
    if options.lock_fd >= 0:
        os.close(options.lock_fd)  # the outer half's alone
    ground, code = (_open_ground if options.kind == "process" else _staged_ground)(options, shells, root=root)
    loop = Loop()
    launcher = Launcher(
        loop,
        Makings(
            ground=ground,
            reserve=Reserve(loop, f"/proc/self/fd/{code}", options.disk_reserve_mib),
            networks=(networks.HOST,) if options.kind == "process" else tuple(options.networks),
            ways=Gateways(loop, f"{options.node_id}-{options.kind}", by_kernel=root, program=gateways.program()),
            tools=options.tools,
            cgroups=cgroups,
            code=(f"{options.data}/code", code),
            interpreters=frozenset(options.interpreters),
            walls=_walls() if any(tool.walled for tool in options.tools.values()) else "",
        ),
    )
    supervisor = socket.socket(fileno=options.supervisor_fd)
    os.set_inheritable(supervisor.fileno(), False)
    launcher.serve_supervisor(supervisor)
    gc.collect()
    gc.freeze()
    loop.run()


def _walls() -> str:
    """As guests want it. Raises NoWalls: no walled guest runs without a filter."""
    walls = halves.walls(log)
    return json.dumps({**walls.message(), "filter": walls.filters.function.hex()})


def _open_code(options: Options) -> int:
    """To be called in the mount namespace that it shall be shown from."""
    return os.open(f"{options.data}/code", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _open_ground(options: Options, _shells: int, *, root: bool) -> tuple[Ground, int]:
    """As root, functions are a user of their account's own, who must find a way to what it needs."""
    shells, base = f"{options.data}/shells-process", 0
    if root:
        base = UID_BASE["process"]
        keep = [shells, f"{options.data}/code", *options.runtime.values(), *map(prefix_of, options.interpreters)]
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
        ways.open_ways(base, base, [Path(path) for path in keep])
    os.chdir(shells)
    return OpenGround(shells, options.runtime, base), _open_code(options)


def _staged_ground(options: Options, shells: int, *, root: bool) -> tuple[Ground, int]:
    """A mount namespace with a stage in it. What may be hidden by that is held open, and named by what is open."""
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    here = os.open(f"{options.data}/shells-tools", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not os.path.samestat(os.fstat(here), os.fstat(shells)):
        raise cleaning.NotOurs(f"{options.data}/shells-tools was replaced while the launcher started")
    os.fchdir(here)
    where = f"/proc/1/fd/{here}"
    view = View(f"{where}/.view", options.interpreters, options.runtime)
    disks = Disks(where) if root and options.disks != "none" else None
    if disks is not None and disks.missing:
        log(f"/tmp of functions is a watched directory: {disks.missing}")  # noqa: S108
        disks = None
    code = _open_code(options)
    syscalls.mount("ondol-stage", STAGE, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, _STAGE_OPTIONS)
    return StagedGround(where, STAGE, view, disks, UID_BASE["tools"] if root else 0), code


def enter_user_namespace() -> None:
    """Whoever runs the node is the functions' user in it, with every right over it; what is executed loses them.

    Not root: a tool without rights may not map a root into the namespace that it makes below.
    """
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{UID} {uid} 1"), ("gid_map", f"{GID} {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
