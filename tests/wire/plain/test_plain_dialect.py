"""`/fn/NAME`: what a web function is asked, and what a client is answered when the platform itself says no."""

from __future__ import annotations

import json

import pytest

from ondol.core.catalog import Index, put
from ondol.dialects.plain.dialect import STATUS, PlainDialect, parts
from ondol.http.bodies import Stream, Whole
from ondol.http.messages import Request
from ondol.model import errors
from ondol.model.errors import OndolError
from ondol.model.functions import Function, Handle
from ondol.model.invocations import Outcome, Status
from ondol.model.principals import Kind, Principal
from ondol.store import Change

ACCOUNT, REGION = "123456789012", "eu-west-1"
KINDS = [
    errors.InvalidPayload("x"), errors.InvalidSetting("field", "x"), errors.InvalidCode("x"), errors.NotFound("version", "7"),
    errors.AlreadyExists("x"), errors.RevisionMismatch("x"), errors.Busy("x"), errors.InUse("x", by=("y",)), errors.Denied("x"),
    errors.TooLarge("x", limit_bytes=1), errors.Throttled("function"), errors.RuntimeMissing("python3.1", "x"),
    errors.NotBuilt("x"), errors.StartFailed("x"), errors.OutOfSpace("x"), errors.Unavailable("x"), OndolError("x"),
]  # fmt: skip


class Gate:
    """Knows one key."""

    def principal(self, request, body_sha256):
        if request.header("x-ondol-key") == "wrong":
            raise errors.Denied("not one of ours")
        known = request.header("x-ondol-key") or request.header("authorization").startswith(("Bearer ID", "AWS4-HMAC"))
        kind = Kind.OWNER if known else Kind.ANONYMOUS
        return Principal(kind=kind, account=ACCOUNT, region=REGION, name="who")


class Site:
    """The dialect over a function called `site`, and what was asked of it."""

    def __init__(self):
        self.asked = []
        self.outcome = Outcome(
            status=Status.OK,
            body=b"hello",
            target_version=None,
            report=None,
            head={"status": 201, "headers": [("x-mine", "1")]},
        )
        self.error = None
        index = Index()
        nouns = (
            Function(id="f1", account=ACCOUNT, region=REGION, name="site", latest="r1", created_s=0.0),
            Handle(dialect="plain", account=ACCOUNT, region=REGION, name="site", function="f1"),
        )
        for number, noun in enumerate(nouns, 1):
            made = put(noun)
            index.apply(Change(number, made.key, made.value))
        self.dialect = PlainDialect(index=index, gatekeeper=Gate(), invoke=self.invoke)

    async def invoke(self, invocation):
        self.asked.append(invocation)
        if self.error is not None:
            raise self.error
        return self.outcome

    async def get(self, target="/fn/site/", *, method="GET", headers=(), body=b"", key="right"):
        sent = [*headers, ("x-ondol-key", key)] if key else list(headers)
        body = Whole(body) if isinstance(body, bytes) else body
        request = Request(method, target, sent, body, "192.0.2.1:4711")
        return await self.dialect.serve(request, self.dialect.routes[0])


def sent_on(asked):
    """The headers that the function sees, but for the trace that the platform began."""
    return [(name, value) for name, value in asked.context["headers"] if name != "traceparent"]


@pytest.fixture
def site():
    return Site()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/fn/site", ("site", None, "/")),
        ("/fn/site/", ("site", None, "/")),
        ("/fn/site/a/b%2Fc", ("site", None, "/a/b%2Fc")),
        ("/fn/site:7/a", ("site", "7", "/a")),
        ("/fn/site:live", ("site", "live", "/")),
        ("/fn/site%3Alive/x", ("site", "live", "/x")),
        ("/fn/site:/x", ("site", None, "/x")),
        ("/fn/site//x", ("site", None, "//x")),
        ("/fn/site/fn/other", ("site", None, "/fn/other")),
        ("/fn/", ("", None, "/")),
    ],
)
def test_a_path_names_function_qualifier_and_the_rest(path, expected):
    assert parts(path) == expected


async def test_a_request_reaches_the_function_as_it_was_sent(site):
    response = await site.get(
        "/fn/site:3/a%20b?c=d&c=e", method="PATCH", headers=[("x-one", "1"), ("x-one", "2")], body=b"\0\xff"
    )
    [asked] = site.asked
    assert (asked.function, asked.qualifier, asked.payload, asked.body) == ("f1", "3", b"\0\xff", None)
    assert asked.context["method"] == "PATCH"
    assert (asked.context["root"], asked.context["path"], asked.context["query"]) == ("/fn/site:3", "/a%20b", "c=d&c=e")
    assert sent_on(asked) == [("x-one", "1"), ("x-one", "2")]
    assert asked.context["client"] == "192.0.2.1:4711"
    assert (response.status, response.body) == (201, b"hello")
    assert ("x-mine", "1") in response.headers


async def test_every_answer_carries_the_invocations_id(site):
    response = await site.get()
    assert dict(response.headers)["x-request-id"] == site.asked[0].id
    assert "x-request-id" in dict((await site.get("/fn/nobody/")).headers)


