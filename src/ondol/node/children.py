"""The node's processes as the supervisor starts them, and the places and lines that they find each other by."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ondol import accelerator, syscalls
from ondol.config import Settings
from ondol.http import unix
from ondol.model.errors import OndolError
from ondol.model.isolation import MAKERS, SANDBOX
from ondol.node import announcing, emulator, keys, nursery, unprivileged
from ondol.node.datadir import DataDir
from ondol.node.listening import listen_many
from ondol.node.nursery import Nursery
from ondol.node.orders import Orders
from ondol.node.supervisor import END_S, Child, Supervisor

#: What functions find below /var/runtime besides the guest: they expect AWS's SDK there, as on AWS.
BROUGHT: Final = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
#: Environment variables that the node's own processes get; an operator's keys are none of their business.
INHERITED: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "PYTHONDONTWRITEBYTECODE",
    "COVERAGE_PROCESS_START",
    accelerator.VARIABLE,
)
EXIT_REFUSED: Final = 4
#: Sockets by which fronts reach the desk.
LOCAL: Final = ("desk", "link")
#: A front's role, and its name; of several, each has a number behind it.
FRONT: Final = "front"
#: Finds the interpreters of this machine; the file is where it may keep what it learnt.
Finder = Callable[[Path], Sequence[Mapping[str, Any]]]


def supervise(settings: Settings, find: Finder, ready: Callable[[str], None] | None) -> int:
    """Start everything and mind it until told to stop. Says in one sentence why it cannot."""
    try:
        return _supervise(settings, find, ready)
    except OndolError as error:
        say(str(error))
        return EXIT_REFUSED


def say(sentence: str) -> None:
    """To the operator."""
    print(f"ondol: {sentence}", file=sys.stderr, flush=True)  # noqa: T201  # the supervisor's log is the terminal


def _supervise(settings: Settings, find: Finder, ready: Callable[[str], None] | None) -> int:
    owner = _owner()
    data = DataDir.open(settings.data, owner=owner)
    public: list[socket.socket] = []
    forks = _nursery(data.root, owner)
    try:
        # What tries out the machine is loaded while the nursery loads the rest.
        from ondol.node import isolating, networking

        plan = isolating.plan(settings.isolation, data.run / "isolation.json", say)
        public = listen_many(settings.host, settings.port, settings.fronts)
        key = keys.owner_key(data.root, settings.account, time.time())
        endpoint = f"{settings.url.rpartition(':')[0]}:{public[0].getsockname()[1]}"
        emulator.check(settings, endpoint, say)
        names = (*LOCAL, emulator.NAME) if settings.with_emulator else LOCAL
        local = {name: unix.listen(data.run / f"{name}.sock", mode=0o600) for name in names}
        keys.own([data.run / f"{name}.sock" for name in local], owner)
        orders = Orders(
            settings=settings,
            key=key,
            secret=keys.master_secret(data.root),
            endpoint=endpoint,
            sockets={name: sock.fileno() for name, sock in local.items()},
            # Not before the directory is known to be ours: what was found is kept in it.
            interpreters=[dict(each) for each in find(data.run / "interpreters.json")],
            isolation=plan.findings,
            levels=plan.isolation,
            networks=networking.decide(settings.network, plan.isolation.level, plan.findings, say),
        )
        announcing.write_card(data.run, {"endpoint": endpoint, "account": settings.account, "region": settings.region})
        supervisor = Supervisor(
            [
                *_makers(orders, plan.words, data.lock_descriptor),
                *_children(orders, owner, [sock.fileno() for sock in public]),
            ],
            stop_s_max=settings.drain_s + END_S,
            log=say,
            env=_environment(),
            nursery=forks,
        )
        supervisor.run(lambda: announcing.when_ready(endpoint, ready or (lambda _: None)))
        return 0
    finally:
        forks.close()
        announcing.remove_card(data.run)
        for name in (*LOCAL, emulator.NAME):
            (data.run / f"{name}.sock").unlink(missing_ok=True)
        for sock in public:
            sock.close()
        data.close()


def _makers(orders: Orders, words: Mapping[str, str], lock: int) -> list[Child]:
    """What makes sandboxes: the keeper, and launchers of the levels in `words`."""
    source = Path(__file__).resolve().parents[2]

    def maker(name: str) -> Callable[[int], list[str]]:
        room = "keeper" if name == MAKERS[SANDBOX] else "launcher"
        levels = [part for level, word in words.items() if MAKERS[level] == name for part in ("--level", word)]
        runtime = {**brought(), "ondol_guest": str(source / "ondol_guest")}

        def command(fd: int) -> list[str]:
            return [
                *(sys.executable, "-I", "-S", str(source / "ondol" / room / "__main__.py")),
                *("--supervisor-fd", str(fd), "--lock-fd", str(lock)),
                *("--data", str(orders.data), "--node-id", node_id(orders.data)),
                *("--interpreters", ":".join(_shown(orders.interpreters))),
                *(part for name, path in runtime.items() for part in ("--runtime", f"{name}={path}")),
                *levels,
                *("--networks", ":".join(orders.networks)),
                *("--disk-reserve-mib", str(orders.settings.disk_reserve_mib)),
            ]

        return command

    return [
        Child(name=name, command=maker(name), inherited=(lock,), session=False, tidies=True) for name in sorted(orders.makers)
    ]


def _shown(interpreters: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paths of interpreters and of their clients: what shells show is the directory above each one's own."""
    return [str(each[what]) for what in ("path", "client") for each in interpreters if each.get(what)]


