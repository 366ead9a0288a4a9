"""The forked-Python runtime against real guests in processes without walls, on both event loops."""

import asyncio
import inspect
import json
import time
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from ondol.testing.pool import a_target
from ondol.model.errors import RuntimeMissing, StartFailed, Unavailable
from ondol.model.limits import LOG_EVENT_BYTES_MAX, RESULT_BYTES_MAX
from ondol.runtime import BrokeOff, Call, Ending, Launch
from ondol.runtimes import streams
from ondol.runtimes.choice import Choice
from ondol.runtimes.forked import ForkedPython
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.testing.sandboxes import LocalSandboxes
from ondol_guest import frames

HERE = f"python3.{sys.version_info[1]}"


def on_both_loops(test):
    """Run an async test on asyncio's loop and on uvloop's."""

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def run(new_loop, **fixtures):
        async def all_of_it():
            try:
                async with asyncio.timeout(50):  # uvloop does not see pytest-timeout's signal
                    await test(**fixtures)
            finally:
                await fixtures["sandboxes"].close()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(all_of_it())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.pytestmark = run.pytestmark + getattr(test, "pytestmark", [])
    names = [*inspect.signature(test).parameters, "new_loop"]
    run.__signature__ = inspect.Signature([inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in names])
    return run


def an_interpreter(minor, path=None):
    return Interpreter(path=path or f"/nowhere/python3.{minor}", major=3, minor=minor, micro=0, prefix="/nowhere")


def this_machine():
    return Interpreters([an_interpreter(sys.version_info[1], os.path.realpath(sys.executable))])


@pytest.fixture
def sandboxes():
    return LocalSandboxes()


class Running:
    """A guest with `source` as its app.py, and all that it wrote."""

    def __init__(self, worker, idle):
        self.worker = worker
        self.idle = idle  #: lines that belong to no call

    async def call(self, value=None, **more):
        lines = []
        answer = await self.worker.call(a_call(value, **more), lambda text, at_ms: lines.append(text))
        return answer, lines


def a_call(value=None, **more):
    meta = json.dumps({"id": "id-1", "deadline_ms": 0}).encode()
    return Call(**{"meta": meta, "payload": json.dumps(value).encode(), **more})


@asynccontextmanager
async def running(sandboxes, tmp_path, source, guest="aws", handler="app.handler", **variables):
    (tmp_path / "app.py").write_text(source)
    shell = await sandboxes.prepare("1")
    await sandboxes.attach(shell, tree=str(tmp_path), memory_bytes=0, tmp_mib=0)
    launch = Launch(guest=guest, handler=handler, runtime=HERE, variables=variables, memory_mib=128, timeout_s=3)
    idle = []
    runtime = ForkedPython(sandboxes, Choice(this_machine()))
    worker = await runtime.start(shell, a_target().revision, launch, lambda text, at_ms: idle.append(text))
    try:
        yield Running(worker, idle)
    finally:
        worker.close()
        await sandboxes.discard(shell)


# Calls ------------------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_what_a_guest_is_told_may_be_more_than_its_wire_takes_at_once(sandboxes, tmp_path):
    source = "import os\ndef handler(event, context): return len(os.environ['LONG'])\n"
    async with running(sandboxes, tmp_path, source, LONG="x" * 1_000_000) as guest:
        answer, _ = await guest.call()
        assert answer.body == b"1000000"


@on_both_loops
async def test_a_guest_that_is_told_before_its_code_is_there_waits_for_that_and_counts_its_loading_from_then(
    sandboxes, tmp_path
):
    shell = await sandboxes.prepare("1")
    await sandboxes.attach(shell, tree=str(tmp_path), memory_bytes=0, tmp_mib=0)
    attached = asyncio.get_running_loop().create_future()
    told = {
        "guest": "aws",
        "handler": "app.handler",
        "runtime": HERE,
        "variables": {"A": "b"},
        "memory_mib": 128,
        "timeout_s": 3,
    }
    runtime = ForkedPython(sandboxes, Choice(this_machine()))
    began_s = time.monotonic()
    starting = asyncio.ensure_future(
        runtime.start(shell, a_target().revision, Launch(attached=attached, **told), lambda text, at_ms: None)
    )
    await asyncio.sleep(0.3)
    (tmp_path / "app.py").write_text("import os\ndef handler(event, context): return [event, os.environ['A'], os.getcwd()]\n")
    waited_ms = (time.monotonic() - began_s) * 1000
    attached.set_result(None)
    worker = await starting
    answer = await worker.call(a_call(1), lambda text, at_ms: None)
    assert json.loads(answer.body) == [1, "b", str(tmp_path)]
    took_ms = (time.monotonic() - began_s) * 1000
    assert worker.init_ms <= took_ms - waited_ms
    worker.close()
    await sandboxes.discard(shell)


