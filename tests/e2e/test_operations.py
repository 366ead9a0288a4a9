"""What an operator meets: clients that hang up, foreign pages, starts that cannot be, restarts, Ctrl-C, and the command line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3

from ondol.testing.node import START_S_MAX, clean_environment, ended, leftovers, ondol, running_node, start, zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ROLE = "arn:aws:iam::000000000000:role/any"
WAIT = {"Delay": 0.05, "MaxAttempts": 400}
EXAMPLES = Path(__file__).parents[2] / "examples"


def until(see, seconds=20):
    deadline = time.monotonic() + seconds
    while not (found := see()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def make(node, name, source, **settings):
    aws = node.client("lambda")
    code = {"ZipFile": zipped({"app.py": source})}
    aws.create_function(FunctionName=name, Runtime="python3.11", Handler="app.handler", Role=ROLE, Code=code, **settings)
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=WAIT)
    return aws


def answer(response):
    return json.loads(response["Payload"].read())


def logged(node, function):
    logs = node.client("logs")
    try:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{function}")
        return [event["message"] for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []


@contextlib.contextmanager
def directory():
    """An empty one, with a place for a node's data in it; outside pytest's own, whose paths are long and kept."""
    top = Path(tempfile.mkdtemp(prefix="ondol-operations-"))
    try:
        yield top
    finally:
        shutil.rmtree(top, ignore_errors=True)


def up(data, *flags, **more):
    """`ondol up` that is expected to refuse: what came of it."""
    return ondol("up", "--data", str(data), *(flags or ("--listen", "127.0.0.1:0")), timeout=START_S_MAX, **more)


def refusal(done, code=4):
    """The one sentence it said."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


# Clients that hang up ---------------------------------------------------------------------------------------------------
def test_a_client_that_hangs_up_cancels_nothing(node, deploy, aws):
    function = deploy(
        "import time\ncalls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n    time.sleep(event)\n    return calls\n"
    )
    assert answer(aws.invoke(FunctionName=function, Payload=b"0")) == 1
    impatient = node.client("lambda", read_timeout=1)
    with pytest.raises(Exception, match="[Tt]imed? ?out"):
        impatient.invoke(FunctionName=function, Payload=b"2")
    impatient.close()
    until(lambda: sum(line.startswith("END") for line in logged(node, function)) == 2)
    assert answer(aws.invoke(FunctionName=function, Payload=b"0")) == 3  # the same environment, in good health


def test_curl_that_gives_up_cancels_nothing(node, name):
    curl = shutil.which("curl")
    if not curl:
        pytest.skip("needs curl")
    code = "import time\ndef app(environ, start_response):\n    print('began'); time.sleep(2); print('ended')\n    start_response('200 OK', [])\n    return [b'x']\n"
    node.put_web(name, {"app.py": code}, "app:app")
    done = subprocess.run([curl, "-s", "-m", "1", "-H", f"X-Ondol-Key: {node.key}", f"{node.endpoint}/fn/{name}/"], check=False)
    assert done.returncode == 28
    until(lambda: "ended" in node.ondol("logs", name).stdout)
    assert node.http("GET", f"/fn/{name}/").data == b"x"
    node.http("DELETE", f"/ondol/v1/functions/{name}")


# Browsers ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/", "/2015-03-31/functions/", "/fn/any/", "/ondol/v1/functions", "/healthz"])
@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
    ids=["host", "origin", "null", "cross-site"],
)
def test_foreign_pages_get_nothing(node, path, headers):
    response = node.http("POST" if path == "/" else "GET", path, headers=headers)
    assert response.status == 403
    assert "access-control-allow-origin" not in response.headers


def test_health_needs_no_key(node):
    for path in ("/healthz", "/readyz"):
        response = node.http("GET", path, headers={"x-ondol-key": ""})
        assert (response.status, response.json()) == (200, {"status": "ok"})


def test_a_path_of_nobody_says_what_there_is(node):
    response = node.http("GET", "/nothing/here")
    assert response.status in (403, 404)


# Starts that cannot be --------------------------------------------------------------------------------------------------
def test_a_port_in_use_is_one_sentence_and_leaves_nothing(possible):
    with directory() as top, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refusal(up(top / "data", "--listen", f"127.0.0.1:{port}"))
        assert str(port) in sentence
        assert "--listen" in sentence
        assert not (top / "data" / "run" / "node.json").exists()
        assert not (top / "data" / "shells").exists() or not list((top / "data" / "shells").iterdir())


