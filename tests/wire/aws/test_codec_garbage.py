"""Whatever comes over the wire, the codec answers or refuses; it never falls over."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.dialects.aws import codec
from ondol.dialects.aws.service import ServiceError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = {
    "lambda": [
        "FunctionName",
        "Code",
        "ZipFile",
        "Environment",
        "Variables",
        "Timeout",
        "Layers",
        "Tags",
        "VpcConfig",
        "Architectures",
        "Publish",
    ],
    "logs": ["logGroupName", "limit", "nextToken", "logStreamNames", "startTime", "logEvents", "descending"],
}
TARGETS = {
    "lambda": [
        ("POST", "/2015-03-31/functions"),
        ("PUT", "/2015-03-31/functions/f/configuration"),
        ("GET", "/2015-03-31/functions/?MaxItems=x"),
        ("DELETE", "/2017-03-31/tags/x?tagKeys=a&tagKeys="),
        ("GET", "/2015-03-31/functions/%FF%00/aliases?MaxItems=99999999999999999999"),
        ("POST", "/%zz//..//"),
    ],
    "logs": [("POST", "/")],
}


def read(service, method, target, headers, body):
    try:
        call = codec.decode(service, method, target, headers, body)
    except ServiceError as error:
        protocol = codec.protocol_of(service, target, headers)
        response = codec.encode_error(service, protocol, error, "r-1")
        assert 400 <= response.status < 600
        return None
    return call


@pytest.mark.parametrize("service", ["lambda", "logs"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_json_is_read_or_refused(service, data):
    import json

    body = json.dumps(data.draw(st.dictionaries(st.sampled_from(MEMBERS[service]), JSON, max_size=5) | JSON)).encode()
    method, target = data.draw(st.sampled_from(TARGETS[service]))
    operation = data.draw(st.sampled_from(["FilterLogEvents", "PutLogEvents", "GetLogEvents", "Nonsense"]))
    read(service, method, target, [("x-amz-target", f"Logs_20140328.{operation}")], body)


@pytest.mark.parametrize("service", ["lambda", "logs", "sts", "sqs"])
@settings(max_examples=100, deadline=None)
@given(target=st.text(max_size=40), header=st.text(max_size=30), body=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(service, target, header, body):
    for kind in ("application/x-www-form-urlencoded", "application/x-amz-json-1.1", header):
        read(service, "POST", "/" + target, [("content-type", kind), ("x-amz-target", header)], body)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"(Tags|PolicyArns|RoleArn|DurationSeconds|)(\.(member|entry|arn|key|1|2|0|-1|x)){0,4}", fullmatch=True),
        st.text(max_size=8),
        max_size=6,
    )
)
def test_any_form_is_read_or_refused(fields):
    from urllib.parse import urlencode

    body = urlencode({"Action": "AssumeRole", "Version": "2011-06-15", **fields}).encode()
    read("sts", "POST", "/", [("content-type", "application/x-www-form-urlencoded")], body)


def test_a_body_nested_without_end_is_refused():
    with pytest.raises(ServiceError):
        codec.decode("lambda", "POST", "/2015-03-31/functions", [], b'{"Tags":' + b'{"a":' * 100_000)
