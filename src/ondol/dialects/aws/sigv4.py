"""Signature Version 4: who signed a request, and whether the signature holds; in header and in presigned form.

Pure: request parts, a key and the time come in, a `Claim` or a `ServiceError` comes out. Reading a claim and verifying it are
two steps, since a large body's hash is only known at its end. Signatures are compared in constant time.

A client's requests of one day differ in their signatures and little else: what an Authorization header says in front of the
signature, the seconds of a time stamp and the state of a signing key's HMAC are worked out once and remembered (bounded).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from calendar import timegm
from functools import lru_cache
from typing import NamedTuple, NoReturn
from urllib.parse import unquote

from msgspec import Struct

from ondol.accelerator import HASHED_BYTES_MAX, hot
from ondol.dialects.aws import canonical
from ondol.dialects.aws.canonical import Headers, incomplete
from ondol.dialects.aws.service import ServiceError
from ondol.http.messages import Request

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW_S_MAX = 300
#: As long as AWS lets a presigned request live.
EXPIRES_S_MAX = 604_800
REGION_CHARS_MAX = 32
UNSIGNED = "UNSIGNED-PAYLOAD"
#: The one service whose signers may leave a body's hash for later.
OBJECTS = "s3"

_REGION = re.compile(r"(?:eusc-)?[a-z]{2}(?:-[a-z]+)+-\d{1,2}", re.ASCII)
_STAMP = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
STAMP_CHARS = 16
_USUAL = re.compile(
    rf"{ALGORITHM} Credential=([^/,=\s]+)/(\d{{8}})/([^/,=\s]+)/([^/,=\s]+)/aws4_request, ?"
    r"SignedHeaders=([^,=\s]+), ?Signature=",
    re.ASCII,
)
#: Longer ones are read without being remembered.
USUAL_CHARS_MAX = 1024
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class Claim(Struct, frozen=True):
    """What a request says about its signer. Nothing of it is proven until `verify` returns."""

    access_key_id: str
    date: str
    region: str
    service: str
    #: The session token sent along, or "".
    token: str
    #: "20301231T235959Z"
    stamp: str
    signature: str
    #: The canonical request up to the payload's hash.
    canonical: str
    #: The payload's hash as the client fixed it (UNSIGNED-PAYLOAD), or None: the body's own.
    payload_hash: str | None

    def verify_body(self, secret: str, body: bytes) -> None:
        """As `verify`, for a body that is whole."""
        held = None
        if hot.built and len(body) <= HASHED_BYTES_MAX:
            states = _states(secret, self.date, self.region, self.service)
            payload = self.payload_hash or body
            held = hot.holds(states, self.canonical, payload, self.stamp, self.date, self.region, self.service, self.signature)
        if held is None:
            self.verify(secret, hashlib.sha256(body).hexdigest())
        elif not held:
            raise _mismatch()

    def verify(self, secret: str, body_sha256: str) -> None:
        """Raise InvalidSignatureException unless the holder of `secret` signed this request with this body."""
        request = f"{self.canonical}{self.payload_hash or body_sha256}".encode("latin-1", "replace")
        text = (
            f"{ALGORITHM}\n{self.stamp}\n{self.date}/{self.region}/{self.service}/aws4_request\n"
            f"{hashlib.sha256(request).hexdigest()}"
        )
        expected = _keyed(secret, self.date, self.region, self.service).copy()
        expected.update(text.encode())
        if not hmac.compare_digest(expected.hexdigest().encode(), self.signature.encode("latin-1", "replace")):
            raise _mismatch()


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """What signs everything of one key, day, region and service."""
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=1024)
def _keyed(secret: str, date: str, region: str, service: str) -> hmac.HMAC:
    """An HMAC that has taken in its signing key and nothing else: copied for each request, never changed."""
    return hmac.new(signing_key(secret, date, region, service), digestmod="sha256")


@lru_cache(maxsize=1024)
def _states(secret: str, date: str, region: str, service: str) -> bytes | None:
    """The same for the accelerator."""
    states: bytes | None = hot.keyed(signing_key(secret, date, region, service))
    return states


def region_of(target: str, headers: Headers) -> str:
    """The region in a request's credential scope, or "": for nodes that ask nobody for a key."""
    credential = ""
    for name, value in headers:
        if name == "authorization":
            credential = _between(value, "Credential=", ",")
            break
    if not credential and "X-Amz-Credential=" in target:
        credential = unquote(_between(target, "X-Amz-Credential=", "&"))
    parts = credential.split("/")
    return parts[2] if len(parts) == 5 and _REGION.fullmatch(parts[2]) and len(parts[2]) <= REGION_CHARS_MAX else ""


