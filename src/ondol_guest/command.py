"""Guest half of the web contract for programs: any command that listens on $PORT, reached over the sandbox's own loopback.

The handler is the command line, run by /bin/sh. READY is said once the port answers. Requests are passed on over HTTP/1.1; both
bodies stream. A command that ends takes the environment with it: whether it ended during a call or between two, no later call
is given to it.
"""

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

from ondol_guest import frames
from ondol_guest.guest import Gone
from ondol_guest.web_stream import Stream, finish

CONNECT_S_MAX = 60.0
#: How long a command that broke off its answer is watched for its end: its connections close a moment before it is gone.
DYING_S_MAX = 0.1
_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"))


def serve(wire, settings):
    """Start the command, wait for its port, answer calls until the wire closes."""
    port = free_port()
    ended = signs_of_children()
    program = start(settings["handler"], port)
    if not wait(program, port):
        print("[ondol] the command ended, or did not listen on 127.0.0.1:$PORT within %d s" % CONNECT_S_MAX, flush=True)
        wire.send_meta(frames.INIT_FAILED, 0, {"type": "NotListening", "message": settings["handler"]})
        raise SystemExit(1)
    wire.ready()
    while lives_until_frame(program, wire, ended):
        kind, flags, invocation, payload = wire.recv()
        if kind == frames.STOP:
            program.send_signal(signal.SIGTERM)
            return
        if kind == frames.CALL:
            answer(wire, port, program, invocation, flags, payload)
    end_as(program.returncode)


def signs_of_children():
    """A descriptor that becomes readable whenever a child of this process ends."""
    ours, signals = os.pipe()
    for end in (ours, signals):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(signals, warn_on_full_buffer=False)
    return ours


def end_as(status):
    """End as the command did: the node tells a signal, or want of memory, from an exit by how this process ends."""
    print("[ondol] the command ended with status %s" % status, flush=True)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    raise SystemExit(status if status > 0 else 1)


def lives_until_frame(program, wire, ended):
    """Wait for the node's next frame; False when the command ended first."""
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(wire.fd, select.POLLIN)
    while program.poll() is None:
        if wire.holds_bytes:
            return True
        ready = {fd for fd, _ in poll.poll()}
        if ended in ready:
            os.read(ended, 4096)  # what it says is asked of the program itself
        elif wire.fd in ready:
            return True
    return False


def free_port():
    """A port nobody listens on now. The command takes it a moment later: a clash shows as a command that fails to start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, port):
    variables = dict(os.environ, PORT=str(port), HOST="127.0.0.1")
    return subprocess.Popen(["/bin/sh", "-c", "exec " + command], env=variables, stdin=subprocess.DEVNULL, cwd=os.getcwd())


def wait(program, port):
    """Whether the port answers before the command ends or the time is up."""
    end = time.monotonic() + CONNECT_S_MAX
    while time.monotonic() < end and program.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.01)
    return False


def answer(wire, port, program, invocation, flags, payload):  # noqa: PLR0917
    """One request to the program and its response back."""
    meta, body = frames.split_meta(payload)
    request = json.loads(meta)
    stream = Stream(wire, invocation, body, bool(flags & frames.MORE))
    begun = False
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        response = ask(connection, request, stream)
        head = {"status": response.status, "headers": [[n, v] for n, v in response.getheaders() if n.lower() not in _HOP]}
        wire.send_meta(frames.RESULT, invocation, head, b"", frames.MORE)
        begun = True
        while True:
            chunk = response.read1(frames.CHUNK_BYTES)
            if not chunk:
                break
            stream.spend(len(chunk))
            wire.send(frames.BODY, invocation, chunk)
        finish(wire, invocation)
    except Gone:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        print("[ondol] the command did not answer: %r" % (error,), file=sys.stderr, flush=True)
        if begun:
            finish(wire, invocation, cut=True)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):  # so that no call is given to one that is dying
                program.wait(DYING_S_MAX)
            if program.returncode is not None and program.returncode < 0:
                end_as(program.returncode)
            head = {"status": 502, "headers": [["content-type", "text/plain; charset=utf-8"]]}
            wire.send_meta(frames.RESULT, invocation, head, b"the function's server did not answer\n")
    finally:
        connection.close()
        stream.drop()


def ask(connection, request, stream):
    """Send the request with its body as it comes; the response with its body unread."""
    headers = [(n, v) for n, v in request.get("headers", ()) if n.lower() not in _HOP]
    names = {n.lower() for n, _ in headers}
    target = request.get("path", "/") + ("?" + request["query"] if request.get("query") else "")
    chunked = (stream.more or bool(stream.waiting)) and "content-length" not in names
    connection.putrequest(request["method"], target, skip_host="host" in names, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.putheader("X-Forwarded-Prefix", request.get("root", ""))
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    try:
        send_body(connection, stream, chunked)
    except (BrokenPipeError, ConnectionResetError):
        # A server may answer and close before it has read everything ("too large", for example): that is its answer.
        pass
    return connection.getresponse()


def send_body(connection, stream, chunked):
    """The request's body as it comes."""
    while True:
        piece = stream.chunk()
        if not piece:
            break
        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        connection.send(b"0\r\n\r\n")
