"""What is secret is compared in constant time, and as a whole: a guess that is nearly right is refused by the same comparison."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Keys

from ondol.clock import SystemClock
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.gate import Gate
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.native.downloads import Downloads, LinkQuery
from ondol.http.messages import Request
from ondol.model.errors import Denied
from ondol.model.functions import Code
from ondol.model.principals import AccessKey, Kind, Principal

KEY = AccessKey(id="AKIDEXAMPLE", secret="s" * 40, account="000000000000", created_s=0.0)


@pytest.fixture
def compared(monkeypatch):
    """Pairs that were compared in constant time."""
    seen, real = [], hmac.compare_digest

    def compare(one, other):
        seen.append((bytes(one, "utf-8") if isinstance(one, str) else bytes(one), bytes(other)))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    return seen


def verifier():
    keys = {KEY.id: KEY}.get
    return Verifier(keys=keys, credentials=Credentials(bytes(32)), clock=SystemClock(), account=KEY.account, region="us-east-1")


def asked(**headers):
    return Request("GET", "/x", [(name.replace("_", "-"), value) for name, value in headers.items()], None)


@pytest.mark.parametrize("guess", ["x" * 40, "s" * 39 + "x", "s" * 39, "", "s" * 41])
def test_a_bearer_key(compared, guess):
    gate = Gate(verifier(), "ondol", SystemClock())
    with pytest.raises(Denied):
        gate.principal(asked(x_ondol_key=f"{KEY.id}:{guess}"), None)
    assert compared == [(guess.encode(), KEY.secret.encode())]


def test_a_key_that_is_not_there_costs_a_comparison_too(compared):
    with pytest.raises(Denied):
        Gate(verifier(), "ondol", SystemClock()).principal(asked(x_ondol_key="AKIDNOBODY:guess"), None)
    assert len(compared) == 1


@pytest.mark.parametrize("change", ["first", "last", "short"])
def test_a_signature(compared, change):
    request = AWSRequest("GET", "http://localhost/x")
    SigV4Auth(Keys(KEY.id, KEY.secret), "ondol", "us-east-1").add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    right = headers["authorization"][-64:]
    flipped = {"0": "1"}
    wrong = {
        "first": flipped.get(right[0], "0") + right[1:],
        "last": right[:-1] + flipped.get(right[-1], "0"),
        "short": right[:-1],
    }[change]
    headers["authorization"] = headers["authorization"][:-64] + wrong
    claimed = verifier().claim(Request("GET", "/x", [("host", "localhost"), *headers.items()], None), "ondol")
    with pytest.raises(ServiceError):
        claimed.verify(hashlib.sha256(b"").hexdigest())
    assert compared == [(right.encode(), wrong.encode())]


def test_a_session_token(compared):
    minting = Credentials(bytes(32))
    who = Principal(kind=Kind.FUNCTION, account=KEY.account, region="us-east-1", name="f")
    session = minting.mint(who, now_s=time.time())
    sealed = base64.b64decode(session.session_token)
    forged = base64.b64encode(sealed[:-1] + bytes([sealed[-1] ^ 1])).decode()
    assert minting.lookup(session.access_key_id, forged, now_s=time.time()) is None
    assert [(len(one), len(other)) for one, other in compared] == [(32, 32)]


def test_a_download_link(compared, tmp_path):
    downloads = Downloads(b"x" * 32, lambda sha256: tmp_path / sha256, SystemClock())
    link = downloads.link(Code(sha256="a" * 64, zipped_bytes=1, unpacked_bytes=1), "")
    expires, signature = link.partition("expires=")[2].split("&signature=")
    wrong = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    with pytest.raises(Denied):
        asyncio.run(downloads.linked("a" * 64 + ".zip", LinkQuery(expires=expires, signature=wrong)))
    assert compared == [(wrong.encode(), signature.encode())]
