"""Gateways: the way out of shells with `egress`, one per account.

    shell eth0 ── sN  gateway (a network namespace of the account's)  up ── the machine

A gateway holds no process. It forwards from shells to the machine's side and answers back, nothing between shells, nothing
that begins outside; to what is not the world's (`UNREACHABLE`, and the machine's own addresses) it has no way, and says so at
once. On it, 198.18.0.1:53 resolves names (`resolver.py`). The machine's side is, for root, a pair of devices and address
translation by the kernel, where nothing from a gateway is let in to the machine itself; for an ordinary user it is a program
(pasta or slirp4netns) that opens ordinary sockets as that user.

All is gone with the keeper: the namespaces with its descriptors, the devices with the namespaces, the machine's table with the
socket that owns it; who cleans up switches net.ipv4.ip_forward off again (`forwarding.py`). IPv6 does not leave a gateway.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field

from ondol import syscalls
from ondol.keeper import forwarding, netlink, nftables, resolver
from ondol.keeper.loop import Loop, Readable, Sleep
from ondol.keeper.netlink import Netlink
from ondol.keeper.networks import GATEWAY_ADDRESS, MACHINE_DEVICES
from ondol.keeper.plumber import SHELLS, Plumber
from ondol.keeper.protocol import Closed, Line, close_all
from ondol.keeper.shells import quiet_signals

_NETWORK_BITS = 15
_NUMBERS = range(256, 65536)
#: The device of a gateway's way out; the machine's end of that is one of `MACHINE_DEVICES`.
_UP = "up"
_UP_INDEX = 2
#: Not the world's: this network, loopback, link-local (with it clouds' metadata, which also is elsewhere), multicast, reserved.
UNREACHABLE = (
    ("0.0.0.0", 8),  # noqa: S104
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("192.0.0.0", 24),
    ("100.100.100.200", 32),
    ("168.63.129.16", 32),
    ("198.18.0.0", _NETWORK_BITS),
    ("224.0.0.0", 4),
    ("240.0.0.0", 4),
)
UP_S_MAX = 5.0
RESOLVER_PAUSE_S = 0.5
#: The best first.
PROGRAMS = ("pasta", "slirp4netns")
#: To enter the gateway's namespace, and to furnish it.
_PROGRAM_RIGHTS = (syscalls.CAP_SYS_ADMIN, syscalls.CAP_NET_ADMIN)
_GLANCE_S = 0.005
_TCP, _UDP = 6, 17
_TABLE = "ondol"


class NoGateway(Exception):  # noqa: N818
    """There is no way out; the text says why."""


@dataclass
class Gateway:
    """One that is up."""

    namespace: int
    inside: Netlink
    #: Of `_NUMBERS`, by shell: its address and its device.
    numbers: dict[str, int] = field(default_factory=dict)
    next: itertools.cycle[int] = field(default_factory=lambda: itertools.cycle(_NUMBERS))
    #: What runs the way out, if it is a program.
    pid: int = 0


def program() -> str:
    """That of this machine that makes a way out for an ordinary user, or ""."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), "")


