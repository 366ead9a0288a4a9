"""One request on its way, and the rules that a head must keep before anything else sees it. Pure: no sockets, no clock.

llhttp (strict) refuses bad bytes; this module refuses what is ambiguous between us and whatever stands before or behind us: two
framings, two hosts, encodings that we do not undo, targets of another kind.
"""

from __future__ import annotations

from msgspec import Struct

from ondol.http.bodies import EMPTY, Stream
from ondol.http.limits import HttpLimits
from ondol.http.messages import Request, Response

Headers = list[tuple[str, str]]

#: Headers that change how a request is read.
_NOTED = ("content-length", "transfer-encoding", "upgrade", "expect")
_SCHEMES = ("http://", "https://")

#: Header names as clients send them -> lower-case text. Bounded, since clients choose them.
NAMES: dict[bytes, str] = {}
_NAMES_MAX = 1024


class Refused(Exception):  # noqa: N818  # a name that reads well where it is caught
    """The request is answered by the server itself, and the connection ends."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Enough(Exception):  # noqa: N818  # a name that reads well where it is caught
    """Stops the parser: the connection takes no further request."""


class Exchange(Struct, eq=False):
    """A request, where its body is, and how the connection goes on after it."""

    request: Request
    http10: bool
    keep_alive: bool = True
    #: Answered by who was asked first, without the connection's task.
    prompted: bool = False
    #: The server's own answer instead of the application's.
    answer: Response | None = None
    #: Content-Length; None when chunked.
    declared_bytes: int | None = 0
    #: The client waits for "100 Continue" before it sends the body.
    expects: bool = False
    #: The value of Upgrade, or "".
    upgrade: str = ""
    #: The body, when the application is called before it is whole …
    stream: Stream | None = None
    #: … and its pieces, when not.
    parts: list[bytes] | None = None

    def leaves_more_than(self, discarded_bytes_max: int) -> bool:
        """Whether the unread rest of its body is too long, or may be, to be thrown away for the connection's sake."""
        stream = self.stream
        if stream is None or stream.complete:
            return False
        if self.expects or stream.lost or stream.declared_bytes is None:
            return True
        return stream.declared_bytes - stream.taken_bytes > discarded_bytes_max


def read_head(method: str, version: str, url: bytes, headers: Headers, peer: str) -> Exchange:
    """An exchange from a parsed head. Raises Refused."""
    if version not in ("1.1", "1.0"):
        raise Refused(505, f"this server speaks HTTP/1.1 and HTTP/1.0, the request said HTTP/{version}")
    if method == "CONNECT":
        raise Refused(501, "this server is no proxy: CONNECT is not served")
    target = _text(url)
    if not target.startswith("/"):
        target = _origin_form(method, target, headers)
    request = Request(method, target, headers, EMPTY, peer)
    exchange = Exchange(request, http10=version == "1.0")
    index = request.index()
    if len(index) == len(headers):  # no name comes twice: five are looked up, instead of each looked at
        hosts = 1 if "host" in index else 0
        for name in _NOTED:
            if name in index:
                _note(exchange, name, index[name])
    else:
        hosts = sum(name == "host" for name, _ in headers)
        for name, value in headers:
            if name in _NOTED:
                _note(exchange, name, value)
    if hosts != 1 and (hosts or version == "1.1"):
        raise Refused(400, f"a request has exactly one Host header, this one has {hosts}")
    return exchange


def field_name(raw: bytes) -> str:
    """The lower-case text of a header's name, remembered in NAMES."""
    name = raw.decode("latin-1").lower()
    if len(NAMES) < _NAMES_MAX and len(raw) <= 64:
        NAMES[raw] = name
    return name


def check_upgrade(exchange: Exchange, *, offered: bool) -> None:
    """Raises Refused for an offer to switch protocols, but for HTTP/2's, which may be ignored."""
    if offered and (exchange.upgrade.lower() != "h2c" or exchange.declared_bytes != 0):
        raise Refused(426, f"this server speaks HTTP/1.1 only and cannot switch to {exchange.upgrade!r}")


def check_size(url: bytes, headers: Headers, limits: HttpLimits) -> None:
    """Raises Refused when a head is longer than the limit."""
    head_bytes = len(url) + 16 + sum(len(name) + len(value) + 4 for name, value in headers)
    if head_bytes > limits.head_bytes_max:
        raise Refused(431, f"the request's head is longer than {limits.head_bytes_max} bytes; send less in its URL and headers")


def _note(exchange: Exchange, name: str, value: str) -> None:
    """Takes over a header that changes how the request is read. The parser has already refused both framings together."""
    if name == "content-length":
        if not (value.isascii() and value.isdecimal()):
            raise Refused(400, "Content-Length is not one decimal number")
        if exchange.declared_bytes is None:
            raise Refused(400, "a request has either Content-Length or Transfer-Encoding, not both")
        exchange.declared_bytes = int(value)
    elif name == "transfer-encoding":
        _note_encoding(exchange, value)
    elif name == "upgrade":
        exchange.upgrade = value
    elif value.lower() != "100-continue":
        raise Refused(417, "the only expectation that this server can meet is 100-continue")
    else:
        exchange.expects = not exchange.http10


def _note_encoding(exchange: Exchange, value: str) -> None:
    if exchange.http10:
        raise Refused(400, "HTTP/1.0 has no Transfer-Encoding; send Content-Length, or speak HTTP/1.1")
    if exchange.declared_bytes != 0:
        raise Refused(400, "a request has one framing: one Content-Length, or one Transfer-Encoding")
    if value.lower() != "chunked":
        raise Refused(501, "the only Transfer-Encoding that this server undoes is chunked")
    exchange.declared_bytes = None


def _text(url: bytes) -> str:
    try:
        target = url.decode("ascii")
    except UnicodeDecodeError as error:
        raise Refused(400, "a request target is ASCII; percent-encode everything else") from error
    if "#" in target:
        raise Refused(400, "a request target has no fragment; percent-encode '#' as %23")
    return target


def _origin_form(method: str, target: str, headers: Headers) -> str:
    """The path of an absolute-form target; its authority takes the place of Host, as HTTP asks."""
    if target == "*" and method == "OPTIONS":
        return target
    scheme = next((scheme for scheme in _SCHEMES if target[: len(scheme)].lower() == scheme), "")
    rest = target[len(scheme) :]
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority = rest[:end]
    if not scheme or not authority or "@" in authority:
        raise Refused(400, f"a request target is a path or an http URL, not {target[:80]!r}")
    for at, (name, _) in enumerate(headers):
        if name == "host":
            headers[at] = ("host", authority)
    path = rest[end:]
    return path if path.startswith("/") else f"/{path}"
