"""The keeper's parts that need no rights: command line, line protocol, quotas, loop, ways for users."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from ondol import ways
from ondol.keeper import __main__ as keeper
from ondol.keeper import protocol, quota
from ondol.keeper.loop import Loop, Readable, Sleep
from ondol.node import unprivileged


# The command line -------------------------------------------------------------------------------------------------------
def test_the_command_line_is_read():
    options = keeper.parse(
        ["--supervisor-fd", "7", "--data", "/d", "--node-id", "n1", "--interpreters", "/a:/b", "--runtime", "x=/y"]
    )
    assert (options.supervisor_fd, options.data, options.node_id) == (7, "/d", "n1")
    assert options.interpreters == ["/a", "/b"]
    assert options.runtime["x"] == "/y" and options.runtime["ondol_guest"].endswith("/ondol_guest")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--data", "/d"],
        ["--supervisor-fd", "7", "--data", "/d", "--node-id", "../x"],
        ["--supervisor-fd", "7", "--data", "/d", "--node-id", "n1", "--isolation", "vm"],
        ["--supervisor-fd", "7", "--data", "/d", "--node-id", "n1", "--colour", "red"],
        ["--supervisor-fd"],
    ],
)
def test_a_command_line_that_cannot_be_is_refused(argv):
    with pytest.raises(keeper.UsageError):
        keeper.parse(argv)


# Lines ------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def lines():
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends = protocol.Line(one), protocol.Line(two)
    yield ends
    for end in ends:
        end.close()


def test_messages_come_whole_in_order_and_with_their_descriptors(lines):
    here, there = lines
    reader, writer = os.pipe()
    here.send({"a": 1})
    here.send({"b": 2}, [writer])
    os.close(writer)
    assert there.receive() == ({"a": 1}, [])
    message, fds = there.receive()
    os.write(fds[0], b"x")
    assert message == {"b": 2} and os.read(reader, 1) == b"x"
    assert there.receive() is None
    protocol.close_all([reader, *fds])


def test_the_end_of_a_line_is_told(lines):
    here, there = lines
    here.close()
    with pytest.raises(protocol.Closed):
        there.receive()


@pytest.mark.parametrize("data", [b"{", b"[]", b'"x"', b"\xff"])
def test_what_is_no_message_ends_the_line(data):
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line = protocol.Line(two)
    one.send(data)
    with pytest.raises(protocol.Closed):
        line.receive()
    one.close()
    line.close()


def test_a_peer_that_does_not_read_is_given_up_and_one_that_reads_late_gets_all(lines):
    here, there = lines
    sent = 0
    with pytest.raises(protocol.Closed):
        while sent <= 10 * protocol.OUTBOX_MESSAGES_MAX:
            here.send({"n": sent})
            sent += 1
    assert here.backlog == protocol.OUTBOX_MESSAGES_MAX
    received = []
    while len(received) < sent:
        here.flush()
        while (message := there.receive()) is not None:
            received.append(message[0]["n"])
    assert received == list(range(sent))


# Quotas -----------------------------------------------------------------------------------------------------------------
def walked(path, bytes_max):
    return sum(1 for _ in quota.walk(str(path), bytes_max))


def test_a_tree_within_its_bound_passes(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(100_000))
    walked(tmp_path, 1 << 20)


def test_bytes_deep_in_the_tree_count(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(os.urandom(200_000))
    with pytest.raises(quota.Over):
        walked(tmp_path, 100_000)


def test_links_are_not_followed(tmp_path):
    big = tmp_path / "outside"
    big.mkdir()
    (big / "file").write_bytes(os.urandom(200_000))
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(big)
    walked(inside, 100_000)


def test_a_large_tree_is_walked_in_slices(tmp_path):
    for number in range(quota.SLICE_ENTRIES * 2 + 1):
        (tmp_path / str(number)).touch()
    assert walked(tmp_path, 1 << 30) == 2


def test_a_walk_holds_few_descriptors_whatever_the_trees_shape(tmp_path):
    for number in range(300):
        (tmp_path / str(number) / "below").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    held = [len(os.listdir("/proc/self/fd")) - before for _ in quota.walk(str(tmp_path), 1 << 30)]
    assert held and max(held) <= 8
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_tree_too_deep_is_over_and_lets_go_of_everything(tmp_path):
    (tmp_path / "/".join("d" * (quota.DEPTH_MAX + 1))).mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(quota.Over):
        walked(tmp_path, 1 << 30)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_becomes_a_link_under_the_walk_is_not_followed(tmp_path, monkeypatch):
    """Between looking and opening: the function is quick."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (outside / "file").write_bytes(os.urandom(200_000))
    (inside / "swapped").mkdir(parents=True)
    real = os.stat

    def stat_then_swap(name, **how):
        status = real(name, **how)
        if name == "swapped" and not (inside / "swapped").is_symlink():
            (inside / "swapped").rmdir()
            (inside / "swapped").symlink_to(outside)
        return status

    monkeypatch.setattr(os, "stat", stat_then_swap)
    walked(inside, 100_000)
    assert (inside / "swapped").is_symlink()


def test_a_tree_that_is_gone_is_no_error(tmp_path):
    assert walked(tmp_path / "none", 1) == 0


# The loop ---------------------------------------------------------------------------------------------------------------
@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


def test_steps_wait_for_time_and_for_descriptors(loop):
    reader, writer = os.pipe()
    seen = []

    def step():
        seen.append((yield Readable(reader, 0.001)))
        os.write(writer, b"x")
        seen.append((yield Readable(reader, 60)))
        yield Sleep(0.001)
        loop.stop()

    loop.spawn(step())
    loop.run()
    assert seen == [False, True]
    protocol.close_all([reader, writer])


def test_a_step_that_fails_does_not_end_the_others(loop, capsys):

    def bad():
        yield Sleep(0)
        raise ValueError("broken step")

    def good():
        yield Sleep(0.01)
        loop.stop()

    loop.spawn(bad())
    loop.spawn(good())
    loop.run()
    assert "broken step" in capsys.readouterr().err


# Ways -------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def home():
    """A private home below directories that everybody may pass."""
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        os.chmod(top, 0o755)
        path = Path(top) / "home"
        (path / "project" / "src").mkdir(parents=True)
        (path / "python").mkdir()
        path.chmod(0o700)
        yield path


def test_only_what_lies_behind_a_wall_is_shown_anew(home):
    keep = [home / "project", home / "project" / "src", home / "python", Path("/usr")]
    stranger = os.getuid() + 1
    assert ways.walls(stranger, stranger, keep) == {str(home): [str(home / "python"), str(home / "project")]}


def test_who_may_pass_meets_no_wall(home):
    assert ways.walls(os.getuid(), os.getgid(), [home / "project"]) == {}


def test_the_launcher_says_what_it_would_run():
    command = unprivileged.command(["/bin/true", "x"], uid=5, gid=6, keep=[], fds=[3], python="/py")
    assert command[:3] == ["/py", "-I", "-S"]
    assert command[-3:] == ["--", "/bin/true", "x"]
