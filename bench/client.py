"""A small load generator of our own for what wrk cannot do: first calls, bursts, one call at a given moment.

Blocking sockets in threads: requests are signed beforehand, and what is timed is send to last byte.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

ANSWER_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and when it was there."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent_s: float
    done_s: float

    @property
    def ms(self) -> float:
        return (self.done_s - self.sent_s) * 1000

    @property
    def good(self) -> bool:
        return self.status == 200 and "x-amz-function-error" not in self.headers

    @property
    def log(self) -> str:
        """The tail of the log, when it was asked for."""
        return base64.b64decode(self.headers.get("x-amz-log-result", "")).decode(errors="replace")


class Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=ANSWER_S_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, request: bytes) -> Answer:
        sent_s = time.perf_counter()
        self._socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        status, headers = parse_head(head)
        wanted = int(headers.get("content-length", "0"))
        while len(body) < wanted:
            body += self._more()
        return Answer(status, headers, body, sent_s, time.perf_counter())

    def stream(self, request: bytes, mark: bytes) -> float:
        """Milliseconds until `mark` was there, of an answer that is then read to its end."""
        sent_s = time.perf_counter()
        self._socket.sendall(request)
        data, found_s = b"", 0.0
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += self._more()
            if not found_s and mark in data:
                found_s = time.perf_counter()
        status, _ = parse_head(data.partition(b"\r\n\r\n")[0])
        if status != 200 or not found_s:
            raise RuntimeError(f"no {mark!r} in an answer of status {status}: {data[-300:]!r}")
        return (found_s - sent_s) * 1000

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection before its answer was complete")
        return data


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return int(first.split(" ")[1]), {name.strip().lower(): value.strip() for name, value in pairs}


def at_once(url: str, requests: Sequence[bytes]) -> list[Answer | Exception]:
    """All requests in the same moment, each on a connection of its own that is open already."""
    answers: list[Answer | Exception] = [ConnectionError("never sent")] * len(requests)
    start = threading.Barrier(len(requests))

    def one(index: int) -> None:
        try:
            with Connection(url) as connection:
                start.wait(ANSWER_S_MAX)
                answers[index] = connection.call(requests[index])
        except Exception as error:
            answers[index] = error

    threads = [threading.Thread(target=one, args=[index]) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def all_good(answers: Sequence[Answer | Exception]) -> list[Answer]:
    """The answers, or an error that says what came instead."""
    bad = [a for a in answers if not isinstance(a, Answer) or not a.good]
    if bad:
        first = bad[0]
        said = f"{first.status} {first.body[:300]!r}" if isinstance(first, Answer) else repr(first)
        raise RuntimeError(f"{len(bad)} of {len(answers)} calls failed; the first: {said}")
    return [a for a in answers if isinstance(a, Answer)]
