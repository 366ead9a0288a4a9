"""The tag operations, reserved concurrency, and the account's settings."""

import pytest

from ondol.dialects.aws.service import ServiceError
from ondol.testing.boto import ACCOUNT, REGION, blocking
from ondol.testing.control import ARN, archive
from ondol.testing.control import control as control_over


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        await made.create(Tags={"first": "1"})
        yield made


async def refused(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value


async def test_tags_are_added_replaced_removed_and_shown_through_boto3(control):
    client = control.client()
    tagged = await blocking(client.tag_resource, Resource=f"{ARN}hello", Tags={"first": "one", "second": "2"})
    assert tagged["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert (await blocking(client.list_tags, Resource=f"{ARN}hello"))["Tags"] == {"first": "one", "second": "2"}
    await blocking(client.untag_resource, Resource=f"{ARN}hello", TagKeys=["first", "never there"])
    assert (await blocking(client.get_function, FunctionName="hello"))["Tags"] == {"second": "2"}


async def test_tagging_leaves_the_revision_id_alone(control):
    before = await control("GetFunctionConfiguration", FunctionName="hello")
    await control("TagResource", Resource=f"{ARN}hello", Tags={"a": "b"})
    assert await control("GetFunctionConfiguration", FunctionName="hello") == before


async def test_more_tags_than_the_limit_are_refused(control):
    error = await refused(control("TagResource", Resource=f"{ARN}hello", Tags={f"t{n}": "" for n in range(50)}))
    assert (error.code, str(error)) == ("InvalidParameterValueException", "Number of tags exceeds resource tag limit.")
    assert (await control("ListTags", Resource=f"{ARN}hello"))["Tags"] == {"first": "1"}


NETS = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
SIGNERS = {"SigningProfileVersionArns": [f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p/abcdefghij"]}
OPERATOR = {"CapacityProviderOperatorRoleArn": f"arn:aws:iam::{ACCOUNT}:role/any"}


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("TagResource", {"Resource": f"{ARN}hello"}),
        ("CreateFunction", {"FunctionName": "other", "Runtime": "python3.12", "Handler": "a.b", "Code": {}, "Role": "any"}),
        ("CreateEventSourceMapping", {"FunctionName": "hello", "EventSourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"}),
        ("CreateCodeSigningConfig", {"AllowedPublishers": SIGNERS}),
        ("CreateCapacityProvider", {"CapacityProviderName": "pool", "VpcConfig": NETS, "PermissionsConfig": OPERATOR}),
    ],
)
async def test_names_that_the_service_keeps_for_itself_are_refused(control, operation, params):
    error = await refused(control(operation, **params, Tags={"mine": "", "AWS:theirs": ""}))
    assert (error.code, str(error)) == (
        "InvalidParameterValueException", "Tag keys that begin with aws: are reserved: AWS:theirs",
    )  # fmt: skip


@pytest.mark.parametrize("qualifier", ["1", "live", "$LATEST"])
async def test_versions_and_aliases_have_no_tags(control, qualifier):
    error = await refused(control("ListTags", Resource=f"{ARN}hello:{qualifier}"))
    assert str(error) == "Tags on function aliases and versions are not supported. Please specify a function ARN."


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        ("function:ghost", "Function not found: {arn}"),
        ("event-source-mapping:11111111-2222-3333-4444-555555555555", "Event source mapping not found: {arn}"),
        ("capacity-provider:ghost", "Capacity provider not found: {arn}"),
    ],
)
async def test_what_is_not_there_has_no_tags(control, resource, text):
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:{resource}"
    error = await refused(control("ListTags", Resource=arn))
    assert (error.status, str(error)) == (404, text.format(arn=arn))


async def test_reserved_concurrency_is_set_shown_and_given_back(control):
    client = control.client()
    assert "ReservedConcurrentExecutions" not in await blocking(client.get_function_concurrency, FunctionName="hello")
    for executions in (0, 1, 900):
        answer = await blocking(client.put_function_concurrency, FunctionName="hello", ReservedConcurrentExecutions=executions)
        assert answer["ReservedConcurrentExecutions"] == executions
    shown = await blocking(client.get_function, FunctionName="hello")
    assert shown["Concurrency"] == {"ReservedConcurrentExecutions": 900}
    gone = await blocking(client.delete_function_concurrency, FunctionName="hello")
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "Concurrency" not in await blocking(client.get_function, FunctionName="hello")


async def test_reserving_keeps_a_hundred_for_the_others(control):
    error = await refused(control("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=901))
    assert (error.code, str(error), error.extra) == (
        "InvalidParameterValueException",
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
        "minimum value of [100].",
        {},
    )


async def test_reserved_concurrency_belongs_to_functions(control):
    error = await refused(control("PutFunctionConcurrency", FunctionName=f"{ARN}hello:$LATEST", ReservedConcurrentExecutions=1))
    assert str(error) == (
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN."
    )
    error = await refused(control("PutFunctionConcurrency", FunctionName="ghost", ReservedConcurrentExecutions=1))
    assert str(error) == f"Function not found: {ARN}ghost:$LATEST"


async def test_account_settings_count_code_functions_and_concurrency(control):
    await control("PublishVersion", FunctionName="hello")
    await control.create("other")
    await control("PutFunctionConcurrency", FunctionName="other", ReservedConcurrentExecutions=300)
    assert await control("GetAccountSettings") == {
        "AccountLimit": {
            "TotalCodeSize": 80530636800,
            "CodeSizeUnzipped": 262144000,
            "CodeSizeZipped": 52428800,
            "ConcurrentExecutions": 1000,
            "UnreservedConcurrentExecutions": 700,
        },
        "AccountUsage": {"TotalCodeSize": 3 * len(archive()), "FunctionCount": 2},
    }
