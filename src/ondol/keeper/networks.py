"""Networks: what a shell can reach. Made with the shell, ahead of need.

`none`: a network namespace with nothing in it but loopback, and on that, a listening socket at NODE_PORT whose other end is the
front's: by it, and only by it, a function reaches its node, and the socket says which environment calls. `host`: the machine's
own network, and no such socket. `egress`: as `none`, and a device by which the world is reached through the account's gateway
(`gateways.py`).

A socket belongs to the namespace in which it was opened, for ever. So what has to be done inside is done through sockets that
the shell's init opens before it gives up its rights: as an ordinary user, the keeper itself could go in, but not come back.
Knows nothing of lines or requests.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import suppress

from ondol.keeper import netlink

NONE, EGRESS, HOST = "none", "egress", "host"
KINDS = (NONE, EGRESS, HOST)
#: The namespace that all but `host` have of their own.
NAMESPACE = "net"
#: Where functions find their node. The documented platforms' own API of runtimes has this address, so code shuns it.
NODE_ADDRESS, NODE_PORT = "127.0.0.1", 9001
#: Of every gateway, inside: the next hop, and who resolves names. From the range that is kept for benchmarks of devices, which
#: nobody's network has.
GATEWAY_ADDRESS = "198.18.0.1"
#: How the names of gateways' devices on the machine begin.
MACHINE_DEVICES = "ond"
#: Connections that wait for the front.
BACKLOG = 16
#: What the kernel keeps of a connection's data for the front, each way; it counts twice as much for its own use.
BUFFER_BYTES = 256 * 1024

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = "16sh22x"


def sockets_of(network: str) -> tuple[str, ...]:
    """What `open_inside` gives, by name."""
    return {NONE: ("node",), EGRESS: ("node", "route"), HOST: ()}[network]


def open_inside(network: str) -> list[socket.socket]:
    """In a new namespace, with its rights: bring loopback up, and open the sockets that others will use from outside."""
    if network == HOST:
        return []
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    _bring_up(listener, "lo")
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # inherited by what is accepted: the front's memory, not the function's
        listener.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)
    listener.bind((NODE_ADDRESS, NODE_PORT))
    listener.listen(BACKLOG)
    if network != EGRESS:
        return [listener]
    with suppress(OSError), open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w", encoding="ascii") as file:
        file.write("1")  # the device that is still to come has none; a kernel may have none at all
    return [listener, netlink.open_socket(netlink.ROUTE)]


def _bring_up(sock: socket.socket, name: str) -> None:
    asked = struct.pack(_IFREQ, name.encode(), 0)
    _, flags = struct.unpack(_IFREQ, fcntl.ioctl(sock, _SIOCGIFFLAGS, asked))
    fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack(_IFREQ, name.encode(), flags | _IFF_UP))
