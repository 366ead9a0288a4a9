"""Turns a `Response` into bytes: the status line, the header fields that the server owns, and refusals in JSON.

Pure. Invariant: what an application puts into a header cannot end the head or smuggle another field (`UnsafeHeader` instead).
"""

from __future__ import annotations

import json
from http import HTTPStatus

from ondol.accelerator import hot
from ondol.http.messages import Response

#: Fields that the server writes itself; what an application gives for them is only a wish.
OWNED = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = {code: f"HTTP/1.1 {code} {reason}\r\n" for code, reason in _REASONS.items()}

#: Kinds of header names, as applications write them.
_PLAIN, _OWNED, _DATE = 1, 2, 3
_KINDS: dict[str, int] = {}
_KINDS_MAX = 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class UnsafeHeader(ValueError):  # noqa: N818  # a name that reads well where it is caught
    """A header's name or value holds a line break, a NUL, or what latin-1 cannot say."""


def bodiless(method: str, status: int) -> bool:
    """Whether the response to `method` ends with its head."""
    return method == "HEAD" or status in (204, 304) or status < 200


def head(response: Response, framing: str, date: str) -> bytes:
    """Status line and fields. `framing` is the lines that the server adds, `date` its Date line."""
    status = response.status
    line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
    parts = [line]
    for name, value in response.headers:
        kind = _KINDS.get(name) or _kind(name)
        if kind != _OWNED:
            if kind == _DATE:
                date = ""
            parts.append(f"{name}: {value}\r\n")
    lines = len(parts)
    text = "".join(parts)
    if text.count("\n") != lines or text.count("\r") != lines or "\0" in text:
        raise UnsafeHeader("a response header holds a line break or a NUL; encode the value before it becomes a header")
    try:
        return f"{text}{date}{framing}\r\n".encode("latin-1")
    except UnicodeEncodeError as error:
        raise UnsafeHeader("a response header holds a character beyond latin-1; percent-encode it") from error


def whole(method: str, response: Response, date: str) -> bytes | None:
    """Head and body (bytes) of a response that has both and asks for nothing unusual; None: it is rendered part by part."""
    line = _STATUS_LINES.get(response.status)
    if line is None or bodiless(method, response.status):
        return None
    made: bytes | None = hot.render(line, response.headers, date, response.body)
    return made


def header(response: Response, name: str) -> str:
    """The last value of the lower-case `name` in a response, or ""."""
    found = ""
    for key, value in response.headers:
        if key.lower() == name:
            found = value
    return found


def wants_close(response: Response) -> bool:
    """Whether the application asks for the connection's end."""
    for name, value in response.headers:
        if len(name) == 10 and name.lower() == "connection":
            return value.lower() == "close"
    return False


def _kind(name: str) -> int:
    """What a response header's name means to the server; remembered for short names, as many as there is room for."""
    lower = name.lower()
    kind = _OWNED if lower in OWNED else _DATE if lower == "date" else _PLAIN
    if len(_KINDS) < _KINDS_MAX and len(name) <= 64:
        _KINDS[name] = kind
    return kind


def stream_framing(response: Response, *, http10: bool, bodiless: bool) -> tuple[str, int | None]:
    """The framing field of a response in chunks, and its length when the application gave one."""
    length = header(response, "content-length")
    if length.isascii() and length.isdecimal() and response.status >= 200 and response.status != 204:
        return f"content-length: {length}\r\n", int(length)
    if bodiless:
        return "", 0
    return ("" if http10 else "transfer-encoding: chunked\r\n"), None


def refusal(status: int, sentence: str, **more: str) -> Response:
    """A response of the server's own: one JSON object with a sentence."""
    body = json.dumps({"message": sentence, **more}).encode()
    return Response(status, [("content-type", "application/json")], body)
