"""The node's processes as the supervisor starts them, and the places and lines that they find each other by."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ondol import syscalls
from ondol.config import Settings
from ondol.http import unix
from ondol.keeper import probe
from ondol.model.errors import OndolError, Unavailable
from ondol.node import announcing, keys, networking, unprivileged
from ondol.node.datadir import DataDir
from ondol.node.following import Connect
from ondol.node.lines import receive
from ondol.node.listening import listen
from ondol.node.serving import Orders
from ondol.node.supervisor import END_S, Child, Supervisor

#: What functions find below /var/runtime besides the guest: they expect AWS's SDK there, as on AWS.
BROUGHT: Final = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
#: Environment variables that the node's own processes get; an operator's keys are none of their business.
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONDONTWRITEBYTECODE", "COVERAGE_PROCESS_START")
EXIT_REFUSED: Final = 4
#: Sockets by which the front reaches the desk.
LOCAL: Final = ("desk", "link")
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
    isolation, networks = _check_isolation(settings.network)
    owner = _owner()
    data = DataDir.open(settings.data, owner=owner)
    public = None
    try:
        public = listen(settings.host, settings.port)
        key = keys.owner_key(data.root, settings.account, time.time())
        endpoint = f"{settings.url.rpartition(':')[0]}:{public.getsockname()[1]}"
        local = {name: unix.listen(data.run / f"{name}.sock", mode=0o600) for name in LOCAL}
        keys.own([data.run / f"{name}.sock" for name in local], owner)
        orders = Orders(
            settings=settings,
            key=key,
            secret=keys.master_secret(data.root),
            endpoint=endpoint,
            sockets={"public": public.fileno(), **{name: sock.fileno() for name, sock in local.items()}},
            # Not before the directory is known to be ours: what was found is kept in it.
            interpreters=[dict(each) for each in find(data.run / "interpreters.json")],
            isolation=isolation,
            networks=networks,
        )
        announcing.write_card(data.run, {"endpoint": endpoint, "account": settings.account, "region": settings.region})
        supervisor = Supervisor(
            _children(orders, owner, data.lock_descriptor), stop_s_max=settings.drain_s + END_S, log=say, env=_environment()
        )
        supervisor.run(lambda: announcing.when_ready(endpoint, ready or (lambda _: None)))
        return 0
    finally:
        announcing.remove_card(data.run)
        for name in LOCAL:
            (data.run / f"{name}.sock").unlink(missing_ok=True)
        if public is not None:
            public.close()
        data.close()


def _children(orders: Orders, owner: tuple[int, int] | None, lock: int) -> list[Child]:
    source = Path(__file__).resolve().parents[2]
    message = orders.message()

    def keeper(fd: int) -> list[str]:
        runtime = [part for name, path in brought().items() for part in ("--runtime", f"{name}={path}")]
        return [
            *(sys.executable, "-I", "-S", str(source / "ondol" / "keeper" / "__main__.py")),
            *("--supervisor-fd", str(fd), "--lock-fd", str(lock)),
            *("--data", str(orders.data), "--node-id", node_id(orders.data)),
            *("--networks", ":".join(orders.networks)),
            *("--interpreters", ":".join(str(each["path"]) for each in orders.interpreters)),
            *runtime,
        ]

    def role(name: str, *sockets: str) -> Callable[[int], list[str]]:
        def command(fd: int) -> list[str]:
            argv = [sys.executable, "-P", "-m", "ondol.app", name, str(fd)]
            if owner is None:
                return argv
            keep = [orders.data, Path(sys.prefix), Path(sys.base_prefix), source]
            fds = [fd, *(orders.sockets[each] for each in sockets)]
            return unprivileged.command(argv, uid=owner[0], gid=owner[1], keep=keep, fds=fds)

        return command

    inherited = orders.sockets
    return [
        Child(name="keeper", command=keeper, inherited=(lock,), session=False, tidies=True),
        Child(
            name="desk",
            command=role("desk", "desk", "link"),
            inherited=(inherited["desk"], inherited["link"]),
            settings=message,
        ),
        Child(
            name="front",
            command=role("front", "public"),
            inherited=(inherited["public"],),
            lines=("keeper",),
            settings=message,
        ),
    ]


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


def _check_isolation(network: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What there is, and what functions may reach. Refuse to start where what was asked for cannot be had."""
    findings = probe.probe()
    for found in findings:
        if found.needed and not found.ok:
            raise Unavailable(f"{found.what}: {found.detail}. {found.mend} (`ondol doctor` says more)")
    if lacking := probe.lacking(findings):
        say(lacking)
    way_out = next(found for found in findings if found.what == probe.WAY_OUT)
    networks = networking.given(network, way_out)
    if shortcoming := networking.shortcoming(network, way_out):
        say(shortcoming)
    return [asdict(found) for found in findings], networks


# What the children use -------------------------------------------------------------------------------------------------
def places(root: Path) -> DataDir:
    """The data directory's places, for a process that does not hold its lock."""
    return DataDir(root, -1)


def dialling(path: Path) -> Connect:
    """Connects protocols to a unix socket, however long its path."""

    async def connect(factory: Callable[[], asyncio.Protocol]) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        sock = await unix.connect(path)
        try:
            return await asyncio.get_running_loop().create_unix_connection(factory, sock=sock)
        except BaseException:
            sock.close()
            raise

    return connect


async def first_line(line: socket.socket, name: str) -> socket.socket:
    """Wait for the supervisor to hand over the line to `name`."""
    while True:
        received = await asyncio.to_thread(receive, line)
        if received is None:
            sys.exit(1)
        message, fds = received
        if message.get("line") == name and fds:
            return socket.socket(fileno=fds[0])
        for fd in fds:
            with suppress(OSError):
                os.close(fd)
        if "stop" in message:
            sys.exit(0)
