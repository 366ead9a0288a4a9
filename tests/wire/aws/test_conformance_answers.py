"""One of everything is made, shown, changed and deleted: every answer has the shape of the model, and what AWS always returns.

Answers are looked at as they travel, so that nothing a lenient parser passes over is passed over here. ALWAYS names members by
path ("Functions[].State"); where it came from stands behind it: [V] recorded from AWS, [D] its documentation, [I] inferred.
"""

import json
import re
from dataclasses import dataclass, field

import pytest

from ondol.dialects.aws import validation
from ondol.dialects.aws.coverage import INVOKING
from ondol.dialects.aws.shapes import Shape, model
from ondol.testing.aws import KEY, AwsApplication, EchoInvoker, index_with, serving
from ondol.testing.boto import ACCOUNT, REGION, blocking
from ondol.testing.control import ARN, ROLE, archive
from ondol.testing.control import control as control_over

import boto3
from botocore.config import Config

LAMBDA = model("lambda").operations

_LISTED = (
    "FunctionName", "FunctionArn", "Runtime", "Role", "Handler", "CodeSize", "Description", "Timeout", "MemorySize",
    "LastModified", "CodeSha256", "Version", "TracingConfig.Mode", "RevisionId", "PackageType", "Architectures[]",
    "EphemeralStorage.Size", "SnapStart.ApplyOn", "SnapStart.OptimizationStatus", "LoggingConfig.LogFormat",
    "LoggingConfig.LogGroup",
)  # fmt: skip
_CONFIGURATION = (*_LISTED, "State", "RuntimeVersionConfig.RuntimeVersionArn")  # [V]
_ALIAS = ("AliasArn", "Name", "FunctionVersion", "Description", "RevisionId")  # [V]
_CODE_SIGNING = tuple(
    f"CodeSigningConfig.{each}"
    for each in (
        "CodeSigningConfigId", "CodeSigningConfigArn", "AllowedPublishers.SigningProfileVersionArns[]",
        "CodeSigningPolicies.UntrustedArtifactOnDeployment", "LastModified",
    )
)  # fmt: skip  # [V]
_LAYER = ("LayerVersionArn", "Version", "CreatedDate")  # [V]
_LAYER_WHOLE = ("Content.Location", "Content.CodeSha256", "Content.CodeSize", "LayerArn", "Description", *_LAYER)  # [V]
_MAPPING = (
    "UUID", "BatchSize", "MaximumBatchingWindowInSeconds", "EventSourceArn", "FunctionArn", "LastModified", "State",
    "StateTransitionReason", "EventSourceMappingArn",
)  # fmt: skip  # [V]
_INVOKE_CONFIG = ("LastModified", "FunctionArn", "DestinationConfig.OnSuccess", "DestinationConfig.OnFailure")  # [V]
_PROVISIONED = (
    "RequestedProvisionedConcurrentExecutions", "AvailableProvisionedConcurrentExecutions",
    "AllocatedProvisionedConcurrentExecutions", "Status", "LastModified",
)  # fmt: skip  # [V]
_URL = ("FunctionUrl", "FunctionArn", "AuthType", "CreationTime", "InvokeMode")  # [V]


_PROVIDER = (
    "CapacityProviderArn", "State", "VpcConfig.SubnetIds[]", "VpcConfig.SecurityGroupIds[]",
    "PermissionsConfig.CapacityProviderOperatorRoleArn", "InstanceRequirements.Architectures[]",
    "CapacityProviderScalingConfig.MaxVCpuCount", "CapacityProviderScalingConfig.ScalingMode", "LastModified",
)  # fmt: skip  # the first four [D], as their shape requires them; the others [I]


def _under(prefix, members):
    return tuple(f"{prefix}.{each}" for each in members)