def read(method: str, target: str, headers: Headers, now_s: float, index: dict[str, str] | None = None) -> Claim | None:
    """The claim of a request, None where it makes none. Raises ServiceError for a broken or stale one.

    `index`: all values by name, if somebody has it already (`Request.index`).
    """
    if index is not None and len(index) == len(headers):
        value = index.get("authorization")
        if value is not None:
            found = _read_usual(method, target, headers, now_s, index)
            return found or _read_header(method, target, headers, value, now_s)
    for name, value in headers:
        if name == "authorization":
            found = _read_usual(method, target, headers, now_s, dict(headers))
            return found or _read_header(method, target, headers, value, now_s)
    if "X-Amz-Signature=" in target or "X-Amz-Algorithm=" in target:
        return _read_query(method, target, headers, now_s)
    return None


def missing() -> ServiceError:
    """What AWS answers to a request without a claim."""
    return ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token", status=403)


def unknown_key() -> ServiceError:
    """What AWS answers where the access key or its token is not known."""
    message = "The security token included in the request is invalid."
    return ServiceError("UnrecognizedClientException", message, status=403)


# The two forms --------------------------------------------------------------------------------------------------------
class Usual(NamedTuple):
    """What an Authorization header of the usual form says in front of its signature."""

    access_key_id: str
    date: str
    region: str
    service: str
    #: The names of the signed headers, as text and one by one.
    signed: str
    names: tuple[str, ...]


@lru_cache(maxsize=1024)
def usual_of(text: str) -> Usual | None:
    """The header up to "Signature=" as SDKs write it; None for what `_read_header` has to look at closely."""
    found = _USUAL.fullmatch(text)
    if found is None:
        return None
    access_key_id, date, region, service, signed = found.groups()
    names = tuple(signed.split(";"))
    if not _REGION.fullmatch(region) or len(region) > REGION_CHARS_MAX or len(names) > canonical.SIGNED_HEADERS_MAX:
        return None
    return Usual(access_key_id, date, region, service, signed, names) if "host" in names else None


def _read_usual(method: str, target: str, headers: Headers, now_s: float, values: dict[str, str]) -> Claim | None:
    """The claim of a header in the usual form; None leaves it, and everything wrong with it, to `_read_header`."""
    value = values["authorization"]
    text, signature = value[:-64], value[-64:]
    usual = usual_of(text) if len(text) <= USUAL_CHARS_MAX else None
    stamp = values.get("x-amz-date", "")
    if usual is None or len(values) != len(headers) or len(stamp) != STAMP_CHARS or stamp[:8] != usual.date:
        return None
    signed_s = _usual_seconds(stamp)
    if signed_s is None:
        return None
    path, _, query = target.partition("?")
    head = None if query else hot.canonical(method, path, values, usual.names, usual.signed)
    if head is None:
        lines = "".join([f"{name}:{values.get(name, '')}\n" for name in usual.names])
        if "  " in lines or ": " in lines or " \n" in lines or "\t" in lines:
            return None  # signers fold blanks
    _check_skew(signed_s, now_s)
    if head is None:
        uri = canonical.path_of(path, usual.service)
        head = f"{method}\n{uri}\n{canonical.query_of(query)}\n{lines}\n{usual.signed}\n"
    hashed = values.get("x-amz-content-sha256", "")
    return Claim(
        usual.access_key_id,
        usual.date,
        usual.region,
        usual.service,
        values.get("x-amz-security-token", ""),
        stamp,
        signature,
        head,
        _payload_hash(hashed, usual.service, trusted="x-amz-content-sha256" in usual.names) if hashed else None,
    )


def states_of(usual: Usual, secret: str) -> bytes | None:
    """What `holds` needs of a secret; None without the accelerator."""
    return _states(secret, usual.date, usual.region, usual.service) if hot.built else None


