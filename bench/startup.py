"""Starting a node that has a thousand functions: until it says that it is ready, and until the first call is answered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench import client, processes, servers
from bench.cold import create_many
from bench.figures import Figure, Section
from ondol.testing import node as nodes

START_S_MAX = 30.0
GLANCE_S = 0.002


def ready_s(data: Path, request: bytes, url: str) -> tuple[float, float]:
    """Seconds from starting the command to the first 200 of /readyz, and to the answer of a signed first call."""
    started = time.perf_counter()
    with (data.parent / "start.log").open("ab") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ondol.cli.main",
                "up",
                "--data",
                str(data),
                "--listen",
                urlsplit(url).netloc,
                "--log-level",
                "warning",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=processes.clean_environment(),
        )
    try:
        _until_ready(url, started)
        ready = time.perf_counter() - started
        with client.Connection(url) as connection:
            client.all_good([connection.call(request)])
        return ready, time.perf_counter() - started
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(nodes.STOP_S_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until_ready(url: str, started: float) -> None:
    request = f"GET /readyz HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode()
    while True:
        try:
            with client.Connection(url) as connection:
                if connection.call(request).status == 200:
                    return
        except OSError:
            pass
        if time.perf_counter() - started > START_S_MAX:
            raise RuntimeError(f"the node was not ready within {START_S_MAX:.0f} s")
        time.sleep(GLANCE_S)


def startup(*, rounds: int, functions: int) -> Section:
    with tempfile.TemporaryDirectory(prefix="ondol-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        node = nodes.start(Path(folder) / "data", "--log-level", "warning")
        try:
            created = time.perf_counter()
            create_many(node, [f"f-{number}" for number in range(functions)], servers.HANDLER)
            created = time.perf_counter() - created
        finally:
            nodes.ended(node)
        every = []
        for number in range(rounds):
            # A name of its own each time: the call is a first one in every sense.
            request = servers.signed(node, f"f-{number}", [servers.body(0)])[0]
            every.append(ready_s(node.data, request, node.endpoint))
        left = nodes.leftovers(node, [])
        if left:
            raise RuntimeError(f"a node left behind: {left}")
    text = (
        f"`ondol up` with {functions:,} functions in its catalog, {rounds} starts on warm file caches; /readyz says 200 when calls can be "
        f"served. Creating them took {created / functions * 1000:.1f} ms each, eight at a time."
    )
    figures = [
        Figure(what="start to first 200 of /readyz", unit="s", rounds=[ready for ready, _ in every], target="<= 0.8"),
        Figure(what="start to answer of a first call", unit="s", rounds=[called for _, called in every]),
    ]
    return Section(f"Start with {functions:,} functions", text, figures)
