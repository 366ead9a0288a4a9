"""The Node.js guest over its wire: how handlers are found, how they answer and fail, what they see. On every Node.js found here."""

import asyncio
import json
import os

import pytest

from ondol.runtime import Ending
from ondol.runtimes.interpreters import Interpreters
from ondol.testing import nodejs

FOUND = Interpreters.discover().all("nodejs")
CLASSIC = [found for found in FOUND if found.major < 24]
REASON = "there is no Node.js on this machine"
if os.environ.get("CI"):
    assert FOUND, REASON

pytestmark = pytest.mark.skipif(not FOUND, reason=REASON)
each_node = pytest.mark.parametrize("node", FOUND, ids=lambda found: found.name)
each_classic = pytest.mark.parametrize("node", CLASSIC, ids=lambda found: found.name)


def run(node, tree, handler, *events, files=None, runtime=None, meta=None, **variables):
    for name, text in (files or {}).items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    calls = [
        (json.dumps(event).encode(), nodejs.meta(f"r{number}", **(meta or {}))) for number, event in enumerate(events or (1,))
    ]
    environment = nodejs.variables(**variables)
    return asyncio.run(nodejs.run(node.path, tree, handler, calls, runtime=runtime or node.name, environment=environment))


def values(seen):
    assert seen.load_error is None, seen.load_error
    assert all(answer.ending is Ending.OK for answer in seen.answers), seen.answers
    return [json.loads(answer.body) for answer in seen.answers]


def failure(seen, index=0):
    assert seen.answers[index].ending is Ending.ERROR
    return json.loads(seen.answers[index].body)


def texts(lines):
    return [text for text, _ in lines]


# Modules ----------------------------------------------------------------------------------------------------------------
COMMONJS = "exports.handler = async (event) => ({ event, where: __filename });"
ES = "export const handler = async (event) => ({ event, where: import.meta.url.replace('file://', '') });"


@each_node
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("index.js", {"index.js": COMMONJS}),
        ("index.cjs", {"index.cjs": COMMONJS}),
        ("index.mjs", {"index.mjs": ES}),
        ("index.js", {"index.js": ES, "package.json": '{"type": "module"}'}),
        ("index.js", {"index.js": COMMONJS, "package.json": '{"type": "commonjs"}'}),
        ("index.js", {"index.js": COMMONJS, "index.mjs": ES}),
    ],
)
def test_commonjs_and_es_modules_are_loaded_by_their_name_and_package(tmp_path, node, name, files):
    assert values(run(node, tmp_path, "index.handler", files=files)) == [{"event": 1, "where": str(tmp_path / name)}]


@each_node
def test_a_handler_may_be_in_a_folder_and_inside_of_what_is_exported(tmp_path, node):
    files = {
        "a/b.js": "exports.c = { handler: async () => 'nested' };",
        "a/d.mjs": "export const e = { f: async () => 'deep' };",
    }
    assert values(run(node, tmp_path, "a/b.c.handler", files=files)) == ["nested"]
    assert values(run(node, tmp_path, "a/d.e.f")) == ["deep"]


@each_node
def test_a_module_may_wait_while_it_is_loaded(tmp_path, node):
    source = "const x = await new Promise((r) => setTimeout(() => r('waited'), 20)); export const handler = async () => x;"
    assert values(run(node, tmp_path, "index.handler", files={"index.mjs": source})) == ["waited"]


@each_node
@pytest.mark.parametrize("form", ["const it = require('it'); exports.handler = async () => it.name;", "esm"])
def test_layers_modules_are_found_along_node_path_by_both_kinds_of_modules(tmp_path, node, form):
    layer = tmp_path / "layer/node_modules"
    files = {"layer/node_modules/it/package.json": '{"main": "it.js"}', "layer/node_modules/it/it.js": "exports.name = 'it';"}
    if form == "esm":
        if not hasattr_register(node):
            pytest.skip("this release of Node.js has no hooks for that")
        files["task/index.mjs"] = "import it from 'it'; export const handler = async () => it.name;"
    else:
        files["task/index.js"] = form
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert values(run(node, tmp_path / "task", "index.handler", NODE_PATH=f"{layer}:/var/runtime")) == ["it"]


def hasattr_register(node):
    return (node.major, node.minor) >= (20, 6) or (node.major == 18 and node.minor >= 19)


