"""Other AWS services beside the node: passed on to an emulator that the node starts, with the rights that a role's policies give."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest
import urllib3
from botocore.exceptions import ClientError

from ondol.testing import clients
from ondol.testing.iam import document, make_role, statement
from ondol.testing.load import until
from ondol.testing.node import STOP_S_MAX, ondol, running_node, zipped

SECONDS_MAX = 60

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

POLICY = document(
    statement("s3:PutObject", "arn:aws:s3:::things/mine/*"),
    statement("sqs:*", "arn:aws:sqs:*:*:jobs"),
    statement("dynamodb:*Item", "arn:aws:dynamodb:*:*:table/things"),
)
USING = """
import boto3
def handler(event, context):
    made = {}
    def attempt(name, service, operation, **parameters):
        client = boto3.client(service)
        try:
            made[name] = getattr(client, operation)(**parameters)["ResponseMetadata"]["HTTPStatusCode"]
        except client.exceptions.ClientError as error:
            made[name] = error.response["Error"]["Code"]
    attempt("mine", "s3", "put_object", Bucket="things", Key="mine/large", Body=b"x" * 300_000)
    attempt("not mine", "s3", "put_object", Bucket="things", Key="yours/large", Body=b"x")
    attempt("reading", "s3", "get_object", Bucket="things", Key="mine/large")
    attempt("removing", "s3", "delete_objects", Bucket="things", Delete={"Objects": [{"Key": "mine/large"}]})
    attempt("queue", "sqs", "create_queue", QueueName="jobs")
    attempt("another queue", "sqs", "create_queue", QueueName="others")
    attempt("item", "dynamodb", "put_item", TableName="things", Item={"id": {"S": "1"}})
    attempt("another item", "dynamodb", "batch_write_item",
            RequestItems={"others": [{"PutRequest": {"Item": {"id": {"S": "1"}}}}]})
    attempt("topics", "sns", "list_topics")
    return made
"""


ONCE = """
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, idempotent

@idempotent(persistence_store=DynamoDBPersistenceLayer(table_name="things"))
def handler(event, context):
    print("paying", event["order"])
    return {"paid": event["order"], "by": context.aws_request_id}
