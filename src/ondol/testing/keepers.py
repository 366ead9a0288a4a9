"""A keeper of a test's own: started as root or as an ordinary user, with a guest that runs whatever Python a test sends it.

`running_keeper` leaves nothing behind, and `leftovers` says what a killed one left.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ondol_guest
from ondol.keeper import __main__ as keeper
from ondol.keeper import probe
from ondol.node import unprivileged
from ondol.sandbox import Child, Claims, Shell
from ondol.sandboxes.kept import CLAIMS, KeptSandboxes
from ondol.testing.internet import World
from ondol.testing.patience import PATIENCE

ACCOUNT: Final = "000000000000"
INTERPRETER: Final = os.path.realpath(sys.executable)
USER: Final = 12345
SECONDS_MAX: Final = 30.0 * PATIENCE
_SOURCE: Final = Path(ondol_guest.__file__).resolve().parent

#: Stands in for the guest: length and code in, length and JSON of `result` out, in one namespace with `task`, `opt`, `tmp`.
STUB: Final = """
import json, os, struct, sys, traceback

def exactly(fd, size):
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            os._exit(0)
        data += part
    return data

def run(wire, adapt=None, ahead=False):
    settings = {"cwd": "/var/task", "path": ["/opt"], "memory_mib": 256, "variables": {}}
    names = {"wire": wire}
    while True:
        code = exactly(wire, struct.unpack("<I", exactly(wire, 4))[0]).decode()
        names["result"] = None
        if adapt is not None:
            adapt(settings)
            adapt = None
        names["task"], names["opt"] = settings["cwd"], settings["path"][0]
        names["tmp"] = settings["variables"].get("TMPDIR", "/tmp")
        try:
            exec(code, names)
            answer = {"result": names["result"]}
        except BaseException as error:
            answer = {"error": type(error).__name__, "errno": getattr(error, "errno", None), "text": traceback.format_exc()}
        data = json.dumps(answer).encode()
        os.write(wire, struct.pack("<I", len(data)) + data)
"""

#: A keeper whose bounds are as long as a test's.
_PATIENT: Final = f"""
import sys; sys.path.insert(0, {str(_SOURCE.parent)!r})
from ondol.keeper import __main__, server, serving, shells
for module in (server, serving, shells):
    for name in [name for name in vars(module) if name.endswith("_S_MAX")]:
        setattr(module, name, getattr(module, name) * {PATIENCE})
sys.exit(__main__.main(sys.argv[1:]))
"""


class CodeFailed(Exception):  # noqa: N818
    """Code run in a shell raised."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["text"])
        self.name: str = answer["error"]
        self.errno: int | None = answer["errno"]


