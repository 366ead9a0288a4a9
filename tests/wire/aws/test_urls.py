"""Function URLs: their configurations with boto3, and what requests to them are answered."""

import json

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Signer

from ondol.clock import SystemClock
from ondol.core.catalog import put
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.urls import Registry, Urls
from ondol.http.bodies import Whole
from ondol.http.messages import Request
from ondol.model.errors import Throttled
from ondol.model.invocations import Status
from ondol.model.principals import AccessKey, Kind
from ondol.testing.aws import EchoInvoker
from ondol.testing.boto import ACCOUNT, REGION, blocking, error
from ondol.testing.control import ARN
from ondol.testing.control import control as control_over

KEY = AccessKey(id="AKIAONDOLTESTS000000", secret="not/a+secret", account=ACCOUNT, created_s=0.0)  # noqa: S106  a test's
OTHERS = AccessKey(id="AKIAOTHERS0000000000", secret="other", account="999999999999", created_s=0.0)  # noqa: S106
URL_ACTION = {"FunctionName": "hello", "Action": "lambda:InvokeFunctionUrl"}
FORBIDDEN = (
    '{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: '
    'https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}'
)


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        await made.create()
        await made.desk.store.commit([put(KEY), put(OTHERS)])
        yield made


@pytest.fixture
async def client(control):
    return control.client()


@pytest.fixture
def invoker():
    return EchoInvoker()


@pytest.fixture
async def urls(control, invoker):
    return serving(control, invoker)


def serving(control, invoker, **more):
    index, registry = control.desk.index, Registry()
    for function in index.functions():
        registry.follow(f"function/{function.account}/{function.region}/{function.id}", function)
    index.listeners.append(registry.follow)
    verifier = Verifier(
        keys=index.key, credentials=control.credentials, clock=SystemClock(), account=ACCOUNT, region=REGION, **more
    )
    return Urls(
        registry=registry, index=index, verifier=verifier, grants=control.access.grants, invoke=invoker.invoke,
        clock=SystemClock(),
    )  # fmt: skip


def asking(url, method="GET", path="", headers=(), body=b"", key=None):
    host = url.split("/")[2]
    sent = AWSRequest(method, url + path.lstrip("/"), data=body, headers={"host": host})
    if key:
        SigV4Auth(Signer(key.id, key.secret), "lambda", REGION).add_auth(sent)
    named = [(name.lower(), value) for name, value in sent.headers.items()]
    return Request(method, "/" + path.lstrip("/"), [*named, *headers], Whole(body), "127.0.0.1:5")


async def created(client, auth="NONE", *, public=True, **more):
    made = await blocking(client.create_function_url_config, FunctionName="hello", AuthType=auth, **more)
    if auth == "NONE" and public:
        await blocking(client.add_permission, **URL_ACTION, StatementId="public", Principal="*", FunctionUrlAuthType="NONE")
    return made["FunctionUrl"]


# Configurations ---------------------------------------------------------------------------------------------------------------
async def test_a_url_is_made_shown_changed_listed_and_deleted(client):
    made = await blocking(
        client.create_function_url_config, FunctionName="hello", AuthType="NONE", Cors={"AllowOrigins": ["*"]}
    )
    url = made["FunctionUrl"]
    assert url.endswith(f".lambda-url.{REGION}.localhost:7979/")
    assert len(url.split("/")[2].split(".")[0]) == 32
    assert (made["FunctionArn"], made["AuthType"], made["InvokeMode"]) == (f"{ARN}hello", "NONE", "BUFFERED")
    assert made["Cors"] == {"AllowOrigins": ["*"]}
    shown = await blocking(client.get_function_url_config, FunctionName="hello")
    assert shown["FunctionUrl"] == url and shown["LastModifiedTime"] == shown["CreationTime"]
    changed = await blocking(
        client.update_function_url_config, FunctionName="hello", AuthType="AWS_IAM", Cors={}, InvokeMode="RESPONSE_STREAM"
    )
    assert (changed["FunctionUrl"], changed["AuthType"], changed["InvokeMode"]) == (url, "AWS_IAM", "RESPONSE_STREAM")
    assert "Cors" not in changed
    listed = (await blocking(client.list_function_url_configs, FunctionName="hello"))["FunctionUrlConfigs"]
    assert [each["FunctionUrl"] for each in listed] == [url]
    await blocking(client.delete_function_url_config, FunctionName="hello")
    missing = ("ResourceNotFoundException", "The resource you requested does not exist.")
    assert await error(client.get_function_url_config, FunctionName="hello") == missing
    assert await error(client.delete_function_url_config, FunctionName="hello") == missing
    assert await error(client.update_function_url_config, FunctionName="hello", AuthType="NONE") == missing
    assert (await blocking(client.list_function_url_configs, FunctionName="hello"))["FunctionUrlConfigs"] == []


