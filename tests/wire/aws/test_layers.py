"""Layers: published, listed, shared, deleted, and chosen by functions."""

import base64
import hashlib
import json

import pytest

from ondol.dialects.aws import layers
from ondol.model.principals import Kind, Principal
from ondol.testing.boto import ACCOUNT, REGION, blocking, error
from ondol.testing.control import archive
from ondol.testing.control import control as control_over

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:"
OTHER = Principal(kind=Kind.OWNER, account="999999999999", region=REGION, name="AKIAOTHER")
NOT_THERE = "ResourceNotFoundException"
INVALID = "InvalidParameterValueException"


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        yield made


@pytest.fixture
async def client(control):
    return control.client()


async def publish(client, name="tools", text="x = 1", file="python/tools.py", **more):
    return await blocking(client.publish_layer_version, LayerName=name, Content={"ZipFile": archive(text, file)}, **more)


async def test_a_version_is_published_and_shown_by_name_and_by_arn(client):
    data = archive("x = 1", "python/tools.py")
    made = await publish(
        client, Description="tools", CompatibleRuntimes=["python3.12"], CompatibleArchitectures=["x86_64"], LicenseInfo="MIT"
    )
    made.pop("ResponseMetadata")
    assert made.pop("Content")["Location"].startswith("http://127.0.0.1:7979/code/")
    assert made.pop("CreatedDate").endswith("+0000")
    assert made == {
        "LayerArn": f"{ARN}tools",
        "LayerVersionArn": f"{ARN}tools:1",
        "Version": 1,
        "Description": "tools",
        "CompatibleRuntimes": ["python3.12"],
        "CompatibleArchitectures": ["x86_64"],
        "LicenseInfo": "MIT",
    }
    shown = await blocking(client.get_layer_version, LayerName="tools", VersionNumber=1)
    by_arn = await blocking(client.get_layer_version_by_arn, Arn=f"{ARN}tools:1")
    for each in (shown, by_arn):
        assert each["LayerVersionArn"] == f"{ARN}tools:1"
        assert each["Content"]["CodeSize"] == len(data)
        assert each["Content"]["CodeSha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()


async def test_numbers_grow_and_never_come_again(client):
    for number in (1, 2):
        assert (await publish(client, text=f"x = {number}"))["Version"] == number
    await blocking(client.delete_layer_version, LayerName="tools", VersionNumber=2)
    await blocking(client.delete_layer_version, LayerName="tools", VersionNumber=2)
    assert (await publish(client))["Version"] == 3
    listed = await blocking(client.list_layer_versions, LayerName="tools")
    assert [each["Version"] for each in listed["LayerVersions"]] == [3, 1]


async def test_layers_are_listed_with_their_newest_version_that_fits(client):
    await publish(client, "a", CompatibleRuntimes=["python3.11"])
    await publish(client, "a", CompatibleRuntimes=["python3.12"])
    await publish(client, "b")
    listed = (await blocking(client.list_layers))["Layers"]
    assert [(each["LayerName"], each["LatestMatchingVersion"]["Version"]) for each in listed] == [("a", 2), ("b", 1)]
    fitting = (await blocking(client.list_layers, CompatibleRuntime="python3.11"))["Layers"]
    assert [(each["LayerArn"], each["LatestMatchingVersion"]["Version"]) for each in fitting] == [(f"{ARN}a", 1)]
    pages = client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1})
    assert await blocking(lambda: [[each["LayerName"] for each in page["Layers"]] for page in pages]) == [["a"], ["b"]]
    pages = client.get_paginator("list_layer_versions").paginate(LayerName="a", PaginationConfig={"PageSize": 1})
    assert await blocking(lambda: [[each["Version"] for each in page["LayerVersions"]] for page in pages]) == [[2], [1]]
    assert (await blocking(client.list_layer_versions, LayerName="none"))["LayerVersions"] == []


@pytest.mark.parametrize(
    ("version", "code", "message"),
    [(2, NOT_THERE, f"Layer version {ARN}tools:2 does not exist."), (0, INVALID, "Layer Version Cannot be less than 1")],
)
async def test_a_version_that_is_not_there(client, version, code, message):
    await publish(client)
    assert await error(client.get_layer_version, LayerName="tools", VersionNumber=version) == (code, message)
    assert await error(client.get_layer_version_policy, LayerName="tools", VersionNumber=version) == (code, message)


async def test_what_is_no_archive_is_refused(client):
    code, message = await error(client.publish_layer_version, LayerName="tools", Content={"ZipFile": b"no archive"})
    assert (code, message.split(".")[0]) == (INVALID, "Could not unzip uploaded file")


