"""The dispatch table: the most specific row answers, and no two rows can both be that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.http.bodies import EMPTY
from ondol.http.messages import Request
from ondol.http.table import Plane, Route, Table, credential, overlaps


def row(name, **fields):
    return Route(dialect=fields.pop("dialect", "aws"), name=name, plane=Plane.DATA, **fields)


def asking(target="/", method="GET", host="localhost:7979", **headers):
    return Request(
        method, target, [("host", host), *((name.replace("_", "-"), value) for name, value in headers.items())], EMPTY
    )


def signed(service):
    return f"AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=00"


ROWS = [
    row("lambda", path="/2015-03-31"),
    row("invoke", path="/2015-03-31/functions", path_end="invocations", methods=("POST",)),
    row("logs", scope="logs", methods=("POST",)),
    row("sts", scope="sts"),
    row("web", dialect="plain", path="/fn"),
    row("keys", dialect="node", path="/keys", auth="bearer"),
    row("bucket", dialect="store", host="store"),
    row("parcel", dialect="store", host="*.parcels"),
    row("home", dialect="node"),
]


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (asking("/2015-03-31/functions/"), "lambda"),
        (asking("/2015-03-31/functions/f/invocations", "POST"), "invoke"),
        (asking("/2015-03-31/functions/f/invocations?Qualifier=1", "POST"), "invoke"),
        (asking("/2015-03-31/functions/f/invocations", "GET"), "lambda"),
        (asking("/2015-03-31/functions/invocations", "POST"), "invoke"),
        (asking("/2015-03-311/functions"), "home"),
        (asking("/", "POST", authorization=signed("logs")), "logs"),
        (asking("/", "GET", authorization=signed("logs")), "home"),
        (asking("/", "POST", authorization=signed("sts")), "sts"),
        (asking("/?X-Amz-Credential=A%2F20260101%2Fr%2Fsts%2Faws4_request&X-Amz-Signature=0"), "sts"),
        (asking("/", "POST", authorization=signed("elsewhere")), "home"),
        (asking("/fn"), "web"),
        (asking("/fn/hello/x", "PUT"), "web"),
        (asking("/fnord"), "home"),
        (asking("/keys", authorization="Bearer k"), "keys"),
        (asking("/keys"), "home"),
        (asking("/fn/hello", host="store.localhost:7979"), "bucket"),
        (asking("/fn/hello", host="7.parcels.localhost"), "parcel"),
        (asking("/2015-03-31", host="7.parcels.north.localhost:7979"), "parcel"),
        (asking("/fn/hello", host="parcels.localhost"), "web"),
        (asking("/fn/hello", host="7.parcels.elsewhere"), "web"),
        (asking("/fn/hello", host="plain.localhost"), "web"),
        (asking("/fn/hello", host="elsewhere.localhost"), "web"),
    ],
)
def test_the_most_specific_row_answers(request_, name):
    assert Table(ROWS).match(request_).name == name


def test_a_dialects_own_host_leaves_only_its_rows():
    table = Table(ROWS)
    assert table.match(asking("/2015-03-31/functions", host="plain.localhost")) is None
    assert table.match(asking("/2015-03-31/functions", host="aws.localhost")).name == "lambda"


def test_no_row_is_no_answer():
    assert Table([row("web", path="/fn")]).match(asking("/")) is None
    assert Table([]).match(asking("/")) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (signed("lambda"), ("sigv4", "lambda")),
        ("AWS4-ECDSA-P256-SHA256 Credential=AKIA/20260101/lambda/aws4_request, SignedHeaders=host", ("sigv4", "lambda")),
        ("AWS4-HMAC-SHA256 Credential=nonsense", ("sigv4", "")),
        ("AWS4-HMAC-SHA256", ("sigv4", "")),
        ("bearer k", ("bearer", "")),
        ("Basic eDp5", ("", "")),
        ("", ("", "")),
    ],
)
def test_the_auth_scheme_is_told_from_the_header(header, expected):
    assert credential(asking(authorization=header) if header else asking()) == expected


def test_a_good_table_has_no_overlaps():
    assert overlaps(ROWS) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/a"}, {"path": "/a"}),
        ({"path": "/a"}, {"path": "/a/"}),
        ({"path": "/a", "methods": ("GET", "POST")}, {"path": "/a", "methods": ("POST",)}),
        ({"scope": "logs"}, {"scope": "logs", "auth": "sigv4"}),
        ({"host": "x"}, {"host": "x", "dialect": "other"}),
        ({"path": "/a", "path_end": "b"}, {"path": "/a", "path_end": "b"}),
    ],
)
def test_rows_that_tie_are_found(one, other):
    first, second = row("one", **one), row("other", **other)
    assert overlaps([first, row("third", path="/elsewhere"), second]) == [(first, second)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/a"}, {"path": "/a/b"}),
        ({"path": "/a"}, {"path": "/b"}),
        ({"path": "/a", "methods": ("GET",)}, {"path": "/a", "methods": ("POST",)}),
        ({"path": "/a", "methods": ("GET",)}, {"path": "/a"}),
        ({"scope": "logs"}, {"scope": "sts"}),
        ({"auth": "bearer"}, {"auth": "sigv4"}),
        ({"host": "x"}, {"host": "y"}),
    ],
)
def test_rows_that_cannot_tie_are_not(one, other):
    assert overlaps([row("one", **one), row("other", **other)]) == []


some_rows = st.builds(
    Route,
    dialect=st.sampled_from(["aws", "plain"]),
    name=st.just("row"),
    plane=st.just(Plane.DATA),
    host=st.sampled_from(["", "", "aws"]),
    path=st.sampled_from(["", "/", "/a", "/a/b", "/b"]),
    path_end=st.sampled_from(["", "b", "c"]),
    methods=st.sampled_from([(), ("GET",), ("GET", "POST")]),
    auth=st.sampled_from(["", "bearer"]),
)
some_requests = st.builds(
    lambda path, method, host, auth: asking(path, method, host, authorization=auth),
    st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/c", "/a/c", "/b", "/b/b", "/c", "/ab"]),
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from(["localhost", "aws.localhost", "plain.localhost", "127.0.0.1:1"]),
    st.sampled_from(["", "Bearer x", signed("logs")]),
)


@given(st.lists(some_rows, max_size=6, unique=True), some_requests)
def test_without_overlaps_the_order_of_the_rows_does_not_matter(rows, request_):
    rows = [route for at, route in enumerate(rows) if not any(overlaps([route, before]) for before in rows[:at])]
    assert Table(rows).match(request_) == Table(reversed(rows)).match(request_)


def test_what_a_row_is_remembered_by_leaves_nothing_out_that_decides():
    table = Table(ROWS)
    # The same host, method and path again and again, told apart by the credential alone, in any order.
    for _ in range(2):
        assert table.match(asking("/", "POST", authorization=signed("logs"))).name == "logs"
        assert table.match(asking("/", "POST")).name == "home"
        assert table.match(asking("/", "POST", authorization=signed("sts"))).name == "sts"
        assert table.match(asking("/2015-03-31/functions/f/invocations", "POST")).name == "invoke"
        assert table.match(asking("/2015-03-31/functions/f/invocations", "GET")).name == "lambda"
        assert table.match(asking("/2015-03-31/functions/f/invocations", "POST", "store.localhost")).name == "bucket"


def test_clients_cannot_make_the_table_remember_without_end():
    table = Table(ROWS)
    for number in range(20_000):
        assert table.match(asking(f"/fn/{number}", "GET")).name == "web"
        assert table.match(asking(f"/fn/{'x' * 300}{number}", "GET")).name == "web"
    assert len(table._known) <= 4096 and max(len(path) for _, _, path in table._known) <= 256
