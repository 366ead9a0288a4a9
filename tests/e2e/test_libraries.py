"""Libraries that are made for Lambda, unmodified, inside functions: vendored into the archive or in a layer, called by Invoke and URL."""

import io
import json
import sys
import time
import zipfile

import pytest
import urllib3

from ondol.testing import clients

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
WAIT = {"Delay": 0.05, "MaxAttempts": 400}

POWERTOOLS = """
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.parser import BaseModel, event_parser

logger, tracer, metrics = Logger(service="floor"), Tracer(service="floor"), Metrics(namespace="Rooms", service="floor")
app, processor = LambdaFunctionUrlResolver(), BatchProcessor(event_type=EventType.SQS)


class Order(BaseModel):
    id: int


@app.get("/rooms/<name>")
def room(name):
    return {"room": name, "warm": app.current_event.get_query_string_value("warm")}


@app.post("/rooms")
def add():
    return {"added": app.current_event.json_body}, 201


@app.get("/cellar")
def cellar():
    raise NotFoundError("no cellar")


@tracer.capture_lambda_handler
@logger.inject_lambda_context(log_event=False)
def serve(event, context):
    return app.resolve(event, context)


@metrics.log_metrics(capture_cold_start_metric=True)
@logger.inject_lambda_context
@tracer.capture_lambda_handler
def measure(event, context):
    tracer.put_annotation("room", event["room"])
    metrics.add_metric(name="Warmed", unit=MetricUnit.Count, value=event["count"])
    logger.info("measured", extra={"room": event["room"]})
    return event["count"]


@event_parser(model=Order)
def parse(event, context):
    return event.id + 1


def batch(event, context):
    return process_partial_response(event=event, record_handler=lambda record: int(record.body), processor=processor, context=context)


def parameter(event, context):
    from aws_lambda_powertools.utilities import parameters
    return parameters.get_parameter("/a")
"""

MANGUM = """
from fastapi import FastAPI, Request, Response
from mangum import Mangum

app = FastAPI()


@app.get("/rooms/{number}")
def room(number: int, warm: bool = False):
    return {"room": number, "warm": warm}


@app.post("/echo")
async def echo(request: Request, response: Response):
    response.set_cookie("seen", "yes")
    return Response(await request.body(), media_type="application/octet-stream", headers={"x-from": request.headers["x-to"]})


handler = Mangum(app, lifespan="off")
"""

FLASK = """
from flask import Flask, request

app = Flask("rooms")


@app.get("/rooms/<int:number>")
def room(number):
    return {"room": number, "warm": request.args.get("warm")}


@app.post("/echo")
def echo():
    return request.get_data(), 200, {"content-type": "application/octet-stream", "x-from": request.headers["x-to"]}


"""
APIG = "from apig_wsgi import make_lambda_handler\nhandler = make_lambda_handler(app, binary_support=True)\n"
SERVERLESS = (
    "import serverless_wsgi\ndef handler(event, context):\n    return serverless_wsgi.handle_request(app, event, context)\n"
)


@pytest.fixture
def put(aws, name):
    """Creates a function and waits for it; removes all of the test's afterwards."""
    made = []

    def put(archive, handler="app.handler", **settings):
        called = f"{name}-{len(made)}"
        aws.create_function(
            FunctionName=called, Runtime=RUNTIME, Handler=handler, Role="arn:aws:iam::000000000000:role/any", MemorySize=512,
            Timeout=30, Code={"ZipFile": archive}, **settings,
        )  # fmt: skip
        made.append(called)
        aws.get_waiter("function_active_v2").wait(FunctionName=called, WaiterConfig=WAIT)
        return called

    yield put
    for called in made:
        aws.delete_function(FunctionName=called)


@pytest.fixture
def opened(node, aws):
    """Gives a function a public URL; what answers is (status, headers, body)."""

    def opened(function):
        url_id = (
            aws.create_function_url_config(FunctionName=function, AuthType="NONE")["FunctionUrl"].split("/")[2].split(".")[0]
        )
        aws.add_permission(
            FunctionName=function,
            StatementId="all",
            Principal="*",
            Action="lambda:InvokeFunctionUrl",
            FunctionUrlAuthType="NONE",
        )

        def ask(method, path, body=None, **headers):
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            with urllib3.PoolManager(retries=False, timeout=60) as pool:
                answer = pool.request(method, f"{node.endpoint}/lambda-url/{url_id}{path}", body=body, headers=named)
            return answer.status, answer.headers, answer.data

        return ask

    return opened


