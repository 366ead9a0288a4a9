"""The dialect as a whole: who answers what, who is let in, and what clients read when something is wrong."""

import http.client
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ondol.clock import SystemClock
from ondol.dialects.aws import codec
from ondol.dialects.aws.dialect import LAMBDA_PATHS, ROUTES, new_request_id
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import model
from ondol.dialects.aws.sts import Sts
from ondol.http.table import overlaps
from ondol.model import errors
from ondol.model.principals import Kind, Principal
from ondol.testing.aws import ACCOUNT, KEY, REGION, AwsApplication, EchoInvoker, index_with, serving


class Functions:
    """A handler that remembers and does as told."""

    def __init__(self):
        self.seen = []
        self.raised = None

    async def answer(self, context, params):
        self.seen.append((context, params, threading.current_thread().name))
        if self.raised is not None:
            raise self.raised
        return {"FunctionName": params.get("FunctionName", "f")}

    async def nothing(self, context, params):
        await self.answer(context, params)
        return {}


@pytest.fixture
def functions():
    return Functions()


@pytest.fixture
def application(functions):
    operations = {
        "CreateFunction": functions.answer,
        "GetFunctionConfiguration": functions.answer,
        "DeleteFunction": functions.nothing,
        "TagResource": functions.nothing,
    }
    index = index_with("hello")
    application = AwsApplication(services={"lambda": operations}, invoker=EchoInvoker(), index=index)
    application.serve("sts", Sts(index, application.grants, application.credentials, SystemClock()).operations)
    return application


@pytest.fixture
def url(application):
    with serving(application) as url:
        yield url


@pytest.fixture
def lambda_(url):
    return client(url)


def client(url, service="lambda", **options):
    options = {"aws_access_key_id": KEY.id, "aws_secret_access_key": KEY.secret, "region_name": REGION} | options
    return boto3.client(service, endpoint_url=url, config=Config(retries={"total_max_attempts": 1}), **options)


def refused(call, **params):
    with pytest.raises(ClientError) as caught:
        call(**params)
    return caught.value.response


def raw(url, method, path, body=b"", headers=()):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_no_two_routes_overlap():
    assert overlaps(ROUTES) == []


def test_every_path_of_lambda_has_a_route():
    assert {"/" + each.uri.split("/")[1] for each in model("lambda").operations.values()} <= set(LAMBDA_PATHS)


def test_a_handler_is_told_who_asks_and_how_we_were_reached(lambda_, functions, url):
    assert lambda_.get_function_configuration(FunctionName="hello")["FunctionName"] == "hello"
    context, params, _ = functions.seen[0]
    assert params == {"FunctionName": "hello"}
    assert (context.account, context.region, context.endpoint) == (ACCOUNT, REGION, url)
    assert context.principal == Principal(kind=Kind.OWNER, account=ACCOUNT, region=REGION, name=KEY.id)


def test_deleting_and_tagging_answer_204_with_nothing(lambda_):
    assert lambda_.delete_function(FunctionName="hello")["ResponseMetadata"]["HTTPStatusCode"] == 204
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:hello"
    assert lambda_.tag_resource(Resource=arn, Tags={"a": "b"})["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_large_upload_arrives_whole(lambda_, functions):
    archive = os.urandom(3 * 1024 * 1024)
    answer = lambda_.create_function(
        FunctionName="big",
        Role=f"arn:aws:iam::{ACCOUNT}:role/r",
        Code={"ZipFile": archive},
        Handler="a.b",
        Runtime="python3.11",
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert functions.seen[0][1]["Code"]["ZipFile"] == archive


def test_a_large_upload_with_a_wrong_secret_never_reaches_the_handler(url, functions):
    stranger = client(url, aws_secret_access_key="wrong")
    answer = refused(
        stranger.create_function,
        FunctionName="big",
        Role=f"arn:aws:iam::{ACCOUNT}:role/r",
        Code={"ZipFile": bytes(2 * 1024 * 1024)},
        Handler="a.b",
        Runtime="python3.11",
    )
    assert answer["Error"]["Code"] == "InvalidSignatureException"
    assert functions.seen == []


def test_an_upload_over_the_limit_is_refused_before_it_is_read(url):
    headers = {"Content-Length": str(70_167_212)}
    status, headers, body = raw(
        url, "POST", "/2015-03-31/functions", b"", headers | signed_head(url, "POST", "/2015-03-31/functions")
    )
    assert status == 413
    assert body == b'{"message":"Request must be smaller than 70167211 bytes for the CreateFunction operation"}'


def signed_head(url, method, path):
    import botocore.auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method=method, url=url + path, data=b"")
    botocore.auth.SigV4Auth(Credentials(KEY.id, KEY.secret), "lambda", REGION).add_auth(request)
    return dict(request.headers)


def test_what_is_not_built_is_a_501_that_names_it(lambda_):
    answer = refused(lambda_.list_layers)
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("NotImplemented", 501)
    assert "ListLayers" in answer["Error"]["Message"]


def test_invalid_parameters_are_found_before_what_is_not_built(lambda_):
    assert refused(lambda_.list_layers, CompatibleArchitecture="vax")["Error"]["Code"] == "ValidationException"


def test_nobody_gets_in_without_a_signature(url, functions):
    for method, path in (
        ("GET", "/2015-03-31/functions"),
        ("DELETE", "/2015-03-31/functions/hello"),
        ("GET", "/2025-12-01/nonsense"),
    ):
        status, headers, body = raw(url, method, path)
        assert (status, body) == (403, b'{"message":"Missing Authentication Token"}')
        assert headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
        assert headers["Content-Type"] == "application/json"
        assert len(headers["x-amzn-RequestId"]) == 36
    assert functions.seen == []


def test_a_signature_for_another_service_opens_nothing(url):
    path = "/2015-03-31/functions/hello/configuration"
    import botocore.auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method="GET", url=url + path, data=b"")
    botocore.auth.SigV4Auth(Credentials(KEY.id, KEY.secret), "sts", REGION).add_auth(request)
    status, _, body = raw(url, "GET", path, b"", dict(request.headers))
    assert status == 403
    assert b"Credential should be scoped to correct service: 'lambda'" in body


