"""Signatures, with botocore's unmodified signers as the other side."""

import hashlib
from datetime import UTC, datetime, timedelta
from unittest import mock
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ondol.dialects.aws import sigv4
from ondol.dialects.aws.service import ServiceError

pytestmark = pytest.mark.usefixtures("both_ways")

NOW_S = 1_700_000_000
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY = "AKIAIOSFODNN7EXAMPLE"


class Signed:
    """A request as it arrives."""

    def __init__(self, request):
        prepared = request.prepare()
        parts = urlsplit(prepared.url)
        self.method = prepared.method
        self.target = parts.path + (f"?{parts.query}" if parts.query else "")
        self.headers = [
            (name.lower(), value if isinstance(value, str) else value.decode("latin-1"))
            for name, value in prepared.headers.items()
        ]
        if not any(name == "host" for name, _ in self.headers):
            self.headers.append(("host", parts.netloc))
        body = prepared.body or b""
        self.body = body.encode() if isinstance(body, str) else bytes(body)

    def verify(self, *, secret=SECRET, now_s=NOW_S, body=None):
        index = dict(self.headers)
        claim = sigv4.read(self.method, self.target, self.headers, now_s, index)
        assert claim is not None
        assert claim == sigv4.read(self.method, self.target, self.headers, now_s)
        body = self.body if body is None else body
        try:
            claim.verify_body(secret, body)
        except ServiceError as error:
            with pytest.raises(ServiceError) as again:
                claim.verify(secret, hashlib.sha256(body).hexdigest())
            assert (again.value.code, str(again.value)) == (error.code, str(error))
            raise
        claim.verify(secret, hashlib.sha256(body).hexdigest())
        return claim


def signed(
    method="POST",
    url="http://127.0.0.1:7979/2015-03-31/functions/f/invocations",
    body=b"{}",
    headers=(),
    *,
    auth=botocore.auth.SigV4Auth,
    service="lambda",
    region="eu-west-1",
    token=None,
    at_s=NOW_S,
    **options,
):
    request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
    moment = datetime.fromtimestamp(at_s, UTC)
    with mock.patch(
        "botocore.auth.get_current_datetime",
        lambda remove_tzinfo=True: moment.replace(tzinfo=None) if remove_tzinfo else moment,
    ):
        auth(Credentials(KEY, SECRET, token), service, region, **options).add_auth(request)
    return Signed(request)


def refused(request, **how):
    with pytest.raises(ServiceError) as caught:
        request.verify(**how)
    return caught.value


segments = st.lists(
    st.text(min_size=1, max_size=12).map(lambda text: quote(text, safe="")).filter(lambda text: text not in (".", "..")),
    min_size=1,
    max_size=4,
)
plain = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=0, max_size=12)
fields = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=12)), max_size=5)
names = st.sampled_from(["x-amz-log-type", "x-amz-client-context", "x-other", "content-type", "accept-language"])
blanks = st.sampled_from(["a", "a b", "a  b", "  a\tb  ", "x,  y", '"q  q"'])
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE"])
FORMS = st.sampled_from([botocore.auth.SigV4Auth, botocore.auth.SigV4QueryAuth])


def target_of(path, query):
    text = "/" + "/".join(path)
    return text + (
        "?" + "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query) if query else ""
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    METHODS,
    segments,
    fields,
    st.dictionaries(names, blanks, max_size=3),
    st.binary(max_size=40),
    FORMS,
    st.none() | plain.filter(bool),
)
def test_whatever_botocore_signs_is_verified_and_a_changed_body_is_not(method, path, query, headers, body, form, token):
    if form is botocore.auth.SigV4QueryAuth:
        body = b""  # this signer turns bodies into query fields
    request = signed(method, "http://127.0.0.1:7979" + target_of(path, query), body, headers, auth=form, token=token)
    claim = request.verify()
    assert (claim.access_key_id, claim.region, claim.service, claim.token) == (KEY, "eu-west-1", "lambda", token or "")
    assert refused(request, body=body + b" ").code == "InvalidSignatureException"
    assert refused(request, secret=SECRET + "x").code == "InvalidSignatureException"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(METHODS, segments, fields, st.dictionaries(names, blanks, max_size=3), st.none() | plain.filter(bool))
def test_a_claim_is_the_same_in_whatever_order_its_header_makes_it(method, path, query, headers, token):
    """The usual order is read by a way of its own, the others by the one that knows everything that can be wrong."""
    request = signed(method, "http://127.0.0.1:7979" + target_of(path, query), b"{}", headers, token=token)
    usual = request.verify()
    algorithm, credential, names_signed, signature = dict(request.headers)["authorization"].split(" ")
    turned = f"{algorithm} {signature}, {names_signed} {credential.rstrip(',')}"
    request.headers = [(name, turned if name == "authorization" else value) for name, value in request.headers]
    assert request.verify() == usual


