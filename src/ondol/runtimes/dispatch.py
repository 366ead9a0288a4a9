"""All runtimes of a level as one: the runtime id says which of them launches.

Must not know: how any of them does it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ondol.model.errors import RuntimeMissing
from ondol.model.functions import Revision
from ondol.runtime import Launch, LogSink, Runtime, Worker
from ondol.runtimes.choice import Choice, Family
from ondol.sandbox import Shell


class Dispatch:
    """`ondol.runtime.Runtime` over one runtime for each family of ids."""

    def __init__(self, choice: Choice, runtimes: Mapping[Family, Runtime]) -> None:
        self._choice = choice
        self._runtimes = runtimes

    def find(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        return self._choice.missing(runtime)

    async def start(self, shell: Shell, revision: Revision, launch: Launch, sink: LogSink) -> Worker:
        """Launch by the runtime of this id's family."""
        runtime = self._runtimes.get(self._choice.family(launch.runtime))
        missing = self.find(launch.runtime)
        if runtime is None or missing is not None:
            raise RuntimeMissing(launch.runtime, missing or "")
        if launch.attached is not None and self._choice.family(launch.runtime) is not Family.PYTHON:
            await launch.attached  # what starts by a program of its own may look at the code at once
        return await runtime.start(shell, revision, launch, sink)
