"""Java and Ruby as managed runtimes: the machine's interpreter runs AWS's client of the Runtime API, which calls the handler.

Which interpreter runs what, what to say where something is missing, and the program that is executed (docs/decisions/0021).
Pure. The rest is every Runtime API function's: `api.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.model.errors import RuntimeMissing
from ondol.runtime import Launch
from ondol.runtimes.api import told
from ondol.runtimes.clients import GEM, JARS, JAVA, RUBY
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.runtimes.nodejs import WRAPPER

#: Starts Java's client; the handler's name follows.
_MAIN: Final = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"
#: The first release of Java's client that reads AWS_LAMBDA_MAX_CONCURRENCY, and asks from as many threads.
_SEVERAL: Final = "2.8.0"
#: Where a function's classes are, and a layer's: looked through in this order.
_CLASSES: Final = ("/var/task", "/var/task/lib/*", "/opt/java/lib/*")
#: Of a function's memory, what Java's objects may take, in percent; the rest is the virtual machine's own.
_HEAP_PERCENT: Final = 85


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One language with a managed runtime of this kind."""

    language: str
    #: How it is called in sentences.
    name: str
    #: What a runtime id of it looks like; the group is what `number` reads.
    id: re.Pattern[str]
    #: Of what the id says, and of an interpreter: what tells versions apart.
    asked: Callable[[str], int]
    number: Callable[[Interpreter], int]
    #: How to get the interpreter, from the version that was asked for; and its client.
    install: Callable[[str], str]
    client: str


JAVA_KIND: Final = Kind(
    language=JAVA,
    name="Java",
    id=re.compile(r"java(\d+)(?:\.al2|\.al2023)?$"),
    asked=int,
    number=lambda found: found.major,
    install=lambda version: f"'apt install openjdk-{version}-jre-headless' or 'sdk install java {version}-tem'",
    client=(
        f"{', '.join(f'{jar}-*.jar' for jar in JARS)} and what they need (Maven: com.amazonaws; "
        "docs/reference/custom-runtimes.md has the commands) in /usr/local/share/ondol/clients/java or "
        "~/.local/share/ondol/clients/java"
    ),
)
RUBY_KIND: Final = Kind(
    language=RUBY,
    name="Ruby",
    id=re.compile(r"ruby(\d+\.\d+)$"),
    asked=lambda version: int(version.partition(".")[2]),
    number=lambda found: found.minor,
    install=lambda version: f"'apt install ruby', 'rbenv install {version}' or 'mise use ruby@{version}'",
    client=f"the gem {GEM}: 'gem install {GEM}'",
)


class ManagedVersions:
    """`ondol.runtimes.choice.Finder` for one language. `substitute` as `Choice` has it."""

    def __init__(self, kind: Kind, interpreters: Interpreters, substitute: str = "none") -> None:
        self._kind = kind
        self._interpreters = interpreters
        self._substitute = substitute

    def interpreter(self, runtime: str) -> Interpreter | None:
        """What runs `runtime`, its client installed or not; None when nothing does."""
        asked = self._kind.id.fullmatch(runtime)
        if asked is None:
            return None
        number = self._kind.asked(asked[1])
        here = {self._kind.number(found): found for found in self._interpreters.all(self._kind.language)}
        if number in here or self._substitute == "none" or not here:
            return here.get(number)
        # A newer one runs what was made for an older one, and seldom the other way round.
        newer = [each for each in here if each > number]
        return here[min(newer) if newer else max(here)]

    def missing(self, runtime: str) -> str | None:
        """Why `runtime` cannot run here, with how to mend it; None when it can."""
        kind, found, asked = self._kind, self.interpreter(runtime), self._kind.id.fullmatch(runtime)
        if asked is None:
            return (
                f"The runtime {runtime} is unknown: those of {kind.name} are called {kind.language}, and a version behind it."
            )
        if found is None:
            have = ", ".join(each.name for each in self._interpreters.all(kind.language)) or "none"
            return (
                f"{runtime} is not on this machine (found: {have}). Install {kind.name} {asked[1]}, for example with "
                f"{kind.install(asked[1])}, and {kind.client}; then start the node again. Or start the node with "
                "--runtime-substitute nearest to run it on the nearest version."
            )
        return lacking(found)

    def describe(self, runtime: str) -> str:
        """What runs `runtime`, for people; asked only where nothing is missing."""
        chosen = self.interpreter(runtime)
        assert chosen is not None
        note = f", instead of {runtime}" if self.substitute_for(runtime) else ""
        return f"{chosen.path} ({chosen.version}{note}), by the client in {chosen.client.removesuffix('/*')}"

    def substitute_for(self, runtime: str) -> str | None:
        """What really runs `runtime`, when that is something else."""
        chosen, asked = self.interpreter(runtime), self._kind.id.fullmatch(runtime)
        if chosen is None or asked is None or self._kind.number(chosen) == self._kind.asked(asked[1]):
            return None
        return chosen.name

    def program(self, launch: Launch) -> dict[str, Any]:
        """What is executed for a launch. Raises RuntimeMissing."""
        found = self.interpreter(launch.runtime)
        if found is None or not found.client:
            raise RuntimeMissing(launch.runtime, self.missing(launch.runtime) or "")
        if launch.calls_max > 1 and not _runs_several(found):
            raise RuntimeMissing(launch.runtime, _one_at_a_time(found))
        argv, variables = _PROGRAMS[self._kind.language](found, launch)
        wrapper = launch.variables.get(WRAPPER)
        program = told(launch, [wrapper, *argv] if wrapper else argv)
        program["variables"].update(variables)
        return program