def holds(usual: Usual, states: bytes, request: Request, body: bytes, now_s: float) -> bool:
    """Whether a request without a query, whose Authorization header begins with what `usual` was read from, is rightly signed
    with the secret that `states` are of. False as well for what `read` and `verify_body` have to look at.
    """
    values = request.index()
    stamp = values.get("x-amz-date", "")
    if (
        len(values) != len(request.headers)
        or len(stamp) != STAMP_CHARS
        or stamp[:8] != usual.date
        or len(body) > HASHED_BYTES_MAX
    ):
        return False
    signed_s = _usual_seconds(stamp)
    if signed_s is None or abs(signed_s - now_s) > SKEW_S_MAX or "x-amz-content-sha256" in values:
        return False
    head = hot.canonical(request.method, request.path, values, usual.names, usual.signed)
    if head is None:
        return False
    signature = values["authorization"][-64:]
    return hot.holds(states, head, body, stamp, usual.date, usual.region, usual.service, signature) is True


def _read_header(method: str, target: str, headers: Headers, value: str, now_s: float) -> Claim:
    path, _, query = target.partition("?")
    scheme, _, rest = value.partition(" ")
    if scheme != ALGORITHM:
        raise incomplete(f"Unsupported AWS 'algorithm': '{scheme[:40]}', {ALGORITHM} is expected.")
    fields = {}
    for part in rest.split(","):
        name, _, text = part.strip().partition("=")
        fields[name] = text
    lacking = [name for name in ("Credential", "Signature", "SignedHeaders") if not fields.get(name)]
    if lacking:
        raise incomplete(" ".join(f"Authorization header requires '{name}' parameter." for name in lacking))
    values = canonical.by_name(headers)
    stamp = values.get("x-amz-date") or _from_http_date(values.get("date", ""))
    if not stamp:
        raise incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    access_key_id, date, region, service = _scope(fields["Credential"], stamp)
    _check_skew(_seconds(stamp), now_s)
    signed = fields["SignedHeaders"]
    hashed = values.get("x-amz-content-sha256", "")
    return Claim(
        access_key_id,
        date,
        region,
        service,
        values.get("x-amz-security-token", ""),
        stamp,
        fields["Signature"],
        canonical.head(method, canonical.path_of(path, service), canonical.query_of(query), signed, values),
        _payload_hash(hashed, service, trusted="x-amz-content-sha256" in signed.split(";")),
    )


def _read_query(method: str, target: str, headers: Headers, now_s: float) -> Claim:
    path, _, query = target.partition("?")
    fields = {}
    for pair in query.split("&"):
        name, _, text = pair.partition("=")
        if name.startswith("X-Amz-"):
            fields[name] = unquote(text)
    needed = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature")
    lacking = [name for name in needed if not fields.get(name)]
    if lacking:
        raise incomplete(" ".join(f"AWS query-string parameters must include '{name}'." for name in lacking))
    if fields["X-Amz-Algorithm"] != ALGORITHM:
        raise incomplete(f'X-Amz-Algorithm only supports "{ALGORITHM}".')
    stamp = fields["X-Amz-Date"]
    access_key_id, date, region, service = _scope(fields["X-Amz-Credential"], stamp)
    _check_expiry(_seconds(stamp), fields.get("X-Amz-Expires", str(SKEW_S_MAX)), now_s)
    values = canonical.by_name(headers)
    signed = fields["X-Amz-SignedHeaders"]
    in_query = fields.get("X-Amz-Content-Sha256", "")
    hashed = in_query or values.get("x-amz-content-sha256", "")
    if service == OBJECTS and not hashed:
        hashed = UNSIGNED  # a presigned request to S3 never says it, and always means it
    trusted = service == OBJECTS or bool(in_query) or "x-amz-content-sha256" in signed.split(";")
    return Claim(
        access_key_id,
        date,
        region,
        service,
        fields.get("X-Amz-Security-Token", ""),
        stamp,
        fields["X-Amz-Signature"],
        canonical.head(method, canonical.path_of(path, service), canonical.query_of(query, presigned=True), signed, values),
        _payload_hash(hashed, service, trusted=trusted),
    )


