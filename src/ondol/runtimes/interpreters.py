"""The interpreters on this machine: of Python, Node.js, Java and Ruby.

Candidates are found by name (`python3.12`, `node`) where interpreters usually are; each is run once, isolated, to learn what it
really is. What was learnt may be kept in a file, so that a node's next start runs none. Finding blocks: it belongs to a node's
start or to `ondol doctor`, never to a request.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ondol.runtimes.clients import JAVA, MANAGED, java_release
from ondol.runtimes.places import LANGUAGES, NODEJS, PYTHON, Language

#: An interpreter that says nothing for so long is none.
PROBE_S_MAX: Final = 10.0
#: By name, Python first.
_ALL: Final[Mapping[str, Language]] = {language.name: language for language in (*LANGUAGES, *MANAGED)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """One CPython, Node.js, Java or Ruby."""

    path: str  #: absolute, links resolved
    major: int
    minor: int
    micro: int
    prefix: str  #: where its library is; shown in shells at the same path
    language: str = PYTHON
    shared_bytes: int = 0  #: of Node.js: how much of it is in memory once, however many run
    client: str = ""  #: of Java and Ruby: what speaks the Runtime API for them (`clients.py`); "": it is not here
    client_release: str = ""  #: of Java

    @property
    def name(self) -> str:
        """As runtime ids have it: python3.11, nodejs22.x, java21, ruby3.4."""
        if self.language == NODEJS:
            return f"nodejs{self.major}.x"
        return f"java{self.major}" if self.language == JAVA else f"{self.language}{self.major}.{self.minor}"

    @property
    def version(self) -> str:
        """As it is released: 22.1.0."""
        return f"{self.major}.{self.minor}.{self.micro}"


class Interpreters:
    """At most one interpreter per name: the first found, and the system's are looked at first."""

    def __init__(self, found: Iterable[Interpreter]) -> None:
        self._by_name: dict[str, Interpreter] = {}
        for interpreter in found:
            self._by_name.setdefault(interpreter.name, interpreter)

    @classmethod
    def discover(cls, cache: Path | None = None, environment: Mapping[str, str] | None = None) -> Interpreters:
        """Those of this machine. `cache` is read where it still fits and written when something was learnt."""
        environment = os.environ if environment is None else environment
        candidates = _candidates(environment)
        known = _read(cache)
        unknown = {path: each[1] for path, each in candidates.items() if known.get(path, {}).get("stamp") != each[0]}
        learnt = _probe(unknown)
        facts: dict[str, dict[str, Any]] = {
            path: {"stamp": stamp, "is": learnt[path] if path in learnt else known[path]["is"]}
            for path, (stamp, _) in candidates.items()
        }
        if cache is not None and facts != known:
            _write(cache, facts)
        return cls(_made(fact["is"], environment) for fact in facts.values() if fact["is"])

    def get(self, name: str) -> Interpreter | None:
        """The interpreter called `name` ("python3.11")."""
        return self._by_name.get(name)

    def all(self, language: str = PYTHON) -> Sequence[Interpreter]:
        """Of one language, oldest version first."""
        of_it = (i for i in self._by_name.values() if i.language == language)
        return sorted(of_it, key=lambda i: (i.major, i.minor))

    def everything(self) -> Sequence[Interpreter]:
        """Of every language, oldest version first."""
        return [interpreter for language in _ALL for interpreter in self.all(language)]

    def nearest(self, number: int, language: str = PYTHON) -> Interpreter | None:
        """The version closest to 3.`number` (of Node.js and Java: to `number`); of two equally close, the newer."""
        at = {i: i.major if language in (NODEJS, JAVA) else i.minor for i in self.all(language)}
        return min(at, key=lambda i: (abs(at[i] - number), -at[i]), default=None)


def _candidates(environment: Mapping[str, str]) -> dict[str, tuple[list[int], Language]]:
    """Resolved path -> (time of change, size) and language of everything that is called like an interpreter we can use."""
    found: dict[str, tuple[list[int], Language]] = {}
    for language in _ALL.values():
        for path in language.candidates(environment):
            facts = os.stat(path)
            found.setdefault(path, ([facts.st_mtime_ns, facts.st_size], language))
    return found


def _made(known: Mapping[str, Any], environment: Mapping[str, str]) -> Interpreter:
    """With its client, as that is now: it may have come or gone since the interpreter was asked."""
    language = known.get("language", PYTHON)
    find = _ALL[language].client
    client = find(known, environment) if find is not None else ""
    release = java_release(client) if language == JAVA else ""
    return Interpreter(**{**known, "client": client, "client_release": release})


def _probe(candidates: Mapping[str, Language]) -> dict[str, dict[str, Any] | None]:
    """Run all of `candidates` at once: what each is, or None for what is no usable interpreter."""
    started = {path: (language, _start(language.probe(path))) for path, language in candidates.items()}
    return {path: _learn(path, language, process) for path, (language, process) in started.items()}


def _start(command: Sequence[str]) -> subprocess.Popen[str] | None:
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={}
        )
    except OSError:
        return None


def _learn(path: str, language: Language, process: subprocess.Popen[str] | None) -> dict[str, Any] | None:
    if process is None:
        return None
    try:
        said, _ = process.communicate(timeout=PROBE_S_MAX)
        understood = language.understand(path, said)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    except (ValueError, TypeError):
        return None
    if understood is None:
        return None
    return asdict(Interpreter(path=path, language=language.name, **understood))


def _read(cache: Path | None) -> dict[str, dict[str, Any]]:
    """What was learnt. Only a file of our own user's: what it names is run, and shown in shells."""
    try:
        kept = json.loads(cache.read_bytes()) if cache is not None and os.lstat(cache).st_uid == os.geteuid() else {}
        for fact in kept.values():
            if fact["is"]:
                Interpreter(**fact["is"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _write(cache: Path, facts: dict[str, dict[str, Any]]) -> None:
    """Best effort: a cache that cannot be written is learnt again."""
    fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        # The directory may be a less trusted user's: nothing is written through a link or into a file that was there.
        with open(fresh, "x") as file:
            json.dump(facts, file)
        fresh.replace(cache)
    except OSError:
        fresh.unlink(missing_ok=True)
