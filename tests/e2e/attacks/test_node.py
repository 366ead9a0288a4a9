"""The node itself: its listener, its files, its secrets, and what strangers send it."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import h11
import pytest

from ondol.testing.hostile import SOURCE
from ondol.testing.leaks import roles

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_the_node_uses_no_abstract_socket(node):
    """A function that is given the host's network is given the names of its abstract sockets, too."""
    pids = set(node.processes())
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(fd)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    named = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert inodes
    assert not [words for words in named if words[6] in inodes and len(words) > 7 and words[7].startswith("@")]


def test_secrets_are_in_no_message_no_command_line_and_no_readable_file(node, inside, aws, function):
    inside("print(os.environ['AWS_SESSION_TOKEN'][:0])")
    token, secret = inside("out = [os.environ['AWS_SESSION_TOKEN'], os.environ['AWS_SECRET_ACCESS_KEY']]")
    for key in (node.key, node.key + "x", "nobody:nothing-of-value"):
        node.http("GET", "/ondol/v1/functions", headers={"x-ondol-key": key})
    secrets = [token, secret, node.credentials["AWS_SECRET_ACCESS_KEY"], "value-of-a-variable", "nothing-of-value"]
    assert not [each for each in secrets if each in node.said()]
    for pid in node.processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        assert not [each for each in secrets if each in words]
    assert node.data.stat().st_mode & 0o077 == 0
    for name in ("credentials.json", "secret", "catalog.db", "queue.db", "run/desk.sock", "run/link.sock"):
        assert (node.data / name).stat().st_mode & 0o077 == 0, name
    assert not [each for each in secrets if each in (node.data / "run" / "node.json").read_text()]


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 4\r\ncontent-length: 5\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding : chunked\r\n",
        b"content-length: +4\r\n",
        b"content-length: 4, 4\r\n",
        b"x: y\r\n content-length: 4\r\n",
    ],
)
def test_nothing_is_smuggled_past_the_front(node, raw, framing):
    """Whatever the front makes of it, the desk must not see a second request in the body."""
    inner = b"GET /ondol/v1/smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
    head = b"POST /ondol/v1/functions HTTP/1.1\r\nhost: localhost\r\n" + framing + b"\r\n"
    came = raw(head + b"0\r\n\r\n" + inner)
    assert came.startswith(b"HTTP/1.1 4") or came.startswith(b"HTTP/1.1 501"), came
    assert b"smuggled" not in came
    assert node.http("GET", "/ondol/v1/functions").status == 200


