"""The same functions and events under AWS's own Node.js runtime client, its JavaScript unmodified, and under our guest.

aws-lambda-ric comes from npm; its native addon, which carries calls and answers, is replaced by two pipes (`stand_in.cjs`). It
frames its log records as ours are framed, so both logs are read by the same reader and compared event by event. What may differ
is made equal by `same` and nothing else: times, and the runtime's own lines in a stack trace.
"""

import asyncio
import fcntl
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from ondol.runtime import Ending
from ondol.runtimes.interpreters import Interpreters
from ondol.testing import nodejs
from ondol_guest.frames import LogReader

#: The last of its releases that has all of the ways to answer; Node.js 18, 20 and 22 run it.
RELEASE = "aws-lambda-ric@3.3.0"
NODE = next((found for found in reversed(Interpreters.discover().all("nodejs")) if found.major < 24), None)
FUNCTIONS = Path(__file__).parent / "oracle_nodejs"
RUN = FUNCTIONS / "run.mjs"
WAIT_S = 60
TRACE = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0"

pytestmark = [
    pytest.mark.skipif(NODE is None or shutil.which("npm") is None, reason="there is no Node.js below 24 here, or no npm"),
    pytest.mark.timeout(180),
]

BROKEN = {
    "syntax.js": "exports.handler = async () => {",
    "syntax.mjs": "export const handler = async () => {",
    "raises.js": "throw new TypeError('while loading');",
    "raises_text.js": "throw 'just text';",
    "lacks.js": "require('not-there-at-all');",
    "lacks.mjs": "import 'not-there-at-all'; export const handler = async () => 1;",
    "rejects.js": "Promise.reject(new Error('nobody')); exports.handler = async () => 1;",
    "exits.js": "process.exit(5);",
    "es.mjs": "export const handler = async () => typeof require; export default { handler };",
    "common.cjs": "exports.handler = async () => typeof require;",
    "pkg/package.json": '{"type": "module"}',
    "pkg/inside.js": "export const handler = async () => typeof require;",
    "broken/package.json": "{no",
    "broken/inside.js": "exports.handler = async () => typeof require;",
    "folder/index.js": "exports.handler = async () => 'folder';",
    "node_modules/installed/index.js": "exports.handler = async () => 'installed';",
    "a/b/c.js": "exports.handler = async () => 'nested';",
}


def package(release, place):
    """What npm has by this name, unpacked; skips where it cannot be had."""
    packed = subprocess.run(["npm", "pack", "--silent", release], cwd=place, capture_output=True, text=True, timeout=120)
    if packed.returncode and not os.environ.get("CI"):
        pytest.skip(f"{release} cannot be had: {packed.stderr.strip()[-200:]}")
    assert packed.returncode == 0, packed.stderr
    shutil.unpack_archive(next(place.glob("*.tgz")), place, filter="data")
    return place / "package"


@pytest.fixture(scope="session")
def ric(tmp_path_factory):
    """The package's own module."""
    return package(RELEASE, tmp_path_factory.mktemp("ric")) / "dist/index.mjs"


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("oracle") / "task"
    root.mkdir()
    shutil.copy(FUNCTIONS / "cases.js", root)
    for name, text in BROKEN.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@functools.cache
def names():
    source = "console.log = () => {}; const n = require(process.argv[1]).names; process.stdout.write(JSON.stringify(n))"
    ran = subprocess.run([NODE.path, "-e", source, str(FUNCTIONS / "cases.js")], capture_output=True, check=True)
    return json.loads(ran.stdout)


