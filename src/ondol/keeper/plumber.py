"""The plumber: a child of the keeper that joins shells to their gateways.

To make a device or a route takes a lock that the whole kernel shares, and that whoever takes a namespace apart may hold for
tens of milliseconds; the keeper, who is of one thread, must not stand there. The plumber has one right left (to change
networks), gets the sockets and namespaces it works on with each request, and does one after the other. The next request after
its death starts another. The keeper's half is `Plumber`; what its child does is `_serve`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Generator

from ondol import syscalls
from ondol.keeper import netlink
from ondol.keeper.loop import Loop, Sleep
from ondol.keeper.netlink import Netlink
from ondol.keeper.networks import GATEWAY_ADDRESS
from ondol.keeper.shells import quiet_signals

ANSWER_S_MAX = 3.0
_GLANCE_S = 0.0005
_MESSAGE_BYTES_MAX = 1024
#: Names of the devices: of a gateway's shells, and a shell's own.
SHELLS, SHELL = "s", "eth0"
_SHELL_INDEX = 2


class Plumber:
    """The keeper's half."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._line: socket.socket | None = None
        self._number = 0
        #: What came of each request that somebody waits for; None as long as nothing has.
        self._answers: dict[int, tuple[int, str] | None] = {}

    def connect(
        self, gateway: socket.socket, shell: socket.socket, namespace: int, number: int
    ) -> Generator[Sleep, bool, None]:
        """A pair of devices between a gateway and a shell's namespace. Sockets are ROUTE sockets of either. Raises OSError."""
        answer = yield from self._ask([gateway.fileno(), shell.fileno(), namespace], number)
        if answer is None:  # it died before or meanwhile; another one is asked, once
            answer = yield from self._ask([gateway.fileno(), shell.fileno(), namespace], number)
        if answer is None or answer[0]:
            raise OSError(*(answer or (5, "the shell could not be joined to its gateway")))

    def _ask(self, fds: list[int], number: int) -> Generator[Sleep, bool, tuple[int, str] | None]:
        """The error number, 0 for none, and the text; None when nobody answered."""
        line = self._line or self._start()
        self._number += 1
        mine = self._number
        self._answers[mine] = None
        waited_s = 0.0
        try:
            socket.send_fds(line, [json.dumps({"n": mine, "number": number}).encode()], fds)
            while self._answers[mine] is None and waited_s < ANSWER_S_MAX and line is self._line:
                yield Sleep(_GLANCE_S)
                waited_s += _GLANCE_S
            return self._answers[mine]
        except (BrokenPipeError, ConnectionResetError):
            self._lose(line)
            return None
        finally:
            del self._answers[mine]

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            if os.fork() == 0:
                _become_plumber(theirs)
        ours.setblocking(False)
        self._line = ours
        self._loop.watch(ours.fileno(), lambda: self._read(ours))
        return ours

    def _read(self, line: socket.socket) -> None:
        try:
            while data := line.recv(_MESSAGE_BYTES_MAX):
                said = json.loads(data)
                if said["n"] in self._answers:
                    self._answers[said["n"]] = said["errno"], said["text"]
        except BlockingIOError:
            return
        except OSError:
            pass  # as its end
        self._lose(line)

    def _lose(self, line: socket.socket) -> None:
        if line is self._line:
            self._line = None
            self._loop.unwatch(line.fileno())
            line.close()


def _become_plumber(line: socket.socket) -> None:
    """Never returns."""
    try:
        quiet_signals()
        syscalls.close_all_but([line.fileno()])
        syscalls.set_name("ondol-plumber")
        syscalls.drop_bounding((syscalls.CAP_NET_ADMIN,))
        syscalls.set_capabilities(1 << syscalls.CAP_NET_ADMIN)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        line.setblocking(True)
        _serve(line)
    except BaseException as error:
        os.write(2, f"keeper: the plumber ended: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def _serve(line: socket.socket) -> None:
    """Until the keeper is gone."""
    while True:
        data, fds, _ = syscalls.recv_fds(line, _MESSAGE_BYTES_MAX, 3)
        if not data:
            return
        asked = json.loads(data)
        answer = {"n": asked["n"], "errno": 0, "text": ""}
        gateway, shell = (socket.socket(fileno=fd) for fd in fds[:2])
        try:
            _join(Netlink(netlink.ROUTE, gateway), Netlink(netlink.ROUTE, shell), fds[2], asked["number"])
        except OSError as error:
            answer |= {"errno": error.errno or 5, "text": error.strerror or str(error)}
        finally:
            gateway.close()
            shell.close()
            os.close(fds[2])
        line.send(json.dumps(answer).encode())


def _join(gateway: Netlink, shell: Netlink, namespace: int, number: int) -> None:
    address = f"198.18.{number >> 8}.{number & 255}"
    gateway.do([netlink.veth(f"{SHELLS}{number}", number, SHELL, _SHELL_INDEX, namespace)])
    gateway.do([netlink.up(number), netlink.route(address, 32, device=number)])
    out = netlink.route("0.0.0.0", 0, device=_SHELL_INDEX, gateway=GATEWAY_ADDRESS, onlink=True)  # noqa: S104
    shell.do([netlink.address(_SHELL_INDEX, address), netlink.up(_SHELL_INDEX), out])