def test_a_function_may_call_nothing_of_the_control_plane_but_ask_who_it_is(url, application, functions):
    who = Principal(kind=Kind.FUNCTION, account=ACCOUNT, region=REGION, name="olleh", role="r")
    minted = application.credentials.mint(who, now_s=1e9, lifetime_s=9e9)
    session = {
        "aws_access_key_id": minted.access_key_id,
        "aws_secret_access_key": minted.secret,
        "aws_session_token": minted.session_token,
    }
    answer = refused(client(url, **session).delete_function, FunctionName="hello")
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("AccessDeniedException", 403)
    assert "lambda:DeleteFunction" in answer["Error"]["Message"]
    assert functions.seen == []
    assert client(url, "sts", **session).get_caller_identity()["Account"] == ACCOUNT


@pytest.mark.parametrize(
    ("raised", "code", "status"),
    [
        (
            ServiceError("ResourceConflictException", "Function already exist: f", extra={"Type": "User"}),
            "ResourceConflictException",
            409,
        ),
        (ServiceError("CodeStorageExceededException", "full"), "CodeStorageExceededException", 400),
        (errors.NotFound("function", "f"), "ResourceNotFoundException", 404),
        (errors.Busy("An update is in progress"), "ResourceConflictException", 409),
        (errors.Denied("no"), "AccessDeniedException", 403),
        (RuntimeError("secret"), "ServiceException", 500),
        (KeyError("secret"), "ServiceException", 500),
    ],
)
def test_what_a_handler_raises_is_what_the_client_reads(lambda_, functions, raised, code, status):
    functions.raised = raised
    answer = refused(lambda_.get_function_configuration, FunctionName="hello")
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    assert "secret" not in answer["Error"]["Message"]


def test_a_result_that_the_shape_does_not_have_is_our_mistake(lambda_, functions, monkeypatch, caplog):
    async def wrong(context, params):
        return {"Nmae": "f"}

    functions.answer = None
    call = codec.Call("lambda", "rest-json", "GetFunctionConfiguration", {})
    with pytest.raises(TypeError, match="has no member Nmae"):
        codec.encode(call, {"Nmae": "f"}, "r-1")


def test_the_aws_command_line_works_unmodified(url, functions, tmp_path):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY.id,
        "AWS_SECRET_ACCESS_KEY": KEY.secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_PAGER": "",
    }
    aws = Path(sys.executable).parent / "aws"
    out = tmp_path / "out.json"
    command = ["lambda", "invoke", "--function-name", "hello", "--payload", '{"a": 1}', str(out)]
    done = subprocess.run(
        [sys.executable, aws, *command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"StatusCode": 200' in done.stdout
    assert out.read_text() == '{"a": 1}'


def test_decoding_can_move_to_another_process():
    body = b'{"Code": {"ZipFile": "UEs="}, "FunctionName": "f", "Role": "arn:aws:iam::123456789012:role/r"}'
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        call = pool.submit(codec.decode, "lambda", "POST", "/2015-03-31/functions", [], body).result()
        assert call.params["Code"] == {"ZipFile": b"PK"}
        with pytest.raises(ServiceError) as caught:
            pool.submit(codec.decode, "lambda", "POST", "/2015-03-31/functions", [], b"{}").result()
    assert caught.value.code == "ValidationException"


def test_errors_survive_the_way_between_processes():
    error = ServiceError("C", "m", status=418, extra={"Type": "User"}, message_key="Message", headers=(("a", "b"),))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code, copy.message, copy.status, copy.extra, copy.message_key, copy.headers) == (
        "C", "m", 418, {"Type": "User"}, "Message", (("a", "b"),),
    )  # fmt: skip


def test_request_ids_are_random_uuids():
    import uuid

    made = {new_request_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(uuid.UUID(each).version == 4 and uuid.UUID(each).variant == uuid.RFC_4122 for each in made)


def test_serving_needs_no_code_of_botocore():
    script = "import sys, ondol.dialects.aws.dialect, ondol.dialects.aws.logs, ondol.dialects.aws.sts; print('botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
