"""Access keys over the real gate: made once, known everywhere, read-only where they say so, nobody's when they are removed."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Signer

from ondol.clock import SystemClock
from ondol.core.catalog import put
from ondol.core.keys import KEYS_MAX
from ondol.dialects.aws.access import Access
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.control import control_plane
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.dialect import AwsDesk
from ondol.dialects.aws.gate import Gate
from ondol.dialects.aws.grants import Grants
from ondol.http.bodies import Whole
from ondol.http.messages import Request

WRONG = "not-the-secret"


@pytest.fixture
async def node(api, home):
    """The API as the node wires it: the catalog's keys, SigV4 and bearer; and AWS's desk beside it."""
    verifier = Verifier(
        keys=api.desk.index.key,
        credentials=Credentials(bytes(32)),
        clock=SystemClock(),
        account=home.account,
        region=home.region,
    )
    api.use(Gate(verifier, "ondol", SystemClock()))
    grants = Grants(api.desk.index, api.desk.clock)
    operations = control_plane(
        api.desk.deployments, spool=api.path, code_url=lambda code, told: "http://127.0.0.1/code", grants=grants
    )
    api.aws = AwsDesk(verifier=verifier, services={"lambda": operations}, access=Access(api.desk.index, grants))
    await api.keys._commits.commit([put(api.first)])
    return api


def bearer(key):
    return f"Bearer {key['id']}:{key['secret']}"


@pytest.fixture
def first(node):
    return {"id": node.first.id, "secret": node.first.secret}


async def make(node, first, **wish):
    status, key = await node("POST", "/keys", wish, who=bearer(first))
    assert status == 201, key
    return key


def signed(method, path, key, service, body=b""):
    """A request as AWS's own signer makes it."""
    url = f"http://127.0.0.1:7979{path}"
    request = AWSRequest(method=method, url=url, data=body, headers={"host": "127.0.0.1:7979"})
    SigV4Auth(Signer(key["id"], key["secret"]), service, "eu-west-1").add_auth(request)
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    parts = urlsplit(url)
    return Request(method, parts.path + (f"?{parts.query}" if parts.query else ""), headers, Whole(body))


async def aws(node, method, path, key, body=b""):
    response = await node.aws.serve(signed(method, path, key, "lambda", body), node.aws.routes[2])
    return response.status, json.loads(response.body) if response.body else None


async def native(node, method, path, key, body=b""):
    request = signed(method, "/ondol/v1" + path, key, "ondol", body)
    route = node.table.match(request)
    return (await node.dialects[route.plane].serve(request, route)).status


async def test_a_key_is_made_once_and_listed_without_its_secret(node, first):
    key = await make(node, first, name="ci 🔑")
    assert (key["name"], key["read_only"], key["node"]) == ("ci 🔑", False, False)
    status, said = await node("GET", "/keys", who=bearer(key))
    assert status == 200
    assert [(each["id"], each["node"]) for each in said["keys"]] == [(first["id"], True), (key["id"], False)]
    assert key["secret"] not in json.dumps(said)
    assert first["secret"] not in json.dumps(said)


async def test_a_key_proves_its_holder_in_every_way(node, first):
    key = await make(node, first)
    assert (await node("GET", "/functions", who=bearer(key)))[0] == 200
    assert (await node("GET", "/functions", who="", headers=[("x-ondol-key", f"{key['id']}:{key['secret']}")]))[0] == 200
    assert await native(node, "GET", "/functions?limit=1", key) == 200
    assert (await aws(node, "GET", "/2015-03-31/functions/", key))[0] == 200


@pytest.mark.parametrize(
    "given", [f"Bearer AKIAFIRST:{WRONG}", "Bearer AKIAFIRST:", "Bearer AKIAFIRST", "Bearer :", "Bearer nobody:x"]
)
async def test_a_key_that_is_not_right_is_refused(node, given):
    assert (await node("GET", "/functions", who=given))[0] == 403
    assert (await node("GET", "/functions", who=""))[0] == 401


async def test_a_read_only_key_may_look(node, first):
    key = await make(node, first, read_only=True)
    for path in ("/functions", "/stats", "/doctor", "/settings", "/openapi.json"):
        assert (await node("GET", path, who=bearer(key)))[0] == 200, path
        assert await native(node, "GET", path, key) == 200, path
    assert (await aws(node, "GET", "/2015-03-31/functions/", key))[0] == 200
    assert (await aws(node, "GET", "/2015-03-31/functions/nobody", key))[0] == 404
    assert (await aws(node, "GET", "/2016-08-19/account-settings/", key))[0] == 200


