"""`ondol dev` and `ondol deploy --watch`, as somebody at a terminal uses them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading

import pytest

from ondol.testing.node import clean_environment
from ondol.testing.patience import PATIENCE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

GREETS = "def handler(event, context):\n    print('called', event.get('n'))\n    return {!r}\n"


class Terminal:
    """A command that runs on, and what it said so far."""

    def __init__(self, process):
        self.process = process
        self.said = ""
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def expect(self, text):
        """Wait for a line with the text; gives it."""
        while True:
            try:
                line = self._lines.get(timeout=40 * PATIENCE)
            except queue.Empty:
                raise AssertionError(f"it never said {text!r}:\n{self.said}") from None
            self.said += line
            assert line, f"it ended before it said {text!r}:\n{self.said}"
            if text in line:
                return line

    def type(self, line=""):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ctrl_c(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(40 * PATIENCE)


#: A shell lets what it starts in the background ignore SIGINT, these tests too perhaps: at a terminal nobody does.
AT_A_TERMINAL = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("ondol.cli.main", run_name="__main__")
"""


@contextlib.contextmanager
def terminal(*arguments, cwd, env):
    command = [sys.executable, "-c", AT_A_TERMINAL, *arguments]
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield Terminal(process)
    finally:
        process.terminate()
        process.wait(40 * PATIENCE)


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "app.py").write_text(GREETS.format("first"))
    (folder / "event.json").write_text('{"n": 7}')
    return folder


def answered(aws, name):
    return json.loads(aws.invoke(FunctionName=name)["Payload"].read())


def test_a_function_is_kept_as_its_files_are_and_called_on_request(node, aws, app, name):
    with terminal("dev", "app", "--name", name, cwd=app.parent, env=node.environment()) as at:
        at.expect("Enter calls it")
        at.type()
        at.expect('"first"')
        at.expect("| called 7")
        (app / "app.py").write_text(GREETS.format("second"))
        at.expect(f"{name} updated in")
        assert answered(aws, name) == "second"
        (app / "app.py").write_text("def handler(event:\n")
        assert "app.py, line 1" in at.expect("not deployed")
        at.expect("what was deployed before still answers")
        at.type('{"n": 8}')
        at.expect('"second"')
        at.expect("| called 8")
        at.type("no json")
        at.expect("not called: not valid JSON")
        (app / "app.py").write_text(GREETS.format("third"))
        at.expect(f"{name} updated in")
        assert answered(aws, name) == "third"
        assert at.ctrl_c() == 0
    aws.delete_function(FunctionName=name)


def test_what_is_never_deployed_and_what_changes_nothing_deploys_nothing(node, aws, app, name):
    (app / "lib").mkdir()
    with terminal("dev", "app", "--name", name, "--invoke", "{}", cwd=app.parent, env=node.environment()) as at:
        at.expect('"first"')
        before = aws.get_function_configuration(FunctionName=name)["RevisionId"]
        (app / "__pycache__").mkdir()
        (app / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"x")
        (app / ".app.py.swp").write_bytes(b"x")
        (app / ".app.py.swp").unlink()
        (app / "app.py").touch()
        assert aws.get_function_configuration(FunctionName=name)["RevisionId"] == before
        (app / "lib" / "data.txt").write_text("new")
        told = at.expect("updated in")  # what was touched just before may be one batch with it
        assert "lib/data.txt)" in told or "(" not in told  # the look for what changed before the watching began names nothing
        assert "__pycache__" not in told
        assert ".swp" not in told
        at.expect('"first"')  # and was called again
        assert at.said.count("updated in") == 1
        assert at.ctrl_c() == 0
    aws.delete_function(FunctionName=name)


def test_a_single_file_and_a_web_server_are_watched_too(node, app, name):
    site = app.parent / "pages.py"
    page = "def app(environ, start):\n    start('200 OK', [])\n    return [b'{}']\n"
    site.write_text(page.format("one"))
    with terminal("dev", "pages.py", "--name", name, "--contract", "web", cwd=app.parent, env=node.environment()) as at:
        at.expect("Enter calls it")
        replaced = site.with_suffix(".new")  # as editors save
        replaced.write_text(page.format("two"))
        replaced.rename(site)
        at.expect("updated in")
        at.type()
        at.expect("answered 200")
        at.expect("two")
        assert at.ctrl_c() == 0
    node.http("DELETE", f"/ondol/v1/functions/{name}")


def test_deploy_goes_on_when_it_is_told_to_watch(node, aws, app, name):
    with terminal("deploy", "app", "--name", name, "--watch", cwd=app.parent, env=node.environment()) as at:
        at.expect("until Ctrl-C")
        (app / "app.py").write_text(GREETS.format("watched"))
        at.expect("updated in")
        assert answered(aws, name) == "watched"
        assert at.ctrl_c() == 130
    aws.delete_function(FunctionName=name)


def test_where_no_node_runs_there_is_one_for_as_long_as_it_lasts(possible, app):
    env = {**clean_environment(), "ONDOL_LISTEN": "127.0.0.1:0"}
    with terminal("dev", "app", cwd=app.parent, env=env) as at:
        at.expect("while this lasts")
        at.expect("Enter calls it")
        at.type()
        at.expect('"first"')
        facts = json.loads((app.parent / ".ondol" / "run" / "node.json").read_text())
        assert at.ctrl_c() == 0
    if "pid" in facts:
        with pytest.raises(ProcessLookupError):
            os.kill(facts["pid"], 0)


def test_a_node_that_is_named_and_does_not_run_is_said_so(app):
    env = {**clean_environment(), "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with terminal("dev", "app", "--node", "http://127.0.0.1:1", cwd=app.parent, env=env) as at:
        at.expect("no node answers at http://127.0.0.1:1")