UNFOUND = [
    ("index.nothing", "Runtime.HandlerNotFound", "index.nothing is undefined or not exported"),
    ("index.text", "Runtime.HandlerNotFound", "index.text is not a function"),
    ("index", "Runtime.MalformedHandlerName", "Bad handler"),
    (
        "../index.handler",
        "Runtime.MalformedHandlerName",
        "'../index.handler' is not a valid handler name. Use absolute paths when specifying root directories in handler names.",
    ),
    ("absent.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'absent'"),
    ("lacks.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'not-there-at-all'"),
    ("broken.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
    ("raises.handler", "TypeError", "while loading"),
]


@each_node
@pytest.mark.parametrize(("handler", "kind", "message"), UNFOUND)
def test_what_cannot_be_loaded_is_told_in_awss_words(tmp_path, node, handler, kind, message):
    files = {
        "index.js": "exports.text = 'text'; exports.handler = async () => 1;",
        "lacks.js": "require('not-there-at-all');",
        "broken.js": "exports.handler = async () => {",
        "raises.js": "throw new TypeError('while loading');",
    }
    seen = run(node, tmp_path, handler, files=files)
    assert seen.load_error["errorType"] == kind
    assert seen.load_error["errorMessage"].startswith(message)
    if kind != "Runtime.UserCodeSyntaxError":
        assert seen.load_error["trace"][0].startswith(f"{kind}: {message}")
    title = "Init Error" if node.major >= 24 else "Uncaught Exception"
    assert f'\tERROR\t{title} \t{{"errorType":"{kind}"' in texts(seen.load_log)[-1]
    assert seen.status == (1 if node.major >= 24 else 129)


@each_classic
@pytest.mark.parametrize(
    ("source", "kind", "status"),
    [
        ("setTimeout(() => { throw new RangeError('later'); }, 5); await new Promise(() => setTimeout(() => {}, 5000));", "RangeError", 129),
        ("Promise.reject(new Error('nobody')); await new Promise(() => setTimeout(() => {}, 5000));",
         "Runtime.UnhandledPromiseRejection", 128),
    ],
)  # fmt: skip
def test_what_nobody_catches_while_loading_fails_it(tmp_path, node, source, kind, status):
    seen = run(node, tmp_path, "index.handler", files={"index.mjs": source + "export const handler = async () => 1;"})
    assert (seen.load_error["errorType"], seen.status) == (kind, status)


# Answers ----------------------------------------------------------------------------------------------------------------
WAYS = """
exports.promise = async (event) => ({ got: event });
exports.callback = (event, context, callback) => callback(null, { got: event });
exports.late = (event, context, callback) => setTimeout(() => callback(null, { got: event }), 5);
exports.succeed = (event, context) => context.succeed({ got: event });
exports.done = (event, context) => setTimeout(() => context.done(null, { got: event }), 5);
exports.thenable = (event) => ({ then: (resolve) => resolve({ got: event }) });
exports.sync = (event) => ({ got: event });
exports.never = () => {};
exports.nothing = async () => {};
exports.unresolved = () => new Promise(() => {});
exports.twice = (event, context, callback) => { callback(null, 'first'); callback(null, 'second'); };
exports.failing = (event, context, callback) => callback(new RangeError('mine'));
exports.text = (event, context, callback) => callback('just text');
exports.fail = (event, context) => context.fail();
exports.throwing = () => { throw new RangeError('mine'); };
exports.rejecting = async () => { throw new RangeError('mine'); };
exports.circular = async () => { const a = {}; a.a = a; return a; };
exports.big = async () => 10n;
"""


@each_classic
@pytest.mark.parametrize("way", ["promise", "callback", "late", "succeed", "done", "thenable"])
def test_a_handler_answers_in_any_of_the_ways(tmp_path, node, way):
    assert values(run(node, tmp_path, f"ways.{way}", 1, {"a": None}, files={"ways.js": WAYS})) == [
        {"got": 1},
        {"got": {"a": None}},
    ]


@each_classic
@pytest.mark.parametrize("way", ["sync", "never", "nothing", "unresolved"])
def test_who_answers_nothing_answers_null_once_there_is_nothing_left_to_do(tmp_path, node, way):
    assert values(run(node, tmp_path, f"ways.{way}", 1, 2, files={"ways.js": WAYS})) == [None, None]


@each_classic
def test_only_the_first_answer_counts(tmp_path, node):
    assert values(run(node, tmp_path, "ways.twice", 1, 2, files={"ways.js": WAYS})) == ["first", "first"]


@each_classic
@pytest.mark.parametrize(
    ("way", "kind", "message"),
    [
        ("failing", "RangeError", "mine"),
        ("throwing", "RangeError", "mine"),
        ("rejecting", "RangeError", "mine"),
        ("text", "string", "just text"),
        ("fail", "string", "handled"),
        ("circular", "Error", "Unable to stringify response body"),
        ("big", "Error", "Unable to stringify response body"),
    ],
)
def test_a_failure_has_its_type_message_and_trace(tmp_path, node, way, kind, message):
    seen = run(node, tmp_path, f"ways.{way}", 1, 2, files={"ways.js": WAYS})
    told = failure(seen, 1)
    assert (told["errorType"], told["errorMessage"]) == (kind, message)
    if way in ("throwing", "rejecting"):
        assert told["trace"][0] == "RangeError: mine"
        assert f"({tmp_path}/ways.js:" in told["trace"][1]
        assert len(told["trace"]) == 3, "of the runtime there is one line"
    assert texts(seen.logs[1])[0].split("\t")[1:4] == ["r1", "ERROR", "Invoke Error "]


@each_classic
def test_a_callbacks_answer_waits_for_the_event_loop_unless_it_shall_not(tmp_path, node):
    source = """
    let ran = 0;
    exports.handler = (event, context, callback) => {
      context.callbackWaitsForEmptyEventLoop = event.waits;
      setTimeout(() => { ran += 1; console.log('ran'); }, 20);
      callback(null, { get ran() { return ran; } });
    };
    """
    seen = run(node, tmp_path, "index.handler", {"waits": True}, {"waits": False}, files={"index.js": source})
    assert values(seen) == [{"ran": 1}, {"ran": 1}]
    assert len(seen.logs[0]) == 1


@each_node
def test_from_24_on_only_what_is_returned_counts(tmp_path, node):
    files = {"ways.js": WAYS}
    assert values(run(node, tmp_path, "ways.sync", files=files, runtime="nodejs24.x")) == [{"got": 1}]
    told = failure(run(node, tmp_path, "ways.circular", runtime="nodejs24.x"))
    assert told["errorType"] == "Runtime.JSONStringifyError"
    seen = run(node, tmp_path, "ways.callback", runtime="nodejs24.x")
    assert seen.load_error["errorType"] == "Runtime.CallbackHandlerDeprecated"
    context = "exports.handler = async (event, context) => Object.keys(context);"
    (keys,) = values(run(node, tmp_path, "context.handler", files={"context.js": context}, runtime="nodejs24.x"))
    assert not {"done", "succeed", "fail", "callbackWaitsForEmptyEventLoop"} & set(keys)
    assert {"awsRequestId", "getRemainingTimeInMillis", "functionName", "xRayTraceId"} <= set(keys)


@each_node
def test_large_answers_come_whole_and_too_large_ones_are_told_by_their_size(tmp_path, node):
    source = "exports.handler = async (event) => 'x'.repeat(event);"
    seen = run(node, tmp_path, "index.handler", 6 * 1024 * 1024, 7_000_000, 3, files={"index.js": source})
    assert [answer.ending for answer in seen.answers] == [Ending.OK, Ending.TOO_LARGE, Ending.OK]
    assert len(seen.answers[0].body) == 6 * 1024 * 1024 + 2
    assert seen.answers[1].meta == {"too_large": 7_000_002}


@each_node
def test_events_and_answers_of_any_text_survive(tmp_path, node):
    event = {"text": "온돌 \U0001f525 \u0000 \u2028", "deep": [[[[{}]]]], "number": 1e300}
    assert values(run(node, tmp_path, "index.handler", event, files={"index.js": "exports.handler = async (e) => e;"})) == [
        event
    ]


# Ends -------------------------------------------------------------------------------------------------------------------
ENDS = """
exports.uncaught = (event, context, callback) => setTimeout(() => { throw new RangeError('late'); }, 5);
exports.unhandled = (event, context, callback) => { Promise.reject(new Error('nobody')); setTimeout(() => {}, 5000); };
exports.exit = async () => process.exit(7);
exports.killed = async () => process.kill(process.pid, 'SIGKILL');
"""


@each_classic
@pytest.mark.parametrize(
    ("way", "kind", "message"),
    [("uncaught", "RangeError", "late"), ("unhandled", "Runtime.UnhandledPromiseRejection", "Error: nobody")],
)
def test_what_nobody_catches_is_the_answer_and_the_processs_end(tmp_path, node, way, kind, message):
    seen = run(node, tmp_path, f"ends.{way}", 1, 2, files={"ends.js": ENDS})
    told = failure(seen)
    assert (told["errorType"], told["errorMessage"], told["trace"][0]) == (kind, message, f"{kind}: {message}")
    assert seen.status == {"uncaught": 129, "unhandled": 128}[way]


@each_node
@pytest.mark.parametrize(("way", "status"), [("exit", 7), ("killed", -9)])
def test_a_process_that_leaves_answers_nothing(tmp_path, node, way, status):
    seen = run(node, tmp_path, f"ends.{way}", files={"ends.js": ENDS})
    assert (seen.answers, seen.status) == ([], status)


# Logs -------------------------------------------------------------------------------------------------------------------
LOGS = """
console.log('loading');
exports.handler = async () => {
  console.log('two\\nlines', { a: 1 }, '%s', 'x');
  console.warn('%s is %d', 'x', 5);
  console.debug('fine');
  console.error(new Error('shown'));
  process.stdout.write('raw\\n');
  process.stderr.write('rawer\\n');
  console.trace('traced');
};
"""


@each_node
def test_console_writes_time_request_level_and_message_as_one_event(tmp_path, node):
    seen = run(node, tmp_path, "index.handler", files={"index.js": LOGS})
    nobody = "-" if node.major >= 24 else "undefined"
    assert [text.split("\t")[1:] for text in texts(seen.load_log)] == [[nobody, "INFO", "loading\n"]]
    lines = texts(seen.logs[0])
    assert lines[0].split("\t")[1:] == ["r0", "INFO", "two\nlines { a: 1 } %s x\n"]
    assert lines[1].split("\t")[1:] == ["r0", "WARN", "x is 5\n"]
    assert lines[2].split("\t")[1:] == ["r0", "DEBUG", "fine\n"]
    assert lines[3].split("\t")[1:3] == ["r0", "ERROR"]
    assert lines[3].split("\t")[3].startswith("Error: shown\n    at ")
    assert lines[4:6] == ["raw\n", "rawer\n"]
    assert lines[6].split("\t")[1:] == ["r0", "TRACE", "traced\n"]


@each_node
def test_logs_are_json_of_a_level_and_above_where_that_is_asked_for(tmp_path, node):
    more = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "WARN"}
    seen = run(node, tmp_path, "index.handler", files={"index.js": LOGS}, **more)
    records = [json.loads(text) for text in texts(seen.logs[0]) if text.startswith("{")]
    assert [record["level"] for record in records] == ["WARN", "ERROR"]
    assert records[0]["message"] == "x is 5"
    assert records[0]["requestId"] == "r0"
    assert records[1]["message"]["errorType"] == "Error"
    assert records[1]["message"]["errorMessage"] == "shown"


