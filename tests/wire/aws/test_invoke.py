"""Invoke over a real socket, with boto3 unmodified."""

import base64
import http.client
import json
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ondol.dialects.aws import errors, invoke
from ondol.dialects.aws.shapes import model
from ondol.model import errors as platform
from ondol.model.errors import Unavailable
from ondol.model.invocations import Outcome, Status
from ondol.model.principals import Kind, Principal
from ondol.testing.aws import ACCOUNT, KEY, REGION, AwsApplication, EchoInvoker, index_with, serving

pytestmark = pytest.mark.usefixtures("both_ways")

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:hello"


@pytest.fixture
def invoker():
    return EchoInvoker()


@pytest.fixture
def url(invoker):
    with serving(AwsApplication(services={}, invoker=invoker, index=index_with("hello"))) as url:
        yield url


def client(url, service="lambda", **options):
    options = {"aws_access_key_id": KEY.id, "aws_secret_access_key": KEY.secret, "region_name": REGION} | options
    return boto3.client(
        service, endpoint_url=url, config=Config(retries={"total_max_attempts": 1}, parameter_validation=False), **options
    )


@pytest.fixture
def lambda_(url):
    return client(url)


def refused(call, **params):
    with pytest.raises(ClientError) as caught:
        call(**params)
    return caught.value.response


def test_a_call_comes_back_with_what_the_function_answered(lambda_, invoker):
    answer = lambda_.invoke(FunctionName="hello", Payload=b'{"a": 1}')
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert answer["Payload"].read() == b'{"a": 1}'
    assert "FunctionError" not in answer
    assert "LogResult" not in answer
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-type"] == "application/json"
    assert headers["x-amzn-remapped-content-length"] == "0"
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    [seen] = invoker.seen
    assert answer["ResponseMetadata"]["RequestId"] == seen.id
    assert (seen.function, seen.qualifier, seen.context) == ("olleh", None, {"invoked_arn": ARN})
    assert (seen.principal.kind, seen.principal.account, seen.principal.region) == (Kind.OWNER, ACCOUNT, REGION)


W3C = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AMAZON = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ({"traceparent": W3C}, AMAZON),
        ({"X-Amzn-Trace-Id": "Root=1-5-6;Mine=1"}, "Root=1-5-6;Mine=1"),
        ({"X-Amzn-Trace-Id": AMAZON, "traceparent": W3C.replace("4b", "5c")}, AMAZON),
    ],
    ids=["w3c", "as sent", "both"],
)
def test_the_callers_trace_goes_in_through_and_out(lambda_, invoker, sent, seen):

    def add(request, **_):
        for name, value in sent.items():
            request.headers[name] = value

    lambda_.meta.events.register("before-sign", add)
    answer = lambda_.invoke(FunctionName="hello")
    assert invoker.seen[0].trace == seen
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"] == seen


def test_no_payload_is_an_empty_object(lambda_, invoker):
    lambda_.invoke(FunctionName="hello")
    assert invoker.seen[0].payload == b"{}"


def test_a_function_that_failed_is_a_200_with_a_header(lambda_, invoker):
    invoker.status, invoker.body, invoker.version = Status.FAILED, b'{"errorMessage":"x"}', 7
    answer = lambda_.invoke(FunctionName="hello", Qualifier="7")
    assert (answer["StatusCode"], answer["FunctionError"], answer["ExecutedVersion"]) == (200, "Unhandled", "7")
    assert invoker.seen[0].qualifier == "7"
    assert invoker.seen[0].context["invoked_arn"] == f"{ARN}:7"


def test_the_log_tail_comes_when_asked_for(lambda_, invoker):
    invoker.tail = b"START\nEND\n"
    answer = lambda_.invoke(FunctionName="hello", LogType="Tail")
    assert base64.b64decode(answer["LogResult"]) == b"START\nEND\n"
    assert invoker.seen[0].tail


