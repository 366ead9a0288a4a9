"""Listing in pages. Pure.

A marker is the position of the last item shown, so that changes in between make a listing skip and repeat nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from ondol.dialects.aws.refusals import invalid

Item = TypeVar("Item")


def page(
    params: Mapping[str, Any], after: Callable[[str], Iterator[tuple[str, Item]]], items_max: int, *, operation: str
) -> tuple[list[Item], str | None]:
    """One page, and the marker of the next if there is one. `after` yields (position, item) beyond a position, in order."""
    limit = min(params.get("MaxItems") or items_max, items_max)
    found = list(islice(after(_position(params.get("Marker"), operation)), limit + 1))
    shown = found[:limit]
    marker = _marker(shown[-1][0]) if len(found) > limit else None
    return [item for _, item in shown], marker


def _marker(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode()


def _position(marker: str | None, operation: str) -> str:
    if not marker:
        return ""
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise invalid(f"The marker is not one that {operation} gave; begin again without it.") from None
