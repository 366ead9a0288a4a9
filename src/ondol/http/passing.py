"""The reverse proxy to the desk: one request out, one response back, both streaming, over pooled connections.

It must not know what it passes. Invariants: what belongs to one connection stays on it; `x-ondol-*` headers come from the
node and never from a client; a request whose first byte has left is never sent twice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from ondol.http.client import BadAnswer, Connect, HttpClient, Outgoing, Unreachable, end_to_end
from ondol.http.limits import ClientLimits
from ondol.http.messages import Request, Response
from ondol.http.rendering import bodiless, refusal

log = logging.getLogger("ondol.http")

#: Headers that only the node itself may set.
TRUSTED_PREFIX = "x-ondol-"

_OURS = frozenset({"content-length", "expect"})
#: Of a whole answer; the server writes them again, by the same clock.
_REMADE = frozenset({"content-length", "date"})


class Passing:
    """Passes requests on to one server."""

    def __init__(self, connect: Connect, limits: ClientLimits | None = None) -> None:
        self._client = HttpClient(connect, limits)

    async def pass_on(self, request: Request, extra_headers: Sequence[tuple[str, str]] = ()) -> Response:
        """The other server's response; 503 while it is away, 502 when it breaks off.

        Raises what reading the request's body raises.
        """
        try:
            response = await self._client.send(outgoing(request, extra_headers))
        except Unreachable as error:
            log.warning("cannot pass on %s %s: %s", request.method, request.path, error)
            return _away("this part of the node is starting or overloaded; try again in a moment")
        except (BadAnswer, TimeoutError) as error:
            log.warning("%s %s broke off on its way: %s", request.method, request.path, error)
            return refusal(502, "this part of the node went away in the middle of the request; look before you send it again")
        headers = end_to_end(response.headers)
        if isinstance(response.body, bytes) and not bodiless(request.method, response.status):
            headers = [pair for pair in headers if pair[0] not in _REMADE]
        response.headers = headers
        return response

    async def close(self) -> None:
        """Closes idle connections."""
        await self._client.close()


def outgoing(request: Request, extra_headers: Sequence[tuple[str, str]] = ()) -> Outgoing:
    """The request as the next server gets it."""
    headers = [
        (name, value)
        for name, value in end_to_end(request.headers)
        if name not in _OURS and not name.startswith(TRUSTED_PREFIX)
    ]
    body = request.body.buffered
    declared = request.header("content-length")
    return Outgoing(
        method=request.method,
        target=request.target,
        headers=[*headers, *extra_headers],
        body=request.body.chunks() if body is None else body,
        body_bytes=int(declared) if declared else None,
    )


def _away(sentence: str, retry_after_s: float = 1.0) -> Response:
    response = refusal(503, sentence)
    response.headers = [*response.headers, ("retry-after", str(math.ceil(retry_after_s)))]
    return response
