"""Being somebody else: a function's own token, forged and stolen keys, the variables of the node."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_only_its_own_variables_are_there(node, inside):
    found = inside("out = dict(os.environ)")
    assert found["OWN"] == "value-of-a-variable"
    assert node.credentials["AWS_ACCESS_KEY_ID"] not in json.dumps(found)
    assert node.credentials["AWS_SECRET_ACCESS_KEY"] not in json.dumps(found)


def test_a_functions_own_token_may_ask_who_it_is_and_nothing_else(function, inside):
    found = inside(
        """
import boto3, botocore.exceptions
from botocore.config import Config
config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10)
def made(service, operation, **arguments):
    try:
        return str(getattr(boto3.client(service, config=config), operation)(**arguments).get("Arn", "done"))
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
arn = "arn:aws:lambda:us-east-1:000000000000:function:" + name
out = [made("sts", "get_caller_identity"),
    made("lambda", "list_functions"), made("lambda", "get_function", FunctionName=name),
    made("lambda", "invoke", FunctionName=name), made("lambda", "invoke", FunctionName=name, InvocationType="Event"),
    made("lambda", "invoke", FunctionName=name, InvocationType="DryRun"), made("lambda", "delete_function", FunctionName=name),
    made("lambda", "update_function_configuration", FunctionName=name, Timeout=9), made("lambda", "get_account_settings"),
    made("lambda", "list_tags", Resource=arn), made("logs", "describe_log_groups"),
    made("logs", "filter_log_events", logGroupName="/aws/lambda/" + name)]
""",
        name=function,
    )
    assert found[0].startswith("arn:aws:sts::000000000000:assumed-role/")
    assert set(found[1:]) == {"AccessDeniedException"}, found


def test_the_node_answers_no_stranger_inside(inside):
    found = inside(
        """
import http.client
host = os.environ["AWS_ENDPOINT_URL"].partition("//")[2]
id, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
def status(method, path, **headers):
    connection = http.client.HTTPConnection(host, timeout=5)
    connection.request(method, path, body=b"{}" if method != "GET" else None, headers=headers)
    return connection.getresponse().status
paths = [("GET", "/2015-03-31/functions"), ("POST", "/2015-03-31/functions/x/invocations"), ("GET", "/ondol/v1/functions"),
    ("PUT", "/ondol/v1/functions/x"), ("DELETE", "/ondol/v1/functions/x"), ("GET", "/fn/x"),
    ("GET", "/ondol/v1/code/" + "a" * 64 + ".zip?expires=99999999999&signature=" + "0" * 64)]
keys = [{}, {"authorization": f"Bearer {id}:{secret}"}, {"x-ondol-key": f"{id}:{secret}"}, {"x-ondol-key": ":"},
    {"authorization": "Bearer :"}, {"x-ondol-peer": "127.0.0.1:1"}, {"authorization": "AWS4-HMAC-SHA256 Credential=a"}]
out = [[method, path, list(key), status(method, path, **key)] for method, path in paths for key in keys]
"""
    )
    api = [each for each in found if each[1].startswith("/2015-03-31/")]
    assert {each[3] for each in api} <= {400, 401, 403}, api
    others = [each for each in found if each not in api]
    assert {each[3] for each in others} == {404}, [
        each for each in others if each[3] != 404
    ]  # none of it is there for functions


def test_no_key_of_the_node_reaches_a_web_function(node, raw):
    """However its client writes it."""
    app = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [repr(environ).encode()]\n"
    node.put_web("echoing", {"app.py": app}, "app:app")
    secret = node.credentials["AWS_SECRET_ACCESS_KEY"]
    host = node.endpoint.partition("//")[2]
    for lines in (
        "Bearer {}",
        "bearer {}",
        "BEARER {}",
        "Bearer  {} ",
        "bearer {}\r\nx-ondol-key:",
        "Bearer {}\r\nx-ondol-key: {}",
    ):
        fields = "authorization: " + lines.replace("{}", node.key)
        came = raw(f"GET /fn/echoing HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{fields}\r\n\r\n".encode())
        assert came.startswith(b"HTTP/1.1 200"), came
        assert secret not in came.decode(), lines
    assert secret not in node.http("GET", "/fn/echoing").data.decode()


def test_a_signed_call_of_a_web_function_covers_its_body(node):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    app = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [environ['wsgi.input'].read()]\n"
    node.put_web("returning", {"app.py": app}, "app:app")
    keys = Credentials(node.credentials["AWS_ACCESS_KEY_ID"], node.credentials["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest("POST", node.endpoint + "/fn/returning", data=b"signed")
    SigV4Auth(keys, "ondol", "us-east-1").add_auth(request)
    headers = {"x-ondol-key": "", **dict(request.headers.items())}
    assert node.http("POST", "/fn/returning", b"signed", headers).data == b"signed"
    assert node.http("POST", "/fn/returning", b"forged", headers).status == 403
