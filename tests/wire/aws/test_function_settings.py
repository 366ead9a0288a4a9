"""Recursion, runtime management and code signing of functions."""

import pytest

from ondol.clock import SystemClock
from ondol.dialects.aws import lineage
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.invoke import Invoke
from ondol.dialects.aws.service import ServiceError
from ondol.http.bodies import Whole
from ondol.http.messages import Request
from ondol.model.principals import Kind, Principal
from ondol.testing.aws import EchoInvoker
from ondol.testing.boto import ACCOUNT, OWNER, REGION, blocking, error
from ondol.testing.control import ARN, archive
from ondol.testing.control import control as control_over

PUBLISHERS = {"SigningProfileVersionArns": [f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p"]}
INVALID = "InvalidParameterValueException"


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        await made.create()
        yield made


@pytest.fixture
async def client(control):
    return control.client()


# Recursion --------------------------------------------------------------------------------------------------------------------
async def test_recursion_is_terminated_unless_somebody_allows_it(client):
    assert (await blocking(client.get_function_recursion_config, FunctionName="hello"))["RecursiveLoop"] == "Terminate"
    put = await blocking(client.put_function_recursion_config, FunctionName="hello", RecursiveLoop="Allow")
    assert put["RecursiveLoop"] == "Allow"
    assert (await blocking(client.get_function_recursion_config, FunctionName="hello"))["RecursiveLoop"] == "Allow"
    assert await error(client.get_function_recursion_config, FunctionName="none") == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}none",
    )


def calling(control, kind):
    """A caller that hands the trace header of its last call on."""
    index = control.desk.index
    function = index.handle("aws", ACCOUNT, REGION, "hello")
    grants, invoker = Grants(index, SystemClock()), EchoInvoker()
    invoke = Invoke(index=index, invoker=invoker, grants=grants)
    who = OWNER if kind is Kind.OWNER else Principal(kind=kind, account=ACCOUNT, region=REGION, name=function.id)

    async def call():
        trace = invoker.seen[-1].trace if invoker.seen else ""
        request = Request("POST", "/2015-03-31/functions/hello/invocations", [("x-amzn-trace-id", trace)], Whole(b""))
        await invoke(request, b"{}", who, "id")
        return invoker.seen[-1].trace

    return call


async def test_a_function_that_calls_itself_for_ever_is_stopped(control, client):
    call = calling(control, Kind.FUNCTION)
    for count in range(1, lineage.CALLS_MAX + 1):
        assert (await call()).endswith(f":{count}")
    with pytest.raises(ServiceError) as stopped:
        await call()
    assert (stopped.value.code, stopped.value.status) == ("RecursiveInvocationException", 400)
    await blocking(client.put_function_recursion_config, FunctionName="hello", RecursiveLoop="Allow")
    await call()


async def test_who_is_no_function_may_call_as_often_as_it_likes(control):
    call = calling(control, Kind.OWNER)
    for _ in range(lineage.CALLS_MAX + 2):
        await call()


def test_a_lineage_counts_each_function_apart_and_survives_being_quoted():
    trace, count = lineage.lengthened("Root=1-a-b;Sampled=0;Lineage=1:01234567:0", "one")
    assert count == 1
    trace, count = lineage.lengthened(trace.replace("|", "%7C"), "other")
    assert count == 1
    trace, count = lineage.lengthened(trace.replace("|", "%7C"), "one")
    assert count == 2
    assert trace.startswith("Root=1-a-b;Sampled=0;Lineage=1:01234567:0|")
    for number in range(100):
        trace, _ = lineage.lengthened(trace, str(number))
    assert trace.count("|") == lineage.ENTRIES_MAX - 1


# Runtime management -------------------------------------------------------------------------------------------------------------
async def test_when_a_runtime_may_change(client):
    shown = await blocking(client.get_runtime_management_config, FunctionName="hello")
    assert (shown["UpdateRuntimeOn"], shown["FunctionArn"]) == ("Auto", f"{ARN}hello:$LATEST")
    arn = f"arn:aws:lambda:{REGION}::runtime:{'0' * 64}"
    put = await blocking(
        client.put_runtime_management_config, FunctionName="hello", UpdateRuntimeOn="Manual", RuntimeVersionArn=arn
    )
    assert (put["UpdateRuntimeOn"], put["RuntimeVersionArn"]) == ("Manual", arn)
    assert (await blocking(client.get_runtime_management_config, FunctionName="hello"))["RuntimeVersionArn"] == arn
    for wrong in ({"UpdateRuntimeOn": "Manual"}, {"UpdateRuntimeOn": "Auto", "RuntimeVersionArn": arn}):
        assert (await error(client.put_runtime_management_config, FunctionName="hello", **wrong))[0] == INVALID
    assert (await error(client.get_runtime_management_config, FunctionName="hello", Qualifier="7"))[0] == (
        "ResourceNotFoundException"
    )


