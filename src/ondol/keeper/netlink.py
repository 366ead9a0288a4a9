"""Netlink: devices, addresses and routes, and firewall tables, by the kernel's own protocol: no program of the machine's is
needed, and nothing waits for one to start.

A socket acts in the network namespace in which it was opened, whoever uses it. Builders give bytes; `Netlink.do` sends them and
raises OSError for the first that the kernel refuses. Knows nothing of shells.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable

ROUTE, NETFILTER = 0, 12

ANSWER_S_MAX = 2.0
_ANSWER_BYTES_MAX = 65536
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _CREATE, _EXCL, _APPEND = 1, 4, 0x300, 0x400, 0x200, 0x800
_NESTED = 0x8000
_NEWLINK, _NEWADDR, _GETADDR, _NEWROUTE = 16, 20, 22, 24
_IFF_UP = 1

#: Groups of news: an IPv4 address of the namespace came or went.
ADDRESSES = 0x10

Message = tuple[int, int, bytes]


class Netlink:
    """One socket of a family, ROUTE or NETFILTER."""

    def __init__(self, family: int, sock: socket.socket | None = None) -> None:
        self.sock = sock or open_socket(family)
        self.sock.settimeout(ANSWER_S_MAX)

    def do(self, messages: Iterable[Message]) -> None:
        """Send in one go, wait for each to be acknowledged. The kernel answers at once: it does what it does in `send`."""
        data, awaited = b"", 0
        for number, (kind, flags, body) in enumerate(messages):
            padded = body + bytes(-len(body) % 4)
            data += struct.pack("=IHHII", 16 + len(padded), kind, flags, number, 0) + padded
            awaited += flags & _ACK != 0
        self.sock.send(data)
        failed = 0
        while awaited:
            for kind, body in _parts(self.sock.recv(_ANSWER_BYTES_MAX)):
                if kind == _ERROR:
                    awaited -= 1
                    failed = failed or -struct.unpack_from("=i", body)[0]
            if failed:  # in a batch, others are then not acknowledged
                break
        if failed:
            self._drain()
            raise OSError(failed, f"the network cannot be changed: {os.strerror(failed)}")

    def addresses(self) -> list[str]:
        """The IPv4 addresses of the socket's namespace."""
        body = struct.pack("=BBBBI", socket.AF_INET, 0, 0, 0, 0)
        self.sock.send(struct.pack("=IHHII", 16 + len(body), _GETADDR, _REQUEST | _DUMP, 0, 0) + body)
        found: list[str] = []
        while True:
            for kind, part in _parts(self.sock.recv(_ANSWER_BYTES_MAX)):
                if kind in (_DONE, _ERROR):
                    return found
                found += [socket.inet_ntoa(value) for name, value in _attributes(part[8:]) if name == 2 and len(value) == 4]

    def _drain(self) -> None:
        self.sock.setblocking(False)
        try:
            while self.sock.recv(_ANSWER_BYTES_MAX):
                pass
        except BlockingIOError:
            pass
        finally:
            self.sock.settimeout(ANSWER_S_MAX)


def open_socket(family: int, groups: int = 0) -> socket.socket:
    """In the present network namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    sock.bind((0, groups))
    return sock


# Devices, addresses, routes ----------------------------------------------------------------------------------------------
def veth(name: str, index: int, peer: str, peer_index: int, namespace: int) -> Message:
    """A pair of devices: one here, its peer in the namespace that `namespace` is open on. An index of 0: any."""
    other = _ifinfo(peer_index) + attribute(3, peer.encode() + b"\0") + attribute(28, struct.pack("=I", namespace))
    about = nested(18, attribute(1, b"veth\0") + nested(2, attribute(1, other)))
    return _NEWLINK, _REQUEST | _ACK | _CREATE | _EXCL, _ifinfo(index) + attribute(3, name.encode() + b"\0") + about


def up(index: int) -> Message:
    """Bring a device up."""
    return _NEWLINK, _REQUEST | _ACK, _ifinfo(index, _IFF_UP)


def address(index: int, ip: str, bits: int = 32) -> Message:
    """Give a device an address."""
    raw = socket.inet_aton(ip)
    body = struct.pack("=BBBBI", socket.AF_INET, bits, 0, 0, index) + attribute(2, raw) + attribute(1, raw)
    return _NEWADDR, _REQUEST | _ACK | _CREATE | _EXCL, body


def route(to: str, bits: int, *, device: int = 0, gateway: str = "", onlink: bool = False) -> Message:
    """A way to `to`/`bits`: through a device, or its neighbour `gateway`, who is taken to be there when `onlink`."""
    scope = 0 if gateway else 253
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, bits, 0, 0, 254, 4, scope, 1, 4 if onlink else 0)
    body += attribute(1, socket.inet_aton(to)) if bits else b""
    body += attribute(5, socket.inet_aton(gateway)) if gateway else b""
    body += attribute(4, struct.pack("=I", device)) if device else b""
    return _NEWROUTE, _REQUEST | _ACK | _CREATE, body


def unreachable(to: str, bits: int) -> Message:
    """No way to `to`/`bits`: who tries is told so at once."""
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, bits, 0, 0, 254, 4, 0, 7, 0) + attribute(1, socket.inet_aton(to))
    return _NEWROUTE, _REQUEST | _ACK | _CREATE, body


def _ifinfo(index: int, flags: int = 0) -> bytes:
    return struct.pack("=BBHiII", 0, 0, 0, index, flags, flags)


# The parts of messages ---------------------------------------------------------------------------------------------------
def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, value: bytes) -> bytes:
    return attribute(kind | _NESTED, value)


def _parts(data: bytes) -> Iterable[tuple[int, bytes]]:
    """The messages in what came: kind and body."""
    at = 0
    while at + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        if size < 16:
            return
        yield kind, data[at + 16 : at + size]
        at += (size + 3) & ~3


def _attributes(data: bytes) -> Iterable[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += (size + 3) & ~3
