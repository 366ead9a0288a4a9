"""`GET /metrics`: the totals of the account whose key is sent, for Prometheus and whatever reads its formats. Desk only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from ondol.core.permit import permit
from ondol.core.totals import Totals
from ondol.dialect import Gatekeeper
from ondol.dialects.prometheus.exposition import accepted, exposition
from ondol.http.messages import Request, Response
from ondol.http.table import Plane, Route
from ondol.model.errors import Denied
from ondol.model.principals import Kind

PATH: Final = "/metrics"
DIALECT: Final = "prometheus"


class PrometheusDialect:
    """See the module."""

    name = DIALECT
    routes: Sequence[Route] = (Route(dialect=DIALECT, name="metrics", plane=Plane.CONTROL, path=PATH, methods=("GET",)),)

    def __init__(self, *, totals: Totals, gatekeeper: Gatekeeper) -> None:
        self._totals = totals
        self._gatekeeper = gatekeeper

    async def serve(self, request: Request, route: Route) -> Response:
        del route
        if request.path != PATH:
            return _error(404, "NotFound", f"nothing answers {request.path}; metrics are at {PATH}")
        try:
            principal = self._gatekeeper.principal(request, hashlib.sha256(request.body.buffered or b"").hexdigest())
            if principal.kind is Kind.ANONYMOUS:
                message = "send a key of this node: `Authorization: Bearer ID:SECRET` (`ondol env` prints it)"
                return _error(401, "Unauthenticated", message, ("www-authenticate", 'Bearer realm="ondol"'))
            permit(principal, "metric:read", principal.account)
        except Denied as error:
            return _error(403, "Denied", str(error))
        kind = accepted(request.header("accept"))
        return Response(200, (("content-type", kind),), exposition(self._totals, principal.account, kind))


def _error(status: int, error: str, message: str, *headers: tuple[str, str]) -> Response:
    body = msgspec.json.encode({"error": error, "message": message})
    return Response(status, (("content-type", "application/json"), *headers), body)