@each_node
def test_a_flood_of_text_before_an_answer_is_all_there(tmp_path, node):
    source = "exports.handler = async () => { process.stdout.write('x'.repeat(99) + '\\n'); console.log('y'.repeat(300000)); };"
    seen = run(node, tmp_path, "index.handler", files={"index.js": source})
    assert "".join(texts(seen.logs[0])).count("y") == 300_000


# What it sees -----------------------------------------------------------------------------------------------------------
def traced(node, tree, source, *traces):
    """What a handler answers to calls with these trace headers, one after the other."""
    (tree / "index.js").write_text(source)
    calls = [(json.dumps(number).encode(), nodejs.meta(f"r{number}", trace=trace)) for number, trace in enumerate(traces)]
    environment = nodejs.variables()
    return values(asyncio.run(nodejs.run(node.path, tree, "index.handler", calls, runtime=node.name, environment=environment)))


#: So many calls that the guest has begun to write each header over the last one's.
MANY = 500


@each_node
def test_each_calls_trace_header_is_what_it_and_its_programs_see(tmp_path, node):
    source = """const { execFileSync } = require('child_process');
    const { Worker } = require('worker_threads');
    const inWorker = () => new Promise((resolve, reject) => {
      const text = "require('worker_threads').parentPort.postMessage(process.env._X_AMZN_TRACE_ID)";
      new Worker(text, { eval: true }).on('message', resolve).on('error', reject);
    });
    exports.handler = async (number) => {
      const seen = [process.env._X_AMZN_TRACE_ID];
      if (number % 100 < 2) {
        seen.push(execFileSync('/bin/sh', ['-c', 'printf %s "$_X_AMZN_TRACE_ID"']).toString(), await inWorker());
        seen.push({ ...process.env }._X_AMZN_TRACE_ID);
      }
      return [...new Set(seen)];
    };"""
    lengths = (0, 40, 3, 900, 1000, 1001, 2000, 70)
    traces = [f"Root={number};" + "x" * lengths[number % len(lengths)] for number in range(MANY)]
    assert traced(node, tmp_path, source, *traces) == [[trace] for trace in traces]


