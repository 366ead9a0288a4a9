"""Who may talk to us from a browser."""

from __future__ import annotations

import json

import pytest

from ondol.http.bodies import EMPTY
from ondol.http.guard import allowed, hostname, refusal
from ondol.http.messages import Request

LOOPBACK = allowed("127.0.0.1")
EVERYWHERE = allowed("0.0.0.0")
NAMED = allowed("10.0.0.5", ("Ondol.Example.com",))


def asking(host="localhost:7979", **headers):
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request("POST", "/fn/hello", [("host", host), *fields] if host is not None else fields, EMPTY)


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (asking(), LOOPBACK),
        (asking("LOCALHOST"), LOOPBACK),
        (asking("localhost."), LOOPBACK),
        (asking("aws.localhost:7979"), LOOPBACK),
        (asking("127.0.0.1:7979"), LOOPBACK),
        (asking("[::1]:7979"), LOOPBACK),
        (asking(None), LOOPBACK),
        (asking("10.0.0.5:7979"), NAMED),
        (asking("ondol.example.com"), NAMED),
        (asking("192.168.7.7:7979"), EVERYWHERE),
        (asking("[fe80::7]:7979"), EVERYWHERE),
        (asking(origin="http://localhost:3000"), LOOPBACK),
        (asking(origin="http://console.localhost:7979"), LOOPBACK),
        (asking(origin="https://ondol.example.com"), NAMED),
        (asking("192.168.7.7", origin="http://192.168.7.7"), EVERYWHERE),
        (asking(origin="http://localhost", sec_fetch_site="cross-site"), LOOPBACK),
        (asking(sec_fetch_site="same-origin"), LOOPBACK),
        (asking(sec_fetch_site="none"), LOOPBACK),
    ],
)
def test_our_own_names_and_pages_go_on(request_, names):
    assert refusal(request_, names) is None


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (asking("evil.example"), LOOPBACK),
        (asking("localhost:80@evil.example"), LOOPBACK),
        (asking("localhost:evil.example"), LOOPBACK),
        (asking("[::1].evil.example"), LOOPBACK),
        (asking("[::1]:80@evil.example"), LOOPBACK),
        (asking(origin="http://localhost:80@evil.example"), LOOPBACK),
        (asking(origin="http://[::1].evil.example"), LOOPBACK),
        (asking("localhost.evil.example"), LOOPBACK),
        (asking("notlocalhost"), LOOPBACK),
        (asking("192.168.7.7"), LOOPBACK),
        (asking("evil.example:7979"), EVERYWHERE),
        (asking("127.0.0.1.evil.example"), EVERYWHERE),
        (asking(origin="https://evil.example"), LOOPBACK),
        (asking(origin="https://localhost.evil.example"), LOOPBACK),
        (asking(origin="null"), LOOPBACK),
        (asking(origin="file://localhost"), LOOPBACK),
        (asking("192.168.7.7", origin="http://192.168.7.8"), EVERYWHERE),
        (asking(origin="http://me@evil.example"), LOOPBACK),
        (asking(sec_fetch_site="cross-site"), LOOPBACK),
    ],
)
def test_foreign_names_and_pages_are_refused_in_words(request_, names):
    answer = refusal(request_, names)
    assert answer.status == 403
    assert len(json.loads(answer.body)["message"]) > 40


def test_a_refusal_shows_no_more_of_a_host_than_a_host_can_have():
    assert len(refusal(asking("e" * 60_000), LOOPBACK).body) < 500


@pytest.mark.parametrize(
    ("text", "name"),
    [("A.b:1", "a.b"), ("[::1]:2", "::1"), ("::1", "::1"), ("a.", "a"), (" a ", "a"), ("", "")],
)
def test_a_host_is_read_from_an_authority(text, name):
    assert hostname(text) == name
