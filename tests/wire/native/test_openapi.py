"""The document, the table and what is served are one thing."""

from __future__ import annotations

import json
import re

import pytest

from ondol.app.shared import TABLE as ROUTES
from ondol.core.permit import READS
from ondol.dialects.native import openapi
from ondol.dialects.native.dialect import NativeDialect
from ondol.dialects.native.operations import PREFIX
from ondol.dialects.native.table import TABLE
from ondol.http.bodies import Whole
from ondol.http.messages import Request

DOCUMENT = json.loads(json.dumps(openapi.document(TABLE.all, "1.2.3")))
METHODS = {"get", "put", "post", "patch", "delete"}


def declared():
    """(method, path) of the document -> operation."""
    return {(method.upper(), path): each for path, item in DOCUMENT["paths"].items() for method, each in item.items()}


def filled(path):
    return re.sub(r"\{\w+\}", "x", path)


def test_the_document_has_the_tables_operations_and_no_others():
    assert {key: each["operationId"] for key, each in declared().items()} == {
        (each.method, PREFIX + each.path): each.id for each in TABLE.all
    }
    assert {method for item in DOCUMENT["paths"].values() for method in item} <= METHODS


def test_no_two_operations_have_one_name_or_one_place():
    assert len({each.id for each in TABLE.all}) == len(TABLE.all)
    assert len({(each.method, re.sub(r"\{\w+\}", "{}", each.path)) for each in TABLE.all}) == len(TABLE.all)


def test_every_reference_leads_somewhere_and_every_schema_is_used():
    used = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert used == set(DOCUMENT["components"]["schemas"])


@pytest.mark.parametrize("operation", TABLE.all, ids=lambda operation: operation.id)
def test_a_path_declares_its_places(operation):
    shown = declared()[operation.method, PREFIX + operation.path]
    places = [each["name"] for each in shown["parameters"] if each["in"] == "path"]
    assert places == re.findall(r"\{(\w+)\}", operation.path)
    assert all(each["schema"] for each in shown["parameters"])


@pytest.mark.parametrize("operation", TABLE.all, ids=lambda operation: operation.id)
def test_a_query_is_what_is_read_of_it(operation):
    shown = declared()[operation.method, PREFIX + operation.path]
    names = [each["name"] for each in shown["parameters"] if each["in"] == "query"]
    assert sorted(names) == sorted(operation.query.__struct_fields__ if operation.query else ())


@pytest.mark.parametrize("operation", TABLE.all, ids=lambda operation: operation.id)
def test_whether_a_read_only_key_will_do_is_said(operation):
    shown = declared()[operation.method, PREFIX + operation.path]
    assert shown["x-ondol-read-only-key"] is (not operation.action or operation.action in READS)
    assert ("security" in shown) is (not operation.action), "only what needs no key says so"


@pytest.mark.parametrize("operation", TABLE.all, ids=lambda operation: operation.id)
def test_the_node_sends_an_operation_to_the_process_that_answers_it(operation):
    for path in (operation.path, operation.path.replace("{name}", "invoke")):
        request = Request(operation.method, PREFIX + filled(path), [("host", "127.0.0.1")], Whole(b""))
        route = ROUTES.match(request)
        assert (route.dialect, route.plane) == ("native", operation.plane)


@pytest.mark.parametrize("operation", TABLE.all, ids=lambda operation: operation.id)
async def test_every_declared_operation_answers(api, operation):
    """Whatever it says, it is not that there is no such thing, or that it has gone wrong."""
    for who in ("owner", "reader"):
        response = await api.ask(operation.method, filled(operation.path), who=who)
        said = json.loads(response.body) if response.body and response.status >= 400 else {}
        assert response.status != 500
        assert "nothing answers" not in said.get("message", "")
        allowed = not operation.action or operation.action in READS
        assert (who == "reader" and not allowed) == (said.get("error") == "Denied" and operation.action != "")


async def test_everything_that_is_served_is_declared(api):
    """A handler that no operation names would never be asked."""
    served = {each for dialect in api.dialects.values() for each in dialect._handlers}
    assert served == {each.id for each in TABLE.all}
    for part in api.parts:
        methods = {name for name in vars(type(part)) if not name.startswith("_") and name != "operations"}
        assert methods == {each.id.partition(".")[2] for each in part.operations}


async def test_the_document_is_served(api):
    assert await api("GET", "/openapi.json", who="reader") == (200, DOCUMENT)


def test_the_routes_are_the_dialects():
    assert [route for route in ROUTES.routes if route.dialect == "native"] == list(NativeDialect.routes)