def test_data_of_a_newer_release_is_left_alone(possible):
    with directory() as top:
        data = top / "data"
        data.mkdir()
        (data / "format").write_text("999\n")
        (data / "catalog.db").write_bytes(b"not ours")
        sentence = refusal(up(data))
        assert "999" in sentence
        assert "newer release" in sentence
        assert sorted(path.name for path in data.iterdir()) == ["catalog.db", "format"]
        assert (data / "catalog.db").read_bytes() == b"not ours"


def test_data_of_a_running_node_is_refused_and_the_node_goes_on(node):
    before = sorted(str(path) for path in node.data.rglob("*") if "shells" not in path.parts)
    sentence = refusal(up(node.data))
    assert str(node.process.pid) in sentence
    assert node.http("GET", "/healthz").status == 200
    assert set(before) <= {str(path) for path in node.data.rglob("*")}


def test_a_directory_of_somebody_else_is_left_alone(possible):
    with directory() as top:
        (top / "photo.jpg").write_bytes(b"x")
        sentence = refusal(up(top))
        assert "photo.jpg" in sentence
        assert os.listdir(top) == ["photo.jpg"]


def test_a_directory_that_cannot_be_made_is_one_sentence(possible):
    assert "/proc" in refusal(up("/proc/ondol/data"))
    with directory() as top:
        (top / "file").write_text("x")
        assert "file" in refusal(up(top / "file"))
        assert "file" in refusal(up(top / "file" / "data"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a read-only directory")
def test_a_directory_that_may_not_be_written_is_one_sentence(possible):
    with directory() as top:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "ondol-test", str(top)], check=True)
        try:
            sentence = refusal(up(top / "data"))
        finally:
            subprocess.run(["umount", str(top)], check=True)
        assert str(top) in sentence
        assert "may not be written" in sentence


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--open", "--listen", "0.0.0.0:0"), "loopback"),
        (("--listen", "nowhere"), "HOST:PORT"),
        (("--listen", "203.0.113.7:0"), "203.0.113.7"),
        (("--concurrency-max", "0"), "concurrency"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(possible, flags, words):
    with directory() as top:
        done = up(top / "data", *flags)
        assert done.returncode in (2, 4)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not (top / "data" / "run" / "node.json").exists()


def test_an_unknown_setting_is_refused_by_name(possible):
    with directory() as top:
        done = up(top / "data", env={**clean_environment(), "ONDOL_LISTNE": "x"})
        assert done.returncode == 2
        assert "ONDOL_LISTNE" in done.stderr
        assert not (top / "data").exists()


# Lives ------------------------------------------------------------------------------------------------------------------
def test_a_second_start_has_everything_and_begins_clean(possible):
    with directory() as top:
        node = start(top / "data")
        try:
            make(node, "kept", "def handler(event, context):\n    print('said', event)\n    return 'kept'\n", Tags={"a": "b"})
            aws = node.client("lambda")
            aws.publish_version(FunctionName="kept")
            aws.create_alias(FunctionName="kept", Name="live", FunctionVersion="1")
            assert answer(aws.invoke(FunctionName="kept", Payload=b"1")) == "kept"
            key = node.key
        finally:
            ended(node)
        (top / "data" / "tmp" / "spool-of-yesterday").write_bytes(b"x")
        again = node.restart()
        try:
            assert again.key == key
            aws = again.client("lambda")
            assert [found["FunctionName"] for found in aws.list_functions()["Functions"]] == ["kept"]
            assert answer(aws.invoke(FunctionName="kept", Qualifier="live", Payload=b"2")) == "kept"
            assert aws.get_function(FunctionName="kept")["Tags"] == {"a": "b"}
            until(lambda: any("said 2" in line for line in logged(again, "kept")))
            assert any("said 1" in line for line in logged(again, "kept"))
            assert not (top / "data" / "tmp" / "spool-of-yesterday").exists()
        finally:
            ended(again)


def test_stopping_with_many_environments_at_work_leaves_none_of_them_behind(possible):
    with directory() as top:
        node = start(top / "data")
        make(
            node,
            "slow",
            "import time\ndef handler(event, context):\n    print('in', flush=True)\n    time.sleep(600)\n",
            Timeout=900,
        )
        caller = node.client("lambda")
        for _ in range(48):
            caller.invoke(FunctionName="slow", InvocationType="Event")
        until(lambda: sum(line.startswith("in") for line in logged(node, "slow")) >= 40)
        pids = node.processes()
        assert node.stop(signal.SIGTERM) == 0, node.said()
        assert leftovers(node, pids) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_with_calls_under_way(possible, how):
    with directory() as top:
        node = start(top / "data")
        make(
            node,
            "slow",
            "import time, subprocess\ndef handler(event, context):\n    subprocess.Popen(['sleep', '1000'])\n    print('in', flush=True)\n    time.sleep(600)\n",
            Timeout=900,
        )
        caller = node.client("lambda")
        import threading

        def call():
            with contextlib.suppress(Exception):
                caller.invoke(FunctionName="slow")

        calling = threading.Thread(target=call)
        calling.start()
        until(lambda: any(line.startswith("in") for line in logged(node, "slow")))
        pids = node.processes()
        assert len(pids) > 5
        begun = time.monotonic()
        assert node.stop(how) == 0, node.said()
        took_s = time.monotonic() - begun
        calling.join(10)
        assert not calling.is_alive()
        assert leftovers(node, pids) == []
        assert took_s < 10.0  # promised are 5, of which 3 are the calls' own; the rest is for a busy machine
        assert "Traceback" not in node.said()


def test_ctrl_c_twice_still_leaves_nothing(possible):
    with directory() as top:
        node = start(top / "data")
        pids = node.processes()
        os.killpg(node.process.pid, signal.SIGINT)
        time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.process.pid, signal.SIGINT)
        node.process.wait(10)
        assert leftovers(node, pids) == []