def test_an_event_is_accepted_and_a_dry_run_checked(lambda_, invoker):
    answer = lambda_.invoke(FunctionName="hello", InvocationType="Event", Payload=b"[1]")
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    assert "ExecutedVersion" not in answer
    assert [each.payload for each in invoker.deferred] == [b"[1]"]
    answer = lambda_.invoke(FunctionName="hello", InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    assert len(invoker.checked) == 1
    assert invoker.seen == []


@pytest.mark.filterwarnings("ignore")
def test_the_old_asynchronous_form_is_an_event(lambda_, invoker):
    assert lambda_.invoke_async(FunctionName="hello", InvokeArgs=b"{}")["Status"] == 202
    assert len(invoker.deferred) == 1


@pytest.mark.parametrize(
    ("name", "qualifier", "called", "arn"),
    [
        ("hello", None, None, ARN),
        (ARN, None, None, ARN),
        (f"{ACCOUNT}:function:hello", None, None, ARN),
        (f"function:hello", None, None, ARN),
        (f"hello:blue", None, "blue", f"{ARN}:blue"),
        (f"{ARN}:3", None, "3", f"{ARN}:3"),
        (f"{ARN}:3", "3", "3", f"{ARN}:3"),
        ("hello", "$LATEST", None, f"{ARN}:$LATEST"),
        ("hello:$LATEST", None, None, f"{ARN}:$LATEST"),
    ],
)
def test_every_form_of_a_name_reaches_the_function(lambda_, invoker, name, qualifier, called, arn):
    lambda_.invoke(FunctionName=name, **({"Qualifier": qualifier} if qualifier else {}))
    [seen] = invoker.seen
    assert (seen.function, seen.qualifier, seen.context["invoked_arn"]) == ("olleh", called, arn)


def test_a_function_that_is_not_there(lambda_):
    answer = refused(lambda_.invoke, FunctionName="doesnotexist")
    assert answer["Error"] == {
        "Message": f"Function not found: arn:aws:lambda:{REGION}:{ACCOUNT}:function:doesnotexist:$LATEST",
        "Code": "ResourceNotFoundException",
    }
    assert (answer["Type"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("User", 404)


def test_a_version_that_is_not_there(lambda_, invoker):
    invoker.error = platform.NotFound("version", "9")
    answer = refused(lambda_.invoke, FunctionName="hello", Qualifier="9")
    assert answer["Error"]["Message"] == f"Function not found: {ARN}:9"


def test_another_region_account_or_qualifier_than_the_name_says(lambda_):
    answer = refused(lambda_.invoke, FunctionName=f"arn:aws:lambda:ap-southeast-1:{ACCOUNT}:function:hello")
    assert answer["Error"]["Message"] == f"Functions from 'ap-southeast-1' are not reachable in this region ('{REGION}')"
    answer = refused(lambda_.invoke, FunctionName=f"{ARN}:1", Qualifier="2")
    assert answer["Error"]["Code"] == "InvalidParameterValueException"
    assert answer["Error"]["Message"] == "The derived qualifier from the function name does not match the specified qualifier."
    answer = refused(lambda_.invoke, FunctionName=f"arn:aws:lambda:{REGION}:999999999999:function:hello")
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("AccessDeniedException", 403)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (
            {"FunctionName": "a b"},
            "Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:",
        ),
        (
            {"FunctionName": "a" * 257},
            f"Value '{'a' * 257}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 256",
        ),
        (
            {"FunctionName": "hello", "Qualifier": "a?b"},
            r"Value 'a?b' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+",
        ),
        (
            {"FunctionName": "hello", "InvocationType": "Sync"},
            "Value 'Sync' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]",
        ),
        (
            {"FunctionName": "hello", "LogType": "All"},
            "Value 'All' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [",
        ),
    ],
)
def test_malformed_parameters_are_found_as_the_codec_finds_them(lambda_, invoker, params, text):
    error = refused(lambda_.invoke, **params)["Error"]
    assert error["Code"] == "ValidationException"
    assert error["Message"].startswith(f"1 validation error detected: {text}")
    assert invoker.seen == []


def test_a_durable_execution_is_refused_rather_than_run_as_a_call(lambda_, invoker):
    error = refused(lambda_.invoke, FunctionName="hello", DurableExecutionName="order-1")["Error"]
    assert error["Code"] == "InvalidParameterValueException"
    assert "durable executions" in error["Message"]
    assert invoker.seen == []


def test_a_body_that_is_no_json_gets_the_recorded_text(lambda_):
    answer = refused(lambda_.invoke, FunctionName="hello", Payload=b'"\x87')
    assert answer["Error"] == {
        "Code": "InvalidRequestContentException",
        "Message": "Could not parse request body into json: Could not parse payload into json: Invalid UTF-8 start byte 0x87\n at "
        "[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: 3]",
    }
    assert answer["Type"] == "User"


@pytest.mark.parametrize(
    "payload", [b'"\\ud83d\\ude00"', b'"\\ud800"', '"온돌 🙂"'.encode(), b" null ", b"1e999", b'{"a":1,"a":2}']
)
def test_whatever_lambda_takes_for_json_reaches_the_function_as_it_was(lambda_, invoker, payload):
    lambda_.invoke(FunctionName="hello", Payload=payload)
    assert invoker.seen[0].payload == payload


@pytest.mark.parametrize("payload", [b"NaN", b"{", b"[1,]", b"'a'", b'"\xc3("', b"1 2", b" "])
def test_what_is_no_json_never_reaches_it(lambda_, invoker, payload):
    assert refused(lambda_.invoke, FunctionName="hello", Payload=payload)["Error"]["Code"] == "InvalidRequestContentException"
    assert invoker.seen == []


def test_payloads_over_the_limits_are_refused(lambda_, invoker):
    answer = refused(lambda_.invoke, FunctionName="hello", Payload=b'"' + b"x" * 6 * 1024 * 1024 + b'"')
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert answer["Error"]["Message"] == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    answer = refused(lambda_.invoke, FunctionName="hello", InvocationType="Event", Payload=b'"' + b"x" * 1024 * 1024 + b'"')
    assert answer["Error"]["Message"] == "1048578 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    lambda_.invoke(FunctionName="hello", Payload=b'"' + b"x" * (6 * 1024 * 1024 - 2) + b'"')
    assert len(invoker.seen) == 1


def test_the_client_context_arrives_as_its_text(lambda_, invoker):
    text = json.dumps({"custom": {"k": "v"}})
    lambda_.invoke(FunctionName="hello", ClientContext=base64.b64encode(text.encode()).decode())
    assert invoker.seen[0].context["client_context"] == text
    assert (
        refused(lambda_.invoke, FunctionName="hello", ClientContext="%%%")["Error"]["Code"] == "InvalidRequestContentException"
    )
    assert (
        refused(lambda_.invoke, FunctionName="hello", ClientContext="A" * 3584)["Error"]["Code"]
        == "InvalidRequestContentException"
    )


@pytest.mark.parametrize(
    ("reason", "named"),
    [
        ("function", "ReservedFunctionConcurrentInvocationLimitExceeded"),
        ("account", "ConcurrentInvocationLimitExceeded"),
        ("line", "ConcurrentInvocationLimitExceeded"),
        ("rate", "FunctionInvocationRateLimitExceeded"),
        ("function rate", "ReservedFunctionInvocationRateLimitExceeded"),
        ("account rate", "CallerRateLimitExceeded"),
    ],
)
def test_a_throttled_call_says_which_limit(lambda_, invoker, reason, named):
    invoker.error = platform.Throttled(reason)
    answer = refused(lambda_.invoke, FunctionName="hello")
    assert answer["Error"] == {"Message": "Rate Exceeded.", "Code": "TooManyRequestsException"}
    assert (answer["Reason"], answer["Type"]) == (named, "User")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert answer["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"


def leaves(kind=platform.OndolError):
    below = [each for each in kind.__subclasses__() if each.__module__ == platform.__name__]  # a dialect's own stay with it
    return [leaf for each in below for leaf in leaves(each)] if below else [kind]


MADE = {
    platform.InvalidSetting: platform.InvalidSetting("memory_mib", "why"),
    platform.InUse: platform.InUse("why", by=("alias",)),
    platform.NotFound: platform.NotFound("alias", "x"),
    platform.Denied: platform.Denied("why", action="function:invoke"),
    platform.TooLarge: platform.TooLarge("why", limit_bytes=1),
    platform.Throttled: platform.Throttled("account"),
    platform.RuntimeMissing: platform.RuntimeMissing("ruby3.3", "why"),
}


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.__name__)
def test_every_error_of_the_platform_is_one_of_the_service(lambda_, invoker, leaf):
    assert leaf in errors.TABLE
    invoker.error = MADE.get(leaf) or leaf("why")
    answer = refused(lambda_.invoke, FunctionName="hello")
    code, status = answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]
    assert answer["Error"]["Message"]
    assert errors.STATUSES[code] == status
    known = model("lambda").error(code)
    if known is not None:
        assert known.traits["error"]["httpStatusCode"] == status
        assert ("Message" in known.traits["members"]) == (code in errors.CAPITALISED)


