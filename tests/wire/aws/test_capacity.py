"""Capacity providers, and functions attached to them: kept, shown, paged, tagged, refused, and how many environments."""

import pytest

from ondol.core.pins import bounds, pinned, wanted
from ondol.dialects.aws import capacity, managed
from ondol.dialects.aws.service import ServiceError
from ondol.testing.boto import ACCOUNT, OWNER, REGION, blocking
from ondol.testing.control import ROLE
from ondol.testing.control import control as control_over

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:capacity-provider:"
NETS = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
OPERATOR = {"CapacityProviderOperatorRoleArn": ROLE}


def on(provider="pool", **more):
    return {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": ARN + provider, **more}}


@pytest.fixture
async def control(tmp_path):
    """An account with the capacity provider "pool"."""
    async with control_over(tmp_path) as made:
        await provide(made)
        yield made


@pytest.fixture
async def client(control):
    return control.client()


def provide(control, name="pool", **params):
    return control("CreateCapacityProvider", CapacityProviderName=name, VpcConfig=NETS, PermissionsConfig=OPERATOR, **params)


def attached(control, name="hello", config=None, **params):
    return control.create(name, Runtime="python3.13", CapacityProviderConfig=config or on(), **params)


async def refused(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value.code, str(caught.value)


# Providers -----------------------------------------------------------------------------------------------------------------
async def test_one_is_pending_when_made_active_when_looked_at_and_deleting_when_it_goes(client):
    made = await blocking(
        client.create_capacity_provider,
        CapacityProviderName="new",
        VpcConfig=NETS,
        PermissionsConfig=OPERATOR,
        InstanceRequirements={"Architectures": ["arm64"]},
        CapacityProviderScalingConfig={"MaxVCpuCount": 30},
        Tags={"team": "blue"},
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    shown = made["CapacityProvider"]
    assert shown.pop("LastModified").endswith("+0000")
    assert shown == {
        "CapacityProviderArn": ARN + "new",
        "State": "Pending",
        "VpcConfig": NETS,
        "PermissionsConfig": OPERATOR,
        "InstanceRequirements": {"Architectures": ["arm64"]},
        "CapacityProviderScalingConfig": {"MaxVCpuCount": 30, "ScalingMode": "Auto"},
    }
    for name in ("new", ARN + "new"):
        found = await blocking(client.get_capacity_provider, CapacityProviderName=name)
        assert found["CapacityProvider"]["State"] == "Active"
    gone = await blocking(client.delete_capacity_provider, CapacityProviderName="new")
    assert (gone["ResponseMetadata"]["HTTPStatusCode"], gone["CapacityProvider"]["State"]) == (202, "Deleting")
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        await blocking(client.get_capacity_provider, CapacityProviderName="new")
    assert caught.value.response["Error"]["Message"] == f"Capacity provider not found: {ARN}new"


async def test_they_are_listed_in_pages_and_by_state(control, client):
    for name in ("b", "a", "c"):
        await provide(control, name)
    pages = client.get_paginator("list_capacity_providers").paginate(PaginationConfig={"PageSize": 3})
    found = await blocking(lambda: [[each["CapacityProviderArn"] for each in page["CapacityProviders"]] for page in pages])
    assert found == [[ARN + "a", ARN + "b", ARN + "c"], [ARN + "pool"]]
    pending = await blocking(client.list_capacity_providers, State="Pending")
    assert pending["CapacityProviders"] == []


async def test_its_scaling_and_telemetry_may_be_changed(client):
    policy = [{"PredefinedMetricType": "LambdaCapacityProviderAverageCPUUtilization", "TargetValue": 50.0}]
    changed = await blocking(
        client.update_capacity_provider,
        CapacityProviderName="pool",
        CapacityProviderScalingConfig={"ScalingMode": "Manual", "ScalingPolicies": policy},
        TelemetryConfig={"LoggingConfig": {"SystemLogLevel": "DEBUG"}},
    )
    assert changed["ResponseMetadata"]["HTTPStatusCode"] == 202
    shown = changed["CapacityProvider"]
    assert shown["CapacityProviderScalingConfig"] == {"MaxVCpuCount": 400, "ScalingMode": "Manual", "ScalingPolicies": policy}
    assert shown["TelemetryConfig"] == {"LoggingConfig": {"SystemLogLevel": "DEBUG"}}
    back = await blocking(
        client.update_capacity_provider, CapacityProviderName="pool", CapacityProviderScalingConfig={"ScalingMode": "Auto"}
    )
    assert back["CapacityProvider"]["CapacityProviderScalingConfig"] == {"MaxVCpuCount": 400, "ScalingMode": "Auto"}


async def test_they_have_tags(client):
    await blocking(client.tag_resource, Resource=ARN + "pool", Tags={"a": "1", "b": "2"})
    await blocking(client.untag_resource, Resource=ARN + "pool", TagKeys=["a"])
    assert (await blocking(client.list_tags, Resource=ARN + "pool"))["Tags"] == {"b": "2"}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        await blocking(client.list_tags, Resource=ARN + "absent")


POLICY = [{"PredefinedMetricType": "LambdaCapacityProviderAverageCPUUtilization", "TargetValue": 50.0}]


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        ({}, "ResourceConflictException", f"Capacity provider already exists: {ARN}pool"),
        (
            {"CapacityProviderScalingConfig": {"ScalingPolicies": POLICY}},
            "InvalidParameterValueException",
            "A scaling policy can't be specified when the scalingMode is set to Auto",
        ),
        (
            {"CapacityProviderScalingConfig": {"ScalingMode": "Manual"}},
            "InvalidParameterValueException",
            "A scaling policy must be specified when the scalingMode is set to Manual",
        ),
        (
            {"InstanceRequirements": {"AllowedInstanceTypes": ["m7g.large"], "ExcludedInstanceTypes": ["c7g.large"]}},
            "InvalidParameterValueException",
            "AllowedInstanceTypes and ExcludedInstanceTypes can't be specified together",
        ),
        (
            {"Tags": {str(n): "" for n in range(51)}},
            "InvalidParameterValueException",
            "Number of tags exceeds resource tag limit.",
        ),
    ],
)
async def test_what_cannot_be_made_is_refused(control, params, code, message):
    assert await refused(provide(control, **params)) == (code, message)


async def test_there_are_so_many_and_no_more(control, monkeypatch):
    monkeypatch.setattr(capacity, "PROVIDERS_MAX", 2)
    await provide(control, "second")
    code, _ = await refused(provide(control, "third"))
    assert code == "CapacityProviderLimitExceededException"


@pytest.mark.parametrize("operation", ["GetCapacityProvider", "UpdateCapacityProvider", "DeleteCapacityProvider"])
@pytest.mark.parametrize("name", ["absent", "arn:aws:lambda:eu-west-9:999999999999:capacity-provider:pool"])
async def test_what_is_not_there_is_named(control, operation, name):
    arn = name if name.startswith("arn:") else ARN + name
    told = await refused(control(operation, CapacityProviderName=name))
    assert told == ("ResourceNotFoundException", f"Capacity provider not found: {arn}")


# What is attached ----------------------------------------------------------------------------------------------------------
async def test_a_function_is_attached_with_what_goes_along(control, client):
    await attached(control, Publish=True)
    shown = await blocking(client.get_function_configuration, FunctionName="hello", Qualifier="1")
    assert shown["CapacityProviderConfig"] == on(
        PerExecutionEnvironmentMaxConcurrency=16, ExecutionEnvironmentMemoryGiBPerVCpu=2.0
    )
    assert (shown["MemorySize"], shown["State"]) == (2048, "Active")
    logging = shown["LoggingConfig"]
    assert (logging["LogFormat"], logging["ApplicationLogLevel"], logging["SystemLogLevel"]) == ("JSON", "INFO", "INFO")
    assert (await blocking(client.get_function_configuration, FunctionName="hello"))["State"] == "ActiveNonInvocable"


@pytest.mark.parametrize(
    ("runtime", "config", "memory_mib", "calls"),
    [
        ("python3.14", {}, 4096, 32),
        ("nodejs22.x", {}, 2048, 64),
        ("python3.13", {"ExecutionEnvironmentMemoryGiBPerVCpu": 4.0}, 4096, 16),
        ("python3.13", {"PerExecutionEnvironmentMaxConcurrency": 3}, 2048, 3),
        ("java21", {}, 4096, 64),
        ("java25", {"PerExecutionEnvironmentMaxConcurrency": 400}, 2048, 400),
        ("provided.al2023", {}, 2048, 1),
        ("provided.al2023", {"PerExecutionEnvironmentMaxConcurrency": 400}, 2048, 400),
    ],
)
async def test_how_many_calls_an_environment_runs_follows_its_vcpus_unless_it_is_said(
    control, runtime, config, memory_mib, calls
):
    await control.create("f", Runtime=runtime, CapacityProviderConfig=on(**config), MemorySize=memory_mib)
    shown = (await control("GetFunctionConfiguration", FunctionName="f"))["CapacityProviderConfig"]
    assert shown["LambdaManagedInstancesCapacityProviderConfig"]["PerExecutionEnvironmentMaxConcurrency"] == calls
    index = control.desk.index
    function = index.handle("aws", ACCOUNT, REGION, "f")
    several = index.revision(function.id, function.latest).configuration.concurrency
    assert several == calls


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({"CapacityProviderConfig": on("absent")}, "ResourceNotFoundException", f"Capacity provider not found: {ARN}absent"),
        ({"MemorySize": 1024}, "ValidationException", "memory size greater than or equal to 2048"),
        *(
            ({"Runtime": runtime}, "InvalidParameterValueException", f"Runtime {runtime} is not supported for Lambda Managed")
            for runtime in ("python3.12", "nodejs20.x", "java17", "ruby3.4", "provided.al2")
        ),
        ({"LoggingConfig": {"LogFormat": "Text"}}, "InvalidParameterValueException", 'LogFormat is set to "Text"'),
        (
            {"CapacityProviderConfig": on(ExecutionEnvironmentMemoryGiBPerVCpu=8.0)},
            "InvalidParameterValueException",
            "less than one vCPU",
        ),
        (
            {"CapacityProviderConfig": on(PerExecutionEnvironmentMaxConcurrency=1600)},
            "InvalidParameterValueException",
            "256 at most",
        ),
        ({"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}, "InvalidParameterValueException", "tenant isolation mode"),
    ],
)
async def test_what_cannot_be_attached_is_refused(control, params, code, text):
    given = {"Runtime": "python3.13", "CapacityProviderConfig": on(), **params}
    found, message = await refused(control.create("other", **given))
    assert (found, text in message) == (code, True), message


async def test_an_attached_function_may_be_changed_and_another_not_attached(control, client):
    await provide(control, "second")
    await attached(control)
    await control.create("plain")
    changed = await control(
        "UpdateFunctionConfiguration",
        FunctionName="hello",
        CapacityProviderConfig=on("second", PerExecutionEnvironmentMaxConcurrency=4),
    )
    assert changed["CapacityProviderConfig"] == on(
        "second", PerExecutionEnvironmentMaxConcurrency=4, ExecutionEnvironmentMemoryGiBPerVCpu=2.0
    )
    await control.desk.settled()
    code, message = await refused(control("UpdateFunctionConfiguration", FunctionName="plain", CapacityProviderConfig=on()))
    assert (code, message) == (
        "InvalidParameterValueException",
        "CapacityProviderConfig isn't supported for Lambda Default functions.",
    )
    for params in ({"MemorySize": 512}, {"LoggingConfig": {"LogFormat": "Text"}}, {"Runtime": "python3.11"}):
        await refused(control("UpdateFunctionConfiguration", FunctionName="hello", **params))


async def test_what_is_attached_is_listed_in_pages_and_keeps_the_provider(control, client):
    await attached(control, Publish=True)
    await attached(control, "another")
    listed = client.list_function_versions_by_capacity_provider
    first = await blocking(listed, CapacityProviderName="pool", MaxItems=2)
    rest = await blocking(listed, CapacityProviderName="pool", Marker=first["NextMarker"])
    assert first["CapacityProviderArn"] == ARN + "pool"
    prefix = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
    assert [*first["FunctionVersions"], *rest["FunctionVersions"]] == [
        {"FunctionArn": f"{prefix}another:$LATEST", "State": "ActiveNonInvocable"},
        {"FunctionArn": f"{prefix}hello:$LATEST", "State": "ActiveNonInvocable"},
        {"FunctionArn": f"{prefix}hello:1", "State": "Active"},
    ]
    code, _ = await refused(control("DeleteCapacityProvider", CapacityProviderName="pool"))
    assert code == "ResourceConflictException"
    for name in ("hello", "another"):
        await control("DeleteFunction", FunctionName=name)
    await control("DeleteCapacityProvider", CapacityProviderName="pool")


async def test_a_provider_has_so_many_versions_and_no_more(control, monkeypatch):
    monkeypatch.setattr(managed, "VERSIONS_MAX", 1)
    await attached(control, Publish=True)
    await control("UpdateFunctionConfiguration", FunctionName="hello", Timeout=9)
    await control.desk.settled()
    code, _ = await refused(control("PublishVersion", FunctionName="hello"))
    assert code == "FunctionVersionsPerCapacityProviderLimitExceededException"


# Scaling -------------------------------------------------------------------------------------------------------------------
async def test_scaling_is_put_shown_acted_on_and_taken_back(control, client):
    await attached(control, Publish=True)
    put, get = client.put_function_scaling_config, client.get_function_scaling_config
    which = {"FunctionName": "hello", "Qualifier": "1"}
    config = {"MinExecutionEnvironments": 2, "MaxExecutionEnvironments": 5}
    made = await blocking(put, **which, FunctionScalingConfig=config)
    assert (made["ResponseMetadata"]["HTTPStatusCode"], made["FunctionState"]) == (202, "Active")
    found = await blocking(get, **which)
    assert found["FunctionArn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:hello:1"
    assert found["AppliedFunctionScalingConfig"] == found["RequestedFunctionScalingConfig"] == config
    index = control.desk.index
    assert [count for _, count in wanted(index).values()] == [2]
    assert [most for _, most in bounds(index).values()] == [5]
    assert pinned(index, index.handle("aws", ACCOUNT, REGION, "hello").id) == 0, "nothing is set aside for them"
    assert (await blocking(client.list_provisioned_concurrency_configs, FunctionName="hello"))[
        "ProvisionedConcurrencyConfigs"
    ] == []
    await blocking(put, **which)
    assert (await blocking(get, **which))["AppliedFunctionScalingConfig"] == {}
    assert (wanted(index), bounds(index)) == ({}, {})


async def test_nothing_at_least_and_at_most_is_deactivated(control):
    await attached(control, Publish=True)
    made = await control(
        "PutFunctionScalingConfig",
        FunctionName="hello",
        Qualifier="1",
        FunctionScalingConfig={"MinExecutionEnvironments": 0, "MaxExecutionEnvironments": 0},
    )
    assert made["FunctionState"] == "Deactivated"


@pytest.mark.parametrize(
    ("function", "qualifier", "config", "code", "text"),
    [
        ("plain", "1", {"MinExecutionEnvironments": 1}, "AccessDeniedException", "does not contain a capacity provider"),
        ("absent", "1", {}, "ResourceNotFoundException", "Function not found"),
        ("hello", "7", {}, "ResourceNotFoundException", "Function not found"),
        ("hello", "$LATEST.PUBLISHED", {}, "ResourceNotFoundException", "Function not found"),
        (
            "hello",
            "1",
            {"MinExecutionEnvironments": 2, "MaxExecutionEnvironments": 1},
            "InvalidParameterValueException",
            "can't be greater than",
        ),
    ],
)
async def test_scaling_that_cannot_be_is_refused(control, function, qualifier, config, code, text):
    await attached(control, Publish=True)
    await control.create("plain", Publish=True)
    asked = {"FunctionName": function, "Qualifier": qualifier, "FunctionScalingConfig": config}
    found, message = await refused(control("PutFunctionScalingConfig", OWNER, **asked))
    assert (found, text in message) == (code, True), message


async def test_provisioned_concurrency_is_not_for_what_is_attached(control):
    await attached(control, Publish=True)
    asked = {"FunctionName": "hello", "Qualifier": "1", "ProvisionedConcurrentExecutions": 1}
    code, message = await refused(control("PutProvisionedConcurrencyConfig", **asked))
    assert (code, "Managed Instances" in message) == ("InvalidParameterValueException", True)


# Published without a number ------------------------------------------------------------------------------------------------
PUBLISHED = "$LATEST.PUBLISHED"
HELLO = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:hello"


async def test_latest_is_published_without_a_number_and_again_in_its_place(control, client):
    made = await attached(control, Publish=True, PublishTo="LATEST_PUBLISHED", settle=False)
    assert (made["Version"], made["FunctionArn"], made["State"]) == (PUBLISHED, HELLO, "Pending")
    await control.desk.settled()
    which = {"FunctionName": "hello", "Qualifier": PUBLISHED}
    first = await blocking(client.get_function, **which)
    shown = first["Configuration"]
    assert (shown["FunctionArn"], shown["Version"], shown["State"]) == (f"{HELLO}:{PUBLISHED}", PUBLISHED, "Active")

    await control.update_code()
    kept = await blocking(client.get_function_configuration, FunctionName=f"hello:{PUBLISHED}")
    assert kept["CodeSha256"] == shown["CodeSha256"], "it changed with $LATEST"
    again = await blocking(client.publish_version, FunctionName="hello", PublishTo="LATEST_PUBLISHED", Description="two")
    assert (again["FunctionArn"], again["Version"], again["Description"]) == (f"{HELLO}:{PUBLISHED}", PUBLISHED, "two")
    assert (again["State"], again["LastUpdateStatus"]) == ("Active", "InProgress")
    await control.desk.settled()
    now = await blocking(client.get_function_configuration, **which)
    assert (now["LastUpdateStatus"], now["CodeSha256"] == kept["CodeSha256"]) == ("Successful", False)

    at_once = await control.update_code(text="# three", Publish=True, PublishTo="LATEST_PUBLISHED")
    assert (at_once["Version"], at_once["FunctionArn"]) == (PUBLISHED, f"{HELLO}:{PUBLISHED}")
    numbered = await blocking(client.publish_version, FunctionName="hello")
    assert (numbered["Version"], numbered["CodeSha256"]) == ("1", at_once["CodeSha256"])


async def test_it_stands_in_every_listing_between_latest_and_the_numbers(control, client):
    await attached(control, Publish=True)
    await control("PublishVersion", FunctionName="hello", PublishTo="LATEST_PUBLISHED")
    await control.desk.settled()
    asked = (("list_versions_by_function", "Versions", {"FunctionName": "hello"}),)
    asked += (("list_functions", "Functions", {"FunctionVersion": "ALL"}),)
    for operation, member, params in asked:
        pages = client.get_paginator(operation).paginate(**params, PaginationConfig={"PageSize": 1})
        found = await blocking(lambda pages=pages, member=member: [each for page in pages for each in page[member]])
        assert [each["Version"] for each in found] == ["$LATEST", PUBLISHED, "1"]
        assert found[1]["FunctionArn"] == f"{HELLO}:{PUBLISHED}"
    listed = await blocking(client.list_function_versions_by_capacity_provider, CapacityProviderName="pool", MaxItems=2)
    assert [each["FunctionArn"].removeprefix(HELLO) for each in listed["FunctionVersions"]] == [":$LATEST", f":{PUBLISHED}"]


async def test_an_alias_may_name_it_and_keeps_it(control, client):
    await attached(control, Publish=True)
    await control("PublishVersion", FunctionName="hello", PublishTo="LATEST_PUBLISHED")
    weights = {"AdditionalVersionWeights": {"1": 0.5}}
    alias = {"FunctionName": "hello", "Name": "live", "FunctionVersion": PUBLISHED, "RoutingConfig": weights}
    made = await blocking(client.create_alias, **alias)
    assert (made["FunctionVersion"], made["RoutingConfig"]) == (PUBLISHED, weights)
    found = await blocking(client.list_aliases, FunctionName="hello", FunctionVersion=PUBLISHED)
    assert [each["Name"] for each in found["Aliases"]] == ["live"]
    assert (await control("GetFunctionConfiguration", FunctionName="hello", Qualifier="live"))["Version"] == PUBLISHED
    with pytest.raises(client.exceptions.ResourceConflictException, match=r"aliases reference it: \[live\]"):
        await blocking(client.delete_function, FunctionName="hello", Qualifier=PUBLISHED)
    await blocking(client.update_alias, FunctionName="hello", Name="live", FunctionVersion="1", RoutingConfig={})
    await blocking(client.delete_function, FunctionName="hello", Qualifier=PUBLISHED)
    with pytest.raises(client.exceptions.ResourceNotFoundException, match=r"hello:\$LATEST\.PUBLISHED"):
        await blocking(client.update_alias, FunctionName="hello", Name="live", FunctionVersion=PUBLISHED)


async def test_all_that_was_said_of_it_goes_with_it(control, client):
    await attached(control, Publish=True, PublishTo="LATEST_PUBLISHED")
    which = {"FunctionName": "hello", "Qualifier": PUBLISHED}
    config = {"MinExecutionEnvironments": 1, "MaxExecutionEnvironments": 2}
    made = await blocking(client.put_function_scaling_config, **which, FunctionScalingConfig=config)
    assert made["FunctionState"] == "Active"
    shown = await blocking(client.get_function_scaling_config, **which)
    assert (shown["FunctionArn"], shown["AppliedFunctionScalingConfig"]) == (f"{HELLO}:{PUBLISHED}", config)
    index = control.desk.index
    assert [count for _, count in wanted(index).values()] == [1]
    assert [most for _, most in bounds(index).values()] == [2]
    retries = await blocking(client.put_function_event_invoke_config, **which, MaximumRetryAttempts=0)
    assert retries["FunctionArn"] == f"{HELLO}:{PUBLISHED}"
    grant = {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "111122223333"}
    await blocking(client.add_permission, **which, **grant)
    source = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
    mapping = await blocking(client.create_event_source_mapping, FunctionName=f"{HELLO}:{PUBLISHED}", EventSourceArn=source)
    assert mapping["FunctionArn"] == f"{HELLO}:{PUBLISHED}"
    await control.update_code(Publish=True, PublishTo="LATEST_PUBLISHED")
    assert [count for _, count in wanted(index).values()] == [1], "a new publication lost what was said"
    await blocking(client.delete_function, **which)
    await blocking(client.publish_version, FunctionName="hello", PublishTo="LATEST_PUBLISHED")
    assert (wanted(index), bounds(index)) == ({}, {})
    for look in (client.get_function_event_invoke_config, client.get_policy):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            await blocking(look, **which)


async def test_a_publication_in_its_place_is_no_version_more_of_the_provider(control, monkeypatch):
    await attached(control, Publish=True, PublishTo="LATEST_PUBLISHED")
    monkeypatch.setattr(managed, "VERSIONS_MAX", 1)
    await control.update_code(Publish=True, PublishTo="LATEST_PUBLISHED")
    for publish in (control("PublishVersion", FunctionName="hello"), attached(control, "another", Publish=True)):
        code, _ = await refused(publish)
        assert code == "FunctionVersionsPerCapacityProviderLimitExceededException"


async def test_a_function_on_no_provider_has_none(control, client):
    await control.create("plain")
    text = "Publishing to LATEST_PUBLISHED is only supported for Lambda Managed Instances."
    to = {"PublishTo": "LATEST_PUBLISHED"}
    for refusal in (
        control("PublishVersion", FunctionName="plain", **to),
        control("UpdateFunctionCode", FunctionName="plain", ZipFile=b"", Publish=True, **to),
        control.create("other", Publish=True, **to),
    ):
        assert await refused(refusal) == ("InvalidParameterValueException", text)
    code, message = await refused(control("GetFunction", FunctionName="plain", Qualifier=PUBLISHED))
    assert (code, message.endswith(f"function:plain:{PUBLISHED}")) == ("ResourceNotFoundException", True)


async def test_where_it_goes_does_not_say_that_it_is_published(control):
    made = await attached(control, PublishTo="LATEST_PUBLISHED")
    assert made["Version"] == "$LATEST"
    code, _ = await refused(control("GetFunction", FunctionName="hello", Qualifier=PUBLISHED))
    assert code == "ResourceNotFoundException"