class Gateways:
    """All of a keeper's. `by_kernel`: whether we may change the machine's network; else `program` makes the ways out."""

    def __init__(self, loop: Loop, node: str, *, by_kernel: bool, program: str) -> None:
        self._loop = loop
        self._node = node
        self._by_kernel = by_kernel
        self._program = program
        self._plumber = Plumber(loop)
        self._gateways: dict[str, Gateway] = {}
        self._making: set[str] = set()
        self._resolver: socket.socket | None = None
        self._resolver_pid = 0
        self._dns: list[int] = []
        #: Owns the machine's table.
        self._filters: Netlink | None = None
        self._machine: Netlink | None = None
        #: Held as long as the machine has to forward.
        self._forwarding = -1
        self._unreachable: set[str] = set()

    def connect(
        self, account: str, shell: str, namespace: int, inside: socket.socket
    ) -> Generator[Sleep | Readable, bool, None]:
        """Give a shell its way out. `inside`: a ROUTE socket of its namespace. Raises NoGateway, OSError."""
        gateway = yield from self._get(account)
        number = next(n for n in gateway.next if n not in gateway.numbers.values())
        gateway.numbers[shell] = number
        yield from self._plumber.connect(gateway.inside.sock, inside, namespace, number)

    def release(self, account: str, shell: str) -> None:
        """The shell is gone, and its device with it."""
        gateway = self._gateways.get(account)
        if gateway is not None:
            gateway.numbers.pop(shell, None)

    def ended(self, pid: int) -> bool:
        """A child of the keeper's ended: whether it was ours. Who needs it next gets another."""
        if pid == self._resolver_pid:
            self._resolver_pid = 0
            self._loop.later(RESOLVER_PAUSE_S, self._start_resolver)
            return True
        for account, gateway in list(self._gateways.items()):
            if gateway.pid == pid:
                del self._gateways[account]
                os.close(gateway.namespace)
                gateway.inside.sock.close()
                return True
        return False

    # Making one ------------------------------------------------------------------------------------------------------
    def _get(self, account: str) -> Generator[Sleep | Readable, bool, Gateway]:
        waited_s = 0.0
        while account in self._making and waited_s < UP_S_MAX:
            yield Sleep(_GLANCE_S)
            waited_s += _GLANCE_S
        if account in self._making:
            raise NoGateway(f"the gateway of account {account} was not up in {UP_S_MAX:g} s")
        if account not in self._gateways:
            self._making.add(account)
            try:
                self._gateways[account] = yield from self._make()
            finally:
                self._making.discard(account)
        return self._gateways[account]

    def _make(self) -> Generator[Sleep | Readable, bool, Gateway]:
        namespace, inside, udp, tcp = yield from self._from_inside()
        gateway = Gateway(namespace, Netlink(netlink.ROUTE, socket.socket(fileno=inside)))
        try:
            self._dns += [udp, tcp]
            self._learn_addresses()
            gateway.inside.do([netlink.unreachable(address, 32) for address in self._unreachable])
            if self._by_kernel:
                self._join_machine(gateway)
            else:
                yield from self._run_program(gateway)
            if self._resolver is None:
                self._start_resolver()
            else:
                self._hand_over(udp, tcp)
        except (OSError, NoGateway):
            close_all([namespace])
            gateway.inside.sock.close()
            raise
        return gateway

    def _from_inside(self) -> Generator[Sleep | Readable, bool, list[int]]:
        """A new namespace, furnished; its descriptor, and sockets of it: ROUTE, and port 53 over UDP and TCP."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            pid = os.fork()
            if pid == 0:
                _furnish(theirs)
            theirs.close()
            line = Line(ours)
            if not (yield Readable(line.fileno(), UP_S_MAX)):
                raise NoGateway("a gateway did not come up in time")
            try:
                received = line.receive()
            except Closed:
                received = None
            if received is None or "error" in received[0]:
                raise NoGateway(f"no gateway could be made: {received[0]['error'] if received else 'its maker died'}")
            return received[1]

    def _join_machine(self, gateway: Gateway) -> None:
        """A pair of devices, and the machine's table; the machine forwards from now on."""
        if self._machine is None:
            self._machine = Netlink(netlink.ROUTE)
        if self._filters is None:
            filters = Netlink(netlink.NETFILTER)
            filters.do(_machine_rules(f"{_TABLE}-{self._node}"))
            self._filters = filters
            self._forwarding, was_off = forwarding.need(MACHINE_DEVICES)
            if was_off:
                until = "until no node needs it" if self._forwarding >= 0 else "from now on"
                text = f"keeper: net.ipv4.ip_forward is on {until}: functions reach the world through this machine\n"
                os.write(2, text.encode())
        name = f"{MACHINE_DEVICES}{os.urandom(4).hex()}"
        self._machine.do([netlink.veth(name, 0, _UP, _UP_INDEX, gateway.namespace)])
        with suppress(OSError):  # a kernel without IPv6
            _write(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "1")
        index = socket.if_nametoindex(name)  # nobody else's at the same time, so neither are the addresses made of it
        low = (index * 4) & 0xFFFF
        theirs, ours = f"198.19.{low >> 8}.{(low & 255) + 1}", f"198.19.{low >> 8}.{(low & 255) + 2}"
        self._machine.do([netlink.address(index, theirs, 30), netlink.up(index)])
        out = netlink.route("0.0.0.0", 0, gateway=theirs)  # noqa: S104
        gateway.inside.do([netlink.address(_UP_INDEX, ours, 30), netlink.up(_UP_INDEX), out])

    def _run_program(self, gateway: Gateway) -> Generator[Sleep | Readable, bool, None]:
        """Pasta or slirp4netns; it is up once there is another address inside."""
        if not self._program:
            raise NoGateway("there is no way out for functions: install passt or slirp4netns")
        before = set(gateway.inside.addresses())
        gateway.pid = _start_program(self._program, gateway.namespace)
        waited_s = 0.0
        while set(gateway.inside.addresses()) == before:
            if waited_s > UP_S_MAX:
                raise NoGateway(f"{self._program} made no way out in {UP_S_MAX:g} s")
            yield Sleep(_GLANCE_S)
            waited_s += _GLANCE_S

    # What all share --------------------------------------------------------------------------------------------------
    def _start_resolver(self) -> None:
        if self._resolver is not None:
            self._resolver.close()
        self._resolver, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._resolver_pid = resolver.start(theirs)
        for udp, tcp in zip(self._dns[::2], self._dns[1::2], strict=True):
            self._hand_over(udp, tcp)

    def _hand_over(self, udp: int, tcp: int) -> None:
        """A gateway's port 53, to the resolver; one that just died is followed by another, which gets all."""
        assert self._resolver is not None
        with suppress(BrokenPipeError):
            socket.send_fds(self._resolver, [b"+"], [udp, tcp])

    def _learn_addresses(self) -> None:
        """The machine's own, now and later: none is to be reached through a gateway."""
        if self._unreachable:
            return
        news = netlink.open_socket(netlink.ROUTE, netlink.ADDRESSES)
        news.setblocking(False)
        self._loop.watch(news.fileno(), lambda: self._addresses_changed(news))
        self._unreachable = set(_machine_addresses())

    def _addresses_changed(self, news: socket.socket) -> None:
        with suppress(BlockingIOError):
            while news.recv(65536):
                pass
        new = set(_machine_addresses()) - self._unreachable
        self._unreachable |= new
        for gateway in self._gateways.values() if new else ():
            gateway.inside.do([netlink.unreachable(address, 32) for address in new])


