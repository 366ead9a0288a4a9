"""How a function without any network reaches its own node, and nothing else there; and who it is to it."""

from __future__ import annotations

import json
import textwrap

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SOURCE = """
import json, os, socket, sys, http.client
def handler(event, context):
    names = {**globals(), "out": None, **event.get("with", {})}
    exec(event["code"], names)
    return names["out"]
"""

#: Everything with which a function shows who it is.
SESSION = """
out = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
"""
#: Who the node says that it is, with a session given or its own.
WHO = """
import boto3
client = boto3.client("sts", **{k: v for k, v in zip(
    ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), session) if v})
try:
    out = client.get_caller_identity()["Arn"]
except Exception as error:
    out = error.response["Error"]["Code"]
"""


@pytest.fixture
def run(aws, deploy):
    """Runs code in the function `name`, deployed when it is new."""
    there = {}

    def run(name, code, **names):
        if name not in there:
            there[name] = deploy(SOURCE, called=name, Timeout=60, MemorySize=256)
        event = {"code": textwrap.dedent(code), "with": names}
        answer = aws.invoke(FunctionName=name, Payload=json.dumps(event))
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload

    return run


def test_it_is_told_where_and_finds_its_node_there_as_itself(run, name):
    where = run(name, "out = os.environ['AWS_ENDPOINT_URL']")
    assert where == "http://127.0.0.1:9001"
    assert run(name, WHO, session=[]) == f"arn:aws:sts::000000000000:assumed-role/any/{name}"


def test_it_has_no_other_network_than_loopback(run, name):
    found = run(
        name,
        """
        def reached(address):
            try:
                socket.create_connection(address, timeout=2).close()
                return "reached"
            except OSError as error:
                return error.strerror
        devices = [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]]
        out = [devices, len(open("/proc/net/route").read().splitlines()), reached(("192.0.2.1", 80)), reached(("127.0.0.1", 9002))]
        """,
    )
    assert found == [["lo"], 1, "Network is unreachable", "Connection refused"]


def test_the_nodes_own_port_is_not_there_by_any_address(node, run, name):
    host, _, port = node.endpoint.rpartition("//")[2].partition(":")
    found = run(
        name,
        """
        out = []
        for address in addresses:
            try:
                socket.create_connection((address, port), timeout=2).close()
                out.append(address)
            except OSError:
                pass
        """,
        addresses=[host, "127.0.0.1", "localhost", "::1", "0.0.0.0", "127.1.2.3", *_addresses()],
        port=int(port),
    )
    assert found == []


def test_a_session_is_refused_on_another_environments_socket(run, name):
    one = run(name, SESSION)
    assert run(f"{name}-b", WHO, session=list(one.values())) == "InvalidClientTokenId"
    assert run(name, WHO, session=list(one.values())).endswith(f"/{name}")


def test_a_key_that_the_code_was_given_is_who_it_is_there_too(node, run, name):
    key = [node.credentials["AWS_ACCESS_KEY_ID"], node.credentials["AWS_SECRET_ACCESS_KEY"], ""]
    code = WHO.replace(
        "boto3.client(", "boto3.session.Session(**dict(zip(('aws_access_key_id', 'aws_secret_access_key'), session))).client("
    )
    assert run(name, code.replace("**{k: v for", "**{} if True else {k: v for"), session=key).endswith(":root")


def test_what_administers_the_node_is_not_there(node, run, name):
    found = run(
        name,
        """
        out = {}
        for path in ("/ondol/v1/functions", "/metrics", "/fn/x", "/healthz", "/"):
            connection = http.client.HTTPConnection("127.0.0.1", 9001, timeout=10)
            connection.request("GET", path, headers={"x-ondol-key": key, "x-ondol-caller": "x"})
            answer = connection.getresponse()
            out[path] = [answer.status, "here is the AWS API" in answer.read().decode()]
        """,
        key=node.key,
    )
    assert set(map(tuple, found.values())) == {(404, True)}


def test_more_connections_than_it_may_have_wait_and_hold_up_nobody_else(run, name):
    held = run(
        name,
        """
        lines = []
        for _ in range(70):
            line = socket.create_connection(("127.0.0.1", 9001), timeout=10)
            line.sendall(b"GET / HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n")
            lines.append(line)
        answered = 0
        for line in lines:
            line.settimeout(1)
            try:
                answered += bool(line.recv(100))
            except OSError:
                break
        line = lines.pop(0)
        line.close()
        lines[63].settimeout(10)
        out = [answered, lines[63].recv(12).decode()]
        """,
    )
    assert held == [64, "HTTP/1.1 404"]
    assert run(f"{name}-b", WHO, session=[]).endswith(f"/{name}-b")


def test_two_functions_do_not_see_each_others_ports_or_abstract_sockets(run, name):
    run(
        name,
        """
        global held
        held = [socket.create_server(("127.0.0.1", 4321)), socket.socket(socket.AF_UNIX)]
        held[1].bind("\\0ondol-test")
        held[1].listen()
        __builtins__["held"] = held
        """,
    )
    tries = """
        out = []
        for family, address in ((socket.AF_INET, ("127.0.0.1", 4321)), (socket.AF_UNIX, "\\0ondol-test")):
            line = socket.socket(family)
            try:
                line.connect(address)
                out.append("reached")
            except ConnectionRefusedError:
                out.append("refused")
        """
    assert run(name, tries) == ["reached", "reached"]
    assert run(f"{name}-b", tries) == ["refused", "refused"]


def _addresses():
    """Those of this machine."""
    import fcntl
    import socket
    import struct

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, 0x8915, struct.pack("256s", name.encode()))  # SIOCGIFADDR
            except OSError:
                continue
            found.append(socket.inet_ntoa(answer[20:24]))
    return found
