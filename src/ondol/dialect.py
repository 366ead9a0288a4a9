"""The dialect port: the client-facing API of one system. parse -> core call -> render."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ondol.http.messages import Request, Response
from ondol.http.table import Route
from ondol.model.principals import Principal


class Dialect(Protocol):
    """One per system. Where it serves is data (`routes`), so that a test can prove that no two dialects overlap."""

    @property
    def name(self) -> str: ...

    @property
    def routes(self) -> Sequence[Route]: ...

    async def serve(self, request: Request, route: Route) -> Response:
        """Answer. Never raises OndolError: its own table turns those into the system's errors."""
        ...


class Gatekeeper(Protocol):
    """Who asks, whatever the scheme: a signed request, a bearer key, nobody."""

    def vet(self, request: Request) -> bool:
        """Before a large body is read: False for nobody's request. Raises Denied for credentials that no body can prove."""
        ...

    def principal(self, request: Request, body_sha256: str | None) -> Principal:
        """The principal behind a request.

        `body_sha256` (hex) is the hash of the body as received, or None when the body is streamed and is not covered. Nobody's
        request gives an ANONYMOUS principal; wrong or expired credentials raise Denied. Constant time in the secret.
        """
        ...
