"""A function that does as it is told, and a neighbour that is called all the while and must never notice."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from ondol.testing.hostile import NEIGHBOUR, SOURCE, Failed, Neighbour
from ondol.testing.node import zipped

#: A file for one line of JSON per attack, with what the neighbour's calls took: `make soak` names one.
RESULTS = os.environ.get("ONDOL_ATTACK_RESULTS", "")


def _deployed(aws, name, source, **settings):
    aws.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": zipped({"app.py": source})}, MemorySize=128, **settings,
    )  # fmt: skip
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    return name


@pytest.fixture(scope="module")
def function(node, aws):
    """The name of a function that runs what it is told."""
    name = f"attacker-{os.getpid()}"
    yield _deployed(aws, name, SOURCE, Timeout=20, Environment={"Variables": {"OWN": "value-of-a-variable"}})
    aws.delete_function(FunctionName=name)


@pytest.fixture
def inside(aws, function):
    """Run Python text in the function; `out` is what comes back. Raises Failed."""

    def inside(code, **given):
        response = aws.invoke(FunctionName=function, Payload=json.dumps({"code": code, "with": given}))
        answer = json.loads(response["Payload"].read())
        if "FunctionError" in response:
            raise Failed(answer)
        return answer

    yield inside
    assert inside("out = 'serves on'") == "serves on"


@pytest.fixture(scope="module")
def neighbouring(node, aws):
    """The neighbour's function."""
    name = f"neighbour-{os.getpid()}"
    yield _deployed(aws, name, NEIGHBOUR, Timeout=30)
    aws.delete_function(FunctionName=name)


@pytest.fixture(autouse=True)
def neighbour(request, node, neighbouring):
    """Called from before the attack until after it; not one answer may be wrong or missing."""
    calling = Neighbour(node.client("lambda", read_timeout=45), neighbouring).start()
    try:
        yield calling
    finally:
        calling.stop()
    assert calling.took_s, "the neighbour was never called"
    assert not calling.wrong, calling.wrong[:5]
    if RESULTS:
        with Path(RESULTS).open("a") as file:
            file.write(json.dumps({"attack": request.node.nodeid.partition("attacks/")[2], **calling.figures()}) + "\n")


@pytest.fixture
def raw(node):
    """Sends bytes to the node; everything that comes back for them."""

    def raw(data, seconds=5.0):
        host, _, port = node.endpoint.partition("//")[2].partition(":")
        with socket.create_connection((host, int(port)), timeout=seconds) as line:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            came = b""
            while piece := line.recv(65536):
                came += piece
        return came

    return raw
