"""Firewall tables (nf_tables), as far as gateways need them: base chains, and rules on device names, ports and connections.

Only builds messages for a NETFILTER socket. A table made with `owned` belongs to that socket: when it is closed, also because
its process was killed, the kernel removes the table. So no table outlives a keeper.
"""

from __future__ import annotations

import socket
import struct

from ondol.keeper.netlink import Message, attribute, nested

_REQUEST, _ACK, _CREATE, _APPEND = 1, 4, 0x400, 0x800
_BATCH_BEGIN, _BATCH_END, _SUBSYSTEM = 16, 17, 10
_NEWTABLE, _NEWCHAIN, _NEWRULE = 0, 3, 6
_OWNER = 2
INPUT, FORWARD, POSTROUTING = 1, 2, 4
_PRIORITY_FILTER, _PRIORITY_SRCNAT = 0, 100
DROP, ACCEPT = 0, 1
_ESTABLISHED_OR_RELATED = 2 | 4


def batch(*messages: Message) -> list[Message]:
    """All of them or none."""
    head = struct.pack("=BBH", 0, 0, socket.htons(_SUBSYSTEM))
    return [(_BATCH_BEGIN, _REQUEST, head), *messages, (_BATCH_END, _REQUEST, head)]


def table(name: str, *, owned: bool = False) -> Message:
    return _message(_NEWTABLE, _CREATE, _text(1, name) + (_number(2, _OWNER) if owned else b""))


def chain(table_: str, name: str, hook: int, policy: int = ACCEPT) -> Message:
    """A chain that packets meet at `hook`: one that translates addresses at POSTROUTING, else one that filters."""
    nat = hook == POSTROUTING
    where = nested(4, _number(1, hook) + _number(2, _PRIORITY_SRCNAT if nat else _PRIORITY_FILTER))
    body = _text(1, table_) + _text(3, name) + where + _number(5, policy) + _text(7, "nat" if nat else "filter")
    return _message(_NEWCHAIN, _CREATE, body)


def rule(table_: str, chain_: str, *expressions: bytes) -> Message:
    return _message(_NEWRULE, _CREATE | _APPEND, _text(1, table_) + _text(2, chain_) + nested(4, b"".join(expressions)))


# Expressions -------------------------------------------------------------------------------------------------------------
def comes_by(name: str) -> bytes:
    """It came by a device whose name begins so."""
    return _load("meta", 6) + _compare(name.encode())


def leaves_by(name: str, *, not_: bool = False) -> bytes:
    """It leaves by a device whose name begins so."""
    return _load("meta", 7) + _compare(name.encode(), not_=not_)


def is_answer() -> bytes:
    """It belongs to a connection that was let through."""
    mask = struct.pack("=I", _ESTABLISHED_OR_RELATED)
    masked = _expression("bitwise", _number(1, 1) + _number(2, 1) + _number(3, 4) + _data(4, mask) + _data(5, bytes(4)))
    return _load("ct", 0) + masked + _compare(bytes(4), not_=True)


def comes_from(network: str, octets: int) -> bytes:
    """Its source begins with these octets."""
    return _payload(1, 12, octets) + _compare(socket.inet_aton(network)[:octets])


def goes_to(protocol: int, port: int) -> bytes:
    """TCP or UDP to a port."""
    return _load("meta", 16) + _compare(bytes([protocol])) + _payload(2, 2, 2) + _compare(struct.pack("!H", port))


def verdict(code: int) -> bytes:
    return _expression("immediate", _number(1, 0) + nested(2, nested(2, _number(1, code))))


def masquerade() -> bytes:
    return _expression("masq", b"")


# The parts ---------------------------------------------------------------------------------------------------------------
def _message(kind: int, flags: int, body: bytes) -> Message:
    head = struct.pack("=BBH", socket.AF_INET, 0, 0)
    return _SUBSYSTEM << 8 | kind, _REQUEST | _ACK | flags, head + body


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!i", value) if value < 0 else struct.pack("!I", value))


def _data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


# An expression is an element of its rule's list, so several can be joined.
def _expression(name: str, body: bytes) -> bytes:
    return nested(1, _text(1, name) + nested(2, body))


def _load(what: str, key: int) -> bytes:
    """Of the packet or its connection, into the one register that is used."""
    return _expression(what, _number(2, key) + _number(1, 1))


def _payload(base: int, offset: int, size: int) -> bytes:
    return _expression("payload", _number(1, 1) + _number(2, base) + _number(3, offset) + _number(4, size))


def _compare(value: bytes, *, not_: bool = False) -> bytes:
    return _expression("cmp", _number(1, 1) + _number(2, int(not_)) + _data(3, value))
