"""What functions of a node may reach: decided once, at the start, from what the operator asked for and what the machine gives.

Pure. The first of what is given is for functions that ask for nothing; a function may ask for any of the others by name, and
what is not given is refused where it is deployed, and again where it would be started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ondol.model.errors import StartFailed, Unavailable
from ondol.model.functions import Revision
from ondol.sandbox import NETWORK_EGRESS, NETWORK_HOST, NETWORK_NONE


class WayOut(Protocol):
    """What was found of it."""

    @property
    def ok(self) -> bool: ...
    @property
    def detail(self) -> str: ...
    @property
    def mend(self) -> str: ...


def given(asked: str, way_out: WayOut) -> list[str]:
    """What functions may have, by the setting `network`, the default first. Raises Unavailable for what cannot be had."""
    if asked == NETWORK_EGRESS and not way_out.ok:
        raise Unavailable(
            f"--network egress cannot be had on this machine: {way_out.detail}. To mend it: {way_out.mend}; "
            "or leave the option out, and functions reach their node alone"
        )
    ordinary = [NETWORK_EGRESS, NETWORK_NONE] if way_out.ok and asked != NETWORK_NONE else [NETWORK_NONE]
    return [*ordinary, NETWORK_HOST] if asked == NETWORK_HOST else ordinary


def shortcoming(asked: str, way_out: WayOut) -> str:
    """What is said at the start when functions get less than they usually do; else empty."""
    if way_out.ok or asked == NETWORK_NONE:
        return ""
    return f"functions have no network but their node: {way_out.detail}. To mend it: {way_out.mend}"


def networking(networks: Sequence[str]) -> Callable[[Revision], str]:
    """What a revision's environments get. Raises StartFailed for what this node does not give."""

    def of(revision: Revision) -> str:
        asked = revision.configuration.network or networks[0]
        if asked not in networks:
            raise StartFailed(
                f"{revision.name} was deployed with the network {asked!r}, which this node does not give (it gives "
                f"{', '.join(networks)}): start the node with --network {asked}, or deploy the function with another one"
            )
        return asked

    return of
