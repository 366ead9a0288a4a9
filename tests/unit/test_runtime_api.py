"""The Runtime API against the documents: states, headers, errors and deaths, with a process that is played by the test."""

import asyncio
import contextlib
import json
import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.http.bodies import EMPTY, Stream, Whole
from ondol.http.messages import Request
from ondol.model.limits import RESULT_BYTES_MAX
from ondol.runtime import BrokeOff, Call, Ending
from ondol.runtimes import api_http
from ondol.runtimes.api_states import NotAllowed, Runtime, State
from ondol.runtimes.api_worker import ApiWorker
from ondol_guest import frames

ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
META = {"id": ID, "deadline_ms": 1542409706888, "arn": "arn:aws:lambda:eu-west-1:1:function:f", "trace": "Root=1-5bef4de7"}


class Child:
    """`ondol.sandbox.Child` of a test's own."""

    pid = 7

    def __init__(self):
        ours, self.far = socket.socketpair()
        self.wire = ours.detach()
        self.log, self.out = os.pipe()
        self.status = asyncio.get_running_loop().create_future()
        self.signals = []

    def signal(self, number):
        self.signals.append(number)

    async def wait(self):
        return await self.status

    def exits(self, status):
        self.status.set_result(status)
        self.far.close()

    def close(self):
        self.far.close()
        os.close(self.out)


class Played:
    """A worker, and the process that speaks to it."""

    def __init__(self, make=ApiWorker):
        self.child = Child()
        self.idle = []
        #: Calls are begun without a coroutine, where the worker can.
        self.begins = False
        self.left = 0
        complaint = lambda program, number: f"{program}: {number}"  # noqa: E731
        self.worker = make(self.child, lambda text, at_ms: self.idle.append(text), complaint, self._left)

    def _left(self, _):
        self.left += 1

    def close(self):
        self.worker.close()
        self.worker.close()

    def call(self, value=None, by=None, **meta):
        """A task that gives (answer, lines). `by`: another than its worker."""
        lines = []
        call = Call(meta=json.dumps({**META, **meta}).encode(), payload=json.dumps(value).encode())
        worker, sink = by or self.worker, lambda text, at_ms: lines.append(text)
        if self.begins and worker.begin is not None:
            answering = asyncio.get_running_loop().create_future()
            worker.begin(call, sink, lambda answer: answering.cancelled() or answering.set_result(answer))
        else:
            answering = worker.call(call, sink)

        async def answered():
            return await answering, lines

        return asyncio.ensure_future(answered())

    async def asks(self, method, path, body=b"", headers=(), stream=None):
        body = stream if stream is not None else Whole(body) if body else EMPTY
        return await api_http.serve(self.worker, Request(method, f"/2018-06-01/{path}", headers, body))

    async def next(self):
        return await self.asks("GET", "runtime/invocation/next")

    async def answers(self, body=b"1", kind="response", invocation=ID, **more):
        return await self.asks("POST", f"runtime/invocation/{invocation}/{kind}", body, **more)

    def says(self, text):
        os.write(self.child.out, text.encode())


def played(test, make=Played):
    """Run an async test with what `make` makes: with calls that are awaited, and with calls that are begun."""

    async def bounded(begins):
        play = make()
        play.begins = begins
        try:
            async with asyncio.timeout(20):
                await test(play)
        finally:
            play.close()
            assert play.left == 1
            if not play.child.status.done():
                play.child.exits(0)
            await play.worker.ended()
            play.child.close()

    def run():
        for begins in (False, True):
            asyncio.run(bounded(begins))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def error_of(response):
    said = json.loads(response.body)
    return response.status, said["errorType"], said["errorMessage"]


# Calls ------------------------------------------------------------------------------------------------------------------


