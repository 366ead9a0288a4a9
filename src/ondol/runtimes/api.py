"""Programs that speak the Runtime API: custom runtimes' `bootstrap`, executed in a shell behind its walls.

A zygote forks into the shell as ever, and the child executes the program. `Callers` knows which worker a request belongs to, by
the socket that it came by. Must not know: contracts' texts, the pool.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ondol.http.messages import Reply, Request, Response
from ondol.model.errors import RuntimeMissing, StartFailed
from ondol.model.functions import Revision
from ondol.runtime import Launch, LogSink, Worker
from ondol.runtimes import api_http, company_http
from ondol.runtimes.api_crowd import Crowd
from ondol.runtimes.api_worker import ApiWorker
from ondol.runtimes.choice import Choice
from ondol.runtimes.company import Company
from ondol.runtimes.interpreters import Interpreter
from ondol.runtimes.program import reason
from ondol.sandbox import NODE_URL, Child, Sandboxes, Shell

TASK: Final = "/var/task"
BOOTSTRAPS: Final = ("/var/task/bootstrap", "/opt/bootstrap")
#: By which number a runtime's client finds the log; that of the documented system's sandboxes.
LOG_FD: Final = "62"
ADDRESS: Final = NODE_URL.removeprefix("http://")


#: How AWS's emulator of a sandbox says that there is none of an API, here to web functions: libraries know the answer.
_ABSENT: Final = {
    "/2022-07-01/telemetry": (202, "Telemetry.NotSupported", "Telemetry API is not supported"),
    "/2020-08-15/logs": (202, "Logs.NotSupported", "Logs API is not supported"),
}
_EXTENSIONS: Final = (404, "Extension.NotSupported", "Extensions API is not supported")


class Callers:
    """The workers that speak the API, and extensions, by the name under which their shell's requests come."""

    def __init__(self) -> None:
        self._workers: dict[str, ApiWorker] = {}
        self._companies: dict[str, Company] = {}

    def company(self, name: str) -> Company | None:
        return self._companies.get(name)

    def join(self, name: str, company: Company) -> None:
        """The newest counts: an environment whose runtime is started afresh has its extensions afresh."""
        self._companies[name] = company

    def part(self, name: str, company: Company) -> None:
        """Unless another has taken its place."""
        if self._companies.get(name) is company:
            del self._companies[name]

    def add(self, name: str, worker: ApiWorker) -> None:
        self._workers[name] = worker

    def worker(self, name: str) -> ApiWorker | None:
        return self._workers.get(name)

    def remove(self, name: str, worker: ApiWorker) -> None:
        """Unless another has taken its place."""
        if self._workers.get(name) is worker:
            del self._workers[name]

    async def serve(self, request: Request) -> Response | None:
        """The answer to a shell's request; None when it is no question of this API or its kin."""
        if company_http.ours(request.path):
            company = self._companies.get(request.peer)
            if company is None:
                return api_http.refused(*_ABSENT.get(request.path.rstrip("/"), _EXTENSIONS))
            return await company_http.serve(company, request)
        if not request.path.startswith(api_http.PREFIX):
            return None
        worker = self._workers.get(request.peer)
        if worker is None:
            return api_http.refused(
                403, "InvalidStateTransition", "no runtime of this environment is served by the Runtime API"
            )
        return await api_http.serve(worker, request)

    def prompt(self, request: Request, reply: Reply) -> bool:
        """What a warm call consists of, without a coroutine; False: `serve` is to be asked."""
        worker = self._workers.get(request.peer)
        return worker is not None and api_http.prompt(worker, request, reply)


W = TypeVar("W", bound=ApiWorker)
#: Makes the node's end of a child, which tells the second when it is closed.
Make = Callable[[Child, Callable[[ApiWorker], None]], W]

#: What is executed for a launch: the keys of `ondol_guest.executing`'s `told`.
Program = Callable[[Launch], dict[str, Any]]


class RuntimeApi:
    """`ondol.runtime.Runtime` for programs that speak the Runtime API. `program` says what is executed."""

    def __init__(self, sandboxes: Sandboxes, choice: Choice, callers: Callers, program: Program) -> None:
        self._sandboxes = sandboxes
        self._choice = choice
        self._callers = callers
        self._program = program
        #: By caller: of an environment whose calls run side by side, one process is placed at a time.
        self._placing: dict[str, asyncio.Lock] = {}

    def find(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        return self._choice.missing(runtime)

    async def start(self, shell: Shell, revision: Revision, launch: Launch, sink: LogSink) -> Worker:  # noqa: ARG002
        """Fork into `shell`, and have the child execute the program."""
        carrier = self._choice.carrier(launch.runtime)
        if carrier is None:
            raise RuntimeMissing(launch.runtime, self.find(launch.runtime) or "")
        if launch.guest != "aws":
            raise StartFailed(
                f"{launch.runtime} serves events, not web requests: deploy web servers with the runtime 'command'"
            )
        if not launch.caller:
            raise StartFailed(
                f"{launch.runtime} is called by the Runtime API, for which an environment needs a network of its own: "
                "deploy it for the isolation sandbox, and a network of none or egress"
            )
        if launch.calls_max <= 1:
            return await self._placed(shell, launch, carrier, lambda child, left: ApiWorker(child, sink, complaint, left))
        async with self._placing.setdefault(launch.caller, asyncio.Lock()):
            found = self._callers.worker(launch.caller)
            if isinstance(found, Crowd) and found.alive and not found.closed:
                return found.lane()
            crowd = await self._placed(
                shell, launch, carrier, lambda child, left: Crowd(child, sink, complaint, left, calls_max=launch.calls_max)
            )
            return crowd.lane()

    async def _placed(self, shell: Shell, launch: Launch, carrier: Interpreter, make: Make[W]) -> W:
        """A process in `shell` that executes the program."""
        told = self._program(launch)
        zygote = await self._sandboxes.zygote(shell.account, carrier.path)
        child = await zygote.fork(shell)
        worker = make(child, lambda worker: self._forget(launch.caller, worker))
        self._callers.add(launch.caller, worker)
        try:
            worker.become(told)
        except OSError as error:
            worker.close()
            raise StartFailed(f"a forked {carrier.name} could not be talked to: {error}") from error
        return worker

    def _forget(self, caller: str, worker: ApiWorker) -> None:
        self._callers.remove(caller, worker)
        self._placing.pop(caller, None)


def bootstrap(launch: Launch) -> dict[str, Any]:
    """A custom runtime: the function's own bootstrap, or its layers'."""
    return told(launch, [BOOTSTRAPS[0]], instead=list(BOOTSTRAPS[1:]))


def told(launch: Launch, argv: list[str], *, instead: list[str] | None = None, **variables: str) -> dict[str, Any]:
    """What a child is told to become `argv`."""
    return {
        "argv": argv,
        "instead": instead or [],
        "variables": {
            **launch.variables,
            "AWS_LAMBDA_RUNTIME_API": ADDRESS,
            "_LAMBDA_TELEMETRY_LOG_FD": LOG_FD,
            **variables,
        },
        "cwd": TASK,
        "memory_mib": launch.memory_mib,
        "wire": False,
    }


def complaint(program: str, number: int) -> str:
    """What callers are told of a program that could not be executed."""
    if number == errno.ENOENT and program in BOOTSTRAPS:
        return f"Couldn't find valid bootstrap(s): [{' '.join(BOOTSTRAPS)}]"
    return f"fork/exec {program}: {reason(number)}"
