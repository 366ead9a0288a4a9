"""Carries telemetry to extensions, from inside their environment: each CALL is a batch, its RESULT says whether it was taken.

A CALL's meta: protocol ("HTTP" or "TCP"), port, and for HTTP path and method. It goes to the environment's own loopback and
nowhere else. Each batch has a thread, for a subscriber that is slow must not hold up another; the node sends one at a time to
each. What is answered is read up to a bound, and of that only the status counts.
"""

import json
import socket
import threading
import time

from ondol_guest import frames

LOOPBACK = "127.0.0.1"
#: For one batch: connecting, sending, and the beginning of the answer.
DELIVERY_S_MAX = 5.0
#: Of an answer: its first line is within that.
ANSWER_BYTES_MAX = 4096
#: TCP connections that are kept, by port.
KEPT = {}
_LOCK = threading.Lock()


def serve(wire, settings):
    """Until the node goes away."""
    del settings
    wire.ready()
    while True:
        kind, _, invocation, payload = wire.recv()
        if kind == frames.STOP:
            return 0
        if kind == frames.CALL:
            meta, body = frames.split_meta(bytes(payload))
            threading.Thread(target=carry, args=(wire, invocation, json.loads(meta), body), daemon=True).start()


def carry(wire, invocation, meta, body):  # noqa: PLR0917
    """Deliver one batch, and tell."""
    try:
        taken = send_http(meta, body) if meta["protocol"] == "HTTP" else send_lines(meta["port"], body)
    except (OSError, ValueError):
        taken = False
    wire.send_meta(frames.RESULT, invocation, {}, b"", 0 if taken else frames.ERROR)


def send_http(meta, body):
    """Whether a server answered that it has it."""
    head = "%s %s HTTP/1.1\r\nHost: sandbox.localdomain:%d\r\nContent-Type: application/json\r\n" % (
        meta["method"],
        meta["path"],
        meta["port"],
    )
    head += "Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    end_s = time.monotonic() + DELIVERY_S_MAX
    with socket.create_connection((LOOPBACK, meta["port"]), timeout=DELIVERY_S_MAX) as connection:
        connection.sendall(head.encode() + body)
        said = b""
        while b"\n" not in said and len(said) < ANSWER_BYTES_MAX and time.monotonic() < end_s:
            connection.settimeout(max(end_s - time.monotonic(), 0.001))
            data = connection.recv(ANSWER_BYTES_MAX)
            if not data:
                break
            said += data
    words = said.partition(b"\n")[0].split()
    return len(words) > 1 and words[0].startswith(b"HTTP/") and words[1][:1] == b"2"


def send_lines(port, body):
    """Whether a connection took it; one that is there is used again, and one that broke is made anew, once."""
    for _ in range(2):
        with _LOCK:
            connection = KEPT.pop(port, None)
        kept = connection is not None
        if not kept:
            connection = socket.create_connection((LOOPBACK, port), timeout=DELIVERY_S_MAX)
        try:
            connection.sendall(body)
        except OSError:
            connection.close()
            if kept:
                continue
            return False
        with _LOCK:
            KEPT[port] = connection
        return True
    return False
