"""The commands against a node that is played by this test: no real one is started."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from ondol.cli.main import ondol

KEY, SECRET = "ONDOLKEYFORTESTS00", "secret/of+the=test"


class FakeNode:
    """Functions in a dict, answers as the AWS and the own API give them."""

    def __init__(self):
        self.functions = {}
        self.requests = []
        self.pending = 0
        self.events = []
        self.answer = (200, {}, b'{"greeting": "hi"}')

    def respond(self, request):
        self.requests.append(request)
        path = urlsplit(request.path).path
        if request.headers.get("x-amz-target", "").endswith("FilterLogEvents"):
            return self.filter(json.loads(request.body))
        if path.startswith("/2015-03-31/functions"):
            return self.lambda_(request, path.split("/")[3:], request.body)
        if path.startswith("/ondol/v1/functions"):
            return self.own(request.method, path.split("/")[4:], request.body)
        if path.startswith("/fn/"):
            return 200, {"content-type": "text/plain"}, f"{request.method} {path} {request.body.decode()}".encode()
        return 404, {}, b""

    def lambda_(self, request, parts, body):
        match request.method, parts:
            case "POST", []:
                wanted = json.loads(body)
                code = base64.b64decode(wanted.pop("Code")["ZipFile"])
                self.functions[wanted["FunctionName"]] = {**wanted, **self.coded(code), "contract": "aws"}
                return 201, {}, self.configuration(wanted["FunctionName"])
            case _, [name, *_] if name not in self.functions or self.functions[name]["contract"] != "aws":
                error = {"x-amzn-errortype": "ResourceNotFoundException"}
                return 404, error, json.dumps({"Type": "User", "Message": f"Function not found: {name}"}).encode()
            case "GET", [name, "configuration"]:
                return 200, {}, self.configuration(name)
            case "PUT", [name, "code"]:
                self.functions[name].update(self.coded(base64.b64decode(json.loads(body)["ZipFile"])))
                return 200, {}, self.configuration(name)
            case "PUT", [name, "configuration"]:
                self.functions[name].update(json.loads(body))
                return 200, {}, self.configuration(name)
            case "POST", [name, "invocations"]:
                if request.headers.get("x-amz-invocation-type") == "Event":
                    return 202, {"x-amzn-requestid": "r-1"}, b""
                log = base64.b64encode(b"START\nhello from inside\nEND\n").decode()
                status, headers, payload = self.answer
                return status, {"x-amz-log-result": log, "x-amz-executed-version": "$LATEST", **headers}, payload
        return 400, {}, b"{}"

    def configuration(self, name):
        state = "Active"
        if self.pending:
            self.pending -= 1
            state = "Pending"
        shown = {**self.functions[name], "State": state, "LastUpdateStatus": "Successful"}
        shown.pop("contract")
        return json.dumps(shown).encode()

    @staticmethod
    def coded(code):
        return {"CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode(), "CodeSize": len(code)}

    def own(self, method, parts, body):
        match method, parts:
            case "GET", []:
                return 200, {}, json.dumps({"functions": [self.document(name) for name in sorted(self.functions)]}).encode()
            case "PUT", [name]:
                wanted = json.loads(body)
                code = base64.b64decode(wanted.pop("zip_base64", ""))
                old = self.functions.get(name, {})
                digest = {"code_sha256": hashlib.sha256(code).hexdigest(), "code_bytes": len(code)} if code else {}
                self.functions[name] = {**old, **wanted, **digest}
                return 200, {}, json.dumps(self.document(name)).encode()
            case _, [name] if name not in self.functions:
                return 404, {}, json.dumps({"error": "NotFound", "message": f"function not found: {name}"}).encode()
            case "GET", [name]:
                return 200, {}, json.dumps(self.document(name)).encode()
            case "DELETE", [name]:
                del self.functions[name]
                return 204, {}, b""
        return 400, {}, b"{}"

    def document(self, name):
        kept = self.functions[name]
        shown = {
            "name": name,
            "contract": kept["contract"],
            "runtime": kept.get("Runtime", kept.get("runtime")),
            "handler": kept.get("Handler", kept.get("handler")),
            "memory_mib": kept.get("MemorySize", kept.get("memory_mib")),
            "timeout_s": kept.get("Timeout", kept.get("timeout_s")),
            "code_bytes": kept.get("CodeSize", kept.get("code_bytes")),
            "state": "active",
            "created_s": 1_700_000_000.0,
            "updated_s": 1_700_000_000.0,
            "variables": sorted(kept.get("variables", ())),
            "versions": kept.get("versions", []),
            "aliases": ["live"],
        }
        return shown | ({"code_sha256": kept["code_sha256"]} if "code_sha256" in kept else {})

    def filter(self, wanted):
        if not self.events:
            error = {"__type": "ResourceNotFoundException", "message": "The specified log group does not exist."}
            return 400, {}, json.dumps(error).encode()
        self.group = wanted["logGroupName"]
        page = int(wanted.get("nextToken", 0))
        answer = {"events": [self.events[page]]}
        if page + 1 < len(self.events):
            answer["nextToken"] = str(page + 1)
        return 200, {}, json.dumps(answer).encode()


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A fake node that `ondol` finds in ./.ondol, and a clean environment."""
    for name in list(os.environ):
        if name.startswith(("ONDOL_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    fake = FakeNode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            length = int(self.headers.get("content-length") or 0)
            request = SimpleNamespace(
                method=self.command,
                path=self.path,
                headers={k.lower(): v for k, v in self.headers.items()},
                body=self.rfile.read(length),
            )
            status, headers, body = fake.respond(request)
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_):
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.endpoint = f"http://127.0.0.1:{server.server_port}"
    data = tmp_path / ".ondol"
    (data / "run").mkdir(parents=True)
    facts = {"endpoint": fake.endpoint, "account": "000000000000", "region": "us-east-1", "pid": os.getpid()}
    (data / "run" / "node.json").write_text(json.dumps(facts))
    (data / "credentials.json").write_text(json.dumps({"access_key_id": KEY, "secret_access_key": SECRET}))
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hello(tmp_path):
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "lambda_function.py").write_text("def lambda_handler(event, context):\n    return event\n")
    return folder