@on_both_loops
async def test_a_guest_whose_code_does_not_come_is_let_go(sandboxes, tmp_path):
    shell = await sandboxes.prepare("1")
    await sandboxes.attach(shell, tree=str(tmp_path), memory_bytes=0, tmp_mib=0)
    attached = asyncio.get_running_loop().create_future()
    attached.set_exception(StartFailed("no"))
    told = {"guest": "aws", "handler": "app.handler", "runtime": HERE, "variables": {}, "memory_mib": 128, "timeout_s": 3}
    with pytest.raises(StartFailed):
        await ForkedPython(sandboxes, Choice(this_machine())).start(
            shell, a_target().revision, Launch(attached=attached, **told), lambda text, at_ms: None
        )
    [process] = sandboxes.processes[shell.id]
    while process.poll() is None:
        await asyncio.sleep(0.01)
    assert process.returncode == 0
    await sandboxes.discard(shell)


@on_both_loops
async def test_a_result_comes_back_and_the_first_one_says_how_long_loading_took(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, "def handler(event, context): return [event]") as guest:
        first, _ = await guest.call(1)
        second, _ = await guest.call(2)
        assert (first.ending, first.body, first.started) == (Ending.OK, b"[1]", True)
        assert first.init_ms == guest.worker.init_ms > 0
        assert (second.body, second.init_ms) == (b"[2]", None)
        assert guest.worker.alive


@on_both_loops
async def test_globals_live_as_long_as_the_worker(sandboxes, tmp_path):
    source = "count = []\ndef handler(event, context): count.append(1); return len(count)"
    async with running(sandboxes, tmp_path, source) as guest:
        assert [(await guest.call())[0].body for _ in range(3)] == [b"1", b"2", b"3"]


@on_both_loops
async def test_a_failure_is_the_functions_own(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, "def handler(event, context): raise ValueError('no')") as guest:
        answer, lines = await guest.call()
        assert answer.ending is Ending.ERROR
        assert json.loads(answer.body)["errorType"] == "ValueError"
        assert lines[0].startswith("[ERROR] ValueError: no\nTraceback")
        assert (await guest.call())[0].ending is Ending.ERROR


@on_both_loops
async def test_a_failure_to_load_answers_every_call_and_ends_the_process(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, "print('early')\nraise ValueError('no')") as guest:
        answer, lines = await guest.call()
        again, _ = await guest.call()
        assert answer.ending is again.ending is Ending.INIT_ERROR
        assert json.loads(answer.body)["requestId"] == ""
        assert answer.init_ms > 0
        assert guest.idle[0] == "early\n"
        assert lines == []
        assert not guest.worker.alive
        assert await guest.worker.ended() == 1


