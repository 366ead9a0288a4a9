"""The tour with a small stand-in for the node: what it starts, says, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ondol.cli import tour

STAND_IN = """
import os, signal, sys, time
fd = int(sys.argv[sys.argv.index("--ready-fd") + 1])
{before}
os.write(fd, b"http://127.0.0.1:1\\n")
os.close(fd)
{after}
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Make `python -m ondol.cli.main` in a child be a program of ours."""

    def make(before="", after="signal.pause()"):
        package = tmp_path / "fake" / "ondol" / "cli"
        package.mkdir(parents=True)
        for init in (package / "__init__.py", package.parent / "__init__.py"):
            init.write_text("")
        (package / "main.py").write_text(STAND_IN.format(before=before, after=after))

    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text("def handler(e, c): ...\n")
    return make


def start(tmp_path, *arguments):
    """The real tour, in a process of its own; only its child finds the stand-in on its path."""
    script = textwrap.dedent(f"""
        import os, sys
        sys.path.insert(0, {str(Path(tour.__file__).parents[2])!r})
        os.environ["PYTHONPATH"] = {str(tmp_path / "fake")!r}
        from ondol.cli.main import main
        sys.argv = ["ondol", "tour", "app.py", "--data", {str(tmp_path / "data")!r}, *{list(arguments)!r}]
        main()
    """)
    command = [sys.executable, "-I", "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)


def read_until(stream, text):
    said = ""
    while text not in said:
        line = stream.readline()
        assert line, f"ended after {said!r}"
        said += line
    return said


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_node_in_order_and_leaves_with_0(stand_in, tmp_path, number):
    note = "import pathlib; pathlib.Path('pid').write_text(str(os.getpid()))\nsignal.signal(signal.SIGTERM, lambda *a: (pathlib.Path('ended').write_text('in order'), sys.exit(0)))"
    stand_in(before=note)
    process = start(tmp_path)
    said = read_until(process.stdout, "Serving until Ctrl-C")
    assert "Ondol listens on http://127.0.0.1:1" in said
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert (tmp_path / "ended").read_text() == "in order"
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_node_that_will_not_end_is_killed(stand_in, tmp_path):
    note = "import pathlib; pathlib.Path('pid').write_text(str(os.getpid()))\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"
    stand_in(before=note)
    process = start(tmp_path, "--drain-s", "0")
    read_until(process.stdout, "Serving until Ctrl-C")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert gone(int((tmp_path / "pid").read_text()))


def test_the_node_stops_when_the_tour_is_killed(stand_in, tmp_path):
    note = "signal.signal(signal.SIGTERM, lambda *a: sys.exit(0))"
    stand_in(before=note)
    process = start(tmp_path)
    read_until(process.stdout, "Serving until Ctrl-C")
    process.kill()
    # The node holds the other end of our pipes: they close when it is gone.
    process.communicate(timeout=30)


def test_a_node_that_cannot_start_gives_its_sentence_and_its_status(stand_in, tmp_path):
    stand_in(before="print('ondol: the port is taken', file=sys.stderr)\nsys.exit(4)")
    process = start(tmp_path)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (4, "ondol: the port is taken\n")


def test_a_node_that_ends_by_itself_is_told(stand_in, tmp_path):
    stand_in(after="sys.exit(7)")
    process = start(tmp_path)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "the node ended by itself, with status 7" in errors


def test_the_commands_shown_are_shell_that_names_the_function(tmp_path):
    shown = tour.commands("hello", Path("examples/hello"), tmp_path / "a b")
    assert any("invoke hello" in line for line in shown)
    for line in shown:
        subprocess.run(["sh", "-n", "-c", line], check=True)
    assert str(tmp_path / "a b") in shown[0]


def test_where_aws_is_missing_the_commands_say_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tour.sys, "executable", str(tmp_path / "bin" / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))
    shown = tour.commands("hello", Path("examples/hello"), tmp_path)
    install, call = (line for line in shown if "aws" in line and "boto3" not in line and "ondol env" not in line)
    assert install.startswith(f"{tmp_path}/bin/python3 -m pip install --quiet awscli")
    assert call.startswith(f"{tmp_path}/bin/aws lambda invoke --function-name hello")