# Sharing ------------------------------------------------------------------------------------------------------------------
async def test_a_version_is_shared_with_another_account(control, client):
    others = control.client(OTHER)
    await publish(client)
    await publish(client)
    at = {"LayerName": "tools", "VersionNumber": 1}
    asking = {"LayerName": f"{ARN}tools", "VersionNumber": 1}
    assert await error(others.get_layer_version, **asking) == (
        "AccessDeniedException",
        f"User: arn:aws:iam::{OTHER.account}:root is not authorized to perform: lambda:GetLayerVersion on resource: {ARN}tools:1 "
        "because no resource-based policy allows the lambda:GetLayerVersion action",
    )
    added = await blocking(
        client.add_layer_version_permission, **at, StatementId="share", Action="lambda:GetLayerVersion", Principal=OTHER.account
    )
    assert json.loads(added["Statement"]) == {
        "Sid": "share",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{OTHER.account}:root"},
        "Action": "lambda:GetLayerVersion",
        "Resource": f"{ARN}tools:1",
    }
    assert (await blocking(others.get_layer_version, **asking))["Version"] == 1
    assert (await error(others.get_layer_version, **{**asking, "VersionNumber": 2}))[0] == "AccessDeniedException"
    assert (await error(others.delete_layer_version, **asking))[0] == "AccessDeniedException"
    assert (await blocking(others.list_layers))["Layers"] == []
    shown = await blocking(client.get_layer_version_policy, **at)
    assert shown["RevisionId"] == added["RevisionId"]
    stale = "11111111-2222-4333-8444-555555555555"
    assert await error(client.remove_layer_version_permission, **at, StatementId="share", RevisionId=stale) == (
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest "
        "Revision Id",
    )
    await blocking(client.remove_layer_version_permission, **at, StatementId="share")
    assert (await error(others.get_layer_version, **asking))[0] == "AccessDeniedException"
    assert await error(client.get_layer_version_policy, **at) == (
        NOT_THERE,
        "No policy is associated with the given resource.",
    )


# In functions ---------------------------------------------------------------------------------------------------------------
async def test_functions_show_their_layers_in_order_and_forget_them(control, client):
    made = [await publish(client, name, f"x = '{name}'") for name in ("two", "one")]
    arns = [each["LayerVersionArn"] for each in made]
    made = await control.create(Layers=arns)
    assert [each["Arn"] for each in made["Layers"]] == arns
    assert all(each["CodeSize"] > 0 for each in made["Layers"])
    revision = control.desk.index.revisions()[0]
    merged = control.desk.blobs.tree(revision.configuration.opt) / "python/tools.py"
    assert merged.read_text() == "x = 'one'", "the later layer's"
    await control.update_code()
    shown = await control("GetFunctionConfiguration", FunctionName="hello")
    assert [each["Arn"] for each in shown["Layers"]] == arns, "code changes, layers stay"
    await control("UpdateFunctionConfiguration", FunctionName="hello", Layers=[])
    await control.desk.settled()
    assert "Layers" not in await control("GetFunctionConfiguration", FunctionName="hello")
    assert control.desk.index.revisions()[0].configuration.opt is None


async def test_a_version_that_is_deleted_goes_on_where_it_is_used(control, client):
    made = await publish(client)
    await control.create(Layers=[made["LayerVersionArn"]])
    await blocking(client.delete_layer_version, LayerName="tools", VersionNumber=1)
    await control.desk.deployments.collect_code()
    opt = control.desk.index.revisions()[0].configuration.opt
    assert opt.sha256 in control.desk.blobs.kept[-1]
    assert (control.desk.blobs.tree(opt) / "python/tools.py").exists()


async def test_the_archives_of_layers_are_kept_while_nobody_uses_them(control, client):
    await publish(client)
    (item,) = control.desk.index.items_everywhere("aws", "layer-version")
    control.desk.clock.advance(7200)
    await control.desk.deployments.collect_code()
    assert item.codes[0] in control.desk.blobs.kept[-1]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["tools:1", "tools:1"], "Two different versions of the same layer are not allowed to be referenced in the same function. "
         f"{ARN}tools:1 and {ARN}tools:1 are versions of the same layer."),
        (["tools:1", "tools:2"], "Two different versions of the same layer are not allowed to be referenced in the same function. "
         f"{ARN}tools:1 and {ARN}tools:2 are versions of the same layer."),
        (["tools:9"], f"Layer version {ARN}tools:9 does not exist."),
        (["none:1"], f"Layer version {ARN}none:1 does not exist."),
        ([f"l{number}:1" for number in range(6)], "Cannot reference more than 5 layers."),
    ],
)  # fmt: skip
async def test_layers_that_a_function_cannot_have(control, client, wanted, message):
    await publish(client)
    await publish(client)
    await control.create()
    layers_wanted = [ARN + each for each in wanted]
    assert await error(client.update_function_configuration, FunctionName="hello", Layers=layers_wanted) == (INVALID, message)


async def test_layers_of_another_region_or_a_closed_account(control, client):
    await control.create()
    elsewhere = ARN.replace(REGION, "us-east-1") + "tools:1"
    assert await error(client.update_function_configuration, FunctionName="hello", Layers=[elsewhere]) == (
        INVALID,
        f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}.",
    )
    foreign = ARN.replace(ACCOUNT, OTHER.account) + "tools:1"
    code, _ = await error(client.update_function_configuration, FunctionName="hello", Layers=[foreign])
    assert code == "AccessDeniedException"


async def test_code_and_layers_together_have_one_limit(control, client, monkeypatch):
    made = await publish(client, text="x" * 600)
    await control.create()
    monkeypatch.setattr(layers, "CODE_UNPACKED_BYTES_MAX", 601)
    asked = {"FunctionName": "hello", "Layers": [made["LayerVersionArn"]]}
    code, message = await error(client.update_function_configuration, **asked)
    assert (code, message.split(". ")[0]) == (
        INVALID,
        "Function code combined with layers exceeds the maximum allowed size of 601 bytes",
    )
