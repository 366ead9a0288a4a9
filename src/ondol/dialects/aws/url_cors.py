"""Function URLs' CORS: what pages of other origins are told. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondol.http.messages import Request, Response

Cors = Mapping[str, Any]


def preflight(request: Request, cors: Cors | None) -> Response | None:
    """The answer to a browser that asks before it sends; None for any other request."""
    if not cors or request.method != "OPTIONS" or not request.header("access-control-request-method"):
        return None
    origin = _origin(request, cors)
    if origin is None or not _takes(cors.get("AllowMethods"), request.header("access-control-request-method")):
        return Response(200, (), b"")
    headers = _common(cors, origin)
    headers.append(("Access-Control-Allow-Methods", ",".join(cors.get("AllowMethods") or ())))
    if cors.get("AllowHeaders"):
        headers.append(("Access-Control-Allow-Headers", ",".join(cors["AllowHeaders"])))
    if cors.get("MaxAge"):
        headers.append(("Access-Control-Max-Age", str(cors["MaxAge"])))
    return Response(200, headers, b"")


def marked(request: Request, response: Response, cors: Cors | None) -> Response:
    """The response with what the URL says to pages; the function's own words on that are passed over."""
    if not cors:
        return response
    kept = [(name, value) for name, value in response.headers if not name.lower().startswith("access-control-")]
    origin = _origin(request, cors)
    response.headers = kept if origin is None else [*kept, *_common(cors, origin)]
    return response


def _origin(request: Request, cors: Cors) -> str | None:
    """What is said to be allowed; None where the request's origin is not."""
    origin, known = request.header("origin"), cors.get("AllowOrigins") or ()
    if not origin:
        return None
    if "*" in known:
        return origin if cors.get("AllowCredentials") else "*"
    return origin if any(_same(each, origin) for each in known) else None


def _same(pattern: str, origin: str) -> bool:
    """A pattern may have one wildcard, for a part of a name."""
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == origin
    return len(origin) >= len(before) + len(after) and origin.startswith(before) and origin.endswith(after)


def _common(cors: Cors, origin: str) -> list[tuple[str, str]]:
    headers = [("Access-Control-Allow-Origin", origin)]
    if origin != "*":
        headers.append(("Vary", "Origin"))
    if cors.get("AllowCredentials"):
        headers.append(("Access-Control-Allow-Credentials", "true"))
    if cors.get("ExposeHeaders"):
        headers.append(("Access-Control-Expose-Headers", ",".join(cors["ExposeHeaders"])))
    return headers


def _takes(known: Any, wanted: str) -> bool:
    return bool(known) and ("*" in known or wanted in known)
