"""Whatever comes to the native API is answered in its own form, and never with a 500."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ondol.dialects.native import reading
from ondol.dialects.native.operations import PREFIX
from ondol.dialects.native.table import TABLE
from ondol.model.errors import OndolError

MEMBERS = sorted(
    {
        name
        for each in TABLE.all
        if each.body and hasattr(each.body.schema, "__struct_fields__")
        for name in each.body.schema.__struct_fields__
    }
)
PARAMETERS = sorted({name for each in TABLE.all if each.query for name in each.query.__struct_fields__})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
bodies = (
    st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=10), json_values, max_size=6).map(
        lambda v: json.dumps(v).encode()
    )
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
)
queries = st.lists(st.tuples(st.sampled_from(PARAMETERS) | st.text(max_size=8), st.text(max_size=12)), max_size=4).map(
    lambda pairs: "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
)
segments = st.sampled_from(["site", "hello", "live", "1", "nobody"]) | st.text(max_size=12).map(
    lambda text: quote(text, safe="")
)


@st.composite
def requests(draw):
    """A method and a path near what there is, with anything in its places, in its query and in its body."""
    operation = draw(st.sampled_from(TABLE.all))
    path = "/".join(draw(segments) if part.startswith("{") else part for part in operation.segments)
    method = draw(st.sampled_from([operation.method, operation.method, "GET", "PUT", "POST", "DELETE", "PATCH", "QUERY"]))
    query = draw(
        st.just("") | queries | st.text(alphabet=st.characters(max_codepoint=255, exclude_characters=" \r\n#"), max_size=20)
    )
    kind = draw(st.sampled_from(["", "application/json", "text/plain", "application/zip", "application/octet-stream", "x"]))
    return method, f"/{path}" + (f"?{query}" if query else ""), draw(bodies), kind


async def test_anything_is_answered_and_nothing_with_a_500(api):
    await api.put("site")
    await api.aws_function("hello")
    loop = asyncio.get_running_loop()

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests())
    def fuzz(request):
        method, target, body, kind = request
        headers = [("content-type", kind)] if kind else []
        asking = asyncio.run_coroutine_threadsafe(api.ask(method, target, body, headers=headers), loop)
        response = asking.result(timeout=30)
        assert response.status != 500
        if not isinstance(response.body, bytes):
            asyncio.run_coroutine_threadsafe(response.body.aclose(), loop).result(timeout=30)

    await asyncio.to_thread(fuzz)
    assert list(api.path.iterdir()) == [], "no spooled file stays"


@given(st.text(max_size=200))
def test_any_query_is_read_or_refused_by_name(text):
    for shape in (None, *(each.query for each in TABLE.all if each.query)):
        try:
            reading.query_of(text, shape)
        except OndolError as error:
            assert str(error)


@given(st.text(max_size=80))
def test_any_path_finds_one_place_or_none(path):
    for target in (path, f"{PREFIX}/{path}"):
        assert len(TABLE.at(target)) <= 5


@pytest.mark.parametrize("digits", ["9" * 30, "9" * 5_000, "-1", "1.5", "0x10", "١", "true"])
async def test_a_number_that_is_none_is_refused(api, digits):
    status, said = await api("GET", f"/functions?limit={quote(digits)}")
    assert (status, said["field"]) == (400, "limit")
