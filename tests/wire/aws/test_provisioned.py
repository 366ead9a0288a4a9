"""Provisioned concurrency: what is asked for, what is refused with the service's own texts, and what has become of it."""

import pytest

from ondol.core.pins import wanted
from ondol.dialects.aws.service import ServiceError
from ondol.testing.boto import ACCOUNT, REGION, blocking
from ondol.testing.control import ARN
from ondol.testing.control import control as control_over

PUT, GET = "PutProvisionedConcurrencyConfig", "GetProvisionedConcurrencyConfig"
LIST, DELETE = "ListProvisionedConcurrencyConfigs", "DeleteProvisionedConcurrencyConfig"


@pytest.fixture
async def control(tmp_path, kept):
    """A function "hello" with versions 1 and 2, and an alias "live" of 1."""

    async def keeping():
        return kept

    async with control_over(tmp_path, keeping=keeping) as made:
        await made.create(Publish=True)
        await made.update_code()
        await made("PublishVersion", FunctionName="hello")
        await made("CreateAlias", FunctionName="hello", Name="live", FunctionVersion="1")
        yield made


@pytest.fixture
def kept():
    """By revision: what the pools keep up."""
    return {}


async def refused(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value.code, str(caught.value)


def put(control, qualifier, executions, name="hello"):
    return control(PUT, FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=executions)


def wanted_of(control):
    return {revision.version: count for revision, count in wanted(control.desk.index).values()}


def revision_of(control, number):
    index = control.desk.index
    function = index.handle("aws", ACCOUNT, REGION, "hello")
    return index.version(function.id, number).revision


async def test_what_is_put_is_shown_listed_and_taken_back_through_boto3(control, kept):
    client = control.client()
    made = await blocking(
        client.put_provisioned_concurrency_config, FunctionName="hello", Qualifier="live", ProvisionedConcurrentExecutions=3
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    numbers = ("Requested", "Allocated", "Available")
    assert [made[f"{name}ProvisionedConcurrentExecutions"] for name in numbers] == [3, 0, 0]
    assert made["Status"] == "IN_PROGRESS"
    kept[revision_of(control, 1)] = (2, "")
    shown = await blocking(client.get_provisioned_concurrency_config, FunctionName="hello", Qualifier="live")
    assert (shown["Status"], shown["AvailableProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 2)
    kept[revision_of(control, 1)] = (3, "")
    (listed,) = (await blocking(client.list_provisioned_concurrency_configs, FunctionName="hello"))[
        "ProvisionedConcurrencyConfigs"
    ]
    assert (listed["Status"], listed["FunctionArn"]) == ("READY", f"{ARN}hello:live")
    assert listed["LastModified"].endswith("+0000")
    gone = await blocking(client.delete_provisioned_concurrency_config, FunctionName="hello", Qualifier="live")
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert wanted_of(control) == {}


async def test_a_function_that_does_not_load_is_failed(control, kept):
    await put(control, "1", 2)
    kept[revision_of(control, 1)] = (0, "hello could not be loaded; its log says why")
    shown = await control(GET, FunctionName="hello", Qualifier="1")
    assert (shown["Status"], shown["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")


async def test_an_aliass_pins_follow_it_and_its_versions_share_them_by_weight(control):
    await put(control, "live", 4)
    assert wanted_of(control) == {1: 4}
    await control("UpdateAlias", FunctionName="hello", Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}})
    assert wanted_of(control) == {1: 3, 2: 1}
    await control("UpdateAlias", FunctionName="hello", Name="live", FunctionVersion="2", RoutingConfig={})
    assert wanted_of(control) == {2: 4}
    await control("DeleteAlias", FunctionName="hello", Name="live")
    assert wanted_of(control) == {}


async def test_pins_go_with_their_function(control):
    await put(control, "2", 1)
    await control("DeleteFunction", FunctionName="hello")
    assert not control.desk.index.pins()


async def test_only_what_is_published_can_be_provisioned(control):
    text = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    assert await refused(put(control, "$LATEST", 1)) == ("InvalidParameterValueException", text)
    text = "The function resource provided must be an alias or a published version."
    assert await refused(control(GET, FunctionName="hello", Qualifier="$LATEST")) == ("InvalidParameterValueException", text)
    assert await refused(control(DELETE, FunctionName="hello", Qualifier="$LATEST")) == ("InvalidParameterValueException", text)


async def test_what_is_not_there_is_not_found(control):
    assert await refused(put(control, "7", 1)) == ("ResourceNotFoundException", f"Function not found: {ARN}hello:7")
    assert await refused(put(control, "no", 1)) == ("ResourceNotFoundException", f"Cannot find alias arn: {ARN}hello:no")
    assert await refused(put(control, "1", 1, name="ghost")) == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}ghost:1",
    )
    text = "No Provisioned Concurrency Config found for this function"
    expected = ("ProvisionedConcurrencyConfigNotFoundException", text)
    assert await refused(control(GET, FunctionName="hello", Qualifier="1")) == expected


async def test_a_version_is_provisioned_by_itself_or_by_its_alias(control):
    await put(control, "1", 1)
    text = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
    assert await refused(put(control, "live", 1)) == ("ResourceConflictException", text)
    await control(DELETE, FunctionName="hello", Qualifier="1")
    await put(control, "live", 1)
    text = "Version is pointed by a Provisioned Concurrency alias"
    assert await refused(put(control, "1", 1)) == ("ResourceConflictException", text)


async def test_provisioned_concurrency_is_bounded_by_what_is_reserved_and_by_what_is_left(control):
    assert (await refused(put(control, "1", 1001)))[1] == (
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000]."
    )
    assert (await refused(put(control, "1", 901)))[1] == (
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum "
        "value of [100]."
    )
    await put(control, "1", 5)
    settings = await control("GetAccountSettings")
    assert settings["AccountLimit"]["UnreservedConcurrentExecutions"] == 995
    assert (await refused(control("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=4)))[1] == (
        " ReservedConcurrentExecutions  4 should not be lower than function's total provisioned concurrency [5]."
    )
    await control("PutFunctionConcurrency", FunctionName="hello", ReservedConcurrentExecutions=6)
    assert (await refused(put(control, "2", 2)))[1] == (
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    )


async def test_the_list_has_pages(control):
    await put(control, "1", 1)
    await put(control, "2", 1)
    first = await control(LIST, FunctionName="hello", MaxItems=1)
    second = await control(LIST, FunctionName="hello", MaxItems=1, Marker=first["NextMarker"])
    arns = [page["ProvisionedConcurrencyConfigs"][0]["FunctionArn"] for page in (first, second)]
    assert arns == [f"{ARN}hello:1", f"{ARN}hello:2"]
    assert "NextMarker" not in second
