"""`/ondol/v1/functions`: put, list, show and remove web functions; in JSON, with a sentence for every mistake."""

from __future__ import annotations

import base64
import contextlib
import json
import os

import pytest

from ondol.dialects.native import document
from ondol.dialects.native.downloads import LINK_S_MAX
from ondol.dialects.native.functions import PUT_BYTES_MAX
from ondol.model import errors
from ondol.testing.node import zipped


async def test_a_function_is_put_shown_listed_and_removed(api):
    status, made = await api.put(memory_mib=256, timeout_s=7, variables={"TOKEN": "secret"})
    assert status == 201
    assert (made["name"], made["contract"], made["runtime"], made["handler"]) == ("site", "web", "python3.11", "app:app")
    assert (made["memory_mib"], made["timeout_s"], made["interpreter"]) == (256, 7, "what runs python3.11")
    assert made["variables"] == ["TOKEN"]  # their values are nobody's to see
    assert made["state"] == "ready"
    assert await api("GET", "/functions/site") == (200, made)
    assert await api("GET", "/functions") == (200, {"functions": [made], "next": None})
    assert await api("DELETE", "/functions/site") == (204, None)
    assert (await api("GET", "/functions/site"))[0] == 404
    assert await api("GET", "/functions") == (200, {"functions": [], "next": None})


async def test_what_an_update_does_not_name_stays(api):
    await api.put(memory_mib=256, variables={"A": "1"})
    status, made = await api.put(runtime=None, handler=None, zip_base64=None, timeout_s=9)
    assert status == 200
    assert (made["memory_mib"], made["timeout_s"], made["handler"], made["variables"]) == (256, 9, "app:app", ["A"])
    other = base64.b64encode(zipped({"app.py": "other = 1"})).decode()
    status, changed = await api.put(zip_base64=other)
    assert changed["code_sha256"] != made["code_sha256"]
    assert changed["timeout_s"] == 9


async def test_a_command_is_a_contract_of_its_own_inside(api):
    assert (await api.put(runtime="command", handler="./serve --port $PORT"))[1]["contract"] == "command"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"memory_mib": 127}, "memory_mib"),
        ({"memory_mib": "128"}, "memory_mib"),
        ({"memory_mib": True}, "memory_mib"),
        ({"timeout_s": 901}, "timeout_s"),
        ({"tmp_mib": 1}, "tmp_mib"),
        ({"runtime": "nodejs20.x"}, "nodejs20.x"),
        ({"runtime": "python2.7"}, "python2.7"),
        ({"handler": ""}, "handler"),
        ({"handler": None}, "handler"),
        ({"runtime": None}, "runtime"),
        ({"zip_base64": None}, "zip_base64"),
        ({"zip_base64": "not base64!"}, "zip_base64"),
        ({"zip_base64": 7}, "zip_base64"),
        ({"zip_base64": base64.b64encode(b"no archive").decode()}, ""),
        ({"variables": {"1A": "x"}}, "1A"),
        ({"variables": {"A": 1}}, "variables"),
        ({"variables": {"A": "x" * 5000}}, "variables"),
        ({"contract": "aws"}, "web"),
        ({"memory": 128}, "memory"),
    ],
)
async def test_a_mistake_is_named_and_nothing_is_made(api, settings, words):
    status, said = await api.put(**settings)
    assert status == 400, said
    assert words in said["message"]
    assert await api("GET", "/functions") == (200, {"functions": [], "next": None})
    assert list(api.path.iterdir()) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe"])
async def test_a_body_that_is_no_object_is_refused(api, body):
    status, said = await api("PUT", "/functions/site", body)
    assert (status, said["error"]) == (400, "InvalidPayload")


@pytest.mark.parametrize("name", ["a.b", "x" * 65, "%2e%2e", "a%2Fb", "é", "a%20b"])
async def test_a_name_that_is_none_is_refused(api, name):
    status, said = await api.put(name)
    assert status == 400
    assert "name" in said["message"]