async def test_what_cannot_be_made(client):
    await created(client)
    assert await error(client.create_function_url_config, FunctionName="hello", AuthType="NONE") == (
        "ResourceConflictException",
        f"Failed to create function url config for [functionArn = {ARN}hello]. Error message:  FunctionUrlConfig exists for this "
        "Lambda function",
    )
    nowhere = ("ResourceNotFoundException", "Function does not exist")
    assert await error(client.create_function_url_config, FunctionName="none", AuthType="NONE") == nowhere
    assert await error(client.create_function_url_config, FunctionName="hello", Qualifier="no", AuthType="NONE") == nowhere
    assert await error(client.list_function_url_configs, FunctionName="none") == nowhere


async def test_an_alias_has_a_url_of_its_own_which_goes_with_it(client, urls, invoker):
    await blocking(client.publish_version, FunctionName="hello")
    await blocking(client.create_alias, FunctionName="hello", Name="live", FunctionVersion="1")
    url = await created(client, "AWS_IAM", Qualifier="live")
    assert (await urls(asking(url, key=KEY))).status == 200
    assert invoker.seen[0].qualifier == "live"
    assert invoker.seen[0].context == {"invoked_arn": f"{ARN}hello:live"}
    await blocking(client.delete_alias, FunctionName="hello", Name="live")
    assert (await urls(asking(url, key=KEY))).status == 404


# Requests ---------------------------------------------------------------------------------------------------------------------
async def test_a_request_becomes_an_event_and_the_answer_a_response(client, urls, invoker):
    url = await created(client)
    invoker.body = b'{"statusCode": 201, "headers": {"x-mine": "1"}, "body": "made"}'
    answer = await urls(asking(url, "POST", "/a/b?c=d", [("content-type", "text/plain")], b"hello"))
    assert (answer.status, answer.body) == (201, b"made")
    assert dict(answer.headers)["x-mine"] == "1"
    (called,) = invoker.seen
    event = json.loads(called.payload)
    assert (event["rawPath"], event["rawQueryString"], event["body"]) == ("/a/b", "c=d", "hello")
    assert (called.principal.kind, event["requestContext"]["accountId"]) == (Kind.NODE, "anonymous")
    assert event["requestContext"]["requestId"] == called.id == dict(answer.headers)["x-amzn-RequestId"]


async def test_the_form_with_a_path(client, urls, invoker):
    url_id = (await created(client)).split("/")[2].split(".")[0]
    answer = await urls(Request("GET", f"/lambda-url/{url_id}/a%20b", [("host", "node.example:80")], Whole(b"")))
    assert answer.status == 200
    assert json.loads(invoker.seen[0].payload)["rawPath"] == "/a%20b"


@pytest.mark.parametrize("change", [{"status": Status.FAILED}, {"body": b'{"statusCode": "none"}'}, {"body": b"no json"}])
async def test_a_failure_of_the_function_is_a_bad_gateway(client, urls, invoker, change):
    url = await created(client)
    for name, value in change.items():
        setattr(invoker, name, value)
    answer = await urls(asking(url))
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


async def test_what_the_platform_says_no_to(client, urls, invoker):
    url = await created(client)
    invoker.error = Throttled("function")
    answer = await urls(asking(url))
    assert (answer.status, json.loads(answer.body)["Reason"]) == (429, "ReservedFunctionConcurrentInvocationLimitExceeded")


async def test_an_unknown_url_is_not_found(urls):
    answer = await urls(asking(f"http://{'x' * 32}.lambda-url.{REGION}.localhost:7979/"))
    assert (answer.status, answer.body) == (404, b'{"Message":null}')


