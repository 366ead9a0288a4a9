"""CreateAlias, GetAlias, ListAliases, UpdateAlias, DeleteAlias."""

import pytest

from ondol.core.resolve import resolve
from ondol.dialects.aws.service import ServiceError
from ondol.testing.boto import ACCOUNT, REGION, blocking
from ondol.testing.control import ARN
from ondol.testing.control import control as control_over

STALE = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)


@pytest.fixture
async def control(tmp_path):
    """A function "hello" with versions 1 and 2."""
    async with control_over(tmp_path) as made:
        await made.create(Publish=True)
        await made.update_code(Publish=True)
        yield made


async def refused(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value


def alias(control, operation="CreateAlias", name="live", version="1", **params):
    given = {"FunctionVersion": version} if version else {}
    return control(operation, FunctionName="hello", Name=name, **given, **params)


async def test_an_alias_is_shown_as_it_was_made(control):
    made = await alias(control, Description="what users see")
    assert made.pop("RevisionId")
    assert made == {
        "AliasArn": f"{ARN}hello:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "what users see",
    }
    shown = await control("GetAlias", FunctionName="hello", Name="live")
    assert {member: shown[member] for member in made} == made


async def test_weights_go_in_and_come_back_through_boto3_and_are_applied(control):
    client = control.client()
    weights = {"AdditionalVersionWeights": {"2": 0.25}}
    made = await blocking(client.create_alias, FunctionName="hello", Name="live", FunctionVersion="1", RoutingConfig=weights)
    assert (made["RoutingConfig"], made["ResponseMetadata"]["HTTPStatusCode"]) == (weights, 201)
    index = control.desk.index
    function = index.handle("aws", ACCOUNT, REGION, "hello")
    assert [resolve(index, function, "live", draw).revision.version for draw in (0.1, 0.3)] == [2, 1]


async def test_an_update_changes_what_it_names_and_an_empty_routing_ends_the_sharing(control):
    await alias(control, Description="kept", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    moved = await alias(control, "UpdateAlias", version=None, RoutingConfig={})
    assert "RoutingConfig" not in moved
    moved = await alias(control, "UpdateAlias", version="2")
    assert (moved["FunctionVersion"], moved["Description"]) == ("2", "kept")


async def test_an_alias_is_updated_only_from_the_state_its_revision_id_names(control):
    made = await alias(control)
    moved = await alias(control, "UpdateAlias", version="2", RevisionId=made["RevisionId"])
    error = await refused(alias(control, "UpdateAlias", version="1", RevisionId=made["RevisionId"]))
    assert (error.code, str(error)) == ("PreconditionFailedException", STALE)
    assert moved["RevisionId"] != made["RevisionId"]


async def test_aliases_are_listed_in_pages_and_by_version(control):
    for name, version in [("c", "1"), ("a", "1"), ("b", "2"), ("d", "$LATEST")]:
        await alias(control, name=name, version=version)
    await alias(control, "UpdateAlias", name="c", version=None, RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}})
    client = control.client()
    paginate = client.get_paginator("list_aliases").paginate
    pages = await blocking(lambda: list(paginate(FunctionName="hello", PaginationConfig={"PageSize": 3})))
    assert [[a["Name"] for a in page["Aliases"]] for page in pages] == [["a", "b", "c"], ["d"]]
    for version, names in [("1", ["a", "c"]), ("2", ["b", "c"]), ("$LATEST", ["d"])]:
        listed = await control("ListAliases", FunctionName="hello", FunctionVersion=version)
        assert [each["Name"] for each in listed["Aliases"]] == names


async def test_deleting_an_alias_twice_is_no_error(control):
    await alias(control)
    assert await control("DeleteAlias", FunctionName="hello", Name="live") == {}
    assert await control("DeleteAlias", FunctionName="hello", Name="live") == {}
    error = await refused(control("GetAlias", FunctionName="hello", Name="live"))
    assert (error.status, str(error)) == (404, f"Cannot find alias arn: {ARN}hello:live")


async def test_a_name_is_given_once(control):
    await alias(control)
    error = await refused(alias(control))
    assert (error.code, str(error)) == ("ResourceConflictException", f"Alias already exists: {ARN}hello:live")


ROUTING = [
    ("1", {"2": 0.1, "3": 0.1}, "Number of items in AdditionalVersionWeights cannot be greater than 1", {"Type": "User"}),
    ("1", {"1": 0.1}, "Invalid function version 1. Function version 1 is already included in routing configuration.",
     {"Type": "User"}),
    ("$LATEST", {"1": 0.1}, "$LATEST is not supported for an alias pointing to more than 1 version", {}),
]  # fmt: skip


@pytest.mark.parametrize(("version", "weights", "text", "extra"), ROUTING)
async def test_impossible_routing_is_refused_in_the_service_s_words(control, version, weights, text, extra):
    error = await refused(alias(control, version=version, RoutingConfig={"AdditionalVersionWeights": weights}))
    assert (error.code, str(error), error.extra) == ("InvalidParameterValueException", text, extra)


@pytest.mark.parametrize(("version", "weights"), [("10", {}), ("1", {"10": 0.5})])
async def test_an_alias_names_versions_that_are_there(control, version, weights):
    error = await refused(alias(control, version=version, RoutingConfig={"AdditionalVersionWeights": weights}))
    assert (error.status, str(error)) == (404, f"Function not found: {ARN}hello:10")


async def test_what_is_not_there_is_named_in_the_refusal(control):
    error = await refused(control("CreateAlias", FunctionName="ghost", Name="live", FunctionVersion="1"))
    assert str(error) == f"Function not found: {ARN}ghost:1"
    error = await refused(control("GetAlias", FunctionName="ghost", Name="live"))
    assert str(error) == f"Cannot find alias arn: {ARN}ghost:live"
    error = await refused(alias(control, "UpdateAlias", name="ghost", version=None))
    assert str(error) == f"Alias not found: {ARN}hello:ghost"
