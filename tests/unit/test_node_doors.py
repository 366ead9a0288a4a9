"""What a request meets before a dialect does."""

from __future__ import annotations

import asyncio
import json

import pytest

from ondol.http.bodies import Whole
from ondol.http.guard import allowed
from ondol.http.messages import Request, Response
from ondol.http.table import Plane, Route, Table
from ondol.node import doors
from ondol.node.doors import DeskDoor, FrontDoor

TABLE = Table(
    [
        Route(dialect="near", name="call", plane=Plane.DATA, path="/near"),
        Route(dialect="near", name="page", plane=Plane.DATA, path="/page", for_pages=True),
        Route(dialect="far", name="put", plane=Plane.CONTROL, path="/far"),
    ]
)


class Dialect:
    def __init__(self):
        self.served = []

    async def serve(self, request, route):
        self.served.append((request.path, route.name))
        return Response(200, (), b"served")


class Passing:
    def __init__(self):
        self.passed = []

    async def pass_on(self, request, headers):
        self.passed.append((request.path, headers))
        return Response(200, (), b"passed")


class House:
    def __init__(self, *, ready=True):
        self.near, self.passing, self.ready = Dialect(), Passing(), asyncio.Event()
        if ready:
            self.ready.set()
        self.door = FrontDoor(
            table=TABLE, dialects={"near": self.near}, passing=self.passing, hosts=allowed("127.0.0.1", ()), ready=self.ready
        )

    async def get(self, path, *headers, method="GET"):
        return await self.door(Request(method, path, [("host", "127.0.0.1:8080"), *headers], Whole(b""), "127.0.0.1:99"))


async def test_each_request_goes_where_the_table_says():
    house = House()
    assert (await house.get("/near/x")).body == b"served"
    assert (await house.get("/far/x")).body == b"passed"
    assert house.near.served == [("/near/x", "call")]
    assert [path for path, _ in house.passing.passed] == ["/far/x"]


async def test_the_desk_is_told_who_asked_and_with_which_key():
    house = House()
    await house.get("/far", ("x-ondol-key", "ID:SECRET"), ("x-ondol-peer", "forged"))
    await house.get("/far")
    assert house.passing.passed[0][1] == [("x-ondol-peer", "127.0.0.1:99"), ("x-ondol-key", "ID:SECRET")]
    assert house.passing.passed[1][1] == [("x-ondol-peer", "127.0.0.1:99")]


async def test_nobodys_path_says_what_there_is():
    for door in (House().door, DeskDoor(table=TABLE, dialects={})):
        response = await door(Request("GET", "/nowhere", [("host", "127.0.0.1")], Whole(b"")))
        assert response.status == 404
        assert "/fn/NAME" in json.loads(response.body)["message"]


@pytest.mark.parametrize("path", ["/near", "/far", "/healthz", "/readyz", "/nowhere"])
async def test_a_strange_host_gets_nowhere(path):
    house = House()
    request = Request("GET", path, [("host", "evil.example")], Whole(b""))
    assert (await house.door(request)).status in (400, 403, 421)
    assert (house.near.served, house.passing.passed) == ([], [])


@pytest.mark.parametrize(("path", "status"), [("/near", 403), ("/far", 403), ("/page", 200)])
async def test_foreign_pages_reach_what_looks_at_the_origin_itself_and_nothing_else(path, status):
    for header in (("origin", "https://elsewhere.example"), ("sec-fetch-site", "cross-site")):
        assert (await House().get(path, header, method="POST")).status == status
    strange = Request("POST", path, [("host", "evil.example"), ("origin", "http://evil.example")], Whole(b""))
    assert (await House().door(strange)).status == 403, "whatever it is, under a name that is not ours"


async def test_a_front_without_a_catalog_is_healthy_and_not_ready():
    house = House(ready=False)
    assert (await house.get("/healthz")).status == 200
    assert (await house.get("/readyz")).status == 503
    house.ready.set()
    assert (await house.get("/readyz")).status == 200


async def test_requests_wait_for_the_catalog():
    house = House(ready=False)
    waiting = asyncio.ensure_future(house.get("/near"))
    await asyncio.sleep(0.01)
    assert house.near.served == []
    house.ready.set()
    assert (await waiting).body == b"served"


async def test_requests_do_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(doors, "READY_S_MAX", 0.01)
    house = House(ready=False)
    assert (await house.get("/near")).status == 503
    assert house.near.served == []


async def test_the_desks_door_serves_its_own_rows():
    far = Dialect()
    door = DeskDoor(table=TABLE, dialects={"far": far})
    assert (await door(Request("PUT", "/far/x", [], Whole(b"")))).body == b"served"
    assert far.served == [("/far/x", "put")]