async def test_a_url_for_anybody_needs_a_policy_that_says_so(client, urls, invoker):
    url = await created(client, public=False)
    answer = await urls(asking(url))
    assert (answer.status, answer.body.decode()) == (403, FORBIDDEN)
    assert dict(answer.headers)["x-amzn-ErrorType"] == "AccessDeniedException"
    await blocking(client.add_permission, **URL_ACTION, StatementId="iam", Principal="*", FunctionUrlAuthType="AWS_IAM")
    assert (await urls(asking(url))).status == 403, "that statement is for signed requests"
    await blocking(client.add_permission, **URL_ACTION, StatementId="none", Principal="*", FunctionUrlAuthType="NONE")
    assert (await urls(asking(url))).status == 200
    await blocking(client.remove_permission, FunctionName="hello", StatementId="none")
    assert (await urls(asking(url))).status == 403
    assert len(invoker.seen) == 1


async def test_a_url_with_iam_wants_a_signature_that_is_right(client, urls, invoker):
    url = await created(client, "AWS_IAM")
    unsigned = await urls(asking(url))
    assert (unsigned.status, unsigned.body.decode()) == (403, FORBIDDEN)
    assert dict(unsigned.headers)["x-amzn-ErrorType"] == "AccessDeniedException"
    forged = await urls(asking(url, key=AccessKey(id=KEY.id, secret="x", account=ACCOUNT, created_s=0.0)))  # noqa: S106
    assert (forged.status, dict(forged.headers)["x-amzn-ErrorType"]) == (403, "InvalidSignatureException")
    assert json.loads(forged.body)["message"].startswith("The request signature we calculated does not match")
    assert invoker.seen == []
    assert (await urls(asking(url, key=KEY, body=b"hello", method="POST"))).status == 200
    told = json.loads(invoker.seen[0].payload)["requestContext"]
    assert (told["accountId"], told["authorizer"]["iam"]["userArn"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")


async def test_another_account_signs_and_is_let_in_by_the_policy(client, urls):
    url = await created(client, "AWS_IAM")
    assert (await urls(asking(url, key=OTHERS))).status == 403
    await blocking(
        client.add_permission, **URL_ACTION, StatementId="s", Principal=OTHERS.account, FunctionUrlAuthType="AWS_IAM"
    )
    assert (await urls(asking(url, key=OTHERS))).status == 200


async def test_an_open_node_asks_nobody(control, client, invoker):
    open_urls = serving(control, invoker, open=True)
    url = await created(client, public=False)
    assert (await open_urls(asking(url))).status == 200


async def test_pages_are_answered_as_the_url_says(client, urls, invoker):
    url = await created(client, Cors={"AllowOrigins": ["https://page.example"], "AllowMethods": ["GET"]})
    origin = ("origin", "https://page.example")
    before = await urls(asking(url, "OPTIONS", headers=[origin, ("access-control-request-method", "GET")]))
    assert dict(before.headers)["Access-Control-Allow-Methods"] == "GET"
    assert invoker.seen == []
    answer = await urls(asking(url, headers=[origin]))
    assert dict(answer.headers)["Access-Control-Allow-Origin"] == "https://page.example"
    assert (await urls(asking(url, "OPTIONS", headers=[origin]))).status == 200
    assert len(invoker.seen) == 2


async def test_a_deleted_function_takes_its_url_along(control, client, urls):
    url = await created(client)
    assert (await urls(asking(url))).status == 200
    await blocking(client.delete_function, FunctionName="hello")
    assert (await urls(asking(url))).status == 404


async def test_the_invoke_mode_says_whether_an_answer_is_taken_as_it_comes(client, urls, invoker):
    url = (await blocking(client.create_function_url_config, FunctionName="hello", AuthType="AWS_IAM"))["FunctionUrl"]
    await blocking(client.update_function_url_config, FunctionName="hello", InvokeMode="RESPONSE_STREAM")
    invoker.body = b'{"statusCode": 404}'
    answer = await urls(asking(url, key=KEY))
    assert (answer.status, answer.body, invoker.seen[-1].streamed) == (200, invoker.body, True)
    invoker.status = Status.FAILED
    assert (await urls(asking(url, key=KEY))).status == 502
    await blocking(client.update_function_url_config, FunctionName="hello", InvokeMode="BUFFERED")
    invoker.status = Status.OK
    assert (await urls(asking(url, key=KEY))).status == 404
    assert not invoker.seen[-1].streamed