@pytest.mark.parametrize("form", [botocore.auth.SigV4Auth, botocore.auth.SigV4QueryAuth])
@pytest.mark.parametrize(
    "change",
    [
        lambda r: setattr(r, "method", "PUT"),
        lambda r: setattr(r, "target", r.target.replace("/f/", "/g/")),
        lambda r: setattr(r, "target", r.target + ("&" if "?" in r.target else "?") + "Qualifier=2"),
        lambda r: setattr(r, "headers", [(n, "elsewhere:1" if n == "host" else v) for n, v in r.headers]),
    ],
    ids=["method", "path", "query", "host"],
)
def test_nothing_that_was_signed_can_be_changed(form, change):
    request = signed(auth=form)
    request.verify()
    change(request)
    error = refused(request)
    assert error.status == 403
    assert error.message.startswith("The request signature we calculated does not match the signature you provided.")


def test_a_signature_holds_for_five_minutes_either_way():
    request = signed()
    request.verify(now_s=NOW_S + 300)
    request.verify(now_s=NOW_S - 300)
    late = refused(request, now_s=NOW_S + 301)
    assert (late.code, late.status) == ("InvalidSignatureException", 403)
    assert (
        late.message == "Signature expired: 20231114T221320Z is now earlier than 20231114T221321Z (20231114T221821Z - 5 min.)"
    )
    early = refused(request, now_s=NOW_S - 301)
    assert (
        early.message
        == "Signature not yet current: 20231114T221320Z is still later than 20231114T221319Z (20231114T220819Z + 5 min.)"
    )


def test_a_presigned_request_holds_until_it_expires():
    request = signed(
        "GET",
        "http://127.0.0.1:7979/?Action=GetCallerIdentity&Version=2011-06-15",
        b"",
        auth=botocore.auth.SigV4QueryAuth,
        service="sts",
        expires=900,
    )
    request.verify(now_s=NOW_S + 900)
    assert refused(request, now_s=NOW_S + 901).message.endswith("(20231114T222821Z - 15 min.)")


def test_a_presigned_request_may_leave_its_payload_unsigned():
    request = signed(auth=botocore.auth.S3SigV4QueryAuth, service="s3", body=b"")
    claim = sigv4.read(request.method, request.target + "&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", request.headers, NOW_S)
    assert claim.payload_hash == "UNSIGNED-PAYLOAD"


def test_streamed_payload_signatures_are_refused_in_words():
    request = signed()
    request.headers.append(("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"))
    error = refused(request)
    assert error.code == "NotImplemented"
    assert "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" in error.message


def test_an_unsigned_hash_header_cannot_free_the_body():
    request = signed()
    request.headers.append(("x-amz-content-sha256", "UNSIGNED-PAYLOAD"))
    request.verify()
    assert refused(request, body=b"[]").code == "InvalidSignatureException"


@pytest.mark.parametrize(
    "path",
    [
        "/2015-03-31/functions/g/../f/invocations",
        "/2015-03-31/functions//f/invocations",
        "//2015-03-31/functions/f/invocations",
        "/./2015-03-31/functions/f/invocations",
        "/..",
    ],
)
def test_a_signature_for_one_path_does_not_hold_for_another_that_resolves_to_it(path):
    request = signed()
    request.target = path
    assert refused(request).code == "InvalidSignatureException"


def test_the_host_has_to_be_signed():
    request = signed()
    request.headers = [
        (n, v.replace("SignedHeaders=host;", "SignedHeaders=") if n == "authorization" else v) for n, v in request.headers
    ]
    assert "'SignedHeader'" in refused(request).message


def test_a_request_without_a_claim_has_none():
    assert sigv4.read("GET", "/2015-03-31/functions", [("host", "x")], NOW_S) is None


@pytest.mark.parametrize(
    ("authorization", "text"),
    [
        (
            "AWS4-HMAC-SHA256 Credential=a/b",
            "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter.",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0",
            "Credential must have exactly 5 slash-delimited elements",
        ),
        ("Basic Zm9vOmJhcg==", "Unsupported AWS 'algorithm'"),
        (
            f"AWS4-HMAC-SHA256 Credential={KEY}/20231115/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0",
            "Date in Credential scope does not match YYYYMMDD",
        ),
        (
            f"AWS4-HMAC-SHA256 Credential={KEY}/20231114/../lambda/aws4_request, SignedHeaders=host, Signature=0",
            "Credential should be scoped to a valid region.",
        ),
    ],
)
def test_a_broken_claim_is_told_what_it_lacks(authorization, text):
    headers = [("host", "x"), ("x-amz-date", "20231114T221320Z"), ("authorization", authorization)]
    with pytest.raises(ServiceError) as caught:
        sigv4.read("GET", "/", headers, NOW_S)
    assert caught.value.message.startswith(text)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=30))
def test_garbage_raises_only_what_a_client_can_be_told(authorization, target, stamp):
    headers = [("host", "x"), ("x-amz-date", stamp), ("authorization", f"AWS4-HMAC-SHA256 {authorization}")]
    for given_headers in (headers, headers[:2]):
        try:
            claim = sigv4.read("GET", f"/?X-Amz-Signature=1&{target}", given_headers, NOW_S)
        except ServiceError:
            continue
        assert claim is not None


def test_the_clock_of_the_signer_need_not_be_in_utc_to_the_second():
    request = signed(at_s=NOW_S + timedelta(minutes=4).seconds)
    request.verify()
