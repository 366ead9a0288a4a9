"""Function URLs' payload format 2.0: the event made of a request, and the response that a function's answer means. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from ondol.http.guard import hostname
from ondol.http.messages import Request, Response

JSON_TYPE: Final = "application/json"
_TEXT: Final = re.compile(r"text/.*|application/(?:.*\+)?(?:json|xml)|application/(?:javascript|ecmascript)", re.ASCII)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
#: No header has a control character in its value, whatever a function says.
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
#: The server's business.
_FRAMING: Final = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"})


class Malformed(Exception):  # noqa: N818  # a name that reads well where it is caught
    """The function's answer is no response."""


def event(
    request: Request,
    body: bytes,
    *,
    url_id: str,
    path: str,
    request_id: str,
    trace: str,
    at_s: float,
    caller: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What the function is told. `path`: as sent, behind the URL; `caller`: what is known of who signed, None for anybody."""
    host = request.header("host")
    peer = request.peer.rpartition(":")[0].strip("[]")
    headers = {name: value for name, value in request.index().items() if name not in ("cookie", "connection")}
    headers |= {
        "x-amzn-trace-id": trace,
        "x-forwarded-for": ", ".join(filter(None, (request.header("x-forwarded-for"), peer))),
        "x-forwarded-port": host.rpartition(":")[2] if host.rpartition(":")[2].isdecimal() else "80",
        "x-forwarded-proto": "http",
    }
    at = datetime.fromtimestamp(at_s, UTC)
    context: dict[str, Any] = {
        "accountId": caller["accountId"] if caller else "anonymous",
        "apiId": url_id,
        "domainName": hostname(host),
        "domainPrefix": url_id,
        "http": {
            "method": request.method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": peer,
            "userAgent": request.header("user-agent"),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": int(at_s * 1000),
    }
    if caller:
        context["authorizer"] = {"iam": dict(caller)}
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": context,
        "isBase64Encoded": False,
    }
    cookies = [each.strip() for name, value in request.headers if name == "cookie" for each in value.split(";")]
    if cookies:
        made["cookies"] = cookies
    if request.query:
        made["queryStringParameters"] = _query(request.query)
    if body:
        text = _text(body, request.header("content-type"))
        made["body"] = base64.b64encode(body).decode() if text is None else text
        made["isBase64Encoded"] = text is None
    return made


def response(answer: bytes) -> Response:
    """The response that an answer means: one with a status code says all by itself, any other is the body. Raises Malformed."""
    try:
        said = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed from None
    if isinstance(said, dict) and "statusCode" in said:
        return _structured(said)
    text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
    return Response(200, [("Content-Type", JSON_TYPE)], text.encode())


def headed(said: object) -> Response:
    """The response, still without its body, that the head of a streamed answer means. Raises Malformed."""
    if not isinstance(said, dict):
        raise Malformed
    headers = _headers(said)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.insert(0, ("Content-Type", "application/octet-stream"))
    return Response(_status(said.get("statusCode", 200)), headers)


def is_value(text: str) -> bool:
    """Whether it may be a header's value."""
    return text.isascii() and _VALUE.fullmatch(text) is not None


def _status(status: object) -> int:
    if isinstance(status, str) and status.isascii() and status.isdecimal() and len(status) == 3:
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise Malformed
    return status


def _structured(said: Mapping[str, Any]) -> Response:
    status = _status(said["statusCode"])
    body = said.get("body")
    text = "" if body is None else body if isinstance(body, str) else msgspec.json.encode(body).decode()
    try:
        data = base64.b64decode(text, validate=True) if said.get("isBase64Encoded") is True else text.encode()
    except (binascii.Error, ValueError):
        raise Malformed from None
    headers = _headers(said)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.insert(0, ("Content-Type", JSON_TYPE))
    return Response(status, headers, data)


def _headers(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    given, cookies = said.get("headers") or {}, said.get("cookies") or []
    if not isinstance(given, dict) or not isinstance(cookies, list):
        raise Malformed
    headers = [(str(name), _plain(value)) for name, value in given.items() if str(name).lower() not in _FRAMING]
    headers += [("Set-Cookie", _plain(cookie)) for cookie in cookies]
    if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers):
        raise Malformed
    return headers


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise Malformed
    return str(value)


def _query(query: str) -> dict[str, str]:
    """Values of one name are joined by commas."""
    made: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        made[name] = f"{made[name]},{value}" if name in made else value
    return made


def _text(body: bytes, content_type: str) -> str | None:
    """The body as text; None where it goes as base64."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind and not _TEXT.fullmatch(kind):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
