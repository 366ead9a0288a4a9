"""What this machine lets the keeper do: tried, not guessed. For `ondol doctor` and for the node's start.

Each finding says what it is good for, what it means that it is missing, and how to get it. A layer of isolation has its finding
where it is built, and a place in `LAYERS` here. Knows nothing of lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ondol.keeper.probe_limits import control_groups, crashes, disks
from ondol.keeper.probe_namespaces import namespaces
from ondol.keeper.probe_networks import way_out
from ondol.keeper.trying import WAY_OUT, Finding
from ondol.walls import findings as walls

__all__ = ["LAYERS", "Finding", "able", "lacking", "probe"]

#: In the order in which they are shown.
LAYERS: tuple[Callable[[], Sequence[Finding]], ...] = (
    namespaces,
    lambda: [Finding(*wall) for wall in walls.found()],
    control_groups,
    lambda: [disks()],
    lambda: [crashes()],
    lambda: [way_out()],
)


def probe() -> list[Finding]:
    """All findings, the needed ones first."""
    findings = [finding for layer in LAYERS for finding in layer()]
    return sorted(findings, key=lambda finding: not finding.needed)


def able(findings: Sequence[Finding]) -> bool:
    """Whether shells can be made at all."""
    return all(finding.ok for finding in findings if finding.needed)


def lacking(findings: Sequence[Finding]) -> str:
    """What less isolation there is than there could be, in one paragraph; empty when there is all."""
    # Of the network the node says more than this, as it depends on what was asked for.
    missing = [finding for finding in findings if not finding.ok and not finding.needed and finding.what != WAY_OUT]
    if not missing:
        return ""
    clauses = [finding.means or f"there is no {finding.what}" for finding in missing]
    return f"this machine gives less isolation than it could: {'; '.join(clauses)}. `ondol doctor` says why, and how to mend it"
