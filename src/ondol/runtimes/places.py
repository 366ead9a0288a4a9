"""Where interpreters usually are, and how they are asked what they are: a description per language. Looks at files only."""

from __future__ import annotations

import glob
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PYTHON: Final = "python"
NODEJS: Final = "nodejs"

#: The versions of Python that the guest is written for.
MINOR_MIN: Final = 8
MINOR_MAX: Final = 14
#: The first release of Node.js that has what the guest needs.
NODEJS_MAJOR_MIN: Final = 18

#: Looked at first: a shell's user must be able to read what is there.
_PUBLIC: Final[tuple[str, ...]] = ("/usr/bin", "/usr/local/bin")

_PYTHON_NAME: Final = re.compile(r"python3\.(\d+)$")
_PYTHON_PROBE: Final = (
    "import sys, json; json.dump([sys.implementation.name, *sys.version_info[:3], sys.base_prefix], sys.stdout)"
)
_NODEJS_PROBE: Final = (
    "JSON.stringify([process.release.name, Number(/RssFile:\\s*(\\d+)/.exec(fs.readFileSync('/proc/self/status'))?.[1] ?? 0), "
    "...process.versions.node.split('.').map(Number)])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How interpreters of one language are found, and asked what they are."""

    name: str
    #: How directories of /opt are called that hold some.
    opt: str
    #: Names of files that may be one, for glob.
    pattern: str
    #: Whether a path that was found by `pattern` is called like one that we can use; `resolved`: with its links followed.
    usable: Callable[[str, str], bool]
    #: Directories to look in, besides the public ones and PATH.
    more: Callable[[Mapping[str, str]], Iterable[str]]
    #: The command that asks the interpreter at a path.
    probe: Callable[[str], list[str]]
    #: What is known of it, from what it said; None for what is no usable interpreter. May raise ValueError, TypeError.
    understand: Callable[[str, str], dict[str, Any] | None]
    #: Of a language that is run by a client of the Runtime API which is installed apart: where that is, from what is known of
    #: the interpreter; "" where it is not.
    client: Callable[[Mapping[str, Any], Mapping[str, str]], str] | None = None

    def candidates(self, environment: Mapping[str, str]) -> Iterable[str]:
        """Resolved paths of all that is called like an interpreter we can use, the most public first."""
        opt = sorted(glob.glob(f"/opt/{self.opt}*/bin"))
        places = [*_PUBLIC, *opt, *environment.get("PATH", "").split(os.pathsep), *self.more(environment)]
        for place in dict.fromkeys(p for p in places if p.startswith("/") and os.path.basename(p) != "shims"):
            for path in sorted(glob.glob(os.path.join(glob.escape(place), self.pattern))):
                resolved = os.path.realpath(path)
                if self.usable(path, resolved) and os.access(path, os.X_OK):
                    yield resolved


def under(directory: str, pattern: str) -> list[str]:
    """What `pattern` finds in a directory, the last by name first."""
    return sorted(glob.glob(os.path.join(glob.escape(directory), pattern)), reverse=True)


def of_home(environment: Mapping[str, str], variable: str, *fallbacks: str) -> list[str]:
    """The directory that a variable names, else these of the user's own."""
    home = environment.get("HOME", "")
    return [environment[variable]] if environment.get(variable) else [os.path.join(home, each) for each in fallbacks]


def data_home(environment: Mapping[str, str]) -> str:
    """Where programs keep what is the user's."""
    return environment.get("XDG_DATA_HOME") or os.path.join(environment.get("HOME", ""), ".local/share")


# Python ---------------------------------------------------------------------------------------------------------------
def _python_usable(path: str, _resolved: str) -> bool:
    name = _PYTHON_NAME.search(path)
    return name is not None and MINOR_MIN <= int(name[1]) <= MINOR_MAX


def _python_places(environment: Mapping[str, str]) -> Iterable[str]:
    yield os.path.join(sys.base_prefix, "bin")
    yield from under(environment.get("UV_PYTHON_INSTALL_DIR") or os.path.join(data_home(environment), "uv/python"), "*/bin")
    for root in of_home(environment, "PYENV_ROOT", ".pyenv"):
        yield from under(root, "versions/*/bin")


def _python_understood(_path: str, said: str) -> dict[str, Any] | None:
    kind, major, minor, micro, prefix = json.loads(said)
    fits = kind == "cpython" and major == 3 and MINOR_MIN <= minor <= MINOR_MAX
    return {"major": major, "minor": minor, "micro": micro, "prefix": prefix} if fits else None


# Node.js --------------------------------------------------------------------------------------------------------------
def _nodejs_usable(_path: str, resolved: str) -> bool:
    return os.path.basename(resolved) in {"node", "nodejs"}  # what managers put in its place is called otherwise


def _nodejs_places(environment: Mapping[str, str]) -> Iterable[str]:
    yield from under("/usr/local/n/versions/node", "*/bin")
    for root in of_home(environment, "NVM_DIR", ".nvm"):
        yield from under(root, "versions/node/*/bin")
    for root in of_home(environment, "FNM_DIR", ".local/share/fnm", ".fnm"):
        yield from under(root, "node-versions/*/installation/bin")
    for root in of_home(environment, "VOLTA_HOME", ".volta"):
        yield from under(root, "tools/image/node/*/bin")
    for root in of_home(environment, "ASDF_DATA_DIR", ".asdf"):
        yield from under(root, "installs/nodejs/*/bin")
    yield from under(os.path.join(data_home(environment), "mise/installs/node"), "*/bin")


def _nodejs_understood(path: str, said: str) -> dict[str, Any] | None:
    kind, shared_kib, major, minor, micro = json.loads(said)
    prefix = os.path.dirname(os.path.dirname(path))
    known = {"major": major, "minor": minor, "micro": micro, "prefix": prefix, "shared_bytes": int(shared_kib) * 1024}
    return known if kind == "node" and isinstance(major, int) and major >= NODEJS_MAJOR_MIN else None


LANGUAGES: Final[Sequence[Language]] = (
    Language(
        name=PYTHON,
        opt="python",
        pattern="python3.*",
        usable=_python_usable,
        more=_python_places,
        probe=lambda path: [path, "-I", "-S", "-c", _PYTHON_PROBE],
        understand=_python_understood,
    ),
    Language(
        name=NODEJS,
        opt="node",
        pattern="node*",
        usable=_nodejs_usable,
        more=_nodejs_places,
        probe=lambda path: [path, "-p", _NODEJS_PROBE],
        understand=_nodejs_understood,
    ),
)
