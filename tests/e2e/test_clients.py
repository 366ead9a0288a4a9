"""Unmodified boto3 and the aws command against a whole node."""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import re
import time
import urllib.request
import zipfile
from collections import Counter

import boto3
import pytest
import urllib3
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from ondol.runtimes.interpreters import Interpreters
from ondol.testing.node import running_node, zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ROLE = "arn:aws:iam::000000000000:role/any"
ECHO = "def handler(event, context):\n    return event\n"
WAIT = {"Delay": 0.05, "MaxAttempts": 400}


def saying(text):
    return f"def handler(event, context):\n    print('here', {text!r})\n    return {text!r}\n"


def answer(response):
    return json.loads(response["Payload"].read())


def tail(response):
    return base64.b64decode(response["LogResult"]).decode()


def refused(call, **arguments):
    """The error that boto3 raises: (code, status, message)."""
    with pytest.raises(ClientError) as failure:
        call(**arguments)
    response = failure.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"].get("Message", "")


def until(see, seconds=20):
    """Wait for what happens soon; what `see` gave."""
    deadline = time.monotonic() + seconds
    while not (found := see()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def logged(node, function):
    """Every message of the function's log."""
    logs = node.client("logs")
    try:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{function}")
        return [event["message"] for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []


# boto3: the life of a function ------------------------------------------------------------------------------------------
def test_a_function_lives_from_creation_to_deletion(aws, name):
    made = aws.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="app.handler",
        Role=ROLE,
        Code={"ZipFile": zipped({"app.py": saying("one")})},
    )
    assert made["State"] in ("Pending", "Active")
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=WAIT)
    called = aws.invoke(FunctionName=name, LogType="Tail")
    assert (called["StatusCode"], called["ExecutedVersion"], answer(called)) == (200, "$LATEST", "one")
    assert re.search(r"START RequestId: \S+ Version: \$LATEST\nhere one\nEND RequestId: \S+\nREPORT RequestId: ", tail(called))

    aws.update_function_code(FunctionName=name, ZipFile=zipped({"app.py": saying("two")}))
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=WAIT)
    assert answer(aws.invoke(FunctionName=name)) == "two"

    aws.delete_function(FunctionName=name)
    assert refused(aws.invoke, FunctionName=name)[:2] == ("ResourceNotFoundException", 404)
    assert refused(aws.get_function, FunctionName=name)[:2] == ("ResourceNotFoundException", 404)


def test_no_call_after_an_update_runs_old_code(aws, deploy):
    function = deploy("def handler(event, context):\n    return 0\n")
    for number in range(1, 6):
        aws.update_function_code(
            FunctionName=function, ZipFile=zipped({"app.py": f"def handler(event, context):\n    return {number}\n"})
        )
        aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=WAIT)
        assert [answer(aws.invoke(FunctionName=function)) for _ in range(3)] == [number] * 3


@pytest.mark.parametrize("change", ["update", "delete"])
def test_a_call_under_way_ends_well_whatever_happens_to_its_function(node, aws, deploy, change):
    function = deploy(
        "import time\ndef handler(event, context):\n    print('in'); time.sleep(event)\n    return 'old'\n", Timeout=20
    )
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(aws.invoke, FunctionName=function, Payload=b"2")
        until(lambda: any(line.startswith("in") for line in logged(node, function)))
        if change == "update":
            aws.update_function_code(FunctionName=function, ZipFile=zipped({"app.py": saying("new")}))
            aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=WAIT)
            assert answer(aws.invoke(FunctionName=function)) == "new"
        else:
            aws.delete_function(FunctionName=function)
            assert refused(aws.invoke, FunctionName=function)[:2] == ("ResourceNotFoundException", 404)
        assert answer(under_way.result()) == "old"


def test_a_new_configuration_reaches_the_function(aws, deploy):
    function = deploy(
        "import os\ndef handler(event, context):\n    return [os.environ.get('MODE'), context.memory_limit_in_mb]\n"
    )
    assert answer(aws.invoke(FunctionName=function)) == [None, "128"]
    aws.update_function_configuration(FunctionName=function, MemorySize=256, Environment={"Variables": {"MODE": "fast"}})
    aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=WAIT)
    assert answer(aws.invoke(FunctionName=function)) == ["fast", "256"]


def test_an_event_is_taken_at_once_and_done_soon(node, aws, deploy):
    function = deploy("def handler(event, context):\n    print('done with', event['n'])\n")
    called = aws.invoke(FunctionName=function, InvocationType="Event", Payload=b'{"n": 17}')
    assert called["StatusCode"] == 202
    assert called["Payload"].read() == b""
    assert until(lambda: [line for line in logged(node, function) if "done with 17" in line])