@each_node
def test_what_a_function_makes_of_the_variable_is_its_own_until_the_next_call(tmp_path, node):
    source = """exports.handler = async (number) => {
      const { env } = process;
      const seen = env._X_AMZN_TRACE_ID ?? null;
      if (number % 5 === 1) env._X_AMZN_TRACE_ID = 'mine';
      if (number % 5 === 2) delete env._X_AMZN_TRACE_ID;
      if (number % 250 === 249) process.env = { ...env };
      return [seen, process.env._X_AMZN_TRACE_ID ?? null];
    };"""
    traces = [None if number % 5 == 4 else f"Root={number}" for number in range(MANY)]
    after = {1: lambda _: "mine", 2: lambda _: None}
    expected = [[trace, after.get(number % 5, lambda trace: trace)(trace)] for number, trace in enumerate(traces)]
    assert traced(node, tmp_path, source, *traces) == expected


@each_node
def test_trace_headers_take_no_memory_that_stays(tmp_path, node):
    source = """const fs = require('fs');
    const heap = () => {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw.*\\[heap\\]$/m.exec(fs.readFileSync('/proc/self/maps', 'latin1'));
      return parseInt(to, 16) - parseInt(from, 16);
    };
    let before = null;
    exports.handler = async (number) => {
      if (number === 1000) before = heap();
      return number === 8999 ? heap() - before : null;
    };"""
    grown = traced(node, tmp_path, source, *(f"Root={number};{'x' * 900}" for number in range(9000)))[-1]
    assert grown < 8000 * 900 / 2


