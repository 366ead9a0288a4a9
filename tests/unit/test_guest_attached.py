"""A guest that waits for its code: the mount itself tells it, or else the node does."""

import os
import socket
import sys
import threading

import pytest

from ondol_guest import frames, guest

#: A mount on every Linux, and a directory that is none.
MOUNT, NONE = "/proc", os.path.dirname(os.__file__)

pytestmark = pytest.mark.skipif(not os.path.ismount(MOUNT), reason="/proc is no mount here")


@pytest.fixture
def line():
    node, inside = socket.socketpair()
    null = os.open(os.devnull, os.O_WRONLY)
    wire = guest.Wire(inside.fileno(), guest.Log(null))
    node.settimeout(10)
    yield node, wire
    wire.fd = -1
    os.close(wire.log.fd)
    os.close(null)
    node.close()
    inside.close()


def kinds(node):
    return [kind for kind, *_ in frames.FrameReader().feed(node.recv(4096))]


def test_code_that_is_mounted_is_there_without_a_word_of_the_nodes(line):
    _, wire = line
    guest.await_attached(wire, MOUNT)
    assert wire.attached_due


def test_the_nodes_word_is_still_taken_before_the_first_call_and_after_ready_was_said(line):
    node, wire = line
    guest.await_attached(wire, MOUNT)
    said = threading.Timer(0.1, node.sendall, [frames.pack(frames.ATTACHED) + frames.pack(frames.CALL, 1, b"x")])
    said.start()
    wire.ready()
    said.join()
    assert kinds(node) == [frames.READY]
    assert wire.recv() == (frames.CALL, 0, 1, b"x")


def test_code_whose_mount_cannot_be_told_from_what_was_there_comes_with_the_nodes_word(line):
    node, wire = line
    node.sendall(frames.pack(frames.ATTACHED) + frames.pack(frames.CALL, 1, b"x"))
    guest.await_attached(wire, NONE)
    wire.ready()
    assert wire.recv() == (frames.CALL, 0, 1, b"x")


def test_where_the_list_of_mounts_cannot_be_opened_the_nodes_word_counts(line, monkeypatch):
    node, wire = line

    def refused(*_):
        raise PermissionError

    node.sendall(frames.pack(frames.ATTACHED))
    monkeypatch.setattr(guest.os, "open", refused)
    guest.await_attached(wire, MOUNT)
    assert not wire.attached_due


def test_nothing_stays_open_for_the_function(line):
    _, wire = line
    before = os.listdir("/proc/self/fd")
    guest.await_attached(wire, MOUNT)
    assert os.listdir("/proc/self/fd") == before


def test_a_node_that_leaves_is_noticed_while_the_guest_waits(line):
    node, wire = line
    node.close()
    with pytest.raises(guest.Gone):
        guest.await_attached(wire, NONE)


def test_what_comes_in_the_place_of_the_nodes_word_breaks_the_protocol(line):
    node, wire = line
    node.sendall(frames.pack(frames.CALL, 1, b"x"))
    with pytest.raises(frames.BrokenFrame, match="expected ATTACHED"):
        guest.await_attached(wire, NONE)


def test_the_guests_half_is_begun_only_where_it_was_imported_ahead(line, monkeypatch):
    _, wire = line
    monkeypatch.delitem(sys.modules, "ondol_guest.aws", raising=False)
    guest.begin({"guest": "aws"}, wire)
    assert wire.begun is None
    assert "ondol_guest.aws" not in sys.modules
