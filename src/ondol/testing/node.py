"""A whole node of a test's own: `ondol up` as a user starts it, on a free port, with its data in a temporary directory.

`running_node` stops it with Ctrl-C's signal and asserts that nothing is left of it: no process, mount, control group, spool
file or shell. It knows no room of the node: it sees what a user sees, and /proc.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import urllib3

from ondol.keeper import probe
from ondol.node import unprivileged
from ondol.node.children import node_id
from ondol.testing.patience import PATIENCE

START_S_MAX: Final = 60.0 * PATIENCE
#: Ctrl-C ends everything within this; a test says so, this helper only waits longer before it gives up.
STOP_S_MAX: Final = 15.0 * PATIENCE
COMMAND_S_MAX: Final = 60.0 * PATIENCE
#: As much of a node's messages as a failure shows.
SAID_CHARS_MAX: Final = 4000
_GLANCE_S: Final = 0.02
_SOURCE: Final = Path(unprivileged.__file__).resolve().parents[2]
#: What a test's surroundings say about other nodes and accounts is none of this node's business.
_FOREIGN: Final = ("AWS_", "ONDOL_")


@dataclass
class Node:
    """A node that runs, or ran: `stop` ends it, `start` on the same directory brings it back."""

    data: Path
    process: subprocess.Popen[bytes]
    endpoint: str
    #: Where the node's own messages went.
    log: Path
    flags: Sequence[str] = ()
    #: Who runs it; None: whoever runs the test.
    user: int | None = None
    credentials: Mapping[str, str] = field(default_factory=dict)

    # Talking to it -----------------------------------------------------------------------------------------------------
    def client(self, service: str = "lambda", **config: Any) -> Any:
        """A boto3 client, unmodified; `config` goes to botocore's Config."""
        import boto3
        from botocore.config import Config

        settings = {"retries": {"total_max_attempts": 1}, "read_timeout": COMMAND_S_MAX, "max_pool_connections": 64, **config}
        session = boto3.session.Session(
            aws_access_key_id=self.credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.credentials["AWS_SECRET_ACCESS_KEY"],
            region_name=self.credentials["AWS_REGION"],
        )
        return session.client(service, endpoint_url=self.endpoint, config=Config(**settings))

    @property
    def key(self) -> str:
        """For X-Ondol-Key and bearer tokens."""
        return f"{self.credentials['AWS_ACCESS_KEY_ID']}:{self.credentials['AWS_SECRET_ACCESS_KEY']}"

    def http(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> urllib3.BaseHTTPResponse:
        """A plain request with the node's key; `headers={"x-ondol-key": ""}` sends none."""
        given = {"x-ondol-key": self.key, **(headers or {})}
        sent = {name: value for name, value in given.items() if value}
        with urllib3.PoolManager(retries=False, timeout=COMMAND_S_MAX) as pool:
            return pool.request(method, self.endpoint + path, body=body, headers=sent, **more)

    def put_web(self, name: str, files: Mapping[str, str | bytes], handler: str, **settings: Any) -> None:
        """Deploy a web function through the node's own API."""
        document = {"runtime": "python3.11", "handler": handler, **settings}
        document["zip_base64"] = base64.b64encode(zipped(files)).decode()
        answer = self.http("PUT", f"/ondol/v1/functions/{name}", json.dumps(document))
        assert answer.status in (200, 201), answer.data

    def environment(self) -> dict[str, str]:
        """Variables for commands that shall find this node: as after `eval "$(ondol env)"`."""
        return {**clean_environment(), **self.credentials, "AWS_PAGER": "", "AWS_EC2_METADATA_DISABLED": "true"}

    def ondol(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """The `ondol` command, pointed at this node."""
        return ondol(*arguments, env=self.environment(), **more)

    def aws(self, *arguments: str) -> Any:
        """The aws command; its JSON answer. Raises AssertionError with its standard error when it failed."""
        done = self.aws_raw(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def aws_raw(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "awscli", *arguments]
        env = {**self.environment(), "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        return _run(command, env=env)

    # Its life ----------------------------------------------------------------------------------------------------------
    @property
    def id(self) -> str:
        """What control groups are named by."""
        return node_id(self.data)

    def processes(self) -> list[int]:
        """The node's first process and everything below it."""
        parents: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                    parents.setdefault(int(fields[1]), []).append(int(entry))
        found = [self.process.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """End it: by SIGINT to all its processes, as Ctrl-C in a terminal does, or by another to the first. Its exit status."""
        if self.process.poll() is None and how == signal.SIGINT:
            os.killpg(self.process.pid, how)
        elif self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_S_MAX)
        finally:
            self.process.kill()
            self.process.wait()

    def restart(self) -> Node:
        """The same directory and flags, after a stop."""
        return start(self.data, *self.flags, user=self.user)

    def said(self) -> str:
        """The node's own messages."""
        return self.log.read_text(errors="replace")


@functools.cache  # the machine stays what it is
def why_not() -> str:
    """Why no node can run here; empty when one can."""
    return "; ".join(f"{found.what}: {found.detail}" for found in probe.probe() if found.needed and not found.ok)


@contextlib.contextmanager
def running_node(*flags: str, user: int | None = None) -> Iterator[Node]:
    """A node for a test or a session; afterwards nothing of it is left, and that is asserted."""
    top = Path(tempfile.mkdtemp(prefix="ondol-node-"))
    try:
        _teach(top / "data", user)
        node = start(top / "data", *flags, user=user)
        _learn(node)
        try:
            yield node
        finally:
            ended(node)
    finally:
        shutil.rmtree(top, ignore_errors=True)


#: What nodes found out of this machine and keep for their next start, by user: the next node of that user's starts with it.
_learnt: dict[int | None, dict[str, bytes]] = {}


def _learn(node: Node) -> None:
    for name in ("isolation.json", "interpreters.json"):
        with contextlib.suppress(OSError):
            _learnt.setdefault(node.user, {})[name] = (node.data / "run" / name).read_bytes()


def _teach(data: Path, user: int | None) -> None:
    for name, content in _learnt.get(user, {}).items():
        (data / "run").mkdir(mode=0o755, parents=True, exist_ok=True)
        (data / "run" / name).write_bytes(content)
    if user is not None and data.exists():
        for path in (data, data / "run", *(data / "run").iterdir()):
            os.chown(path, user, user)


def ended(node: Node) -> None:
    """Stop it and assert that it leaves nothing."""
    pids = node.processes() if node.process.poll() is None else []
    node.stop()
    left = leftovers(node, pids)
    assert not left, f"left behind: {left}\n{node.said()[-SAID_CHARS_MAX:]}"


def start(data: Path, *flags: str, user: int | None = None) -> Node:
    """Start `ondol up` and wait until it answers. Raises AssertionError with its messages when it does not.

    `user`: an ordinary user to run it as; only root can. Functions get no network unless `flags` say so: a way out changes the
    machine (it forwards packets from then on).
    """
    reading, writing = os.pipe()
    log = data.parent / f"{data.name}.log"
    argv = [sys.executable, "-m", "ondol.cli.main", "up", "--data", str(data), "--listen", "127.0.0.1:0"]
    argv += ["--ready-fd", str(writing), *([] if "--network" in flags else ["--network", "none"]), *flags]
    if user is not None:
        os.chown(data.parent, user, user)
        keep = [_SOURCE, Path(sys.prefix), Path(sys.base_prefix), data.parent]
        argv = unprivileged.command(argv, uid=user, gid=user, keep=keep, fds=[0, 1, 2, writing])
    with log.open("ab") as messages:
        process = subprocess.Popen(
            argv,
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            env=clean_environment(),
            cwd=data.parent,
            start_new_session=True,
        )
    os.close(writing)
    with os.fdopen(reading) as line:
        ready, _, _ = select.select([line], [], [], START_S_MAX)
        endpoint = line.readline().strip() if ready else ""
    if not endpoint:
        process.kill()
        process.wait()
        raise AssertionError(f"the node did not start: {log.read_text(errors='replace')[-SAID_CHARS_MAX:]}")
    node = Node(data=data, process=process, endpoint=endpoint, log=log, flags=flags, user=user)
    node.credentials = json.loads(ondol("env", "--data", str(data), "--json", check=True).stdout)
    return node


def ondol(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | str | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """The `ondol` command, to its end."""
    command = [sys.executable, "-m", "ondol.cli.main", *arguments]
    return _run(command, env=clean_environment() if env is None else env, cwd=cwd, **more)


def clean_environment() -> dict[str, str]:
    """This process's, without what names nodes, accounts or keys."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """An honest archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def executable(files: Mapping[str, str | bytes], mode: int = 0o755) -> bytes:
    """An archive whose files can all be executed, or what `mode` says."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def leftovers(node: Node, pids: Sequence[int]) -> list[str]:
    """What is still there of a node that ended: processes (of `pids`, or naming its directory), mounts, groups, files."""
    deadline = time.monotonic() + STOP_S_MAX
    while (found := _processes_of(node, pids)) and time.monotonic() < deadline:
        time.sleep(_GLANCE_S)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        at, kind = line.split()[4], line.partition(" - ")[2].split()[0]
        if str(node.data) in at:
            found.append(f"mount {at}")
        if kind in ("cgroup", "cgroup2"):
            # Not rglob: other nodes' groups come and go meanwhile.
            found += [f"group {path}" for path, _, _ in os.walk(at) if _is_of(path, node)]
    for folder in ("shells", "shells-process", "shells-tools", "tmp"):
        if (node.data / folder).is_dir():
            found += [str(path) for path in (node.data / folder).iterdir()]
    found += [str(path) for path in (node.data / "run").glob("*") if path.name == "node.json"]
    return found


def _is_of(group: str, node: Node) -> bool:
    """Whether it is one of the node's parents: the keeper's, or a launcher's."""
    return os.path.basename(group) in {f"ondol-{node.id}{kind}" for kind in ("", "-process", "-tools")}


def _processes_of(node: Node, pids: Sequence[int]) -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            words = Path(f"/proc/{entry}/cmdline").read_bytes()
            named = os.fsencode(node.data) in words and int(entry) != os.getpid()
            if fields[0] not in ("Z", "X") and (int(entry) in pids or named):
                found.append(f"process {entry} {words!r}")
    return found


def _run(command: Sequence[str], *, env: Mapping[str, str], **more: Any) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "timeout": COMMAND_S_MAX, "stdin": None, **more}
    if "input" in settings:
        settings.pop("stdin")
    elif settings["stdin"] is None:
        settings["stdin"] = subprocess.DEVNULL
    return subprocess.run(command, env=dict(env), check=settings.pop("check", False), **settings)
