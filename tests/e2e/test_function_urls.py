"""Function URLs on a whole node."""

from __future__ import annotations

import json

import pytest
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SAYING = """
import json
def handler(event, context):
    if event["rawPath"] == "/fail":
        raise ValueError("as told")
    if event["rawPath"] == "/plain":
        return {"hello": "world"}
    told = {"method": event["requestContext"]["http"]["method"], "body": event.get("body"), "query": event.get("rawQueryString"),
            "who": event["requestContext"]["accountId"], "arn": context.invoked_function_arn}
    return {"statusCode": 201, "headers": {"x-mine": "1"}, "cookies": ["a=1"], "body": json.dumps(told)}
"""


def fetch(node, url, method="GET", path="", body=b"", headers=None, key=None):
    """Asks the node itself: not every resolver knows names below localhost."""
    headers = {"host": url.split("/")[2], **(headers or {})}
    if key:
        sent = AWSRequest(method, url + path, data=body, headers=headers)
        SigV4Auth(key, "lambda", "us-east-1").add_auth(sent)
        headers = dict(sent.headers.items())
    return urllib3.PoolManager().request(method, f"{node.endpoint}/{path}", body=body, headers=headers, retries=False)


def test_anybody_asks_a_function_over_http(node, aws, deploy):
    function = deploy(SAYING)
    url = aws.create_function_url_config(FunctionName=function, AuthType="NONE", Cors={"AllowOrigins": ["https://a.example"]})[
        "FunctionUrl"
    ]
    assert fetch(node, url).status == 403
    aws.add_permission(
        FunctionName=function,
        StatementId="public",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    answer = fetch(node, url, "POST", "x/y?a=1", b"hello", {"content-type": "text/plain", "origin": "https://a.example"})
    assert (answer.status, answer.headers["x-mine"], answer.headers["set-cookie"]) == (201, "1", "a=1")
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    told = json.loads(answer.data)
    arn = aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    assert told == {"method": "POST", "body": "hello", "query": "a=1", "who": "anonymous", "arn": arn}
    plain = fetch(node, url, path="plain")
    assert (plain.status, plain.headers["content-type"], plain.data) == (200, "application/json", b'{"hello":"world"}')
    assert (fetch(node, url, path="fail").status, fetch(node, url, path="fail").data) == (502, b"Internal Server Error")
    url_id = url.split("/")[2].split(".")[0]
    assert fetch(node, f"{node.endpoint}/", path=f"lambda-url/{url_id}/plain").data == b'{"hello":"world"}'
    aws.delete_function_url_config(FunctionName=function)
    assert fetch(node, url).status == 404


def test_a_signed_request_with_iam(node, aws, deploy):
    function = deploy(SAYING)
    url = aws.create_function_url_config(FunctionName=function, AuthType="AWS_IAM")["FunctionUrl"]
    key = aws._request_signer._credentials.get_frozen_credentials()
    signer = Credentials(key.access_key, key.secret_key)
    assert fetch(node, url).status == 403
    told = json.loads(fetch(node, url, "PUT", "z", b"{}", {"content-type": "application/json"}, signer).data)
    assert (told["method"], told["body"]) == ("PUT", "{}")
    assert told["who"] == node.client("sts").get_caller_identity()["Account"]