@on_both_loops
async def test_the_whole_environment_is_what_launch_says(sandboxes, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_NODE", "x")
    source = "import os\ndef handler(event, context): return dict(os.environ)"
    async with running(sandboxes, tmp_path, source, A="1", B="é") as guest:
        answer, _ = await guest.call()
        assert json.loads(answer.body) == {"A": "1", "B": "é"}


@on_both_loops
@pytest.mark.parametrize("size", [RESULT_BYTES_MAX - 2, 300_000])
async def test_large_events_and_results_pass(sandboxes, tmp_path, size):
    async with running(sandboxes, tmp_path, "def handler(event, context): return 'y' * len(event)") as guest:
        answer, _ = await guest.call("x" * size)
        assert answer.ending is Ending.OK
        assert len(answer.body) == size + 2


@on_both_loops
async def test_a_result_over_the_limit_is_too_large_and_the_worker_goes_on(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, "def handler(event, context): return 'y' * event") as guest:
        answer, _ = await guest.call(RESULT_BYTES_MAX - 1)
        assert (answer.ending, answer.body) == (Ending.TOO_LARGE, b"")
        assert (await guest.call(1))[0].body == b'"y"'


# The log ----------------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_lines_come_before_the_result_and_in_the_order_written(sandboxes, tmp_path):
    source = """
import logging, os, subprocess
print("loading")
def handler(event, context):
    print("one")
    logging.warning("two\\nlines")
    os.write(1, b"three\\n")
    subprocess.run(["echo", "four"])
    print("five", end="")
"""
    async with running(sandboxes, tmp_path, source) as guest:
        _, lines = await guest.call()
        assert guest.idle == ["loading\n"]
        assert lines[0] == "one\n"
        assert lines[1].endswith("\ttwo\nlines\n")
        assert lines[2:] == ["three\n", "four\n", "five"]


@on_both_loops
async def test_what_a_thread_writes_between_calls_belongs_to_no_call(sandboxes, tmp_path):
    source = """
import sys, threading
go = threading.Event()
def late():
    go.wait()
    print("late")
threading.Thread(target=late, daemon=True).start()
def handler(event, context):
    if event == "release":
        threading.Timer(0.05, go.set).start()
"""
    async with running(sandboxes, tmp_path, source) as guest:
        _, lines = await guest.call("release")
        while not guest.idle:
            await asyncio.sleep(0.01)
        assert (lines, guest.idle) == ([], ["late\n"])


@on_both_loops
async def test_a_flood_of_lines_arrives_whole(sandboxes, tmp_path):
    source = "def handler(event, context):\n    for n in range(20000): print(n)"
    async with running(sandboxes, tmp_path, source) as guest:
        _, lines = await guest.call()
        assert lines == [f"{n}\n" for n in range(20000)]


@on_both_loops
async def test_long_lines_and_records_are_cut(sandboxes, tmp_path):
    source = """
import logging
def handler(event, context):
    print("é" * event)
    logging.warning("x" * event)
"""
    async with running(sandboxes, tmp_path, source) as guest:
        _, lines = await guest.call(LOG_EVENT_BYTES_MAX)
        assert all(len(line.encode()) <= LOG_EVENT_BYTES_MAX for line in lines)
        assert "".join(lines).count("é") == "".join(lines).count("x") == LOG_EVENT_BYTES_MAX
        assert "\ufffd" not in "".join(lines)


@on_both_loops
async def test_a_line_left_unfinished_by_a_dying_process_is_kept(sandboxes, tmp_path):
    source = "import os\ndef handler(event, context): print('last words', end=''); os._exit(3)"
    async with running(sandboxes, tmp_path, source) as guest:
        answer, lines = await guest.call()
        assert (answer.ending, lines) == (Ending.DEAD, ["last words"])


# Deaths -----------------------------------------------------------------------------------------------------------------


@on_both_loops
@pytest.mark.parametrize(
    ("act", "status"),
    [
        ("os._exit(3)", 3),
        ("sys.exit(0)", 0),
        ("os.kill(os.getpid(), 9)", -9),
        ("os.abort()", -6),
        ("os.kill(os.getpid(), 15)", -15),
    ],
)
async def test_a_process_that_leaves_has_started_its_call(sandboxes, tmp_path, act, status):
    source = f"import os, sys, time\ndef handler(event, context): {act}; time.sleep(9)"
    async with running(sandboxes, tmp_path, source) as guest:
        answer, _ = await guest.call()
        assert (answer.ending, answer.started) == (Ending.DEAD, True)
        assert await guest.worker.ended() == status
        assert not guest.worker.alive


@on_both_loops
async def test_a_process_that_leaves_while_loading_counts_as_started(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, "import os; os._exit(4)") as guest:
        answer, _ = await guest.call()
        assert (answer.ending, answer.started, answer.init_ms) == (Ending.DEAD, True, None)
        assert await guest.worker.ended() == 4


@on_both_loops
async def test_a_call_that_was_never_read_is_not_started(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, "import os\ndef handler(event, context): return os.getpid()") as guest:
        pid = int((await guest.call())[0].body)
        os.kill(pid, signal.SIGSTOP)
        called = asyncio.ensure_future(guest.call())
        await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        answer, lines = await called
        assert (answer.ending, answer.started, lines) == (Ending.DEAD, False, [])


@on_both_loops
async def test_a_call_to_a_worker_that_is_gone_is_not_started(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, "import os\ndef handler(event, context): return os.getpid()") as guest:
        os.kill(int((await guest.call())[0].body), signal.SIGKILL)
        assert await guest.worker.ended() == -9
        answer, _ = await guest.call()
        assert (answer.ending, answer.started) == (Ending.DEAD, False)


@on_both_loops
async def test_children_that_outlive_the_guest_do_not_hide_its_end(sandboxes, tmp_path):
    source = """
import os, subprocess, time
def handler(event, context):
    subprocess.Popen(["sleep", "60"])
    if os.fork() == 0:
        time.sleep(60)
    os._exit(5)
"""
    async with running(sandboxes, tmp_path, source) as guest:
        answer, _ = await guest.call()
        assert (answer.ending, await guest.worker.ended()) == (Ending.DEAD, 5)


@on_both_loops
async def test_a_forked_child_that_returns_from_the_handler_answers_nobody(sandboxes, tmp_path):
    source = """
import os
def handler(event, context):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"
"""
    async with running(sandboxes, tmp_path, source) as guest:
        assert [(await guest.call())[0].body for _ in range(2)] == [b'"parent"'] * 2


@on_both_loops
async def test_a_call_given_up_leaves_the_worker_in_step(sandboxes, tmp_path):
    source = "import time\ndef handler(event, context): time.sleep(event); return event"
    async with running(sandboxes, tmp_path, source) as guest:
        await guest.call(0)
        given_up = asyncio.ensure_future(guest.call(0.1))
        await asyncio.sleep(0.01)
        given_up.cancel()
        assert (await guest.call(0))[0].body == b"0"


@on_both_loops
async def test_bytes_that_are_no_frame_end_the_worker(sandboxes, tmp_path):
    source = """
import os, stat
def handler(event, context):
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b"x" * 64)
        except OSError: pass
"""
    async with running(sandboxes, tmp_path, source) as guest:
        answer, _ = await guest.call()
        assert (answer.ending, guest.worker.alive) == (Ending.DEAD, False)


@on_both_loops
async def test_close_leaves_no_descriptor(sandboxes, tmp_path):
    counts = []
    for _ in range(2):  # the first time a loop opens what it keeps for itself
        async with running(sandboxes, tmp_path, "def handler(event, context): return 1") as guest:
            await guest.call()
            ended = asyncio.ensure_future(guest.worker.ended())
        assert await ended == -9
        for _ in range(5):  # a loop closes its transports when it comes to it
            await asyncio.sleep(0)
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[1] <= counts[0]


# Streams ----------------------------------------------------------------------------------------------------------------

STREAMING = """
def app(environ, start_response):
    data = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Got", str(len(data)))])
    for n in range(40):
        yield data[:1] * 50_000
"""


def web_call(payload=b"", body=None):
    meta = json.dumps({"id": "1", "deadline_ms": 0, "method": "POST", "path": "/", "query": "", "headers": []}).encode()
    return Call(meta=meta, payload=payload, body=body)


async def chunks(count, size):
    for _ in range(count):
        yield b"z" * size


@on_both_loops
async def test_bodies_stream_both_ways_beyond_their_credit(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, STREAMING, guest="web", handler="app:app") as guest:
        for _ in range(2):
            answer = await guest.worker.call(web_call(b"a", chunks(20, 70_000)), lambda text, at_ms: None)
            assert answer.ending is Ending.OK
            assert ["X-Got", "1400001"] in [list(h) for h in answer.meta["headers"]]
            assert b"".join([chunk async for chunk in answer.body]) == b"a" * 2_000_000


@on_both_loops
async def test_an_answer_that_nobody_reads_does_not_block_the_next_call(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, STREAMING, guest="web", handler="app:app") as guest:
        answer = await guest.worker.call(web_call(b"b"), lambda text, at_ms: None)
        await anext(answer.body)
        await answer.body.aclose()
        answer = await guest.worker.call(web_call(b"c"), lambda text, at_ms: None)
        assert (await anext(answer.body))[:1] == b"c"
        await answer.body.aclose()


@on_both_loops
async def test_an_answer_cut_short_says_so(sandboxes, tmp_path):
    source = """
import os
def app(environ, start_response):
    start_response("200 OK", [])
    yield b"begun"
    yield b"more"
    os._exit(1)
"""
    async with running(sandboxes, tmp_path, source, guest="web", handler="app:app") as guest:
        answer = await guest.worker.call(web_call(), lambda text, at_ms: None)
        with pytest.raises(Unavailable, match="before it was complete"):
            [chunk async for chunk in answer.body]


# Generators ---------------------------------------------------------------------------------------------------------------


def a_streaming_call(value=None):
    meta = json.dumps({"id": "id-1", "deadline_ms": 0, "stream": True}).encode()
    return Call(meta=meta, payload=json.dumps(value).encode())


async def streamed(guest, value=None):
    lines = []
    return await guest.worker.call(a_streaming_call(value), lambda text, at_ms: lines.append(text)), lines


GENERATOR = """
def handler(event, context):
    if event == "head":
        yield {"statusCode": 201}
    if event == "at once":
        1 / 0
    yield "één"
    yield b""
    yield bytearray(b"x" * 300_000)
    if event == "late":
        1 / 0
    if event == "wrong":
        yield 7
"""


@on_both_loops
async def test_a_generator_is_an_answer_that_streams(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, GENERATOR) as guest:
        for _ in range(2):
            answer, _ = await streamed(guest)
            assert (answer.ending, answer.meta) == (Ending.OK, {})
            assert b"".join([chunk async for chunk in answer.body]) == "één".encode() + b"x" * 300_000
        answer, _ = await streamed(guest, "head")
        assert answer.meta == {"content_type": "application/vnd.awslambda.http-integration-response"}
        assert await anext(answer.body) == b'{"statusCode": 201}' + bytes(8)
        await answer.body.aclose()


@on_both_loops
async def test_a_generator_is_no_answer_where_it_is_wanted_whole(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, GENERATOR) as guest:
        answer, _ = await guest.call()
        assert answer.ending is Ending.ERROR
        assert json.loads(answer.body)["errorType"] == "Runtime.MarshalError"


@on_both_loops
async def test_a_generator_may_fail_before_its_first_byte_or_later(sandboxes, tmp_path):
    async with running(sandboxes, tmp_path, GENERATOR) as guest:
        answer, lines = await streamed(guest, "at once")
        said = json.loads(answer.body)
        assert (answer.ending, said["errorType"], lines[0].split()[0]) == (Ending.ERROR, "ZeroDivisionError", "[ERROR]")
        assert [entry.strip().split(", ")[1:] for entry in said["stackTrace"]] == [["line 6", "in handler\n    1 / 0"]]
        for event, kind in (("late", "ZeroDivisionError"), ("wrong", "Runtime.MarshalError")):
            answer, lines = await streamed(guest, event)
            assert answer.ending is Ending.OK
            with pytest.raises(BrokeOff) as caught:
                _ = [chunk async for chunk in answer.body]
            assert (caught.value.kind, json.loads(caught.value.details)["errorType"]) == (kind, kind)
            assert "[ERROR]" in lines[0]
        answer, _ = await streamed(guest)  # and goes on
        assert answer.ending is Ending.OK
        await answer.body.aclose()


@on_both_loops
async def test_a_generator_goes_no_further_than_its_reader(sandboxes, tmp_path):
    source = """
def handler(event, context):
    for n in range(200):
        print(n)
        yield b"x" * 65_536
"""
    async with running(sandboxes, tmp_path, source) as guest:
        answer, lines = await streamed(guest)
        read = 0
        async for chunk in answer.body:
            read += len(chunk)
            # What is on its way is bounded by the credit, by a chunk that waits for it, and by the one that came with the head.
            assert len(lines) * 65_536 <= read + frames.CREDIT_BYTES + 2 * frames.CHUNK_BYTES + streams.CREDIT_STEP_BYTES
        assert (read, len(lines)) == (200 * 65_536, 200)


# Which interpreter --------------------------------------------------------------------------------------------------------


def runtime_with(*minors, substitute="none"):
    return ForkedPython(LocalSandboxes(), choice(*minors, substitute=substitute))


def choice(*minors, substitute="none"):
    return Choice(Interpreters(map(an_interpreter, minors)), substitute)


def test_a_version_on_the_machine_is_found():
    assert runtime_with(11, 12).find("python3.12") is None
    assert choice(11, 12).substitute_for("python3.12") is None


def test_a_version_that_is_missing_says_how_to_get_it():
    reason = runtime_with(11).find("python3.9")
    assert "python3.9 is not on this machine (found: python3.11)" in reason
    assert "install" in reason
    assert "--runtime-substitute nearest" in reason


@pytest.mark.parametrize(
    ("runtime", "client"),
    [
        ("nodejs22.x", "aws-lambda-ric"),
        ("java21", "aws-lambda-java-runtime-interface-client"),
        ("ruby3.4", "aws_lambda_ric"),
        ("dotnet8", "Amazon.Lambda.RuntimeSupport"),
    ],
)
def test_languages_without_a_managed_runtime_say_what_a_function_can_bring(runtime, client):
    said = runtime_with(11, substitute="nearest").find(runtime)
    assert f"The runtime {runtime} is not built in this release. Deploy the function with the runtime provided.al2023" in said
    assert client in said


@pytest.mark.parametrize("runtime", ["go1.x", "python2.7", "provided"])
def test_retired_runtimes_are(runtime):
    assert f"The runtime {runtime} is retired" in runtime_with(11, substitute="nearest").find(runtime)


def test_an_unknown_runtime_is_unknown():
    assert "cobol is unknown" in runtime_with(11).find("cobol")


@pytest.mark.parametrize(("asked", "chosen"), [(8, 9), (10, 11), (11, None), (12, 13), (14, 13), (9, None)])
def test_the_nearest_version_stands_in_and_the_newer_of_two(asked, chosen):
    runtime = choice(9, 11, 13, substitute="nearest")
    assert runtime.missing(f"python3.{asked}") is None
    assert runtime.substitute_for(f"python3.{asked}") == (f"python3.{chosen}" if chosen else None)


def test_without_any_interpreter_nothing_stands_in():
    assert "found: none" in runtime_with(substitute="nearest").find("python3.11")


@on_both_loops
async def test_starting_a_missing_runtime_raises(sandboxes, tmp_path):
    shell = await sandboxes.prepare("1")
    launch = Launch(guest="aws", handler="a.b", runtime="python3.8", variables={}, memory_mib=128, timeout_s=3)
    with pytest.raises(RuntimeMissing, match="is not on this machine"):
        await ForkedPython(sandboxes, choice()).start(shell, a_target().revision, launch, lambda text, at_ms: None)


# Finding interpreters -------------------------------------------------------------------------------------------------------


def a_script(path, says):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)