@each_classic
def test_the_context_says_all_that_awss_says(tmp_path, node):
    source = """exports.handler = async (event, context) => {
      const shown = { ...context, left: context.getRemainingTimeInMillis() };
      return { shown, keys: Object.keys(context), trace: process.env._X_AMZN_TRACE_ID };
    };"""
    (tmp_path / "index.js").write_text(source)
    more = {
        "client_context": '{"custom": {"k": "v"}}',
        "identity": {"cognitoIdentityId": "i"},
        "trace": "Root=1",
        "tenant": "t",
    }
    call = (b"{}", nodejs.meta("r0", **more))
    seen = asyncio.run(nodejs.run(node.path, tmp_path, "index.handler", [call], runtime=node.name))
    (got,) = values(seen)
    assert got["trace"] == "Root=1"
    shown = got["shown"]
    assert 0 < shown.pop("left") <= 60_000
    assert shown == {
        "callbackWaitsForEmptyEventLoop": True,
        "functionVersion": "$LATEST", "functionName": "hello", "memoryLimitInMB": "128",
        "logGroupName": "/aws/lambda/hello", "logStreamName": "2026/01/01/[$LATEST]0123",
        "clientContext": {"custom": {"k": "v"}}, "identity": {"cognitoIdentityId": "i"},
        "invokedFunctionArn": nodejs.ARN, "awsRequestId": "r0", "tenantId": "t",
    }  # fmt: skip
    assert {"succeed", "fail", "done", "getRemainingTimeInMillis"} <= set(got["keys"])


@each_node
def test_the_process_is_the_functions_and_nothing_of_ours_is_to_be_seen(tmp_path, node):
    source = """exports.handler = async () => ({
      env: Object.keys(process.env), argv: process.argv, cwd: process.cwd(), main: require.main === undefined,
      cache: Object.keys(require.cache), globals: Object.getOwnPropertySymbols(globalThis).map(String).filter((s) => /aws/.test(s)),
      gc: typeof gc, zone: new Date(0).getTimezoneOffset(), fds: require('child_process').execSync('ls /proc/self/fd').toString(),
    });"""
    (seen,) = values(run(node, tmp_path, "index.handler", files={"index.js": source}, TZ="XYZ-9"))
    assert set(seen["env"]) == set(nodejs.variables())
    assert seen["argv"] == [node.path, "/var/runtime/index.mjs"]
    assert (seen["cwd"], seen["main"], seen["gc"], seen["zone"]) == (str(tmp_path), True, "function", -540)
    assert seen["cache"] == [str(tmp_path / "index.js")]
    assert seen["fds"].split() == ["0", "1", "2", "3"], "a program that it starts has no wire"


