"""One node for all tests of a worker that do not need their own; functions with names that no other test has.

ONDOL_E2E_FLAGS: more flags for that node, such as `--fronts 2`.
"""

from __future__ import annotations

import functools
import itertools
import os

import pytest

from ondol.testing.calls import Called
from ondol.testing.node import running_node, why_not, zipped

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def possible():
    """Skips where no node can run; fails there in CI, which must be able to."""
    reason = why_not()
    if reason and not os.environ.get("CI"):
        pytest.skip(reason)
    assert not reason


@pytest.fixture(scope="session")
def node(possible):
    with running_node(*os.environ.get("ONDOL_E2E_FLAGS", "").split()) as running:
        yield running


@pytest.fixture(scope="session")
def aws(node):
    """A boto3 client for functions."""
    return node.client("lambda")


@pytest.fixture
def call(aws):
    """Calls a function, with an event or none."""
    return functools.partial(Called, aws)


@pytest.fixture
def name():
    return f"f{os.getpid()}-{next(_NUMBERS)}"


@pytest.fixture
def deploy(deploy_archive):
    """Deploys Python text as app.py, waits until it is active, and removes it after the test."""

    def deploy(source, **settings):
        return deploy_archive(zipped({"app.py": source} if isinstance(source, str) else source), **settings)

    return deploy


@pytest.fixture
def deploy_archive(aws, name):
    """Deploys an archive, as bytes."""
    made = []

    def deploy(archive, *, handler="app.handler", runtime="python3.11", called=None, **settings):
        called = called or (name if not made else f"{name}-{len(made)}")
        aws.create_function(
            FunctionName=called, Runtime=runtime, Handler=handler, Role="arn:aws:iam::000000000000:role/any",
            Code={"ZipFile": archive}, **settings,
        )  # fmt: skip
        made.append(called)
        aws.get_waiter("function_active_v2").wait(FunctionName=called, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        return called

    yield deploy
    for called in made:
        try:
            aws.delete_function(FunctionName=called)
        except aws.exceptions.ResourceNotFoundException:
            continue
