"""The control plane of AWS's API: what a request costs that only fails validation, a catalog of many functions, the service models."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench import client, processes, servers, startup
from bench.figures import Figure, Section
from ondol.dialects.aws.dialect import SERVICES
from ondol.store import Document, Put
from ondol.stores.sqlite import SqliteStore
from ondol.testing import node as nodes

VERSIONS = 3
PAGES = 20
#: Documents written at once.
STRIDE = 5_000
MIB = 1024.0
_ID = re.compile(r"[0-9a-f]{32}")
_NAME = "f-000000"

MODELS = """
import time
from ondol.dialects.aws import codec, shapes
from ondol.dialects.aws.dialect import SERVICES
began = time.process_time()
for service in SERVICES:
    shapes.model(service)
print((time.process_time() - began) * 1000)
"""


def api(*, rounds: int, refused: int, functions: int) -> list[Section]:
    return [_refused(rounds=rounds, count=refused), _models(rounds=rounds), _catalog(rounds=rounds, functions=functions)]


# A request that only fails validation -------------------------------------------------------------------------------------
def _refused(*, rounds: int, count: int) -> Section:
    """All of the node's CPU, for requests that the model refuses: in two members, and with a name that is no name."""
    parts: list[dict[str, float]] = []
    with servers.ondol_node() as node:
        requests = [
            signed(node, "POST", "/2015-03-31/functions/hello/aliases", {"Name": "1", "Description": "x" * 300}),
            signed(node, "GET", "/2015-03-31/functions/not%3Aa%3Aname%3Ahere/configuration"),
        ]
        with client.Connection(node.endpoint) as connection:
            for request in requests * 20:
                _is_refused(connection.call(request))
            for _ in range(rounds):
                before = processes.cpu_us(node.process.pid, parts=True)
                for request in itertools.islice(itertools.cycle(requests), count):
                    _is_refused(connection.call(request))
                after = processes.cpu_us(node.process.pid, parts=True)
                parts.append({name: (after[name] - before.get(name, 0.0)) / count / 1000 for name in after})
    shown = ", ".join(f"{name} {statistics.median(each[name] for each in parts):.3f}" for name in ("front", "desk"))
    figure = Figure(
        what="CPU of the node per request", unit="ms", rounds=[each["all"] for each in parts], target="<= 0.3", note=shown
    )
    text = f"{count:,} requests a round, one after another on one connection, signed; each answered ValidationException."
    return Section("A request that only fails validation", text, [figure])


def _is_refused(answer: client.Answer) -> None:
    if answer.status != 400 or b"validation error" not in answer.body:
        raise RuntimeError(f"expected a ValidationException, not {answer.status} {answer.body[:200]!r}")


# The service models -------------------------------------------------------------------------------------------------------
def _models(*, rounds: int) -> Section:
    measured = [
        float(subprocess.run([sys.executable, "-c", MODELS], capture_output=True, text=True, check=True, timeout=60).stdout)
        for _ in range(rounds)
    ]
    text = f"Read from botocore's files and decoded in a process of its own: {', '.join(SERVICES)}. A node's desk does it as it starts."
    return Section("The service models", text, [Figure(what="CPU to read all", unit="ms", rounds=measured, target="<= 100")])


