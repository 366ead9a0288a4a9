"""Which interpreter runs which runtime id on this machine, and what to say when none does. Pure: it only reads a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ondol.runtimes.interpreters import Interpreter, Interpreters

#: The runtime id of a web server that is any program: a guest of the newest interpreter starts it.
COMMAND: Final = "command"

_PYTHON: Final = re.compile(r"python3\.(\d+)$")
#: Runtime ids that other releases may run, by how they begin.
_OTHERS: Final = ("nodejs", "java", "ruby", "dotnet", "provided", "go1", "python2")


class Choice:
    """`substitute`: "none", or "nearest" for the closest version where the one asked for is not on the machine."""

    def __init__(self, interpreters: Interpreters, substitute: str = "none") -> None:
        self._interpreters = interpreters
        self._substitute = substitute

    def interpreter(self, runtime: str) -> Interpreter | None:
        """What runs `runtime`; None when nothing does."""
        if runtime == COMMAND:
            return self.newest()
        exact = self._interpreters.get(runtime)
        asked = _PYTHON.match(runtime)
        if exact is not None or asked is None or self._substitute == "none":
            return exact
        return self._interpreters.nearest(int(asked[1]))

    def newest(self) -> Interpreter | None:
        found: Sequence[Interpreter] = self._interpreters.all()
        return found[-1] if found else None

    def missing(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        if self.interpreter(runtime) is not None:
            return None
        asked = _PYTHON.match(runtime)
        have = ", ".join(interpreter.name for interpreter in self._interpreters.all()) or "none"
        if asked is None:
            known = "is not built in this release" if runtime.startswith(_OTHERS) else "is unknown"
            return f"The runtime {runtime} {known}: Ondol runs Python (on this machine: {have}) and web servers."
        version = f"3.{asked[1]}"
        return (
            f"{runtime} is not on this machine (found: {have}). Install it, for example with 'uv python install {version}', "
            f"'pyenv install {version}' or 'apt install {runtime}', and start the node again; or start the node with "
            "--runtime-substitute nearest to run it on the nearest version."
        )

    def substitute_for(self, runtime: str) -> str | None:
        """What really runs `runtime` ("python3.11") when that is something else; None when it runs as asked, or not at all."""
        chosen = self.interpreter(runtime)
        return chosen.name if chosen is not None and runtime not in (chosen.name, COMMAND) else None

    def describe(self, runtime: str) -> str:
        """What runs `runtime`, for people: an interpreter's path and version, or why there is none."""
        chosen = self.interpreter(runtime)
        if chosen is None:
            return f"none: {self.missing(runtime)}"
        note = f", instead of {runtime}" if self.substitute_for(runtime) else ""
        return f"{chosen.path} ({chosen.major}.{chosen.minor}.{chosen.micro}{note})"
