"""What `_hot.c` gives. Each answers None for what is not of the usual shape; the Python that goes on then is the definition."""

EDITION: int

def take_request(data: bytes, /) -> tuple[str, str, list[tuple[str, str]], dict[str, str], bytes] | None:
    """(method, target, headers, values by name, body) of exactly one whole request."""

def render(line: str, headers: object, date: str, body: object, /) -> bytes | None:
    """The response of a status line, pairs of which none is the server's own, a Date line, and a body."""

def canonical(method: str, path: str, index: dict[str, str], names: tuple[str, ...], signed: str, /) -> str | None:
    """SigV4's canonical request without a query, up to the payload's hash."""

def keyed(key: bytes, /) -> bytes:
    """64 bytes, the states of an HMAC-SHA-256 that has taken in a key of at most 64. Raises ValueError."""

def holds(
    states: bytes | None,
    canonical: str,
    payload: str | bytes,
    stamp: str,
    date: str,
    region: str,
    service: str,
    signature: str,
    /,
) -> bool | None:
    """Whether a signature is right, in constant time. `payload`: the body, or its hash as text."""

def take_result(data: bytes, /) -> tuple[int, int, bytes] | None:
    """(flags, invocation, body) of exactly one whole RESULT frame without meta."""

def uuid_of(digits: str, /) -> str | None:
    """The text of a random UUID, of 32 hexadecimal digits."""

def trace_of(seconds: int, digits: str, /) -> str | None:
    """A fresh trace header, of 48 hexadecimal digits."""

def sha256(data: bytes, /) -> str:
    """Hexadecimal digits."""

def choose(anywhere: bool, /) -> bool:
    """Hash with portable code, or with the processor's instructions; whether with these."""
