"""CreateFunction, GetFunction, ListFunctions, UpdateFunction*, DeleteFunction: states, shapes and refusals as Lambda's."""

import asyncio
import base64
import hashlib
import json
import re
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from ondol.dialects.aws.control import control_plane
from ondol.dialects.aws.runtimes import LISTED
from ondol.dialects.aws.service import ServiceError
from ondol.model.errors import Denied, Unavailable
from ondol.model.principals import Kind, Principal
from ondol.testing.boto import ACCOUNT, REGION, blocking
from ondol.testing.control import ARN, ROLE, Control, archive
from ondol.testing.control import control as control_over

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ENUM = f"[{', '.join(LISTED)}] or be a valid ARN"


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        yield made


async def refused(awaitable):
    with pytest.raises(ServiceError) as caught:
        await awaitable
    return caught.value


async def test_create_answers_pending_with_the_defaults_filled_in(control):
    control.desk.fronts.hold()
    answer = await control.create(settle=False)
    data = archive()
    assert UUID.fullmatch(answer.pop("RevisionId"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", answer.pop("LastModified"))
    assert re.fullmatch(
        rf"arn:aws:lambda:{REGION}::runtime:[0-9a-f]{{64}}", answer.pop("RuntimeVersionConfig")["RuntimeVersionArn"]
    )
    assert answer == {
        "FunctionName": "hello",
        "FunctionArn": ARN + "hello",
        "Runtime": "python3.12",
        "Role": ROLE,
        "Handler": "app.handler",
        "CodeSize": len(data),
        "CodeSha256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/hello"},
    }


async def test_a_function_becomes_active_when_the_fronts_have_it(control):
    created = await control.create()
    shown = await control("GetFunctionConfiguration", FunctionName="hello")
    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in shown
    assert shown["RevisionId"] != created["RevisionId"]


async def test_an_update_is_in_progress_until_the_fronts_have_it_and_its_revision_id_changes_twice(control):
    await control.create()
    before = await control("GetFunctionConfiguration", FunctionName="hello")
    control.desk.fronts.hold()
    updating = await control("UpdateFunctionCode", FunctionName="hello", ZipFile=archive("other"))
    assert (updating["State"], updating["LastUpdateStatus"]) == ("Active", "InProgress")
    assert updating["LastUpdateStatusReason"] == "The function is being created."
    assert updating["LastUpdateStatusReasonCode"] == "Creating"
    assert updating["CodeSha256"] != before["CodeSha256"]
    control.desk.fronts.release()
    await control.desk.settled()
    after = await control("GetFunctionConfiguration", FunctionName="hello")
    assert after["LastUpdateStatus"] == "Successful"
    assert len({before["RevisionId"], updating["RevisionId"], after["RevisionId"]}) == 3


async def test_boto3_creates_waits_updates_waits_reads_and_deletes(control):
    client = control.client()
    await blocking(
        client.create_function,
        FunctionName="hello",
        Runtime="python3.12",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": archive()},
        Environment={"Variables": {"STAGE": "test"}},
        Tags={"team": "floor"},
    )
    await blocking(client.get_waiter("function_active_v2").wait, FunctionName="hello")
    await blocking(client.update_function_configuration, FunctionName="hello", MemorySize=256, Timeout=10)
    await blocking(client.get_waiter("function_updated_v2").wait, FunctionName="hello")
    shown = await blocking(client.get_function, FunctionName="hello")
    configuration = shown["Configuration"]
    assert (configuration["MemorySize"], configuration["Timeout"]) == (256, 10)
    assert configuration["Environment"] == {"Variables": {"STAGE": "test"}}
    assert shown["Tags"] == {"team": "floor"}
    assert shown["Code"]["RepositoryType"] == "S3"
    assert shown["Code"]["Location"].startswith("http://127.0.0.1:7979/code/")
    assert (await blocking(client.delete_function, FunctionName="hello"))["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(client.exceptions.ResourceNotFoundException) as gone:
        await blocking(client.get_function, FunctionName="hello")
    assert gone.value.response["Error"]["Message"] == f"Function not found: {ARN}hello"
    assert gone.value.response["Type"] == "User"


async def test_the_status_codes_are_those_of_the_service(control):
    client = control.client()
    answers = [
        await blocking(
            client.create_function,
            FunctionName="hello",
            Runtime="python3.12",
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": archive()},
        )
    ]
    await control.desk.settled()
    answers.append(await blocking(client.publish_version, FunctionName="hello"))
    answers.append(await blocking(client.list_functions))
    assert [answer["ResponseMetadata"]["HTTPStatusCode"] for answer in answers] == [201, 201, 200]


@pytest.mark.parametrize("form", ["hello", f"{ACCOUNT}:function:hello", f"function:hello", f"{ARN}hello"])
async def test_a_function_answers_to_every_form_of_its_name(control, form):
    await control.create()
    assert (await control("GetFunctionConfiguration", FunctionName=form))["FunctionArn"] == f"{ARN}hello"


async def test_a_qualifier_shows_in_the_arn_as_it_was_given(control):
    await control.create(Publish=True)
    await control("CreateAlias", FunctionName="hello", Name="live", FunctionVersion="1")
    for qualifier, version in [("$LATEST", "$LATEST"), ("1", "1"), ("live", "1")]:
        shown = await control("GetFunctionConfiguration", FunctionName="hello", Qualifier=qualifier)
        assert (shown["FunctionArn"], shown["Version"]) == (f"{ARN}hello:{qualifier}", version)


async def test_create_with_publish_answers_version_one_with_the_bare_arn(control):
    answer = await control.create(Publish=True)
    assert (answer["Version"], answer["FunctionArn"], answer["State"]) == ("1", f"{ARN}hello", "Pending")
    assert "LastUpdateStatus" not in answer
    shown = await control("GetFunctionConfiguration", FunctionName="hello:1")
    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "Successful")


async def test_update_with_publish_answers_the_new_version(control):
    await control.create(Publish=True)
    answer = await control.update_code(Publish=True)
    assert (answer["Version"], answer["FunctionArn"]) == ("2", f"{ARN}hello:2")


async def test_everything_given_at_create_is_shown_again(control):
    given = {
        "Description": "says hello",
        "Timeout": 900,
        "MemorySize": 10240,
        "EphemeralStorage": {"Size": 10240},
        "TracingConfig": {"Mode": "Active"},
        "Architectures": ["arm64"],
        "KMSKeyArn": f"arn:aws:kms:{REGION}:1:key/k",
        "DeadLetterConfig": {"TargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"},
        "Environment": {"Variables": {}},
    }
    answer = await control.create(
        **given,
        SnapStart={"ApplyOn": "PublishedVersions"},
        VpcConfig={"SubnetIds": ["subnet-1"]},
        LoggingConfig={"LogFormat": "JSON", "LogGroup": "mine"},
    )
    assert {member: answer[member] for member in given} == given
    assert answer["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    assert answer["VpcConfig"]["SubnetIds"] == ["subnet-1"]
    assert answer["LoggingConfig"] == {
        "LogFormat": "JSON",
        "LogGroup": "mine",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "INFO",
    }


async def test_a_configuration_update_changes_what_it_names_and_nothing_else(control):
    await control.create(Description="one", Environment={"Variables": {"A": "1"}}, Timeout=5)
    before = await control("GetFunctionConfiguration", FunctionName="hello")
    await control("UpdateFunctionConfiguration", FunctionName="hello", MemorySize=512)
    await control.desk.settled()
    after = await control("GetFunctionConfiguration", FunctionName="hello")
    changed = {member for member in after if after[member] != before.get(member)}
    assert changed - {"RevisionId", "LastModified"} == {"MemorySize"}


async def test_a_dry_run_shows_the_update_and_keeps_the_code(control):
    created = await control.create()
    shown = await control("UpdateFunctionCode", FunctionName="hello", ZipFile=archive("other"), DryRun=True)
    assert shown["CodeSha256"] != created["CodeSha256"]
    kept = await control("GetFunctionConfiguration", FunctionName="hello")
    assert (kept["CodeSha256"], kept["LastUpdateStatus"]) == (created["CodeSha256"], "Successful")


async def test_a_dry_run_publishes_nothing_and_is_not_asked_to(control):
    await control.create()
    given = {"ZipFile": archive("other"), "DryRun": True, "Publish": True}
    error = await refused(control("UpdateFunctionCode", FunctionName="hello", **given))
    assert (error.code, "mutually exclusive" in str(error)) == ("InvalidParameterValueException", True)


@pytest.mark.parametrize("elsewhere", [{"S3Bucket": "bucket", "S3Key": "key"}, {"S3ObjectVersion": "1"}])
async def test_code_comes_from_one_place(control, elsewhere):
    await control.create()
    given = {"ZipFile": archive("other"), **elsewhere}
    for refusal in (control("UpdateFunctionCode", FunctionName="hello", **given), control.create("other", Code=given)):
        error = await refused(refusal)
        assert str(error) == "Please do not provide other FunctionCode parameters when providing a ZipFile."


async def test_a_second_update_while_one_is_in_progress_is_a_conflict(control):
    await control.create()
    control.desk.fronts.hold()
    await control("UpdateFunctionConfiguration", FunctionName="hello", Timeout=4)
    for operation, params in [
        ("UpdateFunctionConfiguration", {"Timeout": 5}),
        ("UpdateFunctionCode", {"ZipFile": archive("x")}),
        ("PublishVersion", {}),
    ]:
        error = await refused(control(operation, FunctionName="hello", **params))
        assert (error.code, error.status) == ("ResourceConflictException", 409)
        assert str(error) == (
            f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}hello"
        )


async def test_of_concurrent_updates_all_but_one_are_told_of_the_conflict(control):
    await control.create()
    results = await asyncio.gather(
        *(control("UpdateFunctionConfiguration", FunctionName="hello", Timeout=n) for n in range(4, 9)),
        return_exceptions=True,
    )
    assert sorted(getattr(result, "code", "done") for result in results) == ["ResourceConflictException"] * 4 + ["done"]


async def test_a_pending_function_is_not_updated(control):
    control.desk.fronts.hold()
    await control.create(settle=False)
    error = await refused(control("UpdateFunctionConfiguration", FunctionName="hello", Timeout=4))
    assert str(error).endswith("The function is currently in the following state: Pending")


async def test_a_stale_revision_id_is_refused_and_the_current_one_taken(control):
    created = await control.create()
    for operation, params in [
        ("UpdateFunctionConfiguration", {"Timeout": 5}),
        ("UpdateFunctionCode", {"ZipFile": archive("x")}),
        ("PublishVersion", {}),
    ]:
        error = await refused(control(operation, FunctionName="hello", RevisionId=created["RevisionId"], **params))
        assert (error.code, error.status) == ("PreconditionFailedException", 412)
        assert str(error) == (
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
        )
    current = await control("GetFunctionConfiguration", FunctionName="hello")
    await control("UpdateFunctionConfiguration", FunctionName="hello", Timeout=5, RevisionId=current["RevisionId"])


async def test_a_name_is_given_once(control):
    await control.create()
    error = await refused(control.create())
    assert (error.code, str(error)) == ("ResourceConflictException", "Function already exist: hello")


LARGE = {"SMALL_VAR": "ok", "LARGE_VAR": "x" * 4096}
REFUSED = [
    ({"FunctionName": "a" * 65}, "1 validation error detected: Value '" + "a" * 65 + "' at 'functionName' failed to satisfy "
     "constraint: Member must have length less than or equal to 64"),
    ({"Runtime": "non-existent-runtime"}, "Value non-existent-runtime at 'runtime' failed to satisfy constraint: "
     f"Member must satisfy enum value set: {ENUM}"),
    ({"Runtime": "PYTHON3.9"}, "Value PYTHON3.9 at 'runtime' failed to satisfy constraint: "
     f"Member must satisfy enum value set: {ENUM}"),
    *(
        ({"Runtime": runtime}, f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
         "functions. We recommend you use a supported runtime while creating or updating functions.")
        for runtime in ("dotnetcore3.1", "go1.x", "java8", "nodejs12.x", "nodejs14.x", "provided", "python3.7", "ruby2.7")
    ),
    ({"Environment": {"Variables": LARGE}}, "Lambda was unable to configure your environment variables because the environment "
     "variables you have provided exceeded the 4KB limit. String measured: " + json.dumps(LARGE, separators=(",", ":"))),
    ({"Environment": {"Variables": {"AWS_REGION": "x", "OWN": "y", "_HANDLER": "z"}}}, "Lambda was unable to configure your "
     "environment variables because the environment variables you have provided contains reserved keys that are currently not "
     "supported for modification. Reserved keys used in this request: AWS_REGION, _HANDLER"),
    ({"Handler": None}, "Runtime and Handler are mandatory parameters for functions created with deployment packages."),
    ({"Runtime": None}, "Runtime and Handler are mandatory parameters for functions created with deployment packages."),
    ({"Code": {}}, "Please provide a source for function code."),
    ({"Code": {"ZipFile": b""}}, "Uploaded file must be a non-empty zip"),
    ({"Code": {"ZipFile": b"no zip"}}, "Could not unzip uploaded file. Please check your file, then try to upload again."),
    ({"Code": {"S3Bucket": "b", "S3Key": "k"}}, "Ondol does not do code from S3 without an S3 yet. "
     "Start the node with --upstream URL or --with-emulator, or send the archive itself as ZipFile "
     "(up to 50 MB zipped)."),
    ({"PackageType": "Image", "Code": {"ImageUri": "i"}}, "Ondol does not do container images yet. Deploy the code as a zip "
     "archive (PackageType Zip)."),
    ({"Layers": [f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:l:{n}" for n in range(6)]}, "Cannot reference more than 5 layers."),
    ({"Layers": [f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:l:1"]},
     f"Layer version arn:aws:lambda:{REGION}:{ACCOUNT}:layer:l:1 does not exist."),
    ({"Tags": {f"t{n}": "" for n in range(51)}}, "Number of tags exceeds resource tag limit."),
    ({"MemorySize": 10241}, "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240"),
    ({"Runtime": "nodejs22.x", "SnapStart": {"ApplyOn": "PublishedVersions"}}, "nodejs22.x is not supported for SnapStart "
     "enabled functions."),
]  # fmt: skip


@pytest.mark.parametrize(("params", "text"), REFUSED)
async def test_what_create_refuses_it_refuses_in_the_service_s_words(control, params, text):
    error = await refused(control.create(**params))
    assert (error.code, str(error), error.status) == ("InvalidParameterValueException", text, 400)
    assert error.extra == {"Type": "User"}
    assert await control("ListFunctions") == {"Functions": []}


@pytest.mark.parametrize(
    ("params", "member", "limit"),
    [({"Timeout": 901}, "timeout", 900), ({"EphemeralStorage": {"Size": 10241}}, "ephemeralStorage.size", 10240)],
)
async def test_what_the_model_has_room_for_and_the_service_has_not_is_a_validation_error(control, params, member, limit):
    error = await refused(control.create(**params))
    assert error.code == "ValidationException"
    assert f"at '{member}' failed to satisfy constraint: Member must have value less than or equal to {limit}" in str(error)


async def test_an_archive_beyond_the_limit_is_too_large(control):
    error = await refused(control.create(Code={"ZipFile": b"x" * 52_428_801}))
    assert (error.code, error.status) == ("RequestEntityTooLargeException", 413)
    assert str(error) == "Zipped size must be smaller than 52428800 bytes"


async def test_an_archive_that_unpacks_to_too_much_is_refused(control, monkeypatch):
    monkeypatch.setattr("ondol.testing.blobs.CODE_UNPACKED_BYTES_MAX", 10)
    error = await refused(control.create())
    assert (error.code, str(error)) == ("InvalidParameterValueException", "Unzipped size must be smaller than 10 bytes")


async def test_the_account_s_code_storage_is_bounded(control, monkeypatch):
    monkeypatch.setattr("ondol.dialects.aws.uploads.CODE_STORAGE_BYTES_MAX", 2 * len(archive()))
    for name in ("one", "two"):
        await control.create(name)
    error = await refused(control.create("three"))
    assert (error.code, str(error)) == ("CodeStorageExceededException", "Code storage limit exceeded.")


async def test_uploads_leave_nothing_in_the_spool(control, tmp_path):
    await control.create()
    await refused(control.create("other", Code={"ZipFile": b"no zip"}))
    assert [path.name for path in tmp_path.iterdir()] == ["code"]


async def test_an_upload_that_cannot_be_spooled_says_how_to_mend_it(tmp_path):
    async with control_over(tmp_path) as made:
        operations = control_plane(made.desk.deployments, spool=tmp_path / "gone", code_url=lambda code, told: "", grants=None)
        with pytest.raises(Unavailable, match="gone"):
            await replace(made, operations=operations).create()
        assert made.desk.index.functions() == []


async def test_an_unknown_code_signing_configuration_is_not_found(control):
    csc = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-{'0' * 17}"
    error = await refused(control.create(CodeSigningConfigArn=csc))
    assert (error.code, error.status) == ("CodeSigningConfigNotFoundException", 404)
    assert str(error).endswith(f"Check that the provided configuration is not deleted: {csc}.")


@pytest.mark.parametrize("runtime", LISTED)
async def test_every_runtime_the_service_lists_is_accepted(control, runtime):
    assert (await control.create(Runtime=runtime))["Runtime"] == runtime


async def test_an_environment_of_exactly_four_kilobytes_is_accepted(control):
    variables = {"A": "x" * (4096 - len('{"A":""}'))}
    assert (await control.create(Environment={"Variables": variables}))["Environment"]["Variables"] == variables


async def test_refusals_reach_boto3_with_the_body_s_own_spelling(control):
    client = control.client()
    with pytest.raises(ClientError) as refusal:
        await blocking(client.update_function_code, FunctionName="hello", ZipFile=archive())
    assert refusal.value.response["Error"]["Code"] == "ResourceNotFoundException"
    await control.create()
    with pytest.raises(ClientError) as refusal:
        await blocking(client.update_function_code, FunctionName="hello", ImageUri="1.dkr.ecr.eu-west-1.amazonaws.com/a:b")
    assert refusal.value.response["message"] == "Please don't provide ImageUri when updating a function with packageType Zip."


@pytest.mark.parametrize(
    ("operation", "qualifier", "arn"),
    [
        ("GetFunction", None, "ghost"), ("GetFunction", "7", "ghost:7"), ("GetFunctionConfiguration", "x-$", "ghost:x-$"),
        ("UpdateFunctionConfiguration", None, "ghost"), ("PublishVersion", None, "ghost"),
        ("ListVersionsByFunction", None, "ghost"), ("DeleteFunction", None, "ghost"), ("ListAliases", None, "ghost"),
        ("GetFunctionConcurrency", None, "ghost"),
    ],
)  # fmt: skip
async def test_a_function_that_is_not_there_is_named_in_the_refusal(control, operation, qualifier, arn):
    params = {"FunctionName": "ghost", **({"Qualifier": qualifier} if qualifier else {})}
    error = await refused(control(operation, **params))
    assert (error.code, error.status, str(error)) == ("ResourceNotFoundException", 404, f"Function not found: {ARN}{arn}")


@pytest.mark.parametrize("qualifier", ["7", "ghost"])
async def test_a_qualifier_that_is_not_there_is_named_in_the_refusal(control, qualifier):
    await control.create()
    error = await refused(control("GetFunction", FunctionName="hello", Qualifier=qualifier))
    assert str(error) == f"Function not found: {ARN}hello:{qualifier}"


async def test_changing_a_version_or_alias_as_if_it_were_a_function_is_refused(control):
    await control.create(Publish=True)
    error = await refused(control("UpdateFunctionConfiguration", FunctionName="hello:1", Timeout=5))
    assert str(error).startswith("This operation is permitted on Lambda functions only.")


async def test_list_functions_pages_through_all_names_in_order(control):
    names = [f"f{n:02d}" for n in range(7)]
    for name in reversed(names):
        await control.create(name)
    client = control.client()
    pages = await blocking(lambda: list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3})))
    assert [[f["FunctionName"] for f in page["Functions"]] for page in pages] == [names[:3], names[3:6], names[6:]]
    assert "State" not in pages[0]["Functions"][0]
    assert pages[0]["Functions"][0]["FunctionArn"] == f"{ARN}f00"


async def test_list_functions_shows_at_most_fifty_whatever_is_asked_for(control):
    for n in range(51):
        await control.create(f"f{n:02d}", settle=False)
    first = await control("ListFunctions", MaxItems=10_000)
    second = await control("ListFunctions", Marker=first["NextMarker"])
    assert (len(first["Functions"]), len(second["Functions"])) == (50, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_list_functions_of_all_versions_pages_through_every_version_once(control, size):
    for name in ("a", "b"):
        await control.create(name, Publish=True)
        await control.update_code(name, Publish=True)
    seen, marker = [], {}
    while True:
        answer = await control("ListFunctions", FunctionVersion="ALL", MaxItems=size, **marker)
        seen += [function["FunctionArn"].removeprefix(ARN) for function in answer["Functions"]]
        if "NextMarker" not in answer:
            break
        marker = {"Marker": answer["NextMarker"]}
    assert seen == ["a:$LATEST", "a:1", "a:2", "b:$LATEST", "b:1", "b:2"]


async def test_a_made_up_marker_is_refused(control):
    error = await refused(control("ListFunctions", Marker="%%%"))
    assert error.code == "InvalidParameterValueException"


async def test_functions_of_another_region_are_not_listed_as_copies(control):
    await control.create()
    assert await control("ListFunctions", MasterRegion="us-east-1", FunctionVersion="ALL") == {"Functions": []}
    assert len((await control("ListFunctions", MasterRegion="ALL", FunctionVersion="ALL"))["Functions"]) == 1


async def test_accounts_do_not_see_each_other_s_functions(control):
    await control.create()
    stranger = Principal(kind=Kind.OWNER, account="999999999999", region=REGION, name="AKIAOTHER")
    assert await control("ListFunctions", principal=stranger) == {"Functions": []}
    error = await refused(control("GetFunction", principal=stranger, FunctionName="hello"))
    assert error.code == "ResourceNotFoundException"
    error = await refused(control("GetFunction", principal=stranger, FunctionName=f"{ARN}hello"))
    assert (error.code, error.status) == ("AccessDeniedException", 403)


@pytest.mark.parametrize("kind", [Kind.ANONYMOUS, Kind.FUNCTION])
async def test_who_owns_no_key_may_nothing(control, kind):
    await control.create(Publish=True)
    who = Principal(kind=kind, account=ACCOUNT, region=REGION, name="x")
    base = {"FunctionName": "hello"}
    calls = {
        "CreateFunction": {
            "FunctionName": "n",
            "Role": ROLE,
            "Code": {"ZipFile": archive()},
            "Runtime": "java21",
            "Handler": "h",
        },
        "TagResource": {"Resource": f"{ARN}hello", "Tags": {"a": "b"}},
        "UntagResource": {"Resource": f"{ARN}hello", "TagKeys": ["a"]},
        "ListTags": {"Resource": f"{ARN}hello"},
        **{f"{verb}ResourcePolicy": {"ResourceArn": f"{ARN}hello"} for verb in ("Put", "Get", "Delete")},
        "CreateAlias": {**base, "Name": "a", "FunctionVersion": "1"},
        **{operation: {**base, "Name": "a"} for operation in ("GetAlias", "UpdateAlias", "DeleteAlias")},
        "PutFunctionConcurrency": {**base, "ReservedConcurrentExecutions": 1},
        "UpdateFunctionCode": {**base, "ZipFile": archive()},
    }
    for operation in control.operations:
        with pytest.raises(Denied):
            await control(operation, principal=who, **calls.get(operation, base))


async def test_deleting_a_version_leaves_the_rest_and_an_unknown_one_is_no_error(control):
    await control.create(Publish=True)
    assert await control("DeleteFunction", FunctionName="hello", Qualifier="99") == {}
    await control("DeleteFunction", FunctionName="hello", Qualifier="1")
    versions = await control("ListVersionsByFunction", FunctionName="hello")
    assert [version["Version"] for version in versions["Versions"]] == ["$LATEST"]


async def test_what_cannot_be_deleted_says_why(control):
    await control.create(Publish=True)
    await control("CreateAlias", FunctionName="hello", Name="live", FunctionVersion="1")
    texts = {
        "$LATEST": "$LATEST version cannot be deleted without deleting the function.",
        "1": "Unable to delete version because the following aliases reference it: [live]",
        "live": "Deletion of aliases is not currently supported.",
    }
    for qualifier, text in texts.items():
        assert str(await refused(control("DeleteFunction", FunctionName="hello", Qualifier=qualifier))) == text


async def test_deleting_what_is_not_there_names_the_bare_function(control):
    error = await refused(control("DeleteFunction", FunctionName="ghost", Qualifier="1221"))
    assert str(error) == f"Function not found: {ARN}ghost"
    error = await refused(control("DeleteFunction", FunctionName="ghost", Qualifier="$LATEST"))
    assert str(error) == "$LATEST version cannot be deleted without deleting the function."
    error = await refused(control("DeleteFunction", FunctionName="ghost:1", Qualifier="2"))
    assert str(error) == "The derived qualifier from the function name does not match the specified qualifier."


async def test_a_deleted_name_is_free_again(control):
    await control.create(Publish=True)
    await control("DeleteFunction", FunctionName="hello")
    assert (await control.create(Publish=True))["Version"] == "1"
