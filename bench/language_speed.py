"""What was promised about languages, measured: a section for each promise, for `bench.languages`."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench import client, load, processes, programs, servers, shapes
from bench.figures import Figure, Section, percentile
from ondol.runtimes.interpreters import Interpreters
from ondol.testing.node import Node

BURST: Final = 50
#: Between first calls, and after a burst until nothing is prepared any more.
PAUSE_S: Final = 0.3
SETTLED_S: Final = 6.0
RIC_PACKAGES: Final = ("awslambdaric", "simplejson", "snapshot_restore_py")
STREAM_MIB: Final = 20

NAPS: Final = """
const me = Math.random().toString(16).slice(2);
exports.handler = async () => { await new Promise((resolve) => setTimeout(resolve, 200)); return { me }; };
"""
STREAM: Final = f"""
import time

def handler(event, context):
    yield b"at=%d;" % time.time_ns()
    for _ in range({STREAM_MIB * 16}):
        yield b"x" * 65_536
"""


def sections(*, quick: bool) -> list[Section]:
    """All of them; one that cannot be measured here says why."""
    made: dict[str, Callable[[], Section]] = {
        "AWS's Python client, over our Runtime API and AWS's": lambda: runtime_api(rounds=2 if quick else 5, calls=100),
        "First calls from the stock": lambda: first_calls(count=5 if quick else 15),
        f"A burst of {BURST} in Node.js": lambda: bursts(rounds=1 if quick else 2),
        "Node.js beside Python, warm": lambda: beside(rounds=2 if quick else 5, calls=300),
        "A long answer": lambda: long_answer(rounds=2 if quick else 7),
    }
    found = []
    for title, measure in made.items():
        print(f"  {title} …", file=sys.stderr, flush=True)
        try:
            found.append(measure())
        except (servers.Missing, programs.Missing) as why:
            found.append(Section(title, f"Not measured: {why}."))
    return found


# AWS's Python client ---------------------------------------------------------------------------------------------------
def with_awss_client() -> dict[str, str | bytes]:
    """An archive's files: a bootstrap, AWS's client as it is installed beside its emulator, and the usual handler."""
    top = servers.environment("rie", "aws-sam-cli", "awslambdaric")
    python = Interpreters.discover().get(servers.runtime())
    if python is None:
        raise programs.Missing(f"{servers.runtime()} is not among the interpreters that functions can have")
    files: dict[str, str | bytes] = {
        "bootstrap": f'#!/bin/sh\nexec {python.path} -m awslambdaric "$_HANDLER"\n', "app.py": servers.HANDLER
    }  # fmt: skip
    [site] = top.glob("lib/python3*/site-packages")
    for path in [*(p for name in RIC_PACKAGES for p in (site / name).rglob("*")), *site.glob("runtime_client*")]:
        if path.is_file() and "__pycache__" not in path.parts:
            files[str(path.relative_to(site))] = path.read_bytes()
    return files


def runtime_api(*, rounds: int, calls: int) -> Section:
    custom = programs.Program(name="awslambdaric", runtime="provided.al2023", handler="app.handler", files=with_awss_client)
    with servers.PEERS["RIE + awslambdaric"](None) as emulator, servers.ondol_node() as node:
        shapes.deploy(node.client(), custom, "ric")
        ours = servers.signed(node, "ric", [servers.body(n) for n in range(calls)])
        theirs = [load.plain(emulator.url, servers.body(n))[0] for n in range(calls)]
        pairs = []
        with client.Connection(node.endpoint) as here, client.Connection(emulator.url) as there:
            for _ in range(rounds + 1):
                pairs.append((_p50(here, ours), _p50(there, theirs)))
        del pairs[0]  # cold
    figures = [
        Figure(what="over Ondol's Runtime API: p50", unit="ms", rounds=[us for us, _ in pairs]),
        Figure(what="over the emulator's: p50", unit="ms", rounds=[them for _, them in pairs]),
        Figure(what="Ondol / emulator", unit="×", rounds=[us / them for us, them in pairs], target="<= 0.5"),
    ]
    text = f"{emulator.note}. The same client and handler on both, {calls} warm calls over one connection, rounds in turn."
    return Section("AWS's Python client, over our Runtime API and AWS's", text, figures)


def _p50(connection: client.Connection, requests: list[bytes]) -> float:
    return statistics.median(answer.ms for answer in client.all_good([connection.call(request) for request in requests]))


# First calls -----------------------------------------------------------------------------------------------------------
def first_calls(*, count: int) -> Section:
    figures = []
    here = {program.name: program for program in programs.programs()}
    node_js = [name for name in here if name.startswith("Node.js")]
    with servers.ondol_node() as node:
        for name, target in (*((name, "<= 10") for name in node_js), ("Go", "<= 12"), ("Rust", "<= 12")):
            with contextlib.suppress(programs.Missing):
                ms = _first(node, here[name], count)
                figures += [
                    Figure(what=f"{name}: p50", unit="ms", rounds=[percentile(ms, 50)], target=target),
                    Figure(what=f"{name}: p90", unit="ms", rounds=[percentile(ms, 90)]),
                ]
    text = f"{count} functions that never ran are called once each, {PAUSE_S} s apart."
    return Section("First calls from the stock", text, figures)


def _first(node: Node, program: programs.Program, count: int) -> list[float]:
    from bench.languages import first_calls as called

    return called(node, program, "first", count)


# A burst ---------------------------------------------------------------------------------------------------------------
def waiting(node: Node) -> int:
    """How many processes of Node.js there are: in a node without calls those that wait, ready, in the stock."""
    return sum("/ondol_guest/node/start.js" in stat.command for stat in processes.tree(node.process.pid))


def bursts(*, rounds: int) -> Section:
    [program] = [each for each in programs.programs() if each.name.endswith("CommonJS")] or [None]
    if program is None:
        raise programs.Missing("there is no Node.js on this machine")
    naps = programs.Program(name="naps", runtime=program.runtime, handler="index.handler", files=lambda: {"index.js": NAPS})
    every = []
    with servers.ondol_node() as node:
        for number in range(rounds + 1):
            every.append(_burst(node, naps, f"burst{number}"))
    names = ("first of all", "then, in the median")
    figures = [Figure(what=f"stock before it, {names[0]}", unit="processes", rounds=[every[0]["stock"]])]
    for name, found in ((names[0], every[:1]), (names[1], every[1:])):
        figures += [
            Figure(what=f"{what}, {name}", unit=unit, rounds=[each[what] for each in found])
            for what, unit in (
                ("all answered after", "ms"),
                ("one call, p50", "ms"),
                ("one call, p99", "ms"),
                ("refill, CPU", "ms"),
            )
        ]
    figures.append(Figure(what=f"stock before it, {names[1]}", unit="processes", rounds=[each["stock"] for each in every[1:]]))
    figures.append(Figure(what="environments used", unit="", rounds=[each["environments"] for each in every]))
    text = (
        f"{BURST} calls in the same moment of a function that never ran, whose handler sleeps 200 ms (part of the figures). The "
        "first burst meets the stock of a node that has just started; later ones meet what the stock learnt. Refill: what the node "
        f"used of the processors within {SETTLED_S:.0f} s after the last answer, while nobody called."
    )
    return Section(f"A burst of {BURST} in Node.js", text, figures)


def _burst(node: Node, naps: programs.Program, name: str) -> dict[str, float]:
    shapes.deploy(node.client(), naps, name)
    requests = servers.signed(node, name, [json.dumps({"n": n}).encode() for n in range(BURST)])
    time.sleep(SETTLED_S / 2)
    found: dict[str, float] = {"stock": waiting(node)}
    answers = client.all_good(client.at_once(node.endpoint, requests))
    before = processes.cpu_us(node.process.pid)["all"]
    node.client().delete_function(FunctionName=name)
    time.sleep(SETTLED_S)
    ms = [answer.ms for answer in answers]
    return found | {
        "all answered after": (max(a.done_s for a in answers) - min(a.sent_s for a in answers)) * 1000,
        "one call, p50": percentile(ms, 50),
        "one call, p99": percentile(ms, 99),
        "refill, CPU": (processes.cpu_us(node.process.pid)["all"] - before) / 1000,
        "environments": len({json.loads(answer.body)["me"] for answer in answers}),
    }


# Warm ------------------------------------------------------------------------------------------------------------------
def beside(*, rounds: int, calls: int) -> Section:
    here = {program.name: program for program in programs.programs()}
    node_js = next((each for name, each in here.items() if name.endswith("CommonJS")), None)
    python = next((each for each in here.values() if each.runtime == servers.runtime()), None)
    if node_js is None or python is None:
        raise programs.Missing("there is no Node.js, or no Python, on this machine")
    with servers.ondol_node() as node, client.Connection(node.endpoint) as connection:
        requests = {}
        for name, program in (("js", node_js), ("py", python)):
            shapes.deploy(node.client(), program, name)
            requests[name] = servers.signed(node, name, [servers.body(n) for n in range(calls)])
            _p50(connection, requests[name])
        pairs = [(_p50(connection, requests["js"]), _p50(connection, requests["py"])) for _ in range(rounds)]
    figures = [
        Figure(what=f"{node_js.name}: p50", unit="ms", rounds=[js for js, _ in pairs]),
        Figure(what=f"{python.name}: p50", unit="ms", rounds=[py for _, py in pairs]),
        Figure(what="Node.js / Python", unit="×", rounds=[js / py for js, py in pairs], target="<= 1.2"),
    ]
    return Section("Node.js beside Python, warm", f"{calls} calls over one connection, rounds in turn.", figures)


# Streams ---------------------------------------------------------------------------------------------------------------
def long_answer(*, rounds: int) -> Section:
    program = programs.Program(
        name="stream", runtime=servers.runtime(), handler="app.handler", files=lambda: {"app.py": STREAM}
    )
    with servers.ondol_node() as node:
        shapes.deploy(node.client(), program, "long")
        path = "/2021-11-15/functions/long/response-streaming-invocations"
        keys = node.credentials
        request = load.signed(
            node.endpoint + path, [b"{}"], key=keys["AWS_ACCESS_KEY_ID"], secret=keys["AWS_SECRET_ACCESS_KEY"],
            region=keys["AWS_REGION"], service="lambda", headers={},
        )[0]  # fmt: skip
        first, grown = [], []
        _read(node, request)
        for _ in range(rounds):
            with _growth(node, grown):
                first.append(_read(node, request, pause_s=0.002))
    figures = [
        Figure(what="its first byte at the client, after the function gave it", unit="ms", rounds=first, target="<= 5"),
        Figure(what="the front's memory grew by", unit="MiB", rounds=grown, target=f"<= {STREAM_MIB // 4}"),
    ]
    text = (
        f"A Python generator gives {STREAM_MIB} MiB; a client that reads slowly takes them. How much the front's memory grew at its "
        "highest while it passed them on says whether they ever stood there whole."
    )
    return Section("A long answer", text, figures)


def _read(node: Node, request: bytes, pause_s: float = 0.0) -> float:
    """Milliseconds from the function's first byte to its arrival; the answer is read to its end."""
    parts = urlsplit(node.endpoint)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        connection.sendall(request)
        head, end, took_ms, size = b"", b"", None, 0
        while not end.endswith(b"\r\n0\r\n\r\n"):
            data = connection.recv(1 << 18)
            now_ns = time.time_ns()
            if not data:
                raise ConnectionError("the answer broke off")
            size += len(data)
            end = (end + data)[-8:]
            if took_ms is None:
                head += data
                if found := re.search(rb"at=(\d+);", head):
                    took_ms = (now_ns - int(found[1])) / 1e6
            time.sleep(pause_s)
    if took_ms is None or size < STREAM_MIB << 20:
        raise RuntimeError(f"{size} bytes came, and the first was {'not ' if took_ms is None else ''}seen")
    return took_ms


@contextlib.contextmanager
def _growth(node: Node, found: list[float]) -> Iterator[None]:
    """Appends by how many MiB the front's memory grew at its highest."""
    stats = processes.tree(node.process.pid)
    groups = processes.grouped(stats)
    [front] = [stat.pid for stat in stats if groups[stat.pid] == "front"]
    Path(f"/proc/{front}/clear_refs").write_text("5")  # the highest so far is forgotten
    before = _kib(front, "VmRSS")
    yield
    found.append((_kib(front, "VmHWM") - before) / 1024)


def _kib(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
