"""The same functions and events under AWS's own runtime client, unmodified, and under our guest: callers and logs see the same.

`awslambdaric` runs against a small Runtime API in this file and frames its log records as ours are framed, so both logs are
read by the same reader and compared event by event. What may differ is made equal by `same` and nothing else: times,
addresses, the runtime's own file in a stack trace, and AWS's advice on its runtime updates.
"""

import asyncio
import fcntl
import functools
import http.client
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

from ondol.runtime import Call, Ending, Launch
from ondol.runtimes.choice import Choice
from ondol.runtimes.forked import ForkedPython
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.testing.pool import a_target
from ondol.testing.sandboxes import LocalSandboxes
from ondol_guest.frames import LogReader

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("awslambdaric") is None, reason="the oracle awslambdaric is not installed"
)

FUNCTIONS = Path(__file__).parent / "oracle_functions"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:hello"
TRACE = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0"
WAIT_S = 60

#: Modules that are better not files of this repository: they are broken on purpose.
BROKEN = {
    "syntax.py": "def handler(event, context):\n    return a b\n",
    "indented.py": "def handler(event, context):\nreturn 1\n",
    "tabs.py": "if True:\n        a = 1\n\tb = 2\n",
    "nul.py": "a = 1\0",
    "raises.py": "import helper\nprint('before')\nhelper.divide(1, 0)\n",
    "raises_import_error.py": "raise ImportError('mine')\n",
    "imports_missing.py": "import not_there_at_all\n",
    "imports_missing_name.py": "from helper import not_there\n",
    "imports_raising.py": "import raises\n",
    "imports_syntax.py": "import syntax\n",
    "exits.py": "import sys\nprint('bye')\nsys.exit(3)\n",
    "exits_0.py": "import sys\nsys.exit()\n",
    "exits_at_once.py": "import os\nos._exit(4)\n",
    "interrupted.py": "raise KeyboardInterrupt\n",
    "custom.py": "class NoExceptionNameError(Exception):\n    pass\nraise NoExceptionNameError('x', 1)\n",
    "pkg/__init__.py": "print('package')\n",
    "pkg/mod.py": "def handler(event, context):\n    return __name__\n",
    "pkg/relative.py": "from .mod import handler\n",
    "pkg/deep/__init__.py": "",
    "pkg/deep/er.py": "def handler(event, context):\n    raise ValueError(__name__)\n",
    "name-space/with-dash.py": "def handler(event, context):\n    return __name__\n",
    "top_relative.py": "from .helper import divide\n",
    "no_text.py": b"# \xff\xfe\ndef handler(event, context): pass\n",
}


@dataclass
class Seen:
    """What one run of a handler came to."""

    load_error: object = None
    load_log: list = field(default_factory=list)
    answers: list = field(default_factory=list)  #: (is error, body)
    logs: list = field(default_factory=list)  #: events per answer, and of what was left unanswered
    status: int | None = None  #: how the process ended, when it did by itself


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("oracle") / "task"
    shutil.copytree(FUNCTIONS, root, ignore=shutil.ignore_patterns("__pycache__"))
    for name, source in BROKEN.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return root