def _machine_addresses() -> list[str]:
    """In the keeper's own namespace; loopback's are unreachable anyway, and those of gateways' pairs are their next hops."""
    asking = Netlink(netlink.ROUTE)
    with asking.sock:
        return [address for address in asking.addresses() if not address.startswith(("127.", "198.19."))]


def _start_program(program: str, namespace: int) -> int:
    """The pid. Who is no root in its user namespace loses all rights by an exec, but those that are ambient."""
    pid = os.fork()
    if pid == 0:
        try:
            quiet_signals()  # those ignored by Python would be by the program, too; pasta takes that ill
            syscalls.close_all_but([namespace])
            os.set_inheritable(namespace, True)
            if os.geteuid() != 0:
                mask = sum(1 << capability for capability in _PROGRAM_RIGHTS)
                syscalls.set_capabilities(mask, inheritable=mask)
                syscalls.raise_ambient(_PROGRAM_RIGHTS)
            os.execve(program, _words(program, namespace), {"PATH": "/usr/bin:/bin"})  # noqa: S606
        except BaseException as error:
            os.write(2, f"{program} cannot be started: {error}\n".encode())
        finally:
            os._exit(127)
    return pid


def _words(program: str, namespace: int) -> list[str]:
    """By themselves, both would let an address of theirs lead to the machine's loopback, and pasta would open ports."""
    path = f"/proc/self/fd/{namespace}"
    if program.endswith("slirp4netns"):
        return [program, "--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path", path, _UP]
    closed = [word for option in ("-t", "-u", "-T", "-U") for word in (option, "none")]
    quiet = ["--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra", "--no-map-gw", "--quiet", "--foreground"]
    return [program, "--config-net", "--ipv4-only", *closed, *quiet, "--ns-ifname", _UP, "--netns-only", "--netns", path]