def test_a_dry_run_runs_nothing(node, aws, deploy):
    function = deploy(saying("ran"))
    called = aws.invoke(FunctionName=function, InvocationType="DryRun")
    assert (called["StatusCode"], called["Payload"].read()) == (204, b"")
    assert answer(aws.invoke(FunctionName=function)) == "ran"
    assert until(lambda: [line for line in logged(node, function) if line.startswith("REPORT")])
    assert len([line for line in logged(node, function) if line.startswith("START")]) == 1


def test_client_context_and_qualifier_arrive(aws, deploy):
    function = deploy(
        "def handler(event, context):\n"
        "    client = context.client_context\n"
        "    return [client.custom, client.client.app_title, context.invoked_function_arn, context.function_version]\n"
    )
    aws.publish_version(FunctionName=function)
    context = base64.b64encode(json.dumps({"custom": {"a": 1}, "client": {"app_title": "T"}}).encode()).decode()
    called = aws.invoke(FunctionName=function, ClientContext=context, Qualifier="1")
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{function}:1"
    assert answer(called) == [{"a": 1}, "T", arn, "1"]
    assert called["ExecutedVersion"] == "1"


@pytest.mark.parametrize("form", ["{}", "000000000000:function:{}", "arn:aws:lambda:us-east-1:000000000000:function:{}"])
def test_a_function_is_called_by_each_form_of_its_name(aws, deploy, form):
    assert answer(aws.invoke(FunctionName=form.format(deploy(ECHO)), Payload=b"[1]")) == [1]


def test_an_alias_shifts_its_weight_from_version_to_version(aws, deploy):
    function = deploy(saying("one"))
    aws.publish_version(FunctionName=function)
    aws.update_function_code(FunctionName=function, ZipFile=zipped({"app.py": saying("two")}))
    aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=WAIT)
    assert aws.publish_version(FunctionName=function)["Version"] == "2"
    aws.create_alias(FunctionName=function, Name="live", FunctionVersion="1")

    def drawn(count):
        calls = [aws.invoke(FunctionName=function, Qualifier="live") for _ in range(count)]
        assert {("1", "one"), ("2", "two")} >= {(call["ExecutedVersion"], answer(call)) for call in calls}
        return Counter(call["ExecutedVersion"] for call in calls)

    assert drawn(5) == {"1": 5}
    aws.update_alias(FunctionName=function, Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    # One side missing in 60 fair draws happens once in 2**59 runs.
    assert set(drawn(60)) == {"1", "2"}
    aws.update_alias(FunctionName=function, Name="live", FunctionVersion="2", RoutingConfig={"AdditionalVersionWeights": {}})
    assert drawn(5) == {"2": 5}
    aws.delete_alias(FunctionName=function, Name="live")
    assert refused(aws.invoke, FunctionName=function, Qualifier="live")[:2] == ("ResourceNotFoundException", 404)


def test_a_published_version_keeps_its_code(aws, deploy):
    function = deploy(saying("old"))
    aws.publish_version(FunctionName=function)
    aws.update_function_code(FunctionName=function, ZipFile=zipped({"app.py": saying("new")}))
    aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=WAIT)
    assert answer(aws.invoke(FunctionName=function, Qualifier="1")) == "old"
    assert answer(aws.invoke(FunctionName=function)) == "new"
    assert answer(aws.invoke(FunctionName=function, Qualifier="$LATEST")) == "new"


def test_a_stale_revision_is_refused_and_changes_nothing(aws, deploy):
    function = deploy(saying("old"))
    stale = aws.get_function_configuration(FunctionName=function)["RevisionId"]
    aws.update_function_configuration(FunctionName=function, Description="x")
    aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=WAIT)
    code = zipped({"app.py": saying("new")})
    assert refused(aws.update_function_code, FunctionName=function, ZipFile=code, RevisionId=stale)[:2] == (
        "PreconditionFailedException",
        412,
    )
    assert answer(aws.invoke(FunctionName=function)) == "old"
    fresh = aws.get_function_configuration(FunctionName=function)["RevisionId"]
    aws.update_function_code(FunctionName=function, ZipFile=code, RevisionId=fresh)
    aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=WAIT)
    assert answer(aws.invoke(FunctionName=function)) == "new"


