"""Functions that keep their tenants apart: made so, shown so, and what they cannot have besides."""

import pytest

from ondol.dialects.aws.service import ServiceError
from ondol.testing.boto import blocking
from ondol.testing.control import ROLE, archive
from ondol.testing.control import control as control_over

TENANCY = {"TenantIsolationMode": "PER_TENANT"}


@pytest.fixture
async def control(tmp_path):
    """A function "hello" that keeps its tenants apart, and its version 1."""
    async with control_over(tmp_path) as made:
        await made.create(TenancyConfig=TENANCY, Publish=True)
        yield made


async def test_it_is_shown_wherever_configurations_are_and_nowhere_else(control):
    client = control.client()
    await control.create("plain")
    found = await blocking(client.get_function_configuration, FunctionName="hello")
    assert found["TenancyConfig"] == TENANCY
    listed = {each["FunctionName"]: each for each in (await blocking(client.list_functions))["Functions"]}
    assert listed["hello"]["TenancyConfig"] == TENANCY
    assert "TenancyConfig" not in listed["plain"]
    versions = (await blocking(client.list_versions_by_function, FunctionName="hello"))["Versions"]
    assert [each["TenancyConfig"] for each in versions] == [TENANCY, TENANCY]


async def test_it_stays_so_whatever_is_updated(control):
    client = control.client()
    await control.update_code()
    changed = await blocking(client.update_function_configuration, FunctionName="hello", Timeout=9)
    assert changed["TenancyConfig"] == TENANCY


@pytest.mark.parametrize(
    ("operation", "params", "what"),
    [
        ("CreateFunctionUrlConfig", {"AuthType": "NONE"}, "A function URL"),
        (
            "PutProvisionedConcurrencyConfig",
            {"Qualifier": "1", "ProvisionedConcurrentExecutions": 1},
            "Provisioned concurrency",
        ),
        ("UpdateFunctionConfiguration", {"SnapStart": {"ApplyOn": "PublishedVersions"}}, "SnapStart"),
        (
            "CreateEventSourceMapping",
            {"EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:queue"},
            "An event source mapping",
        ),
        (
            "CreateFunction",
            {
                "FunctionName": "other", "Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler",
                "Code": {"ZipFile": archive()}, "TenancyConfig": TENANCY, "SnapStart": {"ApplyOn": "PublishedVersions"},
            },
            "SnapStart",
        ),
    ],
)  # fmt: skip
async def test_what_it_cannot_have_is_refused(control, operation, params, what):
    with pytest.raises(ServiceError) as caught:
        await control(operation, **{"FunctionName": "hello", **params})
    assert (caught.value.code, caught.value.status) == ("InvalidParameterValueException", 400)
    assert str(caught.value) == f"{what} is not supported for functions with tenant isolation mode enabled."
