"""Requests that are sent when they are due, whoever still waits: one thread, and as many connections as are under way at once.

A client that waits for an answer before it asks again would not see the queue that it makes (nor would wrk); and a thread for
each request would take the machine from who is measured.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.client import ANSWER_S_MAX, Answer, parse_head


@dataclass(slots=True, eq=False)
class _Line:
    """A connection, and what is under way on it."""

    socket: socket.socket
    tag: int = 0
    sent_s: float = 0.0
    data: bytes = b""

    def answer(self) -> Answer | None:
        """The answer, once it is whole."""
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end:
            return None
        status, headers = parse_head(head)
        if len(body) < int(headers.get("content-length", "0")):
            return None
        return Answer(status, headers, body, self.sent_s, time.perf_counter())


class Many:
    """Connections that are kept: `send` takes a free one or opens another, `take` gives the answers that have come."""

    def __init__(self, url: str, *, connections: int) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or 80
        self._selector = selectors.DefaultSelector()
        self._free = [self._open() for _ in range(connections)]
        self.under_way = 0

    def _open(self) -> _Line:
        connection = socket.create_connection(self._address, timeout=ANSWER_S_MAX)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = _Line(connection)
        self._selector.register(connection, selectors.EVENT_READ, line)
        return line

    def send(self, tag: int, request: bytes) -> None:
        line = self._free.pop() if self._free else self._open()
        line.tag, line.data, line.sent_s = tag, b"", time.perf_counter()
        line.socket.sendall(request)
        self.under_way += 1

    def take(self, timeout_s: float) -> list[tuple[int, Answer]]:
        """What has come by now, or comes first within so long. Raises ConnectionError when the server leaves."""
        found = []
        for key, _ in self._selector.select(max(timeout_s, 0.0)):
            line: _Line = key.data
            data = line.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the server closed a connection before its answer was complete")
            line.data += data
            answer = line.answer()
            if answer is not None:
                found.append((line.tag, answer))
                self._free.append(line)
                self.under_way -= 1
        return found

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()


@contextlib.contextmanager
def many(url: str, connections: int) -> Iterator[Many]:
    lines = Many(url, connections=connections)
    try:
        yield lines
    finally:
        lines.close()


def when_due(url: str, due_s: Sequence[float], requests: Sequence[bytes], *, connections: int = 64) -> list[Answer]:
    """Each request at its time from now; the answers in the requests' order."""
    answers: dict[int, Answer] = {}
    with many(url, connections) as lines:
        began_s = time.perf_counter()
        sent = 0
        while len(answers) < len(requests):
            now_s = time.perf_counter() - began_s
            while sent < len(requests) and due_s[sent] <= now_s:
                lines.send(sent, requests[sent])
                sent += 1
            wait_s = due_s[sent] - (time.perf_counter() - began_s) if sent < len(requests) else ANSWER_S_MAX
            came = lines.take(wait_s)
            if not came and sent == len(requests):
                raise TimeoutError(f"{len(requests) - len(answers)} answers did not come")
            answers.update(came)
    return [answers[number] for number in range(len(requests))]


def one_after_another(
    url: str, request_of: Callable[[int], bytes], *, connections: int, seconds: float
) -> list[tuple[int, Answer]]:
    """As many under way at any time, for so long: (number of the request, its answer)."""
    answers: list[tuple[int, Answer]] = []
    with many(url, connections) as lines:
        end_s = time.perf_counter() + seconds
        sent = 0
        while lines.under_way or sent == 0 or time.perf_counter() < end_s:
            while lines.under_way < connections and time.perf_counter() < end_s:
                lines.send(sent, request_of(sent))
                sent += 1
            came = lines.take(ANSWER_S_MAX)
            if not came:
                raise TimeoutError(f"{lines.under_way} answers did not come")
            answers += came
    return answers
