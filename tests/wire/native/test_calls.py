"""`POST /functions/NAME/invoke`: what the function gets, and what its caller is told."""

from __future__ import annotations

import base64
import json

import pytest

from ondol.core import traces
from ondol.dialects.native.refusals import STATUS, of_error
from ondol.http.bodies import Whole
from ondol.http.messages import Request
from ondol.http.table import Plane
from ondol.model import errors
from ondol.model.invocations import Outcome, Report, Status
from ondol.model.limits import TENANT_PATTERN, DEFERRED_PAYLOAD_BYTES_MAX, SYNC_PAYLOAD_BYTES_MAX

REPORT = Report(
    invocation="i", revision="r", version=3, status=Status.OK, duration_ms=1.5, memory_mib=128, memory_peak_mib=40, timeout_s=3,
    init_ms=9.5,
)  # fmt: skip


def outcome(body=b'{"n": 1}', status=Status.OK, **more):
    return Outcome(status=status, body=body, **{"target_version": None, "report": None, **more})


async def call(api, query="", body=None, *, kind=None, who="owner"):
    headers = [("content-type", kind)] if kind else []
    return await api("POST", f"/functions/hello/invoke{query}", body, who=who, headers=headers)


@pytest.fixture
async def hello(api):
    await api.aws_function("hello")
    return api.function


async def test_a_call_gives_its_outcome(api, hello):
    hello.outcome = outcome(target_version=3, report=REPORT)
    status, said = await call(api, "?qualifier=live", {"a": [1]})
    assert status == 200
    assert said.pop("request_id") == hello.asked[0].id
    assert said == {
        "status": "ok", "version": 3, "payload": {"n": 1}, "duration_ms": 1.5, "init_ms": 9.5, "memory_peak_mib": 40,
    }  # fmt: skip
    assert (hello.asked[0].qualifier, json.loads(hello.asked[0].payload), hello.asked[0].tail) == ("live", {"a": [1]}, False)


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.OK], ids=lambda each: each.value)
async def test_a_functions_failure_is_no_error_of_the_api(api, hello, status):
    hello.outcome = outcome(b'{"errorMessage": "no"}', status)
    answered, said = await call(api)
    assert (answered, said["status"], said["payload"]) == (200, status.value, {"errorMessage": "no"})


@pytest.mark.parametrize(
    ("body", "kind", "event"),
    [
        (None, None, {}),
        (b"", "text/plain", {}),
        (b"[1, 2]", None, [1, 2]),
        (b"null", "application/json; charset=utf-8", None),
        ("온돌".encode(), "text/plain; charset=utf-8", "온돌"),
        (b"\x00\xff", "application/octet-stream", base64.b64encode(b"\x00\xff").decode()),
        (b'"\\ud800"', "application/json", "\ud800"),
    ],
)
async def test_an_event_is_json_or_becomes_it(api, hello, body, kind, event):
    assert (await call(api, "", body, kind=kind))[0] == 200
    assert json.loads(hello.asked[0].payload) == event


@pytest.mark.parametrize(
    ("body", "kind", "status", "error"),
    [
        (b"{", None, 400, "InvalidPayload"),
        (b"\xff", None, 400, "InvalidPayload"),
        (b"\xff", "text/plain", 400, "InvalidPayload"),
        (b"[" * 100_000, None, 400, "InvalidPayload"),
        (b"a=1", "application/x-www-form-urlencoded", 415, "UnsupportedMediaType"),
        (b'"' + b"x" * SYNC_PAYLOAD_BYTES_MAX + b'"', None, 413, "TooLarge"),
    ],
    ids=["half", "no utf-8", "no text", "deep", "form", "too long"],
)
async def test_what_is_no_event_never_reaches_the_function(api, hello, body, kind, status, error):
    answered, said = await call(api, "", body, kind=kind)
    assert (answered, said["error"]) == (status, error)
    assert hello.asked == []


async def test_an_answer_that_is_no_json_comes_in_base64(api, hello):
    hello.outcome = outcome(b"\xff\x00")
    _, said = await call(api)
    assert base64.b64decode(said["payload_base64"]) == b"\xff\x00"
    assert "payload" not in said


async def test_an_answer_that_comes_in_pieces_is_put_together(api, hello):
    async def pieces():
        yield b'{"a"'
        yield b": 1}"

    hello.outcome = outcome(pieces())
    assert (await call(api))[1]["payload"] == {"a": 1}


async def test_an_answer_without_end_is_refused_and_closed(api, hello):
    closed = []

    async def pieces():
        try:
            while True:
                yield b"x" * 1_000_000
        finally:
            closed.append(True)

    hello.outcome = outcome(pieces())
    assert (await call(api))[0] == 413
    assert closed == [True]


async def test_the_answer_alone_has_the_rest_in_headers(api, hello):
    hello.outcome = outcome(b"[1]", Status.FAILED, target_version=7, tail=b"the end\n")
    response = await api.ask("POST", "/functions/hello/invoke?answer=payload&log=tail")
    headers = dict(response.headers)
    assert (response.status, response.body) == (200, b"[1]")
    assert (headers["x-ondol-status"], headers["x-ondol-version"]) == ("failed", "7")
    assert base64.b64decode(headers["x-ondol-log"]) == b"the end\n"
    assert headers["x-request-id"] == hello.asked[0].id


async def test_the_end_of_the_log_comes_where_it_is_asked_for(api, hello):
    hello.outcome = outcome(tail=b"said \xff\n")
    assert (await call(api, "?log=tail"))[1]["log"] == "said \ufffd\n"
    assert "log" not in (await call(api))[1]
    assert [each.tail for each in hello.asked] == [True, False]