def test_a_client_that_finds_no_node_is_told_how_to_start_one(possible):
    with directory() as top:
        done = ondol("ls", cwd=top)
        assert done.returncode == 3
        assert "ondol up" in done.stderr
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        done = ondol(
            "ls",
            env={
                **clean_environment(),
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
            },
        )
        assert done.returncode == 3
        assert str(port) in done.stderr


# Open -------------------------------------------------------------------------------------------------------------------
def test_open_asks_nobody_for_a_key_and_still_refuses_foreign_pages(possible):
    with running_node("--open") as node:
        make(node, "free", "def handler(event, context):\n    return 'free'\n")
        with urllib3.PoolManager() as pool:
            url = f"{node.endpoint}/2015-03-31/functions/free/invocations"
            assert pool.request("POST", url, body=b"{}").json() == "free"
            assert pool.request("POST", url, body=b"{}", headers={"origin": "https://evil.example"}).status == 403
            assert pool.request("POST", url, body=b"{}", headers={"host": "evil.example"}).status == 403
            assert pool.request("GET", f"{node.endpoint}/ondol/v1/functions").json()["functions"][0]["name"] == "free"


# The command line -------------------------------------------------------------------------------------------------------
def test_a_folder_is_deployed_called_shown_and_removed(node, name):
    made = node.ondol("deploy", str(EXAMPLES / "hello"), "--name", name)
    assert made.returncode == 0, made.stderr
    assert "lambda_function.lambda_handler" in made.stdout + made.stderr

    called = node.ondol("invoke", name, "--data", '{"name": "Ada"}', "--tail")
    assert called.returncode == 0, called.stderr
    assert "Ada" in json.loads(called.stdout)["greeting"]
    assert "REPORT RequestId" in called.stderr

    listed = json.loads(node.ondol("ls", "--json").stdout)
    listed = listed["functions"] if isinstance(listed, dict) else listed
    assert name in [function["name"] for function in listed]
    shown = json.loads(node.ondol("show", name, "--json").stdout)
    assert (shown["name"], shown["contract"], shown["memory_mib"]) == (name, "aws", 128)
    assert node.ondol("rm", name).returncode == 0
    gone = node.ondol("show", name)
    assert gone.returncode == 4
    assert name in gone.stderr


def test_a_file_and_an_archive_are_deployed_and_updated(node, name, tmp_path):
    code = tmp_path / "greet.py"
    code.write_text("def handler(event, context):\n    return 'file'\n")
    assert (
        node.ondol("deploy", str(code), "--name", name, "--timeout", "7", "--memory", "256", "--env", "MODE=b").returncode == 0
    )
    assert json.loads(node.ondol("invoke", name).stdout) == "file"
    archive = tmp_path / "greet.zip"
    archive.write_bytes(
        zipped({"greet.py": "import os\ndef handler(event, context):\n    return ['zip', os.environ['MODE']]\n"})
    )
    updated = node.ondol("deploy", str(archive), "--name", name, "--json")
    assert updated.returncode == 0, updated.stderr
    json.loads(updated.stdout)
    assert json.loads(node.ondol("invoke", name).stdout) == ["zip", "b"]
    shown = json.loads(node.ondol("show", name, "--json").stdout)
    assert (shown["timeout_s"], shown["memory_mib"]) == (7, 256)
    node.ondol("rm", name)