ALWAYS = {
    "AddLayerVersionPermission": ("Statement", "RevisionId"),  # [V]
    "AddPermission": ("Statement",),  # [V]
    "CreateAlias": _ALIAS,
    **{
        f"{verb}CapacityProvider": tuple(f"CapacityProvider.{each}" for each in _PROVIDER)
        for verb in ("Create", "Get", "Update", "Delete")
    },
    "ListCapacityProviders": tuple(f"CapacityProviders[].{each}" for each in _PROVIDER),
    "ListFunctionVersionsByCapacityProvider": (
        "CapacityProviderArn", "FunctionVersions[].FunctionArn", "FunctionVersions[].State",
    ),  # [D]
    "PutFunctionScalingConfig": ("FunctionState",),  # [D]
    "GetFunctionScalingConfig": (
        "FunctionArn", "AppliedFunctionScalingConfig", "RequestedFunctionScalingConfig",
    ),  # [D]
    "CreateCodeSigningConfig": _CODE_SIGNING,
    "CreateEventSourceMapping": _MAPPING,
    "CreateFunction": (*_CONFIGURATION, "StateReason", "StateReasonCode"),
    "CreateFunctionUrlConfig": _URL,
    "DeleteEventSourceMapping": _MAPPING,
    "GetAccountSettings": (
        "AccountLimit.TotalCodeSize", "AccountLimit.CodeSizeUnzipped", "AccountLimit.CodeSizeZipped",
        "AccountLimit.ConcurrentExecutions", "AccountLimit.UnreservedConcurrentExecutions", "AccountUsage.TotalCodeSize",
        "AccountUsage.FunctionCount",
    ),  # [V]
    "GetAlias": _ALIAS,
    "GetCodeSigningConfig": _CODE_SIGNING,
    "GetEventSourceMapping": _MAPPING,
    "GetFunction": (
        "Code.RepositoryType", "Code.Location", *_under("Configuration", _CONFIGURATION), "Configuration.LastUpdateStatus",
    ),  # [V]
    "GetFunctionCodeSigningConfig": ("CodeSigningConfigArn", "FunctionName"),  # [V]
    "GetFunctionConfiguration": (*_CONFIGURATION, "LastUpdateStatus"),
    "GetFunctionEventInvokeConfig": _INVOKE_CONFIG,
    "GetFunctionRecursionConfig": ("RecursiveLoop",),  # [V]
    "GetFunctionUrlConfig": (*_URL, "LastModifiedTime"),
    "GetLayerVersion": _LAYER_WHOLE,
    "GetLayerVersionByArn": _LAYER_WHOLE,
    "GetLayerVersionPolicy": ("Policy", "RevisionId"),  # [V]
    "GetPolicy": ("Policy", "RevisionId"),  # [V]
    "GetProvisionedConcurrencyConfig": _PROVISIONED,
    "GetResourcePolicy": ("Policy", "RevisionId"),  # [I]
    "GetRuntimeManagementConfig": ("UpdateRuntimeOn", "FunctionArn"),  # [D]
    "ListAliases": _under("Aliases[]", _ALIAS),
    "ListCodeSigningConfigs": tuple(each.replace("CodeSigningConfig.", "CodeSigningConfigs[].") for each in _CODE_SIGNING),
    "ListEventSourceMappings": _under("EventSourceMappings[]", _MAPPING),
    "ListFunctionEventInvokeConfigs": _under("FunctionEventInvokeConfigs[]", _INVOKE_CONFIG),
    "ListFunctionUrlConfigs": _under("FunctionUrlConfigs[]", (*_URL, "LastModifiedTime")),
    "ListFunctions": _under("Functions[]", _LISTED),  # [V], and without State and its kind [D]
    "ListFunctionsByCodeSigningConfig": ("FunctionArns[]",),  # [V]
    "ListLayerVersions": _under("LayerVersions[]", _LAYER),
    "ListLayers": ("Layers[].LayerName", "Layers[].LayerArn", *_under("Layers[].LatestMatchingVersion", _LAYER)),  # [V]
    "ListProvisionedConcurrencyConfigs": _under("ProvisionedConcurrencyConfigs[]", ("FunctionArn", *_PROVISIONED)),
    "ListTags": ("Tags",),  # [V]
    "ListVersionsByFunction": _under("Versions[]", _LISTED),
    "PublishLayerVersion": _LAYER_WHOLE,
    "PublishVersion": _CONFIGURATION,
    "PutFunctionCodeSigningConfig": ("CodeSigningConfigArn", "FunctionName"),  # [V]
    "PutFunctionConcurrency": ("ReservedConcurrentExecutions",),  # [V]
    "PutFunctionEventInvokeConfig": _INVOKE_CONFIG,
    "PutFunctionRecursionConfig": ("RecursiveLoop",),  # [V]
    "PutProvisionedConcurrencyConfig": _PROVISIONED,
    "PutResourcePolicy": ("Policy", "RevisionId"),  # [I]
    "PutRuntimeManagementConfig": ("UpdateRuntimeOn", "FunctionArn"),  # [D]
    "UpdateAlias": _ALIAS,
    "UpdateCodeSigningConfig": _CODE_SIGNING,
    "UpdateEventSourceMapping": _MAPPING,
    "UpdateFunctionCode": (*_CONFIGURATION, "LastUpdateStatus", "LastUpdateStatusReason", "LastUpdateStatusReasonCode"),
    "UpdateFunctionConfiguration": (
        *_CONFIGURATION, "LastUpdateStatus", "LastUpdateStatusReason", "LastUpdateStatusReasonCode",
    ),
    "UpdateFunctionEventInvokeConfig": _INVOKE_CONFIG,
    "UpdateFunctionUrlConfig": (*_URL, "LastModifiedTime"),
}  # fmt: skip
#: What listings leave out: "use GetFunction" says the documentation of ListFunctions [D].
NEVER = {
    operation: tuple(
        f"{member}[].{each}"
        for each in (
            "State", "StateReason", "StateReasonCode", "LastUpdateStatus", "LastUpdateStatusReason",
            "LastUpdateStatusReasonCode", "RuntimeVersionConfig",
        )
    )
    for operation, member in (("ListFunctions", "Functions"), ("ListVersionsByFunction", "Versions"))
}  # fmt: skip
#: Recorded from AWS [V], and not in its model's enums.
BEYOND = {("LastUpdateStatusReasonCode", "Creating")}
#: What the service answers where its model says another status: recorded.
STATUS = {"DeleteFunction": 204, "Invoke": 200, "InvokeWithResponseStream": 200}