async def test_a_deferred_call_is_accepted(api, hello):
    status, said = await call(api, "?mode=deferred", {"a": 1})
    assert (status, said) == (202, {"request_id": hello.deferred[0].id})
    assert hello.asked == []
    status, _ = await call(api, "?mode=deferred", json.dumps("x" * DEFERRED_PAYLOAD_BYTES_MAX).encode())
    assert (status, len(hello.deferred)) == (413, 1)


W3C = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FIELDS = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"


@pytest.mark.parametrize("query", ["", "?answer=payload", "?mode=deferred"])
@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ([("traceparent", W3C)], FIELDS),
        ([("x-amzn-trace-id", FIELDS + ";Lineage=1:a:0")], FIELDS + ";Lineage=1:a:0"),
        ([("x-amzn-trace-id", "nonsense"), ("traceparent", W3C)], FIELDS),
    ],
    ids=["W3C's", "fields", "no fields"],
)
async def test_a_trace_goes_in_through_and_out(api, hello, headers, trace, query):
    response = await api.ask("POST", f"/functions/hello/invoke{query}", headers=headers)
    (invocation,) = hello.asked + hello.deferred
    assert invocation.trace == trace
    assert dict(response.headers)["x-amzn-trace-id"] == trace


@pytest.mark.parametrize("headers", [[], [("traceparent", "00-zz")], [("x-amzn-trace-id", "Root=\xff")]])
async def test_without_a_trace_an_unsampled_one_begins(api, hello, headers):
    for _ in range(2):
        await api.ask("POST", "/functions/hello/invoke", headers=headers)
    first, second = (traces.from_fields(each.trace) for each in hello.asked)
    assert first.id != second.id
    assert (first.sampled, second.sampled) == (False, False)


async def test_a_check_starts_nothing(api, hello):
    assert await call(api, "?mode=check") == (204, None)
    assert (len(hello.checked), hello.asked, hello.deferred) == (1, [], [])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound("version", "hello:9"), 404),
        (errors.Throttled("account", retry_after_s=2.0), 429),
        (errors.RuntimeMissing("python3.7", "not here"), 502),
        (errors.StartFailed("could not"), 503),
        (errors.NotBuilt("not yet"), 501),
        (errors.OutOfSpace("full"), 507),
        (errors.Unavailable("going down"), 503),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_the_platforms_own_failure_is_an_error(api, hello, error, status):
    hello.outcome = error
    response = await api.ask("POST", "/functions/hello/invoke")
    said = json.loads(response.body)
    assert (response.status, said["error"], said["message"]) == (status, type(error).__name__, str(error))
    assert dict(response.headers).get("retry-after") == ("2" if status == 429 else None)


@pytest.mark.parametrize("qualifier", ["null", "true", "7", "live", ""])
async def test_a_qualifier_is_taken_as_it_is_written(api, hello, qualifier):
    await call(api, f"?qualifier={qualifier}")
    assert hello.asked[0].qualifier == qualifier


async def test_a_tenant_goes_along(api, hello):
    await call(api, "?tenant=blue%20team")
    await call(api)
    assert [asked.tenant for asked in hello.asked] == ["blue team", None]


async def test_what_nobody_expected_is_said_without_its_inside(api, hello):
    hello.outcome = ValueError("secret")
    request = Request("POST", "/ondol/v1/functions/hello/invoke", [("authorization", "owner")], Whole(b"{}"))
    response = await api.dialects[Plane.DATA].serve(request, None)
    said = json.loads(response.body)
    assert (response.status, said["error"], said["request_id"]) == (500, "Internal", dict(response.headers)["x-request-id"])
    assert b"secret" not in response.body


async def test_a_web_function_is_called_by_requests(api):
    await api.put("site")
    status, said = await api("POST", "/functions/site/invoke", {})
    assert (status, "/fn/site/" in said["message"]) == (400, True)
    assert api.function.asked == []


async def test_who_may_only_look_may_not_call(api, hello):
    for query in ("", "?mode=deferred", "?mode=check"):
        status, said = await call(api, query, {}, who="reader")
        assert (status, "read-only" in said["message"]) == (403, True)
    assert (await call(api, who=""))[0] == 401
    assert (hello.asked, hello.deferred, hello.checked) == ([], [], [])


TENANT = rf"^{TENANT_PATTERN}$(?!\n)"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?mode=later", "mode: expected one of wait, deferred, check"),
        ("?log=all", "log: expected one of none, tail"),
        ("?answer=x", "answer: expected one of outcome, payload"),
        ("?Qualifier=1", "there is no query parameter 'Qualifier' here; known: qualifier, tenant, mode, log, answer"),
        ("?tenant=blue%0Ared", f"tenant: expected str matching regex {TENANT!r}"),
        ("?tenant=blue%0A", f"tenant: expected str matching regex {TENANT!r}"),
    ],
)
async def test_a_way_to_call_that_there_is_not_is_refused(api, hello, query, words):
    status, said = await call(api, query)
    assert (status, said["message"]) == (400, words)
    assert hello.asked == []


def test_every_kind_of_failure_has_a_status_of_its_own_choosing():
    def all_below(kind):
        return {kind}.union(*(all_below(each) for each in kind.__subclasses__()))

    for kind in all_below(errors.OndolError) - {errors.OndolError}:
        error = kind.__new__(kind)
        error.args = ("a sentence",)
        for name, value in (("field", "f"), ("retry_after_s", 1.0)):
            setattr(error, name, value)
        response = of_error(error, "r")
        said = json.loads(response.body)
        assert (said["error"], said["message"], said["request_id"]) == (kind.__name__, str(error), "r")
        assert response.status == 415 or response.status in set(STATUS.values()) - {500}