"""


@pytest.fixture(scope="module")
def emulated(possible):
    pytest.importorskip("moto", reason="pip install 'ondol[emulator]'")
    with running_node("--with-emulator") as node:
        s3, dynamodb, iam = node.client("s3"), node.client("dynamodb"), node.client("iam")
        s3.create_bucket(Bucket="things")
        for table in ("things", "others"):
            dynamodb.create_table(
                TableName=table, KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            )  # fmt: skip
        make_role(iam, "worker", data=POLICY)
        yield node


def create(node, name, **code):
    lambda_ = node.client("lambda")
    account = node.credentials.get("AWS_ACCOUNT_ID") or node.client("sts").get_caller_identity()["Account"]
    lambda_.create_function(FunctionName=name, Runtime="python3.11", Handler="app.handler", Timeout=60,
                            Role=f"arn:aws:iam::{account}:role/worker", Code=code)  # fmt: skip
    lambda_.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    return lambda_


def test_what_an_owner_puts_comes_back_whole(emulated):
    s3, large = emulated.client("s3"), os.urandom(9_000_000)
    s3.put_object(Bucket="things", Key="a large/thing", Body=large)
    assert s3.get_object(Bucket="things", Key="a large/thing")["Body"].read() == large


def test_a_presigned_address_answers_whoever_has_it(emulated):
    s3 = emulated.client("s3", signature_version="s3v4")
    s3.put_object(Bucket="things", Key="lent", Body=b"to you")
    address = s3.generate_presigned_url("get_object", Params={"Bucket": "things", "Key": "lent"})
    assert urllib3.request("GET", address).data == b"to you"
    assert urllib3.request("GET", address[:-4] + "0000").status == 403


def test_the_aws_command_copies_to_and_fro(emulated, tmp_path):
    (tmp_path / "here").write_text("text")
    assert emulated.aws_raw("s3", "cp", str(tmp_path / "here"), "s3://things/copied").returncode == 0
    assert emulated.aws_raw("s3", "cp", "s3://things/copied", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_text() == "text"


def test_queues_and_topics_belong_to_the_node_s_account(emulated):
    account = emulated.client("sts").get_caller_identity()["Account"]
    assert f":{account}:" in emulated.client("sns").create_topic(Name="news")["TopicArn"]
    queues = emulated.client("sqs")
    url = queues.create_queue(QueueName="owned")["QueueUrl"]
    queues.send_message(QueueUrl=url, MessageBody="hello")
    assert [each["Body"] for each in queues.receive_message(QueueUrl=url)["Messages"]] == ["hello"]


def test_a_function_is_made_of_an_archive_in_a_bucket_and_may_what_its_role_says(emulated):
    emulated.client("s3").put_object(Bucket="things", Key="code.zip", Body=zipped({"app.py": USING}))
    lambda_ = create(emulated, "using", S3Bucket="things", S3Key="code.zip")
    assert json.loads(lambda_.invoke(FunctionName="using")["Payload"].read()) == {
        "mine": 200,
        "not mine": "AccessDenied",
        "reading": "AccessDenied",
        "removing": "AccessDenied",
        "queue": 200,
        "another queue": "AccessDeniedException",
        "item": 200,
        "another item": "AccessDeniedException",
        "topics": "AccessDenied",
    }


def test_an_archive_that_is_not_there_is_refused_as_lambda_does(emulated):
    lambda_ = create(emulated, "missing", ZipFile=zipped({"app.py": "def handler(e, c): return 1"}))
    for place, code, message in (
        ({"S3Bucket": "nowhere", "S3Key": "k"}, "NoSuchBucket", "The specified bucket does not exist"),
        ({"S3Bucket": "things", "S3Key": "none"}, "NoSuchKey", "The specified key does not exist."),
    ):
        with pytest.raises(ClientError) as refused:
            lambda_.update_function_code(FunctionName="missing", **place)
        assert refused.value.response["Error"] == {
            "Code": "InvalidParameterValueException",
            "Message": f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}",
        }


def test_a_layer_is_made_of_an_archive_in_a_bucket(emulated):
    emulated.client("s3").put_object(Bucket="things", Key="layer.zip", Body=zipped({"python/x.py": "y = 1"}))
    made = emulated.client("lambda").publish_layer_version(LayerName="l", Content={"S3Bucket": "things", "S3Key": "layer.zip"})
    assert made["Version"] == 1


def test_powertools_idempotency_keeps_its_records_in_the_upstreams_dynamodb(emulated):
    lambda_ = create(emulated, "once", ZipFile=clients.packed(clients.vendored("aws-lambda-powertools"), app=ONCE))

    def pay(order):
        return json.loads(lambda_.invoke(FunctionName="once", Payload=json.dumps({"order": order}))["Payload"].read())

    first = pay(7)
    assert first["paid"] == 7
    assert pay(7) == first, "the answer that is kept, request id and all"
    assert pay(8)["by"] != first["by"]
    kept = emulated.client("dynamodb").scan(TableName="things")["Items"]
    assert [each["status"]["S"] for each in kept if each["id"]["S"].startswith("once.")] == ["COMPLETED"] * 2


def _emulator(node):
    for pid in reversed(node.processes()):
        with contextlib.suppress(OSError):
            if b"ondol.node.emulator" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return None


def test_an_emulator_that_is_killed_is_started_again(emulated):
    """The last test of this module: what the emulator held is gone."""
    first = _emulator(emulated)
    os.kill(first, signal.SIGKILL)
    until(lambda: _emulator(emulated) not in (None, first), SECONDS_MAX)
    assert emulated.client("sqs").list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_node_that_is_killed_takes_its_emulator_along(possible):
    pytest.importorskip("moto", reason="pip install 'ondol[emulator]'")
    with running_node("--with-emulator") as node:
        emulator = _emulator(node)
        node.stop(signal.SIGKILL)
        until(lambda: not Path(f"/proc/{emulator}").exists(), STOP_S_MAX)


@pytest.mark.parametrize("service, operation", [
    ("s3", "list_buckets"), ("sqs", "list_queues"), ("sns", "list_topics"), ("dynamodb", "list_tables"),
    ("ec2", "describe_instances"), ("scheduler", "list_schedules"), ("route53", "list_hosted_zones"),
])  # fmt: skip
def test_without_an_upstream_each_service_s_client_reads_how_to_get_one(node, service, operation):
    with pytest.raises(ClientError) as refused:
        getattr(node.client(service), operation)()
    assert refused.value.response["Error"]["Code"] == "NotImplemented"
    assert "--with-emulator" in refused.value.response["Error"]["Message"]


def test_the_node_is_no_upstream_of_its_own(tmp_path):
    done = ondol("up", "--listen", "127.0.0.1:7", "--upstream", "http://127.0.0.1:7", "--data", str(tmp_path / "d"))
    assert done.returncode != 0