def _children(orders: Orders, owner: tuple[int, int] | None, public: Sequence[int]) -> list[Child]:
    """`public`: the listening sockets, one for each front; they stay open here whatever becomes of the fronts."""

    def front(number: int, listener: int) -> Child:
        return Child(
            name=FRONT if len(public) == 1 else f"{FRONT}-{number + 1}",
            role=FRONT,
            inherited=(listener,),
            lines=tuple(sorted(orders.makers)),
            settings=replace(orders, sockets={"public": listener}, front=number).message(),
            ends_first=True,
        )

    def beside(listener: int) -> Child:
        def command(fd: int) -> list[str]:
            argv = [sys.executable, "-P", "-m", "ondol.node.emulator", str(fd), str(listener)]
            if owner is None:
                return argv
            # Somebody else than front and desk, who sees nothing of the data.
            keep = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).resolve().parents[2]]
            other = unprivileged.UID_DEFAULT - 1
            return unprivileged.command(argv, uid=other, gid=other, keep=keep, fds=[fd, listener])

        return Child(name=emulator.NAME, command=command, inherited=(listener,))

    local = {name: orders.sockets[name] for name in LOCAL}
    return [
        *([beside(orders.sockets[emulator.NAME])] if emulator.NAME in orders.sockets else []),
        Child(
            name="desk",
            role="desk",
            inherited=tuple(local.values()),
            settings=replace(orders, sockets=local).message(),
        ),
        *(front(number, listener) for number, listener in enumerate(public)),
    ]


def _nursery(data: Path, owner: tuple[int, int] | None) -> Nursery:
    """Started before anything is known about the machine: it imports meanwhile."""
    source = Path(__file__).resolve().parents[2]

    def command(fd: int) -> list[str]:
        argv = [sys.executable, "-P", "-m", "ondol.app", nursery.ROLE, str(fd)]
        if owner is None:
            return argv
        keep = [data, Path(sys.prefix), Path(sys.base_prefix), source]
        return unprivileged.command(argv, uid=owner[0], gid=owner[1], keep=keep, fds=[fd])

    return Nursery(command, _environment())


def brought() -> dict[str, str]:
    """Where the packages are that functions find without bringing them. Found, not imported."""
    found = {}
    for name in BROUGHT:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            path = Path(spec.origin)
            place = path.parent if spec.submodule_search_locations else path
            found[name if spec.submodule_search_locations else path.name] = str(place)
    return found


def node_id(data: Path) -> str:
    """Names what a node makes outside its data directory; the same for the same directory."""
    return hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:12]


def _environment() -> Mapping[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def _owner() -> tuple[int, int] | None:
    """Who front and desk are when the node is root's; None: whoever runs the node."""
    return (unprivileged.UID_DEFAULT, unprivileged.GID_DEFAULT) if syscalls.may_mount() else None
