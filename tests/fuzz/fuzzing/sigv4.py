"""Signatures: what botocore's own signer signs is verified as it stands, and as nothing else; any other claim is read or refused."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote, urlsplit

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ondol.dialects.aws import sigv4
from ondol.dialects.aws.service import ServiceError

from fuzzing.drawing import Draw

NOW_S = 1_700_000_000
MOMENT = datetime.fromtimestamp(NOW_S, UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY = "AKIAIOSFODNN7EXAMPLE"
_PARTS = (
    "a",
    "f",
    "functions",
    "2015-03-31",
    "A z",
    "온",
    "%",
    "+",
    "~",
    "$LATEST",
    ":",
    "a:b",
    "..",
    ".",
    "",
    "*",
    "\xe9",
    "'",
    "&=",
)
_NAMES = (
    "x-amz-log-type",
    "x-amz-client-context",
    "x-other",
    "content-type",
    "accept-language",
    "x-amz-content-sha256",
    "date",
)
_VALUES = ("", "a", "a b", "a  b", " a ", "a,b", "\ta", "UNSIGNED-PAYLOAD", "x" * 300, "=;,", '"q  q"')
_FORMS = (botocore.auth.SigV4Auth, botocore.auth.SigV4QueryAuth)

SEEDS = [bytes(range(n, n + 120)) for n in range(0, 120, 20)] + [
    b"\xff"
    + b"AWS4-HMAC-SHA256 Credential=A/20231114/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature="
    + b"0" * 64,
    b"\xff"
    + b"AWS4-HMAC-SHA256 Signature="
    + b"0" * 64
    + b",SignedHeaders=host,Credential=A/20231114/us-east-1/lambda/aws4_request",
    b"\xfe"
    + b"/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20231114%2Fus-east-1%2Flambda%2Faws4_request&X-Amz-Date="
    b"20231114T221320Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00",
]
TOKENS = [
    b"Credential=",
    b"SignedHeaders=",
    b"Signature=",
    b"host",
    b";",
    b"/",
    b"%2F",
    b"%",
    b"&",
    b"=",
    b",",
    b" ",
    b"X-Amz-Date=",
    b"UNSIGNED",
]


def signed(draw):
    """A request as it arrives: (method, target, headers, body)."""
    form = draw.choice(_FORMS)
    method = draw.choice(("GET", "POST", "PUT", "DELETE"))
    path = "/" + "/".join(quote(part, safe="") for part in draw.choices(_PARTS, k=draw.randint(0, 4)))
    pairs = [(draw.choice(_PARTS), draw.choice(_PARTS)) for _ in range(draw.randint(0, 4))]
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs if name)
    body = b"" if form is botocore.auth.SigV4QueryAuth else draw.randbytes(draw.choice((0, 0, 3)))
    headers = {name: draw.choice(_VALUES) for name in draw.choices(_NAMES[:5], k=draw.randint(0, 3))}
    request = AWSRequest(
        method=method, url=f"http://127.0.0.1:7979{path}" + (f"?{query}" if query else ""), data=body, headers=headers
    )
    with mock.patch(
        "botocore.auth.get_current_datetime",
        lambda remove_tzinfo=True: MOMENT.replace(tzinfo=None) if remove_tzinfo else MOMENT,
    ):
        form(Credentials(KEY, SECRET, draw.choice((None, "token+/="))), "lambda", "eu-west-1").add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    sent = [
        (name.lower(), value if isinstance(value, str) else value.decode("latin-1")) for name, value in prepared.headers.items()
    ]
    # A server sees values without the blanks around them.
    sent = [(name, value.strip(" \t")) for name, value in sent]
    return method, target, [*sent, ("host", parts.netloc)], bytes(prepared.body or b"")


def holds(method, target, headers, body, secret=SECRET):
    """Whether the claim is verified. Anything but a ServiceError is a bug."""
    try:
        claim = sigv4.read(method, target, headers, NOW_S)
        if claim is None:
            return False
        claim.verify(secret, hashlib.sha256(body).hexdigest())
    except ServiceError as error:
        assert 400 <= error.status < 600
        return False
    return True


def one(data):
    """The first byte chooses between a signed request, and any text as a header or a target."""
    if data[:1] in (b"\xff", b"\xfe"):
        _any(data[1:].decode("latin-1"), header=data[:1] == b"\xff")
        return
    draw = Draw(data[1:])
    method, target, headers, body = signed(draw)
    plain = (
        not {"", ".", ".."} & set(target.partition("?")[0][1:].removesuffix("/").split("/")) or target.partition("?")[0] == "/"
    )
    assert holds(method, target, headers, body) or not plain, (method, target, headers)
    assert not holds(method, target, headers, body, secret=SECRET + "x")
    _changed(draw, method, target, headers, body)


def _changed(draw, method, target, headers, body):
    """One thing that a signature covers is not as it was: it holds no more."""
    kind = draw.randint(0, 3)
    signed_names = (
        next((value for name, value in headers if name == "authorization"), "").partition("SignedHeaders=")[2].partition(",")[0]
    )
    if kind == 0:
        method = "PATCH"
    elif kind == 1:
        path, mark, query = target.partition("?")
        target = f"{path}x{mark}{query}"
    elif kind == 2:
        path, mark, query = target.partition("?")
        target = f"{path}?{query}{'&' if mark else ''}added=1"
    else:
        names = [name for name in signed_names.split(";") if name not in ("", "x-amz-date")]
        if not names:
            return
        changed = draw.choice(names)
        headers = [(name, value + "x" if name == changed else value) for name, value in headers]
    assert not holds(method, target, headers, body), (kind, method, target, headers)


def _any(text, *, header):
    text = text.replace("\r", "").replace("\n", "")
    if header:
        headers = [("authorization", text), ("host", "a"), ("x-amz-date", "20231114T221320Z")]
        assert not holds("GET", "/", headers, b"")
        sigv4.region_of("/", headers)
        assert not holds("GET", "/", [("authorization", "AWS4-HMAC-SHA256 " + text), ("date", text), ("host", text)], b"")
    else:
        assert not holds("GET", text, [("host", "a")], b"")
        sigv4.region_of(text, [])
