"""The processes of external extensions: programs in /opt/extensions that forks in the shell become. Knows not what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ondol.model.errors import StartFailed
from ondol.runtime import Launch, LogSink
from ondol.runtimes.company import EXTENSIONS_MAX, Company
from ondol.runtimes.logpipe import LogPipe
from ondol.runtimes.program import Becoming, ended, exit_of, reason
from ondol.sandbox import Child

PLACE: Final = "/opt/extensions"
#: How long after a process's end its last words may still be on their way to us.
LAST_WORDS_S: Final = 0.02

#: What the documented system keeps from extensions.
_HIDDEN: Final = frozenset(
    (
        *("AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING"),
        *("AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT", "_AWS_XRAY_DAEMON_ADDRESS"),
        *("_AWS_XRAY_DAEMON_PORT", "_HANDLER"),
    )
)

Fork = Callable[[], Awaitable[Child]]


class Beside:
    """The external extensions' processes."""

    def __init__(self, company: Company, fork: Fork, launch: Launch, sink: LogSink) -> None:
        self._company = company
        self._fork = fork
        self._sink = sink
        self._variables = {name: value for name, value in launch.variables.items() if name not in _HIDDEN}
        self._names = launch.extensions
        self._memory_mib = launch.memory_mib
        self.processes: dict[str, _Process] = {}

    async def launch(self) -> None:
        """Start them all. Raises StartFailed."""
        if len(self._names) > EXTENSIONS_MAX:
            self._company.unlaunched(self._names[EXTENSIONS_MAX], f"extension limit ({EXTENSIONS_MAX}) reached")
            return
        for name in self._names:
            process = self.processes[name] = _Process(await self._fork(), name, self._company, self._sink)
            try:
                process.become(self._variables, self._memory_mib)
            except OSError as error:
                raise StartFailed(f"extension {name} could not be started: {error}") from error

    def close(self) -> None:
        for process in self.processes.values():
            process.close()


class _Process:
    """One of them."""

    def __init__(self, child: Child, name: str, company: Company, sink: LogSink) -> None:
        self._name = name
        self._company = company
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._log = LogPipe(child.log, self._line, lambda: None)
        self._becoming = Becoming(child.wire, self._unexecuted)
        self._grace: asyncio.TimerHandle | None = None
        self.exit = self._loop.create_task(exit_of(child), name=f"extension {name}")
        self.exit.add_done_callback(self._exited)

    def become(self, variables: Mapping[str, str], memory_mib: int) -> None:
        """Raises OSError."""
        told: dict[str, Any] = {"argv": [f"{PLACE}/{self._name}"], "instead": [], "cwd": "/", "wire": False}
        self._becoming.tell({**told, "variables": variables, "memory_mib": memory_mib})

    def close(self) -> None:
        self._becoming.close()
        self._log.close()
        if self._grace is not None:
            self._grace.cancel()

    def _line(self, text: str, at_ms: int | None) -> None:
        self._sink(text, at_ms)
        self._company.broadcast.extension(text, at_ms)

    def _unexecuted(self, program: str, number: int) -> None:
        self._company.unlaunched(self._name, f"fork/exec {program}: {reason(number)}")

    def _exited(self, exit_: asyncio.Task[int]) -> None:
        if not exit_.cancelled():
            self._grace = self._loop.call_later(LAST_WORDS_S, self._gone, exit_.result())

    def _gone(self, status: int) -> None:
        self._log.drain()
        self._log.flush()
        self._company.exited(self._name, ended(status))
