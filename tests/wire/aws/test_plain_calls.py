"""`/fn/NAME` of a function that takes events: the event it gets, and the response that its answer means."""

from __future__ import annotations

import json

import pytest

from ondol.clock import SystemClock
from ondol.core.catalog import Index, put
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.plain_calls import PlainCalls
from ondol.dialects.aws.url_streams import PRELUDE
from ondol.dialects.plain.dialect import PlainDialect
from ondol.http.bodies import Whole
from ondol.http.messages import Request
from ondol.model import errors
from ondol.model.functions import Function, Handle
from ondol.model.invocations import Outcome, Status
from ondol.model.limits import SYNC_PAYLOAD_BYTES_MAX
from ondol.model.principals import Kind, Principal
from ondol.store import Change

ACCOUNT, REGION = "123456789012", "eu-west-1"
OWNER = Principal(kind=Kind.OWNER, account=ACCOUNT, region=REGION, name="AKIDOWNER")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Gate:
    """Knows everybody."""

    def principal(self, request, body_sha256):
        return OWNER


class Chunks:
    """A body that streams, and notes whether it was let go."""

    def __init__(self, *chunks):
        self.chunks = list(chunks)
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.chunks:
            raise StopAsyncIteration
        return self.chunks.pop(0)

    async def aclose(self):
        self.closed = True


class Greeter:
    """The dialect over a function called `greet` that takes events, and what was asked of it."""

    def __init__(self):
        self.asked = []
        self.outcome = self.ok(b'"hello"')
        index = Index()
        nouns = (
            Function(id="f1", account=ACCOUNT, region=REGION, name="greet", latest="r1", created_s=0.0),
            Handle(dialect="aws", account=ACCOUNT, region=REGION, name="greet", function="f1"),
        )
        for number, noun in enumerate(nouns, 1):
            made = put(noun)
            index.apply(Change(number, made.key, made.value))
        clock = SystemClock()
        events = PlainCalls(index=index, grants=Grants(index, clock), invoke=self.invoke, clock=clock)
        self.dialect = PlainDialect(index=index, gatekeeper=Gate(), invoke=self.invoke, events=events)

    def ok(self, body, **head):
        return Outcome(status=Status.OK, body=body, target_version=None, report=None, head=head)

    def failed(self, body, status=Status.FAILED):
        return Outcome(status=status, body=body, target_version=None, report=None)

    async def invoke(self, invocation):
        self.asked.append(invocation)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def get(self, target="/fn/greet/", *, method="GET", headers=(), body=b""):
        sent = [("host", "localhost:7979"), ("x-ondol-key", "ID:SECRET"), *headers]
        request = Request(method, target, sent, Whole(body), "192.0.2.1:4711")
        return await self.dialect.serve(request, self.dialect.routes[0])

    def event(self):
        return json.loads(self.asked[-1].payload)


@pytest.fixture
def greeter():
    return Greeter()