def test_the_code_comes_back_as_it_was_sent(aws, name):
    archive = zipped({"app.py": ECHO, "data/blob": bytes(range(256)) * 50})
    aws.create_function(FunctionName=name, Runtime="python3.11", Handler="app.handler", Role=ROLE, Code={"ZipFile": archive})
    location = aws.get_function(FunctionName=name)["Code"]["Location"]
    with urllib.request.urlopen(location) as response:
        downloaded = response.read()
    assert downloaded == archive
    assert zipfile.ZipFile(io.BytesIO(downloaded)).read("app.py").decode() == ECHO
    aws.delete_function(FunctionName=name)


def test_a_spoilt_download_link_is_refused(aws, deploy):
    location = aws.get_function(FunctionName=deploy(ECHO))["Code"]["Location"]
    spoilt = location[:-1] + ("0" if location[-1] != "0" else "1")
    with urllib3.PoolManager() as pool:
        assert pool.request("GET", spoilt).status in (400, 403)
        assert pool.request("GET", location.partition("?")[0]).status in (400, 401, 403)


# Amounts ----------------------------------------------------------------------------------------------------------------
def test_ten_threads_at_once_each_get_their_own_answer(aws, deploy):
    function = deploy("import time\ndef handler(event, context):\n    time.sleep(0.02)\n    return event\n")

    def calls(thread):
        return all(
            answer(aws.invoke(FunctionName=function, Payload=json.dumps([thread, call]))) == [thread, call]
            for call in range(10)
        )

    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        assert list(threads.map(calls, range(10))) == [True] * 10


def test_ten_threads_make_and_remove_functions_at_once(aws, name):
    def life(thread):
        called = f"{name}-t{thread}"
        code = zipped({"app.py": saying(called)})
        aws.create_function(FunctionName=called, Runtime="python3.11", Handler="app.handler", Role=ROLE, Code={"ZipFile": code})
        aws.get_waiter("function_active_v2").wait(FunctionName=called, WaiterConfig=WAIT)
        said = answer(aws.invoke(FunctionName=called))
        aws.delete_function(FunctionName=called)
        return said

    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        assert list(threads.map(life, range(10))) == [f"{name}-t{thread}" for thread in range(10)]


def test_six_megabytes_go_in_and_come_out(aws, deploy):
    function = deploy(ECHO, Timeout=30, MemorySize=512)
    text = "x" * (6 * 1024 * 1024 - 2)
    assert answer(aws.invoke(FunctionName=function, Payload=json.dumps(text))) == text


def test_more_than_six_megabytes_are_refused(aws, deploy):
    function = deploy(ECHO)
    code, status, message = refused(aws.invoke, FunctionName=function, Payload=json.dumps("x" * (6 * 1024 * 1024)))
    assert (code, status) == ("RequestEntityTooLargeException", 413)
    assert "6291456" in message


def test_an_answer_over_the_limit_is_the_functions_error(aws, deploy):
    function = deploy("def handler(event, context):\n    return 'x' * event\n", Timeout=30, MemorySize=512)
    called = aws.invoke(FunctionName=function, Payload=b"6291600")
    assert called["FunctionError"] == "Unhandled"
    assert answer(called) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert answer(aws.invoke(FunctionName=function, Payload=b"3")) == "xxx"


def test_a_body_that_is_no_json_is_refused(aws, deploy):
    code, status, message = refused(aws.invoke, FunctionName=deploy(ECHO), Payload=b"\x87\x00")
    assert (code, status) == ("InvalidRequestContentException", 400)
    assert message.startswith("Could not parse request body into json:")


# Refusals ---------------------------------------------------------------------------------------------------------------
def test_reserved_concurrency_of_nothing_throttles_every_call(aws, deploy):
    function = deploy(ECHO)
    aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    assert until(lambda: THROTTLED == attempt(aws, function, b"1"))
    aws.delete_function_concurrency(FunctionName=function)
    assert until(lambda: attempt(aws, function, b"1") == 1)


def test_reserved_concurrency_of_one_throttles_the_second_call(node, aws, deploy):
    function = deploy("import time\ndef handler(event, context):\n    print('in'); time.sleep(event)\n", Timeout=20)
    aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=1)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(aws.invoke, FunctionName=function, Payload=b"2")
        until(lambda: any(line.startswith("in") for line in logged(node, function)))
        assert attempt(aws, function, b"0") == THROTTLED
        assert answer(first.result()) is None
    assert attempt(aws, function, b"0") is None


THROTTLED = ("TooManyRequestsException", 429, "Rate Exceeded.", "ReservedFunctionConcurrentInvocationLimitExceeded")


def attempt(aws, function, payload):
    """The function's answer, or what the throttling said."""
    try:
        return answer(aws.invoke(FunctionName=function, Payload=payload))
    except aws.exceptions.TooManyRequestsException as error:
        response = error.response
        status = response["ResponseMetadata"]["HTTPStatusCode"]
        return response["Error"]["Code"], status, response["Error"]["Message"], response["Reason"]