def lacking(found: Interpreter) -> str | None:
    """Why an interpreter runs no functions yet, with how to mend it; None when it does."""
    kind = _KINDS.get(found.language)
    if kind is None or found.client:
        return None
    return (
        f"{kind.name} {found.version} is on this machine, and AWS's runtime interface client for it is not: install "
        f"{kind.client}; then start the node again. Or deploy the function with the runtime provided.al2023 and the client in "
        "its archive."
    )


def _runs_several(found: Interpreter) -> bool:
    return found.language == JAVA and _numbers(found.client_release) >= _numbers(_SEVERAL)


def _numbers(release: str) -> list[int]:
    return [int(part) for part in release.split(".") if part]


def _one_at_a_time(found: Interpreter) -> str:
    """Why several calls do not run in one environment, with how to mend it."""
    if found.language != JAVA:
        return f"Calls of {_KINDS[found.language].name} do not run side by side: AWS's client asks for one at a time."
    return (
        f"The {JARS[0]} {found.client_release} in {found.client.removesuffix('/*')} asks for one call at a time; several in "
        f"one environment take {_SEVERAL} or newer, and no older one beside it. Install that "
        "(docs/reference/custom-runtimes.md has the commands) and start the node again, or set "
        "PerExecutionEnvironmentMaxConcurrency to 1."
    )


def finders(interpreters: Interpreters, substitute: str) -> Mapping[str, ManagedVersions]:
    """One for each language of this kind, by its name."""
    return {name: ManagedVersions(kind, interpreters, substitute) for name, kind in _KINDS.items()}


def _java(found: Interpreter, launch: Launch) -> tuple[list[str], dict[str, str]]:
    heap_kib = launch.memory_mib * 1024 * _HEAP_PERCENT // 100
    argv = [
        found.path,
        f"-XX:MaxHeapSize={heap_kib}k",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # functions are short: what compiles soon is worth more than what compiles well
        "-Xshare:auto",
        "-cp",
        ":".join((found.client, *_CLASSES)),
        _MAIN,
        launch.handler,
    ]
    return argv, {}


def _ruby(found: Interpreter, launch: Launch) -> tuple[list[str], dict[str, str]]:
    gem = found.client.removesuffix(f"/bin/{GEM}")
    release = f"{found.major}.{found.minor}.0"
    places = {
        # The last colon stands for Ruby's own places.
        "GEM_PATH": f"/var/task/vendor/bundle/ruby/{release}:/opt/ruby/gems/{release}:",
        "RUBYLIB": "/var/task:/opt/ruby/lib",
    }
    argv = [found.path, "-I", f"{gem}/lib", found.client, launch.handler]
    return argv, {name: launch.variables.get(name, value) for name, value in places.items()}


_KINDS: Final[Mapping[str, Kind]] = {kind.language: kind for kind in (JAVA_KIND, RUBY_KIND)}
_PROGRAMS: Final = {JAVA: _java, RUBY: _ruby}
