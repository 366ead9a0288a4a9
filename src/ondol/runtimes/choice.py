"""What runs which runtime id on this machine, and what to say when nothing does. Pure: it only reads lists.

All texts about what is missing are made here, or by the finders of other languages that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Protocol

from ondol.runtimes.interpreters import Interpreter, Interpreters

#: The runtime id of a web server that is any program: a guest of the newest interpreter starts it.
COMMAND: Final = "command"

_PYTHON: Final = re.compile(r"python3\.(\d+)$")


class Family(Enum):
    """Runtime ids that are run in the same way."""

    PYTHON = "python3"
    COMMAND = "command"
    NODE = "nodejs"
    PROVIDED = "provided.al2"  #: and provided.al2023: any program that speaks the Runtime API
    JAVA = "java"
    RUBY = "ruby"
    DOTNET = "dotnet"
    RETIRED = "retired"  #: what their systems do not run any more either
    UNKNOWN = "unknown"


#: By how they begin, the first that fits.
_BEGINNINGS: Final = (
    *((each.value, each) for each in (Family.NODE, Family.PROVIDED, Family.JAVA, Family.RUBY, Family.DOTNET)),
    *((begins, Family.RETIRED) for begins in ("provided", "go1", "python2")),
)


class Finder(Protocol):
    """What knows one language's installations on this machine."""

    def missing(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        ...

    def describe(self, runtime: str) -> str:
        """What runs it, for people; asked only where nothing is missing."""
        ...

    def substitute_for(self, runtime: str) -> str | None:
        """What really runs it, when that is something else."""
        ...


#: For languages that have no managed runtime here: AWS's own client of the Runtime API, which a function can bring along.
_CLIENTS: Final[Mapping[Family, str]] = {
    Family.NODE: "aws-lambda-ric (npm)",
    Family.JAVA: "aws-lambda-java-runtime-interface-client (Maven)",
    Family.RUBY: "aws_lambda_ric (RubyGems)",
    Family.DOTNET: "Amazon.Lambda.RuntimeSupport (NuGet)",
}


def _not_managed(runtime: str, family: Family, have: str) -> str:
    """What to do about a runtime that nothing here manages."""
    client = _CLIENTS.get(family)
    if client is not None:
        return (
            f"The runtime {runtime} is not built in this release. Deploy the function with the runtime provided.al2023 "
            f"instead, with {client} in its archive and a bootstrap that starts it (docs/reference/custom-runtimes.md)."
        )
    known = "is retired" if family is Family.RETIRED else "is unknown"
    return f"The runtime {runtime} {known}: Ondol runs Python (on this machine: {have}), programs and web servers."


class Provided:
    """`Finder` for programs that functions bring along: nothing is ever missing."""

    def missing(self, runtime: str) -> str | None:
        del runtime
        return None

    def describe(self, runtime: str) -> str:
        del runtime
        return "the function's own bootstrap, by the Runtime API"

    def substitute_for(self, runtime: str) -> str | None:
        del runtime
        return None


class Choice:
    """`substitute`: "none", or "nearest" for the closest version where the one asked for is not on the machine.

    `others`: finders of languages besides Python.
    """

    def __init__(
        self, interpreters: Interpreters, substitute: str = "none", others: Mapping[Family, Finder] | None = None
    ) -> None:
        self._interpreters = interpreters
        self._substitute = substitute
        self._others = others or {}

    def family(self, runtime: str) -> Family:
        """Which of the ways to run things is `runtime`'s."""
        if runtime == COMMAND:
            return Family.COMMAND
        if _PYTHON.match(runtime):
            return Family.PYTHON
        return next((family for begins, family in _BEGINNINGS if runtime.startswith(begins)), Family.UNKNOWN)

    def interpreter(self, runtime: str) -> Interpreter | None:
        """The Python that runs `runtime`; None when none does."""
        if runtime == COMMAND:
            return self.newest()
        asked = _PYTHON.match(runtime)
        exact = self._interpreters.get(runtime) if asked else None
        if exact is not None or asked is None or self._substitute == "none":
            return exact
        return self._interpreters.nearest(int(asked[1]))

    def carrier(self, runtime: str) -> Interpreter | None:
        """The Python whose zygote puts `runtime` into its shell: the one that runs it, or that executes what does."""
        if self.family(runtime) in self._others and self.missing(runtime) is None:
            return self.newest()
        return self.interpreter(runtime)

    def newest(self) -> Interpreter | None:
        found: Sequence[Interpreter] = self._interpreters.all()
        return found[-1] if found else None

    def missing(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        if self.interpreter(runtime) is not None:
            return None
        have = ", ".join(interpreter.name for interpreter in self._interpreters.all()) or "none"
        other = self._others.get(self.family(runtime))
        if other is not None:
            if self.newest() is None:
                return "There is no Python on this machine that could start other programs: install one of 3.8 to 3.14."
            return other.missing(runtime)
        asked = _PYTHON.match(runtime)
        if asked is None:
            return _not_managed(runtime, self.family(runtime), have)
        version = f"3.{asked[1]}"
        return (
            f"{runtime} is not on this machine (found: {have}). Install it, for example with 'uv python install {version}', "
            f"'pyenv install {version}' or 'apt install {runtime}', and start the node again; or start the node with "
            "--runtime-substitute nearest to run it on the nearest version."
        )

    def substitute_for(self, runtime: str) -> str | None:
        """What really runs `runtime` ("python3.11") when that is something else; None when it runs as asked, or not at all."""
        other = self._others.get(self.family(runtime))
        if other is not None:
            return other.substitute_for(runtime)
        chosen = self.interpreter(runtime)
        return chosen.name if chosen is not None and runtime not in (chosen.name, COMMAND) else None

    def describe(self, runtime: str) -> str:
        """What runs `runtime`, for people: an interpreter's path and version, or why there is none."""
        why = self.missing(runtime)
        if why is not None:
            return f"none: {why}"
        other = self._others.get(self.family(runtime))
        if other is not None:
            return other.describe(runtime)
        chosen = self.interpreter(runtime)
        assert chosen is not None
        note = f", instead of {runtime}" if self.substitute_for(runtime) else ""
        return f"{chosen.path} ({chosen.version}{note})"
