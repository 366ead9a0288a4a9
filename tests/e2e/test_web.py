"""Web functions through a whole node: WSGI, ASGI and programs, called by plain HTTP as any web server would be."""

from __future__ import annotations

import concurrent.futures
import hashlib
import http.client
import os
import shutil
import socket
import threading
from urllib.parse import urlsplit

import pytest

from ondol.keeper import probe

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WSGI = """
import hashlib, json, os, sys, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/seen":
        seen = {name: value for name, value in environ.items() if isinstance(value, str)}
        seen["body"] = environ["wsgi.input"].read().decode("latin-1")
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(seen).encode()]
    if path == "/digest":
        digest, size = hashlib.sha256(), 0
        while True:
            piece = environ["wsgi.input"].read(65536)
            if not piece:
                break
            digest.update(piece); size += len(piece)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [("%d %s" % (size, digest.hexdigest())).encode()]
    if path == "/big":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (bytes([n % 256]) * 65536 for n in range(200))
    if path == "/echo":
        start_response("200 OK", [("Content-Type", environ["CONTENT_TYPE"])])
        return [environ["wsgi.input"].read()]
    if path == "/talk":
        start_response("200 OK", [("Content-Type", "text/plain")])
        def answers():
            while True:
                line = environ["wsgi.input"].readline()
                if not line:
                    return
                yield b"heard " + line
        return answers()
    if path.startswith("/status/"):
        start_response(path[8:] + " As Asked", [("X-Kept", "yes")])
        return [b"" if path[8:] in ("204", "304") else b"body"]
    if path == "/headers":
        start_response("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/")] + [("X-Many-%d" % n, "v" * 50) for n in range(60)])
        return [b"ok"]
    if path == "/raise":
        raise RuntimeError("broken on purpose")
    if path == "/exit":
        os._exit(3)
    if path == "/sleep":
        time.sleep(30)
    if path == "/hello":
        print("GET was here")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"hello"]
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"nothing here"]
"""

ASGI = """
import asyncio, hashlib, json

started = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        started.append(True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    async def reply(status, headers, *chunks):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    path = scope["path"][len(scope["root_path"]):]  # the latter is part of the former
    if path == "/seen":
        seen = {name: scope[name] for name in ("type", "method", "path", "root_path", "http_version", "scheme")}
        seen["query"] = scope["query_string"].decode()
        seen["raw_path"] = scope["raw_path"].decode()
        seen["headers"] = [[n.decode(), v.decode()] for n, v in scope["headers"]]
        seen["started"] = started
        await reply(200, [(b"content-type", b"application/json")], json.dumps(seen).encode())
    elif path == "/talk":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            message = await receive()
            if message.get("body"):
                await send({"type": "http.response.body", "body": b"heard " + message["body"], "more_body": True})
            if not message.get("more_body"):
                break
        await send({"type": "http.response.body", "body": b""})
    elif path == "/digest":
        digest, size = hashlib.sha256(), 0
        while True:
            message = await receive()
            digest.update(message.get("body", b"")); size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await reply(200, [], ("%d %s" % (size, digest.hexdigest())).encode())
    elif path == "/big":
        await reply(200, [], *(bytes([n % 256]) * 65536 for n in range(200)))
    elif path == "/raise":
        raise RuntimeError("broken on purpose")
    else:
        await reply(404, [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")], b"nothing here")
"""

