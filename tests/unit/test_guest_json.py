"""The guest's JSON: as the standard library's, through less of it."""

import json

import pytest

from ondol_guest.aws import Fault, decode
from ondol_guest.aws_json import Encoder

encode = Encoder("AWS_Lambda_python3.11").encode


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "é", [], {}, {"a": [1, {"b": "ü"}], "c": float("inf")}, {1: 2, None: 3}])
def test_plain_values_are_written_as_json_writes_them(value):
    assert encode(value) == json.dumps(value).encode()


def test_a_circle_is_refused_and_is_none_once_it_is_broken():
    value = {"inner": []}
    value["inner"].append(value)
    for _ in range(2):
        with pytest.raises(ValueError, match="Circular reference detected"):
            encode(value)
    value["inner"].clear()
    assert encode(value) == b'{"inner": []}'


def test_an_event_is_read_whatever_stands_around_it():
    for event in (
        b'{"a": [1, 2]}',
        b' {"a": [1, 2]}',
        b'{"a": [1, 2]}\n',
        bytearray(b'{"a": [1, 2]}'),
        '{"a": [1, 2]}'.encode("utf-16"),
    ):
        assert decode(event) == {"a": [1, 2]}


@pytest.mark.parametrize("event", [b"", b"{", b"{} {}", b"\xff", b"nul", b'"' + b"[" * 10])
def test_what_is_no_event_is_said_as_json_says_it(event):
    with pytest.raises(ValueError) as said:  # noqa: PT011  (its text is what is compared)
        json.loads(event)
    with pytest.raises(Fault) as fault:
        decode(event)
    assert fault.value.message == f"Unable to unmarshal input: {said.value}"