def variables(**more):
    return {
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_LAMBDA_FUNCTION_NAME": "hello",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/hello",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0123",
        "AWS_REGION": "eu-west-1",
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "TZ": ":UTC",
        "PATH": os.defpath,
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


@dataclass
class Event:
    payload: bytes
    headers: dict = field(default_factory=dict)
    id: str = "5f3d1b1e-0000-4000-8000-000000000000"


def event(value, **headers):
    return Event(json.dumps(value).encode(), headers)


# The oracle -------------------------------------------------------------------------------------------------------------


class RuntimeApi(http.server.ThreadingHTTPServer):
    """Just enough of the Runtime API; hands out `events` and keeps what comes back in `seen`."""

    daemon_threads = True

    def __init__(self, events, take_log):
        super().__init__(("127.0.0.1", 0), Handler)
        self.events = list(events)
        self.take_log = take_log
        self.seen = Seen()
        self.done = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        api = self.server
        if len(api.seen.answers) == 0:
            api.seen.load_log += api.take_log()
        if not api.events:
            api.done.set()
            time.sleep(WAIT_S)
            return
        given = api.events.pop(0)
        headers = {
            "Lambda-Runtime-Aws-Request-Id": given.id,
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60_000),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Content-Type": "application/json",
            **given.headers,
        }
        self.reply(200, given.payload, headers)

    def do_POST(self):
        api = self.server
        body = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self.chunked()
        if self.path.endswith("/init/error"):
            api.seen.load_error = json.loads(body)
            api.seen.load_log += api.take_log()
        else:
            api.seen.answers.append((self.path.endswith("/error"), body))
            api.seen.logs.append(api.take_log())
        self.reply(202, b'{"status":"OK"}')

    def chunked(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def reply(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def run_oracle(tree, handler, events, **more):
    read, write = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 1024 * 1024)
    os.set_blocking(read, False)
    reader = LogReader(256 * 1024)

    def take_log():
        data = b""
        try:
            while piece := os.read(read, 65536):
                data += piece
        except BlockingIOError:
            pass
        return reader.feed(data) + reader.flush()

    # the trace of a recursion comes in a header of its own
    with mock.patch.object(http.client, "_MAXLINE", 1024 * 1024), RuntimeApi(events, take_log) as api:
        serving = threading.Thread(target=api.serve_forever, args=(0.01,))
        serving.start()
        environment = variables(
            AWS_LAMBDA_RUNTIME_API=f"127.0.0.1:{api.server_address[1]}", _LAMBDA_TELEMETRY_LOG_FD=str(write), **more
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", handler],
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            pass_fds=[write],
        )
        os.close(write)
        try:
            while not api.done.wait(0.01) and process.poll() is None:
                pass
            if process.poll() is not None:
                api.seen.status = process.returncode
        finally:
            process.kill()
            process.wait()
            api.shutdown()
            serving.join()
    api.seen.logs.append(take_log())
    os.close(read)
    return api.seen


# Ours -------------------------------------------------------------------------------------------------------------------


def interpreter():
    """The very interpreter that the oracle runs on, so that the library's own lines in stack traces are the same."""
    v = sys.version_info
    return Interpreter(path=os.path.realpath(sys.executable), major=v[0], minor=v[1], micro=v[2], prefix=sys.base_prefix)


def run_ours(tree, handler, events, **more):
    return asyncio.run(_run_ours(tree, handler, events, more))


async def _run_ours(tree, handler, events, more):
    seen = Seen()
    sandboxes = LocalSandboxes()
    found = interpreter()
    runtime = ForkedPython(sandboxes, Choice(Interpreters([found])))
    shell = await sandboxes.prepare("123456789012")
    await sandboxes.attach(shell, tree=str(tree), memory_bytes=0, tmp_mib=0)
    launch = Launch(guest="aws", handler=handler, runtime=found.name, variables=variables(**more), memory_mib=128, timeout_s=60)

    def between_calls(text, at_ms):
        if not seen.answers:
            seen.load_log.append((text, at_ms))

    worker = await runtime.start(shell, a_target().revision, launch, between_calls)
    try:
        for given in events:
            lines = []
            answer = await asyncio.wait_for(
                worker.call(Call(meta=meta(given), payload=given.payload), lambda text, at_ms: lines.append((text, at_ms))),
                WAIT_S,
            )
            if answer.ending is Ending.INIT_ERROR:
                seen.load_error = json.loads(answer.body)
                break
            if answer.ending is Ending.DEAD:
                seen.status = await asyncio.wait_for(worker.ended(), WAIT_S)
                seen.logs.append(lines)
                break
            seen.logs.append(lines)
            seen.answers.append((answer.ending is Ending.ERROR, answer.body))
        if seen.load_error is not None:
            seen.status = await asyncio.wait_for(worker.ended(), WAIT_S)
    finally:
        worker.close()
        await sandboxes.close()
    return seen


def meta(given):
    header = given.headers.get
    return json.dumps(
        {
            "id": given.id,
            "deadline_ms": int(time.time() * 1000) + 60_000,
            "arn": ARN,
            "trace": header("Lambda-Runtime-Trace-Id"),
            "client_context": header("Lambda-Runtime-Client-Context"),
            "identity": header("Lambda-Runtime-Cognito-Identity"),
            "tenant": header("Lambda-Runtime-Aws-Tenant-Id"),
        }
    ).encode()


# Comparing --------------------------------------------------------------------------------------------------------------

_RUNTIME_FILE = r'File "(?:[^"]*/(?:awslambdaric|ondol_guest)/\w+\.py|<frozen runpy>|<string>)", line \d+'
_RUNTIME_FRAME = re.compile(r"[ \xa0]*" + _RUNTIME_FILE + r", in \w+(\n[^\n]*)?\n?")


def same(text):
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "<time>", text)
    text = re.sub(r"0x[0-9a-f]{6,}", "<address>", text)
    text = re.sub(r"repeated \d+ more times", "repeated <many> more times", text)
    text = re.sub(r"(LAMBDA_WARNING: Unhandled exception\.) .*?\r", r"\1", text)
    return re.sub(r"(<the runtime>)+", r"\1", _RUNTIME_FRAME.sub("<the runtime>", text))