SERVER = """
import hashlib, http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/big":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for n in range(200):
                self.wfile.write(b"10000\\r\\n" + bytes([n % 256]) * 65536 + b"\\r\\n")
            self.wfile.write(b"0\\r\\n\\r\\n")
            return
        self.answer(("%s %s" % (self.path, self.headers.get("X-Mine"))).encode())

    def do_POST(self):
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size); self.rfile.readline()
                if not size:
                    break
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(("%d %s" % (len(body), hashlib.sha256(body).hexdigest())).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

BIG = hashlib.sha256(b"".join(bytes([n % 256]) * 65536 for n in range(200))).hexdigest()


@pytest.fixture(scope="module")
def web(node):
    """The three kinds, as functions that all tests of this module share; no test changes them."""
    names = {kind: f"{kind}-{os.getpid()}" for kind in ("wsgi", "asgi", "program")}
    node.put_web(names["wsgi"], {"app.py": WSGI}, "app:app", timeout_s=3)
    node.put_web(names["asgi"], {"app.py": ASGI}, "app:app")
    node.put_web(names["program"], {"server.py": SERVER}, "python3 server.py", runtime="command")
    yield names
    for name in names.values():
        assert node.http("DELETE", f"/ondol/v1/functions/{name}").status == 204


@pytest.fixture
def get(node, web):
    def get(kind, path, method="GET", body=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return node.http(method, f"/fn/{web[kind]}{path}", body, named)

    return get


def connection(node):
    parts = urlsplit(node.endpoint)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)


# What arrives -----------------------------------------------------------------------------------------------------------
def test_a_wsgi_application_gets_the_request_as_sent(get, web):
    seen = get("wsgi", "/seen?a=1&b=%C3%A9", "POST", "hé", content_type="text/x-mine", x_custom="one").json()
    assert (seen["REQUEST_METHOD"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("POST", "/seen", "a=1&b=%C3%A9")
    assert (seen["SCRIPT_NAME"], seen["CONTENT_TYPE"], seen["HTTP_X_CUSTOM"]) == (f"/fn/{web['wsgi']}", "text/x-mine", "one")
    assert seen["body"].encode("latin-1").decode() == "hé"
    assert seen["REMOTE_ADDR"] == "127.0.0.1"


def test_an_asgi_application_gets_the_request_as_sent(get, web):
    seen = get("asgi", "/seen?a=%20b", x_custom="one").json()
    assert (seen["type"], seen["method"], seen["query"], seen["scheme"]) == ("http", "GET", "a=%20b", "http")
    assert seen["root_path"].endswith(web["asgi"])
    assert ["x-custom", "one"] in seen["headers"]


def test_a_program_gets_the_request_as_sent(get):
    assert get("program", "/a/b%20c?d=e", x_mine="yes").data == b"/a/b%20c?d=e yes"


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_credentials_never_reach_the_function(node, web, kind):
    for header, value in (("x-ondol-key", node.key), ("authorization", f"Bearer {node.key}")):
        seen = node.http("GET", f"/fn/{web[kind]}/seen", headers={"x-ondol-key": "", header: value})
        assert seen.status == 200
        assert node.credentials["AWS_SECRET_ACCESS_KEY"] not in seen.data.decode()
        assert node.credentials["AWS_ACCESS_KEY_ID"] not in seen.data.decode()


def test_the_functions_own_authorization_does_reach_it(get):
    assert get("wsgi", "/seen", authorization="Basic dXNlcjpwYXNz").json()["HTTP_AUTHORIZATION"] == "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize(
    "content_type", ["application/json", "image/png", "application/x-www-form-urlencoded", "text/html; charset=euc-kr"]
)
def test_any_content_goes_through_untouched(get, content_type):
    content = bytes(range(256)) * 10
    response = get("wsgi", "/echo", "PUT", content, content_type=content_type)
    assert (response.status, response.data, response.headers["content-type"]) == (200, content, content_type)


# What goes back ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [200, 201, 204, 301, 304, 400, 404, 418, 500, 503])
def test_every_status_goes_back(get, status):
    response = get("wsgi", f"/status/{status}")
    assert (response.status, response.headers["x-kept"]) == (status, "yes")


def test_head_has_the_head_and_no_body(node, web):
    wire = connection(node)
    wire.request("HEAD", f"/fn/{web['wsgi']}/hello", headers={"x-ondol-key": node.key})
    response = wire.getresponse()
    assert (response.status, response.headers["content-length"], response.read()) == (200, "5", b"")
    wire.request("GET", f"/fn/{web['wsgi']}/hello", headers={"x-ondol-key": node.key})  # the connection is still in step
    assert wire.getresponse().read() == b"hello"
    wire.close()


def test_many_headers_and_every_cookie_go_back(get):
    response = get("wsgi", "/headers")
    assert response.headers.getlist("set-cookie") == ["a=1", "b=2; Path=/"]
    assert sum(name.lower().startswith("x-many-") for name in response.headers) == 60
    assert get("asgi", "/").headers.getlist("set-cookie") == ["a=1", "b=2"]


# Streams ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_the_first_answer_comes_before_the_last_question_is_asked(node, web, kind):
    parts = urlsplit(node.endpoint)
    # A socket of the test's own: http.client lets go of a connection that will be closed after the response.
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as wire:
        head = f"POST /fn/{web[kind]}/talk HTTP/1.1\r\nhost: localhost\r\nx-ondol-key: {node.key}\r\ntransfer-encoding: chunked\r\n\r\n"
        wire.sendall(head.encode() + b"4\r\none\n\r\n")
        response = http.client.HTTPResponse(wire)
        response.begin()
        assert response.read1(100) == b"heard one\n"
        wire.sendall(b"4\r\ntwo\n\r\n")
        assert response.read1(100) == b"heard two\n"
        wire.sendall(b"0\r\n\r\n")
        assert response.read() == b""
        response.close()


@pytest.mark.parametrize("kind", ["wsgi", "asgi", "program"])
def test_more_than_eight_megabytes_come_down(get, kind):
    response = get(kind, "/big")
    assert (response.status, len(response.data), hashlib.sha256(response.data).hexdigest()) == (200, 200 * 65536, BIG)


@pytest.mark.parametrize("kind", ["wsgi", "asgi", "program"])
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_more_than_eight_megabytes_go_up(node, web, kind, chunked):
    content = os.urandom(9 * 1024 * 1024 + 17)
    body = (content[at : at + 50_000] for at in range(0, len(content), 50_000)) if chunked else content
    wire = connection(node)
    wire.request("POST", f"/fn/{web[kind]}/digest", body, {"x-ondol-key": node.key}, encode_chunked=chunked)
    assert wire.getresponse().read().decode() == f"{len(content)} {hashlib.sha256(content).hexdigest()}"
    wire.close()


def test_a_body_that_is_not_read_does_not_hang_the_next_call(get):
    assert get("wsgi", "/hello", "POST", b"x" * (3 << 20)).data == b"hello"
    assert get("wsgi", "/hello").data == b"hello"


def test_a_reader_that_stops_midway_harms_nobody(node, web, get):
    for _ in range(3):
        wire = connection(node)
        wire.request("GET", f"/fn/{web['wsgi']}/big", headers={"x-ondol-key": node.key})
        assert wire.getresponse().read(100) == bytes(100)
        wire.close()
    assert get("wsgi", "/hello").data == b"hello"


def test_a_writer_that_stops_midway_harms_nobody(node, web, get):
    for _ in range(3):
        wire = connection(node)
        wire.putrequest("POST", f"/fn/{web['wsgi']}/digest")
        wire.putheader("x-ondol-key", node.key)
        wire.putheader("content-length", "1000000")
        wire.endheaders()
        wire.send(b"x" * 1000)
        wire.close()
    assert get("wsgi", "/hello").data == b"hello"


def test_many_at_once_each_get_their_own(get):
    def echo(number):
        content = (b"%d," % number) * 10_000
        return get("wsgi", "/echo", "POST", content, content_type="text/plain").data == content

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert all(threads.map(echo, range(40)))


# Failures ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_an_exception_is_a_500_or_502_and_the_next_call_works(get, kind):
    response = get(kind, "/raise")
    assert response.status in (500, 502)
    assert b"broken on purpose" not in response.data
    assert get(kind, "/seen").status == 200


def test_a_process_that_ends_is_a_502_in_json(get):
    response = get("wsgi", "/exit")
    assert (response.status, response.headers["content-type"]) == (502, "application/json")
    said = response.json()
    assert set(said) == {"error", "message", "request_id"}
    assert said["request_id"] == response.headers["x-request-id"]
    assert get("wsgi", "/hello").data == b"hello"


EATER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        held = []
        while self.path == "/eat":
            held.append(bytearray(4 << 20)); held[-1][::4096] = b"x" * 1024
        if self.path == "/kill":
            os.kill(os.getpid(), 9)
        self.send_response(204); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.mark.skipif(
    not all(found.ok for found in probe.probe() if "memory" in found.what), reason="no control group for memory"
)
def test_a_program_without_memory_left_is_told_apart_from_one_that_was_killed(node, name):
    node.put_web(name, {"server.py": EATER}, "python3 server.py", runtime="command", memory_mib=128, timeout_s=60)
    eaten, killed = node.http("GET", f"/fn/{name}/eat"), node.http("GET", f"/fn/{name}/kill")
    assert (eaten.status, eaten.json()["error"]) == (502, "out_of_memory")
    assert (killed.status, killed.json()["error"]) == (502, "crashed")
    assert node.http("GET", f"/fn/{name}/").status == 204
    assert node.http("DELETE", f"/ondol/v1/functions/{name}").status == 204


NODE = """
const http = require("http"), fs = require("fs"), { Worker } = require("worker_threads");
http.createServer((request, response) => {
    new Worker("require('fs').writeFileSync('/tmp/written', 'by a thread')", { eval: true })
        .on("exit", () => fs.readFile("/tmp/written", (_, data) => response.end(data + " for " + request.url)));
}).listen(process.env.PORT, "127.0.0.1");
"""


@pytest.mark.skipif(shutil.which("node", path="/usr/bin:/usr/local/bin") is None, reason="node is not installed")
def test_a_node_program_serves_behind_the_walls(node, name):
    node.put_web(name, {"server.js": NODE}, "node server.js", runtime="command", memory_mib=512)
    assert node.http("GET", f"/fn/{name}/x").data == b"by a thread for /x"
    assert node.http("DELETE", f"/ondol/v1/functions/{name}").status == 204


def test_a_timeout_is_a_504_in_json(get):
    response = get("wsgi", "/sleep")
    assert (response.status, response.headers["content-type"]) == (504, "application/json")
    assert "3 s" in response.json()["message"]
    assert get("wsgi", "/hello").data == b"hello"


@pytest.mark.parametrize(
    ("files", "handler", "runtime"),
    [
        ({"app.py": "raise ValueError('at import')"}, "app:app", "python3.11"),
        ({"app.py": ""}, "app:app", "python3.11"),
        ({"x": ""}, "exit 3", "command"),
    ],
    ids=["raises", "absent", "program"],
)
def test_what_cannot_be_loaded_is_a_502_and_the_log_says_why(node, name, files, handler, runtime):
    node.put_web(name, files, handler, runtime=runtime)
    response = node.http("GET", f"/fn/{name}/")
    assert response.status == 502
    assert "log" in response.json()["message"]
    logged = node.ondol("logs", name)
    assert logged.returncode == 0, logged.stderr
    assert "at import" in logged.stdout or "no attribute 'app'" in logged.stdout or "ended" in logged.stdout, logged.stdout
    node.http("DELETE", f"/ondol/v1/functions/{name}")


def test_without_a_key_there_is_a_401_and_with_a_wrong_one_a_403(node, web):
    path = f"/fn/{web['wsgi']}/hello"
    for headers, status in (
        ({"x-ondol-key": ""}, 401),
        ({"x-ondol-key": "AKIAWRONG:secret"}, 403),
        ({"x-ondol-key": node.key + "x"}, 403),
        ({"x-ondol-key": "", "authorization": "Bearer nonsense"}, 403),
    ):
        response = node.http("GET", path, headers=headers)
        assert response.status == status, headers
        assert response.json()["message"]


def test_an_unknown_function_is_a_404(node):
    response = node.http("GET", "/fn/nobody-called-me-that/")
    assert (response.status, response.json()["error"]) == (404, "NotFound")


def test_a_qualifier_names_a_version_or_nothing(node, web):
    assert node.http("GET", f"/fn/{web['wsgi']}:17/hello").status == 404
    assert node.http("GET", f"/fn/{web['wsgi']}/hello").status == 200


def test_an_update_is_in_force_when_it_is_answered(node, name):
    for number in range(3):
        code = f"def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{number}']\n"
        node.put_web(name, {"app.py": code}, "app:app")
        assert {node.http("GET", f"/fn/{name}/").data for _ in range(3)} == {str(number).encode()}
    node.http("DELETE", f"/ondol/v1/functions/{name}")
    assert node.http("GET", f"/fn/{name}/").status == 404


def test_a_host_of_its_own_reaches_the_same_functions(node, web):
    response = node.http("GET", f"/fn/{web['wsgi']}/hello", headers={"host": f"fn.localhost:{urlsplit(node.endpoint).port}"})
    assert response.data == b"hello"


def test_what_a_function_prints_is_in_its_log(node, get, web):
    get("wsgi", "/hello")
    done = threading.Event()
    for _ in range(50):
        logged = node.ondol("logs", web["wsgi"]).stdout
        if "GET was here" in logged and "[ondol]" in logged:
            break
        done.wait(0.1)
    assert "GET was here" in logged


EVENTS = """
def handler(event, context):
    if event["rawPath"] == "/stream":
        return streamed()
    if event["rawPath"] == "/fail":
        raise ValueError("no")
    seen = event["requestContext"]["http"]["method"] + event["rawPath"] + "?" + event["rawQueryString"]
    return {"statusCode": 201, "headers": {"x-mine": "1"}, "body": seen + " " + event.get("body", "")}

def streamed():
    yield {"statusCode": 203, "headers": {"content-type": "text/plain"}}
    yield b"first,"
    yield b"last"
"""


def test_a_function_that_takes_events_answers_there_whole_and_in_parts(node, deploy):
    name = deploy(EVENTS)
    answer = node.http("POST", f"/fn/{name}/a/b?c=1", b"hi", {"content-type": "text/plain"})
    assert (answer.status, answer.data, answer.headers["x-mine"]) == (201, b"POST/a/b?c=1 hi", "1")
    answer = node.http("GET", f"/fn/{name}/stream")
    assert (answer.status, answer.data, answer.headers["content-type"]) == (203, b"first,last", "text/plain")
    answer = node.http("GET", f"/fn/{name}/fail")
    assert (answer.status, answer.json()["errorType"]) == (502, "ValueError")
    assert node.http("GET", f"/fn/{name}/", headers={"x-ondol-key": ""}).status == 401
