"""What is compared: the floors, Ondol, and peers from package registries. All answer the same event with the same handler.

A server is a name, a way to start it and the requests it takes. A peer that cannot be had raises `Missing` with the reason.
"""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import load, processes
from ondol.testing import node as nodes

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "bench"
INSTALL_S_MAX = 240
#: Signatures are good for five minutes; they are made anew before that.
SIGNED_S_MAX = 150.0
DISTINCT = 10_000
NAME = "bench-warm"

EVENT = {"name": "you"}
WANTED = {"hello": "you"}
HANDLER = """
def handler(event, context=None):
    return {"hello": event.get("name", "you")}


def http(request):
    return handler(request.get_json())
"""


class Missing(Exception):
    """A peer cannot be had here; the message says why."""


def body(number: int) -> bytes:
    """One of many different requests with the same answer."""
    return json.dumps({**EVENT, "number": number}).encode()


@dataclass
class Server:
    """One that runs."""

    name: str
    pid: int
    url: str
    sign: Callable[[], list[bytes]] | None = None
    parts: bool = False
    node: nodes.Node | None = None
    #: Said in the table.
    note: str = ""
    #: Not asked for fewer connections than this, or for more.
    connections_min: int = 1
    connections_max: int = 10_000
    #: How long it takes until all its workers are up.
    warm_s: int = 1
    _requests: list[bytes] = field(default_factory=list)
    _made_s: float = 0.0

    def requests(self) -> list[bytes]:
        """Different ones, with signatures that are still good."""
        if not self._requests or (self.sign and time.monotonic() - self._made_s > SIGNED_S_MAX):
            self._made_s = time.monotonic()
            if self.sign:
                self._requests = self.sign()
            else:
                self._requests = [load.plain(self.url, body(number))[0] for number in range(DISTINCT)]
        return self._requests


Start = Callable[["set[int] | None"], "contextlib.AbstractContextManager[Server]"]


# Floors ----------------------------------------------------------------------------------------------------------------
def _floor(name: str, script: str) -> Start:
    @contextlib.contextmanager
    def start(cpus: set[int] | None) -> Iterator[Server]:
        port = processes.free_port()
        with tempfile.TemporaryDirectory(prefix="ondol-bench-") as folder:
            command = [sys.executable, str(HERE / script), str(port)]
            with processes.running(command, port=port, cpus=cpus, cwd=Path(folder)) as pid:
                yield Server(name, pid, f"http://127.0.0.1:{port}/")

    return start


# Ondol -----------------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def ondol_node(cpus: set[int] | None = None, *flags: str, user: int | None = None) -> Iterator[nodes.Node]:
    """A node of our own, or an ordinary user's; afterwards nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="ondol-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with processes.on_cpus(cpus):
            node = nodes.start(Path(folder) / "data", "--log-level", "warning", *flags, user=user)
        try:
            yield node
        finally:
            nodes.ended(node)


def runtime() -> str:
    """This machine's own Python."""
    return f"python{sys.version_info[0]}.{sys.version_info[1]}"


def create(node: nodes.Node, name: str, code: str, **settings: object) -> None:
    archive = nodes.zipped({"app.py": code})
    arguments = {"Runtime": runtime(), "Handler": "app.handler", "Timeout": 30, **settings}
    node.client().create_function(FunctionName=name, Role=role(node), Code={"ZipFile": archive}, **arguments)


def role(node: nodes.Node) -> str:
    return "arn:aws:iam::000000000000:role/bench"


def path(name: str) -> str:
    return f"/2015-03-31/functions/{name}/invocations"


def signed(node: nodes.Node, name: str, bodies: Sequence[bytes], **headers: str) -> list[bytes]:
    keys = node.credentials
    return load.signed(
        node.endpoint + path(name),
        bodies,
        key=keys["AWS_ACCESS_KEY_ID"],
        secret=keys["AWS_SECRET_ACCESS_KEY"],
        region=keys["AWS_REGION"],
        service="lambda",
        headers=headers,
    )


def _ondol(name: str, *flags: str, connections_min: int = 1) -> Start:
    @contextlib.contextmanager
    def start(cpus: set[int] | None) -> Iterator[Server]:
        with ondol_node(cpus, "--concurrency-max", "10000", *flags) as node:  # ten times as many calls a second may come in
            create(node, NAME, HANDLER)
            sign = lambda: signed(node, NAME, [body(number) for number in range(DISTINCT)])  # noqa: E731
            url = node.endpoint + path(NAME)
            yield Server(name, node.process.pid, url, sign, parts=True, node=node, connections_min=connections_min)

    return start


def fronts(count: int) -> dict[str, Start]:
    """Ondol with several fronts, where they can make a difference: not on one CPU, and not at one connection."""
    name = f"{FRONTS}{count} fronts"
    return {name: _ondol(name, "--fronts", str(count), connections_min=count)} if count > 1 else {}