def same_data(value):
    """`same` for all text in JSON data; how many of the runtime's own functions a call went through is its own affair."""
    if isinstance(value, str):
        return same(value)
    if isinstance(value, dict):
        return {key: same_data(member) for key, member in value.items()}
    if isinstance(value, list):
        members = [same_data(member) for member in value]
        return [m for at, m in enumerate(members) if m != "<the runtime>" or members[at - 1 : at] != [m]]
    return repr(value)  # NaN is then equal to itself, and 1 is not 1.0


def body_of(body):
    try:
        return same_data(json.loads(body))
    except ValueError:
        return bytes(body)


def log_of(events):
    """Text, or data for a JSON record, and whether it came framed: frames have a time, raw lines have none."""
    seen, in_runtime, after_warning = [], False, False
    for text, at_ms in events:
        # Printed by the interpreter when it frees a coroutine, which is after the answer in both: in this log or in none.
        warning = at_ms is None and re.search(r"RuntimeWarning: (coroutine .* was never awaited|Enable tracemalloc)", text)
        source, after_warning = after_warning and text.startswith("  "), bool(warning)
        if warning or source:
            continue
        if at_ms is None and re.match(" {4}", text) and in_runtime:
            continue  # the source line, or the marks below it, of a raw traceback's entry
        in_runtime = at_ms is None and re.match("  " + _RUNTIME_FILE, text) is not None
        if not in_runtime and text:
            seen.append((body_of(text) if text.startswith("{") else same(text), at_ms is not None))
    return seen


def assert_same(ours, oracle):
    assert [(error, body_of(body)) for error, body in ours.answers] == [
        (error, body_of(body)) for error, body in oracle.answers
    ]
    if oracle.load_error is None and not oracle.answers:  # it left, while loading or in its first call: one log
        assert log_of(ours.load_log + sum(ours.logs, [])) == log_of(oracle.load_log + sum(oracle.logs, []))
    else:
        assert list(map(log_of, ours.logs)) == list(map(log_of, oracle.logs))[: len(ours.logs)]
        assert log_of(ours.load_log) == log_of(oracle.load_log)
    assert same_data(ours.load_error) == same_data(oracle.load_error)
    assert ours.status == oracle.status


# One process for many calls ---------------------------------------------------------------------------------------------


@functools.cache
def case_names():
    """The tables' keys, read without running the functions' module in this process."""
    source = (
        "import sys, json, logging; sys.path.insert(0, sys.argv[1]); logging.disable(); import cases;"
        "json.dump([list(t) for t in (cases.VALUES, cases.ERRORS, cases.LOGS)], sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", source, str(FUNCTIONS)], capture_output=True, check=True, text=True
    )
    return json.loads(ran.stderr)


VALUES, ERRORS, LOGS = case_names()
TABLE = [("value", name) for name in VALUES] + [("error", name) for name in ERRORS] + [("log", name) for name in LOGS]


def pick(seen, index):
    error, body = seen.answers[index]
    return error, body, seen.logs[index]


@pytest.fixture(scope="module")
def text_runs(tree):
    events = [event({"kind": kind, "case": case}) for kind, case in TABLE]
    return run_ours(tree, "cases.handler", events), run_oracle(tree, "cases.handler", events)


@pytest.fixture(scope="module")
def json_runs(tree):
    events = [event({"kind": kind, "case": case}) for kind, case in TABLE]
    more = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"}
    return run_ours(tree, "cases.handler", events, **more), run_oracle(tree, "cases.handler", events, **more)


@pytest.mark.parametrize(("kind", "case"), TABLE)
def test_a_call_has_the_same_result_and_log(text_runs, kind, case):
    ours, oracle = (pick(seen, TABLE.index((kind, case))) for seen in text_runs)
    assert (ours[0], body_of(ours[1])) == (oracle[0], body_of(oracle[1]))
    assert log_of(ours[2]) == log_of(oracle[2])


@pytest.mark.parametrize("case", VALUES)
def test_a_result_has_the_same_bytes(text_runs, case):
    ours, oracle = (pick(seen, TABLE.index(("value", case))) for seen in text_runs)
    assert same(bytes(ours[1]).decode("utf-8", "replace")) == same(oracle[1].decode("utf-8", "replace"))


def test_loading_has_the_same_log(text_runs):
    ours, oracle = text_runs
    assert log_of(ours.load_log) == log_of(oracle.load_log) != []


