"""The nursery forks children that are the supervisor's: they outlive it, and it is made anew when one is wanted."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from ondol.node.nursery import Nursery

#: A nursery whose children say who they are over the line they were given, and do what they are told there.
SOURCE = """
import json, os, sys
from ondol.node.nursery import nurse
if {refuses}:
    sys.exit(3)
born = nurse(int(sys.argv[2]), lambda: None)
if born is not None:
    inherited = {{number: os.readlink(f"/proc/self/fd/{{fd}}") for number, fd in born.descriptors.items()}}
    born.line.send(json.dumps([born.role, os.getppid(), os.getsid(0) == os.getpid(), inherited]).encode())
    word = born.line.recv(100)
    if word == b"stumble":
        os.abort()
    if word == b"leave":
        sys.exit(7)
    born.line.recv(100)
"""


@pytest.fixture
def nursery():
    made = nursery_that()
    yield made
    made.close()


def nursery_that(*, refuses: bool = False):
    # The role is a word of the command line, as in the node's.
    source = SOURCE.format(refuses=refuses)
    return Nursery(lambda fd: [sys.executable, "-c", source, "nursery", str(fd)], {**os.environ})


def child_of(nursery, role="desk", descriptors=()):
    """A forked child, this side of its line, and what it says of itself."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(30)
    with theirs:
        child = nursery.fork(role, theirs.fileno(), descriptors)
    return child, ours, json.loads(ours.recv(4096))


def nurseries():
    """Living children of this process that are nurseries."""
    pids = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids if b"\0nursery\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_who_is_forked_is_the_supervisors_child_in_a_session_of_its_own(nursery):
    child, line, (role, parent, leads, _) = child_of(nursery)
    with line:
        assert (role, parent, leads) == ("desk", os.getpid(), True)
        line.send(b"leave")
        assert child.wait(30) == 7
        assert child.poll() == 7


def test_descriptors_come_along_and_the_child_knows_which_is_which(nursery, tmp_path):
    with open(tmp_path / "one", "w") as one, open(tmp_path / "two", "w") as two:
        child, line, (*_, inherited) = child_of(nursery, descriptors=(one.fileno(), two.fileno()))
        assert inherited == {str(one.fileno()): str(tmp_path / "one"), str(two.fileno()): str(tmp_path / "two")}
    with line:
        child.kill()
        assert child.wait(30) == -signal.SIGKILL


def test_ps_shows_the_role_of_who_was_forked(nursery):
    child, line, _ = child_of(nursery, "front")
    with line:
        assert b"\0front\0" in Path(f"/proc/{child.pid}/cmdline").read_bytes()
        child.terminate()
        assert child.wait(30) == -signal.SIGTERM


def test_children_outlive_their_nursery_and_the_next_one_is_made_when_it_is_wanted(nursery):
    first, line, _ = child_of(nursery)
    (pid,) = nurseries()
    os.kill(pid, signal.SIGKILL)
    second, other, _ = child_of(nursery)
    with line, other:
        assert first.poll() is None
        assert second.poll() is None
        assert nurseries() != [pid]
        for child in (first, second):
            child.kill()
            child.wait(30)


def test_a_nursery_that_ends_before_it_forks_is_an_error_and_not_a_wait():
    broken = nursery_that(refuses=True)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, pytest.raises(OSError):
        broken.fork("desk", theirs.fileno(), [])
    broken.close()
    assert nurseries() == []


def test_who_stumbled_over_its_memory_leaves_no_nursery_with_the_same_addresses(nursery):
    child, line, _ = child_of(nursery)
    (pid,) = nurseries()
    with line:
        line.send(b"stumble")
        assert child.wait(30) == -signal.SIGABRT
    assert pid not in nurseries()
    again, line, _ = child_of(nursery)
    with line:
        again.kill()
        again.wait(30)


def test_a_nursery_that_is_closed_is_gone_and_its_children_are_not(nursery):
    child, line, _ = child_of(nursery)
    nursery.close()
    assert nurseries() == []
    time.sleep(0.05)
    with line:
        assert child.poll() is None
        child.kill()
        child.wait(30)
