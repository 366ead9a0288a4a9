"""Names: what answers functions at their gateway's port 53, by asking the machine's own resolvers.

One process for all gateways, without any right, forked by the keeper: it holds sockets that were opened inside the gateways
and opens its own outside, where the machine's resolvers are, also one on loopback. It passes questions and answers on as they
are; to read them is not its business. The keeper starts another when it dies.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from dataclasses import dataclass

from ondol import syscalls
from ondol.keeper.shells import quiet_signals

#: Questions under way at once, of one gateway and of all; the next one is dropped, and asked again by who sent it.
GATEWAY_QUESTIONS_MAX = 128
QUESTIONS_MAX = 1024
#: How long one resolver is waited for, before the next one is asked.
ANSWER_S_MAX = 2.0
#: Questions over TCP, of answers too long for UDP, at once.
STREAMS_MAX = 32
STREAM_S_MAX = 5.0
MESSAGE_BYTES_MAX = 65535
#: How often it is looked whether the machine has other resolvers now.
FILE_S = 5.0
FILE = "/etc/resolv.conf"
PORT = 53
_NOBODY = 65534


def start(fds_from: socket.socket) -> int:
    """The pid of the process. Each message on `fds_from` brings a gateway's two sockets: UDP, and TCP that listens."""
    pid = os.fork()
    if pid == 0:
        try:
            quiet_signals()
            syscalls.close_all_but([fds_from.fileno()])
            syscalls.set_name("ondol-resolver")
            _become_nobody()
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            Resolver(fds_from).run()
        except BaseException as error:
            os.write(2, f"keeper: the resolver of functions ended: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(1)
    return pid


def _become_nobody() -> None:
    syscalls.drop_bounding()
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        pass  # below an ordinary user's namespace there is nobody else; that user it is, without rights
    syscalls.set_capabilities(0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


@dataclass
class _Question:
    """One that waits for its answer, on a socket of its own: the kernel draws its port, and takes answers from nobody else."""

    data: bytes
    gateway: socket.socket
    asker: tuple[str, int]
    left: list[str]
    due_s: float


class Resolver:
    """See the module."""

    def __init__(self, fds_from: socket.socket, file: str = FILE, port: int = PORT) -> None:
        self._fds_from = fds_from
        self._file = file
        self._port = port
        self._servers: list[str] = []
        self._looked_s = float("-inf")
        self._poll = select.epoll()
        self._poll.register(fds_from.fileno(), select.EPOLLIN)
        self._gateways: dict[int, socket.socket] = {}
        self._questions: dict[int, tuple[socket.socket, _Question]] = {}
        self._streams = threading.BoundedSemaphore(STREAMS_MAX)

    def run(self) -> None:
        """Until the keeper is gone."""
        while True:
            for fd, _ in self._poll.poll(0.25 if self._questions else -1):
                if fd == self._fds_from.fileno():
                    if not self._take_gateway():
                        return
                elif fd in self._gateways:
                    self._ask(self._gateways[fd])
                elif fd in self._questions:
                    self._answer(fd)
            now_s = time.monotonic()
            for fd in [fd for fd, (_, question) in self._questions.items() if question.due_s <= now_s]:
                _, question = self._forget(fd)
                self._send(question)

    def _take_gateway(self) -> bool:
        data, fds, _ = syscalls.recv_fds(self._fds_from, 64, 2)
        for fd in fds:
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            self._gateways[fd] = sock
            self._poll.register(fd, select.EPOLLIN)
        return bool(data)

    def _ask(self, gateway: socket.socket) -> None:
        try:
            if gateway.type == socket.SOCK_STREAM:
                connection, _ = gateway.accept()
                self._start_stream(connection)
                return
            data, asker = gateway.recvfrom(MESSAGE_BYTES_MAX)
        except OSError:
            return
        of_gateway = sum(question.gateway is gateway for _, question in self._questions.values())
        if len(self._questions) < QUESTIONS_MAX and of_gateway < GATEWAY_QUESTIONS_MAX:
            self._send(_Question(data, gateway, asker, list(self.servers()), 0.0))

    def _send(self, question: _Question) -> None:
        """To the next resolver, while there is one."""
        while question.left:
            server = question.left.pop(0)
            try:
                sock = socket.socket(_family(server), socket.SOCK_DGRAM)
            except OSError:
                return
            try:
                sock.setblocking(False)
                sock.connect((server, self._port))
                sock.send(question.data)
            except OSError:
                sock.close()
                continue
            question.due_s = time.monotonic() + ANSWER_S_MAX
            self._questions[sock.fileno()] = sock, question
            self._poll.register(sock.fileno(), select.EPOLLIN)
            return

    def _answer(self, fd: int) -> None:
        sock, question = self._questions[fd]
        try:
            data = sock.recv(MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return  # the event was that of an earlier socket with this number
        except OSError:
            data = b""  # nobody listens there
        self._forget(fd)
        if not data:
            self._send(question)
            return
        try:
            question.gateway.sendto(data, question.asker)
        except OSError:
            return  # the shell is gone

    def _forget(self, fd: int) -> tuple[socket.socket, _Question]:
        sock, question = self._questions.pop(fd)
        self._poll.unregister(fd)
        sock.close()
        return sock, question

    def _start_stream(self, connection: socket.socket) -> None:
        if not self._streams.acquire(blocking=False):
            connection.close()
            return
        threading.Thread(target=self._stream, args=(connection, list(self.servers())), daemon=True).start()

    def _stream(self, connection: socket.socket, servers: list[str]) -> None:
        """One question and its answer."""
        try:
            with connection:
                connection.settimeout(STREAM_S_MAX)
                question = _message(connection)
                for server in servers:
                    try:
                        # Not create_connection: it loads a codec, whose file nobody may not be able to read.
                        with socket.socket(_family(server), socket.SOCK_STREAM) as upstream:
                            upstream.settimeout(STREAM_S_MAX)
                            upstream.connect((server, self._port))
                            upstream.sendall(question)
                            answer = _message(upstream)
                    except OSError:
                        continue
                    connection.sendall(answer)
                    return
        except OSError:
            return
        finally:
            self._streams.release()

    def servers(self) -> list[str]:
        """The machine's resolvers, as its file says now."""
        if time.monotonic() - self._looked_s > FILE_S:
            self._looked_s = time.monotonic()
            try:
                with open(self._file, encoding="utf-8", errors="replace") as file:
                    words = [line.split() for line in file.read(65536).splitlines()]
            except OSError:
                words = []
            named = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
            self._servers = named[:3] or ["127.0.0.1"]
        return self._servers


def _family(server: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server else socket.AF_INET


def _message(sock: socket.socket) -> bytes:
    """A message with its length in front. Raises OSError."""
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        part = sock.recv(MESSAGE_BYTES_MAX)
        if not part:
            raise OSError("the connection ended in the middle of a message")
        data += part
    return data[: 2 + int.from_bytes(data[:2], "big")]