@played
async def test_a_call_is_handed_to_who_waits_and_its_answer_to_who_called(play):
    asking = asyncio.ensure_future(play.next())
    await asyncio.sleep(0)
    call = play.call({"a": 1}, client_context={"custom": {"ü": "x"}}, identity='{"cognitoIdentityId": "c"}', tenant="t")
    given = await asking
    assert given.status == 200
    assert given.body == b'{"a": 1}'
    assert dict(given.headers) == {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": ID,
        "Lambda-Runtime-Deadline-Ms": "1542409706888",
        "Lambda-Runtime-Invoked-Function-Arn": META["arn"],
        "Lambda-Runtime-Trace-Id": META["trace"],
        "Lambda-Runtime-Client-Context": '{"custom":{"\\u00fc":"x"}}',
        "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId":"c"}',
        "Lambda-Runtime-Aws-Tenant-Id": "t",
    }
    accepted = await play.answers(b'{"b":2}')
    assert (accepted.status, json.loads(accepted.body)) == (202, {"status": "OK"})
    answer, _ = await call
    assert (answer.ending, answer.body, answer.started) == (Ending.OK, b'{"b":2}', True)
    assert answer.init_ms == play.worker.init_ms >= 0


@played
async def test_who_called_hears_of_an_answer_before_the_process_does(play):
    order = []
    call = play.call()
    call.add_done_callback(lambda _: order.append("who called"))
    await play.next()
    path = f"/2018-06-01/runtime/invocation/{ID}/response"
    assert api_http.prompt(play.worker, Request("POST", path, (), Whole(b"1")), lambda response: order.append(response.status))
    await call
    while len(order) < 2:
        await asyncio.sleep(0)
    assert order == ["who called", 202]


@played
async def test_no_request_but_a_usual_calls_two_is_answered_without_a_coroutine(play):
    call = play.call()
    await play.next()
    mode = (("lambda-runtime-function-response-mode", "streaming"),)
    for method, path, headers in (
        ("POST", f"runtime/invocation/{ID}/error", ()),
        ("POST", "runtime/invocation/another/response", ()),
        ("POST", f"runtime/invocation/{ID}/response", mode),
        ("POST", "runtime/init/error", ()),
        ("GET", "runtime/invocation/another", ()),
    ):
        request = Request(method, f"/2018-06-01/{path}", headers, Whole(b"1"))
        assert not api_http.prompt(play.worker, request, pytest.fail)
    await play.answers()
    await call


@played
async def test_a_client_context_that_no_parser_ends_is_passed_on_as_it_is(play):
    call = play.call(client_context="[" * 100_000)
    given = dict((await play.next()).headers)
    assert given["Lambda-Runtime-Client-Context"] == "[" * 100_000
    await play.answers()
    await call


@played
async def test_a_call_waits_until_the_process_asks_and_only_the_first_answer_tells_of_loading(play):
    for number in (1, 2):
        call = play.call(number)
        assert (await play.next()).body == str(number).encode()
        await play.answers()
        answer, _ = await call
        assert (answer.init_ms is None) == (number == 2)


@played
async def test_lines_come_before_the_answer_and_those_of_loading_are_nobodys(play):
    play.says("loading\n")
    call = play.call()
    await play.next()
    play.says("working\nhalf a line")
    await play.answers()
    _, lines = await call
    assert (play.idle, lines) == (["loading\n"], ["working\n", "half a line"])


@played
async def test_what_breaks_a_header_is_no_header(play):
    call = play.call(client_context="no json\r\nX: y", trace="a\r\nb")
    headers = dict((await play.next()).headers)
    assert headers["Lambda-Runtime-Client-Context"] == "no json??X: y"
    assert headers["Lambda-Runtime-Trace-Id"] == "a??b"
    await play.answers()
    await call


@played
async def test_the_functions_own_error_is_its_answer(play):
    call = play.call()
    await play.next()
    body = b'{"errorMessage":"m","errorType":"T"}'
    headers = [("lambda-runtime-function-error-type", "Function.Mine")]
    assert (await play.answers(body, "error", headers=headers)).status == 202
    answer, _ = await call
    assert (answer.ending, answer.body, answer.meta) == (Ending.ERROR, body, {"error_type": "Function.Mine"})