def test_an_upload_that_breaks_off_leaves_no_poisoned_line_to_the_desk(node):
    for _ in range(8):
        host, _, port = node.endpoint.partition("//")[2].partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as line:
            line.sendall(
                b"PUT /ondol/v1/functions/x HTTP/1.1\r\nhost: localhost\r\nx-ondol-key: " + node.key.encode()
                + b"\r\ncontent-length: 9000000\r\n\r\n" + b"GET /ondol/v1/functions HTTP/1.1\r\nhost: x\r\n\r\n" * 100
            )  # fmt: skip
        assert node.http("GET", "/ondol/v1/functions").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/2015-03-31/functions/{other}/../{name}/invocations",
        "/2015-03-31/functions//{name}/invocations",
        "/2015-03-31/functions/./{name}/invocations",
        "/2015-03-31/functions/{other}/%2e%2e/{name}/invocations",
        "/2015-03-31/functions/{other}%2F..%2F{name}/invocations",
    ],
)
def test_a_path_means_what_was_signed(node, raw, function, path):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    wanted = path.format(other="another", name=function)
    keys = Credentials(node.credentials["AWS_ACCESS_KEY_ID"], node.credentials["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest("POST", node.endpoint + wanted, data=b'{"code":"out = 1"}')
    SigV4Auth(keys, "lambda", "us-east-1").add_auth(request)
    host = node.endpoint.partition("//")[2]
    lines = [f"POST {wanted} HTTP/1.1", f"host: {host}", "connection: close", "content-length: 18"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() not in ("host", "content-length")]
    came = raw("\r\n".join(lines).encode() + b'\r\n\r\n{"code":"out = 1"}')
    assert came[9:12] in (b"400", b"403", b"404"), came


def test_strangers_bodies_are_not_kept(node):
    """Nobody without a key may make the node read 70 MB."""
    host, _, port = node.endpoint.partition("//")[2].partition(":")
    lines = []
    try:
        for path in ("/ondol/v1/functions/x", "/2015-03-31/functions"):
            line = socket.create_connection((host, int(port)), timeout=10)
            lines.append(line)
            line.sendall(
                f"PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000000\r\n\r\n".encode() + bytes(100_000)
            )
            assert line.recv(12)[9:] in (b"401", b"403", b"404"), path
    finally:
        for line in lines:
            line.close()


def test_idle_and_slow_strangers_do_not_keep_others_out(node):
    host, _, port = node.endpoint.partition("//")[2].partition(":")
    lines = [socket.create_connection((host, int(port)), timeout=5) for _ in range(300)]
    try:
        for line in lines:
            line.sendall(b"POST /2015-03-31/functions/x/invocations HTTP/1.1\r\nhost: loc")
        began_s = time.monotonic()
        assert node.http("GET", "/ondol/v1/functions").status == 200
        assert time.monotonic() - began_s < 30
    finally:
        for line in lines:
            line.close()


def test_nothing_of_the_node_is_in_what_a_function_inherits(node, inside):
    """Its environment as the kernel keeps it, its command line, and the memory that it is a copy of."""
    environment, words, status = inside(
        """
out = [open("/proc/self/environ").read(), open("/proc/self/cmdline").read(), open("/proc/self/status").read()]
"""
    )
    named = [part.partition("=")[0] for part in environment.split("\0") if part]
    assert set(named) <= {"PATH", "LANG", "HOME", "LD_LIBRARY_PATH"}, environment
    assert str(node.data) not in environment + words + status
    secret = node.credentials["AWS_SECRET_ACCESS_KEY"].encode()
    assert any(secret in memory_of(pid) for pid in roles(node)["front"]), "the search finds nothing anywhere"
    assert not [pid for pid in roles(node)["zygote"] if secret in memory_of(pid)]


def memory_of(pid):
    """What a process can read and write, as one piece. Needs the right to look into it."""
    pieces = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, _, end = line.split()[0].partition("-")
            if line.split()[1].startswith("rw"):
                try:
                    memory.seek(int(start, 16))
                    pieces.append(memory.read(int(end, 16) - int(start, 16)))
                except OSError:
                    continue
    return b"".join(pieces)


@pytest.fixture
def machine():
    """What else listens on this machine: (TCP port, abstract name)."""
    name = f"ondol-attacked-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{name}")
        unix.listen()
        yield tcp.getsockname()[1], name


def test_a_function_has_no_network_but_the_node(node, machine, inside):
    """Neither the machine's loopback, nor its abstract sockets, nor its interfaces, nor what listens on them."""
    port, name = machine
    public = int(node.endpoint.rpartition(":")[2])
    found = inside(
        """
def reach(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as line:
        line.settimeout(3)
        line.connect(address)
out = {
    "a server of the machine's": tried(reach, socket.AF_INET, ("127.0.0.1", port)),
    "the same by another name": tried(reach, socket.AF_INET, ("127.0.0.2", port)),
    "the same by version 6": tried(reach, socket.AF_INET6, ("::1", port)),
    "the node's own port": tried(reach, socket.AF_INET, ("127.0.0.1", public)),
    "an abstract socket": tried(reach, socket.AF_UNIX, chr(0) + name),
    "the metadata service": tried(reach, socket.AF_INET, ("169.254.169.254", 80)),
    "the internet": tried(reach, socket.AF_INET, ("1.1.1.1", 53), socket.SOCK_DGRAM),
    "the neighbourhood": tried(reach, socket.AF_INET, ("255.255.255.255", 9), socket.SOCK_DGRAM),
    "bind": tried(lambda: socket.create_server(("127.0.0.1", 9001), reuse_port=True)),
}
interfaces = [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]]
sockets = [line.split()[7] for line in open("/proc/net/unix").read().splitlines()[1:] if len(line.split()) > 7]
out = [out, interfaces, sockets]
""",
        port=port,
        public=public,
        name=name,
    )
    assert "done" not in found[0].values(), found[0]
    assert found[1] == ["lo"]
    assert not [each for each in found[2] if name in each or str(node.data) in each]


def test_two_functions_see_nothing_of_each_others_ports(aws, deploy, inside):
    name = deploy(SOURCE, Timeout=20)
    listening = """
server = socket.create_server(("127.0.0.1", 12345))
server.settimeout(4)
try:
    out = server.accept()[1]
except TimeoutError:
    out = "nobody came"
"""
    with ThreadPoolExecutor(1) as elsewhere:
        payload = json.dumps({"code": listening})
        waiting = elsewhere.submit(lambda: json.loads(aws.invoke(FunctionName=name, Payload=payload)["Payload"].read()))
        for _ in range(6):
            assert inside("out = tried(socket.create_connection, ('127.0.0.1', 12345), 1); time.sleep(0.3)") == "ECONNREFUSED"
        assert waiting.result() == "nobody came"


def test_heads_without_end_from_inside_are_refused(inside):
    statuses = inside(
        """
host, _, port = os.environ["AWS_ENDPOINT_URL"].partition("//")[2].partition(":")
def sent(*parts):
    with socket.create_connection((host, int(port or 80)), timeout=10) as line:
        try:
            for part in parts:
                line.sendall(part)
            line.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        try:
            return line.recv(65536)[9:12].decode()
        except OSError:
            return "reset"
start = b"GET /2015-03-31/functions HTTP/1.1\\r\\nhost: localhost\\r\\n"
out = [sent(start, b"x: " + b"y" * 1_000_000, b"\\r\\n\\r\\n"),
       sent(start, b"x: y\\r\\n" * 100_000, b"\\r\\n"),
       sent(b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\\r\\n\\r\\n"),
       sent(b"x" * 1_000_000)]
""".replace("\\\\", "\\")
    )
    assert set(statuses) <= {"400", "414", "431", "reset", ""}, statuses


def test_connections_without_end_from_inside_keep_nobody_out(node, inside):
    """As many as a process may have, none of which ever says what it wants."""
    held = inside(
        """
host, _, port = os.environ["AWS_ENDPOINT_URL"].partition("//")[2].partition(":")
kept = []
try:
    for _ in range(900):
        line = socket.create_connection((host, int(port or 80)), timeout=2)
        line.sendall(b"POST /")
        kept.append(line)
except OSError:
    pass
out = len(kept)
time.sleep(2)
"""
    )
    assert 0 < held
    assert node.http("GET", "/ondol/v1/functions").status == 200


#: A web function that answers with whatever head and body its caller asks for, past the guest, by frames of its own.
ANSWERING = """
import json, os
from urllib.parse import unquote
from ondol_guest import frames
WIRE = max(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)
           and os.readlink("/proc/self/fd/" + fd).startswith("socket:"))
def app(environ, start_response):
    wanted = json.loads(unquote(environ["QUERY_STRING"]) or "null")
    if wanted is not None:
        for number in range(1, 100):
            meta = {"status": wanted["status"], "headers": wanted["headers"]}
            os.write(WIRE, frames.pack_meta(frames.RESULT, number, meta, wanted["body"].encode()))
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"honest"]
"""


@pytest.fixture(scope="module")
def answering(node):
    node.put_web("answering", {"app.py": ANSWERING}, "app:app")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [["content-length", "3"]],
        [["content-length", "300"]],
        [["content-length", "3"], ["content-length", "30"]],
        [["transfer-encoding", "chunked"]],
        [["Transfer-Encoding", "chunked"], ["Content-Length", "3"]],
        [["connection", "close"], ["upgrade", "websocket"]],
        [["connection", "transfer-encoding"], ["trailer", "x"]],
        [["x", "y\r\nset-cookie: stolen=1"]],
        [["x\r\nset-cookie", "stolen=1"]],
        [["x", "\0"], ["", "y"], ["x y", "z"], [": z", "z"]],
    ],
    ids=lambda headers: (
        "; ".join(f"{name}={value}" for name, value in headers)[:40] if isinstance(headers, list) else str(headers)
    ),
)
def test_no_answer_of_a_functions_is_taken_for_the_next_one(node, raw, answering, headers):
    """Two requests on one connection: a strict reader finds two answers, and the second is the second's."""
    host = node.endpoint.partition("//")[2]
    head = f"host: {host}\r\nx-ondol-key: {node.key}\r\n"
    for status in (100, 101, 200, 204, 304, 599, 999, -1):
        body = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
        wanted = quote(json.dumps({"status": status, "headers": headers, "body": body}), safe="")
        first = f"GET /fn/answering/?{wanted} HTTP/1.1\r\n{head}\r\n"
        answers = answers_in(raw(f"{first}GET /ondol/v1/functions/answering HTTP/1.1\r\n{head}\r\n".encode(), 20))
        assert b"set-cookie" not in answers[0][1]
        if len(answers) == 2:
            assert answers[1][0] == 200
            assert json.loads(answers[1][2])["name"] == "answering"
        else:
            assert answers[0][1].get(b"connection") == b"close"


def answers_in(came):
    """(status, headers, content) of each of two answers, or of the one that said that it is the last."""
    reader = h11.Connection(h11.CLIENT)
    answers = []
    for _ in range(2):
        reader.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        reader.send(h11.EndOfMessage())
        if not answers:
            reader.receive_data(came)
            reader.receive_data(b"")
        answer, content = None, b""
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                answer = event
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            else:
                assert isinstance(event, h11.InformationalResponse), (event, came)
        answers.append((answer.status_code, dict(answer.headers), content))
        if reader.their_state is not h11.DONE:
            break
        reader.start_next_cycle()
    return answers