async def test_a_body_too_long_is_refused_by_its_length(api):
    status, said = await api("PUT", "/functions/site", b"x" * (PUT_BYTES_MAX + 1))
    assert (status, said["error"]) == (413, "TooLarge")


@pytest.mark.parametrize("settings", [{"variables": {"A": "x\0y"}}, {"variables": {"A": "\ud800"}}, {"handler": "app\0:app"}])
async def test_what_no_process_can_have_is_refused(api, settings):
    status, said = await api.put(**settings)
    assert (status, bool(said["message"])) == (400, True)
    assert (await api("GET", "/functions/site"))[0] == 404


async def test_an_archive_in_a_large_body_is_taken_too(api):
    large = base64.b64encode(zipped({"app.py": "", "data": os.urandom(1_500_000)})).decode()
    status, made = await api.put(zip_base64=large)
    assert (status, made["code_bytes"] > 1_500_000) == (201, True)
    assert list(api.path.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/functions", None),
        ("GET", "/functions/site", None),
        ("PUT", "/functions/site", {}),
        ("DELETE", "/functions/site", None),
    ],
)
async def test_only_owners_may(api, method, path, body):
    await api.put()
    for who, status in (("", 401), ("wrong", 403), ("function", 403)):
        answered, said = await api(method, path, body, who=who)
        assert (answered, bool(said["message"])) == (status, True), who
    assert (await api("GET", "/functions/site"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/functions/a/b"), ("GET", "/nothing"), ("PUT", "/nothing")]
)
async def test_what_is_not_there_says_what_is(api, method, path):
    status, said = await api(method, path)
    assert status == 404
    assert "/ondol/v1/functions" in said["message"]
    assert (await api(method, path, who=""))[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/functions", "GET"),
        ("POST", "/functions/a", "DELETE, GET, PATCH, PUT"),
        ("GET", "/functions/a/invoke", "POST"),
        ("DELETE", "/stats", "GET"),
    ],
)
async def test_a_method_that_is_not_for_a_path_is_told_which_are(api, method, path, allowed):
    response = await api.ask(method, path)
    assert response.status == 405
    assert dict(response.headers)["allow"] == allowed
    assert allowed in json.loads(response.body)["message"]


async def test_a_function_that_is_not_there_is_told_what_is(api):
    assert "there are no functions" in (await api("GET", "/functions/helo"))[1]["message"]
    await api.put("hello")
    await api.put("zebra")
    assert "there are hello, …" in (await api("GET", "/functions/helo"))[1]["message"]
    assert "there are hello, zebra" in (await api("GET", "/functions/x"))[1]["message"]