# Looking at answers -------------------------------------------------------------------------------------------------------
@dataclass
class Seen:
    """One answer as it travelled."""

    operation: str
    status: int
    body: object


@dataclass
class Watched:
    """A boto3 client that keeps the answers of all that went well."""

    client: object
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self):
        self.client.meta.events.register("response-received.lambda", self._keep)

    def _keep(self, response_dict, context, event_name, **_):
        if response_dict["status_code"] < 300 and isinstance(response_dict["body"], bytes):
            body = response_dict["body"]
            self.seen.append(
                Seen(event_name.rpartition(".")[2], response_dict["status_code"], json.loads(body) if body else None)
            )

    async def __call__(self, operation, **params):
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()
        return await blocking(getattr(self.client, name), **params)


def wrong(shape: Shape, value, where="") -> list[str]:  # noqa: C901  one branch per kind of shape
    """What of a JSON value the shape does not have."""
    kind = shape.type
    if kind == "structure":
        if not isinstance(value, dict):
            return [f"{where} is no object"]
        known = {member.wire_name: member for member in shape.members.values() if not member.location}
        found = [f"{where}.{each} is no member" for each in value.keys() - known.keys()]
        found += [f"{where}.{each} is required" for each in shape.required if each in known and each not in value]
        for name in value.keys() & known.keys():
            found += wrong(known[name].shape, value[name], f"{where}.{name}")
        return found
    if kind == "list":
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [each for n, one in enumerate(value) for each in wrong(shape.element.shape, one, f"{where}[{n}]")]
    if kind == "map":
        if not isinstance(value, dict):
            return [f"{where} is no map"]
        return [each for key, one in value.items() for each in wrong(shape.value.shape, one, f"{where}.{key}")]
    types = {"string": str, "boolean": bool, "integer": int, "long": int, "timestamp": (int, float), "double": (int, float)}
    if not isinstance(value, types[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return [f"{where} is {type(value).__name__} and no {kind}"]
    if value == "" or (where.rpartition(".")[2], value) in BEYOND:
        return []
    return [f"{where} is {value!r}: {each}" for each in validation._broken(shape, value)]


def at(value, path):
    """What stands at a path, in every element of the lists on it; nothing where something is missing."""
    head, _, rest = path.partition(".")
    name, many = head.removesuffix("[]"), head.endswith("[]")
    if not isinstance(value, dict) or name not in value:
        return []
    below = value[name] if many else [value[name]]
    if not rest:
        return list(below)
    found = [at(each, rest) for each in below]
    return [each for one in found for each in one] if all(found) else []


def lacking(seen: Seen) -> list[str]:
    return [path for path in ALWAYS.get(seen.operation, ()) if not at(seen.body, path)]


# The walk -----------------------------------------------------------------------------------------------------------------
SIGNER = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/me/AbCdEf1234"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/jobs"


async def walk(call, settled):
    """Everything of the control plane, once at least."""
    await layers(call)
    signing = (await call("CreateCodeSigningConfig", AllowedPublishers={"SigningProfileVersionArns": [SIGNER]}))[
        "CodeSigningConfig"
    ]["CodeSigningConfigArn"]
    await functions(call, settled)
    await code_signing(call, signing)
    await beside(call, settled)
    await mappings(call)
    await capacity(call, settled)
    await call("DeleteFunction", FunctionName="small")
    await call("DeleteFunction", FunctionName="hello")


async def layers(call):
    tools = {"LayerName": "tools"}
    await call(
        "PublishLayerVersion", **tools, Content={"ZipFile": archive()}, Description="d", CompatibleRuntimes=["python3.12"],
        CompatibleArchitectures=["x86_64"], LicenseInfo="MIT",
    )  # fmt: skip
    await call("PublishLayerVersion", **tools, Content={"ZipFile": archive("2")})
    first = {**tools, "VersionNumber": 1}
    made = await call("GetLayerVersion", **first)
    await call("GetLayerVersionByArn", Arn=made["LayerVersionArn"])
    await call("ListLayers")
    await call("ListLayerVersions", **tools)
    statement = {"StatementId": "all", "Action": "lambda:GetLayerVersion", "Principal": "*"}
    await call("AddLayerVersionPermission", **first, **statement)
    await call("GetLayerVersionPolicy", **first)
    await call("RemoveLayerVersionPermission", **first, StatementId="all")
    await call("DeleteLayerVersion", **tools, VersionNumber=2)


async def functions(call, settled):
    usual = {"Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": archive()}}
    await call("CreateFunction", FunctionName="small", **usual)
    layer = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:tools:1"
    await call(
        "CreateFunction", FunctionName="hello", **usual, Publish=True, Description="d", Timeout=9, MemorySize=256,
        Environment={"Variables": {"STAGE": "test"}}, Tags={"team": "floor"}, Layers=[layer], TracingConfig={"Mode": "Active"},
        DeadLetterConfig={"TargetArn": QUEUE}, KMSKeyArn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k",
        EphemeralStorage={"Size": 1024}, SnapStart={"ApplyOn": "PublishedVersions"}, LoggingConfig={"LogFormat": "JSON"},
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
    )  # fmt: skip
    await settled()
    for name in ("small", "hello"):
        await call("GetFunction", FunctionName=name)
        await call("GetFunctionConfiguration", FunctionName=name)
        await call("UpdateFunctionCode", FunctionName=name, ZipFile=archive("2"))
        await settled()
        await call("UpdateFunctionConfiguration", FunctionName=name, Timeout=8)
        await settled()
        await call("PublishVersion", FunctionName=name)
        await call("ListVersionsByFunction", FunctionName=name)
    await settled()
    await call("ListFunctions")
    await call("ListFunctions", FunctionVersion="ALL")
    await call("CreateAlias", FunctionName="hello", Name="live", FunctionVersion="1")
    await call(
        "UpdateAlias",
        FunctionName="hello",
        Name="live",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}},
        Description="d",
    )
    await call("GetAlias", FunctionName="hello", Name="live")
    await call("ListAliases", FunctionName="hello")
    for at_version in ("live", "1"):
        await call("GetFunction", FunctionName="hello", Qualifier=at_version)


