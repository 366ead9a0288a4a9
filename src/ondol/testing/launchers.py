"""A launcher of a test's own, with a guest that runs whatever Python a test sends it. What it offers is what a keeper of
`testing/keepers.py` offers, so that one suite runs on both.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ondol.launcher import __main__ as launcher
from ondol.launcher import probe
from ondol.launcher.tools import TOOLS
from ondol.node import unprivileged
from ondol.sandbox import NETWORK_NONE, Claims, Shell
from ondol.sandboxes.launched import LaunchedSandboxes, Launcher
from ondol.testing.internet import World
from ondol.testing.keepers import ACCOUNT, INTERPRETER, SECONDS_MAX, STUB, Inside, descendants

_SOURCE: Final = Path(launcher.__file__).resolve().parents[2]


@dataclass
class Launched:
    """A running launcher and a front's end of its line."""

    data: Path
    node: str
    level: str
    as_user: int | None
    process: subprocess.Popen[bytes]
    supervisor: socket.socket
    sandboxes: LaunchedSandboxes
    insides: list[Inside] = field(default_factory=list)
    on: World | None = None

    @property
    def claims(self) -> Claims:
        claims = TOOLS[self.level].claims
        # As root the launcher may mount, and then it mounts the code read-only, whatever the level.
        return replace(claims, code_read_only=claims.code_read_only or (os.geteuid() == 0 and self.as_user is None))

    @property
    def kind(self) -> str:
        return "process" if self.level == "process" else "tools"

    @property
    def shells(self) -> Path:
        """Where the shells' directories are."""
        return self.data / f"shells-{self.kind}"

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
        network: str = NETWORK_NONE,
    ) -> Inside:
        """A process in a new, attached shell."""
        shell = await self.sandboxes.prepare(account, INTERPRETER, network)
        await self.sandboxes.attach(shell, tree=tree or self.code(), memory_bytes=memory_bytes, tmp_mib=tmp_mib)
        return await self.fork_into(shell)

    async def fork_into(self, shell: Shell) -> Inside:
        zygote = await self.sandboxes.zygote(shell.account, INTERPRETER)
        inside = Inside(shell, await zygote.fork(shell))
        self.insides.append(inside)
        return inside

    def processes(self) -> list[int]:
        """The launcher's outer half and everything below it, parents first."""
        return descendants(self.process.pid)

    def limits_memory(self) -> bool:
        """Whether it has control groups."""
        return bool(self.groups())

    def groups(self) -> list[str]:
        """The directories of its control groups."""
        name = f"ondol-{self.node}-{self.kind}"
        return [top for top, _, _ in os.walk("/sys/fs/cgroup") if top.endswith(f"/{name}")]


@contextlib.asynccontextmanager
async def running_launcher(
    level: str, user: int | None = None, *, stock_shells: int = 0, on: World | None = None
) -> AsyncIterator[Launched]:
    """A launcher for one test; `user` None is whoever runs the test, `on` the machine that it runs on.

    Afterwards nothing of it is left, and that is asserted.
    """
    launched = start_launcher(level, user, stock_shells=stock_shells, on=on)
    try:
        yield launched
    finally:
        await put_away(launched)


async def put_away(launched: Launched) -> None:
    """End it, dead or alive, and assert that nothing is left."""
    await launched.sandboxes.close()
    for inside in launched.insides:
        inside.close()
    pids = launched.processes()
    killed = launched.process.poll() is not None
    with contextlib.suppress(OSError):
        launched.supervisor.send(b'{"stop":1}')
    launched.supervisor.close()
    try:
        launched.process.wait(SECONDS_MAX)
    finally:
        launched.process.kill()
    # Who cleans was killed: the next start does.
    left = [] if killed else leftovers(launched, pids)
    for group in launched.groups():
        if killed:
            _remove(group)
    shutil.rmtree(launched.data.parent)
    assert not left, left


def _remove(group: str) -> None:
    for path, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def leftovers(launched: Launched, pids: Sequence[int]) -> list[str]:
    """What is still there of a launcher that ended: directories, control groups, processes of `pids`."""
    found = [str(path) for path in launched.shells.iterdir()] + launched.groups()
    return found + [f"process {pid}" for pid in pids if Path(f"/proc/{pid}/exe").exists()]


def start_launcher(level: str, user: int | None, *, stock_shells: int = 0, on: World | None = None) -> Launched:
    """Start one; use `running_launcher` where the test does not kill it."""
    top = Path(tempfile.mkdtemp(prefix="ondol-launcher-"))
    data, runtime = top / "data", top / "guest" / "ondol_guest"
    (data / "code").mkdir(parents=True)
    shutil.copytree(_SOURCE / "ondol_guest", runtime, ignore=shutil.ignore_patterns("__pycache__"))
    (runtime / "guest.py").write_text(STUB)
    as_user = user if os.geteuid() == 0 else None
    if as_user is not None:
        os.chmod(top, 0o755)  # noqa: S103
        unprivileged.hand_over(data, as_user, as_user, but=())
    node = secrets.token_hex(6)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = _command(theirs.fileno(), data, runtime, node, level, as_user)
        fds = [theirs.fileno(), *([on.machine] if on else [])]
        process = subprocess.Popen([*(on.prefix() if on else []), *command], pass_fds=fds, start_new_session=True)
    front, launchers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with launchers:
        socket.send_fds(ours, [b'{"line":"front"}'], [launchers.fileno()])
    sandboxes = Launcher(front, stock_shells=stock_shells).level(level)
    return Launched(data, node, level, as_user, process, ours, sandboxes, on=on)


def _command(fd: int, data: Path, runtime: Path, node: str, level: str, as_user: int | None) -> list[str]:  # noqa: PLR0917
    argv = [INTERPRETER, "-I", "-S", launcher.__file__, "--supervisor-fd", str(fd), "--data", str(data), "--node-id", node]
    argv += ["--interpreters", INTERPRETER, "--runtime", f"ondol_guest={runtime}", "--level", probe.word(level)]
    argv += ["--networks", "none:egress:host"]
    if as_user is None:
        return argv
    prefix = Path(INTERPRETER).parent.parent
    keep = [_SOURCE, data.parent, *([] if prefix == Path("/usr") else [prefix])]
    return unprivileged.command(argv, uid=as_user, gid=as_user, keep=keep, fds=[fd])
