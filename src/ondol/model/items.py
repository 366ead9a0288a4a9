"""What one dialect keeps for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A document of one dialect's: something its system has and no other knows, so that the core has no noun for it."""

    dialect: str
    kind: str
    account: str
    #: "" for what belongs to the account in all regions alike.
    region: str
    name: str
    value: Mapping[str, Any] = field(default_factory=dict)
    #: The SHA-256 of the code it holds on to: kept for as long as the item is.
    codes: tuple[str, ...] = ()
