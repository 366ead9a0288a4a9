"""The canonical form of a request, which Signature Version 4 signs. Pure.

What is written here must be what signers wrote, byte for byte: botocore's are the oracle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote

from ondol.dialects.aws.service import ServiceError

SIGNED_HEADERS_MAX = 100
QUERY_FIELDS_MAX = 1000

Headers = Sequence[tuple[str, str]]

#: Nothing to encode and nothing to resolve.
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?|/", re.ASCII)
_UNRESERVED = "-_.~"
_NOT_NORMAL = "The path of a signed request may not have empty, '.' or '..' segments: send it as it was meant."


def incomplete(message: str) -> ServiceError:
    """What AWS answers to a claim that cannot be read."""
    return ServiceError("IncompleteSignatureException", message, status=400)


def by_name(headers: Headers) -> dict[str, str]:
    """Values by name, folded as signers fold them: runs of blanks are one, repeated headers are joined with a comma."""
    values: dict[str, str] = {}
    for name, value in headers:
        folded = " ".join(value.split()) if "  " in value or value[:1] in " \t" or value[-1:] in " \t" else value
        values[name] = f"{values[name]},{folded}" if name in values else folded
    return values


def head(method: str, path: str, query: str, signed: str, values: Mapping[str, str]) -> str:
    """The canonical request up to the payload's hash. `signed`: the names of the signed headers, as the request has them."""
    names = signed.split(";")
    if "host" not in names:
        message = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
        raise ServiceError("InvalidSignatureException", message, status=403)
    if len(names) > SIGNED_HEADERS_MAX:
        raise incomplete(f"At most {SIGNED_HEADERS_MAX} signed headers.")
    lines = "".join([f"{name}:{values.get(name, '')}\n" for name in names])
    return f"{method}\n{path}\n{query}\n{lines}\n{signed}\n"


def path_of(path: str, service: str) -> str:
    """The path as signers write it: encoded once more than on the wire (not for S3).

    Signers resolve "." and ".." first, so that one signature would hold for several paths that dispatch tells apart: such
    paths are refused.
    """
    if _PLAIN_PATH.fullmatch(path):
        return path
    if service == "s3":
        return quote(unquote(path), safe=f"/{_UNRESERVED}")
    if not set(path[1:].removesuffix("/").split("/")).isdisjoint(("", ".", "..")) and path != "/":
        raise ServiceError("InvalidSignatureException", _NOT_NORMAL, status=403)
    return quote(path, safe="/~")


def query_of(query: str, *, presigned: bool = False) -> str:
    """The query string, encoded anew and sorted; the signature itself is left out of a presigned one."""
    if not query:
        return ""
    pairs = query.split("&")
    if len(pairs) > QUERY_FIELDS_MAX:
        raise incomplete(f"At most {QUERY_FIELDS_MAX} query fields.")
    canonical = []
    for pair in pairs:
        name, _, value = pair.partition("=")
        if pair and not (presigned and name == "X-Amz-Signature"):
            canonical.append((_encoded(name), _encoded(value)))
    canonical.sort()
    return "&".join([f"{name}={value}" for name, value in canonical])


def _encoded(text: str) -> str:
    if text.isalnum() and text.isascii():
        return text
    return quote(unquote(text), safe=_UNRESERVED)