# Inside a new gateway ----------------------------------------------------------------------------------------------------
def _furnish(report: socket.socket) -> None:
    """Never returns."""
    try:
        quiet_signals()
        syscalls.close_all_but([report.fileno()])
        syscalls.unshare(syscalls.CLONE_NEWNET)
        for name in ("all", "default"):
            with suppress(OSError):  # a kernel without IPv6
                _write(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "1")
        _write(forwarding.SETTING, "1")
        inside, filters = Netlink(netlink.ROUTE), Netlink(netlink.NETFILTER)
        inside.do([netlink.up(1), netlink.address(1, GATEWAY_ADDRESS), *(netlink.unreachable(*each) for each in UNREACHABLE)])
        filters.do(gateway_rules())
        names = [_bound(socket.SOCK_DGRAM), _bound(socket.SOCK_STREAM)]
        names[1].listen(16)
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        socket.send_fds(report, [b"{}"], [namespace, inside.sock.fileno(), *(each.fileno() for each in names)])
    except BaseException as error:
        report.send(json.dumps({"error": str(error)}).encode())
    finally:
        os._exit(0)


def _bound(kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    sock.bind((GATEWAY_ADDRESS, resolver.PORT))
    return sock


def gateway_rules() -> list[netlink.Message]:
    accept = nftables.verdict(nftables.ACCEPT)
    shell = nftables.comes_by(SHELLS)
    return nftables.batch(
        nftables.table(_TABLE),
        nftables.chain(_TABLE, "forward", nftables.FORWARD, nftables.DROP),
        nftables.rule(_TABLE, "forward", nftables.is_answer(), accept),
        nftables.rule(_TABLE, "forward", shell, nftables.leaves_by(f"{_UP}\0"), accept),
        nftables.chain(_TABLE, "input", nftables.INPUT, nftables.DROP),
        nftables.rule(_TABLE, "input", shell, nftables.goes_to(_UDP, resolver.PORT), accept),
        nftables.rule(_TABLE, "input", shell, nftables.goes_to(_TCP, resolver.PORT), accept),
        nftables.chain(_TABLE, "out", nftables.POSTROUTING),
        nftables.rule(_TABLE, "out", nftables.leaves_by(f"{_UP}\0"), nftables.masquerade()),
    )


def _machine_rules(table: str) -> list[netlink.Message]:
    drop = nftables.verdict(nftables.DROP)
    ours, other = nftables.comes_by(MACHINE_DEVICES), nftables.leaves_by(MACHINE_DEVICES, not_=True)
    return nftables.batch(
        nftables.table(table, owned=True),
        nftables.chain(table, "input", nftables.INPUT),
        nftables.rule(table, "input", ours, drop),
        nftables.chain(table, "forward", nftables.FORWARD),
        nftables.rule(table, "forward", ours, nftables.leaves_by(MACHINE_DEVICES), drop),
        nftables.chain(table, "out", nftables.POSTROUTING),
        nftables.rule(table, "out", nftables.comes_from("198.19.0.0", 2), other, nftables.masquerade()),
    )


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
