"""`/ondol/v1/functions`: put, list, show and remove web functions; in JSON, with a sentence for every mistake."""

from __future__ import annotations

import base64
import contextlib
import json
import uuid

import pytest

from ondol.dialects.native import document
from ondol.dialects.native.dialect import BODY_BYTES_MAX, NativeDialect
from ondol.dialects.native.downloads import LINK_S_MAX, Downloads
from ondol.http.bodies import Whole
from ondol.http.messages import Request
from ondol.model import errors
from ondol.model.principals import Kind, Principal
from ondol.testing.clock import VirtualClock
from ondol.testing.desk import desk
from ondol.testing.node import zipped

ACCOUNT, REGION = "123456789012", "eu-west-1"
APP = base64.b64encode(zipped({"app.py": "def app(environ, start_response): ..."})).decode()


class Gate:
    def vet(self, request):
        return self.principal(request, None).kind is not Kind.ANONYMOUS

    def principal(self, request, body_sha256):
        who = request.header("authorization")
        if who == "wrong":
            raise errors.Denied("not one of ours")
        kind = {"owner": Kind.OWNER, "function": Kind.FUNCTION}.get(who, Kind.ANONYMOUS)
        return Principal(kind=kind, account=ACCOUNT, region=REGION, name="who", role="r" if kind is Kind.FUNCTION else None)


class Api:
    def __init__(self, made, path):
        self.desk, self.path, self.clock = made, path, VirtualClock()
        self.downloads = Downloads(bytes(32), lambda sha256: path / f"{sha256}.zip", self.clock)
        self.dialect = NativeDialect(
            index=made.index, deployments=made.deployments, gatekeeper=Gate(), decode=document.decoding(self.large),
            spool=lambda: path / uuid.uuid4().hex, interpreter=lambda runtime: f"what runs {runtime}", downloads=self.downloads,
        )  # fmt: skip

    async def large(self, job, **given):
        assert job in document.JOBS
        return document.decode(**given)

    async def __call__(self, method, path, body=None, *, who="owner"):
        """(status, JSON) of a request."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        request = Request(method, "/ondol/v1" + path, [("authorization", who)], Whole(raw))
        response = await self.dialect.serve(request, self.dialect.routes[0])
        if not isinstance(response.body, bytes):
            return response.status, b"".join([chunk async for chunk in response.body])
        return response.status, json.loads(response.body) if response.body else None

    async def put(self, name="site", **settings):
        given = {"runtime": "python3.11", "handler": "app:app", "zip_base64": APP, **settings}
        return await self("PUT", f"/functions/{name}", {key: value for key, value in given.items() if value is not None})


@pytest.fixture
async def api(tmp_path):
    async with desk(tmp_path / "code") as made:
        spool = tmp_path / "spool"
        spool.mkdir()
        yield Api(made, spool)


async def test_a_function_is_put_shown_listed_and_removed(api):
    status, made = await api.put(memory_mib=256, timeout_s=7, variables={"TOKEN": "secret"})
    assert status == 201
    assert (made["name"], made["contract"], made["runtime"], made["handler"]) == ("site", "web", "python3.11", "app:app")
    assert (made["memory_mib"], made["timeout_s"], made["interpreter"]) == (256, 7, "what runs python3.11")
    assert made["variables"] == ["TOKEN"]  # their values are nobody's to see
    assert made["state"] == "ready"
    assert await api("GET", "/functions/site") == (200, made)
    assert await api("GET", "/functions") == (200, {"functions": [made]})
    assert await api("DELETE", "/functions/site") == (204, None)
    assert (await api("GET", "/functions/site"))[0] == 404
    assert await api("GET", "/functions") == (200, {"functions": []})


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
    assert await api("GET", "/functions") == (200, {"functions": []})
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
    status, said = await api("PUT", "/functions/site", b"x" * (BODY_BYTES_MAX + 1))
    assert (status, said["error"]) == (413, "TooLarge")


@pytest.mark.parametrize("settings", [{"variables": {"A": "x\0y"}}, {"variables": {"A": "\ud800"}}, {"handler": "app\0:app"}])
async def test_what_no_process_can_have_is_refused(api, settings):
    status, said = await api.put(**settings)
    assert (status, bool(said["message"])) == (400, True)
    assert (await api("GET", "/functions/site"))[0] == 404


async def test_an_archive_in_a_large_body_is_taken_too(api):
    import os

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
    ("method", "path"),
    [("POST", "/functions"), ("GET", "/"), ("GET", "/functions/a/b"), ("PATCH", "/functions/a"), ("GET", "/nothing")],
)
async def test_what_is_not_there_says_what_is(api, method, path):
    status, said = await api(method, path)
    assert status == 404
    assert "/ondol/v1/functions" in said["message"]


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
