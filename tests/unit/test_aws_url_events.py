"""Function URLs' payload format 2.0, both ways, and what pages of other origins are told."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws.url_cors import marked, preflight
from ondol.dialects.aws.url_events import Malformed, event, response
from ondol.http.bodies import Whole
from ondol.http.messages import Request, Response

HOST = "abc.lambda-url.eu-west-1.localhost:7979"


def made(method="GET", target="/", headers=(), body=b"", caller=None):
    asked = Request(method, target, [("host", HOST), *headers], Whole(body), "127.0.0.1:55555")
    return event(asked, body, url_id="abc", path=asked.path, request_id="id", trace="Root=1", at_s=1583348638.39, caller=caller)


def test_an_event_of_a_plain_request():
    assert made(target="/my/path?a=1&a=2&b=%20x", headers=[("user-agent", "curl"), ("x-more", "1"), ("x-more", "2")]) == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/path",
        "rawQueryString": "a=1&a=2&b=%20x",
        "queryStringParameters": {"a": "1,2", "b": " x"},
        "headers": {
            "host": HOST,
            "user-agent": "curl",
            "x-more": "1, 2",
            "x-amzn-trace-id": "Root=1",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": "7979",
            "x-forwarded-proto": "http",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "domainName": "abc.lambda-url.eu-west-1.localhost",
            "domainPrefix": "abc",
            "http": {
                "method": "GET",
                "path": "/my/path",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "curl",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "04/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "isBase64Encoded": False,
    }


def test_cookies_stand_apart():
    told = made(headers=[("cookie", "a=1; b=2"), ("cookie", "c=3")])
    assert told["cookies"] == ["a=1", "b=2", "c=3"]
    assert "cookie" not in told["headers"]


def test_who_signed_is_told():
    told = made(caller={"accountId": "123456789012", "userArn": "arn"})
    assert told["requestContext"]["accountId"] == "123456789012"
    assert told["requestContext"]["authorizer"] == {"iam": {"accountId": "123456789012", "userArn": "arn"}}


@pytest.mark.parametrize(
    ("kind", "body", "encoded"),
    [
        ("application/json", b'{"a": 1}', False),
        ("application/json; charset=utf-8", "ü".encode(), False),
        ("application/vnd.api+json", b"{}", False),
        ("text/plain", b"hello", False),
        ("", b"hello", False),
        ("", b"\xff", True),
        ("text/plain", b"\xff", True),
        ("application/octet-stream", b"hello", True),
        ("multipart/form-data; boundary=x", b"--x", True),
        ("application/x-www-form-urlencoded", b"a=1", True),
    ],
)
def test_bodies_go_as_text_or_as_base64(kind, body, encoded):
    told = made("POST", headers=[("content-type", kind)] if kind else [], body=body)
    assert told["isBase64Encoded"] is encoded
    assert (base64.b64decode(told["body"]) if encoded else told["body"].encode()) == body


@given(st.binary(max_size=64), st.text(max_size=20), st.text("abc=&%;+ ", max_size=20))
def test_any_request_becomes_an_event(body, kind, query):
    told = made("POST", f"/x?{query}", [("content-type", kind)], body)
    assert json.loads(json.dumps(told)) == told


# Answers --------------------------------------------------------------------------------------------------------------------
def shown(answer):
    said = response(json.dumps(answer).encode())
    return said.status, dict(said.headers), said.body


@pytest.mark.parametrize(
    ("answer", "body"),
    [({"hello": "world"}, b'{"hello":"world"}'), ("text", b"text"), (None, b"null"), (7, b"7"), ([1, 2], b"[1,2]")],
)
def test_what_has_no_status_code_is_the_body(answer, body):
    assert shown(answer) == (200, {"Content-Type": "application/json"}, body)


def test_a_structured_answer_says_all_by_itself():
    answer = {
        "statusCode": 201, "headers": {"Content-Type": "text/html", "X-Number": 7, "X-Yes": True, "Content-Length": "99"},
        "body": "<p>", "cookies": ["a=1", "b=2"],
    }  # fmt: skip
    said = response(json.dumps(answer).encode())
    assert (said.status, said.body) == (201, b"<p>")
    assert list(said.headers) == [
        ("Content-Type", "text/html"), ("X-Number", "7"), ("X-Yes", "true"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"),
    ]  # fmt: skip


def test_bytes_come_as_base64():
    answer = {"statusCode": 200, "body": base64.b64encode(b"\x00\xff").decode(), "isBase64Encoded": True}
    assert shown(answer)[2] == b"\x00\xff"


def test_an_answer_with_nothing_but_a_status():
    assert shown({"statusCode": "204"}) == (204, {"Content-Type": "application/json"}, b"")


@pytest.mark.parametrize(
    "answer",
    [
        {"statusCode": "many"},
        {"statusCode": 99},
        {"statusCode": 600},
        {"statusCode": True},
        {"statusCode": 200, "headers": {"x": "a\r\nset-cookie: b"}},
        {"statusCode": 200, "headers": {"x y": "a"}},
        {"statusCode": 200, "headers": {"x": {}}},
        {"statusCode": 200, "headers": ["a"]},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "cookies": ["a=1\nb: c"]},
        {"statusCode": 200, "body": "no base64!", "isBase64Encoded": True},
    ],
)
def test_what_is_no_response_is_malformed(answer):
    with pytest.raises(Malformed):
        shown(answer)


# Pages ----------------------------------------------------------------------------------------------------------------------
CORS = {"AllowOrigins": ["https://one.example", "https://*.two.example"], "AllowMethods": ["GET"], "AllowHeaders": ["x-a", "x-b"],
        "MaxAge": 60, "ExposeHeaders": ["date"]}  # fmt: skip


def asked(origin, method="GET", **headers):
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request(method, "/", [("host", HOST), *([("origin", origin)] if origin else []), *named], Whole(b""))


def before(origin, method="GET"):
    return preflight(asked(origin, "OPTIONS", access_control_request_method=method), CORS)


def test_a_page_that_asks_first_is_told_what_it_may():
    answer = before("https://one.example")
    assert dict(answer.headers) == {
        "Access-Control-Allow-Origin": "https://one.example",
        "Vary": "Origin",
        "Access-Control-Expose-Headers": "date",
        "Access-Control-Allow-Methods": "GET",
        "Access-Control-Allow-Headers": "x-a,x-b",
        "Access-Control-Max-Age": "60",
    }
    for refused in (before("https://other.example"), before("https://one.example", "PUT"), before("https://two.example")):
        assert (refused.status, list(refused.headers)) == (200, [])
    assert dict(before("https://a.two.example").headers)["Access-Control-Allow-Origin"] == "https://a.two.example"


def test_what_is_no_question_goes_to_the_function():
    assert preflight(asked("https://one.example", "OPTIONS"), CORS) is None
    assert preflight(asked("https://one.example"), CORS) is None
    assert preflight(asked("https://one.example", "OPTIONS", access_control_request_method="GET"), None) is None


def test_answers_carry_what_the_url_says_and_not_what_the_function_says():
    said = [("Access-Control-Allow-Origin", "*"), ("x", "1")]
    answer = marked(asked("https://one.example"), Response(200, said, b""), CORS)
    assert dict(answer.headers)["Access-Control-Allow-Origin"] == "https://one.example"
    assert dict(marked(asked("https://other.example"), Response(200, said, b""), CORS).headers) == {"x": "1"}
    assert dict(marked(asked("https://other.example"), Response(200, said, b""), None).headers) == dict(said)


def test_any_origin_and_credentials():
    everybody = {"AllowOrigins": ["*"], "AllowMethods": ["*"]}
    assert dict(marked(asked("https://a.example"), Response(200, [], b""), everybody).headers) == {
        "Access-Control-Allow-Origin": "*"
    }
    with_cookies = dict(
        marked(asked("https://a.example"), Response(200, [], b""), {**everybody, "AllowCredentials": True}).headers
    )
    assert with_cookies["Access-Control-Allow-Origin"] == "https://a.example"
    assert with_cookies["Access-Control-Allow-Credentials"] == "true"
