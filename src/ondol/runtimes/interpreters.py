"""The Python interpreters on this machine.

Candidates are found by name (`python3.12`) where interpreters usually are; each is run once, isolated and without site, to
learn what it really is. What was learnt may be kept in a file, so that a node's next start runs none. Finding blocks: it
belongs to a node's start or to `ondol doctor`, never to a request.
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

#: The versions that the guest is written for.
MINOR_MIN: Final = 8
MINOR_MAX: Final = 14
#: An interpreter that says nothing for so long is none.
PROBE_S_MAX: Final = 10.0

#: Looked at first: a shell's user must be able to read what is there.
_PUBLIC: Final[tuple[str, ...]] = ("/usr/bin", "/usr/local/bin", "/opt/python*/bin")

_NAME: Final = re.compile(r"python3\.(\d+)$")
_PROBE: Final = "import sys, json; json.dump([sys.implementation.name, *sys.version_info[:3], sys.base_prefix], sys.stdout)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """One CPython."""

    path: str  #: absolute, links resolved
    major: int
    minor: int
    micro: int
    prefix: str  #: where its library is; shown in shells at the same path

    @property
    def name(self) -> str:
        """As runtime ids have it: python3.11."""
        return f"python{self.major}.{self.minor}"


class Interpreters:
    """At most one interpreter per minor version: the first found, and the system's are looked at first."""

    def __init__(self, found: Iterable[Interpreter]) -> None:
        self._by_name: dict[str, Interpreter] = {}
        for interpreter in found:
            self._by_name.setdefault(interpreter.name, interpreter)

    @classmethod
    def discover(cls, cache: Path | None = None, environment: Mapping[str, str] | None = None) -> Interpreters:
        """Those of this machine. `cache` is read where it still fits and written when something was learnt."""
        candidates = _candidates(os.environ if environment is None else environment)
        known = _read(cache)
        unknown = [path for path, stamp in candidates.items() if known.get(path, {}).get("stamp") != stamp]
        learnt = _probe(unknown)
        facts: dict[str, dict[str, Any]] = {
            path: {"stamp": stamp, "is": learnt[path] if path in learnt else known[path]["is"]}
            for path, stamp in candidates.items()
        }
        if cache is not None and facts != known:
            _write(cache, facts)
        return cls(Interpreter(**fact["is"]) for fact in facts.values() if fact["is"])

    def get(self, name: str) -> Interpreter | None:
        """The interpreter called `name` ("python3.11")."""
        return self._by_name.get(name)

    def all(self) -> Sequence[Interpreter]:
        """Oldest version first."""
        return sorted(self._by_name.values(), key=lambda i: i.minor)

    def nearest(self, minor: int) -> Interpreter | None:
        """The version closest to 3.`minor`; of two equally close, the newer."""
        return min(self._by_name.values(), key=lambda i: (abs(i.minor - minor), -i.minor), default=None)


def _places(environment: Mapping[str, str]) -> Iterable[str]:
    """Directories that may hold interpreters, the most public first."""
    home = environment.get("HOME", "")
    for place in _PUBLIC:
        yield from sorted(glob.glob(place))
    yield from environment.get("PATH", "").split(os.pathsep)
    yield os.path.join(sys.base_prefix, "bin")
    uv = environment.get("UV_PYTHON_INSTALL_DIR") or os.path.join(
        environment.get("XDG_DATA_HOME") or os.path.join(home, ".local/share"), "uv/python"
    )
    yield from sorted(glob.glob(os.path.join(glob.escape(uv), "*/bin")), reverse=True)
    pyenv = environment.get("PYENV_ROOT") or os.path.join(home, ".pyenv")
    yield from sorted(glob.glob(os.path.join(glob.escape(pyenv), "versions/*/bin")), reverse=True)


def _candidates(environment: Mapping[str, str]) -> dict[str, list[int]]:
    """Resolved path -> (time of change, size) of everything that is called like an interpreter we can use."""
    found: dict[str, list[int]] = {}
    for place in dict.fromkeys(p for p in _places(environment) if p.startswith("/") and os.path.basename(p) != "shims"):
        for path in sorted(glob.glob(os.path.join(glob.escape(place), "python3.*"))):
            name = _NAME.search(path)
            if name is None or not MINOR_MIN <= int(name[1]) <= MINOR_MAX or not os.access(path, os.X_OK):
                continue
            resolved = os.path.realpath(path)
            facts = os.stat(resolved)
            found.setdefault(resolved, [facts.st_mtime_ns, facts.st_size])
    return found


def _probe(paths: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """Run all of `paths` at once: what each is, or None for what is no usable interpreter."""
    started = {path: _start(path) for path in paths}
    return {path: _learn(path, process) for path, process in started.items()}


def _start(path: str) -> subprocess.Popen[str] | None:
    command = [path, "-I", "-S", "-c", _PROBE]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={}
        )
    except OSError:
        return None


def _learn(path: str, process: subprocess.Popen[str] | None) -> dict[str, Any] | None:
    if process is None:
        return None
    try:
        said, _ = process.communicate(timeout=PROBE_S_MAX)
        kind, major, minor, micro, prefix = json.loads(said)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    except ValueError:
        return None
    if kind != "cpython" or major != 3 or not MINOR_MIN <= minor <= MINOR_MAX:
        return None
    return asdict(Interpreter(path=path, major=major, minor=minor, micro=micro, prefix=prefix))


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
