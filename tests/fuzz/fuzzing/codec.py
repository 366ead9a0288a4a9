"""The AWS codec: what botocore's own serializer sends is read back unchanged, any other request is read or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import botocore.serialize
from botocore.awsrequest import AWSRequest, prepare_request_dict
from botocore.loaders import Loader
from botocore.model import ServiceModel

from ondol.dialects.aws import codec
from ondol.dialects.aws.service import ServiceError

from fuzzing.drawing import Draw

_FOLDERS = {"monitoring": "cloudwatch"}
MODELS = {
    name: ServiceModel(Loader().load_service_model(_FOLDERS.get(name, name), "service-2"), name)
    for name in ("lambda", "logs", "sts", "sqs", "sns", "iam", "monitoring")
}
#: What is sent as a stream is no business of the codec.
_STREAMS = {("lambda", "InvokeWithResponseStream"), ("logs", "StartLiveTail"), ("logs", "GetLogObject")}
CASES = [
    (service, protocol, name)
    for service, model in MODELS.items()
    for protocol in (model.metadata["protocol"], *(("json", "query") if service == "monitoring" else ()))
    for name in sorted(model.operation_names)
    if (service, name) not in _STREAMS
]
_TEXT = "abcXYZ09-_ /:%+&=?#ü한🙂$\\\"'<>\0\x1f\u2028"
_TARGETS = {
    "lambda": ["/2015-03-31/functions", "/2015-03-31/functions/f/configuration", "/2015-03-31/functions/?MaxItems=x", "/2017-03-31/tags/x?tagKeys="],
    "logs": ["/"], "sts": ["/"], "sqs": ["/", "/?Action=SendMessage"], "sns": ["/"], "iam": ["/", "/?Action=ListRoles"],
    "monitoring": ["/", "/service/GraniteServiceVersion20100801/operation/PutMetricData"],
}  # fmt: skip
_KINDS = ("", "application/json", "application/x-amz-json-1.0", "application/x-amz-json-1.1", "application/x-www-form-urlencoded",
          "application/cbor", "application/octet-stream", "text/plain; charset=x")  # fmt: skip

SEEDS = [bytes(range(n, n + 100)) for n in range(0, 150, 30)] + [
    b'\xff\x00\x00\x01{"FunctionName":"f","Code":{"ZipFile":"UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="},"Timeout":3}',
    b'\xff\x01\x00\x03{"logGroupName":"/aws/lambda/f","limit":10,"startTime":0}',
    b"\xff\x02\x00\x04Action=AssumeRole&Version=2011-06-15&Tags.member.1.Key=a&Tags.member.1.Value=b",
    b"\xff\x06\x01\x05\xa2\x69Namespace\x61a\x6aMetricData\x81\xa2\x6aMetricName\x61m\x65Value\xfb\x3f\xf0\0\0\0\0\0\0",
]
TOKENS = [
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"-0", b"1e999", b"NaN", b'"\\ud800"', b"\\u0000", b"Tags", b"FunctionName",
    b"&", b"=", b".member.", b".1.", b"%", b"%FF", b"\xbf", b"\xff", b"\x9f", b"\x5f", b"\xc1\xfb", b"\xdb\xff\xff\xff\xff\xff\xff\xff\xff",
]  # fmt: skip


def one(data):
    """The first byte chooses between what a client sends, and any bytes."""
    if data[:1] == b"\xff":
        _any(data[1:])
        return
    draw = Draw(data[1:])
    service, protocol, name = draw.choice(CASES)
    operation = MODELS[service].operation_model(name)
    params = made(operation.input_shape, draw) if operation.input_shape else {}
    request = wire_request(protocol, operation, params)
    call = codec.read(service, *request)
    assert (call.service, call.protocol, call.operation) == (service, protocol, name)
    assert without_empty(call.params) == without_empty(params), (name, params)


def made(shape, draw, depth=0, location=""):
    """A value of the shape: required members always, others as drawn; simple shapes at some depth."""
    kind = shape.type_name
    if kind == "structure":
        if shape.is_document_type:
            return {"any": [1, "thing", None]}
        if shape.is_tagged_union:
            name = draw.choice(list(shape.members))
            return {name: made(shape.members[name], draw, depth + 1)}
        members = {}
        for name, member in shape.members.items():
            where = member.serialization.get("location", "")
            if name in shape.required_members or where == "uri" or (depth < 3 and draw.randint(0, 3) == 1):
                members[name] = made(member, draw, depth + 1, where)
        return members
    if kind == "list":
        return [made(shape.member, draw, depth + 1, location) for _ in range(draw.randint(1, 2))]
    if kind == "map":
        return {f"k{n}{_text(draw, location)}": made(shape.value, draw, depth + 1, location) for n in range(draw.randint(1, 2))}
    simple = {
        "boolean": lambda: draw.randint(0, 1) == 1,
        "integer": lambda: draw.randint(-(2**31), 2**31 - 1),
        "long": lambda: draw.randint(-(2**53), 2**53),
        "float": lambda: draw.randint(-1000, 1000) / 8,
        "double": lambda: draw.randint(-1000, 1000) / 8,
        "timestamp": lambda: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=draw.randint(0, 10**8)),
        "blob": lambda: draw.randbytes(draw.randint(1, 20)),
    }
    return simple[kind]() if kind in simple else "x" + _text(draw, location)


def _text(draw, location):
    letters = "abcXYZ09-_" if location == "header" else _TEXT
    return "".join(draw.choices(letters, k=draw.randint(0, 8)))


def without_empty(value):
    """Absence and an empty structure are one thing on some wires."""
    if isinstance(value, dict):
        cleaned = {key: without_empty(each) for key, each in value.items()}
        return {key: each for key, each in cleaned.items() if each not in ({}, [], None, b"", "")}
    if isinstance(value, list):
        return [each for each in map(without_empty, value) if each != {}]
    return value


def wire_request(protocol, operation, params):
    """(method, target, headers, body) as botocore sends them."""
    serializer = botocore.serialize.create_serializer(protocol, include_validation=False)
    request = serializer.serialize_to_request(params, operation)
    prepare_request_dict(request, endpoint_url="http://127.0.0.1:7979")
    prepared = AWSRequest(
        method=request["method"], url=request["url"], data=request["body"], headers=request["headers"]
    ).prepare()
    parts = urlsplit(prepared.url)
    body = prepared.body or b""
    body = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else body.read()
    headers = [
        (name.lower(), value.decode("latin-1") if isinstance(value, bytes) else value)
        for name, value in prepared.headers.items()
    ]
    return prepared.method, parts.path + (f"?{parts.query}" if parts.query else ""), headers, body


def _any(data):
    service = list(MODELS)[data[0] % len(MODELS)] if data else "lambda"
    targets = _TARGETS[service]
    chosen = data[1] if len(data) > 1 else 0
    kind = _KINDS[data[2] % len(_KINDS)] if len(data) > 2 else ""
    body = data[3:]
    target = targets[chosen % len(targets)] if chosen < 128 else "/" + body[:60].decode("latin-1")
    names = sorted(MODELS[service].operation_names)
    header = f"{MODELS[service].metadata.get('targetPrefix', 'X')}.{names[chosen % len(names)]}"
    headers = [("content-type", kind), ("x-amz-target", header)]
    if kind == "application/cbor":
        headers += [("smithy-protocol", "rpc-v2-cbor")]
        target = f"/service/GraniteServiceVersion20100801/operation/{names[chosen % len(names)]}"
    for method in ("POST", "PUT"):
        try:
            codec.decode(service, method, target, headers, body)
        except ServiceError as error:
            response = codec.encode_error(service, codec.protocol_of(service, target, headers), error, "r-1")
            assert 400 <= response.status < 600
