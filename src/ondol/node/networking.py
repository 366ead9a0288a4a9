"""What functions of a node may reach: decided once, at the start, from what the operator asked for and what the machine gives.

The first of what is given is for functions that ask for nothing; a function may ask for any of the others by name, and what is
not given is refused where it is deployed, and again where it would be started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ondol.keeper.trying import WAY_OUT
from ondol.model.errors import StartFailed, Unavailable
from ondol.model.functions import Revision
from ondol.model.isolation import PROCESS
from ondol.sandbox import NETWORK_EGRESS, NETWORK_HOST, NETWORK_NONE

#: A finding of the probe's, as plain values.
Finding = Mapping[str, Any]

_AUTO: Final = "auto"


def decide(asked: str, level: str, findings: Sequence[Finding], say: Callable[[str], None]) -> list[str]:
    """What functions may have by the setting `network`, the default first. Raises Unavailable for what cannot be had."""
    if level == PROCESS:
        if asked not in (_AUTO, NETWORK_HOST):
            raise Unavailable(f"--network {asked} cannot be had with --isolation process: plain processes share the machine's")
        return [NETWORK_HOST]
    missing = _missing(findings)
    if missing and asked == NETWORK_EGRESS:
        raise Unavailable(f"--network egress cannot be had: {missing}; or leave the option out: functions do without")
    if missing and asked != NETWORK_NONE:
        say(f"functions have no network but their node: {missing}")
    ordinary = [NETWORK_NONE] if missing or asked == NETWORK_NONE else [NETWORK_EGRESS, NETWORK_NONE]
    return [*ordinary, NETWORK_HOST] if asked == NETWORK_HOST else ordinary


def _missing(findings: Sequence[Finding]) -> str:
    """Why there is no way out, and how to mend it; empty when there is one."""
    found = next(each for each in findings if each["what"] == WAY_OUT)
    return "" if found["ok"] else f"{found['detail']}. To mend it: {found['mend']}"


def networking(networks: Sequence[str]) -> Callable[[Revision], str]:
    """What a revision's environments get. Raises StartFailed for what this node does not give."""

    def of(revision: Revision) -> str:
        configuration = revision.configuration
        asked = configuration.network or networks[0]
        if asked not in networks:
            raise StartFailed(
                f"{revision.name} was deployed with the network {asked!r}, which this node does not give it (it gives "
                f"{', '.join(networks)}): start the node with --network {asked}, or deploy the function with another one"
            )
        return asked

    return of