@dataclass
class Inside:
    """A process in a shell that does as it is told."""

    shell: Shell
    child: Child

    async def run(self, code: str) -> Any:
        """What the code left in `result`. Raises CodeFailed; EOFError when the process ended meanwhile."""
        async with asyncio.timeout(SECONDS_MAX):
            data = code.encode()
            await self._write(len(data).to_bytes(4, "little") + data)
            size = int.from_bytes(await self._read(4), "little")
            answer = json.loads(await self._read(size))
        if "error" in answer:
            raise CodeFailed(answer)
        return answer["result"]

    async def tell(self, code: str) -> None:
        """Start code that gives no answer."""
        data = code.encode()
        await self._write(len(data).to_bytes(4, "little") + data)

    async def logged(self) -> str:
        """Everything written to its output, once all writers are gone."""
        text = b""
        while True:
            await _ready(self.child.log, write=False)
            part = os.read(self.child.log, 65536)
            if not part:
                return text.decode()
            text += part

    async def ended(self) -> int:
        async with asyncio.timeout(SECONDS_MAX):
            return await self.child.wait()

    async def _write(self, data: bytes) -> None:
        while data:
            await _ready(self.child.wire, write=True)
            data = data[os.write(self.child.wire, data) :]

    async def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            await _ready(self.child.wire, write=False)
            try:
                part = os.read(self.child.wire, size - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                raise EOFError("the process in the shell is gone")
            data += part
        return data

    def close(self) -> None:
        os.close(self.child.wire)
        os.close(self.child.log)


@dataclass
class Kept:
    """A running keeper and a front's end of its line."""

    data: Path
    node: str
    as_user: int | None
    process: subprocess.Popen[bytes]
    supervisor: socket.socket
    sandboxes: KeptSandboxes
    insides: list[Inside] = field(default_factory=list)
    claims: Claims = CLAIMS
    #: Where it runs, when not on the real machine.
    on: World | None = None

    @property
    def shells(self) -> Path:
        """Where the shells' directories are."""
        return self.data / "shells"

    def groups(self) -> list[str]:
        """The directories of its control groups."""
        return [top for top, _, _ in os.walk("/sys/fs/cgroup") if top.endswith(f"/ondol-{self.node}")]

    def limits_memory(self) -> bool:
        return bool(self.groups())

    def code(self, **files: str) -> str:
        """A tree of code: names (with `__` for the dot) and texts."""
        tree = self.data / "code" / secrets.token_hex(4) / "tree"
        tree.mkdir(parents=True)
        for name, text in files.items():
            (tree / name.replace("__", ".")).write_text(text)
        return str(tree)

    async def inside(
        self,
        *,
        memory_bytes: int = 256 << 20,
        tmp_mib: int = 512,
        tree: str | None = None,
        account: str = ACCOUNT,
        interpreter: str = INTERPRETER,
        network: str = "none",
    ) -> Inside:
        """A process in a new, attached shell."""
        shell = await self.sandboxes.prepare(account, network=network)
        await self.sandboxes.attach(shell, tree=tree or self.code(), memory_bytes=memory_bytes, tmp_mib=tmp_mib)
        return await self.fork_into(shell, interpreter)

    async def fork_into(self, shell: Shell, interpreter: str = INTERPRETER) -> Inside:
        zygote = await self.sandboxes.zygote(shell.account, interpreter)
        inside = Inside(shell, await zygote.fork(shell))
        self.insides.append(inside)
        return inside

    def new_line(self) -> socket.socket:
        """A front's end of a new line to the keeper."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self.supervisor, [b'{"line":"front"}'], [theirs.fileno()])
        return ours

    def processes(self) -> list[int]:
        """The keeper's outer half and everything below it, parents first."""
        return descendants(self.process.pid)


def descendants(top: int) -> list[int]:
    """A process and everything below it, parents first."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found = [top]
    for pid in found:
        found += parents.get(pid, [])
    return found


def sweepers(data: Path) -> list[int]:
    """Those who will clean when all of the node with this data directory are killed."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            name, words = (Path(f"/proc/{entry}/{file}").read_bytes() for file in ("comm", "cmdline"))
            if name == b"ondol-sweeper\n" and os.fsencode(data) in words:
                found.append(int(entry))
    return found


@functools.cache  # the machine stays what it is
def why_not(user: int | None) -> str:
    """Why no keeper can run here as this user (None: as root); empty when it can."""
    if user is None and os.geteuid() != 0:
        return "needs root"
    findings = probe.probe()
    return "; ".join(f"{f.what}: {f.detail}" for f in findings if f.needed and not f.ok)


@contextlib.asynccontextmanager
async def running_keeper(
    user: int | None, *, stock_shells: int = 0, interpreters: Sequence[str] = (INTERPRETER,), on: World | None = None
) -> AsyncIterator[Kept]:
    """A keeper for one test; `user` None is root. It runs on the machine of `on`, else on the real one."""
    kept = start_keeper(user, stock_shells=stock_shells, interpreters=interpreters, on=on)
    try:
        yield kept
    finally:
        await put_away(kept)


async def put_away(kept: Kept) -> None:
    """End the keeper, dead or alive, and remove what it leaves."""
    await kept.sandboxes.close()
    for inside in kept.insides:
        inside.close()
    _stop(kept)
    if leftovers(kept):  # it was killed: the next start cleans
        again = restart(kept)
        await again.sandboxes.close()
        _stop(again)
    shutil.rmtree(kept.data.parent)


def _stop(kept: Kept) -> None:
    with contextlib.suppress(OSError):
        kept.supervisor.send(b'{"stop":1}')
    try:
        kept.process.wait(SECONDS_MAX)
    finally:
        kept.process.kill()
        kept.supervisor.close()


def start_keeper(
    user: int | None, *, stock_shells: int = 0, interpreters: Sequence[str] = (INTERPRETER,), on: World | None = None
) -> Kept:
    """Start one; use `running_keeper` where the test does not kill it."""
    top = Path(tempfile.mkdtemp(prefix="ondol-keeper-"))
    data, runtime = top / "data", top / "guest"
    data.mkdir()
    (data / "code").mkdir()
    (data / "run").mkdir()
    (data / "run" / "lock").touch()
    shutil.copytree(_SOURCE, runtime, ignore=shutil.ignore_patterns("__pycache__"))
    (runtime / "guest.py").write_text(STUB)
    as_user = user if os.geteuid() == 0 else None
    if as_user is not None:
        os.chmod(top, 0o755)  # noqa: S103
        unprivileged.hand_over(data, as_user, as_user)
    return _start(data, secrets.token_hex(6), as_user, stock_shells, interpreters, on)


def restart(kept: Kept) -> Kept:
    """A new keeper for the same node, after the death of the old one."""
    return _start(kept.data, kept.node, kept.as_user, 0, (INTERPRETER,), kept.on)


def _start(  # noqa: PLR0917
    data: Path, node: str, as_user: int | None, stock_shells: int, interpreters: Sequence[str], on: World | None
) -> Kept:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = _command(theirs.fileno(), data, data.parent / "guest", node, as_user, interpreters)
        fds = [theirs.fileno(), *([on.machine] if on else [])]
        process = subprocess.Popen([*(on.prefix() if on else []), *command], pass_fds=fds, start_new_session=True)
    front, keepers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with keepers:
        socket.send_fds(ours, [b'{"line":"front"}'], [keepers.fileno()])
    return Kept(data, node, as_user, process, ours, KeptSandboxes(front, stock_shells=stock_shells), on=on)


def _command(  # noqa: PLR0917
    fd: int, data: Path, runtime: Path, node: str, as_user: int | None, interpreters: Sequence[str]
) -> list[str]:
    start = [keeper.__file__] if PATIENCE == 1 else ["-c", _PATIENT]
    argv = [INTERPRETER, "-I", "-S", *start, "--supervisor-fd", str(fd), "--data", str(data), "--node-id", node]
    argv += ["--networks", "none:egress:host", "--interpreters", ":".join(interpreters), "--runtime", f"ondol_guest={runtime}"]
    if as_user is None:
        return argv
    prefix = Path(INTERPRETER).parent.parent
    keep = [_SOURCE.parent, data.parent, *([] if prefix == Path("/usr") else [prefix])]
    return unprivileged.command(argv, uid=as_user, gid=as_user, keep=keep, fds=[fd])


async def all_gone(pids: list[int]) -> list[int]:
    """Wait for the end of these processes; those that are still there after a long time."""
    deadline = asyncio.get_running_loop().time() + SECONDS_MAX
    left = pids
    while left and asyncio.get_running_loop().time() < deadline:
        left = [pid for pid in left if _alive(pid)]
        await asyncio.sleep(0.02)
    return left


def leftovers(kept: Kept) -> list[str]:
    """What a keeper that is no more left of shells: directories, control groups, mounts, loop devices."""
    found = [str(path) for path in (kept.data / "shells").iterdir()]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        at, kind = line.split()[4], line.partition(" - ")[2].split()[0]
        if str(kept.data) in at:
            found.append(at)
        if kind in ("cgroup", "cgroup2"):
            found += [group for group, _, _ in os.walk(at) if f"ondol-{kept.node}" in group]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it goes while we look
            if str(kept.data) in (text := backing.read_text()):
                found.append(text)
    return found


def groups_of(kept: Kept) -> list[Path]:
    """The directories in which the keeper makes its shells' control groups, one in each hierarchy it uses."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.partition(" - ")[2].split()[0] in ("cgroup", "cgroup2"):
            found += [Path(group) for group, _, _ in os.walk(line.split()[4]) if group.endswith(f"/ondol-{kept.node}")]
    return found


async def nothing_left(kept: Kept) -> list[str]:
    """Wait until nothing is left (the kernel lets go of a dead namespace's mounts in its own time); what stays for long."""
    deadline = asyncio.get_running_loop().time() + SECONDS_MAX
    while (found := leftovers(kept)) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return found


def _alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in ("Z", "X")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def _ready(fd: int, *, write: bool) -> None:
    """Wait until `fd` can be read or written; bounded by who calls."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT if write else select.POLLIN)
    while not poll.poll(0):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