@pytest.mark.parametrize(("kind", "case"), TABLE)
def test_a_call_has_the_same_result_and_log_when_logs_are_json(json_runs, kind, case):
    ours, oracle = (pick(seen, TABLE.index((kind, case))) for seen in json_runs)
    assert (ours[0], body_of(ours[1])) == (oracle[0], body_of(oracle[1]))
    assert log_of(ours[2]) == log_of(oracle[2])


# What the caller says about a call ----------------------------------------------------------------------------------------

CONTEXTS = {
    "nothing": {},
    "trace": {"Lambda-Runtime-Trace-Id": TRACE},
    "tenant": {"Lambda-Runtime-Aws-Tenant-Id": "blue"},
    "client context": {
        "Lambda-Runtime-Client-Context": json.dumps(
            {"client": {"installation_id": "i", "app_title": "t", "extra": 1}, "custom": {"k": "v"}, "env": {"locale": "ko"}}
        )
    },
    "client context without a client": {"Lambda-Runtime-Client-Context": '{"custom": {"k": "v"}}'},
    "empty client context": {"Lambda-Runtime-Client-Context": "{}"},
    "w3c in the client context": {
        "Lambda-Runtime-Client-Context": json.dumps({"w3c": {"traceparent": "00-1", "tracestate": 5, "other": "x"}, "env": {}})
    },
    "client context that is no JSON": {"Lambda-Runtime-Client-Context": "{no"},
    "client context that is no object": {"Lambda-Runtime-Client-Context": "[1]"},
    "identity": {
        "Lambda-Runtime-Cognito-Identity": json.dumps(
            {"cognitoIdentityId": "eu-west-1:1", "cognitoIdentityPoolId": "eu-west-1:2"}
        )
    },
    "identity that is no JSON": {"Lambda-Runtime-Cognito-Identity": "{no"},
}


def test_a_context_is_the_same(tree):
    events = [event({"kind": "context"}, **headers) for headers in CONTEXTS.values()]
    assert_same(run_ours(tree, "cases.handler", events), run_oracle(tree, "cases.handler", events))


def test_context_log_and_events_of_all_kinds_are_the_same(tree):
    values = [{"kind": "echo", "v": v} for v in (None, 1.0, 10**30, "\U0001f525", [{}], {"": {"": ""}})]
    events = [event({"kind": "context log"}), *map(event, values)]
    twice = b'{"kind": "echo", "a": 1, "a": 1e400}'
    events += [Event(raw) for raw in (twice, b' \n{"kind": "echo"}', b"", b'{"a":', b"\xff", b"nul")]
    assert_same(run_ours(tree, "cases.handler", events), run_oracle(tree, "cases.handler", events))


# One process per handler --------------------------------------------------------------------------------------------------

FORMS = (
    "forms.plain forms.small forms.instance forms.Class forms.coroutine forms.generator forms.one_argument forms.any_arguments "
    "forms.nothing forms.Class.method forms.not_there forms. .handler handler not_there.handler os.path sys.exit builtins.len "
    "pkg.mod.handler pkg/mod.handler pkg/relative.handler pkg/deep/er.handler pkg.handler name-space/with-dash.handler "
    "syntax.handler indented.handler tabs.handler nul.handler no_text.handler raises.handler raises_import_error.handler "
    "imports_missing.handler imports_missing_name.handler imports_raising.handler imports_syntax.handler top_relative.handler "
    "exits.handler exits_0.handler exits_at_once.handler interrupted.handler custom.handler"
).split()

ENDS = (
    "exit_0 exit_3 exit_text exit_none exit_300 exit_at_once abort kill_9 terminate interrupt base_exception exit_with_exitfunc "
    "exit_in_thread raise_in_thread"
).split()


@pytest.mark.parametrize("handler", FORMS)
def test_a_handler_is_found_or_not_in_the_same_way(tree, handler):
    events = [event({"kind": "echo"})]
    assert_same(run_ours(tree, handler, events), run_oracle(tree, handler, events))


@pytest.mark.parametrize("handler", ENDS)
def test_a_process_ends_in_the_same_way(tree, handler):
    events = [event(1), event(2)]
    assert_same(run_ours(tree, f"forms.{handler}", events), run_oracle(tree, f"forms.{handler}", events))


@pytest.mark.parametrize("handler", ["raises.handler", "not_there.handler", "syntax.handler"])
def test_a_failure_to_load_is_logged_the_same_as_json(tree, handler):
    more = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"}
    events = [event(1)]
    assert_same(run_ours(tree, handler, events, **more), run_oracle(tree, handler, events, **more))
