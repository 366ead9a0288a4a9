"""Warm calls while somebody uploads the largest archive there may be.

Run as a program it is the uploader: `python -m bench.upload URL` reads keys from the environment, makes its archives, says
"ready", waits for a line, uploads one archive after the other until its input ends, and says how long each took.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import select
import subprocess
import sys
import time
import zipfile

from bench import client, load, processes, servers
from bench.figures import Figure, Section
from ondol.testing.node import Node

FILES = 10_000
FILE_BYTES = 5_000
CONNECTIONS = (1, 8)
READY_S_MAX = 60.0
ARCHIVES = 3


def archive() -> bytes:
    """Ten thousand files that cannot be compressed: 50 MB, just within what may be uploaded."""
    noise = random.Random(7)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as target:
        target.writestr("app.py", servers.HANDLER)
        for number in range(FILES - 1):
            target.writestr(f"d{number % 100:02}/{number}", noise.randbytes(FILE_BYTES))
    return made.getvalue()


def request(url: str, name: str, code: bytes) -> bytes:
    """A signed CreateFunction."""
    wanted = {
        "FunctionName": name,
        "Role": "arn:aws:iam::000000000000:role/bench",
        "Runtime": servers.runtime(),
        "Handler": "app.handler",
        "Code": {"ZipFile": base64.b64encode(code).decode()},
    }
    keys = os.environ
    return load.signed(
        url + "/2015-03-31/functions",
        [json.dumps(wanted).encode()],
        key=keys["AWS_ACCESS_KEY_ID"],
        secret=keys["AWS_SECRET_ACCESS_KEY"],
        region=keys["AWS_REGION"],
        service="lambda",
    )[0]


def uploader(url: str) -> None:
    first = archive()
    tag = os.urandom(4).hex()
    # Each archive is another one by a byte near its end: what the node has already must not help it.
    variants = [first[:-2] + bytes([8, 0]) + b"%08d" % number for number in range(ARCHIVES)]
    waiting = [request(url, f"upload-{tag}-{number}", code) for number, code in enumerate(variants)]
    print("ready", flush=True)
    sys.stdin.readline()
    took = []
    with client.Connection(url) as connection:
        for one in waiting:
            answer = connection.call(one)
            if answer.status not in (200, 201):
                raise SystemExit(f"the upload was answered {answer.status}: {answer.body[:300]!r}")
            took.append(answer.ms / 1000)
            if select.select([sys.stdin], [], [], 0)[0]:
                break
    print(json.dumps(took), flush=True)


def measured(node: Node, url: str, requests: list[bytes], connections: int, seconds: int) -> tuple[load.Result, list[float]]:
    """Load while another process uploads; its seconds for each archive."""
    command = [sys.executable, "-m", "bench.upload", node.endpoint]
    env = {**processes.clean_environment(), **node.credentials}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=servers.HERE.parent
    )
    assert process.stdin
    assert process.stdout
    try:
        if not select.select([process.stdout], [], [], READY_S_MAX)[0] or process.stdout.readline() != "ready\n":
            raise RuntimeError("the uploader could not make its archives")
        process.stdin.write("go\n")
        process.stdin.flush()
        result = load.run(url, requests, connections=connections, seconds=seconds)
        said, _ = process.communicate(timeout=READY_S_MAX)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError("an upload failed")
    return result, json.loads(said)


def upload(*, rounds: int, seconds: int) -> Section:
    quiet: dict[int, list[load.Result]] = {}
    busy: dict[int, list[load.Result]] = {}
    took: list[float] = []
    with servers.ondol_node() as node:
        servers.create(node, servers.NAME, servers.HANDLER)
        url = node.endpoint + servers.path(servers.NAME)
        for number in range(rounds):
            requests = servers.signed(node, servers.NAME, [servers.body(n) for n in range(servers.DISTINCT)])
            if not number:
                load.run(url, requests, connections=max(CONNECTIONS), seconds=1)
            for many in CONNECTIONS:
                quiet.setdefault(many, []).append(load.run(url, requests, connections=many, seconds=seconds))
                result, uploads = measured(node, url, requests, many, seconds)
                busy.setdefault(many, []).append(result)
                took += uploads
                time.sleep(1)
                _remove(node)
    failed = sum(result.failed for results in (*quiet.values(), *busy.values()) for result in results)
    text = (
        f"`CreateFunction` with a zip of 50 MB and {FILES:,} files, signed beforehand, one after the other (each another archive) by another process "
        f"on the same CPUs, while wrk calls a warm function for {seconds} s; {failed} calls failed."
    )
    figures = []
    for many in CONNECTIONS:
        figures += [
            Figure(what=f"c={many}, warm p99, no upload", unit="ms", rounds=[r.p99_us / 1000 for r in quiet[many]]),
            Figure(
                what=f"c={many}, warm p99 during the upload",
                unit="ms",
                rounds=[r.p99_us / 1000 for r in busy[many]],
                target="<= 20",
            ),
            Figure(
                what=f"c={many}, with / without",
                unit="×",
                rounds=[b.p99_us / q.p99_us for b, q in zip(busy[many], quiet[many], strict=True)],
            ),
        ]
    figures.append(Figure(what="one upload takes", unit="s", rounds=took))
    figures.append(Figure(what="failed calls", unit="", rounds=[failed], target="<= 0"))
    return Section("Warm calls during a large upload", text, figures)


def _remove(node: Node) -> None:
    client_ = node.client()
    for function in client_.list_functions()["Functions"]:
        if function["FunctionName"].startswith("upload-"):
            client_.delete_function(FunctionName=function["FunctionName"])


if __name__ == "__main__":
    uploader(sys.argv[1])