def _payload_hash(hashed: str, service: str, *, trusted: bool) -> str | None:
    if hashed.startswith("STREAMING-"):
        if service == OBJECTS and trusted:
            return hashed  # who serves S3 reads the chunks
        message = (
            f"{hashed} is not supported: sign the payload as a whole, or send x-amz-content-sha256: {UNSIGNED} over a "
            "connection you trust."
        )
        raise ServiceError("NotImplemented", message, status=501)
    return UNSIGNED if hashed == UNSIGNED and trusted else None


# Scope and time -------------------------------------------------------------------------------------------------------
def _scope(credential: str, stamp: str) -> tuple[str, str, str, str]:
    """(access key id, date, region, service)."""
    parts = credential.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{credential[:200]}'"
        )
    access_key_id, date, region, service, _ = parts
    if not _STAMP.fullmatch(stamp):
        raise incomplete(f"Date must be in ISO-8601 'basic format'. Got '{stamp[:40]}'.")
    if date != stamp[:8]:
        _refuse(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{date[:40]}' != '{stamp[:8]}', from '{stamp}'."
        )
    if not _REGION.fullmatch(region) or len(region) > REGION_CHARS_MAX:
        _refuse("Credential should be scoped to a valid region.")
    return access_key_id, date, region, service


@lru_cache(maxsize=16)
def _midnight_s(date: str) -> int:
    return timegm((int(date[:4]), int(date[4:6]), int(date[6:8]), 0, 0, 0))


@lru_cache(maxsize=1024)
def _seconds(stamp: str) -> int:
    """Since the epoch. `stamp` has the form of _STAMP. Raises IncompleteSignatureException for a day that there is not."""
    try:
        midnight_s = _midnight_s(stamp[:8])
    except ValueError:
        raise incomplete(f"Date must be in ISO-8601 'basic format'. Got '{stamp}'.") from None
    return midnight_s + int(stamp[9:11]) * 3600 + int(stamp[11:13]) * 60 + int(stamp[13:15])


@lru_cache(maxsize=1024)
def _usual_seconds(stamp: str) -> int | None:
    """The same; None for what has another form."""
    return _seconds(stamp) if _STAMP.fullmatch(stamp) else None


def _from_http_date(text: str) -> str:
    if not text or _STAMP.fullmatch(text):
        return text
    try:
        return time.strftime("%Y%m%dT%H%M%SZ", time.strptime(text, "%a, %d %b %Y %H:%M:%S GMT"))
    except ValueError:
        return ""


def _check_skew(signed_s: int, now_s: float) -> None:
    if signed_s < now_s - SKEW_S_MAX:
        _refuse(f"Signature expired: {_stamp(signed_s)} is now earlier than {_window(now_s, -SKEW_S_MAX)}")
    if signed_s > now_s + SKEW_S_MAX:
        _refuse(f"Signature not yet current: {_stamp(signed_s)} is still later than {_window(now_s, SKEW_S_MAX)}")


def _check_expiry(signed_s: int, expires: str, now_s: float) -> None:
    if not expires.isascii() or not expires.isdigit() or not 1 <= int(expires[:9]) <= EXPIRES_S_MAX or len(expires) > 9:
        raise incomplete(f"X-Amz-Expires must be a number of seconds from 1 to {EXPIRES_S_MAX}")
    if signed_s + int(expires) < now_s:
        _refuse(f"Signature expired: {_stamp(signed_s)} is now earlier than {_window(now_s, -int(expires))}")
    if signed_s > now_s + SKEW_S_MAX:
        _refuse(f"Signature not yet current: {_stamp(signed_s)} is still later than {_window(now_s, SKEW_S_MAX)}")


def _window(now_s: float, by_s: int) -> str:
    size = abs(by_s)
    shown = f"{size // 60} min." if size % 60 == 0 else f"{size} sec."
    return f"{_stamp(now_s + by_s)} ({_stamp(now_s)} {'-' if by_s < 0 else '+'} {shown})"


def _stamp(seconds: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def _between(text: str, start: str, end: str) -> str:
    at = text.find(start)
    return "" if at < 0 else text[at + len(start) :].partition(end)[0]


def _mismatch() -> ServiceError:
    return ServiceError("InvalidSignatureException", _MISMATCH, status=403)


def _refuse(message: str) -> NoReturn:
    raise ServiceError("InvalidSignatureException", message, status=403)
