"""Python functions whose variables only an exec can follow, wrappers, and layers with shared libraries."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ondol.testing.node import executable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


SHOWING = """
import logging, os, sys, random
print("loading")
def handler(event, context):
    print("called")
    logging.warning("warned")
    if event == "raise":
        raise ValueError("no")
    return {"path": sys.path, "environ": dict(os.environ), "hash": hash("a"), "flags": sys.flags.optimize, "id": context.aws_request_id,
        "left": context.get_remaining_time_in_millis(), "argv": sys.argv, "main": sorted(vars(sys.modules["__main__"]))[:3]}
"""


def test_an_interpreters_variables_take_effect(deploy, call, node):
    variables = {"PYTHONPATH": "/var/task/vendored", "PYTHONHASHSEED": "7", "PYTHONOPTIMIZE": "1", "MINE": "1"}
    function = deploy(SHOWING, Environment={"Variables": variables})
    first, second = call(function), call(function)
    answer = first.answer
    assert (first.error, answer["flags"], answer["environ"]["MINE"]) == (None, 1, "1")
    assert answer["path"][:4] == [
        "/var/task",
        "/opt/python/lib/python3.11/site-packages",
        "/opt/python",
        "/var/task/vendored",
    ]
    assert "/var/runtime" in answer["path"]
    assert not [name for name in answer["environ"] if name.startswith("_ONDOL")]
    assert answer["id"] == first.id
    assert answer["left"] > 0
    assert "Init Duration" in first.tail
    assert "Init Duration" not in second.tail
    assert first.lines[0] == "called"
    assert "warned" in first.lines[1]
    others = deploy(SHOWING, Environment={"Variables": variables})
    assert call(others).answer["hash"] == answer["hash"]
    shown = node.ondol("show", function).stdout
    assert "executed for PYTHONHASHSEED, PYTHONOPTIMIZE, PYTHONPATH" in shown
    failed = call(function, "raise")
    assert (failed.error, failed.answer["errorType"]) == ("Unhandled", "ValueError")


def test_a_function_without_such_variables_is_forked(deploy, call, node):
    function = deploy(SHOWING, Environment={"Variables": {"MINE": "1"}})
    assert call(function).error is None
    assert "executed" not in node.ondol("show", function).stdout


WRAPPER = """#!/bin/sh
export WRAPPED="$*"
export _HANDLER=other.handler
exec "$@"
"""


def test_a_wrapper_starts_the_interpreter_and_may_change_variables_and_handler(aws, deploy, call, name):
    layer = aws.publish_layer_version(LayerName=name, Content={"ZipFile": executable({"wrapper": WRAPPER})})
    other = "import os\ndef handler(event, context):\n    return [os.environ['WRAPPED'], os.environ['_HANDLER']]\n"
    function = deploy(
        {"app.py": SHOWING, "other.py": other},
        Layers=[layer["LayerVersionArn"]],
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}},
    )
    called = call(function)
    assert called.error is None, called.answer
    wrapped, handler = called.answer
    assert handler == "other.handler"
    assert "python" in wrapped


def test_a_wrapper_that_is_not_there_ends_the_runtime(deploy, call):
    function = deploy(SHOWING, Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/nothing"}})
    called = call(function)
    assert called.answer == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {called.id} Error: Runtime exited with error: exit status 127",
    }


def library(tmp_path, value):
    """A shared library with one function, as bytes."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler on this machine: gcc")
    (tmp_path / "lib.c").write_text(f"int value(void) {{ return {value}; }}\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "lib.so", "lib.c"], cwd=tmp_path, check=True)
    return (tmp_path / "lib.so").read_bytes()


LOADING = "import ctypes\ndef handler(event, context):\n    return ctypes.CDLL('libvalue.so').value()\n"


@pytest.mark.parametrize("variables", [{}, {"LD_LIBRARY_PATH": "/var/task/own"}], ids=["layer", "LD_LIBRARY_PATH"])
def test_shared_libraries_are_found_where_they_should_be(aws, deploy, call, name, tmp_path, variables):
    content = executable({"lib/libvalue.so": library(tmp_path, 1)})
    layer = aws.publish_layer_version(LayerName=name, Content={"ZipFile": content})
    files = {"app.py": LOADING, "own/libvalue.so": library(tmp_path, 2)}
    function = deploy(files, Layers=[layer["LayerVersionArn"]], Environment={"Variables": variables})
    called = call(function)
    assert (called.error, called.answer) == (None, 2 if variables else 1)


def test_a_preloaded_library_is(deploy, call, tmp_path):
    code = "import ctypes\ndef handler(event, context):\n    return ctypes.CDLL(None).value()\n"
    files = {"app.py": code, "libvalue.so": library(tmp_path, 3)}
    called = call(deploy(files, Environment={"Variables": {"LD_PRELOAD": "/var/task/libvalue.so"}}))
    assert (called.error, called.answer) == (None, 3)