async def test_a_list_comes_in_pages(api):
    await api.aws_function("b")
    for name in ("a", "c", "d"):
        await api.put(name)
    _, first = await api("GET", "/functions?limit=3")
    assert ([each["name"] for each in first["functions"]], first["next"]) == (["a", "b", "c"], "c")
    _, second = await api("GET", f"/functions?limit=3&after={first['next']}")
    assert ([each["name"] for each in second["functions"]], second["next"]) == (["d"], None)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "twice"),
        ("max=1", "known: limit, after"),
        ("&".join(f"p{n}=1" for n in range(40)), "more than 32"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused_by_name(api, query, words):
    status, said = await api("GET", f"/functions?{query}")
    assert (status, words in said["message"]) == (400, True), said


async def test_a_query_where_there_is_none_is_refused(api):
    status, said = await api("GET", "/functions/site?x=1")
    assert (status, said["field"]) == (400, "x")


async def test_settings_change_without_the_code(api):
    _, made = await api.put(memory_mib=256)
    status, changed = await api("PATCH", "/functions/site", {"timeout_s": 9})
    assert (status, changed["timeout_s"], changed["memory_mib"]) == (200, 9, 256)
    assert changed["code_sha256"] == made["code_sha256"]
    assert (await api("PATCH", "/functions/nobody", {}))[0] == 404
    status, said = await api("PATCH", "/functions/site", {"zip_base64": "AAAA"})
    assert (status, said["field"]) == (400, "zip_base64")


async def test_functions_of_the_aws_api_are_configured_there(api):
    await api.aws_function("hello")
    assert (await api("PATCH", "/functions/hello", {"timeout_s": 9}))[0] == 400
    assert (await api.put("hello"))[0] == 409


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/zip", "é"])
async def test_a_body_of_another_type_is_refused_in_words(api, kind):
    status, said = await api("PUT", "/functions/site", {}, headers=[("content-type", kind)])
    assert (status, said["error"]) == (415, "UnsupportedMediaType")
    assert "application/json" in said["message"]


async def test_a_body_that_nobody_asked_for_is_not_kept(api):
    assert (await api("GET", "/functions", b"x"))[0] == 200
    assert (await api("GET", "/functions", b"x" * 70_000))[0] == 413


# Code -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["application/zip", "application/octet-stream", ""])
async def test_an_archive_is_uploaded_as_it_is(api, kind):
    await api.aws_function("hello")
    archive = zipped({"app.py": "other = 1"})
    headers = [("content-type", kind)] if kind else []
    status, changed = await api("PUT", "/functions/hello/code", archive, headers=headers)
    assert (status, changed["code_bytes"]) == (200, len(archive))
    assert list(api.path.iterdir()) == []


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"no archive", 400), (b"x" * 52_428_801, 413)])
async def test_what_is_no_archive_is_not_taken(api, body, status):
    await api.put()
    _, before = await api("GET", "/functions/site")
    answered, said = await api("PUT", "/functions/site/code", body)
    assert (answered, bool(said["message"])) == (status, True)
    assert await api("GET", "/functions/site") == (200, before)
    assert list(api.path.iterdir()) == []


async def test_an_archive_is_downloaded_as_it_was_uploaded(api):
    _, made = await api.put()
    (api.path / f"{made['code_sha256']}.zip").write_bytes(b"the archive")
    assert await api("GET", "/functions/site/code") == (200, b"the archive")
    assert (await api("GET", "/functions/site/code?qualifier=7"))[0] == 404


# Versions and aliases ---------------------------------------------------------------------------------------------------
async def test_versions_are_published_listed_and_removed(api):
    await api.put()
    status, first = await api("POST", "/functions/site/versions", {"description": "first"})
    assert (status, first["number"], first["description"]) == (200, 1, "first")
    assert (await api("POST", "/functions/site/versions"))[1]["number"] == 1, "nothing has changed"
    await api("PATCH", "/functions/site", {"timeout_s": 9})
    assert (await api("POST", "/functions/site/versions"))[1]["number"] == 2
    assert [each["number"] for each in (await api("GET", "/functions/site/versions"))[1]["versions"]] == [1, 2]
    assert (await api("DELETE", "/functions/site/versions/1"))[0] == 204
    status, said = await api("DELETE", "/functions/site/versions/1")
    assert (status, "there are 2" in said["message"]) == (404, True)


async def test_the_version_without_a_number_is_listed_and_removed(api):
    await api.put()
    deployments, (function,) = api.desk.deployments, api.desk.index.functions()
    await deployments.publish(function, unnumbered=True)
    await deployments.settling.idle()
    assert [each["number"] for each in (await api("GET", "/functions/site/versions"))[1]["versions"]] == [-1]
    assert (await api("GET", "/functions/site"))[1]["versions"] == [-1]
    assert (await api("DELETE", "/functions/site/versions/-1"))[0] == 204
    assert (await api("GET", "/functions/site/versions"))[1]["versions"] == []