def test_a_runtime_that_is_missing_is_a_502_with_the_way_to_get_it(lambda_, invoker):
    invoker.error = platform.RuntimeMissing("ruby3.3", "ruby3.3 is not on this machine: install ruby 3.3")
    answer = refused(lambda_.invoke, FunctionName="hello")
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("InvalidRuntimeException", 502)
    assert answer["Error"]["Message"] == "ruby3.3 is not on this machine: install ruby 3.3"


# Who asks -------------------------------------------------------------------------------------------------------------
def raw(url, path="/2015-03-31/functions/hello/invocations", headers=()):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("POST", path, b"{}", dict(headers))
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_a_request_nobody_signed(url, invoker):
    status, headers, body = raw(url)
    assert (status, body) == (403, b'{"message":"Missing Authentication Token"}')
    assert headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    assert invoker.seen == []


def test_a_wrong_secret_an_unknown_key_and_a_foreign_service(url, invoker):
    answer = refused(client(url, aws_secret_access_key="wrong").invoke, FunctionName="hello")
    assert answer["Error"]["Code"] == "InvalidSignatureException"
    assert answer["Error"]["Message"].startswith("The request signature we calculated does not match")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    answer = refused(client(url, aws_access_key_id="AKIAUNKNOWN").invoke, FunctionName="hello")
    assert answer["Error"] == {
        "Code": "UnrecognizedClientException",
        "Message": "The security token included in the request is invalid.",
    }
    assert invoker.seen == []


