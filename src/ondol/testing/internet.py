"""A machine and its internet, of a test's own: two network namespaces joined by a cable, gone when the test is.

    machine 203.0.113.2 ── 203.0.113.1 internet, with 198.51.100.7 (a web server) and 203.0.113.53 (a name server)

The real machine's network is not touched, so tests may run at once. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from ondol import syscalls
from ondol.keeper import netlink
from ondol.keeper.netlink import Netlink

T = TypeVar("T")

MACHINE: Final = "203.0.113.2"
ROUTER: Final = "203.0.113.1"
NAME_SERVER: Final = "203.0.113.53"
WEB: Final = "198.51.100.7"
NAME: Final = "web.test"
#: A name whose answer is too long for UDP.
LONG_NAME: Final = "long.test"
_SAYS: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"

#: For code that runs in a shell: what of a world it reaches.
TOOLS: Final = """
import errno, os, socket

def reached(address, kind=socket.SOCK_STREAM, seconds=2):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, kind) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect(tuple(address) if isinstance(address, list) else address)
            if kind == socket.SOCK_DGRAM:
                sock.send(b"?")
                sock.recv(10)
            return True
        except OSError:
            return False

def page(host):
    with socket.create_connection((host, 80), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
        return sock.makefile("rb").read().decode().rpartition("\\n")[2]
result = None
"""

#: Enters a machine: its network, and its resolv.conf; then becomes what is asked.
_ENTER: Final = """
import os, sys
sys.path.insert(0, sys.argv[1])
from ondol import syscalls
syscalls.setns(int(sys.argv[2]), syscalls.CLONE_NEWNET)
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
syscalls.mount(sys.argv[3], "/etc/resolv.conf", "", syscalls.MS_BIND)
os.execv(sys.argv[4], sys.argv[4:])
"""


@dataclass
class World:
    """Both namespaces, as descriptors."""

    machine: int
    internet: int
    resolv_conf: Path
    #: Who connected to the web server.
    visitors: list[str] = field(default_factory=list)
    names_asked: list[bytes] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def prefix(self) -> list[str]:
        """Put in front of a command, it runs on the machine. Pass `machine` on to it."""
        source = str(Path(syscalls.__file__).resolve().parents[1])
        return [sys.executable, "-c", _ENTER, source, str(self.machine), str(self.resolv_conf)]

    def listen(self, where: int, address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket in one of the namespaces."""

        def open_() -> socket.socket:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            if kind == socket.SOCK_STREAM:
                sock.listen()
            return sock

        sock = inside(where, open_)
        self._sockets.append(sock)
        return sock

    def serve(self, sock: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        """In the background, until the world ends."""

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    answer(sock)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)

    def end(self) -> None:
        """Everything is closed; the kernel removes the rest."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
            sock.close()
        for thread in self._threads:
            thread.join(5)
        os.close(self.machine)
        os.close(self.internet)


@contextlib.contextmanager
def world() -> Iterator[World]:
    """The machine and its internet, with both servers."""
    with tempfile.TemporaryDirectory(prefix="ondol-world-") as top:
        resolv_conf = Path(top) / "resolv.conf"
        resolv_conf.write_text(f"nameserver 127.0.0.9\nnameserver {NAME_SERVER}\noptions timeout:3\n")
        os.chmod(top, 0o755)  # noqa: S103
        made = World(_namespace(), _namespace(), resolv_conf)
        try:
            _cable(made)
            made.serve(made.listen(made.internet, WEB, 80), lambda sock: _say_hello(made, sock))
            made.serve(made.listen(made.internet, NAME_SERVER, 53, socket.SOCK_DGRAM), lambda sock: _tell(made, sock))
            made.serve(made.listen(made.internet, NAME_SERVER, 53), lambda sock: _tell_at_length(made, sock))
            yield made
        finally:
            made.end()


def inside(namespace: int, action: Callable[[], T]) -> T:
    """What `action` opens belongs to that namespace. In a thread: the caller stays where it is."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWNET)
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _namespace() -> int:
    made: list[int] = []

    def make() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def _cable(made: World) -> None:
    there = inside(made.internet, lambda: Netlink(netlink.ROUTE))
    here = inside(made.machine, lambda: Netlink(netlink.ROUTE))
    with there.sock, here.sock:
        there.do([netlink.veth("to0", 2, "eth0", 2, made.machine), netlink.up(1), netlink.up(2)])
        there.do([netlink.address(2, ROUTER, 24), netlink.address(2, NAME_SERVER), netlink.address(1, WEB)])
        here.do([netlink.up(1), netlink.address(2, MACHINE, 24), netlink.up(2)])
        here.do([netlink.route("0.0.0.0", 0, gateway=ROUTER)])  # noqa: S104


def _say_hello(made: World, sock: socket.socket) -> None:
    connection, peer = sock.accept()
    made.visitors.append(peer[0])
    with connection, contextlib.suppress(OSError):
        connection.settimeout(5)
        connection.recv(65536)
        connection.sendall(_SAYS)


def _tell(made: World, sock: socket.socket) -> None:
    question, asker = sock.recvfrom(4096)
    if not question:
        raise OSError("the end")
    made.names_asked.append(question)
    sock.sendto(_answer(question, long=False), asker)


def _tell_at_length(made: World, sock: socket.socket) -> None:
    connection, _ = sock.accept()
    with connection, contextlib.suppress(OSError):
        connection.settimeout(5)
        question = connection.recv(4096)[2:]
        made.names_asked.append(question)
        answer = _answer(question, long=True)
        connection.sendall(len(answer).to_bytes(2, "big") + answer)


def _answer(question: bytes, *, long: bool) -> bytes:
    """Of a name server that knows two names, one of them with many addresses."""
    end = question.index(b"\0", 12) + 5
    name = ".".join(_labels(question[12 : end - 4]))
    kind = struct.unpack("!H", question[end - 4 : end - 2])[0]
    addresses = {NAME: [WEB], LONG_NAME: [f"198.51.100.{n}" for n in range(1, 101)]}.get(name, [])
    truncated = len(addresses) > 10 and not long
    records = b"" if kind != 1 or truncated else b"".join(_record(address) for address in addresses)
    count = 0 if kind != 1 or truncated else len(addresses)
    flags = 0x8180 | (0x200 if truncated else 0) | (0 if addresses else 3)
    return question[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + question[12:end] + records


def _record(address: str) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address)


def _labels(data: bytes) -> Iterator[str]:
    while data and data[0]:
        yield data[1 : 1 + data[0]].decode()
        data = data[1 + data[0] :]