def discovered(home, cache=None):
    environment = {"PATH": str(home / "bin"), "HOME": str(home)}
    return [i for i in Interpreters.discover(cache, environment).all() if Path(i.path).is_relative_to(home)]


def says(minor, micro=1, kind="cpython"):
    return f"""echo '["{kind}", 3, {minor}, {micro}, "/p"]'"""


@pytest.fixture
def no_public_places(monkeypatch):
    """Only what the test makes is found first: this machine's interpreters must not win over it."""
    monkeypatch.setattr("ondol.runtimes.places._PUBLIC", ())
    monkeypatch.setattr(sys, "base_prefix", "/nowhere")


def test_interpreters_are_found_on_the_path_and_with_pyenv_and_uv(tmp_path, no_public_places):
    a_script(tmp_path / "bin/python3.9", says(9))
    a_script(tmp_path / ".pyenv/versions/3.10.4/bin/python3.10", says(10))
    a_script(tmp_path / ".local/share/uv/python/cpython-3.12/bin/python3.12", says(12))
    a_script(tmp_path / ".pyenv/shims/python3.13", says(13))
    assert [i.name for i in discovered(tmp_path)] == ["python3.9", "python3.10", "python3.12"]


def test_what_is_no_usable_interpreter_is_passed_over(tmp_path, no_public_places):
    a_script(tmp_path / "bin/python3.9", says(9, kind="pypy"))
    a_script(tmp_path / "bin/python3.10", "exit 1")
    a_script(tmp_path / "bin/python3.7", says(7))
    a_script(tmp_path / "bin/python3.11-config", says(11))
    (tmp_path / "bin/python3.12").write_text("not executable")
    assert discovered(tmp_path) == []


def test_what_was_learnt_is_kept_until_the_file_changes(tmp_path, no_public_places):
    script, cache = tmp_path / "bin/python3.9", tmp_path / "cache.json"
    a_script(script, f"echo run >> {tmp_path}/runs; {says(9, 1)}")
    first = discovered(tmp_path, cache)
    assert discovered(tmp_path, cache) == first
    assert (tmp_path / "runs").read_text() == "run\n"
    a_script(script, says(9, 22))
    assert [i.micro for i in discovered(tmp_path, cache)] == [22]


def test_a_broken_cache_is_learnt_anew(tmp_path, no_public_places):
    a_script(tmp_path / "bin/python3.9", says(9))
    (tmp_path / "cache.json").write_text('{"x": 1}')
    assert [i.name for i in discovered(tmp_path, tmp_path / "cache.json")] == ["python3.9"]


def test_this_machine_has_the_interpreter_that_runs_this_test():
    assert Interpreters.discover().get(HERE) is not None
