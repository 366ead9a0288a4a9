"""Networks: what a shell can reach. Made with the shell, ahead of need.

`none`: a network namespace with nothing in it but loopback, and on that, a listening socket at NODE_PORT whose other end is the
front's: by it, and only by it, a function reaches its node, and the socket says which environment calls. `host`: the machine's
own network, and no such socket.

A socket belongs to the namespace in which it was opened, for ever. So what has to be done inside is done through sockets that
the shell's init opens before it gives up its rights: as an ordinary user, the keeper itself could go in, but not come back.
Knows nothing of lines or requests.
"""

from __future__ import annotations

import fcntl
import socket
import struct

NONE, HOST = "none", "host"
KINDS = (NONE, HOST)
#: The namespace that all but `host` have of their own.
NAMESPACE = "net"
#: Where functions find their node. The documented platforms' own API of runtimes has this address, so code shuns it.
NODE_ADDRESS, NODE_PORT = "127.0.0.1", 9001
#: Connections that wait for the front.
BACKLOG = 16

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = "16sh22x"


def sockets_of(network: str) -> tuple[str, ...]:
    """What `open_inside` gives, by name."""
    return () if network == HOST else ("node",)


def open_inside(network: str) -> list[socket.socket]:
    """In a new namespace, with its rights: bring loopback up, and open the sockets that others will use from outside."""
    if network == HOST:
        return []
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    _bring_up(listener, "lo")
    listener.bind((NODE_ADDRESS, NODE_PORT))
    listener.listen(BACKLOG)
    return [listener]


def _bring_up(sock: socket.socket, name: str) -> None:
    asked = struct.pack(_IFREQ, name.encode(), 0)
    _, flags = struct.unpack(_IFREQ, fcntl.ioctl(sock, _SIOCGIFFLAGS, asked))
    fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack(_IFREQ, name.encode(), flags | _IFF_UP))