async def test_the_event_is_a_function_urls(greeter):
    headers = [
        ("content-type", "application/json"),
        ("traceparent", TRACE),
        ("cookie", "a=1; b=2"),
        ("authorization", "Basic x"),
    ]
    await greeter.get("/fn/greet:live/a%20b?c=d&c=e", method="PATCH", headers=headers, body='{"é": 1}'.encode())
    event = greeter.event()
    assert (event["version"], event["routeKey"]) == ("2.0", "$default")
    assert (event["rawPath"], event["rawQueryString"]) == ("/a%20b", "c=d&c=e")
    assert event["queryStringParameters"] == {"c": "d,e"}
    assert event["cookies"] == ["a=1", "b=2"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"é": 1}', False)
    context = event["requestContext"]
    assert (context["apiId"], context["domainPrefix"], context["domainName"]) == ("greet", "greet", "localhost")
    assert context["http"] | {"userAgent": ""} == {
        "method": "PATCH", "path": "/a%20b", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "",
    }  # fmt: skip
    assert context["authorizer"]["iam"]["accessKey"] == "AKIDOWNER"
    [asked] = greeter.asked
    assert (asked.function, asked.qualifier, asked.principal) == ("f1", "live", OWNER)
    assert asked.context["invoked_arn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:greet:live"
    assert asked.trace == "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"
    assert event["requestContext"]["requestId"] == asked.id


async def test_the_nodes_credentials_end_here_and_the_functions_own_go_through(greeter):
    await greeter.get(headers=[("authorization", "Basic x")])
    assert greeter.event()["headers"]["authorization"] == "Basic x"
    assert "x-ondol-key" not in greeter.event()["headers"]
    await greeter.get(headers=[("authorization", "AWS4-HMAC-SHA256 Credential=x")])
    assert "authorization" not in greeter.event()["headers"]


async def test_latest_by_name_is_no_qualifier(greeter):
    await greeter.get("/fn/greet:$LATEST/")
    assert greeter.asked[0].qualifier is None


@pytest.mark.parametrize(
    ("said", "status", "kind", "body"),
    [
        (b'{"statusCode": 201, "headers": {"content-type": "text/plain"}, "body": "made"}', 201, "text/plain", b"made"),
        (b'{"statusCode": "404", "body": "aGk=", "isBase64Encoded": true}', 404, "application/json", b"hi"),
        (b'{"hello":"you"}', 200, "application/json", b'{"hello":"you"}'),
        (b'"text"', 200, "application/json", b"text"),
    ],
)
async def test_an_answer_at_once_is_read_as_behind_a_url_that_buffers(greeter, said, status, kind, body):
    greeter.outcome = greeter.ok(said)
    response = await greeter.get()
    assert (response.status, response.body) == (status, body)
    assert {name.lower(): value for name, value in response.headers}["content-type"] == kind


@pytest.mark.parametrize("said", [b"no json", b'{"statusCode": 9}', b'{"statusCode": 200, "headers": {"a b": "c"}}'])
async def test_an_answer_that_is_no_response_is_told_so(greeter, said):
    greeter.outcome = greeter.ok(said)
    response = await greeter.get()
    assert response.status == 502
    assert "is no response" in json.loads(response.body)["errorMessage"]


async def test_an_answer_that_streams_goes_through_as_it_comes_with_its_head(greeter):
    body = Chunks(b'{"statusCode": 203, "headers": {"x-mine": "1"}}', bytes(8), b"first", b"then")
    greeter.outcome = greeter.ok(body, content_type=PRELUDE)
    response = await greeter.get()
    assert greeter.asked[0].streamed
    assert response.status == 203
    assert ("x-mine", "1") in response.headers
    assert [chunk async for chunk in response.body] == [b"first", b"then"]
    plain = Chunks(b"one", b"two")
    greeter.outcome = greeter.ok(plain)
    response = await greeter.get()
    assert (response.status, [chunk async for chunk in response.body]) == (200, [b"one", b"two"])
    await response.body.aclose()
    assert plain.closed


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMEOUT, Status.CRASHED])
async def test_a_function_that_fails_is_told_about(greeter, status):
    greeter.outcome = greeter.failed(b'{"errorType": "ValueError", "errorMessage": "no"}', status)
    response = await greeter.get()
    assert (response.status, json.loads(response.body)["errorType"]) == (502, "ValueError")


async def test_a_body_over_the_limit_a_refusal_and_a_name_that_nobody_has(greeter):
    response = await greeter.get(method="POST", body=b"x" * (SYNC_PAYLOAD_BYTES_MAX + 1))
    assert (response.status, greeter.asked) == (413, [])
    greeter.outcome = errors.Denied("not you")
    assert (await greeter.get()).status == 403
    response = await greeter.get("/fn/nobody/")
    assert (response.status, json.loads(response.body)["error"]) == (404, "NotFound")


async def test_every_answer_carries_the_invocations_id_and_trace(greeter):
    response = await greeter.get(headers=[("traceparent", TRACE)])
    assert dict(response.headers)["x-request-id"] == greeter.asked[0].id
    assert dict(response.headers)["traceparent"] == TRACE
