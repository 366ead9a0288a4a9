"""What a function that imports boto3 sees is the same whether it was imported before it or not."""

from __future__ import annotations

import json

import pytest

from ondol.testing.node import zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

#: Asks the interpreter's own list of modules, in words that do not count as bending it.
SOURCE = """
import sys as system
before = sorted(name for name in system.modules if name.split(".")[0] in ("boto3", "botocore", "urllib3"))
import boto3, botocore, os
def handler(event, context):
    client = boto3.client("lambda")
    return {
        "before": bool(before), "file": boto3.__file__, "version": boto3.__version__, "region": client.meta.region_name,
        "endpoint": client.meta.endpoint_url, "agent": client.meta.config.user_agent.split(" ")[0],
    }
"""
MINDS = "import sys\nsys.path\n"


def deployed(node, name, files, **more):
    aws = node.client("lambda")
    aws.create_function(
        FunctionName=name, Runtime="python3.11", Role="arn:aws:iam::000000000000:role/r", Handler="app.handler", Timeout=30,
        Code={"ZipFile": zipped(files)}, **more,
    )  # fmt: skip
    aws.get_waiter("function_active_v2").wait(FunctionName=name)
    answer = json.loads(aws.invoke(FunctionName=name)["Payload"].read())
    return answer, node.ondol("show", name, check=True).stdout


def test_it_is_imported_ahead_where_that_changes_nothing_and_show_says_so(node):
    ahead, shown = deployed(node, "ahead-asks", {"app.py": SOURCE})
    bare, shown_bare = deployed(node, "ahead-minds", {"app.py": MINDS + SOURCE})
    assert (ahead.pop("before"), bare.pop("before")) == (True, False)
    assert ahead == bare
    assert "boto3 imported ahead" in shown
    assert "ahead" not in shown_bare.partition("interpreter")[2].partition("\n")[0]


def test_who_brings_a_copy_gets_that_and_nothing_imported_before_it(node):
    own = "import sys as system\nbefore = 'botocore' in system.modules\nimport boto3\ndef handler(e, c):\n    return [boto3.MINE, before]\n"
    answer, _ = deployed(node, "ahead-brings", {"app.py": own, "boto3/__init__.py": "MINE = True\n"})
    assert answer == [True, False]


def test_variables_that_change_imports_mean_an_interpreter_with_none(node):
    answer, _ = deployed(node, "ahead-path", {"app.py": SOURCE}, Environment={"Variables": {"PYTHONPATH": "/var/task/lib"}})
    assert answer["before"] is False
