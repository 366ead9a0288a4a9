"""Python functions: a guest forked by a zygote into a shell.

Knows which interpreter runs which runtime id, and what a new guest is told. The talk with a running guest is link.py's.
Must not know: contracts, the pool, how a zygote is made.
"""

from __future__ import annotations

import json
import re
from typing import Final, Literal

from ondol.model.errors import RuntimeMissing, StartFailed
from ondol.model.functions import Revision
from ondol.runtime import Launch, LogSink, Worker
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.runtimes.link import Link
from ondol.sandbox import Sandboxes, Shell
from ondol_guest import frames

#: Where a shell shows the function's code, and what Ondol brings.
TASK: Final = "/var/task"
BROUGHT: Final = "/var/runtime"

_PYTHON: Final = re.compile(r"python3\.(\d+)$")
#: Runtime ids that other releases may run, by how they begin.
_OTHERS: Final = ("nodejs", "java", "ruby", "dotnet", "provided", "go1", "python2")


class ForkedPython:
    """`ondol.runtime.Runtime` for "python3.N". `substitute`: what runs a version that is not on the machine."""

    def __init__(
        self, sandboxes: Sandboxes, interpreters: Interpreters, substitute: Literal["none", "nearest"] = "none"
    ) -> None:
        self._sandboxes = sandboxes
        self._interpreters = interpreters
        self._substitute = substitute

    def find(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        if self._choose(runtime) is not None:
            return None
        asked = _PYTHON.match(runtime)
        have = ", ".join(i.name for i in self._interpreters.all()) or "none"
        if asked is None:
            known = "is not built in this release" if runtime.startswith(_OTHERS) else "is unknown"
            return f"The runtime {runtime} {known}: it runs Python (on this machine: {have}) and web servers."
        version = f"3.{asked[1]}"
        return (
            f"{runtime} is not on this machine (found: {have}). Install it, for example with 'uv python install {version}', "
            f"'pyenv install {version}' or 'apt install {runtime}', and start the node again; or start the node with "
            "--runtime-substitute nearest to run it on the nearest version."
        )

    def substitute_for(self, runtime: str) -> str | None:
        """What really runs `runtime` ("python3.11") when that is something else; None when it runs as asked, or not at all."""
        chosen = self._choose(runtime)
        return chosen.name if chosen is not None and chosen.name != runtime else None

    async def start(self, shell: Shell, revision: Revision, launch: Launch, sink: LogSink) -> Worker:
        """Fork a guest into `shell` and tell it `launch`."""
        del revision  # its code is in the shell already
        interpreter = self._choose(launch.runtime)
        if interpreter is None:
            raise RuntimeMissing(launch.runtime, self.find(launch.runtime) or "")
        zygote = await self._sandboxes.zygote(shell.account, interpreter.path)
        child = await zygote.fork(shell)
        try:
            return await Link.open(child, _init(launch, interpreter), sink)
        except OSError as error:
            raise StartFailed(f"a forked {interpreter.name} could not be talked to: {error}") from error

    def _choose(self, runtime: str) -> Interpreter | None:
        exact = self._interpreters.get(runtime)
        asked = _PYTHON.match(runtime)
        if exact is not None or asked is None or self._substitute == "none":
            return exact
        return self._interpreters.nearest(int(asked[1]))


def _init(launch: Launch, interpreter: Interpreter) -> bytes:
    """The INIT frame; its keys are described in `ondol_guest.guest`."""
    settings = {
        "guest": launch.guest,
        "handler": launch.handler,
        "runtime": launch.runtime,
        "variables": dict(launch.variables),
        "memory_mib": launch.memory_mib,
        "timeout_s": launch.timeout_s,
        "cwd": TASK,
        "path": [TASK, f"/opt/python/lib/{interpreter.name}/site-packages", "/opt/python"],
        "path_last": [BROUGHT],
    }
    return frames.pack(frames.INIT, 0, json.dumps(settings).encode())