# Streams ----------------------------------------------------------------------------------------------------------------
STREAMS = """
const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
exports.plain = awslambda.streamifyResponse(async (event, stream) => {
  stream.setContentType('text/plain');
  for (let i = 0; i < 3; i++) { stream.write(`part ${i}\\n`); await new Promise((r) => setTimeout(r, 2)); }
  stream.end('end');
});
exports.prelude = awslambda.streamifyResponse(async (event, stream) => {
  const out = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { a: 'b' } });
  out.write({ an: 'object' });
  out.end();
});
exports.large = awslambda.streamifyResponse(async (event, stream) => {
  await pipeline(Readable.from((function* () { for (let i = 0; i < 200; i++) yield Buffer.alloc(100000, 65); })()), stream);
});
exports.empty = awslambda.streamifyResponse(async (event, stream) => stream.end());
exports.first = awslambda.streamifyResponse(async () => { throw new RangeError('before a byte'); });
exports.middle = awslambda.streamifyResponse(async (event, stream) => { stream.write('some'); throw new RangeError('in it'); });
exports.sync = awslambda.streamifyResponse(() => {});
exports.late = awslambda.streamifyResponse(async (event, stream) => { stream.write('x'); stream.setContentType('text/html'); });
"""


def stream(node, tree, way, *events, whole=False):
    return run(node, tree, f"streams.{way}", *events, files={"streams.js": STREAMS}, meta={} if whole else {"stream": True})


@each_node
def test_who_wants_a_streamed_answer_whole_gets_it_whole(tmp_path, node):
    seen = stream(node, tmp_path, "plain", 1, 2, whole=True)
    assert [(answer.body, answer.meta) for answer in seen.answers] == [(b"part 0\npart 1\npart 2\nend", {})] * 2
    assert failure(stream(node, tmp_path, "middle", whole=True))["errorMessage"] == "in it"
    assert [a.ending for a in stream(node, tmp_path, "large", 1, 2, whole=True).answers] == [Ending.TOO_LARGE] * 2


@each_node
def test_a_streamed_answer_has_its_type_and_all_its_bytes(tmp_path, node):
    seen = stream(node, tmp_path, "plain", 1, 2)
    assert [bytes(answer.body) for answer in seen.answers] == [b"part 0\npart 1\npart 2\nend"] * 2
    assert seen.answers[0].meta == {"content_type": "text/plain"}
    assert seen.cut == ""


@each_node
def test_a_prelude_stands_in_front_of_the_body(tmp_path, node):
    (answer,) = stream(node, tmp_path, "prelude").answers
    assert answer.meta == {"content_type": "application/vnd.awslambda.http-integration-response"}
    assert answer.body == b'{"statusCode":201,"headers":{"a":"b"}}' + bytes(8) + b'{"an":"object"}'


@each_node
def test_a_large_stream_comes_whole_within_its_credit(tmp_path, node):
    seen = stream(node, tmp_path, "large", 1, 2)
    assert [len(answer.body) for answer in seen.answers] == [20_000_000] * 2


@each_node
def test_an_empty_stream_is_an_answer(tmp_path, node):
    seen = stream(node, tmp_path, "empty", 1, 2)
    assert [(answer.ending, answer.body) for answer in seen.answers] == [(Ending.OK, b"")] * 2


@each_node
def test_a_stream_that_fails_before_its_first_byte_is_a_failure(tmp_path, node):
    seen = stream(node, tmp_path, "first", 1, 2)
    assert failure(seen, 1)["errorMessage"] == "before a byte"
    assert failure(stream(node, tmp_path, "sync"))["errorMessage"] == "Streaming does not support non-async handlers."


@each_node
@pytest.mark.parametrize("way", ["middle", "late"])
def test_a_stream_that_fails_in_its_middle_is_cut_and_the_next_call_is_whole(tmp_path, node, way):
    seen = stream(node, tmp_path, way, 1, 2)
    assert seen.cut == {"middle": "RangeError", "late": "Runtime.InvalidStreamingOperation"}[way]
    assert [len(answer.body) > 0 for answer in seen.answers] == [True, True]
    assert "Invoke Error" in texts(seen.logs[0])[0]
