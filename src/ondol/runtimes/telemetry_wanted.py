"""What a subscription to telemetry asks for: the documented fields, ranges and defaults, or what is wrong with them. Pure.

Two APIs have it in nearly the same form: the Telemetry API of 2022-07-01, and the Logs API of 2020-08-15, which is older.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from ondol.runtimes.company_errors import Refusal

TYPES: Final = ("platform", "function", "extension")
#: By what a destination may call the environment that it is in.
HOSTS: Final = ("sandbox.localdomain", "sandbox")


class Api(Enum):
    """Which of the two; the values are how their lines in the log begin."""

    TELEMETRY = "TELEMETRY"
    LOGS = "LOGS"


SCHEMAS: Final[Mapping[Api, tuple[str, ...]]] = {
    Api.TELEMETRY: ("2022-07-01", "2022-12-13", "2025-01-29"),
    Api.LOGS: ("2020-08-15", "2021-03-18"),
}
_ITEMS: Final[Mapping[Api, int]] = {Api.TELEMETRY: 1000, Api.LOGS: 10_000}
#: Field -> least, most.
_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "maxItems": (1000, 10_000),
    "maxBytes": (262_144, 1_048_576),
    "timeoutMs": (25, 30_000),
}
_SCHEMES: Final[Mapping[str, str]] = {"HTTP": "http", "TCP": "tcp"}
_URI_CHARS_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One subscription."""

    api: Api
    schema: str
    types: tuple[str, ...]
    items_max: int
    bytes_max: int
    timeout_ms: int
    #: "HTTP" or "TCP", and for HTTP by which method and where.
    protocol: str
    port: int
    path: str = "/"
    method: str = "POST"


def wanted(body: bytes, api: Api, schemas: Sequence[str] = ()) -> Wanted:
    """`schemas`: those that are taken here; otherwise, all. Raises Refusal, which tells all that is wrong."""
    schemas = schemas or SCHEMAS[api]
    try:
        said: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Refusal("ValidationError", str(error)[:256]) from None
    if not isinstance(said, dict):
        raise Refusal("ValidationError", "a subscription is an object")
    wrong: list[str] = []
    schema = said.get("schemaVersion", SCHEMAS[Api.LOGS][0] if api is Api.LOGS else None)
    if not isinstance(schema, str) or schema not in schemas:
        wrong.append(f"schemaVersion should be one of {', '.join(schemas)}")
    types = _types(said.get("types"), wrong)
    buffering = _buffering(said.get("buffering"), api, wrong)
    destination = _destination(said.get("destination"), wrong)
    if wrong:
        raise Refusal("ValidationError", "; ".join(wrong))
    return Wanted(api=api, schema=str(schema), types=types, **buffering, **destination)


def _types(given: Any, wrong: list[str]) -> tuple[str, ...]:
    if not isinstance(given, list) or not given:
        wrong.append("types should not be empty")
        return ()
    if not all(isinstance(each, str) and each in TYPES for each in given):
        wrong.append(f"types should be of {', '.join(TYPES)}")
    return tuple(each for each in TYPES if each in given)


def _buffering(given: Any, api: Api, wrong: list[str]) -> dict[str, Any]:
    found = {"maxItems": _ITEMS[api], "maxBytes": 262_144, "timeoutMs": 1000}
    if given is not None and not isinstance(given, dict):
        wrong.append("buffering should be an object")
        given = None
    for name, (least, most) in _RANGES.items():
        value = (given or {}).get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            wrong.append(f"buffering.{name} should be an integer from {least} to {most}")
        else:
            found[name] = value
    return {"items_max": found["maxItems"], "bytes_max": found["maxBytes"], "timeout_ms": found["timeoutMs"]}


def _destination(given: Any, wrong: list[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        wrong.append("destination should be an object")
        return {}
    protocol = given.get("protocol")
    if not isinstance(protocol, str) or protocol not in _SCHEMES:
        wrong.append("destination.protocol should be HTTP or TCP")
        return {}
    if protocol == "TCP" and given.get("port") is not None and given.get("URI") is None:
        port = given["port"]
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            wrong.append("destination.port should be a port's number")
        return {"protocol": protocol, "port": port}
    method = given.get("method") or "POST"
    if method not in ("POST", "PUT"):
        wrong.append("destination.method should be POST or PUT")
    if given.get("encoding") not in (None, "JSON"):
        wrong.append("destination.encoding should be JSON")
    uri = _uri(given.get("URI"), _SCHEMES[protocol], wrong)
    return {"protocol": protocol, "method": method, **uri}


def _uri(given: Any, scheme: str, wrong: list[str]) -> dict[str, Any]:
    if not isinstance(given, str) or len(given) > _URI_CHARS_MAX or not all("!" <= char <= "~" for char in given):
        wrong.append("destination.URI should be a URI")
        return {}
    try:
        parts: SplitResult | None = urlsplit(given)
        port = parts.port if parts is not None else None
    except ValueError:
        wrong.append("destination.URI should be a URI")
        return {}
    assert parts is not None
    if parts.scheme != scheme or parts.hostname not in HOSTS or parts.username is not None:
        wrong.append(f"URI should begin with {scheme}://{HOSTS[0]}")
    if not port:
        wrong.append("URI port is not provided")
    path = parts.path or "/"
    return {"port": port, "path": f"{path}?{parts.query}" if parts.query else path}
