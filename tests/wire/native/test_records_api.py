"""`/ondol/v1/records`: an account's invocations, found by function, outcome, time and id; in JSON, without payloads."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.native.reading import query_of
from ondol.dialects.native.records import OPERATIONS, RecordQuery
from ondol.model import errors
from ondol.model.invocations import Status
from ondol.testing.suites import recorder as suite

SHOWN = {
    "request_id": "whole", "function": "hello", "version": 3, "qualifier": "live", "status": "crashed", "started_ms": 1_500,
    "queue_ms": 0.25, "start_ms": 80.5, "handler_ms": 1.5, "memory_mib": 128, "memory_peak_mib": 40, "exit_status": -9,
    "trace": "Root=1-2;Sampled=1",
}  # fmt: skip
#: What there is, newest first.
ALL = ["gone", "fails", "runs late", "fails", "runs"]


@pytest.fixture
async def kept(api, home):
    """Calls of two functions and of one that is gone; one was tried twice. Another account and another region have theirs."""
    hello = await api.aws_function("hello")
    await api.put("site")
    site = api.desk.index.named(home.account, home.region, "site")

    def record(*given, **more):
        return suite.record(*given, **{"account": home.account, "region": home.region, **more})

    api.recorder.add(
        [
            record("runs", hello.id, started_ms=100),
            record("fails", site.id, Status.FAILED, started_ms=200),
            record("runs late", hello.id, started_ms=300),
            record("fails", site.id, Status.TIMEOUT, started_ms=400),
            record("another's", hello.id, account="9" * 12),
            record("elsewhere", hello.id, region="far-1"),
            record("gone", "id of what is gone", Status.OUT_OF_MEMORY, started_ms=500),
        ]
    )
    return record


async def ids(api, query="", **more):
    status, found = await api("GET", "/records" + query, **more)
    assert status == 200
    return [each["request_id"] for each in found["records"]]


async def test_all_are_listed_newest_first(api, kept):
    assert await ids(api) == ALL


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?function=hello", ["runs late", "runs"]),
        ("?function=site&failed=true", ["fails", "fails"]),
        ("?function=site&failed=false", []),
        ("?function=nobody", []),
        ("?status=ok", ["runs late", "runs"]),
        ("?status=timeout", ["fails"]),
        ("?status=out_of_memory", ["gone"]),
        ("?status=ok&failed=true", []),
        ("?failed=true", ["gone", "fails", "fails"]),
        ("?failed=false", ["runs late", "runs"]),
        ("?since_ms=300", ["gone", "fails", "runs late"]),
        ("?since_ms=200&until_ms=400", ["runs late", "fails"]),
        ("?limit=2", ["gone", "fails"]),
    ],
)
async def test_a_listing_is_of_a_function_an_outcome_and_a_time(api, kept, query, found):
    assert await ids(api, query) == found


async def test_each_shows_how_it_ended_and_where_its_time_went(api, kept):
    given = {key: value for key, value in SHOWN.items() if key not in ("request_id", "function", "status")}
    api.recorder.add([kept("whole", "f", Status.CRASHED, name="hello", **given)])
    for path in ("/records?limit=1", "/records/whole"):
        assert (await api("GET", path))[1]["records"] == [SHOWN]


async def test_what_was_not_measured_is_null(api, kept):
    _, page = await api("GET", "/records/runs")
    (shown,) = page["records"]
    for member in ("version", "qualifier", "queue_ms", "start_ms", "exit_status", "trace"):
        assert shown[member] is None
    assert page["next"] is None


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
@pytest.mark.parametrize(("query", "all_of_them"), [("", ALL), ("&function=hello", ["runs late", "runs"])])
async def test_pages_of_any_size_give_every_record_once(api, kept, size, query, all_of_them):
    found, after = [], ""
    while after is not None:
        _, page = await api("GET", f"/records?limit={size}{query}{after}")
        assert len(page["records"]) <= size
        found += [each["request_id"] for each in page["records"]]
        after = f"&after={page['next']}" if page["next"] is not None else None
        api.recorder.add([kept("comes in between", started_ms=600)])
    assert found == all_of_them


async def test_each_attempt_of_one_call_is_shown_newest_first(api, kept):
    status, shown = await api("GET", "/records/fails")
    assert (status, [each["status"] for each in shown["records"]]) == (200, ["timeout", "failed"])


@pytest.mark.parametrize("other", ["x", "another's", "elsewhere", "x" * 500])
async def test_what_is_not_there_or_is_anothers_is_not_found(api, kept, other):
    status, said = await api("GET", f"/records/{other}")
    assert (status, said["message"]) == (404, f"record not found: {other[:80]}")


async def test_a_read_only_key_may_look(api, kept):
    assert await ids(api, who="reader") == ALL
    assert (await api("GET", "/records/runs", who="reader"))[0] == 200


@pytest.mark.parametrize("path", [each.path.replace("{id}", "runs") for each in OPERATIONS])
async def test_nobody_and_no_function_may_look(api, kept, path):
    assert (await api("GET", path, who="nobody"))[0] == 401
    assert (await api("GET", path, who="function"))[0] == 403


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("status=bad", "status", "expected one of"),
        ("failed=perhaps", "failed", "failed: expected bool"),
        ("limit=0", "limit", "limit: expected int >= 1"),
        ("limit=1001", "limit", "limit: expected int <= 1000"),
        ("since_ms=-1", "since_ms", "since_ms: expected int >= 0"),
        ("since_ms=1h", "since_ms", "since_ms: expected int"),
        ("until_ms=-1", "until_ms", "until_ms: expected int >= 0"),
        (f"until_ms={10**16}", "until_ms", "until_ms: expected int <= 1000000000000000"),
        (f"until_ms={'9' * 40}", "until_ms", "until_ms: "),
        ("after=x", "after", "is not the `next`"),
        ("after=", "after", "is not the `next`"),
        ("after=-1", "after", "is not the `next`"),
        ("after=%D9%A1", "after", "is not the `next`"),
        (f"after={'9' * 19}", "after", "is not the `next`"),
        (
            "fucntion=hello", "fucntion",
            "known: function, status, failed, since_ms, until_ms, limit, after",
        ),
    ],
)  # fmt: skip
async def test_a_mistake_gets_a_sentence_that_names_the_parameter(api, query, field, words):
    status, said = await api("GET", f"/records?{query}")
    assert (status, said["error"], said["field"]) == (400, "InvalidSetting", field)
    assert words in said["message"]


async def test_the_largest_numbers_that_are_taken_find_what_they_should(api, kept):
    assert await ids(api, f"?until_ms={10**15}&after={'9' * 18}") == ALL
    assert await ids(api, f"?since_ms={10**15}") == []
    assert await ids(api, "?after=0") == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("DELETE", "/records", 405), ("PUT", "/records/runs", 405), ("GET", "/records/a/b", 404), ("GET", "/record", 404)],
)
async def test_what_is_not_offered_is_not_found(api, method, path, status):
    assert (await api(method, path))[0] == status


@given(st.dictionaries(st.sampled_from(RecordQuery.__struct_fields__), st.text(max_size=30)))
def test_any_query_is_understood_within_its_bounds_or_refused(given_):
    try:
        query = query_of(urlencode(given_, errors="replace"), RecordQuery)
    except errors.InvalidSetting:
        return
    assert 1 <= query.limit <= 1000
    assert 0 <= query.since_ms <= 10**15
    assert query.until_ms is None or 0 <= query.until_ms <= 10**15


def test_every_way_to_end_can_be_asked_for_and_shown():
    for status in Status:
        assert query_of(f"status={status.value}", RecordQuery).status == status.value
