"""`ondol key`, `ondol stats` and `ondol doctor --node`, against a node that is played by this test."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ondol.cli import client
from ondol.cli.main import ondol

STATS = {
    "version": "1.2.3", "started_s": 1_700_000_000.0, "uptime_s": 5.0, "functions": 1_234,
    "pool": {
        "starting": 1, "idle": 2, "busy": 3, "stopping": 0, "frozen": 1, "waiting": 4,
        "memory_mib": 640, "memory_mib_max": 1024,
        "cold_starts": 9, "failed_starts": 1,
    },
    "queue": {"waiting": 5, "waiting_bytes": 2048, "dead": 6},
    "processes": [{"role": "desk", "pid": 7, "started_s": 1.0, "cpu_s": 0.5, "rss_bytes": 1 << 20, "threads": 3}],
}  # fmt: skip
KEY = {"id": "AKIANEW", "name": "ci", "read_only": True, "created_s": 1_700_000_000.0, "node": False}
FIRST = {"id": "AKIAFIRST", "name": "", "read_only": False, "created_s": 1_600_000_000.0, "node": True}

FINDING = {
    "part": "disk",
    "what": "free space",
    "ok": False,
    "needed": True,
    "means": "",
    "detail": "none",
    "mend": "free some",
}


@pytest.fixture
def node(monkeypatch):
    """What was asked of the native API; answers by method and path."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    asked = []
    answers = {
        ("GET", "/ondol/v1/stats"): STATS,
        ("GET", "/ondol/v1/doctor"): {"able": False, "findings": [FINDING]},
        ("GET", "/ondol/v1/keys"): {"keys": [FIRST, KEY]},
        ("POST", "/ondol/v1/keys"): {**KEY, "secret": "s3cret"},
        ("DELETE", "/ondol/v1/keys/AKIANEW"): {},
        ("DELETE", "/ondol/v1/keys/a%2Fb"): {},
    }

    def answer(_self, method, path, body=b""):
        asked.append((method, path, json.loads(body) if body else None))
        return answers[method, path]

    monkeypatch.setattr(client.Native, "_json", answer)
    return asked


def run(*arguments):
    return CliRunner().invoke(ondol, arguments)


def test_a_new_key_is_printed_as_variables_and_said_to_be_shown_once(node):
    done = run("key", "create", "--read-only", "--name", "ci")
    assert done.exit_code == 0, done.output
    assert done.stdout == "AWS_ACCESS_KEY_ID=AKIANEW\nAWS_SECRET_ACCESS_KEY=s3cret\n"
    assert "not shown again" in done.stderr
    assert node == [("POST", "/ondol/v1/keys", {"name": "ci", "read_only": True})]


def test_a_new_key_for_a_script_is_json(node):
    assert json.loads(run("key", "create", "--json").stdout)["secret"] == "s3cret"
    assert node == [("POST", "/ondol/v1/keys", {"name": "", "read_only": False})]


def test_keys_are_listed_with_what_they_may(node):
    lines = run("key", "ls").stdout.splitlines()
    assert lines[0].split() == ["ID", "NAME", "MAY", "CREATED"]
    assert lines[1].startswith("AKIAFIRST  the node's own  all")
    assert lines[2].startswith("AKIANEW    ci              look")
    assert json.loads(run("key", "ls", "--json").stdout) == [FIRST, KEY]


def test_keys_are_removed(node):
    done = run("key", "rm", "AKIANEW", "a/b")
    assert (done.exit_code, done.stderr) == (0, "AKIANEW removed\na/b removed\n")
    assert [path for _, path, _ in node] == ["/ondol/v1/keys/AKIANEW", "/ondol/v1/keys/a%2Fb"]


def test_key_alone_says_what_there_is(node):
    done = run("key")
    assert done.exit_code == 2
    assert "create" in done.output
    assert "ondol key create --read-only --name dashboard" in done.output


def test_stats_are_lines_for_a_person(node):
    lines = run("stats").stdout.splitlines()
    text = "\n".join(lines)
    for words in ("Ondol 1.2.3", "1,234", "3 busy, 2 idle, 1 starting, 0 stopping; 1 frozen", "640 of 1,024 MiB", "9 cold, 1 failed",
                  "5 waiting (2.0 KiB), 6 dead", "process 7: 1.0 MiB, 0.5 s of processor time, 3 threads"):  # fmt: skip
        assert words in text
    assert json.loads(run("stats", "--json").stdout) == STATS


def test_stats_without_a_front_say_so(node, monkeypatch):
    monkeypatch.setitem(STATS, "pool", None)
    assert "the front does not answer" in run("stats").stdout


def test_a_long_list_of_functions_is_read_to_its_end(node, monkeypatch):
    pages = {None: {"functions": [{"name": "a"}], "next": "a b"}, "a+b": {"functions": [{"name": "c"}], "next": None}}
    monkeypatch.setattr(client.Native, "_json", lambda _self, _method, path: pages[path.partition("&after=")[2] or None])
    assert [each["name"] for each in json.loads(run("ls", "--json").stdout)] == ["a", "c"]


def test_the_doctor_of_a_node_that_runs_is_asked(node):
    done = run("doctor", "--node", "http://127.0.0.1:1")
    assert done.exit_code == 4
    assert "MISSING free space  none" in done.stdout
    assert "to mend: free some" in done.stdout
    assert json.loads(run("doctor", "--node", "http://127.0.0.1:1", "--json").stdout) == {"able": False, "findings": [FINDING]}
