"""What an owner asks of the node by a tag of the function, where the API that it was deployed by has no word for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from ondol.model.functions import Configuration

ISOLATION_TAG: Final = "ondol:isolation"
NETWORK_TAG: Final = "ondol:network"
#: The field of the configuration that each of them is for; without the tag it is "".
TAGS: Final[Mapping[str, str]] = {ISOLATION_TAG: "isolation", NETWORK_TAG: "network"}


def by_tags(configuration: Configuration, tags: Mapping[str, str], removed: Collection[str] = ()) -> Configuration:
    """`configuration` as it is once these tags are set and those removed; itself when no wish is among them."""
    wished: dict[str, Any] = {
        field: "" if tag in removed else tags[tag] for tag, field in TAGS.items() if tag in tags or tag in removed
    }
    return replace(configuration, **wished) if wished else configuration
