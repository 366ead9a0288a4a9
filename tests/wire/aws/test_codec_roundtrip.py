"""botocore, unmodified, is the oracle: what it serializes we read back unchanged, what we write it parses unchanged."""

import io
import random
from datetime import UTC, datetime, timedelta

import botocore.parsers
import pytest

from ondol.dialects.aws import codec
from ondol.dialects.aws.actions import ACTIONS
from ondol.dialects.aws.service import ServiceError
from ondol.testing.wire import service_model, wire_request

MODELS = {name: service_model(name) for name in ("lambda", "logs", "sts", "sqs", "sns", "monitoring", "iam")}
#: What a service speaks besides its model's first protocol.
MORE_PROTOCOLS = {"monitoring": ("json", "query")}
#: Bodies that are event streams or raw streams are no business of the codec.
STREAMS = {("lambda", "InvokeWithResponseStream"), ("logs", "StartLiveTail"), ("logs", "GetLogObject")}


def cases():
    for service, model in MODELS.items():
        for protocol in (model.metadata["protocol"], *MORE_PROTOCOLS.get(service, ())):
            for name in model.operation_names if service != "iam" else sorted(ACTIONS["iam"]):
                if (service, name) not in STREAMS:
                    yield pytest.param(service, protocol, name, id=f"{service}-{protocol}-{name}")


def made(shape, rng, depth=0, location=""):
    """A random value of a shape: present members at random, required ones always."""
    kind = shape.type_name
    if kind == "structure":
        if shape.is_document_type:
            return {"any": [1, "thing", None]}
        members = {}
        if shape.is_tagged_union:
            name = rng.choice(list(shape.members))
            return {name: made(shape.members[name], rng, depth + 1)}
        for name, member in shape.members.items():
            where = member.serialization.get("location", "")
            needed = name in shape.required_members or where == "uri"
            if needed or (depth < 4 and rng.random() < 0.7):
                members[name] = made(member, rng, depth + 1, where)
        return members
    if kind == "list":
        return [made(shape.member, rng, depth + 1, location) for _ in range(rng.randint(1, 3))]
    if kind == "map":
        return {f"k{n}": made(shape.value, rng, depth + 1, location) for n in range(rng.randint(1, 3))}
    if kind == "boolean":
        return rng.random() < 0.5
    if kind in ("integer", "long"):
        return rng.randint(0, 2**31 - 1)
    if kind in ("float", "double"):
        return rng.randint(0, 1000) / 8
    if kind == "timestamp":
        return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randint(0, 10**8))
    if kind == "blob":
        return rng.randbytes(rng.randint(1, 40))
    if location == "header":
        return "".join(rng.choices("abcXYZ09-_", k=rng.randint(1, 12)))
    plain = "abcXYZ09-_ /:%+&=?#ü한🙂$"
    return "".join(rng.choices(plain, k=rng.randint(1, 12)))


def without_empty(value):
    """Absence and an empty structure are one thing on some wires."""
    if isinstance(value, dict):
        cleaned = {key: without_empty(each) for key, each in value.items()}
        return {key: each for key, each in cleaned.items() if each not in ({}, [], None, b"", "")}
    if isinstance(value, list):
        return [each for each in map(without_empty, value) if each != {}]
    return value


@pytest.mark.parametrize(("service", "protocol", "name"), list(cases()))
def test_what_botocore_sends_is_read_back_unchanged(service, protocol, name):
    rng = random.Random(f"{service}.{name}")
    operation = MODELS[service].operation_model(name)
    for _ in range(5):
        params = made(operation.input_shape, rng) if operation.input_shape else {}
        call = codec.read(service, *wire_request(protocol, operation, params))
        assert (call.service, call.protocol, call.operation) == (service, protocol, name)
        assert without_empty(call.params) == without_empty(params)


@pytest.mark.parametrize(("service", "protocol", "name"), list(cases()))
def test_what_we_answer_is_parsed_by_botocore_unchanged(service, protocol, name):
    rng = random.Random(f"{name}.{service}")
    operation = MODELS[service].operation_model(name)
    for _ in range(5):
        result = made(operation.output_shape, rng) if operation.output_shape else {}
        for member, shape in operation.output_shape.members.items() if operation.output_shape else ():
            if shape.serialization.get("location") == "statusCode":
                result[member] = 200
        call = codec.Call(service, protocol, name, {})
        response = codec.encode(call, result, "req-1")
        parser = botocore.parsers.create_parser(protocol)
        body = io.BytesIO(response.body) if operation.has_streaming_output else response.body
        answer = {"status_code": response.status, "headers": LowerDict(response.headers), "body": body, "context": {}}
        parsed = parser.parse(answer, operation.output_shape)
        assert parsed.pop("ResponseMetadata")["HTTPStatusCode"] < 300
        assert without_empty(read_streams(parsed)) == without_empty(result)


def read_streams(value):
    return {key: each.read() if hasattr(each, "read") else each for key, each in value.items()}


class LowerDict(dict):
    """Headers as urllib3 gives them: names in any case."""

    def __init__(self, pairs):
        super().__init__({key.lower(): value for key, value in pairs})

    def get(self, key, default=None):
        return super().get(key.lower(), default)

    def __getitem__(self, key):
        return super().__getitem__(key.lower())

    def __contains__(self, key):
        return super().__contains__(key.lower())


def test_a_path_with_a_closing_slash_means_the_same():
    assert codec.read("lambda", "GET", "/2015-03-31/functions/", [], b"").operation == "ListFunctions"


def test_fixed_query_parameters_choose_between_operations_of_one_path():
    target = "/2019-09-30/functions/f/provisioned-concurrency"
    assert codec.read("lambda", "GET", f"{target}?List=ALL", [], b"").operation == "ListProvisionedConcurrencyConfigs"
    assert codec.read("lambda", "GET", f"{target}?Qualifier=1", [], b"").operation == "GetProvisionedConcurrencyConfig"


def test_a_path_that_no_operation_has_is_an_unknown_operation():
    with pytest.raises(ServiceError) as caught:
        codec.read("lambda", "GET", "/2015-03-31/nonsense", [], b"")
    assert (caught.value.code, caught.value.status) == ("UnknownOperationException", 404)


def test_sqs_still_answers_its_old_query_clients():
    body = b"Action=CreateQueue&Version=2012-11-05&QueueName=q&Attribute.1.Name=DelaySeconds&Attribute.1.Value=5"
    call = codec.read("sqs", "POST", "/", [("content-type", "application/x-www-form-urlencoded; charset=utf-8")], body)
    assert (call.protocol, call.operation, call.params["QueueName"]) == ("query", "CreateQueue", "q")


def test_cbor_is_refused_in_words():
    with pytest.raises(ServiceError, match="RPC v2 CBOR"):
        codec.read("logs", "POST", "/", [("smithy-protocol", "rpc-v2-cbor"), ("content-type", "application/cbor")], b"")
