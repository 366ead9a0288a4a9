"""Every error that the model documents for an operation is answered when there is reason to, or the page says why it is not.

What is provoked here and what `coverage_errors` says is one: neither may know more than the other.
"""

import contextlib
import time
from pathlib import Path

import boto3
import botocore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ondol.dialects.aws import capacity, coverage_errors, lineage, managed, uploads
from ondol.dialects.aws.control import control_plane
from ondol.dialects.aws.coverage import INVOKING
from ondol.dialects.aws.coverage_errors import why_never
from ondol.dialects.aws.shapes import model
from ondol.model import errors
from ondol.model.principals import Kind, Principal
from ondol.testing.aws import KEY, AwsApplication, EchoInvoker, index_with, serving
from ondol.testing.boto import ACCOUNT, REGION, blocking
from ondol.testing.control import ARN, ROLE, archive
from ondol.testing.control import control as control_over
from ondol.testing.iam import document
from ondol.testing.wire import service_model

LAMBDA = model("lambda").operations
INVALID, MISSING, CONFLICT = "InvalidParameterValueException", "ResourceNotFoundException", "ResourceConflictException"
STALE, LONG, FULL = "PreconditionFailedException", "PolicyLengthExceededException", "CodeStorageExceededException"
INSIDE, RECURSIVE = coverage_errors.EVERYWHERE, "RecursiveInvocationException"
UNSIGNED, NO_SIGNING = "CodeVerificationFailedException", "CodeSigningConfigNotFoundException"

HELLO, TOOLS = {"FunctionName": "hello"}, {"LayerName": "tools", "VersionNumber": 1}
SIGNING = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-{'0' * 17}"
UUID = "00000000-0000-4000-8000-000000000000"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs"
NONE = f"{ARN}none"
GRANT = {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
SHARE = {"StatementId": "all", "Action": "lambda:GetLayerVersion", "Principal": "*"}
CREATE = {
    "FunctionName": "new", "Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": archive()},
}  # fmt: skip
PUBLISHERS = {"AllowedPublishers": {"SigningProfileVersionArns": [
    f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/me/AbCdEf1234"
]}}  # fmt: skip
POLICY = document({"Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": f"{ARN}hello"})

