"""`ondol pin`, against a node that is played by this test."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ondol.cli import client
from ondol.cli.main import ondol

PIN = {"qualifier": "live", "environments": 5, "up": 2, "why": "no room", "updated_s": 1_700_000_000.0}


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the native API."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    seen = []

    def answer(_self, method, path, body=b""):
        seen.append((method, path, json.loads(body) if body else None))
        return {"pins": [PIN]} if method == "GET" else PIN

    monkeypatch.setattr(client.Native, "_json", answer)
    return seen


def run(*arguments):
    done = CliRunner().invoke(ondol, arguments)
    assert done.exit_code == 0, done.output
    return done


def test_environments_are_pinned_for_the_latest_code_or_for_a_qualifier(asked):
    run("pin", "hello", "2")
    run("pin", "hello:live", "5")
    assert asked == [
        ("PUT", "/ondol/v1/functions/hello/pins/%24latest", {"environments": 2}),
        ("PUT", "/ondol/v1/functions/hello/pins/live", {"environments": 5}),
    ]


def test_none_takes_the_pin_back(asked):
    assert "as many as calls need" in run("pin", "hello:live", "0").stderr
    assert asked == [("DELETE", "/ondol/v1/functions/hello/pins/live", None)]


def test_without_a_count_pins_are_shown_with_why_there_are_not_more(asked):
    lines = run("pin", "hello").stdout.splitlines()
    assert lines[1].split(None, 3) == ["live", "5", "2", "no room"]
    assert json.loads(run("pin", "hello", "--json").stdout) == [PIN]
    assert "nothing of hello:other is pinned" in run("pin", "hello:other").stderr
