"""Roles on a whole node: what a running function may is what its role says."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from ondol.testing.iam import allowing, make_role, trusting
from ondol.testing.load import until
from ondol.testing.node import ended, start

SECONDS_MAX = 60

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CALLING = """
import boto3
def handler(event, context):
    client = boto3.client("lambda")
    try:
        return client.invoke(FunctionName=event["call"], Payload="7")["Payload"].read().decode()
    except client.exceptions.ClientError as error:
        return error.response["Error"]["Message"]
"""


@pytest.fixture
def folder():
    top = Path(tempfile.mkdtemp(prefix="ondol-node-"))
    yield top
    shutil.rmtree(top, ignore_errors=True)


@contextlib.contextmanager
def running(data):
    node = start(data)
    try:
        yield node
    finally:
        ended(node)


def answer(aws, name, **event):
    return json.load(aws.invoke(FunctionName=name, Payload=json.dumps(event))["Payload"])


def test_a_function_calls_another_once_its_role_says_so(node, aws, deploy):
    iam, account = node.client("iam"), node.client("sts").get_caller_identity()["Account"]
    called = deploy("def handler(event, context): return event * 6")
    role = make_role(iam, "caller")
    caller = deploy(CALLING)
    aws.update_function_configuration(FunctionName=caller, Role=role, Timeout=30)
    aws.get_waiter("function_updated_v2").wait(FunctionName=caller, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    arn = aws.get_function(FunctionName=called)["Configuration"]["FunctionArn"]
    assert answer(aws, caller, call=called) == (
        f"User: arn:aws:sts::{account}:assumed-role/caller/{caller} is not authorized to perform: lambda:InvokeFunction "
        f"on resource: {arn} because no identity-based policy allows the lambda:InvokeFunction action"
    )
    iam.put_role_policy(RoleName="caller", PolicyName="call", PolicyDocument=allowing("lambda:InvokeFunction", arn))
    assert answer(aws, caller, call=called) == "42"
    assert "not authorized" in answer(aws, caller, call=caller)
    iam.delete_role_policy(RoleName="caller", PolicyName="call")
    assert "not authorized" in answer(aws, caller, call=called)
    iam.delete_role(RoleName="caller")


def test_roles_and_their_sessions_outlive_a_restart(possible, folder):
    here = {"IpAddress": {"aws:SourceIp": ["127.0.0.0/8", "::1/128"]}}
    with running(folder / "data") as node:
        look = allowing(["lambda:List*", "lambda:GetAccountSettings"], Condition=here)
        role = make_role(node.client("iam"), "looker", trusting(AWS="*"), look=look)
        narrow = allowing("lambda:ListFunctions")
        given = node.client("sts").assume_role(RoleArn=role, RoleSessionName="me", Policy=narrow)["Credentials"]
    with running(folder / "data") as node:
        session = boto3.client(
            "lambda", endpoint_url=node.endpoint, region_name="us-east-1", aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"], aws_session_token=given["SessionToken"],
        )  # fmt: skip
        assert session.list_functions()["Functions"] == []
        with pytest.raises(ClientError, match="no session policy allows the lambda:GetAccountSettings action"):
            session.get_account_settings()


CALLING_ITSELF = """
import boto3
def handler(event, context):
    client = boto3.client("lambda")
    try:
        client.invoke(FunctionName=context.function_name, InvocationType="Event", Payload="{}")
    except client.exceptions.ClientError as error:
        print("stopped by", error.response["Error"]["Code"])
"""


def test_a_function_that_calls_itself_for_ever_is_stopped(node, aws, deploy):
    iam, logs = node.client("iam"), node.client("logs")
    role = make_role(iam, "looper", call=allowing("lambda:InvokeFunction"))
    function = deploy(CALLING_ITSELF)
    aws.update_function_configuration(FunctionName=function, Role=role, Timeout=30)
    aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    aws.invoke(FunctionName=function, InvocationType="Event", Payload="{}")

    def said(pattern):
        try:
            return logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", filterPattern=pattern)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []

    until(lambda: said("stopped"), SECONDS_MAX)
    assert said("stopped")[0]["message"].strip() == "stopped by RecursiveInvocationException"
    # Somebody from outside, and sixteen times itself.
    assert len(said('"START RequestId"')) == 17
