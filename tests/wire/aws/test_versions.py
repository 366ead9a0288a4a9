"""PublishVersion and ListVersionsByFunction."""

import base64
import hashlib

import pytest

from ondol.dialects.aws.service import ServiceError
from ondol.testing.boto import blocking
from ondol.testing.control import ARN, archive
from ondol.testing.control import control as control_over


@pytest.fixture
async def control(tmp_path):
    async with control_over(tmp_path) as made:
        yield made


async def test_a_published_version_is_active_at_once_and_leaves_latest_as_it_was(control):
    await control.create(Description="latest")
    before = await control("GetFunctionConfiguration", FunctionName="hello")
    version = await control("PublishVersion", FunctionName="hello", Description="first")
    assert (version["Version"], version["FunctionArn"], version["Description"]) == ("1", f"{ARN}hello:1", "first")
    assert (version["State"], version["LastUpdateStatus"]) == ("Active", "Successful")
    assert version["RevisionId"] != before["RevisionId"]
    assert await control("GetFunctionConfiguration", FunctionName="hello") == before


async def test_a_version_without_a_description_has_the_function_s(control):
    await control.create(Description="latest")
    assert (await control("PublishVersion", FunctionName="hello"))["Description"] == "latest"


async def test_publishing_what_has_not_changed_gives_the_same_version_again(control):
    await control.create()
    first = await control("PublishVersion", FunctionName="hello", Description="first")
    assert await control("PublishVersion", FunctionName="hello", Description="second") == first
    await control("UpdateFunctionConfiguration", FunctionName="hello", Description="changed")
    await control.desk.settled()
    assert (await control("PublishVersion", FunctionName="hello"))["Version"] == "2"


async def test_a_version_keeps_its_code_and_configuration(control):
    await control.create(Timeout=5, Publish=True)
    one = await control("GetFunctionConfiguration", FunctionName="hello", Qualifier="1")
    await control.update_code()
    await control("UpdateFunctionConfiguration", FunctionName="hello", Timeout=9)
    await control.desk.settled()
    assert await control("GetFunctionConfiguration", FunctionName="hello", Qualifier="1") == one


async def test_publishing_checks_the_code_it_was_meant_for(control):
    await control.create()
    actual = base64.b64encode(hashlib.sha256(archive()).digest()).decode()
    with pytest.raises(ServiceError) as refused:
        await control("PublishVersion", FunctionName="hello", CodeSha256="somenonexistentsha256")
    assert str(refused.value) == (
        f"CodeSHA256 (somenonexistentsha256) is different from current CodeSHA256 in $LATEST ({actual}). "
        "Please try again with the CodeSHA256 in $LATEST."
    )
    assert (await control("PublishVersion", FunctionName="hello", CodeSha256=actual))["Version"] == "1"


async def test_versions_are_listed_in_pages_beginning_with_latest(control):
    await control.create(Publish=True)
    for n in range(2, 5):
        await control.update_code(text=f"# {n}", Publish=True)
    client = control.client()
    paginate = client.get_paginator("list_versions_by_function").paginate
    pages = await blocking(lambda: list(paginate(FunctionName="hello", PaginationConfig={"PageSize": 2})))
    assert [[v["Version"] for v in page["Versions"]] for page in pages] == [["$LATEST", "1"], ["2", "3"], ["4"]]
    assert pages[0]["Versions"][0]["FunctionArn"] == f"{ARN}hello:$LATEST"
    assert "State" not in pages[0]["Versions"][0]
