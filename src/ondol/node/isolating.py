"""Which isolation a node gives: what was asked for, tried on this machine before anything is started.

Never less than what was asked for, and never silently: what cannot be had refuses the start, with how to mend it; what is
missing beside it is said, and refused to functions that ask for it. Blocks; knows the keeper's and the launcher's probes only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ondol.keeper import probe
from ondol.keeper.probe_networks import way_out
from ondol.keeper.trying import Finding
from ondol.launcher import probe as launchers
from ondol.model.errors import Unavailable
from ondol.model.isolation import PROCESS, RANKS, SANDBOX, Isolation

TOOLS: Final = tuple(level for level in RANKS if level not in (PROCESS, SANDBOX))

_ONLY_PROCESS: Final = (
    "For code of your own, on a machine that allows nothing else, there is --isolation process: it stops accidents only."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the node's processes are started for."""

    isolation: Isolation
    #: What was looked at, as plain values for the doctor.
    findings: list[dict[str, Any]]
    #: Of each level but the keeper's, what its launcher is told.
    words: dict[str, str]


def plan(asked: str, cache: Path, say: Callable[[str], None]) -> Plan:
    """For `--isolation asked`; `cache` keeps what was found of tools. Raises Unavailable."""
    level = SANDBOX if asked == "auto" else asked
    kept = _kept(level, say)
    found = launchers.find((level, *(each for each in TOOLS if each != level)) if level != SANDBOX else TOOLS, cache)
    if level in found and not found[level].ok:
        raise Unavailable(f"isolation {level!r} cannot be had here: {found[level].detail}. To mend it: {found[level].mend}.")
    if level == PROCESS:
        say("warning: isolation 'process': functions are plain processes of this machine. That stops accidents only")
    stronger = [each for each, one in found.items() if each != level and one.ok and RANKS[each] >= RANKS[level]]
    missing = {each: f"{one.detail}. {one.mend}" for each, one in found.items() if not one.ok}
    return Plan(
        isolation=Isolation(level=level, offered=(level, *stronger), missing=missing),
        findings=[*map(asdict, kept), *map(asdict, launchers.findings(found))],
        words={each: found[each].word for each in (level, *stronger) if each in found},
    )


def _kept(level: str, say: Callable[[str], None]) -> Sequence[Finding]:
    """What the keeper finds, and of the network what launchers want, too. Raises Unavailable where the keeper's sandbox is
    wanted and cannot be had.
    """
    if level != SANDBOX:
        return [] if level == PROCESS else [way_out()]
    findings = probe.probe()
    for found in findings:
        if found.needed and not found.ok:
            raise Unavailable(f"{found.what}: {found.detail}. {found.mend} (`ondol doctor` says more). {_ONLY_PROCESS}")
    if lacking := probe.lacking(findings):
        say(lacking)
    return findings
