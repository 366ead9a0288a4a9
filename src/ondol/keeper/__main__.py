"""The keeper: the only privileged process of a node. Standard library only; start it as

    PYTHON -I -S …/ondol/keeper/__main__.py --supervisor-fd N --data DIR --node-id ID [options]

    --supervisor-fd N      inherited SOCK_SEQPACKET end: {"line": "front"} + descriptor, {"stop": seconds}; its end is ours
    --data DIR             the node's data directory (absolute); code to attach lies below DIR/code
    --node-id ID           names the node's control groups (ondol-ID)
    --interpreters P1:P2   absolute paths of the interpreters that zygotes may run
    --runtime NAME=PATH    shown as /var/runtime/NAME, repeatable; ondol_guest is added when it is not named
    --networks N1:N2       what shells may reach (none, egress, host); default none:egress
    --isolation sandbox    the only level built so far
    --disk-reserve-mib N   what functions together leave free of the disk (default 256)
    --lock-fd N            inherited: the data directory's lock, held until all is clean, so that the next start waits for that
    --uid-base N           first host user id of accounts when run as root (default 2000000)

Two halves, and a sweeper (`sweeper.py`) for the case that both are killed together with the supervisor. The outer half (this
process) stays outside the pid namespace: it ends the inner one when the supervisor is gone and cleans what survives a keeper
(control groups, directories) and a killed node (spool files, sockets). The inner one is PID 1 of a new pid namespace and dies
with the outer; the kernel then ends everything below it. As an ordinary user, or as a root without CAP_SYS_ADMIN, both first
enter a user namespace of their own; from there on there is one way for all.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import gc
import resource
import socket
from dataclasses import dataclass, field

from ondol import syscalls
from ondol.keeper import cleaning, gateways, halves, networks
from ondol.keeper.accounts import UID_BASE, Accounts
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.disks import Disks
from ondol.keeper.gateways import Gateways
from ondol.keeper.loop import Loop
from ondol.keeper.reserve import MIB_DEFAULT, Reserve
from ondol.keeper.server import Keeper, Places, log
from ondol.keeper.sweeper import Sweeper
from ondol.keeper.view import View
from ondol.walls.built import NoWalls, Walls

EXIT_USAGE, EXIT_CANNOT = 64, 69
_GUEST = "ondol_guest"


@dataclass
class Options:
    """The command line."""

    supervisor_fd: int = -1
    data: str = ""
    node_id: str = ""
    interpreters: list[str] = field(default_factory=list)
    runtime: dict[str, str] = field(default_factory=dict)
    networks: list[str] = field(default_factory=lambda: ["none", "egress"])
    isolation: str = "sandbox"
    uid_base: int = UID_BASE
    disk_reserve_mib: int = MIB_DEFAULT
    lock_fd: int = -1


class UsageError(Exception):
    """The command line cannot be."""


def parse(argv: list[str]) -> Options:
    """Raises UsageError. No argparse: each module costs in every fork."""
    options = Options()
    arguments = iter(argv)
    for flag in arguments:
        value = next(arguments, None)
        if value is None:
            raise UsageError(f"{flag} wants a value")
        match flag:
            case "--supervisor-fd" | "--lock-fd" | "--uid-base" | "--disk-reserve-mib":
                setattr(options, flag[2:].replace("-", "_"), int(value))
            case "--data":
                options.data = os.path.abspath(value)
            case "--node-id":
                options.node_id = value
            case "--interpreters":
                options.interpreters = [path for path in value.split(":") if path]
            case "--networks":
                options.networks = value.split(":")
            case "--runtime":
                name, _, path = value.partition("=")
                options.runtime[name] = os.path.abspath(path)
            case "--isolation":
                options.isolation = value
            case _:
                raise UsageError(f"unknown option {flag}")
    _check(options)
    return options


def _check(options: Options) -> None:
    if options.supervisor_fd < 3 or not options.data or not options.node_id.isalnum():
        raise UsageError("--supervisor-fd, --data and --node-id (letters and digits) are needed")
    if not options.networks or not set(options.networks) <= set(networks.KINDS):
        raise UsageError(f"networks are of {', '.join(networks.KINDS)}")
    if options.isolation != "sandbox":
        raise UsageError(f"isolation {options.isolation!r} is not built; expected sandbox")
    if _GUEST not in options.runtime:
        source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        options.runtime[_GUEST] = f"{source}/{_GUEST}"


def main(argv: list[str]) -> int:
    """The outer half."""
    try:
        options = parse(argv)
    except (UsageError, ValueError) as error:
        log(str(error))
        return EXIT_USAGE
    supervisor = os.getppid()
    if os.getpgrp() != os.getpid():
        os.setsid()  # an interrupt at the terminal is the supervisor's business
    rootless = not syscalls.may_mount()
    try:
        walls = halves.walls(log)
        if rootless:
            _enter_user_namespace()
        shells = cleaning.open_shells(f"{options.data}/shells")
        cleaning.clean(Cgroups.find(options.node_id), shells)
        cgroups = Cgroups.find(options.node_id)
        theirs = os.pidfd_open(supervisor)
        last = Sweeper(options.data, cgroups, shells, theirs)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        become = lambda: _inner(options, cgroups, walls, shells, rootless=rootless)  # noqa: E731
        pid, alive = halves.start_inner(become, log, namespace=True)
    except (OSError, NoWalls) as error:
        log(f"cannot start: {error}; `ondol doctor` says what this machine allows")
        return EXIT_CANNOT
    os.close(options.supervisor_fd)
    status = halves.watch(pid, supervisor, theirs, last)
    os.close(alive)
    if os.getppid() != supervisor:
        cleaning.remove_litter(options.data)
    if cleaning.clean(cgroups, shells):
        last.end()
    else:
        log("some control groups or directories could not be removed; the next start tries again")
    return status


def _inner(options: Options, cgroups: Cgroups, walls: Walls, shells: int, *, rootless: bool) -> None:
    """PID 1 of the keeper's pid namespace."""
    if options.lock_fd >= 0:
        os.close(options.lock_fd)  # the outer half's alone
    syscalls.set_name("ondol-keeper")
    cgroups.enter()
    syscalls.leave_session_keyring()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0o022)
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    # Opened again, in the new mount namespace, and used as a path that nobody can bend: process 1 is us.
    here = os.open(f"{options.data}/shells", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not os.path.samestat(os.fstat(here), os.fstat(shells)):
        raise cleaning.NotOurs(f"{options.data}/shells was replaced while the keeper started")
    where = f"/proc/1/fd/{here}"
    view = View(f"{where}/.view", options.interpreters, options.runtime)
    own_mnt = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    loop = Loop()
    keeper = Keeper(
        loop,
        view=view,
        accounts=Accounts(rootless=rootless, uid_base=options.uid_base),
        cgroups=cgroups,
        tmp=None if rootless else _disks(where),
        places=Places(where, f"{options.data}/code", own_mnt, Reserve(loop, where, options.disk_reserve_mib)),
        interpreters=frozenset(options.interpreters),
        ways=Gateways(loop, options.node_id, by_kernel=not rootless, program=gateways.program()),
        allowed=tuple(options.networks),
        walls=walls,
    )
    supervisor = socket.socket(fileno=options.supervisor_fd)
    os.set_inheritable(supervisor.fileno(), False)
    keeper.serve_supervisor(supervisor)
    gc.collect()
    gc.freeze()
    loop.run()


def _disks(shells: str) -> Disks | None:
    disks = Disks(shells)
    if not disks.missing:
        return disks
    log(f"/tmp of functions is a watched directory: {disks.missing}")  # noqa: S108
    return None


def _enter_user_namespace() -> None:
    """Root of a namespace in which there is nobody else."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
