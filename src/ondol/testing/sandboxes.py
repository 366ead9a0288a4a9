"""Sandboxes without walls: shells are nothing, and a "fork" is a plain local process of the interpreter.

For tests of runtimes and pools, without rights and without a keeper. A guest runs as it does in a shell, except that it sees
the code's own directory where a shell shows /var/task. Nothing is isolated: never run what you do not trust.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import ondol_guest
from ondol.model.errors import StartFailed
from ondol.sandbox import NETWORK_NONE, Child, Shell, Usage, Zygote

#: What a zygote's child does, with the code's directory put in place of /var/task.
_CHILD: Final = """
import json, sys
source, fd, tree = sys.argv[1:]
sys.path.insert(0, source)
from ondol_guest import guest
await_init = guest.await_init
def await_local_init(wire):
    settings = await_init(wire)
    told = settings.get("exec", settings)
    for name in ("path", "argv", "instead"):
        told[name] = [tree + p[9:] if p == "/var/task" or p.startswith("/var/task/") else p for p in told.get(name, [])]
    told["path_last"] = [source]
    told["cwd"] = tree
    if told.get("wire"):
        told["argv"] = [word.replace("/var/runtime/", source + "/") for word in told["argv"]]
        told["variables"]["_ONDOL_PLACES"] = json.dumps({"places": {"/var/task": tree}, "tmp": ""})
    return settings
guest.await_init = await_local_init
guest.run(int(fd))
"""
SOURCE: Final = str(Path(ondol_guest.__file__).resolve().parent.parent)


class LocalChild:
    """`ondol.sandbox.Child` for a local process."""

    def __init__(self, process: subprocess.Popen[bytes], wire: int, log: int) -> None:
        self.pid = process.pid
        self.wire = wire
        self.log = log
        self.told = b""
        self._process = process

    async def wait(self) -> int:
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        pidfd = os.pidfd_open(self.pid)
        loop.add_reader(pidfd, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        return self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)


@dataclass(slots=True)
class LocalZygote:
    """`ondol.sandbox.Zygote`: starts a process where a real one forks."""

    sandboxes: LocalSandboxes
    interpreter: str
    rss_bytes: int = 0
    forks: int = 0

    async def fork(self, shell: Shell) -> Child:
        tree = self.sandboxes.trees.get(shell.id)
        if tree is None:
            raise StartFailed(f"shell {shell.id} has no code attached")
        self.forks += 1
        ours, theirs = socket.socketpair()
        log, written = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: ASYNC220  # a test may wait for an exec
                [self.interpreter, "-I", "-S", "-X", "utf8", "-c", _CHILD, SOURCE, str(theirs.fileno()), tree],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(log)
            raise StartFailed(f"{self.interpreter} could not be started: {error}") from error
        finally:
            theirs.close()
            os.close(written)
        self.sandboxes.processes.setdefault(shell.id, []).append(process)
        ours.setblocking(False)
        os.set_blocking(log, False)
        return LocalChild(process, ours.detach(), log)

    async def fork_beside(self, shell: Shell) -> Child:
        return await self.fork(shell)


@dataclass(slots=True)
class LocalSandboxes:
    """`ondol.sandbox.Sandboxes`. `close` ends all that it started."""

    usage_of_all: Usage = field(default_factory=lambda: Usage(memory_peak_bytes=0, oom_kills=0))
    trees: dict[str, str] = field(default_factory=dict)
    processes: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)
    shells: set[str] = field(default_factory=set)
    zygotes: dict[tuple[str, str], LocalZygote] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=count)

    async def prepare(self, account: str, interpreter: str = "", network: str = NETWORK_NONE, told: bytes = b"") -> Shell:
        del interpreter, told  # none waits here
        shell = Shell(id=f"local-{next(self._numbers)}", account=account, namespaces={}, cgroups=(), network=network)
        self.shells.add(shell.id)
        return shell

    async def attach(self, shell: Shell, *, tree: str, memory_bytes: int, tmp_mib: int, opt_tree: str = "") -> None:
        del memory_bytes, tmp_mib, opt_tree
        self.trees[shell.id] = tree

    async def freeze(self, shell: Shell, *, on: bool) -> None:
        raise StartFailed(f"shell {shell.id} is nothing that could be frozen: {on}")

    async def scour(self, shell: Shell) -> None:
        for process in self.processes.pop(shell.id, []):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            finally:
                process.wait()

    async def discard(self, shell: Shell) -> None:
        await self.scour(shell)
        self.trees.pop(shell.id, None)
        self.shells.discard(shell.id)

    async def usage(self, shell: Shell) -> Usage:
        del shell
        return self.usage_of_all

    async def zygote(self, account: str, interpreter: str) -> Zygote:
        made = self.zygotes.get((account, interpreter))
        if made is None:
            made = self.zygotes[account, interpreter] = LocalZygote(self, interpreter)
        return made

    async def close(self) -> None:
        for shell in list(self.shells):
            await self.discard(Shell(id=shell, account="", namespaces={}, cgroups=()))
