"""Function URLs with InvokeMode RESPONSE_STREAM: what an answer's head and content type mean, and how its body ends."""

import json

import pytest

from ondol.dialects.aws import url_events, url_streams
from ondol.model.errors import Unavailable
from ondol.model.invocations import Outcome, Status

PRELUDE = {"content_type": url_streams.PRELUDE}
HEAD = {"statusCode": 201, "headers": {"x-mine": "1", "Content-Type": "text/html"}, "cookies": ["a=1", "b=2"]}


class Body:
    """Chunks, and how they end."""

    def __init__(self, *chunks, then=None):
        self.left, self.then, self.closed = list(chunks), then, False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.left:
            return self.left.pop(0)
        raise self.then or StopAsyncIteration

    async def aclose(self):
        self.closed = True


async def ended(outcome):
    return outcome


def an_outcome(body, head=None, status=Status.OK, end=None):
    return Outcome(status=status, body=body, target_version=None, report=None, head=head or {}, end=end)


async def read(response):
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
async def test_a_head_in_front_of_the_body_is_the_response_however_it_is_cut(size):
    raw = json.dumps(HEAD).encode() + bytes(8) + b"\0\0body"
    body = Body(*[raw[at : at + size] for at in range(0, len(raw), size)])
    response = await url_streams.answered(an_outcome(body, PRELUDE))
    assert response.status == 201
    assert list(response.headers) == [
        ("x-mine", "1"), ("Content-Type", "text/html"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"),
    ]  # fmt: skip
    assert await read(response) == b"\0\0body"
    await response.body.aclose()
    assert body.closed


async def test_an_empty_head_is_a_200_of_octets():
    response = await url_streams.answered(an_outcome(Body(b"{}" + bytes(8), b"body"), PRELUDE))
    assert (response.status, list(response.headers)) == (200, [("Content-Type", "application/octet-stream")])
    assert await read(response) == b"body"


async def test_a_head_may_also_come_with_an_answer_that_is_there_at_once():
    response = await url_streams.answered(an_outcome(b'{"statusCode":404}' + bytes(8) + b"no", PRELUDE))
    assert (response.status, response.body) == (404, b"no")


@pytest.mark.parametrize(
    ("said", "kind"),
    [({}, "application/octet-stream"), ({"content_type": "text/plain"}, "text/plain"),
     ({"content_type": "a\r\nx: y"}, "application/octet-stream")],
)  # fmt: skip
async def test_an_answer_without_a_head_is_the_body_of_a_200(said, kind):
    response = await url_streams.answered(an_outcome(Body(b"a", b"b"), said))
    assert (response.status, list(response.headers), await read(response)) == (200, [("Content-Type", kind)], b"ab")


async def test_what_a_handler_answers_at_once_is_the_body_whatever_it_looks_like():
    answer = b'{"statusCode": 404, "body": "not read"}'
    response = await url_streams.answered(an_outcome(answer))
    assert (response.status, list(response.headers), response.body) == (200, [("Content-Type", "application/json")], answer)


@pytest.mark.parametrize(
    "chunks",
    [[], [b"{}"], [b"[]" + bytes(8)], [b"no json" + bytes(8)], [b"[" * 60_000 + bytes(8)], [b"\xff" + bytes(8)],
     [b'{"statusCode": 99}' + bytes(8)], [b'{"statusCode": true}' + bytes(8)], [b'{"headers": {"a b": "c"}}' + bytes(8)],
     [b'{"headers": {"a": "b\\r\\nc: d"}}' + bytes(8)], [b'{"cookies": "a=1"}' + bytes(8)], [b" " * 40_000] * 3],
)  # fmt: skip
async def test_a_head_that_is_none_is_refused_and_the_rest_let_go(chunks):
    body = Body(*chunks)
    with pytest.raises(url_events.Malformed):
        await url_streams.answered(an_outcome(body, PRELUDE))
    assert body.closed


async def test_a_function_that_failed_before_its_first_byte_has_no_response():
    with pytest.raises(url_events.Malformed):
        await url_streams.answered(an_outcome(b"{}", status=Status.FAILED))


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMEOUT, Status.CRASHED, Status.TOO_LARGE])
async def test_a_body_ends_where_the_function_failed_and_breaks_where_it_was_cut_off(status):
    body = Body(b"a", then=Unavailable("cut"))
    response = await url_streams.answered(an_outcome(body, end=ended(an_outcome(b"{}", status=status))))
    if status is Status.FAILED:
        assert await read(response) == b"a"
    else:
        with pytest.raises(Unavailable):
            await read(response)