W3C = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AMAZON = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"


@pytest.mark.parametrize("sent", [("traceparent", W3C), ("x-amzn-trace-id", AMAZON)])
async def test_the_callers_trace_goes_in_through_and_out(site, sent):
    response = await site.get(headers=[sent])
    [asked] = site.asked
    assert asked.trace == W3C
    assert sent in asked.context["headers"]
    assert [value for name, value in asked.context["headers"] if name == "traceparent"] == [W3C]
    assert dict(response.headers)["traceparent"] == W3C


@pytest.mark.parametrize("headers", [[], [("traceparent", "nonsense")], [("x-amzn-trace-id", "Root=1-2-3")]])
async def test_without_a_trace_that_can_be_read_an_unsampled_one_begins(site, headers):
    first, second = [dict((await site.get(headers=headers)).headers)["traceparent"] for _ in range(2)]
    assert first.startswith("00-")
    assert first.endswith("-00")
    assert first != second
    assert site.asked[0].trace == first


async def test_a_function_may_answer_with_a_traceparent_of_its_own(site):
    site.outcome.head["headers"].append(("Traceparent", "its-own"))
    assert [value for name, value in (await site.get()).headers if name.lower() == "traceparent"] == ["its-own"]


@pytest.mark.parametrize("value", ["Bearer right", "AWS4-HMAC-SHA256 Credential=ID/…"])
async def test_the_nodes_credentials_end_here(site, value):
    await site.get(headers=[("authorization", value), ("cookie", "mine=1")])
    assert sent_on(site.asked[0]) == [("cookie", "mine=1")]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_key_of_the_node_ends_here_however_its_scheme_is_spelt(site, scheme):
    await site.get(headers=[("authorization", f"{scheme} right")])
    assert sent_on(site.asked[0]) == []


async def test_a_token_next_to_the_nodes_own_key_is_the_applications(site):
    await site.get(headers=[("authorization", "Bearer for-the-application")])
    assert sent_on(site.asked[0]) == [("authorization", "Bearer for-the-application")]


async def test_the_functions_own_credentials_go_through(site):
    await site.get(headers=[("authorization", "Basic abc")])
    assert sent_on(site.asked[0]) == [("authorization", "Basic abc")]


async def test_what_belongs_to_one_connection_stays_on_it(site):
    await site.get(headers=[("connection", "close"), ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("accept", "*/*")])
    assert sent_on(site.asked[0]) == [("accept", "*/*")]


async def test_a_body_in_flight_is_passed_on_as_it_comes(site):
    body = Stream(None, lambda: None, lambda: None)
    body.feed(b"one")
    body.feed(b"two")
    body.end()
    await site.get(method="POST", body=body)
    [asked] = site.asked
    assert asked.payload == b""
    assert [chunk async for chunk in asked.body] == [b"one", b"two"]


async def test_a_client_that_goes_away_in_its_body_is_no_failure_of_ours(site):
    from ondol.http.messages import Disconnected

    site.error = Disconnected("gone")
    assert (await site.get(method="POST")).status == 400


async def test_nobody_is_told_how_to_become_somebody(site):
    response = await site.get(key="")
    assert response.status == 401
    assert dict(response.headers)["www-authenticate"].startswith("Bearer")
    assert "ondol env" in json.loads(response.body)["message"]
    assert site.asked == []


async def test_a_wrong_key_is_refused_before_the_name_is_looked_up(site):
    for path in ("/fn/site/", "/fn/nobody/"):
        response = await site.get(path, key="wrong")
        assert (response.status, json.loads(response.body)["error"]) == (403, "Denied")
    assert site.asked == []


@pytest.mark.parametrize("path", ["/fn/nobody/", "/fn/", "/fn/SITE/"])
async def test_an_unknown_name_is_a_404(site, path):
    response = await site.get(path)
    assert (response.status, json.loads(response.body)["error"]) == (404, "NotFound")


@pytest.mark.parametrize("error", KINDS, ids=lambda error: type(error).__name__)
async def test_every_failure_of_the_platform_has_a_status_and_a_sentence(site, error):
    site.error = error
    response = await site.get()
    assert 400 <= response.status < 600
    assert dict(response.headers)["content-type"] == "application/json"
    assert json.loads(response.body) == {"error": type(error).__name__, "message": str(error)}


def test_every_kind_of_failure_is_tried_above():
    def leaves(kind):
        below = kind.__subclasses__()
        return {kind} if not below else set().union(*(leaves(each) for each in below))

    ours = {kind for kind in leaves(OndolError) if kind.__module__ == "ondol.model.errors"}
    assert ours <= {type(error) for error in KINDS}
    assert set(STATUS) <= {kind for error in KINDS for kind in type(error).__mro__}


async def test_who_is_throttled_is_told_when_to_come_back(site):
    site.error = errors.Throttled("account", retry_after_s=7.4)
    response = await site.get()
    assert (response.status, dict(response.headers)["retry-after"]) == (429, "7")