# The oracle -------------------------------------------------------------------------------------------------------------
class InitErrors(http.server.ThreadingHTTPServer):
    """Where a failure to load is reported: the one thing that it sends by HTTP."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told = None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.server.told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(202)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


class Log:
    """The reading end of a log pipe."""

    def __init__(self):
        self.read, self.write = os.pipe()
        fcntl.fcntl(self.read, fcntl.F_SETPIPE_SZ, 1024 * 1024)
        os.set_blocking(self.read, False)
        self.reader = LogReader(256 * 1024)

    def take(self):
        data = b""
        try:
            while piece := os.read(self.read, 65536):
                data += piece
        except BlockingIOError:
            pass
        return self.reader.feed(data) + self.reader.flush()


def run_oracle(ric, tree, handler, events, **more):
    seen, log = nodejs.Seen(), Log()
    calls, calls_inside = os.pipe()[::-1]
    answers, answers_inside = os.pipe()
    with InitErrors() as errors:
        serving = threading.Thread(target=errors.serve_forever, args=(0.01,))
        serving.start()
        environment = nodejs.variables(
            AWS_LAMBDA_RUNTIME_API=f"127.0.0.1:{errors.server_address[1]}",
            _LAMBDA_TELEMETRY_LOG_FD=str(log.write),
            ORACLE_PIPES=f"{calls_inside},{answers_inside}",
            **more,
        )
        process = subprocess.Popen(
            [NODE.path, "--expose-gc", "--require", FUNCTIONS / "stand_in.cjs", RUN, str(ric), handler],
            cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=log.write, stderr=log.write,
            pass_fds=[log.write, calls_inside, answers_inside],
        )  # fmt: skip
        for fd in (log.write, calls_inside, answers_inside):
            os.close(fd)
        try:
            if _exchange(answers, calls, list(events), seen, log):
                seen.status = process.wait(WAIT_S)
        finally:
            process.kill()
            process.wait()
            os.close(calls)
            errors.shutdown()
            serving.join()
        seen.load_error = errors.told
    seen.logs.append(log.take())
    if seen.load_error is not None:
        seen.load_log += seen.logs.pop()
    os.close(log.read)
    return seen


def _exchange(answers, calls, events, seen, log):
    """Until it has had all events; True when it left before."""
    with open(answers, encoding="utf-8") as lines:
        for line in lines:
            told = json.loads(line)
            if "next" in told:
                if not seen.answers:
                    seen.load_log += log.take()
                if not events:
                    return False
                payload, headers = events.pop(0)
                os.write(calls, json.dumps({"bodyJson": payload.decode(), "headers": headers}).encode() + b"\n")
            else:
                seen.answers.append(("error" in told, told.get("error", told.get("body"))))
                seen.logs.append(log.take())
    return True


# Both -------------------------------------------------------------------------------------------------------------------
HEADERS = {
    "id": "lambda-runtime-aws-request-id",
    "deadline_ms": "lambda-runtime-deadline-ms",
    "arn": "lambda-runtime-invoked-function-arn",
    "trace": "lambda-runtime-trace-id",
    "client_context": "lambda-runtime-client-context",
    "identity": "lambda-runtime-cognito-identity",
    "tenant": "lambda-runtime-aws-tenant-id",
}


def event(value, **told):
    """(payload, meta) for us."""
    return (value if isinstance(value, bytes) else json.dumps(value).encode()), nodejs.meta(**told)


def both(ric, tree, handler, events, **more):
    """What ours and the oracle came to."""
    ours = asyncio.run(nodejs.run(NODE.path, tree, handler, events, runtime=NODE.name, environment=nodejs.variables(**more)))
    ours.answers = [(answer.ending is Ending.ERROR, answer.body.decode()) for answer in ours.answers]
    headed = [(payload, {HEADERS[key]: str(value) for key, value in json.loads(meta).items()}) for payload, meta in events]
    return ours, run_oracle(ric, tree, handler, headed, **more)


_RUNTIME_LINE = re.compile(
    r"(\\n|\n|\r)?\s*at (?:[^\n\r\"(]*\()?(?:file://)?[^\n\r\"(]*(?:ondol_guest/node/|/ric\d+/|oracle_nodejs/)[^\n\r\")]*\)?"
)
_INTERNAL_LINE = re.compile(r"(\\n|\n|\r)?\s*at [^\n\r\"]*\(?node:[^\n\r\"]*")


def same(text):
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "<time>", text)
    text = _INTERNAL_LINE.sub("", _RUNTIME_LINE.sub("", text))
    text = re.sub(r'(,"")+(?=[\],])', "", re.sub(r'(?<=\[)"",', "", text))
    # Its own file is where the runtime of a managed environment is, and so is ours.
    text = re.sub(r"[^\"\s]*/ric\d+/package/dist/index\.mjs", "/var/runtime/index.mjs", text)
    return text.rstrip("\n")


compact = functools.partial(json.dumps, separators=(",", ":"))


def log_of(events):
    return [(same(text), at_ms is not None) for text, at_ms in events if text]


def assert_same(ours, oracle):
    assert [(error, same(body)) for error, body in ours.answers] == [(error, same(body)) for error, body in oracle.answers]
    assert same(compact(ours.load_error)) == same(compact(oracle.load_error))
    assert log_of(ours.load_log) == log_of(oracle.load_log)
    # An empty log behind the last answer is no log.
    assert [log for log in map(log_of, ours.logs) if log] == [log for log in map(log_of, oracle.logs) if log]


TABLE = [(kind, name) for kind in ("VALUES", "ERRORS", "LOGS", "FAILS") for name in (names()[kind] if NODE else ())]


@pytest.fixture(scope="module")
def runs(ric, tree):
    @functools.cache
    def runs(handler, table, **more):
        events = [event({"kind": kind.lower().rstrip("s"), "case": name}) for kind, name in table]
        return both(ric, tree, f"cases.{handler}", events, **dict(more))

    return runs


@pytest.mark.parametrize(("kind", "case"), TABLE)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_promises_answer_and_log_are_the_same(runs, kind, case, form):
    more = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"} if form == "json" else {}
    ours, oracle = runs("promise", tuple(TABLE), **more)
    at = TABLE.index((kind, case))
    assert (ours.answers[at][0], same(ours.answers[at][1])) == (oracle.answers[at][0], same(oracle.answers[at][1]))
    assert log_of(ours.logs[at]) == log_of(oracle.logs[at])


@pytest.mark.parametrize("handler", ["callback", "context", "sync"])
def test_other_ways_to_answer_are_the_same(runs, handler):
    table = tuple(each for each in TABLE if each[0] in ("VALUES", "ERRORS"))
    assert_same(*runs(handler, table))


def test_what_is_left_when_a_callback_answered_is_the_same(ric, tree):
    assert_same(*both(ric, tree, "cases.waits", [event({"waits": True}), event({"waits": True})]))
    assert_same(*both(ric, tree, "cases.twice", [event(1), event(2)]))


@pytest.mark.parametrize("case", ["uncaught", "unhandled", "unhandled_text", "circular", "exit", "kill", "abort"])
def test_a_process_ends_in_the_same_way(ric, tree, case):
    ours, oracle = both(ric, tree, "cases.fatal", [event({"case": case}), event(2)])
    if case != "abort":  # that prints addresses
        assert_same(ours, oracle)
    assert ours.status == oracle.status


def test_a_context_is_the_same(ric, tree):
    told = [
        {}, {"trace": TRACE}, {"tenant": "blue"}, {"identity": '{"cognitoIdentityId": "i"}'}, {"identity": "{no"},
        {"client_context": '{"client": {"installation_id": "i"}, "custom": {"k": "v"}}'}, {"client_context": "[1]"},
    ]  # fmt: skip
    assert_same(*both(ric, tree, "cases.promise", [event({"kind": "context"}, **each) for each in told]))


def test_events_of_all_kinds_are_the_same(ric, tree):
    raw = [b"null", b"1e400", b'{"a": 1, "a": 2}', b'"\\ud83d\\udd25"', b"[[[]]]", '{"온": "돌"}'.encode(), b"{no", b""]
    assert_same(*both(ric, tree, "cases.callback", [event(each) for each in raw]))


FORMS = (
    "cases.promise cases.deep.er.handler cases.text cases.absent cases.deep.absent.handler cases. cases ./cases.promise ../cases.x "
    "absent.handler syntax.handler raises.handler raises_text.handler lacks.handler rejects.handler exits.handler es.handler "
    "es.default.handler common.handler pkg/inside.handler broken/inside.handler folder.handler installed.handler a/b/c.handler"
).split()


@pytest.mark.parametrize("handler", FORMS)
def test_a_handler_is_found_or_not_in_the_same_way(ric, tree, handler):
    ours, oracle = both(ric, tree, handler, [event({"kind": "echo"})])
    if handler == "rejects.handler":  # the oracle goes on to a call while it tells of its failure
        oracle.answers.clear()
        oracle.status = oracle.status or 128  # where it was quick enough to have its answer taken, nobody waited for its end
    assert_same(ours, oracle)
    if oracle.load_error is not None or not oracle.answers:
        assert ours.status == oracle.status
