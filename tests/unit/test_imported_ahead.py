"""Which functions find modules imported before them: those that ask for just these, and would not notice otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ondol.blobstores.archive import survey
from ondol.blobstores.sources import SOURCES_MAX, looked_at
from ondol.model.functions import Code
from ondol.runtimes.ahead import imported_ahead
from ondol.sandbox import with_modules, without_modules
from ondol.testing.node import zipped
from ondol.testing.pool import a_target

ASKS = "import json\nimport boto3\n\ndef handler(event, context):\n    return boto3.__version__\n"


def found(files):
    data = zipped(files)
    return looked_at(data, survey(data).entries)


@pytest.mark.parametrize(
    "source",
    [ASKS, "from boto3.session import Session\n", "def handler(e, c):\n    import boto3\n"],
    ids=["top", "from", "inside"],
)
def test_a_source_that_imports_it_asks_for_it(source):
    assert found({"app.py": source}) == {"asks": ["sdk"], "minds": False, "extensions": []}


@pytest.mark.parametrize(
    "source", ["import json\n", "# import boto3\n", "import boto3000\n", "import botocore\n", "x = 'import boto3'\n"]
)
def test_other_sources_ask_for_nothing(source):
    assert found({"app.py": source}) == {"asks": [], "minds": False, "extensions": []}


@pytest.mark.parametrize(
    "files",
    [
        {"boto3/__init__.py": ""},
        {"vendor/deep/urllib3/__init__.py": ""},
        {"python/botocore/__init__.py": ""},
        {"six.py": ""},
        {"boto3-1.34.0.dist-info/METADATA": ""},
        {"gevent/__init__.py": ""},
        {"awscrt/__init__.py": ""},
        {"deps.zip": "PK"},
        {"more.pth": "/tmp"},
        {"hidden.pyc": "x"},
        {"app2.py": "import sys\nsys.path.insert(0, '/tmp')\n"},
        {"app2.py": "import sys\nsys . modules.pop('boto3')\n"},
        {"app2.py": "from logging.config import dictConfig\n"},
        {f"m{number}.py": "" for number in range(SOURCES_MAX)},
    ],
    ids=lambda files: next(iter(files)),
)
def test_who_brings_a_copy_or_bends_what_is_imported_minds(files):
    assert found({"app.py": ASKS, **files})["minds"]


def made(*, code, opt=None, variables=None, runtime="python3.11"):
    like = a_target().revision
    configuration = replace(like.configuration, opt=opt, variables=variables or {}, runtime=runtime)
    return replace(like, code=code, configuration=configuration)


def code(*asks, minds=False):
    return Code(sha256="0" * 64, zipped_bytes=1, unpacked_bytes=1, asks=asks, minds=minds)


def test_who_asks_and_does_not_mind_gets_it():
    assert imported_ahead(made(code=code("sdk"))) == "sdk"
    assert imported_ahead(made(code=code(), opt=code("sdk"))) == "sdk"


@pytest.mark.parametrize(
    "given",
    [
        {"code": code()},
        {"code": code("sdk", minds=True)},
        {"code": code("sdk"), "opt": code(minds=True)},
        {"code": code("sdk"), "variables": {"PYTHONPATH": "/opt/lib"}},
        {"code": code("sdk"), "variables": {"BOTO_DISABLE_CRT": "true"}},
        {"code": code("sdk"), "variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}},
        {"code": code("sdk"), "runtime": "nodejs22.x"},
        {"code": code("other")},
    ],
)
def test_everybody_else_gets_an_interpreter_that_has_imported_none_of_it(given):
    assert imported_ahead(made(**given)) == ""


def test_code_that_was_taken_before_anybody_looked_counts_as_minding():
    assert Code(sha256="0" * 64, zipped_bytes=1, unpacked_bytes=1).minds


@pytest.mark.parametrize("path", ["/usr/bin/python3.11", "/odd:/python", "/a:b/c"])
def test_an_interpreter_is_named_with_what_it_has_imported_and_without(path):
    assert without_modules(path) == (path, "")
    assert without_modules(with_modules(path, "sdk")) == (path, "sdk")
