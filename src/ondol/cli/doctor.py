"""`ondol doctor`: what this machine gives a node, what is missing, and how to get it.

Looks only; starts and changes nothing that stays. The looking is done by the rooms that will need the thing, and handed in,
so that tests can look at machines that are not there.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import click

from ondol import config
from ondol.cli import node as nodes
from ondol.cli.shape import Example, Exit, as_json, print_json, settings_of, with_settings

FREE_MIB_MIN: Final = 512
FREE_MIB_LOW: Final = 4096
DESCRIPTORS_MIN: Final = 4096
#: Runtimes that functions may ask for.
KNOWN: Final = tuple(f"python3.{minor}" for minor in range(8, 15))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. Without a `needed` one no node can run."""

    part: str
    what: str
    ok: bool
    detail: str
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
    def mend(self) -> str: ...


Probe = Callable[[], Sequence[Probed]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """One that is installed."""

    path: str
    version: str


#: By runtime id.
Interpreters = Callable[[], Mapping[str, Interpreter]]


def examine(settings: config.Settings, *, probe: Probe, interpreters: Interpreters) -> list[Finding]:
    """Everything worth knowing, in the order it is printed."""
    return [*_isolation(probe), *_interpreters(interpreters), *_disk(settings.data), *_host(settings)]


def able(findings: Sequence[Finding]) -> bool:
    """Whether a node can run here."""
    return all(finding.ok for finding in findings if finding.needed)


def _isolation(probe: Probe) -> list[Finding]:
    return [
        Finding(part="isolation", what=tried.what, ok=tried.ok, detail=tried.detail, mend=tried.mend, needed=tried.needed)
        for tried in probe()
    ]


def _interpreters(find: Interpreters) -> list[Finding]:
    found = dict(find())
    if not found:
        mend = "install one, such as: apt install python3"
        return [Finding(part="interpreters", what="any", ok=False, detail="none found", mend=mend, needed=True)]
    shown = [
        Finding(part="interpreters", what=name, ok=True, detail=f"{one.path} ({one.version})")
        for name, one in sorted(found.items(), key=_numbered)
    ]
    missing = [name for name in KNOWN if name not in found]
    if missing:
        install = f"uv python install {missing[-1].removeprefix('python')}, or pyenv, or the system's packages"
        mend = f"{install}; or run on what there is with --runtime-substitute nearest"
        shown.append(Finding(part="interpreters", what="missing", ok=False, detail=", ".join(missing), mend=mend))
    return shown


def runtimes_here() -> list[str]:
    """Runtime ids that a node on this machine can run, oldest first."""
    return [name for name, _ in sorted(_find_interpreters().items(), key=_numbered)]


def _numbered(item: tuple[str, Interpreter]) -> list[int]:
    return [int(part) for part in item[0].removeprefix("python").split(".") if part.isdigit()]


def _disk(data: Path) -> list[Finding]:
    there = data
    while not there.exists():
        there = there.parent
    free_mib = shutil.disk_usage(there).free // (1024 * 1024)
    writable = os.access(there, os.W_OK | os.X_OK) and there.is_dir()
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
        ok=writable,
        detail=f"{data} {'can' if writable else 'cannot'} be written{'' if data.exists() else ' (will be made)'}",
        mend=f"make {there} writable for this user, or choose another directory with --data" if not writable else "",
        needed=True,
    )
    return [space, rights]


def _host(settings: config.Settings) -> list[Finding]:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = limit == resource.RLIM_INFINITY or limit >= DESCRIPTORS_MIN
    count = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit:,}"
    user = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    return [
        Finding(part="host", what="python", ok=sys.version_info >= (3, 11), detail=sys.version.split()[0], needed=True),
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
        _listener(settings),
    ]


def _listener(settings: config.Settings) -> Finding:
    try:
        running = nodes.of_directory(settings.data, settings).endpoint
    except click.ClickException:
        running = ""
    if running and nodes.listens(running, timeout_s=1.0):
        return Finding(part="host", what="node", ok=True, detail=f"runs at {running}")
    taken = settings.port != 0 and nodes.listens(settings.url, timeout_s=1.0)
    return Finding(
        part="host",
        what="port",
        ok=not taken,
        detail=f"{settings.listen} is {'taken by another program' if taken else 'free'}",
        mend="stop that program, or choose another port with --listen" if taken else "",
        needed=True,
    )


@click.command(
    "doctor",
    cls=Example,
    short_help="Say what this machine gives and what is missing.",
    examples=("ondol doctor", "ondol doctor --json"),
)
@with_settings("data", "listen")
@as_json
@click.pass_obj
def doctor(tools: Any, /, config_file: str | None, json_: bool, **flags: Any) -> None:
    """Say what isolation this machine gives, which interpreters there are, what is missing, and how to get it.

    Leaves with 0 when a node can run here, else with 4.
    """
    settings = settings_of(flags, config_file)
    probe, interpreters = tools or (_probe, _find_interpreters)
    findings = examine(settings, probe=probe, interpreters=interpreters)
    if json_:
        print_json({"able": able(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        for line in lines(findings):
            click.echo(line)
    sys.exit(Exit.OK if able(findings) else Exit.REFUSED)


def lines(findings: Sequence[Finding]) -> list[str]:
    """The findings for a person."""
    shown: list[str] = []
    for part in dict.fromkeys(finding.part for finding in findings):
        shown.append(part)
        of_part = [finding for finding in findings if finding.part == part]
        width = max(len(finding.what) for finding in of_part)
        for finding in of_part:
            mark = "ok" if finding.ok else "MISSING" if finding.needed else "absent"
            shown.append(f"  {mark:<8}{finding.what:<{width}}  {finding.detail}".rstrip())
            if finding.mend and (not finding.ok or finding.part == "disk"):
                shown.append(f"  {'':<8}to mend: {finding.mend}")
    shown.append("")
    shown.append(
        "a node can run here: ondol up" if able(findings) else "a node cannot run here until what is MISSING is mended"
    )
    return shown


def _probe() -> Sequence[Probed]:
    from ondol.keeper.probe import probe

    return probe()


def _find_interpreters() -> Mapping[str, Interpreter]:
    from ondol.runtimes.interpreters import Interpreters

    found = Interpreters.discover().all()
    return {one.name: Interpreter(path=one.path, version=f"{one.major}.{one.minor}.{one.micro}") for one in found}