# Peers -----------------------------------------------------------------------------------------------------------------
def environment(name: str, *packages: str) -> Path:
    """A virtual environment with these packages, made once."""
    top = CACHE / name
    stamp = top / ".complete"
    wanted = " ".join(packages)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"  installing {wanted} …", file=sys.stderr, flush=True)
        try:
            venv.create(top, with_pip=True, clear=True)
            command = [str(top / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S_MAX)
        except subprocess.CalledProcessError as error:
            said = (error.stderr if isinstance(error.stderr, str) else str(error.output)).strip().splitlines()
            raise Missing(f"{wanted} cannot be installed: {said[-1] if said else error}") from None
        except subprocess.TimeoutExpired:
            raise Missing(f"{wanted} was not installed within {INSTALL_S_MAX} s") from None
        stamp.write_text(wanted)
    return top


def version(top: Path, package: str) -> str:
    """Of an installed package."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([top / "bin/python", "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ondol-bench-") as folder:
        (Path(folder) / "app.py").write_text(HANDLER)
        yield Path(folder)


@contextlib.contextmanager
def _functions_framework(cpus: set[int] | None) -> Iterator[Server]:
    top = environment("functions-framework", "functions-framework")
    port = processes.free_port()
    with _folder() as folder:
        command = [top / "bin/functions-framework", "--target=http", "--source=app.py", "--host=127.0.0.1", f"--port={port}"]
        with processes.running([str(part) for part in command], port=port, cpus=cpus, cwd=folder) as pid:
            note = (
                f"functions-framework {version(top, 'functions-framework')}, gunicorn as it comes; no isolation, no signatures"
            )
            yield Server("functions-framework", pid, f"http://127.0.0.1:{port}/", note=note)


@contextlib.contextmanager
def _ministack(cpus: set[int] | None) -> Iterator[Server]:
    top = environment("ministack", "ministack")
    port = processes.free_port()
    with _folder() as folder:
        env = {"GATEWAY_PORT": str(port), "LAMBDA_EXECUTOR": "local", "TMPDIR": str(folder), "LOG_LEVEL": "ERROR"}
        with processes.running([str(top / "bin/ministack")], port=port, cpus=cpus, cwd=folder, env=env) as pid:
            import boto3

            keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
            client = boto3.client("lambda", endpoint_url=f"http://127.0.0.1:{port}", **keys)
            client.create_function(
                FunctionName=NAME,
                Runtime=runtime(),
                Handler="app.handler",
                Timeout=30,
                Role="arn:aws:iam::000000000000:role/bench",
                Code={"ZipFile": nodes.zipped({"app.py": HANDLER})},
            )
            url = f"http://127.0.0.1:{port}{path(NAME)}"
            bodies = [body(number) for number in range(DISTINCT)]
            sign = lambda: load.signed(url, bodies, key="test", secret="test", region="us-east-1", service="lambda")  # noqa: E731
            note = f"MiniStack {version(top, 'ministack')}, its local executor (no isolation); signatures sent, not checked; after a handler that logs nothing it waits 50 ms for log lines; measured after the others, since it is busy when idle"
            yield Server("MiniStack", pid, url, sign, note=note, warm_s=5)


@contextlib.contextmanager
def _rie(cpus: set[int] | None) -> Iterator[Server]:
    top = environment("rie", "aws-sam-cli", "awslambdaric")
    machine = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    found = sorted(top.glob(f"lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"))
    if not found:
        raise Missing(f"the aws-sam-cli wheel brings no aws-lambda-rie for {machine}")
    port, api = processes.free_port(), processes.free_port()
    with _folder() as folder:
        command = [found[0], "--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address"]
        command += [f"127.0.0.1:{api}", "--log-level", "error", top / "bin/python", "-m", "awslambdaric", "app.handler"]
        with processes.running([str(part) for part in command], port=port, cpus=cpus, cwd=folder) as pid:
            note = (
                f"RIE of aws-sam-cli {version(top, 'aws-sam-cli')} with awslambdaric {version(top, 'awslambdaric')}: "
                "one call at a time, so only one connection is opened to it"
            )
            url = f"http://127.0.0.1:{port}{path('function')}"
            yield Server("RIE + awslambdaric", pid, url, note=note, connections_max=1)


FLOOR_ECHO, FLOOR_FORK = "floor (a) uvloop echo", "floor (b) forked worker"
FLOORS: dict[str, Start] = {
    FLOOR_ECHO: _floor(FLOOR_ECHO, "floor_echo.py"),
    FLOOR_FORK: _floor(FLOOR_FORK, "floor_fork.py"),
}
ONDOL: dict[str, Start] = {"Ondol": _ondol("Ondol")}
#: How rows of a node with several fronts begin.
FRONTS = "Ondol, "
PEERS: dict[str, Start] = {"functions-framework": _functions_framework, "MiniStack": _ministack, "RIE + awslambdaric": _rie}

#: Use CPU while nobody calls them.
RESTLESS = {"MiniStack"}


def answer(server: Server) -> dict[str, object]:
    """One call outside of any measurement: it warms, and shows that the answer is the handler's."""
    head, _, sent = server.requests()[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    headers = dict(line.split(": ", 1) for line in lines)
    request = urllib.request.Request(server.url, data=sent, headers=headers, method="POST")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
        return json.loads(response.read())