def test_a_function_is_known_by_its_session(invoker):
    application = AwsApplication(services={}, invoker=invoker, index=index_with("hello"))
    who = Principal(kind=Kind.FUNCTION, account=ACCOUNT, region=REGION, name="olleh", role="r")
    minted = application.credentials.mint(who, now_s=1e9, lifetime_s=9e9)
    with serving(application) as url:
        session = {"aws_access_key_id": minted.access_key_id, "aws_secret_access_key": minted.secret}
        client(url, **session, aws_session_token=minted.session_token).invoke(FunctionName="hello")
        assert invoker.seen[0].principal == who
        answer = refused(client(url, **session).invoke, FunctionName="hello")
        assert answer["Error"]["Code"] == "UnrecognizedClientException"
        stale = application.credentials.mint(who, now_s=1e9, lifetime_s=60)
        session = {"aws_access_key_id": stale.access_key_id, "aws_secret_access_key": stale.secret}
        answer = refused(client(url, **session, aws_session_token=stale.session_token).invoke, FunctionName="hello")
        assert answer["Error"]["Code"] == "ExpiredTokenException"


def test_an_open_node_asks_nobody_and_takes_the_region_from_the_scope(invoker):
    application = AwsApplication(services={}, invoker=invoker, index=index_with("hello"), open=True)
    with serving(application) as url:
        assert raw(url)[0] == 200
        client(url, aws_access_key_id="any", aws_secret_access_key="thing").invoke(FunctionName="hello")
        answer = refused(client(url, region_name="us-west-2").invoke, FunctionName="hello")
    assert "us-west-2" in answer["Error"]["Message"]
    assert [each.principal.account for each in invoker.seen] == [ACCOUNT, ACCOUNT]


def test_a_mistake_of_ours_is_a_500_that_tells_nothing(lambda_, invoker, monkeypatch, caplog):
    invoker.error = None
    monkeypatch.setattr(invoke, "rendered", lambda *_: 1 / 0)
    answer = refused(lambda_.invoke, FunctionName="hello")
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("ServiceException", 500)
    assert "ZeroDivisionError" not in answer["Error"]["Message"]
    assert answer["ResponseMetadata"]["RequestId"] in caplog.text


def test_the_hot_path_knows_the_model_by_heart():
    shape = model("lambda").operations["Invoke"].input
    assert shape.members["FunctionName"].shape.traits["pattern"] == invoke.names.FUNCTION_PATTERN
    assert shape.members["FunctionName"].shape.traits["max"] == invoke.names.FUNCTION_CHARS_MAX
    assert shape.members["Qualifier"].shape.traits["pattern"] == invoke.names.QUALIFIER_PATTERN
    assert shape.members["Qualifier"].shape.traits["max"] == invoke.names.QUALIFIER_CHARS_MAX


# In events --------------------------------------------------------------------------------------------------------------------
def test_an_answer_comes_in_events(lambda_, invoker):
    invoker.body = b"x" * 300_000
    answer = lambda_.invoke_with_response_stream(FunctionName="hello", Payload=b'{"a": 1}', LogType="Tail")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    events = list(answer["EventStream"])
    chunks = [event["PayloadChunk"]["Payload"] for event in events[:-1]]
    assert len(chunks) > 1 and b"".join(chunks) == invoker.body
    assert events[-1] == {"InvokeComplete": {"LogResult": ""}}
    assert invoker.seen[0].payload == b'{"a": 1}'