#: What each operation is given; what is provoked differs from it in what is said below.
USUAL = {
    "AddLayerVersionPermission": {**TOOLS, **SHARE, "StatementId": "new"},
    "AddPermission": {**HELLO, **GRANT, "StatementId": "new"},
    "CreateAlias": {**HELLO, "Name": "new", "FunctionVersion": "1"},
    "CreateCodeSigningConfig": PUBLISHERS,
    "CreateEventSourceMapping": {**HELLO, "EventSourceArn": QUEUE},
    "CreateFunction": CREATE,
    "CreateFunctionUrlConfig": {**HELLO, "AuthType": "NONE"},
    "DeleteAlias": {**HELLO, "Name": "live"},
    "DeleteCodeSigningConfig": {"CodeSigningConfigArn": SIGNING},
    "DeleteEventSourceMapping": {"UUID": UUID},
    "DeleteFunction": HELLO,
    "DeleteFunctionCodeSigningConfig": HELLO,
    "DeleteFunctionConcurrency": HELLO,
    "DeleteFunctionEventInvokeConfig": HELLO,
    "DeleteFunctionUrlConfig": HELLO,
    "DeleteLayerVersion": TOOLS,
    "DeleteProvisionedConcurrencyConfig": {**HELLO, "Qualifier": "live"},
    "DeleteResourcePolicy": {"ResourceArn": f"{ARN}hello"},
    "GetAccountSettings": {},
    "GetAlias": {**HELLO, "Name": "live"},
    "GetCodeSigningConfig": {"CodeSigningConfigArn": SIGNING},
    "GetEventSourceMapping": {"UUID": UUID},
    "GetFunction": HELLO,
    "GetFunctionCodeSigningConfig": HELLO,
    "GetFunctionConcurrency": HELLO,
    "GetFunctionConfiguration": HELLO,
    "GetFunctionEventInvokeConfig": HELLO,
    "GetFunctionRecursionConfig": HELLO,
    "GetFunctionUrlConfig": HELLO,
    "GetLayerVersion": TOOLS,
    "GetLayerVersionByArn": {"Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:tools:1"},
    "GetLayerVersionPolicy": TOOLS,
    "GetPolicy": HELLO,
    "GetProvisionedConcurrencyConfig": {**HELLO, "Qualifier": "live"},
    "GetResourcePolicy": {"ResourceArn": f"{ARN}hello"},
    "GetRuntimeManagementConfig": HELLO,
    "ListAliases": HELLO,
    "ListCodeSigningConfigs": {},
    "ListEventSourceMappings": HELLO,
    "ListFunctionEventInvokeConfigs": HELLO,
    "ListFunctionUrlConfigs": HELLO,
    "ListFunctions": {},
    "ListFunctionsByCodeSigningConfig": {"CodeSigningConfigArn": SIGNING},
    "ListLayerVersions": {"LayerName": "tools"},
    "ListLayers": {},
    "ListProvisionedConcurrencyConfigs": HELLO,
    "ListTags": {"Resource": f"{ARN}hello"},
    "ListVersionsByFunction": HELLO,
    "PublishLayerVersion": {"LayerName": "tools", "Content": {"ZipFile": archive("layer")}},
    "PublishVersion": HELLO,
    "PutFunctionCodeSigningConfig": {**HELLO, "CodeSigningConfigArn": SIGNING},
    "PutFunctionConcurrency": {**HELLO, "ReservedConcurrentExecutions": 5},
    "PutFunctionEventInvokeConfig": {**HELLO, "MaximumRetryAttempts": 0},
    "PutFunctionRecursionConfig": {**HELLO, "RecursiveLoop": "Allow"},
    "PutProvisionedConcurrencyConfig": {**HELLO, "Qualifier": "live", "ProvisionedConcurrentExecutions": 1},
    "PutResourcePolicy": {"ResourceArn": f"{ARN}hello", "Policy": POLICY},
    "PutRuntimeManagementConfig": {**HELLO, "UpdateRuntimeOn": "Auto"},
    "RemoveLayerVersionPermission": {**TOOLS, "StatementId": "all"},
    "RemovePermission": {**HELLO, "StatementId": "s"},
    "TagResource": {"Resource": f"{ARN}hello", "Tags": {"a": "b"}},
    "UntagResource": {"Resource": f"{ARN}hello", "TagKeys": ["a"]},
    "UpdateAlias": {**HELLO, "Name": "live"},
    "UpdateCodeSigningConfig": {"CodeSigningConfigArn": SIGNING},
    "UpdateEventSourceMapping": {"UUID": UUID},
    "UpdateFunctionCode": {**HELLO, "ZipFile": archive("3")},
    "UpdateFunctionConfiguration": {**HELLO, "Timeout": 5},
    "UpdateFunctionEventInvokeConfig": {**HELLO, "MaximumRetryAttempts": 1},
    "UpdateFunctionUrlConfig": {**HELLO, "AuthType": "NONE"},
}
LONG_SOURCE = {"SourceArn": f"arn:aws:s3:::{'b' * 180}"}
NETS = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
PROVIDER, NO_PROVIDER = {"CapacityProviderName": "pool"}, {"CapacityProviderName": "none"}
OPERATOR = {"VpcConfig": NETS, "PermissionsConfig": {"CapacityProviderOperatorRoleArn": ROLE}}
MANAGED = {"FunctionName": "managed", "Qualifier": "1"}
POOL_ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:capacity-provider:pool"
ON_POOL = {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": POOL_ARN}}
PROVIDERS, VERSIONS = "CapacityProviderLimitExceededException", "FunctionVersionsPerCapacityProviderLimitExceededException"
USUAL |= {
    "CreateCapacityProvider": {"CapacityProviderName": "new", **OPERATOR},
    "DeleteCapacityProvider": PROVIDER,
    "GetCapacityProvider": PROVIDER,
    "GetFunctionScalingConfig": MANAGED,
    "ListCapacityProviders": {},
    "ListFunctionVersionsByCapacityProvider": PROVIDER,
    "PutFunctionScalingConfig": {**MANAGED, "FunctionScalingConfig": {"MinExecutionEnvironments": 1}},
    "UpdateCapacityProvider": PROVIDER,
}
SCALED = {"ScalingMode": "Manual"}
BUSY, ELSEWHERE = {"FunctionName": "busy"}, {"FunctionName": "hello:live", "Qualifier": "other"}
#: Operation -> error -> what of the usual is different.
PROVOKED = {
    "AddLayerVersionPermission": {
        INVALID: {"VersionNumber": 0}, CONFLICT: SHARE, LONG: {"VersionNumber": 2}, MISSING: {"VersionNumber": 9},
        STALE: {"RevisionId": UUID},
    },
    "AddPermission": {
        INVALID: {"Principal": "nonsense"}, CONFLICT: GRANT, LONG: {"FunctionName": "lengthy", **LONG_SOURCE}, STALE: {"RevisionId": UUID},
    },
    "CreateAlias": {CONFLICT: {"Name": "live"}},
    "CreateCapacityProvider": {
        INVALID: {"CapacityProviderScalingConfig": SCALED}, CONFLICT: PROVIDER, PROVIDERS: {},
    },
    "DeleteCapacityProvider": {CONFLICT: {}, MISSING: NO_PROVIDER},
    "GetCapacityProvider": {MISSING: NO_PROVIDER},
    "ListCapacityProviders": {INVALID: {"Marker": "!"}},
    "ListFunctionVersionsByCapacityProvider": {INVALID: {"Marker": "!"}, MISSING: NO_PROVIDER},
    "PutFunctionScalingConfig": {
        INVALID: {"FunctionScalingConfig": {"MinExecutionEnvironments": 2, "MaxExecutionEnvironments": 1}},
    },
    "UpdateCapacityProvider": {INVALID: {"CapacityProviderScalingConfig": SCALED}, MISSING: NO_PROVIDER},
    "CreateEventSourceMapping": {INVALID: {"FunctionName": "none"}, CONFLICT: {"EventSourceArn": f"{QUEUE}-taken"}},
    "CreateFunction": {
        INVALID: {"Runtime": "cobol"}, CONFLICT: {"FunctionName": "hello"}, NO_SIGNING: {"CodeSigningConfigArn": SIGNING},
        UNSIGNED: {"CodeSigningConfigArn": "BOUND"}, FULL: {},
        VERSIONS: {"Runtime": "python3.13", "CapacityProviderConfig": ON_POOL, "Publish": True},
    },
    "CreateFunctionUrlConfig": {INVALID: ELSEWHERE, CONFLICT: {}},
    "DeleteCodeSigningConfig": {CONFLICT: {"CodeSigningConfigArn": "BOUND"}, MISSING: {}},
    "DeleteEventSourceMapping": {MISSING: {}},
    "DeleteFunctionUrlConfig": {INVALID: ELSEWHERE},
    "DeleteFunction": {INVALID: {"Qualifier": "$LATEST"}, CONFLICT: {"Qualifier": "1"}},
    "DeleteLayerVersion": {INVALID: {"VersionNumber": 0}},
    "DeleteResourcePolicy": {MISSING: {"ResourceArn": NONE}, STALE: {"RevisionId": UUID}},
    "GetCodeSigningConfig": {MISSING: {}},
    "GetEventSourceMapping": {MISSING: {}},
    "GetFunctionUrlConfig": {INVALID: ELSEWHERE},
    "GetLayerVersion": {INVALID: {"VersionNumber": 0}, MISSING: {"VersionNumber": 9}},
    "GetLayerVersionByArn": {MISSING: {"Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:none:1"}},
    "GetLayerVersionPolicy": {INVALID: {"VersionNumber": 0}, MISSING: {"VersionNumber": 9}},
    "GetProvisionedConcurrencyConfig": {
        INVALID: {"Qualifier": "$LATEST"}, "ProvisionedConcurrencyConfigNotFoundException": {"Qualifier": "2"},
    },
    "GetResourcePolicy": {MISSING: {"ResourceArn": NONE}},
    "ListCodeSigningConfigs": {INVALID: {"Marker": "!"}},
    "ListFunctions": {INVALID: {"Marker": "!"}},
    "ListFunctionsByCodeSigningConfig": {INVALID: {"CodeSigningConfigArn": "BOUND", "Marker": "!"}, MISSING: {}},
    "ListFunctionUrlConfigs": {INVALID: {"Marker": "!"}},
    "ListVersionsByFunction": {INVALID: {"Marker": "!"}},
    "ListEventSourceMappings": {INVALID: {"Marker": "!"}},
    "ListLayers": {INVALID: {"Marker": "!"}},
    "ListLayerVersions": {INVALID: {"Marker": "!"}},
    "ListTags": {INVALID: {"Resource": f"{ARN}hello:1"}, MISSING: {"Resource": NONE}},
    "PublishLayerVersion": {INVALID: {"Content": {"ZipFile": b"no zip"}}, FULL: {}},
    "PublishVersion": {VERSIONS: {"FunctionName": "managed"}, INVALID: {"CodeSha256": "x"}, CONFLICT: BUSY, STALE: {"RevisionId": UUID}},
    "PutFunctionCodeSigningConfig": {NO_SIGNING: {}},
    "PutFunctionConcurrency": {INVALID: {"ReservedConcurrentExecutions": 950}},
    "PutFunctionEventInvokeConfig": {INVALID: {"DestinationConfig": {"OnFailure": {"Destination": f"{ARN}hello"}}}},
    "PutProvisionedConcurrencyConfig": {INVALID: {"Qualifier": "$LATEST"}, CONFLICT: {"Qualifier": "1"}},
    "PutResourcePolicy": {
        INVALID: {"Policy": "{"}, MISSING: {"ResourceArn": NONE}, STALE: {"RevisionId": UUID},
    },
    "PutRuntimeManagementConfig": {INVALID: {"UpdateRuntimeOn": "Manual"}},
    "RemoveLayerVersionPermission": {
        INVALID: {"VersionNumber": 0}, MISSING: {"StatementId": "none"}, STALE: {"RevisionId": UUID},
    },
    "RemovePermission": {STALE: {"RevisionId": UUID}},
    "TagResource": {INVALID: {"Tags": {}}, MISSING: {"Resource": NONE}},
    "UntagResource": {INVALID: {"Resource": f"{ARN}hello:1"}, MISSING: {"Resource": NONE}},
    "UpdateAlias": {STALE: {"RevisionId": UUID}},
    "UpdateCodeSigningConfig": {MISSING: {}},
    "UpdateEventSourceMapping": {INVALID: {"UUID": "TAKEN", "BatchSize": 100}, MISSING: {}},
    "UpdateFunctionCode": {
        INVALID: {"ZipFile": b"no zip"}, CONFLICT: BUSY, UNSIGNED: {"FunctionName": "signed"}, STALE: {"RevisionId": UUID},
        FULL: {},
    },
    "UpdateFunctionUrlConfig": {INVALID: ELSEWHERE},
    "UpdateFunctionConfiguration": {INVALID: {"Runtime": "cobol"}, CONFLICT: BUSY, STALE: {"RevisionId": UUID}},
}  # fmt: skip


def documented(operation: str) -> set[str]:
    return {shape.name for shape in service_model("lambda").operation_model(operation).error_shapes}


def answered(operation: str) -> set[str]:
    return set(coverage_errors.answered(operation))


def provocations(operation: str) -> dict[str, dict]:
    """Error -> parameters: what is said above, and what every operation on functions has in common."""
    usual, members = USUAL[operation], LAMBDA[operation].input.members
    found = {error: {**usual, **different} for error, different in PROVOKED.get(operation, {}).items()}
    if "FunctionName" in usual:
        found.setdefault(MISSING, {**usual, "FunctionName": "none"})
        elsewhere = {"FunctionName": "hello:1", "Qualifier": "2"} if "Qualifier" in members else {"FunctionName": "hello:1"}
        found.setdefault(INVALID, {**usual, **elsewhere})
    return found


@pytest.fixture
async def control(tmp_path):
    """One of everything, some of it in the way of something."""
    async with control_over(tmp_path) as control:
        for name in ("hello", "lengthy", "busy", "signed"):
            await control.create(name, Publish=name == "hello")
        await control.update_code()
        await blocking(prepare, control.client())
        await control.create("managed", Runtime="python3.13", Publish=True, CapacityProviderConfig=ON_POOL)
        yield control


def prepare(client):
    client.publish_version(FunctionName="hello")
    client.create_capacity_provider(**PROVIDER, **OPERATOR)
    client.create_alias(**HELLO, Name="live", FunctionVersion="1")
    client.add_permission(**HELLO, **GRANT)
    client.create_function_url_config(**HELLO, AuthType="NONE")
    client.put_provisioned_concurrency_config(**HELLO, Qualifier="live", ProvisionedConcurrentExecutions=1)
    client.create_event_source_mapping(**HELLO, EventSourceArn=f"{QUEUE}-taken")
    for _ in range(2):
        client.publish_layer_version(LayerName="tools", Content={"ZipFile": archive("layer")})
    client.add_layer_version_permission(**TOOLS, **SHARE)


def fill(client, operation):
    """Statements until there is no room for another."""
    add, usual = (
        (client.add_permission, {"FunctionName": "lengthy", **GRANT, **LONG_SOURCE})
        if operation == "AddPermission"
        else (client.add_layer_version_permission, {"LayerName": "tools", "VersionNumber": 2, **SHARE})
    )
    with contextlib.suppress(client.exceptions.PolicyLengthExceededException):
        for number in range(200):
            add(**usual | {"StatementId": f"s{number:0>80}"})


def signed(client, params):
    """The parameters with a configuration that lets nothing in, and that a function has."""
    made = client.create_code_signing_config(**PUBLISHERS, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"})
    config = {"CodeSigningConfigArn": made["CodeSigningConfig"]["CodeSigningConfigArn"]}
    client.put_function_code_signing_config(FunctionName="signed", **config)
    return {**params, **(config if "CodeSigningConfigArn" in params else {})}


async def provoked(control, operation, error, params, monkeypatch):
    """What the operation answers to these parameters."""
    client = control.client()
    if params.get("CodeSigningConfigArn") == "BOUND" or params.get("FunctionName") == "signed":
        params = await blocking(signed, client, params)
    if params.get("UUID") == "TAKEN":
        params = {**params, "UUID": (await blocking(client.list_event_source_mappings))["EventSourceMappings"][0]["UUID"]}
    if error == LONG:
        await blocking(fill, client, operation)
    if error == FULL:
        monkeypatch.setattr(uploads, "CODE_STORAGE_BYTES_MAX", 1)
    for limited, module, bound in ((PROVIDERS, capacity, "PROVIDERS_MAX"), (VERSIONS, managed, "VERSIONS_MAX")):
        if error == limited:
            monkeypatch.setattr(module, bound, 1)
    if params.get("FunctionName") == "busy":
        control.desk.fronts.hold()
        await control("UpdateFunctionConfiguration", FunctionName="busy", Timeout=4)
    with pytest.raises(ClientError) as caught:
        await blocking(getattr(client, botocore.xform_name(operation)), **params)
    control.desk.fronts.release()
    return caught.value.response["Error"]["Code"]


@pytest.mark.parametrize("operation", sorted(USUAL))
async def test_each_error_is_answered_where_it_is_said_to_be(control, monkeypatch, operation):
    known = {error: params for error, params in provocations(operation).items() if error in documented(operation)}
    for error in answered(operation) - {INSIDE}:
        with monkeypatch.context() as patch:
            assert await provoked(control, operation, error, known.pop(error), patch) == error
    for error, params in known.items():
        assert why_never(operation, error), f"{operation} is given reason for {error}: {params}"


@pytest.mark.parametrize("operation", sorted({*USUAL, *INVOKING}))
def test_every_error_of_the_model_is_answered_or_never_is_for_a_reason(operation):
    assert answered(operation) <= documented(operation)
    for error in documented(operation) - answered(operation):
        assert why_never(operation, error), f"{operation} documents {error}: provoke it, or say why it is never answered"


def test_the_tables_speak_of_what_is_served_and_of_nothing_else():
    served = {*control_plane(None, spool=Path(), code_url=None, grants=None), *INVOKING}
    assert set(coverage_errors.ANSWERED) == served == {*USUAL, *INVOKING}
    left = {
        (operation, error.removesuffix("Exception"))
        for operation in served
        for error in documented(operation) - answered(operation)
    }
    assert set(coverage_errors.NEVER_BY) <= left
    assert set(coverage_errors.NEVER) <= {error for _, error in left}


@pytest.mark.parametrize("operation", sorted(USUAL))
def test_a_failure_of_the_nodes_own_is_a_service_exception_of_every_operation(failing, operation):
    params = {**USUAL[operation], **({"Code": {"ZipFile": b"z"}} if operation == "CreateFunction" else {})}
    with pytest.raises(ClientError) as caught:
        getattr(failing, botocore.xform_name(operation))(**params)
    assert caught.value.response["Error"]["Code"] == INSIDE
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


@pytest.fixture(scope="module")
def failing():
    """A client of a control plane in which everything fails."""

    async def fails(_context, _params):
        raise RuntimeError("inside")

    application = AwsApplication(services={"lambda": dict.fromkeys(USUAL, fails)}, invoker=EchoInvoker(), index=index_with())
    with serving(application) as url:
        yield lambda_at(url)


def lambda_at(url, key=KEY.id, secret=KEY.secret, token=None):
    return boto3.client(
        "lambda", endpoint_url=url, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret,
        aws_session_token=token, config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


# Calls --------------------------------------------------------------------------------------------------------------------
#: Of the core's errors, what each is to the caller of a function.
INSIDE_CALLS = {
    "TooManyRequestsException": errors.Throttled("function"),
    "InvalidRuntimeException": errors.RuntimeMissing("python3.8", "no python3.8 here"),
    "NoPublishedVersionException": errors.NotFound("published version", "hello"),
    INSIDE: errors.Unavailable("no front"),
}


@pytest.mark.parametrize("operation", INVOKING)
def test_each_error_of_a_call_is_answered(operation):
    invoker = EchoInvoker()
    index = index_with("hello")
    application = AwsApplication(services={}, invoker=invoker, index=index)
    payload = "InvokeArgs" if operation == "InvokeAsync" else "Payload"
    wanted = {
        MISSING: {"FunctionName": "none"},
        "InvalidRequestContentException": {payload: b"{"},
        INVALID: {"FunctionName": "hello:1", "Qualifier": "2"},
        **dict.fromkeys(INSIDE_CALLS, {}),
    }
    with serving(application) as url:
        client = lambda_at(url)
        for error in answered(operation) - {RECURSIVE}:
            invoker.error = INSIDE_CALLS.get(error)
            with pytest.raises(ClientError) as caught:
                getattr(client, botocore.xform_name(operation))(**{**HELLO, payload: b"{}"} | wanted[error])
            assert caught.value.response["Error"]["Code"] == error
        if RECURSIVE in answered(operation):
            invoker.error = None
            assert recursive(url, application, operation) == RECURSIVE


def recursive(url, application, operation):
    """What a function that has called itself often enough is answered."""
    trace = "Root=1-00000000-000000000000000000000000;Sampled=0"
    for _ in range(lineage.CALLS_MAX):
        trace, _ = lineage.lengthened(trace, "olleh")
    who = Principal(kind=Kind.FUNCTION, account=ACCOUNT, region=REGION, name="olleh", role="r")
    minted = application.credentials.mint(who, now_s=time.time())
    client = lambda_at(url, minted.access_key_id, minted.secret, minted.session_token)
    client.meta.events.register("before-send", lambda request, **_: request.headers.update({"X-Amzn-Trace-Id": trace}))
    with pytest.raises(ClientError) as caught:
        getattr(client, botocore.xform_name(operation))(FunctionName="hello", Payload=b"{}")
    return caught.value.response["Error"]["Code"]