@played
async def test_an_error_with_a_cause_is_shown_without_it(play):
    call = play.call()
    await play.next()
    sent = {"errorMessage": "m", "errorType": "T", "stackTrace": [], "errorCause": {"working_directory": "/"}}
    headers = [("content-type", "application/vnd.aws.lambda.error.cause+json")]
    await play.answers(json.dumps(sent).encode(), "error", headers=headers)
    answer, _ = await call
    assert json.loads(answer.body) == {"errorMessage": "m", "errorType": "T", "stackTrace": []}


@played
async def test_an_answer_over_the_limit_is_refused_and_the_call_told(play):
    call = play.call()
    await play.next()
    status, kind, message = error_of(await play.answers(bytes(RESULT_BYTES_MAX + 1)))
    assert (status, kind) == (413, "RequestEntityTooLarge")
    assert message == "Exceeded maximum allowed payload size (6291556 bytes)."
    assert (await call)[0].ending is Ending.TOO_LARGE
    call = play.call()
    assert (await play.next()).status == 200
    await play.answers()
    assert (await call)[0].ending is Ending.OK


@played
async def test_an_answer_that_breaks_off_is_the_functions_error(play):
    call = play.call()
    await play.next()
    stream = Stream(None, lambda: None, lambda: None)
    stream.feed(b"half")
    stream.end("the client closed the connection before its body was whole")
    assert error_of(await play.answers(stream=stream))[:2] == (400, "TruncatedHTTPRequest")
    answer, _ = await call
    assert (answer.ending, json.loads(answer.body)["errorType"]) == (Ending.ERROR, "Runtime.TruncatedResponse")


# Streams ----------------------------------------------------------------------------------------------------------------
STREAMING = (("lambda-runtime-function-response-mode", "streaming"), ("content-type", "text/html"))


@played
async def test_an_answer_streams_at_its_readers_pace(play):
    call = play.call()
    await play.next()
    stream = Stream(None, lambda: None, lambda: None)
    posting = asyncio.ensure_future(play.answers(stream=stream, headers=STREAMING))
    answer, _ = await call
    assert answer.meta == {"content_type": "text/html"}
    for piece in (b"one", b"two"):
        stream.feed(piece)
        assert await anext(answer.body) == piece
    assert not posting.done()
    stream.end()
    assert [chunk async for chunk in answer.body] == []
    assert (await posting).status == 202
    again = play.call()
    assert (await play.next()).status == 200
    await play.answers()
    await again


@played
async def test_a_stream_ends_with_the_error_that_its_trailers_name(play):
    call = play.call()
    await play.next()
    stream = Stream(None, lambda: None, lambda: None)
    posting = asyncio.ensure_future(play.answers(stream=stream, headers=STREAMING))
    answer, _ = await call
    stream.feed(b"one")
    stream.trailers += [
        ("lambda-runtime-function-error-type", "Function.Mine"),
        ("lambda-runtime-function-error-body", "eyJlcnJvck1lc3NhZ2UiOiJtIn0="),
    ]
    stream.end()
    assert await anext(answer.body) == b"one"
    with pytest.raises(BrokeOff) as raised:
        await anext(answer.body)
    assert (raised.value.kind, raised.value.details) == ("Function.Mine", b'{"errorMessage":"m"}')
    assert (await posting).status == 202


@played
async def test_a_stream_that_nobody_reads_does_not_hold_the_process(play):
    call = play.call()
    await play.next()
    stream = Stream(None, lambda: None, lambda: None)
    posting = asyncio.ensure_future(play.answers(stream=stream, headers=STREAMING))
    answer, _ = await call
    closing = asyncio.ensure_future(answer.body.aclose())
    stream.feed(b"one")
    stream.end()
    await closing
    assert (await posting).status == 202