# Code signing -------------------------------------------------------------------------------------------------------------------
async def signing(client, **more):
    made = await blocking(client.create_code_signing_config, AllowedPublishers=PUBLISHERS, **more)
    return made["CodeSigningConfig"]


async def test_a_code_signing_configuration_is_made_changed_listed_and_deleted(client):
    made = await signing(client, Description="ours", Tags={"a": "1"})
    arn = made["CodeSigningConfigArn"]
    assert arn == f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:{made['CodeSigningConfigId']}"
    assert made["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    assert (await blocking(client.list_tags, Resource=arn))["Tags"] == {"a": "1"}
    policies = {"UntrustedArtifactOnDeployment": "Enforce"}
    await blocking(client.update_code_signing_config, CodeSigningConfigArn=arn, CodeSigningPolicies=policies)
    shown = (await blocking(client.get_code_signing_config, CodeSigningConfigArn=arn))["CodeSigningConfig"]
    assert (shown["CodeSigningPolicies"], shown["Description"]) == (policies, "ours")
    listed = (await blocking(client.list_code_signing_configs))["CodeSigningConfigs"]
    assert [each["CodeSigningConfigArn"] for each in listed] == [arn]
    await blocking(client.delete_code_signing_config, CodeSigningConfigArn=arn)
    assert await error(client.get_code_signing_config, CodeSigningConfigArn=arn) == (
        "ResourceNotFoundException",
        f"The Lambda code signing configuration {arn} can not be found.",
    )


async def test_a_function_is_bound_to_a_configuration_and_let_go(control, client):
    arn = (await signing(client))["CodeSigningConfigArn"]
    await control.create("signed", CodeSigningConfigArn=arn)
    await blocking(client.put_function_code_signing_config, FunctionName="hello", CodeSigningConfigArn=arn)
    bound = await blocking(client.get_function_code_signing_config, FunctionName="hello")
    assert (bound["CodeSigningConfigArn"], bound["FunctionName"]) == (arn, "hello")
    users = await blocking(client.list_functions_by_code_signing_config, CodeSigningConfigArn=arn)
    assert users["FunctionArns"] == [f"{ARN}hello", f"{ARN}signed"]
    assert (await error(client.delete_code_signing_config, CodeSigningConfigArn=arn))[0] == "ResourceConflictException"
    for name in ("hello", "signed"):
        await blocking(client.delete_function_code_signing_config, FunctionName=name)
    assert "CodeSigningConfigArn" not in await blocking(client.get_function_code_signing_config, FunctionName="hello")
    await blocking(client.delete_code_signing_config, CodeSigningConfigArn=arn)
    gone = f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
    assert await error(client.put_function_code_signing_config, FunctionName="hello", CodeSigningConfigArn=arn) == (
        "CodeSigningConfigNotFoundException",
        gone,
    )


async def test_what_enforces_signatures_lets_no_code_in(control, client):
    policies = {"UntrustedArtifactOnDeployment": "Enforce"}
    arn = (await signing(client, CodeSigningPolicies=policies))["CodeSigningConfigArn"]
    with pytest.raises(ServiceError) as refused:
        await control.create("signed", CodeSigningConfigArn=arn)
    assert refused.value.code == "CodeVerificationFailedException"
    await blocking(client.put_function_code_signing_config, FunctionName="hello", CodeSigningConfigArn=arn)
    code, _ = await error(client.update_function_code, FunctionName="hello", ZipFile=archive("x = 1"))
    assert code == "CodeVerificationFailedException"
    await blocking(client.delete_function_code_signing_config, FunctionName="hello")
    await blocking(client.update_function_code, FunctionName="hello", ZipFile=archive("x = 1"))
