"""The dispatch table: (host, path prefix, method, auth scheme, SigV4 scope) -> who answers. One port, one table.

A request is matched by the most specific row; `overlap` proves at start (and in a test) that no two rows can both be the most
specific one. Knows nothing of functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Plane(Enum):
    """Which process answers."""

    DATA = "data"  #: the front
    CONTROL = "control"  #: the desk, through the front


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row. Empty fields match anything."""

    dialect: str
    name: str
    plane: Plane
    #: First label of `<label>.localhost`, or "".
    host: str = ""
    #: Path prefix, matched on whole segments: "/fn" matches "/fn" and "/fn/x".
    path: str = ""
    #: Last path segment, where the prefix alone does not tell ("invocations").
    path_end: str = ""
    methods: tuple[str, ...] = ()
    #: "sigv4", "bearer" or "".
    auth: str = ""
    #: The service in the SigV4 credential scope ("lambda", "logs"), or "".
    scope: str = ""
    body_bytes_max: int = 6 * 1024 * 1024
