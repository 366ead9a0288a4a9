"""What this machine gives a node, what is missing, and how to get it: `ondol doctor`, and the native API's `/doctor`.

Looks only; starts and changes nothing that stays. The looking is done by the rooms that will need the thing, and handed in, so
that tests can look at machines that are not there.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ondol import accelerator, config

FREE_MIB_MIN: Final = 512
FREE_MIB_LOW: Final = 4096
DESCRIPTORS_MIN: Final = 4096
#: Runtimes that functions may ask for.
KNOWN: Final = tuple(f"python3.{minor}" for minor in range(8, 15))
#: Other languages whose functions a node runs where their interpreter and its client are.
MANAGED: Final = ("java", "ruby")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. Without a `needed` one no node can run."""

    part: str
    what: str
    ok: bool
    detail: str
    #: What it means that it is missing.
    means: str = ""
    #: How to get it.
    mend: str = ""
    needed: bool = False


class Probed(Protocol):
    """What the keeper's room finds."""

    @property
    def what(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def needed(self) -> bool: ...
    @property
    def detail(self) -> str: ...
    @property
    def means(self) -> str: ...
    @property
    def mend(self) -> str: ...


Probe = Callable[[], Sequence[Probed]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """One that is installed."""

    path: str
    version: str
    #: What has to be installed besides before it runs functions; "" for nothing.
    lacks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """From where it is looked: a directory of the data's that must be writable, and whose node it is."""

    writable: Path
    uid: int


#: By runtime id.
Interpreters = Callable[[], Mapping[str, Interpreter]]


def examine(
    settings: config.Settings, *, probe: Probe, interpreters: Interpreters, listener: Finding, look: Look | None = None
) -> list[Finding]:
    """Everything worth knowing, in the order it is printed. `listener`: what was found of the node, or its port."""
    look = look or Look(writable=settings.data, uid=os.geteuid())
    host = [*_host(look.uid), listener]
    return [*_isolation(probe), *_interpreters(interpreters), *_disk(settings.data, look.writable), *host]


def able(findings: Sequence[Finding]) -> bool:
    """Whether a node can run here."""
    return all(finding.ok for finding in findings if finding.needed)


def _isolation(probe: Probe) -> list[Finding]:
    return [
        Finding(
            part="isolation",
            what=tried.what,
            ok=tried.ok,
            detail=tried.detail,
            means=tried.means,
            mend=tried.mend,
            needed=tried.needed,
        )
        for tried in probe()
    ]


def _interpreters(find: Interpreters) -> list[Finding]:
    found = dict(find())
    if not found:
        mend = "install one, such as: apt install python3"
        return [Finding(part="interpreters", what="any", ok=False, detail="none found", mend=mend, needed=True)]
    shown = [
        Finding(
            part="interpreters",
            what=name,
            ok=not one.lacks,
            detail=f"{one.path} ({one.version})",
            means=f"functions for {name} cannot run here" if one.lacks else "",
            mend=one.lacks,
        )
        for name, one in sorted(found.items(), key=numbered)
    ]
    missing = [name for name in KNOWN if name not in found]
    if missing:
        install = f"uv python install {missing[-1].removeprefix('python')}, or pyenv, or the system's packages"
        mend = f"{install}; or run on what there is with --runtime-substitute nearest"
        shown.append(Finding(part="interpreters", what="missing", ok=False, detail=", ".join(missing), mend=mend))
    if not any(name.startswith("nodejs") for name in found):
        means = "functions for Node.js cannot run here"
        mend = "apt install nodejs, nvm install --lts, or any other way; 18 is the oldest that will do"
        shown.append(Finding(part="interpreters", what="nodejs", ok=False, detail="none found", means=means, mend=mend))
    absent = [language for language in MANAGED if not any(name.startswith(language) for name in found)]
    if absent:
        mend = "docs/reference/custom-runtimes.md says which programs they need"
        shown.append(Finding(part="interpreters", what="others", ok=False, detail=f"no {' and no '.join(absent)}", mend=mend))
    return shown


def numbered(item: tuple[str, Interpreter]) -> list[int]:
    """Sorts runtimes by language, then by version, not by letter."""
    language = item[0].rstrip("0123456789.x")
    return [-len(language), *(int(part) for part in item[0].removeprefix(language).split(".") if part.isdigit())]


def _disk(data: Path, writable: Path) -> list[Finding]:
    there = writable
    while not there.exists():
        there = there.parent
    free_mib = shutil.disk_usage(there).free // (1024 * 1024)
    may = os.access(there, os.W_OK | os.X_OK) and there.is_dir()
    space = Finding(
        part="disk",
        what="free space",
        ok=free_mib >= FREE_MIB_MIN,
        detail=f"{free_mib:,} MiB free for {data}",
        mend=f"free {FREE_MIB_MIN} MiB, or put the data on another disk with --data" if free_mib < FREE_MIB_LOW else "",
        needed=True,
    )
    rights = Finding(
        part="disk",
        what="data directory",
        ok=may,
        detail=f"{data} {'can' if may else 'cannot'} be written{'' if data.exists() else ' (will be made)'}",
        mend=f"make {there} writable for this user, or choose another directory with --data" if not may else "",
        needed=True,
    )
    return [space, rights]


def _accelerator() -> Finding:
    at_work, detail = accelerator.state()
    return Finding(
        part="host",
        what="accelerator",
        ok=at_work,
        detail=detail,
        means="" if at_work else "a warm call takes the front a third more of a processor",
        mend="" if at_work else accelerator.mend(),
    )


def _host(uid: int) -> list[Finding]:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = limit == resource.RLIM_INFINITY or limit >= DESCRIPTORS_MIN
    count = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit:,}"
    user = "root" if uid == 0 else f"user {uid}"
    return [
        Finding(part="host", what="python", ok=sys.version_info >= (3, 11), detail=sys.version.split()[0], needed=True),
        _accelerator(),
        Finding(
            part="host",
            what="user",
            ok=True,
            detail=f"{user}, {os.cpu_count()} CPUs, {config.host_memory_mib():,} MiB of memory",
        ),
        Finding(
            part="host",
            what="open files",
            ok=enough,
            detail=f"at most {count}",
            mend="" if enough else f"raise it: ulimit -n {DESCRIPTORS_MIN}",
        ),
    ]