# Many functions -----------------------------------------------------------------------------------------------------------
def _catalog(*, rounds: int, functions: int) -> Section:
    starts: list[float] = []
    front, desk, pages = [], [], []
    with tempfile.TemporaryDirectory(prefix="ondol-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        node = nodes.start(Path(folder) / "data", "--log-level", "warning")
        try:
            _one_of_each(node)
        finally:
            nodes.ended(node)
        asyncio.run(_multiply(node.data, functions))
        request = signed(node, "GET", "/2015-03-31/functions/f-000001/configuration")
        for _ in range(rounds):
            starts.append(startup.ready_s(node.data, request, node.endpoint)[0])
        node = nodes.start(node.data, "--log-level", "warning")
        try:
            pages = [ms for _ in range(rounds) for ms in _page_ms(node)]
            for stat, part in _parts(node.process.pid):
                {"front": front, "desk": desk}.get(part, []).append(_rss_mib(stat))
        finally:
            nodes.ended(node)
    text = (
        f"{functions:,} functions with {VERSIONS} versions each, copied in the catalog from one that was deployed; {rounds} starts on "
        f"warm file caches. A page is 50 functions, without a marker and in the middle."
    )
    figures = [
        Figure(what="start to first 200 of /readyz", unit="s", rounds=starts, target="<= 2"),
        Figure(what="RSS of the desk", unit="MiB", rounds=desk, target="<= 238", note="250 MB are 238 MiB"),
        Figure(what="RSS of the front", unit="MiB", rounds=front, target="<= 238"),
        Figure(what="a page of ListFunctions", unit="ms", rounds=pages, target="<= 20"),
    ]  # fmt: skip
    return Section(f"{functions:,} functions", text, figures)


def _one_of_each(node: nodes.Node) -> None:
    servers.create(node, _NAME, servers.HANDLER)
    aws = node.client()
    for number in range(VERSIONS):
        aws.get_waiter("function_updated_v2").wait(FunctionName=_NAME, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        aws.update_function_configuration(FunctionName=_NAME, Description=f"version {number}")
        aws.get_waiter("function_updated_v2").wait(FunctionName=_NAME, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        aws.publish_version(FunctionName=_NAME)


async def _multiply(data: Path, functions: int) -> None:
    """As many functions in the catalog of a node that is down, each with ids of its own."""
    store = SqliteStore(data / "catalog.db")
    try:
        _, documents = await store.snapshot()
        own = [each for each in documents if each.key.startswith(("function/", "revision/", "version/", "handle/"))]
        puts = (put for number in range(1, functions) for put in _copies(own, number))
        for batch in _batches(puts):
            await store.commit(batch)
    finally:
        await store.close()


def _copies(own: Sequence[Document], number: int) -> Iterator[Put]:
    def other(found: re.Match[str]) -> str:
        return f"{int(found[0], 16) ^ number << 64:032x}"

    for document in own:
        key, value = (text.replace(_NAME, f"f-{number:06d}") for text in (document.key, json.dumps(document.value)))
        # What is longer than an id is a hash, and the code is one and the same.
        exact = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
        yield Put(exact.sub(other, key), json.loads(exact.sub(other, value)))


def _batches(puts: Iterator[Put]) -> Iterator[list[Put]]:
    while batch := list(itertools.islice(puts, STRIDE)):
        yield batch


def _page_ms(node: nodes.Node) -> list[float]:
    aws = node.client()
    marker = aws.list_functions()["NextMarker"]
    paths = ["/2015-03-31/functions", f"/2015-03-31/functions?Marker={quote(marker, safe='')}"]
    found = []
    with client.Connection(node.endpoint) as connection:
        for path in paths * (PAGES // 2):
            answer = client.all_good([connection.call(signed(node, "GET", path))])[0]
            if len(json.loads(answer.body)["Functions"]) != 50:
                raise RuntimeError("a page has 50 functions")
            found.append(answer.ms)
    return found


def _parts(root: int) -> list[tuple[int, str]]:
    stats = processes.tree(root)
    groups = processes.grouped(stats)
    return [(stat.pid, groups[stat.pid]) for stat in stats]


def _rss_mib(pid: int) -> float:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(lines.get("VmRSS", "0 kB").split()[0]) / MIB


def signed(node: nodes.Node, method: str, path: str, body: object = None) -> bytes:
    """A whole request, signed with the node's first key."""
    keys = node.credentials
    data = b"" if body is None else json.dumps(body).encode()
    request = AWSRequest(method=method, url=node.endpoint + path, data=data)
    holder = Credentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    botocore.auth.SigV4Auth(holder, "lambda", keys["AWS_REGION"]).add_auth(request)
    prepared = request.prepare()
    host = node.endpoint.partition("://")[2]
    target = prepared.url.partition(host)[2]
    lines = [f"{name}: {value}" for name, value in {"Host": host, **prepared.headers}.items()]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode() + data
