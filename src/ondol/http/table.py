"""The dispatch table: (host, path, method, auth scheme, SigV4 scope) -> who answers. One port, one table.

A request is matched by the most specific row; `overlaps` proves at start (and in a test) that no two rows can both be the
most specific one. `<dialect>.localhost` leaves only that dialect's rows. Knows nothing of functions. Pure.

"More specific" compares, in this order: a host label, more path segments, a path end, a scope, an auth scheme, methods.
Rows of unlike rank therefore never tie, and rows of one rank tie exactly where both match one request: that is what
`overlaps` looks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import combinations
from typing import NamedTuple
from urllib.parse import unquote

from ondol.http.guard import hostname
from ondol.http.messages import Request

#: How many found rows are remembered, for host and path up to which length together.
_KNOWN_MAX = 4096
_KNOWN_CHARS_MAX = 256


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
    #: First label of `<label>.localhost`, or "*.<label>" for all names below a label: `<any>.<label>.<any>….localhost`. Or "".
    host: str = ""
    #: Path prefix, matched on whole segments: "/fn" matches "/fn" and "/fn/x".
    path: str = ""
    #: Last path segment, where the prefix alone does not tell ("invocations"). It stands behind the prefix.
    path_end: str = ""
    methods: tuple[str, ...] = ()
    #: "sigv4", "bearer" or "".
    auth: str = ""
    #: The service in the SigV4 credential scope ("lambda", "logs"), or "". A scope means "sigv4".
    scope: str = ""
    body_bytes_max: int = 6 * 1024 * 1024
    #: Pages of any origin may ask: who answers looks at the origin itself.
    for_pages: bool = False


class Credential(NamedTuple):
    """How a request says who it is, as far as dispatch needs to know."""

    #: "sigv4", "bearer" or "".
    auth: str
    #: The service a SigV4 credential is scoped to, or "".
    scope: str


class Table:
    """Finds the row of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._dialects = frozenset(route.dialect for route in self.routes) | {route.host for route in self.routes if route.host}
        #: label -> first path segment -> rows, most specific first. "" stands for "any other label" and "any other segment".
        #: Rows that were found, by host, method and path.
        self._known: dict[tuple[str, str, str], Route] = {}
        self._rows = {label: _by_segment(_eligible(self.routes, label)) for label in (*self._dialects, "")}

    def match(self, request: Request) -> Route | None:
        """The most specific row, or None."""
        key = (request.header("host"), request.method, request.path)
        return self._known.get(key) or self._find(request, key)

    def _find(self, request: Request, key: tuple[str, str, str]) -> Route | None:
        """Walk through the rows. One found without a look at credentials is remembered for all requests like this one."""
        method, path = request.method, request.path
        found: Credential | None = None
        for row in self._rows_of(hostname(key[0]), path):
            if not row.fits(method, path):
                continue
            if row.auth or found is not None:
                found = found or credential(request)
                if not row.takes(found):
                    continue
            elif len(path) + len(key[0]) <= _KNOWN_CHARS_MAX:
                self._remember(key, row.route)
            return row.route
        return None

    def _rows_of(self, host: str, path: str) -> tuple[_Row, ...]:
        label = host[: -len(".localhost")] if host.endswith(".localhost") else ""
        if "." in label:
            label = f"*.{label.split('.')[1]}"
        by_segment = self._rows[label if label in self._dialects else ""]
        end = path.find("/", 1)
        rows = by_segment.get(path[1:] if end < 0 else path[1:end])
        return by_segment[""] if rows is None else rows

    def _remember(self, key: tuple[str, str, str], route: Route) -> None:
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[key] = route


def credential(request: Request) -> Credential:
    """The auth scheme and SigV4 scope of a request, from its header or, presigned, from its query. Nothing is verified here."""
    header = request.header("authorization")
    if header.startswith("AWS4-"):
        _, _, rest = header.partition("Credential=")
        return Credential("sigv4", _scope(rest.partition(",")[0].strip()))
    if header[:7].lower() == "bearer ":
        return Credential("bearer", "")
    if not header and "X-Amz-Credential=" in request.query:
        for field in request.query.split("&"):
            name, _, value = field.partition("=")
            if name == "X-Amz-Credential":
                return Credential("sigv4", _scope(unquote(value)))
    return Credential("", "")


def overlaps(routes: Iterable[Route]) -> list[tuple[Route, Route]]:
    """Pairs of rows that can both be the most specific one for some request. A good table has none."""
    return [(one, other) for one, other in combinations(routes, 2) if _rank(one) == _rank(other) and _meet(one, other)]


def _meet(one: Route, other: Route) -> bool:
    """Whether one request can match both, given that both have the same rank: fields are set in both or in neither."""
    if one.methods and not set(one.methods) & set(other.methods):
        return False
    return _fixed(one) == _fixed(other)


def _fixed(route: Route) -> tuple[str, tuple[str, ...], str, str, str]:
    """The fields that have one value."""
    return route.host, _segments(route.path), route.path_end, route.scope, _auth(route)


class _Row(NamedTuple):
    """A route with what matching it needs, worked out once."""

    route: Route
    #: The path with a closing slash, or "".
    prefix: str
    #: "/" + path_end, or "".
    path_end: str
    auth: str

    def fits(self, method: str, path: str) -> bool:
        """Whether method and path are the row's."""
        route, prefix, path_end, _ = self
        if route.methods and method not in route.methods:
            return False
        if prefix and not path.startswith(prefix) and path != prefix[:-1]:
            return False
        return not path_end or (path.endswith(path_end) and len(path) > len(prefix))

    def takes(self, given: Credential) -> bool:
        """Whether a request with this credential is the row's, as far as that decides."""
        return not self.auth or (given.auth == self.auth and (not self.route.scope or given.scope == self.route.scope))


def _eligible(routes: tuple[Route, ...], label: str) -> list[Route]:
    return [route for route in routes if route.host == label or (not route.host and (not label or route.dialect == label))]


def _by_segment(routes: list[Route]) -> dict[str, tuple[_Row, ...]]:
    ranked = sorted(routes, key=_rank, reverse=True)
    found: dict[str, tuple[_Row, ...]] = {}
    for segment in ("", *(_segments(route.path)[0] for route in ranked if _segments(route.path))):
        found[segment] = tuple(_row(route) for route in ranked if _segments(route.path)[:1] in ((), (segment,)))
    return found


def _row(route: Route) -> _Row:
    prefix = f"{route.path.rstrip('/')}/" if _segments(route.path) else ""
    return _Row(route, prefix, f"/{route.path_end}" if route.path_end else "", _auth(route))


def _rank(route: Route) -> tuple[bool, int, bool, bool, bool, bool]:
    return (
        bool(route.host),
        len(_segments(route.path)),
        bool(route.path_end),
        bool(route.scope),
        bool(_auth(route)),
        bool(route.methods),
    )


def _auth(route: Route) -> str:
    return route.auth or ("sigv4" if route.scope else "")


def _segments(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/")) if path.strip("/") else ()


def _scope(text: str) -> str:
    """The service in AKID/date/region/service/aws4_request."""
    parts = text.split("/")
    return parts[-2] if len(parts) >= 4 and parts[-1] == "aws4_request" else ""
