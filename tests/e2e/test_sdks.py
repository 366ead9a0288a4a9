"""AWS's SDKs for other languages, unmodified: each makes, waits, calls, streams, lists in pages, deletes, and knows the error."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ondol.testing import clients
from ondol.testing.node import zipped

# The first run builds; the cache keeps what was built.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

PROGRAMS = Path(__file__).with_name("programs")
HELLO = "def handler(event, context):\n    print('here', event)\n    return {'got': event}\n"
GO = ("github.com/aws/aws-sdk-go-v2/config@v1.33.18", "github.com/aws/aws-sdk-go-v2/service/lambda@v1.114.4")


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "code.zip"
    path.write_bytes(zipped({"app.py": HELLO}))
    return path


@pytest.fixture
def seen(node, name, archive):
    """What a program saw, called with a function's name and its code; without whatever configuration the machine has."""

    def run(*command, cwd):
        env = {**node.environment(), "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        done = subprocess.run(
            [*command, name, str(archive)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_the_sdk_for_javascript(seen, name):
    program = clients.program("node")
    folder = clients.node_modules("@aws-sdk/client-lambda")
    # Modules are looked for beside the program.
    (folder / "client.mjs").write_text((PROGRAMS / "client.mjs").read_text())
    saw = seen(program, "client.mjs", cwd=folder)
    assert saw["answer"] == {"got": {"n": 1}}
    assert "here {'n': 1}" in saw["log"]
    assert json.loads(saw["stream"]) == {"got": {"n": 2}}
    assert saw["complete"]
    assert saw["missing"]
    assert name in saw["listed"]


def test_the_sdk_for_go(seen, name):
    go = clients.program("go")
    folder = clients.built(
        "go",
        {"main.go": (PROGRAMS / "client.go").read_text()},
        [go, "mod", "init", "example.test/client"],
        [go, "get", *GO],
        [go, "build", "-o", "client", "."],
    )
    saw = seen("./client", cwd=folder)
    assert saw["answer"] == {"got": {"n": 1}}
    assert json.loads(saw["stream"]) == {"got": {"n": 2}}
    assert saw["complete"]
    assert saw["missing"]
    assert name in saw["listed"]


def test_the_sdk_for_java(seen, name):
    maven, java = clients.program("mvn"), clients.program("java")
    files = {"pom.xml": (PROGRAMS / "pom.xml").read_text(), "src/main/java/Client.java": (PROGRAMS / "Client.java").read_text()}
    folder = clients.built("java", files, [maven, "--batch-mode", "--quiet", "package"])
    saw = seen(java, "-cp", "target/classes:target/dependency/*", "Client", cwd=folder)
    assert saw["answer"] == {"got": {"n": 1}}
    assert saw["missing"]
    assert name in saw["listed"]