CHANGES = [
    ("PUT", "/functions/site", b"{}"),
    ("PATCH", "/functions/site", b"{}"),
    ("DELETE", "/functions/site", b""),
    ("PUT", "/functions/site/code", b"x"),
    ("POST", "/functions/site/invoke", b"{}"),
    ("POST", "/functions/site/versions", b""),
    ("DELETE", "/functions/site/versions/1", b""),
    ("PUT", "/functions/site/aliases/live", b'{"version":null}'),
    ("DELETE", "/functions/site/aliases/live", b""),
    ("GET", "/keys", b""),
    ("POST", "/keys", b""),
    ("DELETE", "/keys/AKIAFIRST", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES, ids=[f"{method} {path}" for method, path, _ in CHANGES])
async def test_a_read_only_key_may_neither_change_nor_call(node, first, method, path, body):
    key = await make(node, first, read_only=True)
    status, said = await node(method, path, body, who=bearer(key))
    assert (status, said["error"], "read-only" in said["message"]) == (403, "Denied", True)
    assert await native(node, method, path, key, body) == 403
    assert node.function.asked == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/2015-03-31/functions/hello", b""),
        ("PUT", "/2015-03-31/functions/hello/configuration", b'{"Timeout":9}'),
        ("POST", "/2015-03-31/functions/hello/versions", b"{}"),
        ("POST", "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Ahello", b'{"Tags":{"a":"b"}}'),
    ],
)
async def test_a_read_only_key_changes_nothing_through_awss_api(node, first, method, path, body):
    await node.aws_function("hello")
    key = await make(node, first, read_only=True)
    status, said = await aws(node, method, path, key, body)
    assert (status, "is not authorized to perform: lambda:" in said["Message"]) == (403, True), said
    assert (await node("GET", "/functions/hello", who=bearer(key)))[0] == 200


async def test_awss_api_refuses_a_read_only_key_as_a_user(node, first):
    """Nothing is refused to an account's root."""
    await node.aws_function("hello")
    key = await make(node, first, read_only=True)
    _, said = await aws(node, "DELETE", "/2015-03-31/functions/hello", key)
    assert said["Message"].startswith(f"User: arn:aws:iam::{node.first.account}:user/{key['id']} is not authorized"), said


async def test_a_removed_key_is_nobodys_at_once(node, first):
    key = await make(node, first)
    asked = len(node.desk.fronts.asked)
    assert await node("DELETE", f"/keys/{key['id']}", who=bearer(first)) == (204, None)
    assert len(node.desk.fronts.asked) == asked + 1, "every front had it when it was answered"
    assert (await node("GET", "/functions", who=bearer(key)))[0] == 403
    assert await native(node, "GET", "/functions", key) == 403
    assert (await aws(node, "GET", "/2015-03-31/functions/", key))[0] == 403
    assert (await node("DELETE", f"/keys/{key['id']}", who=bearer(first)))[0] == 404


async def test_the_nodes_own_key_stays(node, first):
    status, said = await node("DELETE", f"/keys/{first['id']}", who=bearer(first))
    assert (status, said["error"]) == (409, "InUse")
    assert (await node("GET", "/functions", who=bearer(first)))[0] == 200


@pytest.mark.parametrize(
    "wish", [{"name": "x" * 65}, {"name": "a\nb"}, {"name": 7}, {"read_only": "yes"}, {"secret": "mine"}, {"name": None}]
)
async def test_a_key_that_cannot_be_is_refused(node, first, wish):
    assert (await node("POST", "/keys", wish, who=bearer(first)))[0] == 400
    assert len((await node("GET", "/keys", who=bearer(first)))[1]["keys"]) == 1


async def test_keys_are_bounded(node, first, monkeypatch):
    monkeypatch.setattr("ondol.core.keys.KEYS_MAX", 2)
    await make(node, first)
    status, said = await node("POST", "/keys", who=bearer(first))
    assert (status, "at most 2 keys" in said["message"]) == (400, True)
    assert KEYS_MAX == 1000


async def test_keys_of_another_account_are_not_there(node, first, home):
    from dataclasses import replace

    other = replace(node.first, id="AKIAOTHER", account="999999999999")
    await node.keys._commits.commit([put(other)])
    assert len((await node("GET", "/keys", who=bearer(first)))[1]["keys"]) == 1
    assert (await node("DELETE", "/keys/AKIAOTHER", who=bearer(first)))[0] == 404
