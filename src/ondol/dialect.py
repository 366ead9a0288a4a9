"""The dialect port: the client-facing API of one system. parse -> core call -> render."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ondol.http.messages import Request, Response
from ondol.http.table import Route


class Dialect(Protocol):
    """One per system. Where it serves is data (`routes`), so that a test can prove that no two dialects overlap."""

    name: str
    routes: Sequence[Route]

    async def serve(self, request: Request, route: Route) -> Response:
        """Answer. Never raises OndolError: its own table turns those into the system's errors."""
        ...
