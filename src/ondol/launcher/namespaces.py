"""A shell's network namespace, made from outside before its tool is started in it.

Made and furnished by a child that leaves at once, as the keeper's shells have theirs: loopback, the listening socket at which
the shell finds its node, and for `egress` a ROUTE socket by which the shell is joined to its gateway. The tool enters it before
it has any right in it, and makes none of its own: it belongs to the launcher's user namespace, so nothing that a tool or a
function becomes may change it. Knows nothing of lines.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator
from dataclasses import dataclass, field

from ondol import syscalls
from ondol.keeper import networks
from ondol.keeper.loop import Readable, Sleep
from ondol.keeper.protocol import Closed, Line, close_all
from ondol.keeper.shells import quiet_signals

MADE_S_MAX = 5.0


class NotMade(Exception):  # noqa: N818
    """There is no namespace; the text says why."""


@dataclass
class Network:
    """One shell's. Descriptors: -1 and none with the machine's own network."""

    namespace: int = -1
    #: Sockets that were opened inside, by the names of `networks.sockets_of`.
    sockets: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        close_all([*self.sockets.values(), *([self.namespace] if self.namespace >= 0 else [])])
        self.sockets.clear()
        self.namespace = -1


def make(network: str) -> Generator[Sleep | Readable, bool, Network]:
    """For a shell with this network, one of `networks.KINDS`. Raises NotMade, OSError."""
    if network == networks.HOST:
        return Network()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            if os.fork() == 0:
                _furnish(theirs, network)
        line = Line(ours)
        if not (yield Readable(line.fileno(), MADE_S_MAX)):
            raise NotMade(f"no network namespace was made within {MADE_S_MAX:g} s")
        try:
            received = line.receive()
        except Closed:
            received = None
    if received is None:
        raise NotMade("who made the network namespace died")
    message, fds = received
    names = networks.sockets_of(network)
    if "error" in message or len(fds) != 1 + len(names):
        close_all(fds)
        raise NotMade(f"no network namespace could be made: {message.get('error', 'it came incomplete')}")
    return Network(fds[0], dict(zip(names, fds[1:], strict=True)))


def _furnish(report: socket.socket, network: str) -> None:
    """Never returns."""
    try:
        quiet_signals()
        syscalls.close_all_but([report.fileno()])
        syscalls.unshare(syscalls.CLONE_NEWNET)
        sockets = networks.open_inside(network)
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        socket.send_fds(report, [b"{}"], [namespace, *(each.fileno() for each in sockets)])
    except BaseException as error:
        report.send(json.dumps({"error": str(error)}).encode())
    finally:
        os._exit(0)