def answer(aws, function, event):
    response = aws.invoke(FunctionName=function, Payload=json.dumps(event))
    return json.loads(response["Payload"].read())


def until(see, seconds=20):
    deadline = time.monotonic() + seconds
    while not (found := see()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


@pytest.fixture(scope="module")
def powertools(aws):
    """Powertools as a layer."""
    site = clients.vendored("aws-lambda-powertools[parser,tracer]")
    made = aws.publish_layer_version(LayerName="powertools", Content={"ZipFile": clients.packed(site, "python/")})
    yield made["LayerVersionArn"]
    aws.delete_layer_version(LayerName="powertools", VersionNumber=made["Version"])


@pytest.fixture
def tool(put, powertools):
    """A function with that layer, by its handler's name."""

    def tool(handler):
        return put(packed_code(POWERTOOLS), f"app.{handler}", Layers=[powertools])

    return tool


def packed_code(text):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("app.py", text)
    return made.getvalue()


def test_powertools_logs_json_and_its_metrics_arrive(node, aws, tool):
    function = tool("measure")
    assert answer(aws, function, {"room": "kitchen", "count": 3}) == 3

    def messages():
        events = node.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
        return [json.loads(event["message"]) for event in events if event["message"].startswith("{")]

    [line] = until(lambda: [each for each in messages() if each.get("message") == "measured"])
    assert (line["room"], line["service"], line["cold_start"], line["function_name"]) == ("kitchen", "floor", True, function)
    found = until(lambda: node.client("cloudwatch").list_metrics(Namespace="Rooms", MetricName="Warmed")["Metrics"])
    assert {each["Name"]: each["Value"] for each in found[0]["Dimensions"]} == {"service": "floor"}


def test_powertools_routes_a_functions_url(opened, tool):
    ask = opened(tool("serve"))
    status, _, body = ask("GET", "/rooms/kitchen?warm=yes")
    assert (status, json.loads(body)) == (200, {"room": "kitchen", "warm": "yes"})
    status, _, body = ask("POST", "/rooms", b'{"name": "attic"}', content_type="application/json")
    assert (status, json.loads(body)) == (201, {"added": {"name": "attic"}})
    status, _, body = ask("GET", "/cellar")
    assert (status, json.loads(body)["message"]) == (404, "no cellar")


def test_powertools_parses_and_reports_partly_failed_batches(aws, tool):
    assert answer(aws, tool("parse"), {"id": 4}) == 5
    record = {"eventSource": "aws:sqs", "attributes": {}, "messageAttributes": {}, "receiptHandle": "r", "md5OfBody": "m"}
    event = {"Records": [{**record, "messageId": text, "body": text} for text in ("1", "no", "2")]}
    assert answer(aws, tool("batch"), event) == {"batchItemFailures": [{"itemIdentifier": "no"}]}


def test_powertools_is_told_that_a_service_is_not_here(aws, tool):
    failure = answer(aws, tool("parameter"), {})
    assert failure["errorType"] == "GetParameterError"
    assert "Ondol does not have ssm (GetParameter)" in failure["errorMessage"]


@pytest.mark.parametrize(
    ("source", "packages"),
    [
        pytest.param(MANGUM, ("fastapi", "mangum"), id="mangum-and-fastapi"),
        pytest.param(FLASK + APIG, ("flask", "apig-wsgi"), id="apig-wsgi-and-flask"),
        pytest.param(FLASK + SERVERLESS, ("flask", "serverless-wsgi"), id="serverless-wsgi-and-flask"),
    ],
)
def test_a_web_framework_serves_a_functions_url(opened, put, source, packages):
    ask = opened(put(clients.packed(clients.vendored(*packages), app=source)))
    status, _, body = ask("GET", "/rooms/7?warm=true")
    assert (status, json.loads(body)["room"]) == (200, 7)
    assert json.loads(body)["warm"] in (True, "true")
    binary = bytes(range(256))
    status, headers, body = ask("POST", "/echo", binary, x_to="attic", content_type="application/octet-stream")
    assert (status, body, headers["x-from"]) == (200, binary, "attic")
    assert ask("GET", "/nothing")[0] == 404