@pytest.mark.parametrize("number", ["x", "0", "9" * 5000, "%C2%B2", "-1", "1.0"])
async def test_a_version_that_is_no_number_is_not_there(api, number):
    await api.put()
    assert (await api("DELETE", f"/functions/site/versions/{number}"))[0] == 404


async def test_aliases_are_pointed_moved_and_removed(api):
    await api.put()
    await api("POST", "/functions/site/versions")
    status, made = await api("PUT", "/functions/site/aliases/live", {"version": 1})
    assert (status, made["version"], made["second"]) == (201, 1, None)
    assert (await api("DELETE", "/functions/site/versions/1"))[0] == 409
    await api("PATCH", "/functions/site", {"timeout_s": 9})
    await api("POST", "/functions/site/versions")
    status, moved = await api("PUT", "/functions/site/aliases/live", {"version": 1, "second": 2, "second_weight": 0.25})
    assert (status, moved["second_weight"]) == (200, 0.25)
    assert (await api("GET", "/functions/site/aliases"))[1] == {"aliases": [moved]}
    assert (await api("DELETE", "/functions/site/aliases/live"))[0] == 204
    assert (await api("DELETE", "/functions/site/aliases/live"))[0] == 404


@pytest.mark.parametrize(
    ("alias", "wish", "status"),
    [
        ("7", {"version": None}, 400),
        ("a.b", {"version": None}, 400),
        ("live", {"version": 3}, 404),
        ("live", {}, 400),
        ("live", {"version": 0}, 400),
        ("live", {"version": 1, "second": 1, "second_weight": 0.5}, 400),
        ("live", {"version": 1, "second": 2, "second_weight": 1.5}, 400),
        ("live", {"version": 1, "weight": 1}, 400),
    ],
)
async def test_an_alias_that_cannot_be_is_refused(api, alias, wish, status):
    await api.put()
    await api("POST", "/functions/site/versions")
    assert (await api("PUT", f"/functions/site/aliases/{alias}", wish))[0] == status
    assert (await api("GET", "/functions/site/aliases"))[1] == {"aliases": []}


async def test_removing_what_is_not_there_is_a_404(api):
    assert (await api("DELETE", "/functions/nobody"))[0] == 404


# Links to archives ------------------------------------------------------------------------------------------------------
@pytest.fixture
def link(api):
    (api.path / "abc.zip").write_bytes(b"the archive")

    class Code:
        sha256 = "abc"

    return api.downloads.link(Code(), "").removeprefix("/ondol/v1")


async def test_a_link_is_the_right_to_its_archive(api, link):
    assert await api("GET", link, who="") == (200, b"the archive")


async def test_a_link_ends(api, link):
    await api.clock.advance(LINK_S_MAX + 2)
    status, said = await api("GET", link, who="")
    assert (status, "expired" in said["message"]) == (403, True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda link: link.partition("?")[0],
        lambda link: link[:-1] + ("0" if link[-1] != "0" else "1"),
        lambda link: link.replace("abc.zip", "abd.zip"),
        lambda link: link.replace("expires=", "expires=9"),
        lambda link: link.replace("expires=", "expires=-"),
        lambda link: link.replace("abc.zip", "..%2Fabc.zip"),
        lambda link: link.replace("signature=", "signature=é"),
    ],
)
async def test_a_link_of_ones_own_making_is_none(api, link, spoil):
    with contextlib.suppress(UnicodeEncodeError):
        assert (await api("GET", spoil(link), who=""))[0] == 403


async def test_an_archive_that_is_gone_is_a_404(api, link):
    (api.path / "abc.zip").unlink()
    assert (await api("GET", link, who=""))[0] == 404


@pytest.mark.parametrize(
    "body", [b"[" * 20_000, b'{"a":' * 20_000, b"[]", b"7", b"\xff", b'{"zip_base64":7}'], ids=lambda body: body[:8].hex()
)
def test_a_body_that_is_no_document_is_the_clients_mistake(body):
    with pytest.raises(errors.InvalidPayload):
        document.decode(body)
