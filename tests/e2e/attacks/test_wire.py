"""The two lines to the node, in the hands of a function: frames, descriptors, and lines of the log."""

from __future__ import annotations

import os

import pytest
from botocore.exceptions import ResponseStreamingError

from ondol.testing.hostile import Failed
from ondol.testing.leaks import roles

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_what_is_written_to_the_wire_harms_only_its_writer(aws, inside):
    """A function has the wire in its hands; it can end itself with it."""
    for forged in ("os.urandom(4096)", "b'\\\\x01\\\\x12' + bytes(14)", "bytes(16) * 100000"):
        with pytest.raises(Failed):
            inside(f"os.write(WIRE, {forged})\ntime.sleep(10)")
        assert inside("out = 1") == 1
    with pytest.raises(Failed):
        inside("os.close(WIRE)\ntime.sleep(10)")


#: The guest's own frames in the attacker's hands; `me` is the number of the call under way.
FORGING = """
from ondol_guest import frames
wire = socket.socket(fileno=os.dup(WIRE))
def send(*parts):
    wire.sendall(b"".join(parts))
def answer(number, body=b'"forged"', flags=0):
    return frames.pack_meta(frames.RESULT, number, {}, body, flags)
"""


@pytest.mark.parametrize(
    "forged",
    [
        "send(b'garbage' * 1000)",
        "send(frames.HEADER.pack(2, frames.RESULT, 0, 0, 1))",
        "send(frames.HEADER.pack(frames.VERSION, frames.RESULT, 0, 2**32 - 1, 1))",
        "send(frames.pack(frames.READY, 0, b'{}'))",
        "send(frames.pack_meta(frames.INIT_FAILED, 0, {}, b'x'))",
        "for n in range(20000): send(answer(10**6 + n))",
        "while True: send(frames.pack(frames.CREDIT, 10**9, frames.META.pack(1)))",
        "[send(answer(n, flags=frames.MORE)) for n in range(1, 300)]\n"
        "while True: [send(frames.pack(frames.BODY, n, bytes(4096))) for n in range(1, 300)]",
        "[send(answer(n)) for n in range(1, 300) for _ in (1, 2)]",
        "send(frames.HEADER.pack(frames.VERSION, frames.RESULT, 0, 1 << 20, 1) + b'x'); wire.shutdown(socket.SHUT_WR)",
        "wire.shutdown(socket.SHUT_RDWR)",
        "os.close(WIRE); os.close(1); os.close(2)",
        "send(answer(1, b'[' * 1000000)); send(frames.pack(frames.RESULT, 1, frames.META.pack(1 << 20)))",
    ],
    ids=[
        "garbage", "another version", "oversized", "loaded twice", "loading failed afterwards", "other calls' ids", "credit without end",
        "chunks without end", "replayed", "half a frame", "silence", "closed", "broken meta",
    ],
)  # fmt: skip
def test_forged_frames_end_nobody_but_their_writer(node, inside, forged):
    """What the caller is told is its own function's failure or lie; the next call is answered by a new one."""
    front = roles(node)["front"]
    told = []
    try:
        told.append(inside(f"{FORGING}\n{forged}\ntime.sleep(1)\nout = 'honest'"))
    except (Failed, ResponseStreamingError):
        pass
    assert told in ([], ["honest"], ["forged"])
    for word in ("one", "two", "three"):
        assert inside(f"out = {word!r}") == word
    assert roles(node)["front"] == front


def test_answers_sent_ahead_are_no_answers_to_calls_that_come(inside):
    inside(f"{FORGING}\n[send(answer(n)) for n in range(300, 2000)]\nout = 1")
    assert [inside(f"out = {n}") for n in range(30)] == list(range(30))


def test_descriptors_sent_to_the_node_are_not_kept(node, inside):
    (front,) = roles(node)["front"]
    inside("out = 1")
    before = len(os.listdir(f"/proc/{front}/fd"))
    inside(
        f"""{FORGING}
fds = [os.open("/dev/null", os.O_RDONLY)] * 200
for _ in range(200):
    try:
        socket.send_fds(wire, [frames.pack(frames.CREDIT, 10**9, frames.META.pack(1))], fds)
    except OSError:
        time.sleep(0.01)
"""
    )
    assert len(os.listdir(f"/proc/{front}/fd")) < before + 100


def test_the_other_ends_of_the_lines_are_out_of_reach(inside):
    """Opening a line anew gives its own end, or nothing."""
    found = inside(
        """
out = {fd: tried(os.open, "/proc/self/fd/" + fd, os.O_RDWR) for fd in os.listdir("/proc/self/fd")
       if os.path.exists("/proc/self/fd/" + fd) and os.readlink("/proc/self/fd/" + fd).startswith("socket:")}
out["size"] = tried(lambda: __import__("fcntl").fcntl(1, 1031, 1 << 30))
"""
    )
    assert set(found.values()) <= {"ENXIO", "EPERM"}, found