def test_an_account_with_no_room_left_throttles(possible):
    with running_node("--concurrency-max", "1") as node:
        aws = node.client("lambda")
        aws.create_function(
            FunctionName="slow", Runtime="python3.11", Handler="app.handler", Role=ROLE,
            Code={"ZipFile": zipped({"app.py": "import time\ndef handler(event, context):\n    print('in'); time.sleep(event)\n"})},
        )  # fmt: skip
        aws.get_waiter("function_active_v2").wait(FunctionName="slow", WaiterConfig=WAIT)
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            first = threads.submit(aws.invoke, FunctionName="slow", Payload=b"2")
            until(lambda: any(line.startswith("in") for line in logged(node, "slow")))
            code, status, message = refused(aws.invoke, FunctionName="slow", Payload=b"0")
            assert (code, status, message) == ("TooManyRequestsException", 429, "Rate Exceeded.")
            assert first.result()["StatusCode"] == 200
        assert aws.invoke(FunctionName="slow", Payload=b"0")["StatusCode"] == 200


def signed(node, *, secret=None, path="/2015-03-31/functions/", query=False, expires=60):
    request = AWSRequest(method="GET", url=node.endpoint + path)
    credentials = Credentials(node.credentials["AWS_ACCESS_KEY_ID"], secret or node.credentials["AWS_SECRET_ACCESS_KEY"])
    made = (
        SigV4QueryAuth(credentials, "lambda", "us-east-1", expires=expires)
        if query
        else SigV4Auth(credentials, "lambda", "us-east-1")
    )
    made.add_auth(request)
    return request.prepare()


def sent(prepared):
    with urllib3.PoolManager() as pool:
        return pool.request(prepared.method, prepared.url, headers=dict(prepared.headers))


def test_a_wrong_signature_gets_awss_body(node):
    response = sent(signed(node, secret="wrong"))
    assert response.status == 403
    assert response.headers["x-amzn-errortype"].startswith("InvalidSignatureException")
    assert response.json()["message"].startswith(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"
    )


def test_a_right_signature_in_header_or_query_is_taken(node):
    assert sent(signed(node)).status == 200
    assert sent(signed(node, query=True)).status == 200


def test_an_unsigned_request_is_refused(node):
    with urllib3.PoolManager() as pool:
        response = pool.request("GET", node.endpoint + "/2015-03-31/functions/")
    assert response.status == 403
    assert response.headers["x-amzn-errortype"].startswith("MissingAuthenticationTokenException")


def test_an_expired_presigned_link_is_refused(node):
    prepared = signed(node, query=True, expires=1)
    time.sleep(2.1)
    response = sent(prepared)
    assert response.status == 403
    assert b"expired" in response.data.lower()


def test_an_unknown_key_is_refused(node):
    stranger = boto3.client(
        "lambda",
        endpoint_url=node.endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKIAUNKNOWNUNKNOWN00",
        aws_secret_access_key="x",
    )
    assert refused(stranger.list_functions)[:2] == ("UnrecognizedClientException", 403)


@pytest.fixture(scope="session")
def absent():
    """A Python that AWS takes and this machine does not have."""
    there = {found.name for found in Interpreters.discover().all()}
    for runtime in ("python3.14", "python3.13", "python3.12", "python3.10", "python3.9", "python3.8"):
        if runtime not in there:
            return runtime
    pytest.skip("every Python is on this machine")


@pytest.mark.parametrize("runtime", ["java21", "absent"])
def test_a_missing_runtime_is_named_with_what_to_do(aws, deploy, request, runtime):
    runtime = request.getfixturevalue("absent") if runtime == "absent" else runtime
    function = deploy(ECHO, runtime=runtime)
    code, status, message = refused(aws.invoke, FunctionName=function)
    assert (code, status) == ("InvalidRuntimeException", 502)
    assert runtime in message
    assert len(message) > 40


def test_a_substitute_runs_the_function_and_says_so(possible, absent):
    with running_node("--runtime-substitute", "nearest") as node:
        aws = node.client("lambda")
        aws.create_function(
            FunctionName="old", Runtime=absent, Handler="app.handler", Role=ROLE, Code={"ZipFile": zipped({"app.py": ECHO})}
        )
        aws.get_waiter("function_active_v2").wait(FunctionName="old", WaiterConfig=WAIT)
        assert answer(aws.invoke(FunctionName="old", Payload=b"[2]")) == [2]
        assert until(lambda: [line for line in logged(node, "old") if f"{absent} is not on this machine" in line])
        assert f"instead of {absent}" in node.ondol("show", "old").stdout


