"""Telling the world that the node is there: `run/node.json` for clients of this machine, and a word when it answers."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ondol.disk import explained, write_whole

POLL_S: Final = 0.02
READY_S_MAX: Final = 60.0


def write_card(run: Path, facts: dict[str, Any]) -> None:
    """`run/node.json`: {"endpoint", "account", "region", "pid"}."""
    with explained(run):
        write_whole(run / "node.json", (json.dumps({**facts, "pid": os.getpid()}) + "\n").encode(), mode=0o644)


def remove_card(run: Path) -> None:
    (run / "node.json").unlink(missing_ok=True)


def when_ready(endpoint: str, tell: Callable[[str], None]) -> None:
    """Call `tell(endpoint)` from a thread once the node says that it is ready."""
    threading.Thread(target=_wait, args=(endpoint, tell), daemon=True, name="ready").start()


def _wait(endpoint: str, tell: Callable[[str], None]) -> None:
    parts = urlsplit(endpoint)
    end_s = time.monotonic() + READY_S_MAX
    while time.monotonic() < end_s:
        try:
            ready = _says_ready(parts.hostname or "", parts.port or 0, parts.netloc)
        except OSError:
            ready = False
        if ready:
            tell(endpoint)
            return
        time.sleep(POLL_S)


def _says_ready(host: str, port: int, name: str) -> bool:
    """Asked by hand: an HTTP library takes longer to load than the whole answer takes."""
    with socket.create_connection((host, port), timeout=1.0) as connection:
        connection.sendall(f"GET /readyz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            return answer.readline(64).split(b" ")[1:2] == [b"200"]
