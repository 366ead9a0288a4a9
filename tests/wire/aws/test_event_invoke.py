"""The event-invoke configuration of functions, versions and aliases, with the service's own texts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.core.catalog import Index
from ondol.core.deferrals import USUAL, rules
from ondol.dialects.aws import codec
from ondol.dialects.aws.event_invoke import destination, destination_arn
from ondol.dialects.aws.names import Named
from ondol.dialects.aws.service import ServiceError
from ondol.model.errors import Denied
from ondol.model.principals import Kind, Principal
from ondol.testing.boto import ACCOUNT, REGION, blocking
from ondol.testing.control import ARN
from ondol.testing.control import control as control_over

PUT, UPDATE = "PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig"
GET, LIST = "GetFunctionEventInvokeConfig", "ListFunctionEventInvokeConfigs"
DELETE = "DeleteFunctionEventInvokeConfig"


@pytest.fixture
async def control(tmp_path):
    """A function "hello" with version 1 and alias "live", and a function "other" with version 1."""
    async with control_over(tmp_path) as made:
        await made.create(Publish=True)
        await made("CreateAlias", FunctionName="hello", Name="live", FunctionVersion="1")
        await made.create("other", Publish=True)
        yield made


async def refused(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value


def function(control, name="hello"):
    return control.desk.index.handle("aws", ACCOUNT, REGION, name)


def without_time(shown):
    return {member: value for member, value in shown.items() if member not in ("LastModified", "ResponseMetadata")}


NOWHERE = {"OnSuccess": {}, "OnFailure": {}}


async def test_what_is_put_is_shown_changed_listed_and_deleted_through_boto3(control):
    client = control.client()
    destinations = {"OnSuccess": {"Destination": f"{ARN}other"}, "OnFailure": {"Destination": f"{ARN}other:1"}}
    put = await blocking(
        client.put_function_event_invoke_config,
        FunctionName="hello", MaximumRetryAttempts=1, MaximumEventAgeInSeconds=60, DestinationConfig=destinations,
    )  # fmt: skip
    assert put["LastModified"].timestamp() == control.desk.clock.wall_s()
    shown = {
        "FunctionArn": f"{ARN}hello:$LATEST", "MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 60,
        "DestinationConfig": destinations,
    }  # fmt: skip
    assert without_time(put) == shown
    assert without_time(await blocking(client.get_function_event_invoke_config, FunctionName="hello")) == shown
    updated = await blocking(client.update_function_event_invoke_config, FunctionName="hello", MaximumRetryAttempts=0)
    assert without_time(updated) == shown | {"MaximumRetryAttempts": 0}
    listed = await blocking(client.list_function_event_invoke_configs, FunctionName="hello")
    assert [without_time(each) for each in listed["FunctionEventInvokeConfigs"]] == [without_time(updated)]
    gone = await blocking(client.delete_function_event_invoke_config, FunctionName="hello")
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert (await blocking(client.list_function_event_invoke_configs, FunctionName="hello"))["FunctionEventInvokeConfigs"] == []


async def test_what_is_put_replaces_everything_and_what_is_updated_only_what_it_names(control):
    await control(PUT, FunctionName="hello", MaximumRetryAttempts=2, MaximumEventAgeInSeconds=60)
    assert "MaximumEventAgeInSeconds" not in await control(PUT, FunctionName="hello", MaximumRetryAttempts=0)
    await control(UPDATE, FunctionName="hello", DestinationConfig={"OnFailure": {"Destination": f"{ARN}other"}})
    updated = await control(UPDATE, FunctionName="hello", MaximumEventAgeInSeconds=21600)
    assert without_time(updated) == {
        "FunctionArn": f"{ARN}hello:$LATEST", "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 21600,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {"Destination": f"{ARN}other"}},
    }  # fmt: skip
    cleared = await control(UPDATE, FunctionName="hello", DestinationConfig={"OnFailure": {}})
    assert cleared["DestinationConfig"] == NOWHERE


@pytest.mark.parametrize(
    ("named", "qualifier", "shown"),
    [
        ("hello", None, "$LATEST"),
        ("hello", "$LATEST", "$LATEST"),
        ("hello:$LATEST", "$LATEST", "$LATEST"),
        ("hello", "1", "1"),
        ("hello:1", None, "1"),
        ("hello", "live", "live"),
        (f"{ARN}hello:live", None, "live"),
        (f"{ARN}hello:live", "live", "live"),
    ],
)
async def test_every_way_of_naming_a_qualifier_means_the_same(control, named, qualifier, shown):
    given = {"Qualifier": qualifier} if qualifier else {}
    put = await control(PUT, FunctionName=named, MaximumRetryAttempts=1, **given)
    assert without_time(put) == {
        "FunctionArn": f"{ARN}hello:{shown}", "MaximumRetryAttempts": 1, "DestinationConfig": NOWHERE,
    }  # fmt: skip
    assert await control(GET, FunctionName="hello", Qualifier=shown) == put


async def test_one_qualifiers_configuration_is_no_others(control):
    await control(PUT, FunctionName="hello", MaximumRetryAttempts=0)
    id_ = function(control).id
    assert rules(control.desk.index, id_, None).retries_max == 0
    assert rules(control.desk.index, id_, "1") == rules(control.desk.index, id_, "live") == USUAL
    error = await refused(control(GET, FunctionName="hello", Qualifier="live"))
    assert (error.status, str(error)) == (404, f"The function {ARN}hello:live doesn't have an EventInvokeConfig")


async def test_a_listing_comes_in_pages(control):
    for qualifier in ("$LATEST", "1", "live"):
        await control(PUT, FunctionName="hello", Qualifier=qualifier, MaximumRetryAttempts=1)
    first = await control(LIST, FunctionName="hello", MaxItems=2)
    rest = await control(LIST, FunctionName="hello", MaxItems=2, Marker=first["NextMarker"])
    arns = [each["FunctionArn"] for page in (first, rest) for each in page["FunctionEventInvokeConfigs"]]
    assert arns == [f"{ARN}hello:{qualifier}" for qualifier in ("$LATEST", "1", "live")]
    assert "NextMarker" not in rest


@pytest.mark.parametrize("operation", [PUT, UPDATE])
@pytest.mark.parametrize("params", [{}, {"DestinationConfig": {}}])
async def test_a_request_that_says_nothing_is_refused_before_the_function_is_looked_for(control, operation, params):
    error = await refused(control(operation, FunctionName="ghost", **params))
    assert str(error) == "You must specify at least one of error handling or destination setting."


@pytest.mark.parametrize(("operation", "named"), [(PUT, "ghost"), (PUT, "hello:7"), (PUT, "hello:nowhere"), (UPDATE, "ghost")])
async def test_what_does_not_exist_cannot_be_configured(control, operation, named):
    error = await refused(control(operation, FunctionName=named, MaximumRetryAttempts=1))
    assert (error.code, error.status, str(error)) == ("ResourceNotFoundException", 404, "The function doesn't exist.")


@pytest.mark.parametrize("operation", [GET, DELETE])
@pytest.mark.parametrize("named", ["hello", "hello:1", "hello:nowhere", "ghost"])
async def test_what_was_never_said_is_not_found(control, operation, named):
    error = await refused(control(operation, FunctionName=named))
    asked = named if ":" in named else f"{named}:$LATEST"
    assert (error.status, str(error)) == (404, f"The function {ARN}{asked} doesn't have an EventInvokeConfig")


async def test_only_what_was_put_can_be_updated(control):
    error = await refused(control(UPDATE, FunctionName="hello", MaximumRetryAttempts=1))
    assert str(error) == f"The function {ARN}hello:$LATEST doesn't have an EventInvokeConfig"


async def test_a_listing_is_of_a_function_that_is_there(control):
    assert str(await refused(control(LIST, FunctionName="ghost"))) == "The function doesn't exist."
    assert "permitted on Lambda functions only" in str(await refused(control(LIST, FunctionName="hello:1")))


@pytest.mark.parametrize(
    ("destination", "text"),
    [
        (f"{ARN}ghost", f"The destination ARN {ARN}ghost is invalid."),
        (f"{ARN}other:9", f"The destination ARN {ARN}other:9 is invalid."),
        (f"{ARN}other:nowhere", f"The destination ARN {ARN}other:nowhere is invalid."),
        (f"{ARN}hello", "You can't specify the function as a destination for itself."),
        (f"{ARN}hello:live", "You can't specify the function as a destination for itself."),
        (
            f"arn:aws:lambda:{REGION}:999999999999:function:other",
            f"The destination ARN arn:aws:lambda:{REGION}:999999999999:function:other is invalid.",
        ),
        (
            f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:other",
            f"The destination ARN arn:aws:lambda:us-east-1:{ACCOUNT}:function:other is invalid.",
        ),
        (
            f"arn:aws:iam:{REGION}:{ACCOUNT}:function:other",
            "The provided destination config DestinationConfig(onSuccess=OnSuccess("
            f"destination=arn:aws:iam:{REGION}:{ACCOUNT}:function:other), onFailure=null) is invalid.",
        ),
    ],
)
async def test_destinations_are_other_functions_that_are_there(control, destination, text):
    error = await refused(control(PUT, FunctionName="hello", DestinationConfig={"OnSuccess": {"Destination": destination}}))
    assert (error.code, error.status, str(error)) == ("InvalidParameterValueException", 400, text)
    assert control.desk.index.deferrals(function(control).id) == []


async def test_a_destination_keeps_no_tenants_apart(control):
    await control.create("apart", TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
    error = await refused(control(PUT, FunctionName="hello", DestinationConfig={"OnSuccess": {"Destination": f"{ARN}apart"}}))
    assert (error.code, "apart keeps its tenants apart" in str(error)) == ("InvalidParameterValueException", True)


@pytest.mark.parametrize(
    ("resource", "word"),
    [
        (f"arn:aws:sqs:{REGION}:{ACCOUNT}:q", "queues"),
        (f"arn:aws:sns:{REGION}:{ACCOUNT}:t", "topics"),
        (f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default", "event buses"),
        ("arn:aws:s3:::bucket", "buckets"),
    ],
)
async def test_destinations_that_are_not_built_are_refused_by_name(control, resource, word):
    error = await refused(control(PUT, FunctionName="hello", DestinationConfig={"OnFailure": {"Destination": resource}}))
    assert str(error).startswith(f"Ondol does not do {word} as destinations ({resource}) yet.")


@pytest.mark.parametrize(
    "params",
    [
        {"MaximumRetryAttempts": 3},
        {"MaximumRetryAttempts": -1},
        {"MaximumEventAgeInSeconds": 59},
        {"MaximumEventAgeInSeconds": 21601},
        {"DestinationConfig": {"OnFailure": {"Destination": "nonsense"}}},
    ],
)
def test_numbers_and_texts_out_of_range_are_the_services_validation(params):
    target = "/2019-09-25/functions/hello/event-invoke-config"
    with pytest.raises(ServiceError, match="1 validation error detected") as caught:
        codec.decode("lambda", "PUT", target, [("content-type", "application/json")], json.dumps(params).encode())
    assert caught.value.code == "ValidationException"


NAMED = Named(ACCOUNT, REGION, "hello", None)


@given(st.text(max_size=350) | st.from_regex(r"arn:aws:(lambda|sqs|iam|s3):[a-z0-9-]*:[0-9]*:.{0,40}"))
def test_any_destination_is_a_function_or_refused(text):
    try:
        found = destination(text, NAMED, {"OnSuccess": {"Destination": text}})
    except ServiceError as error:
        assert error.code == "InvalidParameterValueException"
    else:
        assert (found.account, found.region) == (ACCOUNT, REGION)
        assert found.name != "hello"
        assert destination_arn(found) == text or not text.startswith("arn:aws:lambda:eu-west-1:1")


async def test_it_goes_with_what_it_is_about(control):
    for qualifier in ("$LATEST", "1", "live"):
        await control(PUT, FunctionName="hello", Qualifier=qualifier, MaximumRetryAttempts=1)
    id_ = function(control).id
    await control("DeleteAlias", FunctionName="hello", Name="live")
    assert [deferral.qualifier for deferral in control.desk.index.deferrals(id_)] == [None, "1"]
    await control("DeleteFunction", FunctionName="hello", Qualifier="1")
    assert [deferral.qualifier for deferral in control.desk.index.deferrals(id_)] == [None]
    await control("DeleteFunction", FunctionName="hello")
    assert control.desk.index.deferrals(id_) == []
    assert not [key for key in control.desk.index.documents() if id_ in key]


async def test_a_function_says_nothing_about_another(control):
    someone = Principal(kind=Kind.FUNCTION, account=ACCOUNT, region=REGION, name="other")
    with pytest.raises(Denied):
        await control(PUT, someone, FunctionName="hello", MaximumRetryAttempts=1)


async def test_an_index_that_is_loaded_again_knows_it(control):
    await control(PUT, FunctionName="hello", Qualifier="live", MaximumEventAgeInSeconds=77)
    number, documents = await control.desk.store.snapshot()
    again = Index()
    again.load(number, documents)
    assert again.deferrals(function(control).id) == control.desk.index.deferrals(function(control).id)
    assert rules(again, function(control).id, "live").age_s_max == 77
