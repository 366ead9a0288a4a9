"""A function that does as it is told, and a neighbour that is called all the while and must never notice."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from ondol.testing.hostile import NEIGHBOUR, SOURCE, Failed, Neighbour
from ondol.testing.leaks import roles
from ondol.testing.node import running_node, zipped
from ondol.testing.patience import PATIENCE

#: The node that is attacked runs as this user, where root runs the tests: `make soak` attacks such a one, too.
USER = os.environ.get("ONDOL_ATTACK_USER", "")
#: A file for one line of JSON per attack, with what the neighbour's calls took: `make soak` names one.
RESULTS = os.environ.get("ONDOL_ATTACK_RESULTS", "")


@pytest.fixture(scope="session")
def node(possible):
    """One for all attacks of a worker."""
    with running_node(user=int(USER) if USER and os.geteuid() == 0 else None) as running:
        yield running


@pytest.fixture(scope="session")
def aws(node):
    """A boto3 client for functions."""
    return node.client("lambda")


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
    yield _deployed(aws, name, SOURCE, Timeout=int(20 * PATIENCE), Environment={"Variables": {"OWN": "value-of-a-variable"}})
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


@pytest.fixture
def counted(node, inside):
    """What control groups count of the attacker: "memory", "pids", …, and "v2" where there is one of version 2."""
    inside("out = 'there'")
    found = set()
    for pid in roles(node)["guest"]:
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):  # of the stock, and let go meanwhile
            continue
        for line in lines:
            _, names, path = line.split(":", 2)
            if f"/ondol-{node.id}/" in path:
                found |= set(names.split(",")) if names else {"v2", *Path(f"/sys/fs/cgroup{path}").glob("memory.max")}
    return {getattr(each, "stem", each) for each in found}


@pytest.fixture
def disks(inside):
    """Whether /tmp is a disk of its own: then it is as large as a function may have it, and not as the machine's."""
    return inside("it = os.statvfs('/tmp'); out = it.f_blocks * it.f_frsize") <= 512 << 20


@pytest.fixture
def memory_counted(counted):
    """Skips where no control group counts memory: then each process has a bound, and what they share has none."""
    if "memory" not in counted:
        pytest.skip("no control group counts memory here: what processes share is bounded by the machine alone")


@pytest.fixture(scope="module")
def neighbouring(node, aws):
    """The neighbour's function."""
    name = f"neighbour-{os.getpid()}"
    yield _deployed(aws, name, NEIGHBOUR, Timeout=int(30 * PATIENCE))
    aws.delete_function(FunctionName=name)


@pytest.fixture(autouse=True)
def neighbour(request, node, neighbouring):
    """Called from before the attack until after it; not one answer may be wrong or missing."""
    calling = Neighbour(node.client("lambda", read_timeout=45 * PATIENCE), neighbouring).start()
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
