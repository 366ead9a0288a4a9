"""`ondol records` against a node that is played by this test."""

from __future__ import annotations

import json
import re
import time

import pytest
from click.testing import CliRunner

from ondol.cli import client
from ondol.cli.main import ondol
from ondol.cli.records import STATUSES
from ondol.model.invocations import Status

STARTED_MS = 1_700_000_000_042
STARTED = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_700_000_000)) + ".042"


def record(number, **more):
    return {
        "request_id": f"r{number}", "function": "hello", "version": 3, "qualifier": "live", "status": "ok",
        "started_ms": STARTED_MS, "queue_ms": 0.26, "start_ms": 80.5, "handler_ms": 1234.56, "memory_mib": 10_240,
        "memory_peak_mib": 40, "exit_status": None, "trace": None, **more,
    }  # fmt: skip


class Node:
    """Answers of the node's own API, page by page; and what it was asked."""

    def __init__(self):
        self.records, self.asked, self.page_max = [record(3), record(2), record(1)], [], 2

    def answer(self, method, path, _body=b""):
        self.asked.append((method, path))
        if path.startswith("/ondol/v1/records/"):
            return {"records": [record(1, status="crashed", exit_status=-9), record(1, status="failed")], "next": None}
        begin = int(path.partition("after=")[2].partition("&")[0] or 0)
        page = self.records[begin : begin + self.page_max]
        return {"records": page, "next": str(begin + len(page)) if page else None}


@pytest.fixture
def node(monkeypatch):
    made = Node()
    monkeypatch.setattr(client.Native, "__init__", lambda self, _node: None)
    monkeypatch.setattr(client.Native, "_json", lambda _self, *asked: made.answer(*asked))
    monkeypatch.setattr("ondol.cli.node.find", lambda _node: None)
    return made


def run(*arguments):
    return CliRunner().invoke(ondol, ["records", *arguments])


def cells(line):
    return re.split(r"\s{2,}", line)


def test_a_listing_is_a_table_of_all_pages(node):
    lines = run("ls").stdout.splitlines()
    assert cells(lines[0]) == ["STARTED", "FUNCTION", "VERSION", "STATUS", "QUEUE", "START", "HANDLER", "MEMORY", "ID"]
    assert cells(lines[1]) == [
        STARTED, "hello:live", "3", "ok", "0.3 ms", "80.5 ms", "1,234.6 ms", "40 of 10,240 MiB", "r3",
    ]  # fmt: skip
    assert len(lines) == 4


def test_what_a_call_did_not_have_is_said_in_a_word(node):
    node.records = [record(1, version=None, qualifier=None, queue_ms=None, start_ms=None)]
    assert cells(run("ls").stdout.splitlines()[1])[1:6] == ["hello", "latest", "ok", "not measured", "warm"]


def test_a_call_of_the_version_without_a_number_says_so(node):
    node.records = [record(1, version=-1, qualifier=None)]
    assert cells(run("ls").stdout.splitlines()[1])[1:3] == ["hello", "published"]


def test_a_listing_ends_where_it_should(node):
    assert [each["request_id"] for each in json.loads(run("ls", "--limit", "2", "--json").stdout)] == ["r3", "r2"]
    assert node.asked == [("GET", "/ondol/v1/records?limit=2")]


def test_a_listing_that_is_longer_than_a_page_goes_on_to_its_end(node):
    assert len(json.loads(run("ls", "--limit", "5000", "--json").stdout)) == 3
    assert [path.partition("?")[2] for _, path in node.asked] == ["limit=1000", "limit=1000&after=2", "limit=1000&after=3"]


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        (["--function", "a b"], "limit=100&function=a+b"),
        (["--status", "timeout"], "limit=100&status=timeout"),
        (["--failed"], "limit=100&failed=true"),
        (["--since", "1970-01-01T00:01Z"], "limit=100&since_ms=60000"),
    ],
)
def test_a_listing_says_what_is_wanted(node, arguments, query):
    assert run("ls", *arguments).exit_code == 0
    assert node.asked[0] == ("GET", f"/ondol/v1/records?{query}")


def test_an_age_is_a_moment_in_the_past(node, monkeypatch):
    monkeypatch.setattr("ondol.cli.logs.time.time", lambda: 10_000.0)
    run("ls", "--since", "2h")
    assert node.asked[0] == ("GET", f"/ondol/v1/records?limit=100&since_ms={(10_000 - 7_200) * 1000}")


@pytest.mark.parametrize(
    "arguments", [["--since", "soon"], ["--status", "bad"], ["--limit", "0"], ["--status", "ok", "--failed"]]
)
def test_what_cannot_be_asked_is_not_asked(node, arguments):
    assert run("ls", *arguments).exit_code == 2
    assert node.asked == []


def test_an_empty_listing_says_so_to_people_only(node):
    node.records = []
    assert run("ls").stdout == ""
    assert run("ls").stderr == "no invocations are on record.\n"
    assert json.loads(run("ls", "--json").stdout) == []


def test_one_call_is_shown_attempt_by_attempt(node):
    text = run("show", "r/1").stdout
    assert node.asked == [("GET", "/ondol/v1/records/r%2F1")]
    newest, oldest = text.split("\n\n")
    assert "status       crashed" in newest and "exit status  -9" in newest and f"started      {STARTED}" in newest
    assert "handler      1,234.6 ms" in newest and "memory       10,240 MiB" in newest and "memory peak  40 MiB" in newest
    assert "status       failed" in oldest and "trace        none" in oldest
    assert [each["status"] for each in json.loads(run("show", "r1", "--json").stdout)] == ["crashed", "failed"]


def test_without_a_command_the_help_is_shown(node):
    done = run()
    assert done.exit_code == 2 and "ondol records ls --failed --since 1h" in done.stdout


def test_every_way_to_end_can_be_asked_for():
    assert set(STATUSES) == {status.value for status in Status}