def test_an_operation_that_is_not_built_says_so(node):
    code, status, message = refused(node.client("lambda").list_durable_executions_by_function, FunctionName="any")
    assert status in (400, 404, 501)
    assert "ListDurableExecutionsByFunction" in message
    code, status, message = refused(node.client("logs").describe_metric_filters)
    assert status in (400, 501)
    assert "DescribeMetricFilters" in message


def test_a_validation_error_names_the_member(aws):
    code, status, message = refused(
        aws.create_function,
        FunctionName="x",
        Runtime="python9.9",
        Handler="a.b",
        Role=ROLE,
        Code={"ZipFile": zipped({"a.py": ""})},
    )
    assert status == 400
    assert "python9.9" in message


# Other services ---------------------------------------------------------------------------------------------------------
def test_sts_knows_who_asks(node):
    who = node.client("sts").get_caller_identity()
    assert who["Account"] == "000000000000"
    assert who["Arn"].startswith("arn:aws:iam::000000000000:")


def test_logs_are_found_by_group_stream_and_words(node, aws, deploy):
    function = deploy("def handler(event, context):\n    print('word', event)\n")
    for number in (1, 2, 3):
        aws.invoke(FunctionName=function, Payload=json.dumps(number))
    until(lambda: sum(line.startswith("REPORT") for line in logged(node, function)) == 3)
    logs, group = node.client("logs"), f"/aws/lambda/{function}"
    assert [found["logGroupName"] for found in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]] == [group]
    [stream] = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream["logStreamName"])
    events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)["events"]
    words = [event["message"].split()[0] for event in events]
    assert words == ["INIT_START"] + ["START", "word", "END", "REPORT"] * 3
    found = logs.filter_log_events(logGroupName=group, filterPattern="word")["events"]
    assert [event["message"].strip() for event in found] == ["word 1", "word 2", "word 3"]


# The aws command --------------------------------------------------------------------------------------------------------
def test_the_aws_command_makes_calls_and_updates(node, name, tmp_path):
    archive, out = tmp_path / "code.zip", tmp_path / "out.json"
    archive.write_bytes(zipped({"app.py": saying("one")}))
    made = node.aws(
        "lambda", "create-function", "--function-name", name, "--runtime", "python3.11", "--handler", "app.handler",
        "--role", ROLE, "--zip-file", f"fileb://{archive}", "--tags", "team=a",
    )  # fmt: skip
    assert made["FunctionName"] == name
    node.aws("lambda", "wait", "function-active-v2", "--function-name", name)
    called = node.aws("lambda", "invoke", "--function-name", name, "--log-type", "Tail", str(out))
    assert called["StatusCode"] == 200
    assert json.loads(out.read_text()) == "one"
    assert "here one" in base64.b64decode(called["LogResult"]).decode()

    archive.write_bytes(zipped({"app.py": saying("two")}))
    node.aws("lambda", "update-function-code", "--function-name", name, "--zip-file", f"fileb://{archive}")
    node.aws("lambda", "wait", "function-updated-v2", "--function-name", name)
    node.aws("lambda", "invoke", "--function-name", name, str(out))
    assert json.loads(out.read_text()) == "two"


def test_the_aws_command_tags_reads_logs_and_deletes(node, aws, deploy, tmp_path):
    name = deploy(saying("two"), Tags={"team": "a"})
    arn = aws.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    aws.invoke(FunctionName=name)
    node.aws("lambda", "tag-resource", "--resource", arn, "--tags", "tier=b")
    assert node.aws("lambda", "list-tags", "--resource", arn)["Tags"] == {"team": "a", "tier": "b"}
    until(lambda: "here two" in node.aws_raw("logs", "filter-log-events", "--log-group-name", f"/aws/lambda/{name}").stdout)
    node.aws("lambda", "delete-function", "--function-name", name)
    assert "ResourceNotFoundException" in node.aws_raw("lambda", "get-function", "--function-name", name).stderr


def test_lists_come_in_pages(node, aws, name, deploy):
    made = {deploy(ECHO, called=f"{name}-p{number}") for number in range(5)}
    pages = list(aws.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    assert all(len(page["Functions"]) <= 2 for page in pages)
    listed = [function["FunctionName"] for page in pages for function in page["Functions"]]
    assert made <= set(listed)
    assert len(listed) == len(set(listed))
    by_command = node.aws("lambda", "list-functions", "--page-size", "2")["Functions"]
    assert made <= {function["FunctionName"] for function in by_command}
