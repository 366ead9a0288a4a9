"""Python functions: a guest forked by a zygote into a shell.

Knows which interpreter runs which runtime id, and what a new guest is told. The talk with a running guest is link.py's.
Must not know: contracts, the pool, how a zygote is made.
"""

from __future__ import annotations

import json
from typing import Any, Final

from ondol.model.errors import RuntimeMissing, StartFailed
from ondol.model.functions import Revision
from ondol.runtime import Launch, LogSink, Worker
from ondol.runtimes import executed
from ondol.runtimes.affinity import Affinity
from ondol.runtimes.ahead import imported_ahead
from ondol.runtimes.choice import Choice
from ondol.runtimes.interpreters import Interpreter
from ondol.runtimes.link import Link
from ondol.sandbox import Sandboxes, Shell, with_modules
from ondol_guest import frames

#: Where a shell shows the function's code, and what Ondol brings.
TASK: Final = "/var/task"
BROUGHT: Final = "/var/runtime"


class ForkedPython:
    """`ondol.runtime.Runtime` for "python3.N", and for commands, which a guest starts."""

    def __init__(self, sandboxes: Sandboxes, choice: Choice, affinity: Affinity | None = None) -> None:
        self._sandboxes = sandboxes
        self._choice = choice
        self._affinity = affinity

    def find(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        return self._choice.missing(runtime)

    async def start(self, shell: Shell, revision: Revision, launch: Launch, sink: LogSink) -> Worker:
        """Fork a guest into `shell` and tell it `launch`; or have it execute another, where its variables ask for that."""
        interpreter = self._choice.interpreter(launch.runtime)
        if interpreter is None:
            raise RuntimeMissing(launch.runtime, self.find(launch.runtime) or "")
        named = with_modules(interpreter.path, imported_ahead(revision))
        init, attached = _settings(launch, interpreter), launch.attached
        if launch.guest == "aws" and executed.why(launch.own):
            init = {"exec": executed.told(init, interpreter.path)}
            if attached is not None:
                await attached
        elif attached is not None:
            init["waits"] = True
        zygote = await self._sandboxes.zygote(shell.account, named)
        child = await zygote.fork(shell)
        try:
            link = await Link.open(child, frames.pack(frames.INIT, 0, json.dumps(init).encode()), sink, self._affinity)
        except OSError as error:
            raise StartFailed(f"a forked {interpreter.name} could not be talked to: {error}") from error
        if "waits" in init:
            assert attached is not None
            try:
                await attached
            except BaseException:
                link.close()
                raise
            link.send(frames.pack(frames.ATTACHED))
        return link


def _settings(launch: Launch, interpreter: Interpreter) -> dict[str, Any]:
    """What INIT says; its keys are described in `ondol_guest.guest`."""
    return {
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
