"""The zygote's line to its front: every request is answered, also when its process cannot be handed over."""

from __future__ import annotations

import errno
import json
import os
import socket

import pytest

from ondol_guest import zygote


class Full:
    """A line that carries no descriptors: those under way are as many as this user may have."""

    def __init__(self, sock):
        self._sock = sock

    def sendmsg(self, buffers, ancillary):
        if ancillary:
            raise OSError(errno.ETOOMANYREFS, "Too many references: cannot splice")
        return self._sock.sendmsg(buffers)

    def __getattr__(self, name):
        return getattr(self._sock, name)


@pytest.fixture
def line():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(5)
        yield ours, theirs


def test_a_process_that_cannot_be_handed_over_is_an_error_and_is_left_alone(line, monkeypatch):
    front, sock = line
    reader, writer = os.pipe()
    monkeypatch.setattr(zygote, "fork", lambda *_: (7, [writer]))
    front.send(json.dumps({"n": 3, "op": "fork", "namespaces": []}).encode())
    assert zygote.serve_one(Full(sock), walls=None)
    answer = json.loads(front.recv(4096))
    assert (answer["n"], answer["error"]) == (3, "failed")
    assert "Too many references" in answer["message"]
    with os.fdopen(reader, "rb") as end:
        assert end.read() == b""  # nobody holds the other end any more


def test_an_unknown_request_is_answered(line):
    front, sock = line
    front.send(b'{"n": 4, "op": "dance"}')
    assert zygote.serve_one(sock, walls=None)
    assert json.loads(front.recv(4096)) == {"n": 4, "error": "unknown"}