@played
async def test_another_mode_is_refused(play):
    call = play.call()
    await play.next()
    headers = [("lambda-runtime-function-response-mode", "buffered")]
    assert error_of(await play.answers(headers=headers))[:2] == (400, "InvalidFunctionResponseMode")
    answer, _ = await call
    assert json.loads(answer.body)["errorType"] == "Runtime.InvalidResponseModeHeader"


# What may be done when --------------------------------------------------------------------------------------------------


@played
async def test_answers_count_once_and_for_the_call_that_runs(play):
    assert error_of(await play.answers())[0] == 403
    call = play.call()
    await play.next()
    assert error_of(await play.answers(invocation="another")) == (400, "InvalidRequestID", "Invalid request ID")
    assert (await play.answers()).status == 202
    status, kind, message = error_of(await play.answers())
    assert (status, kind) == (403, "InvalidStateTransition")
    assert message == (
        "State transition from RuntimeResponseSentState to InvocationResponse failed for runtime. "
        "Error: State transition is not allowed"
    )
    assert error_of(await play.asks("POST", "runtime/init/error", b"{}"))[0] == 403
    await call


@played
async def test_who_asks_twice_while_it_runs_gets_the_same_again(play):
    call = play.call(5)
    assert (await play.next()).body == (await play.next()).body == b"5"
    await play.answers()
    await call


@played
async def test_of_two_who_wait_the_later_gets_the_call(play):
    first = asyncio.ensure_future(play.next())
    await asyncio.sleep(0)
    second = asyncio.ensure_future(play.next())
    await asyncio.sleep(0)
    call = play.call(5)
    assert (await first).status == 500
    assert (await second).body == b"5"
    await play.answers()
    await call


@played
async def test_who_asked_and_went_away_is_given_no_call(play):
    gone = Request("GET", "/2018-06-01/runtime/invocation/next", (), EMPTY)
    asking = asyncio.ensure_future(api_http.serve(play.worker, gone))
    await asyncio.sleep(0)
    gone.left()
    assert (await asking).status == 500
    calling = play.call(1)
    given = await play.next()
    assert given.status == 200
    gone.left()  # said late: nothing is taken from who was given the call
    await play.answers(b"2")
    answer, _ = await calling
    assert answer.body == b"2"


@played
async def test_a_call_that_nobody_took_before_the_process_ended_has_not_started(play):
    gone = Request("GET", "/2018-06-01/runtime/invocation/next", (), EMPTY)
    asking = asyncio.ensure_future(api_http.serve(play.worker, gone))
    await asyncio.sleep(0)
    gone.left()
    await asking
    calling = play.call(1)
    await asyncio.sleep(0)
    play.child.exits(0)
    answer, _ = await calling
    assert (answer.ending, answer.started) == (Ending.DEAD, False)


@played
async def test_other_paths_are_not_there(play):
    for method, path in (("POST", "runtime/invocation/next"), ("GET", f"runtime/invocation/{ID}/response"), ("GET", "x")):
        response = await play.asks(method, path)
        assert (response.status, response.body) == (404, b"404 page not found\n")


@given(st.lists(st.sampled_from(State), max_size=30))
@settings(max_examples=300, deadline=None)
def test_whatever_is_tried_a_runtime_answers_an_invocation_once(moves):
    runtime, given_, answered = Runtime(), 0, 0
    for to in moves:
        before = runtime.state
        with contextlib.suppress(NotAllowed):
            runtime.move(to)
            given_ += before is State.READY and to is State.RUNNING
            answered += to is State.SENT
            assert before is not State.INIT_ERROR
        assert answered <= given_ <= answered + 1
        assert runtime.state in (before, to)


# Beginnings and ends ------------------------------------------------------------------------------------------------------


@played
async def test_a_failure_to_load_is_every_calls_answer(play):
    early = play.call()
    body = b'{"errorType":"Runtime.NoSuchHandler"}'
    headers = [("lambda-runtime-function-error-type", "Runtime.NoSuchHandler")]
    assert (await play.asks("POST", "runtime/init/error", body, headers)).status == 202
    for call in (early, play.call()):
        answer, _ = await call
        assert (answer.ending, answer.body) == (Ending.INIT_ERROR, body)
    assert not play.worker.alive


