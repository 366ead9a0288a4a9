"""AWS's own clients of the Runtime API, unmodified, each with the same function: built here where the toolchain is.

Builds are kept below `.cache/clients`, by what they were built from.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ondol.runtimes.interpreters import Interpreters
from tests.e2e.test_runtime_api import Called, archive

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SOURCES = Path(__file__).with_name("clients")
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "clients"
#: The packages of AWS's client for Python, as they are installed beside this test's own interpreter.
RIC = ("awslambdaric", "simplejson", "snapshot_restore_py")
HANDLER = """
def handler(event, context):
    if event == "raise":
        raise ValueError("no")
    if event == "exit":
        import os
        os._exit(3)
    if event == "sleep":
        import time
        time.sleep(60)
    print("called")
    return {"event": event, "id": context.aws_request_id, "arn": context.invoked_function_arn}
"""


def tool(*names):
    """Skips where one of these commands is not on this machine."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"no {name} on this machine")


def built(language: str, build: Callable[[Path], None], *results: str) -> list[Path]:
    """What `build` makes of a copy of a language's sources; made once for all that run this at the same time, or later."""
    source = SOURCES / language
    contents = b"".join(path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file())
    place = CACHE / f"{language}-{hashlib.sha256(contents).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{language}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            shutil.copytree(source, place, dirs_exist_ok=True)
            build(place)
            (place / "done").touch()
    return [path for pattern in results for path in sorted(place.glob(pattern))]


def command(*words, at, **variables):
    """Run a build's command; its messages when it fails."""
    ran = subprocess.run(words, cwd=at, env={**os.environ, **variables}, capture_output=True, text=True)
    assert ran.returncode == 0, f"{words}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"


def go():
    tool("go")
    build = lambda at: command("go", "build", "-tags", "lambda.norpc", "-o", "bootstrap", ".", at=at, CGO_ENABLED="0")  # noqa: E731
    return {"bootstrap": built("go", build, "bootstrap")[0].read_bytes()}


def rust():
    tool("cargo")
    build = lambda at: command("cargo", "build", "--quiet", "--locked", at=at, CARGO_TARGET_DIR=str(at / "target"))  # noqa: E731
    return {"bootstrap": built("rust", build, "target/debug/bootstrap")[0].read_bytes()}


def java():
    tool("mvn", "java")
    program = Path(shutil.which("java")).resolve()
    if not program.is_relative_to("/usr"):
        pytest.skip(f"{program} is not below /usr, so no function sees it")
    goals = ("package", "dependency:copy-dependencies", "-DincludeScope=runtime")
    jars = built("java", lambda at: command("mvn", "-q", "-B", *goals, at=at), "target/*.jar", "target/dependency/*.jar")
    client = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"
    start = f'#!/bin/sh\nexec {program} -XX:TieredStopAtLevel=1 -cp "/var/task/lib/*" {client} "$_HANDLER"\n'
    return {"bootstrap": start, **{f"lib/{jar.name}": jar.read_bytes() for jar in jars}}


def python():
    interpreter = Interpreters.discover().get(f"python3.{sys.version_info.minor}")
    if interpreter is None or any(importlib.util.find_spec(name) is None for name in RIC):
        pytest.skip("awslambdaric is not installed beside this test's interpreter")
    files = {"bootstrap": f'#!/bin/sh\nexec {interpreter.path} -m awslambdaric "$_HANDLER"\n', "app.py": HANDLER}
    for name in (*RIC, "runtime_client"):
        found = importlib.util.find_spec(name)
        if found is None:
            continue  # older releases have it
        place = Path(found.origin)
        paths = place.parent.rglob("*") if place.name == "__init__.py" else [place]
        for path in paths:
            if path.is_file() and "__pycache__" not in path.parts:
                files[str(path.relative_to(place.parent.parent if place.name == "__init__.py" else place.parent))] = (
                    path.read_bytes()
                )
    return files


CLIENTS = {
    "go": (go, "main"),
    "rust": (rust, "main"),
    "java": (java, "example.Handler::handleRequest"),
    "python": (python, "app.handler"),
}


@pytest.fixture(params=CLIENTS)
def function(request, deploy_archive):
    make, handler = CLIENTS[request.param]
    return deploy_archive(archive(make()), runtime="provided.al2023", handler=handler, MemorySize=512, Timeout=5)


def test_a_function_over_awss_client(function, aws):
    def call(event):
        return Called(aws.invoke(FunctionName=function, Payload=json.dumps(event), LogType="Tail"))

    for event in (1, {"a": "✓"}, "x" * 1_000_000):
        called = call(event)
        assert (called.error, called.answer["event"]) == (None, event)
        assert called.answer["id"] == called.id
        assert called.answer["arn"].endswith(f":function:{function}")
        assert called.lines == ["called"]
    raised = call("raise")
    assert (raised.error, raised.answer["errorMessage"]) == ("Unhandled", "no")
    assert raised.answer["errorType"]
    ended = call("exit")
    assert ended.answer == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {ended.id} Error: Runtime exited with error: exit status 3",
    }
    slept = call("sleep")
    assert slept.answer["errorType"] == "Sandbox.Timedout"
    again = call(2)
    assert (again.error, again.answer["event"]) == (None, 2)
    assert re.search(r"^REPORT RequestId: ID\tDuration: ", again.tail, re.M)


def test_an_answer_of_awss_go_client_streams(deploy_archive, aws):
    made = deploy_archive(archive(go()), runtime="provided.al2023", handler="main")
    events = list(aws.invoke_with_response_stream(FunctionName=made, Payload=b'"stream"')["EventStream"])
    body = b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)
    assert body == b'{"statusCode":200}' + bytes(8) + b"streamed"
    assert events[-1] == {"InvokeComplete": {}}
