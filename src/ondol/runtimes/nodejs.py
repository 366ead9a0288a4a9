"""Node.js functions: a guest in JavaScript, in a process that a zygote's child became.

Starting Node.js takes longer than a cold start may, and it cannot fork. So a child that waits in a prepared shell is told ahead
to become it (`ahead`), and what a cold start is left with is to hand it its INIT. A function whose environment decides how
Node.js itself starts (`_AT_START`, a wrapper) gets a process of its own instead, started when it is claimed.

Must not know: contracts, the pool, how a zygote is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from ondol.model.errors import RuntimeMissing, StartFailed
from ondol.model.functions import Configuration, Revision
from ondol.runtime import Launch, LogSink, Worker
from ondol.runtimes.choice import Choice
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.runtimes.link import Link
from ondol.runtimes.places import NODEJS, NODEJS_MAJOR_MIN
from ondol.sandbox import Sandboxes, Shell
from ondol_guest import frames

#: Where a shell shows the function's code, and the guest.
TASK: Final = "/var/task"
GUEST: Final = "/var/runtime/ondol_guest/node/start.js"
_ID: Final = re.compile(r"nodejs(\d+)\.x$")
#: Runs what starts the runtime, in its place.
WRAPPER: Final = "AWS_LAMBDA_EXEC_WRAPPER"

#: Read when a program or Node.js starts, so that setting them later has no effect.
_AT_START: Final = frozenset(
    {"LANG", "LC_ALL", "LC_MESSAGES", "LD_LIBRARY_PATH", "LD_PRELOAD", "OPENSSL_CONF", "SSL_CERT_DIR", "SSL_CERT_FILE", WRAPPER}
)
_AT_START_PREFIX: Final = "NODE_"
#: What a process that waits has; all of it but these is replaced by INIT's variables.
_WAITING: Final[Mapping[str, str]] = {
    "LANG": "en_US.UTF-8",
    "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    "TZ": ":UTC",
}


class NodejsVersions:
    """`ondol.runtimes.choice.Finder` for Node.js. `substitute` as `Choice` has it."""

    def __init__(self, interpreters: Interpreters, substitute: str = "none") -> None:
        self._interpreters = interpreters
        self._substitute = substitute

    def interpreter(self, runtime: str) -> Interpreter | None:
        """The Node.js that runs `runtime`; None when none does."""
        asked = _ID.match(runtime)
        exact = self._interpreters.get(runtime) if asked else None
        if exact is not None or asked is None or int(asked[1]) < NODEJS_MAJOR_MIN or self._substitute == "none":
            return exact
        return self._interpreters.nearest(int(asked[1]), NODEJS)

    def missing(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        if self.interpreter(runtime) is not None:
            return None
        asked = _ID.match(runtime)
        if asked is None:
            return f"The runtime {runtime} is unknown: those of Node.js are called nodejs{NODEJS_MAJOR_MIN}.x and so on."
        if int(asked[1]) < NODEJS_MAJOR_MIN:
            return f"{runtime} is too old: nodejs{NODEJS_MAJOR_MIN}.x is the oldest that Ondol runs."
        have = ", ".join(found.name for found in self._interpreters.all(NODEJS)) or "none"
        return (
            f"{runtime} is not on this machine (found: {have}). Install Node.js {asked[1]}, for example with "
            f"'nvm install {asked[1]}', 'fnm install {asked[1]}' or the system's packages, and start the node again; or start "
            "the node with --runtime-substitute nearest to run it on the nearest version."
        )

    def substitute_for(self, runtime: str) -> str | None:
        """What really runs `runtime`, when that is something else."""
        chosen = self.interpreter(runtime)
        return chosen.name if chosen is not None and chosen.name != runtime else None

    def describe(self, runtime: str) -> str:
        """What runs `runtime`, for people; asked only where nothing is missing."""
        chosen = self.interpreter(runtime)
        assert chosen is not None
        note = f", instead of {runtime}" if self.substitute_for(runtime) else ""
        return f"{chosen.path} ({chosen.version}{note})"


class ExecutedNodejs:
    """`ondol.runtime.Runtime` for "nodejsN.x"."""

    def __init__(self, sandboxes: Sandboxes, choice: Choice, versions: NodejsVersions) -> None:
        self._sandboxes = sandboxes
        self._choice = choice
        self._versions = versions

    def find(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        return self._choice.missing(runtime)

    async def start(self, shell: Shell, revision: Revision, launch: Launch, sink: LogSink) -> Worker:
        """Give `launch` to the Node.js that waits in `shell`, or have its child become one."""
        interpreter, carrier = self._versions.interpreter(launch.runtime), self._choice.carrier(launch.runtime)
        if interpreter is None or carrier is None:
            raise RuntimeMissing(launch.runtime, self.find(launch.runtime) or "")
        if interpreter.path.startswith("/opt/") and revision is not None and revision.configuration.opt is not None:
            raise StartFailed(
                f"the function's layers are shown at /opt, and would cover its interpreter {interpreter.path}; "
                "install that elsewhere, below /usr for example"
            )
        zygote = await self._sandboxes.zygote(shell.account, carrier.path)
        child = await zygote.fork(shell)
        own = starts_alone(launch.variables)
        told = _become(interpreter, launch.memory_mib, launch.variables if own else None)
        init = _init(launch, own=own)
        try:
            return await Link.open(child, init if child.told == told else told + init, sink)
        except OSError as error:
            raise StartFailed(f"{interpreter.name} could not be talked to: {error}") from error


def starts_alone(variables: Mapping[str, str]) -> bool:
    """Whether a function with these variables needs a Node.js that was started with them."""
    return any(
        (name in _AT_START or (name.startswith(_AT_START_PREFIX) and name != "NODE_PATH")) and value != _WAITING.get(name)
        for name, value in variables.items()
    )


def ahead(versions: NodejsVersions, configuration: Configuration) -> bytes:
    """What a child that waits for such a function is told, so that Node.js is up when one is called; b"" for nothing."""
    interpreter = versions.interpreter(configuration.runtime)
    if interpreter is None or starts_alone(configuration.variables):
        return b""
    return _become(interpreter, configuration.memory_mib, None)


def _become(interpreter: Interpreter, memory_mib: int, variables: Mapping[str, str] | None) -> bytes:
    """The frame by which a child becomes Node.js. `variables`: None for a process that is told them later."""
    words = [interpreter.path, *_options(memory_mib), GUEST]
    wrapper = (variables or {}).get(WRAPPER)
    told = {
        "argv": [wrapper, *words] if wrapper else words,
        "cwd": "/" if variables is None else TASK,
        "memory_mib": memory_mib,
        "variables": dict(_WAITING if variables is None else variables),
        "wire": True,
    }
    return frames.pack(frames.INIT, 0, json.dumps({"exec": told}).encode())


def _options(memory_mib: int) -> Sequence[str]:
    """As the platform starts it: a tenth of the memory is for new objects, the rest for old ones."""
    new = memory_mib // 10
    return (
        "--expose-gc",
        "--max-http-header-size=81920",
        f"--max-semi-space-size={new // 2}",
        f"--max-old-space-size={memory_mib - new}",
    )


def _init(launch: Launch, *, own: bool) -> bytes:
    """The INIT frame; its keys are described in `ondol_guest/node/start.js`."""
    settings = {
        "handler": launch.handler,
        "runtime": launch.runtime,
        "variables": None if own else dict(launch.variables),
        "cwd": TASK,
    }
    return frames.pack(frames.INIT, 0, json.dumps(settings).encode())