async def code_signing(call, signing):
    config = {"CodeSigningConfigArn": signing}
    await call("UpdateCodeSigningConfig", **config, Description="d")
    await call("GetCodeSigningConfig", **config)
    await call("ListCodeSigningConfigs")
    await call("PutFunctionCodeSigningConfig", **config, FunctionName="hello")
    await call("GetFunctionCodeSigningConfig", FunctionName="hello")
    await call("ListFunctionsByCodeSigningConfig", **config)
    await call("DeleteFunctionCodeSigningConfig", FunctionName="hello")
    await call("DeleteCodeSigningConfig", **config)


async def beside(call, settled):
    """What belongs to a function and is no code of it."""
    hello, live = {"FunctionName": "hello"}, {"FunctionName": "hello", "Qualifier": "live"}
    await call("GetAccountSettings")
    await call("TagResource", Resource=f"{ARN}hello", Tags={"stage": "test"})
    await call("ListTags", Resource=f"{ARN}hello")
    await call("UntagResource", Resource=f"{ARN}hello", TagKeys=["stage"])
    await call("PutFunctionConcurrency", **hello, ReservedConcurrentExecutions=5)
    await call("GetFunctionConcurrency", **hello)
    await call("DeleteFunctionConcurrency", **hello)
    await call("PutProvisionedConcurrencyConfig", **live, ProvisionedConcurrentExecutions=2)
    await call("GetProvisionedConcurrencyConfig", **live)
    await call("ListProvisionedConcurrencyConfigs", **hello)
    await call("DeleteProvisionedConcurrencyConfig", **live)
    destinations = {"OnFailure": {"Destination": f"{ARN}small"}}
    await call("PutFunctionEventInvokeConfig", **hello, MaximumRetryAttempts=0, DestinationConfig=destinations)
    await call("UpdateFunctionEventInvokeConfig", **hello, MaximumEventAgeInSeconds=60)
    await call("GetFunctionEventInvokeConfig", **hello)
    await call("ListFunctionEventInvokeConfigs", **hello)
    await call("DeleteFunctionEventInvokeConfig", **hello)
    await call("AddPermission", **hello, StatementId="s", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com")
    policy = (await call("GetPolicy", **hello))["Policy"]
    await call("RemovePermission", **hello, StatementId="s")
    await call("PutResourcePolicy", ResourceArn=f"{ARN}hello", Policy=policy)
    await call("GetResourcePolicy", ResourceArn=f"{ARN}hello")
    await call("DeleteResourcePolicy", ResourceArn=f"{ARN}hello")
    await call("CreateFunctionUrlConfig", **hello, AuthType="NONE", Cors={"AllowOrigins": ["*"]})
    await call("GetFunctionUrlConfig", **hello)
    await call("UpdateFunctionUrlConfig", **hello, InvokeMode="RESPONSE_STREAM")
    await call("ListFunctionUrlConfigs", **hello)
    await call("DeleteFunctionUrlConfig", **hello)
    await call("GetFunctionRecursionConfig", **hello)
    await call("PutFunctionRecursionConfig", **hello, RecursiveLoop="Allow")
    await call("GetRuntimeManagementConfig", **hello)
    runtime = f"arn:aws:lambda:{REGION}::runtime:{'0' * 64}"
    await call("PutRuntimeManagementConfig", **hello, UpdateRuntimeOn="Manual", RuntimeVersionArn=runtime)
    await call("GetRuntimeManagementConfig", **hello)
    await call("DeleteAlias", **hello, Name="live")
    await settled()


async def capacity(call, settled):
    pool, version = {"CapacityProviderName": "pool"}, {"FunctionName": "managed", "Qualifier": "1"}
    nets = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    made = await call(
        "CreateCapacityProvider", **pool, VpcConfig=nets, PermissionsConfig={"CapacityProviderOperatorRoleArn": ROLE}
    )
    await call("GetCapacityProvider", **pool)
    await call("UpdateCapacityProvider", **pool, CapacityProviderScalingConfig={"MaxVCpuCount": 30})
    await call("ListCapacityProviders")
    attached = {"CapacityProviderArn": made["CapacityProvider"]["CapacityProviderArn"]}
    await call(
        "CreateFunction", FunctionName="managed", Runtime="python3.13", Role=ROLE, Handler="app.handler", Publish=True,
        Code={"ZipFile": archive()}, CapacityProviderConfig={"LambdaManagedInstancesCapacityProviderConfig": attached},
    )  # fmt: skip
    await settled()
    await call("GetFunction", **version)
    await call("ListFunctionVersionsByCapacityProvider", **pool)
    await call("PutFunctionScalingConfig", **version, FunctionScalingConfig={"MinExecutionEnvironments": 1})
    await call("GetFunctionScalingConfig", **version)
    await call("DeleteFunction", FunctionName="managed")
    await call("DeleteCapacityProvider", **pool)


async def mappings(call):
    for source, more in ((QUEUE, {}), (STREAM, {"StartingPosition": "LATEST"})):
        made = await call("CreateEventSourceMapping", FunctionName="hello", EventSourceArn=source, **more)
        mapping = {"UUID": made["UUID"]}
        await call("GetEventSourceMapping", **mapping)
        await call("ListEventSourceMappings")
        await call("UpdateEventSourceMapping", **mapping, BatchSize=5)
        await call("TagResource", Resource=made["EventSourceMappingArn"], Tags={"stage": "test"})
        await call("ListTags", Resource=made["EventSourceMappingArn"])
        await call("DeleteEventSourceMapping", **mapping)


@pytest.fixture
async def seen(tmp_path):
    async with control_over(tmp_path) as control:
        watched = Watched(control.client())
        await walk(watched, control.desk.settled)
        return control, watched.seen


async def test_the_walk_passes_every_operation_that_is_built(seen):
    control, answers = seen
    assert {each.operation for each in answers} == set(control.operations)


async def test_every_answer_has_the_shape_and_the_status_of_the_model(seen):
    for each in seen[1]:
        operation = LAMBDA[each.operation]
        found = wrong(operation.output, each.body or {}) if operation.output else []
        assert found == [], each
        assert each.status == STATUS.get(each.operation, operation.status), each.operation


async def test_what_aws_always_returns_is_there_and_what_it_never_does_is_not(seen):
    for each in seen[1]:
        assert lacking(each) == [], each
        assert [path for path in NEVER.get(each.operation, ()) if at(each.body, path)] == [], each


def test_the_table_speaks_of_every_operation_that_answers_something():
    """An operation that is not in it has nothing to say, or only sometimes: GetFunctionConcurrency."""
    speaking = {name for name, operation in LAMBDA.items() if operation.output and operation.output.members}
    assert set(ALWAYS) <= speaking


def test_calls_answer_with_the_headers_that_aws_sends():
    application = AwsApplication(services={}, invoker=EchoInvoker(), index=index_with("hello"))
    with serving(application) as url:
        client = boto3.client(
            "lambda", endpoint_url=url, region_name=REGION, aws_access_key_id=KEY.id, aws_secret_access_key=KEY.secret,
            config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        answers = {
            "Invoke": client.invoke(FunctionName="hello", LogType="Tail"),
            "InvokeAsync": client.invoke_async(FunctionName="hello", InvokeArgs=b"{}"),
            "InvokeWithResponseStream": client.invoke_with_response_stream(FunctionName="hello"),
        }
        assert set(answers) == set(INVOKING)
        for name, answer in answers.items():
            status = answer["ResponseMetadata"]["HTTPStatusCode"]
            assert status == STATUS.get(name, LAMBDA[name].status)
        assert answers["Invoke"]["ExecutedVersion"] == "$LATEST"
        assert answers["Invoke"]["StatusCode"] == 200
        assert "LogResult" in answers["Invoke"]
        assert answers["InvokeAsync"]["Status"] == 202
        assert answers["InvokeWithResponseStream"]["ExecutedVersion"] == "$LATEST"
        kind = "application/vnd.amazon.eventstream"
        assert answers["InvokeWithResponseStream"]["ResponseStreamContentType"] == kind
