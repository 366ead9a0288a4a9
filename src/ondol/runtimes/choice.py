"""Which interpreter runs which runtime id on this machine, and what to say when none does. Pure: it only reads a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.runtimes.places import NODEJS, NODEJS_MAJOR_MIN

#: The runtime id of a web server that is any program: a guest of the newest interpreter starts it.
COMMAND: Final = "command"

_PYTHON: Final = re.compile(r"python3\.(\d+)$")
_NODEJS: Final = re.compile(r"nodejs(\d+)\.x$")
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
        if exact is not None or self._substitute == "none":
            return exact
        if asked := _PYTHON.match(runtime):
            return self._interpreters.nearest(int(asked[1]))
        if asked := _NODEJS.match(runtime):
            return self._interpreters.nearest(int(asked[1]), NODEJS)
        return None

    def forking(self, runtime: str) -> Interpreter | None:
        """The interpreter whose zygote forks what then runs, or becomes, `runtime`; None when nothing runs it."""
        chosen = self.interpreter(runtime)
        return self.newest() if chosen is not None and chosen.language == NODEJS else chosen

    def language(self, runtime: str) -> str | None:
        """What `runtime` is run by: "python", "nodejs"; None when nothing does."""
        chosen = self.interpreter(runtime)
        return None if chosen is None else chosen.language

    def newest(self) -> Interpreter | None:
        found: Sequence[Interpreter] = self._interpreters.all()
        return found[-1] if found else None

    def missing(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        if self.interpreter(runtime) is not None:
            return None
        have = ", ".join(interpreter.name for interpreter in self._interpreters.everything()) or "none"
        if asked := _PYTHON.match(runtime):
            version = f"3.{asked[1]}"
            ways = f"'uv python install {version}', 'pyenv install {version}' or 'apt install {runtime}'"
        elif (asked := _NODEJS.match(runtime)) and int(asked[1]) >= NODEJS_MAJOR_MIN:
            ways = f"'nvm install {asked[1]}', 'fnm install {asked[1]}' or the system's packages"
        else:
            known = "is not built in this release" if runtime.startswith(_OTHERS) else "is unknown"
            return f"The runtime {runtime} {known}: Ondol runs Python and Node.js (on this machine: {have}) and web servers."
        return (
            f"{runtime} is not on this machine (found: {have}). Install it, for example with {ways}, and start the node again; "
            "or start the node with --runtime-substitute nearest to run it on the nearest version."
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
        return f"{chosen.path} ({chosen.version}{note})"