@pytest.mark.parametrize(
    ("folder", "options", "words"),
    [
        ("web-wsgi", (), "Hello from WSGI"),
        ("web-asgi", (), "Hello from ASGI"),
        ("web-command", ("--command", "python3 server.py"), "Hello from a program"),
    ],
)
def test_the_web_examples_work_as_their_readmes_say(node, name, folder, options, words):
    done = node.ondol("deploy", str(EXAMPLES / folder), "--contract", "web", "--name", name, *options)
    assert done.returncode == 0, done.stderr
    response = node.http("GET", f"/fn/{name}/any/path")
    assert response.status == 200, response.data
    assert words in response.data.decode()
    invoked = node.ondol("invoke", name)
    assert invoked.returncode == 0, invoked.stderr
    assert words in invoked.stdout
    assert node.ondol("rm", name).returncode == 0


def test_exit_codes_tell_what_happened(node, name, tmp_path):
    code = tmp_path / "app.py"
    code.write_text("def handler(event, context):\n    assert not event, 'on purpose'\n    return 1\n")
    assert node.ondol("deploy", str(code), "--name", name).returncode == 0
    assert node.ondol("invoke", name).returncode == 0
    failed = node.ondol("invoke", name, "--data", '{"a": 1}')
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["errorMessage"] == "on purpose"
    assert node.ondol("invoke", name, "--data", "{not json").returncode == 2
    assert node.ondol("invoke", f"{name}-absent").returncode == 4
    assert node.ondol("invoke", name, "--nonsense").returncode == 2
    assert node.ondol("invoke", name, "--data", "-", input="[]").returncode == 0
    event = tmp_path / "event.json"
    event.write_text("{}")
    assert node.ondol("invoke", name, "--data", f"@{event}").returncode == 0
    assert node.ondol("invoke", name, "--async").returncode == 0
    until(lambda: sum(line.startswith("END") for line in logged(node, name)) == 5)
    assert node.ondol("deploy", str(tmp_path / "absent")).returncode in (2, 4)
    node.ondol("rm", name)


def test_logs_are_followed_while_they_come(node, deploy, aws):
    import sys

    function = deploy("def handler(event, context):\n    print('word', event)\n")
    aws.invoke(FunctionName=function, Payload=b"1")
    # A shell's background jobs ignore SIGINT, and these tests may be one; at a terminal nobody does.
    heeding = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    heeding += "runpy.run_module('ondol.cli.main', run_name='__main__')"
    command = [sys.executable, "-c", heeding, "logs", function, "--follow"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**node.environment(), "PYTHONUNBUFFERED": "1"}
    ) as following:
        seen = []

        def see(words):
            while not any(words in line for line in seen):
                line = following.stdout.readline()
                assert line, following.stderr.read()
                seen.append(line)

        see("word 1")
        aws.invoke(FunctionName=function, Payload=b"2")
        see("word 2")
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=20)
        assert "Traceback" not in said
    assert following.returncode in (0, 130)
    assert sum("word 1" in line for line in seen) == 1


def test_the_doctor_finds_this_machine_fit(possible):
    with directory() as top:
        done = ondol(
            "doctor",
            "--json",
            cwd=top,
            env={**clean_environment(), "ONDOL_LISTEN": "127.0.0.1:0", "ONDOL_DATA": str(top / "data")},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        findings = json.loads(done.stdout)
        assert "python3" in json.dumps(findings)
        assert not (top / "data").exists()


def test_env_is_what_a_shell_can_evaluate(node):
    said = ondol("env", "--data", str(node.data)).stdout
    assert all(re.fullmatch(r"export [A-Z_]+=\S+", line) for line in said.splitlines())
    shell = subprocess.run(
        ["sh", "-c", 'eval "$SAID"; echo "$AWS_ENDPOINT_URL"'],
        env={**clean_environment(), "SAID": said},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.strip() == node.endpoint
    assert urlsplit(node.endpoint).hostname == "127.0.0.1"