@played
async def test_a_process_that_ends_in_a_call_has_started_it(play):
    call = play.call()
    await play.next()
    play.says("last words")
    play.child.exits(1)
    answer, lines = await call
    assert (answer.ending, answer.started, lines) == (Ending.DEAD, True, ["last words"])
    assert await play.worker.ended() == 1


@played
async def test_a_process_that_ends_before_it_took_a_call_up_has_not_started_it(play):
    call = play.call()
    await play.next()
    await play.answers()
    await call
    call = play.call()
    play.child.exits(0)
    answer, _ = await call
    assert (answer.ending, answer.started) == (Ending.DEAD, False)


@played
async def test_a_process_that_ends_while_loading_counts_as_started(play):
    call = play.call()
    play.child.exits(1)
    answer, _ = await call
    assert (answer.ending, answer.started, play.worker.init_ms) == (Ending.DEAD, True, None)


@played
async def test_a_program_that_cannot_be_executed_is_said_to_be_invalid(play):
    call = play.call()
    play.child.far.send(frames.pack_meta(frames.INIT_FAILED, 0, {"exec": "/opt/bootstrap", "errno": 13}))
    play.child.exits(126)
    answer, lines = await call
    message = f"RequestId: {ID} Error: /opt/bootstrap: 13"
    assert json.loads(answer.body) == {"errorType": "Runtime.InvalidEntrypoint", "errorMessage": message}
    assert (answer.ending, lines) == (Ending.INIT_ERROR, [f"{message}\nRuntime.InvalidEntrypoint\n"])


@pytest.mark.parametrize(
    "said", [b"\xff" * 40, frames.pack(frames.READY), frames.pack_meta(frames.INIT_FAILED, 0, {"errno": "x"}), bytes(20_000)]
)
def test_whatever_is_said_on_the_wire_ends_nobody_else(said):
    @played
    async def run(play):
        call = play.call()
        play.child.far.setblocking(False)
        play.child.far.send(said)
        play.child.far.close()
        await play.next()
        await play.answers()
        assert (await call)[0].ending is Ending.OK

    run()


@played
async def test_who_waits_for_a_call_is_let_go_at_the_end(play):
    asking = asyncio.ensure_future(play.next())
    await asyncio.sleep(0)
    play.worker.close()
    assert (await asking).status == 500


# Whatever is sent ---------------------------------------------------------------------------------------------------------
PATHS = st.one_of(
    st.sampled_from(
        [f"runtime/invocation/{ID}/response", f"runtime/invocation/{ID}/error", "runtime/init/error", "runtime/invocation/next"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["lambda-runtime-function-error-type", "lambda-runtime-function-response-mode", "content-type", "x-other"]
        ),
        st.one_of(
            st.sampled_from(["streaming", "Function.Mine", "application/vnd.aws.lambda.error.cause+json"]),
            st.text(st.characters(max_codepoint=255), max_size=300),
        ),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(st.sampled_from(["GET", "POST", "PUT"]), PATHS, st.binary(max_size=60), HEADERS), max_size=12))
@settings(max_examples=150, deadline=None)
def test_whatever_a_process_sends_is_answered_and_its_calls_end(requests):
    @played
    async def run(play):
        asked = []
        call = play.call(1)
        for method, path, body, headers in requests:
            asked.append(asyncio.ensure_future(play.asks(method, path, body, headers)))
            await asyncio.sleep(0)
        if call.done():
            answer, _ = await call
            if not isinstance(answer.body, bytes):
                await answer.body.aclose()
        play.worker.close()
        answer, _ = await call
        assert answer.ending in Ending
        for response in await asyncio.gather(*asked):
            assert response.status in (200, 202, 400, 403, 404, 413, 500)

    run()
