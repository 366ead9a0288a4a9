"""Event source mappings: kept, checked, shown, listed, tagged."""

from datetime import UTC, datetime

import pytest

from ondol.model.principals import Kind, Principal
from ondol.testing.boto import ACCOUNT, REGION, blocking, error
from ondol.testing.control import ARN
from ondol.testing.control import control as control_over

QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"
TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/stream/2026"
INVALID = "InvalidParameterValueException"


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        await made.create()
        yield made


@pytest.fixture
async def client(control):
    return control.client()


async def create(client, **params):
    made = await blocking(client.create_event_source_mapping, **{"FunctionName": "hello", "EventSourceArn": QUEUE, **params})
    made.pop("ResponseMetadata")
    return made


async def test_a_queues_mapping_with_what_nobody_said(client):
    made = await create(client)
    made.pop("LastModified")
    uuid = made.pop("UUID")
    assert made == {
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        "EventSourceArn": QUEUE,
        "FunctionArn": f"{ARN}hello",
        "State": "Creating",
        "StateTransitionReason": "USER_INITIATED",
        "FunctionResponseTypes": [],
        "EventSourceMappingArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{uuid}",
    }
    assert (await blocking(client.get_event_source_mapping, UUID=uuid))["State"] == "Enabled"


async def test_a_streams_mapping_with_what_nobody_said(client):
    made = await create(client, EventSourceArn=STREAM, StartingPosition="LATEST")
    assert {member: made[member] for member in made if member not in ("UUID", "LastModified", "EventSourceMappingArn")} == {
        "StartingPosition": "LATEST",
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "EventSourceArn": STREAM,
        "FunctionArn": f"{ARN}hello",
        "LastProcessingResult": "No records processed",
        "State": "Creating",
        "StateTransitionReason": "User action",
        "DestinationConfig": {"OnFailure": {}},
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
    }


async def test_a_stream_read_from_a_moment(client):
    at = datetime(2026, 1, 2, tzinfo=UTC)
    made = await create(client, EventSourceArn=STREAM, StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=at)
    assert made["StartingPositionTimestamp"] == at
    shown = await blocking(client.get_event_source_mapping, UUID=made["UUID"])
    assert shown["StartingPositionTimestamp"] == at


async def test_a_mapping_is_changed_listed_and_deleted(client):
    uuid = (await create(client))["UUID"]
    other = (await create(client, EventSourceArn=f"{QUEUE}-2", Enabled=False))["UUID"]
    assert (await blocking(client.get_event_source_mapping, UUID=other))["State"] == "Disabled"
    changed = await blocking(client.update_event_source_mapping, UUID=uuid, Enabled=False, BatchSize=5)
    assert (changed["State"], changed["BatchSize"]) == ("Updating", 5)
    assert (await blocking(client.get_event_source_mapping, UUID=uuid))["State"] == "Disabled"
    listed = await blocking(client.list_event_source_mappings, FunctionName="hello", EventSourceArn=QUEUE)
    assert [each["UUID"] for each in listed["EventSourceMappings"]] == [uuid]
    assert (await blocking(client.list_event_source_mappings, FunctionName="none"))["EventSourceMappings"] == []
    pages = client.get_paginator("list_event_source_mappings").paginate(PaginationConfig={"PageSize": 1})
    assert await blocking(lambda: sum(len(page["EventSourceMappings"]) for page in pages)) == 2
    assert (await blocking(client.delete_event_source_mapping, UUID=uuid))["State"] == "Deleting"
    missing = ("ResourceNotFoundException", "The resource you requested does not exist.")
    for refused in (client.get_event_source_mapping, client.update_event_source_mapping, client.delete_event_source_mapping):
        assert await error(refused, UUID=uuid) == missing


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"FunctionName": "none"}, "Function does not exist"),
        ({"FunctionName": "hello:none"}, "Function does not exist"),
        ({"EventSourceArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:topic"}, "Unrecognized event source."),
        (
            {"EventSourceArn": STREAM},
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.",
        ),
        (
            {"EventSourceArn": TABLE, "StartingPosition": "AT_TIMESTAMP"},
            f"Unsupported starting position for arn type: {TABLE}",
        ),
        (
            {"BatchSize": 11},
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
        ),
        (
            {"DestinationConfig": {"OnFailure": {"Destination": QUEUE}}},
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        ),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "Invalid filter pattern definition."),
        ({"FilterCriteria": {"Filters": [{"Pattern": '{"body": "x"}'}]}}, "Invalid filter pattern definition."),
    ],
)
async def test_what_cannot_be_made(client, params, message):
    usual = {"FunctionName": "hello", "EventSourceArn": QUEUE}
    assert await error(client.create_event_source_mapping, **{**usual, **params}) == (INVALID, message)


async def test_a_twin_is_refused_by_name(client):
    queue = (await create(client))["UUID"]
    stream = (await create(client, EventSourceArn=STREAM, StartingPosition="LATEST"))["UUID"]
    kafka = {
        "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka:1000"]}}, "Topics": ["topic"],
        "StartingPosition": "LATEST",
    }  # fmt: skip
    own = (await blocking(client.create_event_source_mapping, FunctionName="hello", **kafka))["UUID"]
    usual = {"FunctionName": "hello"}
    assert await error(client.create_event_source_mapping, **usual, EventSourceArn=QUEUE) == (
        "ResourceConflictException",
        f'An event source mapping with SQS arn (" {QUEUE} ") and function (" hello ") already exists. Please update or delete the '
        f"existing mapping with UUID {queue}",
    )
    assert await error(client.create_event_source_mapping, **usual, EventSourceArn=STREAM, StartingPosition="LATEST") == (
        "ResourceConflictException",
        f'The event source arn (" {STREAM} ") and function (" hello ") provided mapping already exists. Please update or delete '
        f"the existing mapping with UUID {stream}",
    )
    assert await error(client.create_event_source_mapping, **usual, **kafka) == (
        "ResourceConflictException",
        f'An event source mapping with event source ("kafka:1000"), function ("{ARN}hello"), topics ("topic") already exists. '
        f"Please update or delete the existing mapping with UUID {own}",
    )


async def test_mappings_of_one_account_are_nobody_elses(control, client):
    uuid = (await create(client))["UUID"]
    other = Principal(kind=Kind.OWNER, account="999999999999", region=REGION, name="AKIAOTHER")
    elsewhere = Principal(kind=Kind.OWNER, account=ACCOUNT, region="us-east-1", name="AKIAEXAMPLE")
    for who in (other, elsewhere):
        others = control.client(who)
        assert (await blocking(others.list_event_source_mappings))["EventSourceMappings"] == []
        assert (await error(others.get_event_source_mapping, UUID=uuid))[0] == "ResourceNotFoundException"


async def test_a_mapping_has_tags(client):
    arn = (await create(client, Tags={"a": "1"}))["EventSourceMappingArn"]
    await blocking(client.tag_resource, Resource=arn, Tags={"b": "2"})
    await blocking(client.untag_resource, Resource=arn, TagKeys=["a"])
    assert (await blocking(client.list_tags, Resource=arn))["Tags"] == {"b": "2"}
    missing = arn[:-1] + ("0" if arn[-1] != "0" else "1")
    assert await error(client.list_tags, Resource=missing) == (
        "ResourceNotFoundException",
        f"Event source mapping not found: {missing}",
    )
    many = {f"t{number}": "" for number in range(50)}
    assert await error(client.tag_resource, Resource=arn, Tags=many) == (INVALID, "Number of tags exceeds resource tag limit.")
