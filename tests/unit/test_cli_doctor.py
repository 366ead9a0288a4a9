from __future__ import annotations

import json
import re
import socket
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ondol.cli import client
from ondol.cli.doctor import Interpreter
from ondol.cli.main import ondol


def tried(what, ok, needed, detail="", mend="", means=""):
    return SimpleNamespace(what=what, ok=ok, needed=needed, detail=detail, mend=mend, means=means)


NAMESPACES = tried("namespaces", True, True, "can be made")
CGROUPS = tried("control groups", True, False, "version 2")
GOOD = [NAMESPACES, CGROUPS]
WITHOUT_CGROUPS = [
    NAMESPACES,
    tried("control groups", False, False, "none can be written", "run as root", "memory is not limited"),
]
WITHOUT_NAMESPACES = [tried("namespaces", False, True, "forbidden", "sysctl -w kernel.unprivileged_userns_clone=1"), CGROUPS]


def pythons(*paths):
    return {f"python3.{9 + n}": Interpreter(path=path, version=f"3.{9 + n}.1") for n, path in enumerate(paths)}


PYTHONS = pythons("/bin/sh", "/bin/sh", "/bin/sh")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def doctor(*arguments, probe=GOOD, interpreters=PYTHONS):
    tools = (lambda: probe, lambda: interpreters)
    return CliRunner().invoke(ondol, ["doctor", "--listen", "127.0.0.1:0", *arguments], obj=tools)


def test_a_machine_with_everything_can_run_a_node():
    result = doctor()
    assert result.exit_code == 0, result.output
    assert "a node can run here: ondol up" in result.stdout
    assert result.stdout.index("python3.9") < result.stdout.index("python3.11"), "by version, not by letter"


def test_what_only_makes_it_better_may_be_absent_and_is_told_with_how_to_get_it():
    result = doctor(probe=WITHOUT_CGROUPS)
    assert result.exit_code == 0
    assert "absent  control groups" in result.stdout
    assert "so: memory is not limited" in result.stdout
    assert "to mend: run as root" in result.stdout


def test_without_namespaces_no_node_can_run():
    result = doctor(probe=WITHOUT_NAMESPACES)
    assert result.exit_code == 4
    assert "MISSING namespaces" in result.stdout
    assert "to mend: sysctl -w kernel.unprivileged_userns_clone=1" in result.stdout


def test_without_interpreters_no_node_can_run():
    result = doctor(interpreters={})
    assert result.exit_code == 4
    assert "apt install python3" in result.stdout


def test_runtimes_that_are_missing_are_named_with_how_to_get_one():
    result = doctor()
    assert result.exit_code == 0
    assert re.search(r"absent +missing +python3\.8, python3\.12, python3\.13, python3\.14\n", result.stdout)
    assert "uv python install 3.14" in result.stdout


def test_scripts_get_the_findings_as_json():
    told = json.loads(doctor("--json", probe=WITHOUT_NAMESPACES).stdout)
    assert told["able"] is False
    missing = [finding for finding in told["findings"] if finding["needed"] and not finding["ok"]]
    assert [finding["what"] for finding in missing] == ["namespaces"]


def test_a_taken_port_is_found_before_the_node_is():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = doctor("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert result.exit_code == 4
    assert "taken by another program" in result.stdout


def test_a_data_directory_that_cannot_be_made_is_found(tmp_path):
    (tmp_path / "file").write_text("")
    result = doctor("--data", str(tmp_path / "file" / "data"))
    assert result.exit_code == 4
    assert "cannot be written" in result.stdout


def test_a_running_node_is_not_told_that_one_can_run(monkeypatch):
    finding = {"part": "disk", "what": "free space", "ok": True, "needed": True, "detail": "much", "mend": ""}
    monkeypatch.setattr(client.Native, "__init__", lambda self, _node: None)
    monkeypatch.setattr(client.Native, "doctor", lambda self: {"able": True, "findings": [finding]})
    monkeypatch.setattr("ondol.cli.node.find", lambda _node: None)
    result = doctor("--node", "somewhere")
    assert result.exit_code == 0
    assert result.stdout.endswith("\n\nthe node has what it needs\n")


def test_looking_changes_nothing(tmp_path):
    doctor("--data", str(tmp_path / "data"))
    assert not list(tmp_path.iterdir())
