"""`ondol events` against a node that is played by this test."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from ondol.cli import client
from ondol.cli.main import ondol


def dead(number, **more):
    return {
        "id": f"e{number}", "state": "dead", "function": "hello", "qualifier": "live", "accepted_s": 1_700_000_000.0,
        "attempts": 3, "payload_bytes": 2048, "ended_s": 1_700_000_180.0, "reason": "retries exhausted",
        "error": "it\nbroke", **more,
    }  # fmt: skip


class Node:
    """Answers of the node's own API, page by page; and what it was asked."""

    def __init__(self):
        self.events, self.asked, self.page_max = [dead(1), dead(2), dead(3)], [], 2

    def answer(self, method, path, _body=b""):
        self.asked.append((method, path))
        where, _, query = path.partition("?")
        parts = where.split("/")[4:]
        match method, parts:
            case "GET", []:
                begin = int(query.partition("after=")[2].partition("&")[0] or 0)
                page = self.events[begin : begin + self.page_max]
                more = {"next": str(begin + self.page_max)} if begin + self.page_max < len(self.events) else {}
                return {"events": page, **more}
            case "GET", [_]:
                return dead(1, payload={"name": "you"})
            case "DELETE", []:
                return {"removed": 7}
        return {}


@pytest.fixture
def node(monkeypatch):
    made = Node()
    monkeypatch.setattr(client.Native, "__init__", lambda self, _node: None)
    monkeypatch.setattr(client.Native, "_json", lambda _self, *asked: made.answer(*asked))
    monkeypatch.setattr("ondol.cli.node.find", lambda _node: None)
    return made


def run(*arguments):
    return CliRunner().invoke(ondol, ["events", *arguments])


def test_a_listing_is_a_table_of_all_pages(node):
    lines = run("ls").stdout.splitlines()
    assert lines[0].split() == ["ID", "FUNCTION", "STATE", "ACCEPTED", "TRIES", "PAYLOAD", "WHY"]
    accepted = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_700_000_000))
    cells = ["e1", "hello:live", "dead", accepted, "3", "2.0 KiB", "retries exhausted: it broke"]
    assert re.split(r"\s{2,}", lines[1]) == cells
    assert len(lines) == 4


def test_a_reason_that_is_cut_says_so(node):
    node.events = [dead(1, error="x" * 100)]
    assert run("ls").stdout.splitlines()[1].endswith("xxx…")


def test_a_listing_ends_where_it_should(node):
    assert [event["id"] for event in json.loads(run("ls", "--limit", "2", "--json").stdout)] == ["e1", "e2"]
    assert len(node.asked) == 1


def test_a_listing_says_what_is_wanted(node):
    run("ls", "--function", "a b", "--state", "dead")
    assert node.asked[0] == ("GET", "/ondol/v1/events?limit=100&function=a+b&state=dead")


def test_an_empty_listing_says_so_to_people_only(node):
    node.events = []
    assert run("ls").stdout == ""
    assert run("ls").stderr == "no asynchronous calls.\n"
    assert json.loads(run("ls", "--json").stdout) == []


def test_one_is_shown_with_its_payload(node):
    text = run("show", "e/1").stdout
    assert node.asked == [("GET", f"/ondol/v1/events/{quote('e/1', safe='')}")]
    assert "reason     retries exhausted" in text and "payload    2,048 bytes" in text and "error      it broke" in text
    assert text.endswith('{\n  "name": "you"\n}\n')
    assert json.loads(run("show", "e1", "--json").stdout)["payload"] == {"name": "you"}


def test_calls_are_replayed_one_by_one_or_all_of_a_function(node):
    assert run("replay", "a", "b").exit_code == 0
    assert node.asked == [("POST", "/ondol/v1/events/a/replay"), ("POST", "/ondol/v1/events/b/replay")]
    node.asked.clear()
    assert "e3 waits for its turn" in run("replay", "--function", "hello").stderr
    assert [path for method, path in node.asked if method == "POST"] == [f"/ondol/v1/events/e{n}/replay" for n in (1, 2, 3)]


@pytest.mark.parametrize("arguments", [["replay"], ["replay", "a", "--function", "f"]])
def test_what_to_replay_is_said_in_one_way(node, arguments):
    assert run(*arguments).exit_code == 2
    assert node.asked == []


def test_calls_are_purged_by_id_by_function_or_all(node):
    assert run("purge", "a").stderr == "1 removed\n"
    assert run("purge", "--function", "f", "--state", "dead").stderr == "7 removed\n"
    assert run("purge", "--all").exit_code == 0
    assert node.asked == [
        ("DELETE", "/ondol/v1/events/a"),
        ("DELETE", "/ondol/v1/events?function=f&state=dead"),
        ("DELETE", "/ondol/v1/events"),
    ]


@pytest.mark.parametrize("arguments", [[], ["a", "--all"], ["--all", "--function", "f"], ["a", "--state", "dead"]])
def test_nothing_is_purged_by_mistake(node, arguments):
    assert run("purge", *arguments).exit_code == 2
    assert node.asked == []


def test_without_a_command_the_help_is_shown(node):
    done = run()
    assert done.exit_code == 2 and "ondol events replay ID" in done.stdout