def run(*arguments, **more):
    return CliRunner().invoke(ondol, [str(argument) for argument in arguments], **more)


def sentence(result):
    """The one line on standard error."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ondol: "), result.stderr
    assert "Traceback" not in result.output
    return lines[0]


# Deploying ------------------------------------------------------------------------------------------------------------------


def test_a_new_function_is_created_with_guesses_that_are_said(node, hello):
    node.pending = 3
    result = run("deploy", hello)
    assert result.exit_code == 0, result.output
    kept = node.functions["hello"]
    assert (kept["Handler"], kept["MemorySize"], kept["Timeout"]) == ("lambda_function.lambda_handler", 128, 3)
    assert re.fullmatch(r"python3\.\d+", kept["Runtime"])
    assert "assumed: handler lambda_function.lambda_handler, runtime python3." in result.stderr
    assert "hello created" in result.stderr and "ondol invoke hello" in result.stderr
    assert node.pending == 0, "it waits until the function is active"


def test_what_is_said_is_not_guessed(node, hello):
    result = run(
        *("deploy", hello, "--name", "greet", "--handler", "x.y", "--runtime", "python3.12", "--memory", 256),
        *("--timeout", 9, "--env", "A=1", "--env", "B=x=y", "--json"),
    )
    assert json.loads(result.stdout)["assumed"] == []
    kept = node.functions["greet"]
    assert (kept["Handler"], kept["Runtime"], kept["MemorySize"], kept["Timeout"]) == ("x.y", "python3.12", 256, 9)
    assert kept["Environment"]["Variables"] == {"A": "1", "B": "x=y"}


def test_deploying_the_same_again_changes_nothing(node, hello):
    run("deploy", hello, "--memory", 256)
    node.requests.clear()
    result = run("deploy", hello, "--json")
    assert json.loads(result.stdout)["change"] == "unchanged"
    assert {request.method for request in node.requests} == {"GET"}


def test_an_update_sends_only_what_differs_and_keeps_what_is_not_said(node, hello):
    run("deploy", hello, "--memory", 256, "--env", "A=1")
    (hello / "lambda_function.py").write_text("def lambda_handler(event, context):\n    return 2\n")
    node.requests.clear()
    assert json.loads(run("deploy", hello, "--json").stdout)["change"] == "updated"
    assert [r.path.rsplit("/", 1)[1] for r in node.requests if r.method == "PUT"] == ["code"]
    node.requests.clear()
    run("deploy", hello, "--timeout", 20)
    assert [r.path.rsplit("/", 1)[1] for r in node.requests if r.method == "PUT"] == ["configuration"]
    assert (node.functions["hello"]["MemorySize"], node.functions["hello"]["Timeout"]) == (256, 20)


def test_a_handler_whose_file_went_away_is_looked_for_again(node, hello):
    run("deploy", hello)
    (hello / "lambda_function.py").rename(hello / "app.py")
    (hello / "app.py").write_text("def handler(event, context): ...\n")
    result = run("deploy", hello)
    assert "assumed: handler app.handler" in result.stderr
    assert node.functions["hello"]["Handler"] == "app.handler"


def test_without_a_handler_in_sight_the_user_is_asked(node, tmp_path):
    (tmp_path / "x.py").write_text("a = 1\n")
    result = run("deploy", tmp_path / "x.py")
    assert result.exit_code == 2
    assert "no handler stands out in x (x.py): say which one with --handler" in sentence(result)
    assert not node.functions


def test_a_web_function_goes_through_the_own_api(node, tmp_path):
    (tmp_path / "site.py").write_text("def app(environ, start_response): ...\n")
    result = run("deploy", tmp_path / "site.py", "--contract", "web", "--env", "A=1")
    assert result.exit_code == 0, result.output
    kept = node.functions["site"]
    assert (kept["contract"], kept["handler"], kept["timeout_s"]) == ("web", "site:app", 30)
    assert f"{node.endpoint}/fn/site/" in result.stderr
    put = next(request for request in node.requests if request.method == "PUT")
    assert re.search(rf"Credential={KEY}/\d{{8}}/us-east-1/ondol/aws4_request", put.headers["authorization"])
    assert json.loads(run("deploy", tmp_path / "site.py", "--contract", "web", "--json").stdout)["change"] == "unchanged"


def test_a_command_becomes_a_web_function(node, hello):
    result = run("deploy", hello, "--contract", "web", "--command", "python3 -m http.server $PORT", "--json")
    assert json.loads(result.stdout)["runtime"] == "command"
    assert node.functions["hello"]["handler"] == "python3 -m http.server $PORT"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--command", "x"),
        ("--contract", "web", "--command", "x", "--handler", "a:b"),
        ("--memory", "64"),
        ("--timeout", "901"),
        ("--env", "novalue"),
        ("--env", "1A=x"),
        ("--env", f"A={'x' * 5000}"),
        ("--contract", "cgi"),
        ("--nmae", "x"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_sent(node, hello, arguments):
    result = run("deploy", hello, *arguments)
    assert result.exit_code == 2
    assert "see ondol deploy --help" in sentence(result)
    assert not node.requests


# Calling --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def deployed(node, hello):
    run("deploy", hello)
    node.requests.clear()
    return node


def test_a_call_prints_the_answer_and_nothing_else_on_standard_output(deployed):
    result = run("invoke", "hello", "--data", '{"name": "Ada"}')
    assert (result.exit_code, result.stdout, result.stderr) == (0, '{"greeting": "hi"}\n', "")
    assert deployed.requests[-1].body == b'{"name": "Ada"}'


def test_the_event_comes_from_a_file_or_standard_input(deployed, tmp_path):
    (tmp_path / "event.json").write_text('{"from": "file"}')
    run("invoke", "hello", "--data", "@event.json")
    assert deployed.requests[-1].body == b'{"from": "file"}'
    run("invoke", "hello", "--data", "-", input='{"from": "stdin"}')
    assert deployed.requests[-1].body == b'{"from": "stdin"}'
    run("invoke", "hello")
    assert deployed.requests[-1].body == b"{}"


@pytest.mark.parametrize("data", ["{name: Ada}", "", "@absent.json", "[1,", "\udcff"])
def test_an_event_that_is_no_json_is_refused_before_anything_is_sent(deployed, data):
    result = run("invoke", "hello", "--data", data)
    assert result.exit_code == 2
    assert "--data" in sentence(result)
    assert not deployed.requests


def test_the_largest_event_is_known(deployed, tmp_path):
    (tmp_path / "large.json").write_text('"' + "x" * (1024 * 1024) + '"')
    result = run("invoke", "hello", "--async", "--data", "@large.json")
    assert result.exit_code == 2 and "1,048,576 bytes" in sentence(result)
    assert run("invoke", "hello", "--data", "@large.json").exit_code == 0


def test_a_function_that_failed_leaves_with_1_and_its_error_on_standard_output(deployed):
    deployed.answer = (200, {"x-amz-function-error": "Unhandled"}, b'{"errorType": "KeyError"}')
    result = run("invoke", "hello")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"errorType": "KeyError"}
    assert "hello failed (Unhandled)" in sentence(result)


def test_tail_prints_the_log_on_standard_error(deployed):
    result = run("invoke", "hello", "--tail", "--qualifier", "live")
    assert "hello from inside" in result.stderr and "hello from inside" not in result.stdout
    assert deployed.requests[-1].headers["x-amz-log-type"] == "Tail"
    assert parse_qs(urlsplit(deployed.requests[-1].path).query) == {"Qualifier": ["live"]}


def test_async_says_what_was_accepted(deployed):
    result = run("invoke", "hello", "--async")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "accepted: request r-1" in result.stderr


def test_json_has_everything_about_a_call(deployed):
    answer = json.loads(run("invoke", "hello", "--json", "--tail").stdout)
    assert answer["payload"] == {"greeting": "hi"} and answer["status"] == 200
    assert answer["error"] is None and answer["version"] == "$LATEST" and answer["duration_ms"] > 0
    assert "hello from inside" in answer["log"]


def test_a_call_is_sent_once_even_when_the_node_is_at_fault(deployed):
    deployed.answer = (500, {"x-amzn-errortype": "ServiceException"}, b'{"message": "no"}')
    assert run("invoke", "hello").exit_code == 4
    assert len([r for r in deployed.requests if r.method == "POST"]) == 1


def test_an_unknown_function_is_refused_with_the_nodes_words(node):
    result = run("invoke", "nobody")
    assert result.exit_code == 4
    assert "Function not found: nobody" in sentence(result)


def test_a_web_function_is_called_with_a_request(node, tmp_path):
    (tmp_path / "site.py").write_text("app = 1\n")
    run("deploy", tmp_path / "site.py", "--contract", "web")
    assert run("invoke", "site").stdout == "GET /fn/site/ \n"
    assert run("invoke", "site", "--data", '{"a": 1}').stdout == 'POST /fn/site/ {"a": 1}\n'
    result = run("invoke", "site", "--async")
    assert (result.exit_code, "--async: site is called by requests" in sentence(result)) == (2, True)


# Logs -----------------------------------------------------------------------------------------------------------------------


def test_logs_come_in_order_over_all_pages(deployed):
    deployed.events = [
        {
            "eventId": str(n),
            "timestamp": 1_700_000_000_000 + n,
            "ingestionTime": 1,
            "logStreamName": "s",
            "message": f"line {n}\n",
        }
        for n in range(3)
    ]
    assert run("logs", "hello").stdout == "line 0\nline 1\nline 2\n"
    assert deployed.group == "/aws/lambda/hello"
    first = json.loads(run("logs", "hello", "--json").stdout.splitlines()[0])
    assert first == {"at_ms": 1_700_000_000_000, "stream": "s", "level": "INFO", "message": "line 0\n"}


def test_a_web_functions_logs_are_where_its_contract_puts_them(node, tmp_path):
    (tmp_path / "site.py").write_text("app = 1\n")
    run("deploy", tmp_path / "site.py", "--contract", "web")
    node.events = [{"eventId": "1", "timestamp": 1, "ingestionTime": 1, "logStreamName": "s", "message": "x"}]
    assert run("logs", "site").stdout == "x\n"
    assert node.group == "/ondol/site"


def test_a_function_that_never_wrote_is_told_from_one_that_is_not_there(deployed):
    result = run("logs", "hello")
    assert result.exit_code == 0 and "hello wrote nothing" in result.stderr
    assert run("logs", "nobody").exit_code == 4


def test_nobody_waits_for_the_logs_of_a_function_that_is_not_there(deployed, monkeypatch):
    def sleep(_):
        raise AssertionError

    monkeypatch.setattr("ondol.cli.logs.time.sleep", sleep)
    assert run("logs", "nobody", "-f").exit_code == 4


def test_following_shows_each_event_once(deployed, monkeypatch):
    now_ms = int(time.time() * 1000)
    deployed.events = [{"eventId": "1", "timestamp": now_ms, "ingestionTime": 1, "logStreamName": "s", "message": "first\n"}]
    turns = []

    def sleep(_):
        turns.append(1)
        if len(turns) == 1:
            deployed.events.append({**deployed.events[0], "eventId": "2", "timestamp": now_ms - 1000, "message": "late\n"})
        if len(turns) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("ondol.cli.logs.time.sleep", sleep)
    result = run("logs", "hello", "-f")
    assert result.stdout == "first\nlate\n"
    assert asked(deployed)["startTime"] == now_ms - 5_000
    assert result.exit_code == 130


def logged(*messages, stream="s"):
    return [
        {"eventId": str(n), "timestamp": 1 + n, "ingestionTime": 1, "logStreamName": stream, "message": message}
        for n, message in enumerate(messages)
    ]


def asked(node):
    """What FilterLogEvents was last asked for."""
    return json.loads([each.body for each in node.requests if "x-amz-target" in each.headers][-1])


def test_a_filter_is_the_nodes_business(deployed):
    deployed.events = logged("x")
    run("logs", "hello", "--filter", "{ $.n > 3 }")
    assert asked(deployed)["filterPattern"] == "{ $.n > 3 }"
    run("logs", "hello")
    assert "filterPattern" not in asked(deployed)


@pytest.mark.parametrize(
    ("since", "start_ms"),
    [
        ("2026-01-31T08:30:00Z", 1_769_848_200_000),
        ("2026-01-31T09:30+01:00", 1_769_848_200_000),
        ("1970-01-01T00:00Z", 0),
    ],
)
def test_logs_begin_at_a_time(deployed, since, start_ms):
    deployed.events = logged("x")
    assert run("logs", "hello", "--since", since).exit_code == 0
    assert asked(deployed)["startTime"] == start_ms


def test_levels_hide_what_is_below_them(deployed):
    lines = (
        "START RequestId: r Version: $LATEST",
        "[DEBUG]\t2026-01-01T00:00:00.000Z\tr\tsmall",
        "[WARNING]\t2026-01-01T00:00:00.000Z\tr\tnot good",
        "2026-01-01T00:00:00.000Z\tr\tERROR\tas Node writes it",
        '{"level": "critical", "message": "json"}',
        '{"type": "platform.report", "record": {"status": "timeout"}}',
        '{"type": "platform.report", "record": {"status": "success"}}',
        "2026-01-01T00:00:00.000Z r Task timed out after 1.00 seconds",
        '{"no": "level"}',
        "[odd] brackets",
    )
    deployed.events = logged(*lines)
    assert run("logs", "hello", "--level", "trace").stdout.splitlines() == list(lines)
    assert run("logs", "hello", "--level", "WARN").stdout.splitlines() == [lines[n] for n in (2, 3, 4, 5, 7)]
    assert run("logs", "hello", "--level", "fatal").stdout.splitlines() == [lines[4]]
    assert run("logs", "hello", "--level", "info").stdout.splitlines() == [line for n, line in enumerate(lines) if n != 1]
    result = run("logs", "hello", "--level", "loud")
    assert result.exit_code == 2


def test_a_function_with_a_log_group_of_its_choice_shows_its_own_streams(deployed):
    deployed.functions["hello"]["LoggingConfig"] = {"LogFormat": "Text", "LogGroup": "/shared"}
    deployed.events = [
        *logged("mine", stream="2026/01/01/hello[$LATEST]0123"),
        *logged("theirs", stream="2026/01/01/other[$LATEST]0123"),
        *logged("not mine", stream="2026/01/01/hello2[$LATEST]0123"),
    ]
    assert run("logs", "hello").stdout == "mine\n"
    assert deployed.group == "/shared"


@pytest.mark.parametrize("age", ["yesterday", "10", "-5m", "1.5h"])
def test_an_age_that_cannot_be_read_is_refused(node, age):
    assert run("logs", "hello", f"--since={age}").exit_code == 2


# Looking and removing -------------------------------------------------------------------------------------------------------


def test_ls_lists_functions_of_every_contract(deployed, tmp_path):
    (tmp_path / "site.py").write_text("app = 1\n")
    run("deploy", tmp_path / "site.py", "--contract", "web")
    lines = run("ls").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "hello", "site"]
    assert [line.split()[1] for line in lines[1:]] == ["aws", "web"]
    assert [f["name"] for f in json.loads(run("ls", "--json").stdout)] == ["hello", "site"]


def test_ls_of_an_empty_node_says_how_to_begin(node):
    result = run("ls")
    assert (result.exit_code, result.stdout) == (0, "") and "ondol deploy" in result.stderr
    assert json.loads(run("ls", "--json").stdout) == []


def test_show_tells_all_about_one_function(deployed):
    text = run("show", "hello").stdout
    assert re.search(r"handler +lambda_function\.lambda_handler", text)
    assert re.search(r"memory +128 MiB", text) and re.search(r"aliases +live", text) and re.search(r"versions +none", text)
    assert json.loads(run("show", "hello", "--json").stdout)["memory_mib"] == 128


def test_show_names_the_version_without_a_number(deployed):
    deployed.functions["hello"]["versions"] = [-1, 1]
    assert re.search(r"versions +published, 1$", run("show", "hello").stdout, re.MULTILINE)


def test_rm_removes_and_says_so(deployed):
    assert "hello removed" in run("rm", "hello").stderr
    assert not deployed.functions
    result = run("rm", "hello")
    assert result.exit_code == 4 and "function not found: hello" in sentence(result)
    assert run("rm").exit_code == 2


# Finding the node -----------------------------------------------------------------------------------------------------------


def test_env_prints_what_a_shell_can_evaluate(node):
    lines = run("env").stdout.splitlines()
    assert f"export AWS_ENDPOINT_URL={node.endpoint}" in lines
    assert f"export AWS_ACCESS_KEY_ID={KEY}" in lines
    assert f"export AWS_SECRET_ACCESS_KEY={SECRET}" in [line.replace("'", "") for line in lines]
    assert "export AWS_REGION=us-east-1" in lines
    assert "export AWS_DISABLE_HOST_PREFIX_INJECTION=true" in lines
    assert json.loads(run("env", "--json").stdout)["AWS_SECRET_ACCESS_KEY"] == SECRET


def test_the_aws_variables_win_over_the_data_directory(node, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    result = run("ls")
    assert result.exit_code == 3
    assert "no node answers at http://127.0.0.1:1 (from AWS_ENDPOINT_URL)" in sentence(result)
    assert run("ls", "--node", tmp_path / ".ondol").exit_code == 0
    assert run("ls", "--node", node.endpoint).exit_code == 0
    assert "Credential=other/" in node.requests[-1].headers["authorization"]


def test_an_address_alone_borrows_the_keys_of_the_data_directory(node):
    assert run("ls", "--node", node.endpoint).exit_code == 0
    assert f"Credential={KEY}/" in node.requests[-1].headers["authorization"]


def test_other_settings_of_the_aws_clients_do_not_matter(deployed, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_PROFILE", "absent")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    (tmp_path / "config").write_text("[default]\nregion = nowhere\nretry_mode = bogus\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert run("invoke", "hello").exit_code == 0
    assert run("ls").exit_code == 0


@pytest.mark.parametrize("command", [("env",), ("ls",), ("invoke", "hello"), ("logs", "hello"), ("show", "x"), ("rm", "x")])
def test_without_a_node_every_command_says_how_to_start_one(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    result = run(*command)
    assert result.exit_code == 3
    assert "start one with 'ondol up'" in sentence(result)


@pytest.mark.parametrize("content", ["", "[]", "{", "\0"])
def test_a_broken_file_of_the_node_is_one_sentence(node, tmp_path, content):
    (tmp_path / ".ondol" / "run" / "node.json").write_text(content)
    result = run("ls")
    assert result.exit_code == 3
    assert "node.json" in sentence(result)


def test_a_node_that_stopped_is_noticed_by_env(node, tmp_path):
    facts = {"endpoint": "http://127.0.0.1:1"}
    (tmp_path / ".ondol" / "run" / "node.json").write_text(json.dumps(facts))
    assert run("env").exit_code == 3


def test_something_that_is_no_node_is_not_believed(node):
    node.own = lambda *_: (200, {}, b"[1, 2]")
    assert run("ls").exit_code == 3
    node.own = lambda *_: (503, {}, b"<html>busy</html>")
    result = run("ls")
    assert result.exit_code == 4 and "answered 503" in sentence(result)


# Manners --------------------------------------------------------------------------------------------------------------------


def test_a_mistyped_command_is_answered_with_the_nearest():
    result = run("deplyo", "x")
    assert result.exit_code == 2 and "did you mean 'deploy'?" in sentence(result)
    assert run("xyzzy").exit_code == 2


def test_a_setting_that_cannot_be_is_refused_by_every_command(node, monkeypatch):
    monkeypatch.setenv("ONDOL_DAAT", "x")
    result = run("ls")
    assert result.exit_code == 2 and "did you mean ONDOL_DATA?" in sentence(result)


@pytest.mark.parametrize("arguments", [("--listen", "x"), ("--isolation", "docker"), ("--open", "--listen", "0.0.0.0:1")])
def test_up_checks_its_settings_before_anything_starts(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("up", *arguments)
    assert result.exit_code == 2
    sentence(result)
    assert not list(tmp_path.iterdir())


def test_a_mistake_of_our_own_is_one_sentence_too(node, monkeypatch):
    def broken(*_):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("ondol.cli.client.Native.functions", broken)
    result = run("ls")
    assert result.exit_code == 70
    assert "RuntimeError: first second" in sentence(result)


@pytest.mark.parametrize("command", sorted(ondol.commands))
def test_every_command_has_help_with_examples(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Examples:\n" in result.stdout and f"ondol {command}" in result.stdout


def test_without_a_command_the_help_is_shown():
    result = run()
    assert result.exit_code == 2 and result.stdout.startswith("Usage: ondol") and result.stderr == ""
    assert "no such option" in sentence(run("--nope")).lower()


def test_the_version_is_told():
    assert re.fullmatch(r"ondol, version \d+\.\d+\.\d+\n", run("--version").stdout)
