"""Who may talk to us from a browser: Host against DNS rebinding, Origin and Sec-Fetch-Site against posts from foreign pages.
Pure.

A program that is no browser sends neither Origin nor Sec-Fetch-Site, and a Host that it dialled: it never notices this
module.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from ondol.http.messages import Request, Response
from ondol.http.rendering import refusal as _refusal

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_WILDCARDS = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104  # compared with, never bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The names that this node answers to."""

    #: Lower case, without port or brackets; localhost and its subdomains are always in.
    hosts: frozenset[str] = frozenset()
    #: The listener is on every address: any literal IP address is ours, since rebinding needs a name.
    any_address: bool = False


def allowed(listen_host: str, names: tuple[str, ...] = ()) -> Allowed:
    """From what the node listens on and the names its operator configured."""
    given = {hostname(name) for name in names}
    if listen_host in _WILDCARDS:
        return Allowed(hosts=_LOCAL | given, any_address=True)
    return Allowed(hosts=_LOCAL | given | {hostname(listen_host)})


def refusal(request: Request, allowed: Allowed, *, for_pages: bool = False) -> Response | None:
    """403 with the reason, or None for a request that may go on. `for_pages`: whatever page sent it."""
    values = request.index()
    host = hostname(values.get("host", ""))
    if host and not _is_ours(host, allowed):
        return _refusal(
            403,
            f"this node does not answer to the Host {host[:253]!r}; use localhost or the address it listens on, "
            "or add the name to its public hosts (--public-hosts)",
        )
    if for_pages:
        return None
    origin = values.get("origin", "")
    if origin and not _is_home(origin, host, allowed):
        return _refusal(
            403,
            f"pages of the origin {origin[:253]!r} may not call this node; if they should, "
            "add the host to its public hosts (--public-hosts)",
        )
    if not origin and values.get("sec-fetch-site") == "cross-site":
        return _refusal(403, "a page of another site made the browser send this request; open the address itself instead")
    return None


@lru_cache(maxsize=1024)
def hostname(authority: str) -> str:
    """The host of "host:port", "[::1]:port" or a bare address: lower case, no brackets, no root dot."""
    text = authority.strip().lower()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        text = host if not rest or (rest[0] == ":" and (rest[1:].isdecimal() or rest == ":")) else text
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        text = host if port.isdecimal() or not port else text  # "localhost:80@elsewhere" is no host of ours
    return text.removesuffix(".")


def _is_ours(host: str, allowed: Allowed) -> bool:
    if host in allowed.hosts or host in _LOCAL or host.endswith(".localhost"):
        return True
    return allowed.any_address and _is_address(host)


def _is_home(origin: str, host: str, allowed: Allowed) -> bool:
    """An address may be the origin only where it is also the Host: an address elsewhere is another machine's page."""
    scheme, separator, authority = origin.partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    name = hostname(authority)
    if name in allowed.hosts or name in _LOCAL or name.endswith(".localhost"):
        return True
    return allowed.any_address and name == host and _is_address(name)


@lru_cache(maxsize=1024)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
