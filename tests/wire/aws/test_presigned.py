"""Presigned addresses of Lambda's, made by botocore's own presigner: whoever has one may do that one thing until it expires."""

import http.client
import json
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from ondol.model.principals import Kind, Principal
from ondol.testing.aws import ACCOUNT, KEY, REGION, AwsApplication, EchoInvoker, index_with, serving

WHO = Principal(kind=Kind.SESSION, account=ACCOUNT, region=REGION, name="me", role=f"arn:aws:iam::{ACCOUNT}:role/r")


@pytest.fixture
def application():
    async def shown(_context, params):
        return {"FunctionName": params["FunctionName"]}

    async def untagged(_context, params):
        assert params == {"Resource": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:hello", "TagKeys": ["a"]}
        return {}

    operations = {"GetFunctionConfiguration": shown, "UntagResource": untagged}
    return AwsApplication(services={"lambda": operations}, invoker=EchoInvoker(), index=index_with("hello"))


@pytest.fixture
def url(application):
    with serving(application) as url:
        yield url


def client(url, key=KEY.id, secret=KEY.secret, token=None):
    return boto3.client(
        "lambda", endpoint_url=url, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret,
        aws_session_token=token, config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def fetched(address, body=b"", method="POST", **headers):
    """(status, headers, body) as somebody gets them who knows the address alone."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def presigned(url, holder, path, expires=60, age_s=0):
    """An address that the presigner made a while ago."""
    request = AWSRequest(method="POST", url=url + path, data=b"")
    made = datetime.now(UTC) - timedelta(seconds=age_s)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: made)
        botocore.auth.SigV4QueryAuth(holder, "lambda", REGION, expires).add_auth(request)
    return request.url


OWNER = Credentials(KEY.id, KEY.secret)
INVOKE = "/2015-03-31/functions/hello/invocations"


def test_a_call_that_boto3_presigned_is_made_by_whoever_has_the_address(url, application):
    address = client(url).generate_presigned_url(
        "invoke", Params={"FunctionName": "hello", "Qualifier": "$LATEST"}, ExpiresIn=60
    )
    status, headers, body = fetched(address)
    assert (status, body) == (200, b"{}")
    assert headers["X-Amz-Executed-Version"] == "$LATEST"
    seen = application.front._invoke._invoker.seen[0]
    assert (seen.principal.kind, seen.principal.account) == (Kind.OWNER, ACCOUNT)


def test_its_payload_cannot_be_another_one(url, application):
    """botocore presigns calls without a payload only: what it is given as one, it writes into the query."""
    address = client(url).generate_presigned_url("invoke", Params={"FunctionName": "hello"}, ExpiresIn=60)
    status, headers, _ = fetched(address, b"2")
    assert (status, headers["x-amzn-ErrorType"]) == (403, "InvalidSignatureException")
    assert application.front._invoke._invoker.seen == []


def test_nor_can_its_function_qualifier_or_kind(url, application):
    address = client(url).generate_presigned_url(
        "invoke", Params={"FunctionName": "hello", "InvocationType": "DryRun"}, ExpiresIn=60
    )
    assert fetched(address, b"", **{"X-Amz-Invocation-Type": "DryRun"})[0] == 204
    for changed, kind in (
        (address, "Event"),
        (address.replace("/hello/", "/other/"), "DryRun"),
        (f"{address}&Qualifier=1", "DryRun"),
        (address.replace("X-Amz-Expires=60", "X-Amz-Expires=600"), "DryRun"),
    ):
        assert fetched(changed, b"", **{"X-Amz-Invocation-Type": kind})[0] == 403
    assert application.front._invoke._invoker.deferred == []


def test_what_looks_can_be_presigned_too(url):
    address = client(url).generate_presigned_url(
        "get_function_configuration", Params={"FunctionName": "hello"}, ExpiresIn=60, HttpMethod="GET"
    )
    with urllib.request.urlopen(address, timeout=10) as response:
        assert json.load(response)["FunctionName"] == "hello"


def test_parameters_of_the_signature_are_none_of_the_operations(url):
    """UntagResource takes a list from the query string."""
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:hello"
    address = client(url).generate_presigned_url(
        "untag_resource", Params={"Resource": arn, "TagKeys": ["a"]}, ExpiresIn=60, HttpMethod="DELETE"
    )
    assert fetched(address, method="DELETE")[0] == 204


def test_an_address_dies_when_it_expires(url):
    assert fetched(presigned(url, OWNER, INVOKE, expires=900, age_s=600))[0] == 200
    status, headers, body = fetched(presigned(url, OWNER, INVOKE, expires=60, age_s=120))
    assert (status, headers["x-amzn-ErrorType"]) == (403, "InvalidSignatureException")
    assert b"Signature expired" in body


@pytest.mark.parametrize("expires", [0, -1, 604_801, "soon"])
def test_an_address_lives_for_a_week_at_most(url, expires):
    status, _, body = fetched(presigned(url, OWNER, INVOKE, expires=expires))
    assert status in (400, 403)
    assert b"X-Amz-Expires must be a number of seconds from 1 to 604800" in body


def test_a_sessions_address_carries_its_token_and_ends_with_the_session(url, application):
    minted = application.credentials.mint(WHO, now_s=time.time(), lifetime_s=900)
    address = client(url, minted.access_key_id, minted.secret, minted.session_token).generate_presigned_url(
        "invoke", Params={"FunctionName": "hello"}, ExpiresIn=600
    )
    assert "X-Amz-Security-Token=" in address
    assert fetched(address, b"")[0] == 200
    over = application.credentials.mint(WHO, now_s=time.time() - 1000, lifetime_s=900)
    holder = Credentials(over.access_key_id, over.secret, over.session_token)
    status, headers, _ = fetched(presigned(url, holder, INVOKE))
    assert (status, headers["x-amzn-ErrorType"]) == (403, "ExpiredTokenException")


def test_an_address_for_another_service_is_none_of_lambdas(url):
    request = AWSRequest(method="POST", url=url + INVOKE, data=b"")
    botocore.auth.SigV4QueryAuth(OWNER, "sts", REGION, 60).add_auth(request)
    status, _, body = fetched(request.url)
    assert status == 403
    assert b"Credential should be scoped to correct service: 'lambda'" in body
