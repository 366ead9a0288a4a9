"""Requests that came whole and are of the usual shape, parsed at one go by the accelerator. Pure.

What it makes of them is what the parser's callbacks and `exchange.read_head` would have made; all others it leaves to those.
"""

from __future__ import annotations

from ondol.accelerator import HEADERS_MAX, hot
from ondol.http.bodies import EMPTY, Whole
from ondol.http.exchange import Exchange
from ondol.http.limits import HttpLimits
from ondol.http.messages import Request


def takeable_bytes_max(limits: HttpLimits) -> int:
    """How long a read may be to be looked at here, where no limits are known: none can be passed then."""
    return min(limits.head_bytes_max, limits.buffered_body_bytes_max) if limits.headers_max >= HEADERS_MAX else 0


def take(data: bytes, peer: str) -> Exchange | None:
    """The exchange of exactly one request, whose body is there; None for anything else."""
    taken = hot.take_request(data)
    if taken is None:
        return None
    method, target, headers, index, body = taken
    return Exchange(Request(method, target, headers, Whole(body) if body else EMPTY, peer, index=index), http10=False)
