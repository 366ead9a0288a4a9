"""What counts as JSON: what Python's own reader takes, without its time."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ondol.core.payloads import is_json


@pytest.mark.parametrize("body", [b"null", b" [1]\n", b'"\\ud800"', '"é"'.encode(), b'{"a": {"b": []}}'])
def test_any_json_value_is(body):
    assert is_json(body)


@pytest.mark.parametrize("body", [b"", b"{", b"{} {}", b"'a'", b'"\xff"', b"\xff", b"NaN", b'"\\ud800', b"[" * 100_000])
def test_what_is_none_is_not(body):
    assert not is_json(body)


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\ud8a01 e.-\n', max_size=12).map(str.encode))
@example(b'"\\uD800\\n"')
def test_whatever_is_taken_python_reads(body):
    if is_json(body):
        json.loads(body)
