"""The texts for bodies that are no JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws import jackson

AT = "\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {}, column: {}]"
VALUE = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"


@pytest.mark.parametrize(
    ("body", "text", "line", "column"),
    [
        (b'"\x87"', "Invalid UTF-8 start byte 0x87", 1, 3),
        (b"\x99", f"Unexpected character ((CTRL-CHAR, code 153)): expected a valid value {VALUE}", 1, 1),
        (b"hello", f"Unrecognized token 'hello': was expecting {VALUE}", 1, 6),
        (b"{a:1}", "Unexpected character ('a' (code 97)): was expecting double-quote to start field name", 1, 2),
        (b'{"a" 1}', "Unexpected character ('1' (code 49)): was expecting a colon to separate field name and value", 1, 6),
        (b'{"a":1\n "b":2}', "Unexpected character ('\"' (code 34)): was expecting comma to separate Object entries", 2, 2),
        (b"[1 2]", "Unexpected character ('2' (code 50)): was expecting comma to separate Array entries", 1, 4),
        (b'"abc', "Unexpected end-of-input: was expecting closing quote for a string value", 1, 5),
    ],
)
def test_the_first_mistake_and_its_place_are_told(body, text, line, column):
    assert jackson.complaint(body) == text + AT.format(line, column)


def test_an_object_that_never_ends_names_its_start():
    text = jackson.complaint(b'{"a":1')
    assert text.startswith("Unexpected end-of-input: expected close marker for Object (start marker at [Source: ")
    assert text.endswith("line: 1, column: 7]")


def test_nesting_is_bounded():
    assert jackson.complaint(b"[" * 100_000).startswith("Document nesting depth exceeds")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_there_is_always_one_answer(body):
    try:
        json.loads(body)
    except ValueError:
        assert "at [Source: REDACTED" in jackson.complaint(body)
