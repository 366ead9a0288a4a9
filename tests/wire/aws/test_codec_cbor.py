"""RPC v2 CBOR: what may come as CBOR, what may not, and errors as the protocol says them."""

from __future__ import annotations

import gzip
import math
from datetime import UTC, datetime

import botocore.parsers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws import cbor, codec
from ondol.dialects.aws.service import ServiceError

HEADERS = [("smithy-protocol", "rpc-v2-cbor"), ("content-type", "application/cbor")]
TARGET = "/service/GraniteServiceVersion20100801/operation/"

ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def read(operation, body, headers=()):
    return codec.read("monitoring", "POST", TARGET + operation, [*HEADERS, *headers], body)


# Items -----------------------------------------------------------------------------------------------------------------
@given(ITEMS)
def test_what_was_written_is_read_again(value):
    assert cbor.decode(cbor.encode(value)) == value


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)))
def test_times_keep_their_milliseconds(moment):
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    assert abs((cbor.decode(cbor.encode(moment)) - moment).total_seconds()) < 0.001


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    try:
        cbor.decode(data)
    except ValueError:
        return


@given(ITEMS, st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(value, at, byte):
    data = bytearray(cbor.encode(value))
    data[at % len(data)] = byte
    try:
        cbor.decode(bytes(data))
    except ValueError:
        return


@pytest.mark.parametrize(
    ("text", "value"),
    [  # from RFC 8949, appendix A
        ("00", 0), ("17", 23), ("1818", 24), ("1903e8", 1000), ("1bffffffffffffffff", 2**64 - 1), ("20", -1), ("3903e7", -1000),
        ("f90000", 0.0), ("f93c00", 1.0), ("fa47c35000", 100000.0), ("fb3ff199999999999a", 1.1), ("f97c00", math.inf),
        ("f4", False), ("f5", True), ("f6", None), ("f7", None), ("4401020304", b"\1\2\3\4"), ("6449455446", "IETF"),
        ("62c3bc", "ü"), ("83010203", [1, 2, 3]), ("a26161016162820203", {"a": 1, "b": [2, 3]}), ("9fff", []),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]), ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("5f42010243030405ff", b"\1\2\3\4\5"), ("7f657374726561646d696e67ff", "streaming"),
        ("c11a514b67b0", datetime(2013, 3, 21, 20, 4, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_the_standards_examples_are_read(text, value):
    assert cbor.decode(bytes.fromhex(text)) == value


@pytest.mark.parametrize(
    "text",
    ["", "18", "1c", "ff", "f8ff", "9a7fffffff", "5b7fffffffffffffff", "bb7fffffffffffffff", "a10102", "a2616101616102",
     "c074323031332d30332d3231", "c1f5", "c11bffffffffffffffff", "61ff", "7f4101ff", "0000", "81" * 70 + "00", "9f" * 5000],
)  # fmt: skip
def test_what_is_no_item_is_refused_without_making_anything_of_its_claims(text):
    with pytest.raises(ValueError, match="."):
        cbor.decode(bytes.fromhex(text))


def test_what_cbor_has_no_word_for_is_our_mistake():
    for value in (object(), 2**64, {1, 2}):
        with pytest.raises(TypeError):
            cbor.encode(value)


# Requests --------------------------------------------------------------------------------------------------------------
def test_the_operation_is_in_the_path():
    call = read("ListMetrics", cbor.encode({"Namespace": "App", "Stranger": 1, "MetricName": None}))
    assert (call.protocol, call.operation, call.params) == ("smithy-rpc-v2-cbor", "ListMetrics", {"Namespace": "App"})
    assert read("ListMetrics", b"").params == {}


@pytest.mark.parametrize("path", ["/", "/service/Other/operation/ListMetrics", TARGET + "Nonsense", TARGET])
def test_a_path_without_an_operation_is_an_unknown_operation(path):
    with pytest.raises(ServiceError) as caught:
        codec.read("monitoring", "POST", path, HEADERS, b"")
    assert caught.value.code == "UnknownOperationException"


@pytest.mark.parametrize(
    "params",
    [[], {"Namespace": 5}, {"Dimensions": {}}, {"Dimensions": [5]}, {"IncludeLinkedAccounts": "yes"}, {"Namespace": b"App"}],
)
def test_values_of_the_wrong_kind_are_refused(params):
    with pytest.raises(ServiceError, match="can not be converted to") as caught:
        read("ListMetrics", cbor.encode(params))
    assert caught.value.code == "SerializationException"


def test_numbers_may_stand_for_numbers_and_times():
    params = {"Namespace": "App", "MetricName": "m", "StartTime": 0, "EndTime": 60.5, "Period": 60.0}
    found = read("GetMetricStatistics", cbor.encode(params)).params
    assert (found["StartTime"], found["Period"]) == (datetime(1970, 1, 1, tzinfo=UTC), 60)
    for wrong in ({"Period": 1.5}, {"Period": math.inf}, {"StartTime": math.nan}, {"StartTime": 1e300}):
        with pytest.raises(ServiceError):
            read("GetMetricStatistics", cbor.encode(wrong))


@given(st.sampled_from(["GetMetricData", "PutMetricData", "GetMetricStatistics", "ListMetrics"]), ITEMS)
def test_any_item_to_any_operation_is_read_or_refused_in_its_words(operation, value):
    try:
        codec.decode("monitoring", "POST", TARGET + operation, HEADERS, cbor.encode(value))
    except ServiceError as error:
        response = codec.encode_error("monitoring", codec.CBOR, error, "r-1")
        assert 400 <= response.status < 500
        assert cbor.decode(response.body)["__type"] == error.code


# Compressed ------------------------------------------------------------------------------------------------------------
def test_a_compressed_body_is_unpacked():
    body = gzip.compress(cbor.encode({"Namespace": "App"}))
    assert read("ListMetrics", body, [("content-encoding", "gzip")]).params == {"Namespace": "App"}


@pytest.mark.parametrize(
    "body",
    [b"not gzip", gzip.compress(b"x" * 100)[:-9], gzip.compress(b"x") + b"more", gzip.compress(b"\0" * 17 * 1024 * 1024), b""],
    ids=["not", "cut off", "trailing", "bomb", "empty"],
)
def test_a_body_that_only_says_so_and_a_bomb_are_refused(body):
    with pytest.raises(ServiceError) as caught:
        read("ListMetrics", body, [("content-encoding", "gzip")])
    assert caught.value.code == "SerializationException"


# Errors ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "seen"),
    [("InvalidParameterValueException", "InvalidParameterValue"), ("ValidationException", "ValidationError"),
     ("InvalidNextToken", "InvalidNextToken"), ("UnrecognizedClientException", "InvalidClientTokenId")],
)  # fmt: skip
def test_clients_see_the_codes_that_the_query_protocol_had(code, seen):
    response = codec.encode_error("monitoring", codec.CBOR, ServiceError(code, "it cannot be"), "r-1")
    headers = {name.lower(): value for name, value in response.headers}
    assert headers["smithy-protocol"] == "rpc-v2-cbor"
    parser = botocore.parsers.create_parser("smithy-rpc-v2-cbor")
    parsed = parser.parse({"status_code": response.status, "headers": headers, "body": response.body, "context": {}}, None)
    assert parsed["Error"]["Code"] == seen
    assert parsed["Error"]["Message"] == "it cannot be"
    assert parsed["ResponseMetadata"]["RequestId"] == "r-1"
