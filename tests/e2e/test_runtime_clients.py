"""AWS's own clients of the Runtime API, unmodified, each with the same function (`bench/programs`), built here where its
toolchain is.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from bench import programs
from ondol.runtimes.interpreters import Interpreters
from ondol.testing.node import executable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

#: The packages of AWS's client for Python, as they are installed beside this test's own interpreter.
RIC = ("awslambdaric", "simplejson", "snapshot_restore_py")


def python():
    interpreter = Interpreters.discover().get(f"python3.{sys.version_info.minor}")
    if interpreter is None or any(importlib.util.find_spec(name) is None for name in RIC):
        pytest.skip("awslambdaric is not installed beside this test's interpreter")
    files = {"bootstrap": f'#!/bin/sh\nexec {interpreter.path} -m awslambdaric "$_HANDLER"\n', "app.py": programs.PYTHON}
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
    "go": (programs.go, "main"),
    "rust": (programs.rust, "main"),
    "java": (programs.java, "example.Handler::handleRequest"),
    "python": (python, "app.handler"),
}


def files_of(make):
    """A program's files; skips where something is not on this machine."""
    try:
        return make()
    except programs.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=CLIENTS)
def function(request, deploy_archive):
    make, handler = CLIENTS[request.param]
    return deploy_archive(executable(files_of(make)), runtime="provided.al2023", handler=handler, MemorySize=512, Timeout=5)


def test_a_function_over_awss_client(function, call):
    for event in (1, {"a": "✓"}, "x" * 1_000_000):
        called = call(function, event)
        assert (called.error, called.answer["event"]) == (None, event)
        assert called.answer["id"] == called.id
        assert called.answer["arn"].endswith(f":function:{function}")
        assert called.lines == ["called"]
    raised = call(function, "raise")
    assert (raised.error, raised.answer["errorMessage"]) == ("Unhandled", "no")
    assert raised.answer["errorType"]
    ended = call(function, "exit")
    assert ended.answer == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {ended.id} Error: Runtime exited with error: exit status 3",
    }
    slept = call(function, "sleep")
    assert slept.answer["errorType"] == "Sandbox.Timedout"
    again = call(function, 2)
    assert (again.error, again.answer["event"]) == (None, 2)
    assert re.search(r"^REPORT RequestId: ID\tDuration: ", again.tail, re.M)


def test_an_answer_of_awss_go_client_streams(deploy_archive, aws):
    made = deploy_archive(executable(files_of(programs.go)), runtime="provided.al2023", handler="main")
    events = list(aws.invoke_with_response_stream(FunctionName=made, Payload=b'"stream"')["EventStream"])
    body = b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)
    assert body == b'{"statusCode":200}' + bytes(8) + b"streamed"
    assert events[-1] == {"InvokeComplete": {}}