def test_an_answer_that_goes_on_is_sent_as_it_comes(lambda_, invoker):
    closed = []

    class Body:
        parts = [b"one", b"two"]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.parts:
                raise StopAsyncIteration
            return self.parts.pop(0)

        async def aclose(self):
            closed.append(True)

    invoker.body = Body()
    events = list(lambda_.invoke_with_response_stream(FunctionName="hello")["EventStream"])
    assert [event["PayloadChunk"]["Payload"] for event in events[:-1]] == [b"one", b"two"]
    assert closed == [True]


def test_what_a_function_failed_with_is_told_at_the_end(lambda_, invoker):
    invoker.status, invoker.body = Status.FAILED, b'{"errorType": "ValueError"}'
    events = list(lambda_.invoke_with_response_stream(FunctionName="hello")["EventStream"])
    assert events == [{"InvokeComplete": {"ErrorCode": "Unhandled", "ErrorDetails": '{"errorType": "ValueError"}'}}]


def test_what_cannot_be_answered_in_events(lambda_, invoker):
    answer = refused(lambda_.invoke_with_response_stream, FunctionName="none")
    assert answer["Error"]["Code"] == "ResourceNotFoundException"
    answer = refused(lambda_.invoke_with_response_stream, FunctionName="hello", InvocationType="Event")
    assert answer["Error"]["Code"] == "ValidationException"
    lambda_.invoke_with_response_stream(FunctionName="hello", InvocationType="DryRun")
    assert len(invoker.checked) == 1 and invoker.seen == []


@pytest.mark.parametrize(
    ("status", "head", "code"),
    [
        (Status.FAILED, {"error_type": "Function.Oops"}, "Function.Oops"),
        (Status.TIMEOUT, {"error_type": "Sandbox.Timedout"}, "Sandbox.Timedout"),
        (Status.CRASHED, {}, "Unhandled"),
    ],
)
def test_an_answer_that_ends_in_mid_stream_says_why_and_has_the_log_of_its_end(lambda_, invoker, status, head, code):
    async def body():
        yield b"begun"
        raise Unavailable("the function ended before its answer did")

    invoker.body, invoker.tail = body(), b"of the head"
    invoker.end = Outcome(status=status, body=b'{"a":1}', target_version=None, report=None, head=head, tail=b"of the end")
    events = list(lambda_.invoke_with_response_stream(FunctionName="hello", LogType="Tail")["EventStream"])
    log = base64.b64encode(b"of the end").decode()
    assert events == [
        {"PayloadChunk": {"Payload": b"begun"}},
        {"InvokeComplete": {"ErrorCode": code, "ErrorDetails": '{"a":1}', "LogResult": log}},
    ]
    assert invoker.seen[0].streamed


def test_the_tenant_goes_along_also_for_later_and_in_events(lambda_, invoker):
    lambda_.invoke(FunctionName="hello", TenantId="blue team/1@x")
    lambda_.invoke(FunctionName="hello", TenantId="green", InvocationType="Event")
    lambda_.invoke_with_response_stream(FunctionName="hello", TenantId="red")
    lambda_.invoke(FunctionName="hello")
    assert [seen.tenant for seen in (*invoker.seen, *invoker.deferred)] == ["blue team/1@x", "red", None, "green"]


@pytest.mark.parametrize(
    ("tenant", "constraint"),
    [
        ("blue#", r"satisfy regular expression pattern: [a-zA-Z0-9\._:\/=+\-@ ]+"),
        ("b" * 257, "have length less than or equal to 256"),
    ],
)
def test_a_malformed_tenant_is_named(lambda_, tenant, constraint):
    error = refused(lambda_.invoke, FunctionName="hello", TenantId=tenant)["Error"]
    assert error["Code"] == "ValidationException"
    text = f"Value '{tenant}' at 'tenantId' failed to satisfy constraint: Member must {constraint}"
    assert error["Message"] == f"1 validation error detected: {text}"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {},
            "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.",
        ),
        (
            {"TenantId": "blue"},
            "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
def test_a_tenant_that_is_missing_or_one_too_many_is_said_as_the_service_does(lambda_, invoker, kind, params, message):
    invoker.error = platform.InvalidSetting("tenant", "in the core's words")
    answer = refused(lambda_.invoke, FunctionName="hello", InvocationType=kind, **params)
    assert (answer["Error"]["Code"], answer["Error"]["Message"]) == ("InvalidParameterValueException", message)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
