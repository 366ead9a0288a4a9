"""Node.js functions through AWS's own clients, in real sandboxes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from ondol.runtimes.interpreters import Interpreters
from ondol.testing.node import zipped
from ondol.testing.zips import Lie, zip_of

FOUND = Interpreters.discover().all("nodejs")
CLASSIC = [found.name for found in FOUND if found.major < 24]
REASON = "there is no Node.js on this machine that has callbacks"
if os.environ.get("CI"):
    assert CLASSIC, REASON

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.skipif(not CLASSIC, reason=REASON)]
RUNTIME = CLASSIC[-1] if CLASSIC else ""
MAJOR = RUNTIME.removeprefix("nodejs").removesuffix(".x")


@pytest.fixture
def javascript(deploy):
    """Deploys JavaScript text as index.js, or files."""

    def javascript(source, **settings):
        files = {"index.js": source} if isinstance(source, str) else source
        return deploy(files, **{"handler": "index.handler", "runtime": RUNTIME, **settings})

    return javascript


def test_a_function_answers_logs_and_reports(javascript, call):
    function = javascript("exports.handler = async (event, context) => { console.log('got', event); return { event }; };")
    for event in ({"a": 1}, [2]):
        called = call(function, event)
        assert (called.error, called.answer) == (None, {"event": event})
        assert re.search(r"\dZ\tID\tINFO\tgot ", called.tail)
        assert re.search(r"REPORT RequestId: .*\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t", called.tail)


def test_the_environment_is_awss(javascript, call):
    source = "exports.handler = async () => ({ env: process.env, versions: process.versions, cwd: process.cwd(), argv: process.argv });"
    seen = call(javascript(source, Environment={"Variables": {"MINE": "x"}})).answer
    env = seen["env"]
    assert seen["versions"]["node"].split(".")[0] == MAJOR
    assert (seen["cwd"], seen["argv"][1]) == ("/var/task", "/var/runtime/index.mjs")
    assert env["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{RUNTIME}"
    layers = f"/opt/nodejs/node{MAJOR}/node_modules:/opt/nodejs/node_modules"
    assert env["NODE_PATH"] == f"{layers}:/var/runtime/node_modules:/var/runtime:/var/task"
    assert (env["_HANDLER"], env["LAMBDA_TASK_ROOT"], env["TZ"], env["MINE"]) == ("index.handler", "/var/task", ":UTC", "x")
    assert not {"NODE_EXTRA_CA_CERTS", "PYTHONPATH", "LC_CTYPE", "_ONDOL_WIRE"} & set(env)


def test_es_modules_callbacks_and_layers_work(javascript, call, aws, name):
    es = {"index.mjs": "import { hostname } from 'os'; await 0; export const handler = async () => typeof hostname();"}
    assert call(javascript(es)).answer == "string"
    assert (
        call(javascript("exports.handler = (event, context, callback) => setTimeout(callback, 5, null, event);"), 5).answer == 5
    )
    layer = aws.publish_layer_version(
        LayerName=name, Content={"ZipFile": zipped({"nodejs/node_modules/it/index.js": "exports.name = 'layer';"})}
    )
    source = "const { name } = require('it'); exports.handler = async () => name;"
    assert call(javascript(source, Layers=[layer["LayerVersionArn"]])).answer == "layer"
    es = {"index.mjs": "import it from 'it'; export const handler = async () => it.name;"}
    assert call(javascript(es, Layers=[layer["LayerVersionArn"]])).answer == "layer"


def test_failures_are_told_as_on_aws(javascript, call):
    function = javascript("exports.handler = async () => { throw new RangeError('mine'); };")
    called = call(function)
    assert called.error == "Unhandled"
    assert called.answer["errorType"] == "RangeError"
    assert called.answer["trace"][0] == "RangeError: mine"
    assert "/var/task/index.js:1:" in called.answer["trace"][1]
    assert "ERROR\tInvoke Error \t" in called.tail
    called = call(javascript("require('absent');"))
    assert (called.error, called.answer["errorType"]) == ("Unhandled", "Runtime.ImportModuleError")
    assert called.answer["errorMessage"].startswith("Error: Cannot find module 'absent'\nRequire stack:\n- /var/task/index.js")
    called = call(javascript("exports.handler = () => { setTimeout(() => { throw new Error('late'); }, 1); };"))
    assert (called.error, called.answer["errorMessage"]) == ("Unhandled", "late")


def test_a_process_that_leaves_or_is_killed_or_takes_too_long_is_replaced(javascript, call):
    source = """
    let calls = 0;
    exports.handler = async (event) => {
      calls += 1;
      if (event === 'exit') process.exit(7);
      if (event === 'kill') process.kill(process.pid, 'SIGKILL');
      if (event === 'spin') for (;;);
      return calls;
    };"""
    function = javascript(source, Timeout=1)
    assert [call(function, "x").answer, call(function, "x").answer] == [1, 2]
    for way, words in (("exit", "exit status 7"), ("kill", "signal: killed"), ("spin", "Task timed out after 1.00 seconds")):
        called = call(function, way)
        assert called.error == "Unhandled"
        assert words in called.answer["errorMessage"]
        assert call(function, "x").answer == 1


def test_memory_is_limited_and_the_heap_with_it(javascript, call):
    source = """
    const kept = [];
    exports.handler = async (event) => {
      if (event === 'limit') return require('v8').getHeapStatistics().heap_size_limit;
      for (;;) kept.push(event === 'buffers' ? Buffer.alloc(1 << 20, 1) : new Array(1e4).fill(kept.length));
    };"""
    function = javascript(source, MemorySize=256, Timeout=20)
    assert 200 << 20 < call(function, "limit").answer < 300 << 20
    for way in ("heap", "buffers"):
        called = call(function, way)
        assert called.error == "Unhandled"
        assert called.answer["errorType"] in {"Runtime.OutOfMemory", "Runtime.ExitError"}


def test_what_node_reads_when_it_starts_is_the_functions(javascript, call, tmp_path):
    source = "exports.handler = async () => [process.env.NODE_OPTIONS, process.execArgv.length, global.fromRequired];"
    files = {"index.js": source, "early.js": "global.fromRequired = 'early';"}
    function = javascript(files, Environment={"Variables": {"NODE_OPTIONS": "--require /var/task/early.js"}})
    options, _, early = call(function).answer
    assert (options, early) == ("--require /var/task/early.js", "early")


def test_a_wrapper_starts_the_runtime_in_its_place(aws, name, call):
    files = [
        Lie(name=b"index.js", content=b"exports.handler = async () => process.env.WRAPPED;"),
        Lie(name=b"wrap", content=b'#!/bin/sh\nexport WRAPPED="$1"\nexec "$@"\n', mode=0o100755),
    ]
    aws.create_function(
        FunctionName=name, Runtime=RUNTIME, Handler="index.handler", Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": zip_of(*files)}, Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}},
    )  # fmt: skip
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    try:
        assert call(name).answer.endswith("/node")
    finally:
        aws.delete_function(FunctionName=name)


def test_streams_leave_chunk_by_chunk_and_whole(javascript, call, aws):
    source = """exports.handler = awslambda.streamifyResponse(async (event, stream) => {
      stream.write('first '); await new Promise((r) => setTimeout(r, 5)); stream.write('second');
      if (event === 'fail') throw new RangeError('in it');
      stream.end();
    });"""
    function = javascript(source)
    assert call(function).payload == b"first second"
    events = list(aws.invoke_with_response_stream(FunctionName=function, Payload=b"1")["EventStream"])
    assert b"".join(each["PayloadChunk"]["Payload"] for each in events[:-1]) == b"first second"
    assert "ErrorCode" not in events[-1]["InvokeComplete"]
    *chunks, last = list(aws.invoke_with_response_stream(FunctionName=function, Payload=b'"fail"')["EventStream"])
    assert b"".join(each["PayloadChunk"]["Payload"] for each in chunks) == b"first second"
    assert last["InvokeComplete"]["ErrorCode"] == "RangeError"
    assert json.loads(last["InvokeComplete"]["ErrorDetails"])["errorMessage"] == "in it"


def test_a_version_that_is_not_here_is_named_with_what_to_do(deploy, aws):
    absent = next(f"nodejs{major}.x" for major in (24, 22, 18) if f"nodejs{major}.x" not in {found.name for found in FOUND})
    function = deploy({"index.js": "exports.handler = async () => 1;"}, handler="index.handler", runtime=absent)
    with pytest.raises(aws.exceptions.ClientError) as refused:
        aws.invoke(FunctionName=function)
    assert refused.value.response["Error"]["Code"] == "InvalidRuntimeException"
    assert f"{absent} is not on this machine (found: " in refused.value.response["Error"]["Message"]


# What people deploy -----------------------------------------------------------------------------------------------------
APP = """
const express = require('express');
const serverless = require('serverless-http');
const { STSClient, GetCallerIdentityCommand } = require('@aws-sdk/client-sts');
const app = express();
app.use(express.json());
app.get('/hello/:name', (request, response) => response.status(201).set('x-mine', 'y').json({ hello: request.params.name }));
app.post('/sum', (request, response) => response.json({ sum: request.body.reduce((a, b) => a + b, 0) }));
app.get('/who', async (request, response) => response.json(await new STSClient().send(new GetCallerIdentityCommand({}))));
exports.handler = serverless(app);
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with an Express application and what it needs, from npm."""
    place = tmp_path_factory.mktemp("express")
    (place / "index.js").write_text(APP)
    packages = ["express@4", "serverless-http@3", "@aws-sdk/client-sts@3"]
    command = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=100) if shutil.which("npm") else None
    reason = "there is no npm" if done is None else done.stderr[-300:]
    if (done is None or done.returncode) and not os.environ.get("CI"):
        pytest.skip(f"packages cannot be had: {reason}")
    assert done is not None and not done.returncode, reason
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.timeout(240)
def test_express_by_serverless_http_and_the_sdk_work_inside(javascript, call, installed):
    function = javascript(installed, Timeout=30, MemorySize=512)

    def request(method, path, body=None):
        http = {"method": method, "path": path, "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1", "userAgent": "test"}
        event = {
            "version": "2.0", "rawPath": path, "rawQueryString": "", "requestContext": {"http": http, "stage": "$default"},
            "headers": {"content-type": "application/json", "host": "test"}, "isBase64Encoded": False,
        }  # fmt: skip
        return call(function, {**event, "body": body} if body else event).answer

    answer = request("GET", "/hello/you")
    assert (answer["statusCode"], answer["headers"]["x-mine"], json.loads(answer["body"])) == (201, "y", {"hello": "you"})
    assert json.loads(request("POST", "/sum", "[1, 2, 3]")["body"]) == {"sum": 6}
    who = json.loads(request("GET", "/who")["body"])
    assert who["Arn"].endswith(f"/{function}"), who
