"""The codec: requests of any AWS service to (operation, parameters), and results and errors back, driven by the service models.

Four protocols: REST-JSON, JSON 1.0/1.1, Query and RPC v2 CBOR. `decode` is a pure function of picklable values, so that a large
body can be decoded in a helper process. Knows nothing of functions, keys or handlers.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ondol.dialects.aws import codec_cbor, codec_events, codec_json, codec_query, codec_rest, errors, validation
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import Member, Model, Operation, Shape, model
from ondol.http.messages import Response

REST_JSON, JSON, QUERY, CBOR = "rest-json", "json", "query", "smithy-rpc-v2-cbor"
Headers = Sequence[tuple[str, str]]

#: What the Query services call errors that the younger protocols call otherwise.
QUERY_CODES: Mapping[str, str] = {
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "IncompleteSignatureException": "IncompleteSignature",
    "ExpiredTokenException": "ExpiredToken",
    "AccessDeniedException": "AccessDenied",
    "ValidationException": "ValidationError",
    "ServiceException": "InternalFailure",
}

#: What a compressed body may unpack to.
INFLATED_BYTES_MAX = 16 * 1024 * 1024
#: What services call a request that their model refuses, where it is not "ValidationException".
INVALID_CODES: Mapping[str, str] = {"logs": "InvalidParameterException"}

_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Call:
    """A request, understood."""

    service: str
    protocol: str
    operation: str
    params: dict[str, Any]


def protocol_of(service: str, target: str, headers: Headers) -> str:
    """Which of the service's protocols a request speaks."""
    spoken = model(service).protocols
    if len(spoken) == 1:
        return model(service).protocol
    kind = _header(headers, "content-type").partition(";")[0].strip().lower()
    if CBOR in spoken and _header(headers, "smithy-protocol") == codec_cbor.NAME:
        return CBOR
    if JSON in spoken and _header(headers, "x-amz-target"):
        return JSON
    if QUERY in spoken and (kind == _FORM or "Action=" in target.partition("?")[2]):
        return QUERY
    return model(service).protocol


def decode(service: str, method: str, target: str, headers: Headers, body: bytes) -> Call:
    """Parse and validate. Raises ServiceError."""
    call = read(service, method, target, headers, body)
    shape = model(service).operations[call.operation].input
    validation.validate(call.operation, shape, call.params, code=INVALID_CODES.get(service, "ValidationException"))
    return call


def read(service: str, method: str, target: str, headers: Headers, body: bytes) -> Call:
    """Parse only: which operation, and parameters of the right types. Raises ServiceError."""
    shapes = model(service)
    protocol = protocol_of(service, target, headers)
    _refuse_cbor(shapes, headers)
    operation, params = _READERS[protocol](shapes, method, target, headers, _inflated(headers, body))
    return Call(service, protocol, operation.name, params)


def encode(call: Call, result: Mapping[str, Any], request_id: str) -> Response:
    """The answer to a call that went well."""
    shapes = model(call.service)
    operation = shapes.operations[call.operation]
    if call.protocol == REST_JSON:
        status, headers, body = codec_rest.write(shapes, operation, result)
        return Response(status, [*headers, ("x-amzn-RequestId", request_id)], body)
    if call.protocol == JSON:
        stream = codec_events.stream_of(operation.output)
        if stream is not None and operation.output is not None:
            return _encode_stream(shapes, operation.output, stream, dict(result), request_id)
        written = codec_json.write_structure(operation.output, result) if operation.output else None
        body = b"" if written is None else codec_json.encode(written)
        return Response(200, _json_headers(shapes, request_id), body)
    if call.protocol == CBOR:
        return Response(200, _cbor_headers(request_id), codec_cbor.write(operation, result))
    body = codec_query.write(shapes, operation, result, request_id)
    return Response(200, [("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)], body)


def _encode_stream(shapes: Model, output: Shape, stream: Member, result: dict[str, Any], request_id: str) -> Response:
    """An answer that goes on: what comes at once, and then its events."""
    events = result.pop(stream.name)
    rest = codec_json.encode(codec_json.write_structure(output, result))
    framed = codec_events.Framed(stream, rest, events, f"application/x-amz-json-{shapes.json_version}")
    return Response(200, [("Content-Type", codec_events.CONTENT_TYPE), ("x-amzn-RequestId", request_id)], framed)


def encode_error(service: str, protocol: str, error: ServiceError, request_id: str) -> Response:
    """The answer that says what went wrong, as the protocol says it."""
    shapes = model(service)
    shape = shapes.error(error.code)
    facts = shape.traits.get("error", {}) if shape else {}
    status = error.status or facts.get("httpStatusCode") or (500 if shape and shape.traits.get("fault") else 400)
    code = facts.get("code", error.code)
    if protocol == QUERY:
        code = QUERY_CODES.get(code, code)
        body = codec_query.write_error(shapes, code, error.message, status, request_id)
        return Response(status, [("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id), *error.headers], body)
    key = error.message_key or _message_key(shapes, error.code)
    if protocol == REST_JSON:
        return errors.render_json(error, status=status, code=code, key=key, request_id=request_id)
    headers = _cbor_headers(request_id) if protocol == CBOR else _json_headers(shapes, request_id)
    if "awsQueryCompatible" in shapes.metadata:
        code = QUERY_CODES.get(code, code)
        headers.append(("x-amzn-query-error", f"{code};{'Sender' if status < 500 else 'Receiver'}"))
    if protocol == CBOR:
        body = codec_cbor.write_error(error.code, key, error.message, error.extra)
    else:
        body = codec_json.encode({"__type": error.code, **error.extra, key: error.message})
    return Response(status, [*headers, *error.headers], body)


def not_built(service: str, operation: str, reason: str = "") -> ServiceError:
    """The answer for an operation that AWS has and Ondol does not."""
    why = f": {reason}" if reason else ""
    message = (
        f"Ondol does not do {operation} of {service} yet{why}. docs/reference/aws.md lists what it does; "
        "the request was understood and nothing was changed."
    )
    return ServiceError("NotImplemented", message, status=501)


# Readers ------------------------------------------------------------------------------------------------------------
def _read_rest(shapes: Model, method: str, target: str, headers: Headers, body: bytes) -> tuple[Operation, dict[str, Any]]:
    path, _, query_text = target.partition("?")
    query = codec_rest.query_of(query_text)
    matched = codec_rest.match(shapes, method, path, query)
    return matched.operation, codec_rest.read(matched.operation, matched.labels, query, headers, body)


def _read_json(shapes: Model, _method: str, _target: str, headers: Headers, body: bytes) -> tuple[Operation, dict[str, Any]]:
    prefix, _, name = _header(headers, "x-amz-target").rpartition(".")
    operation = shapes.operations.get(name)
    if operation is None or prefix != shapes.metadata.get("targetPrefix"):
        raise ServiceError("UnknownOperationException", f"{shapes.metadata['serviceId']} has no operation {name or '?'}")
    shape = operation.input
    if shape is None:
        return operation, {}
    return operation, codec_json.read_structure(shape, codec_json.decode(body))


def _read_query(shapes: Model, _method: str, target: str, _headers: Headers, body: bytes) -> tuple[Operation, dict[str, Any]]:
    form = codec_query.form_of(target.partition("?")[2])
    form.update(codec_query.form_of(body.decode("utf-8", "replace")))
    operation = codec_query.match(shapes, form)
    return operation, codec_query.read(operation, form)


def _read_cbor(shapes: Model, _method: str, target: str, _headers: Headers, body: bytes) -> tuple[Operation, dict[str, Any]]:
    operation = codec_cbor.match(shapes, target.partition("?")[0])
    return operation, codec_cbor.read(operation, body)


_READERS = {REST_JSON: _read_rest, JSON: _read_json, QUERY: _read_query, CBOR: _read_cbor}


# Parts --------------------------------------------------------------------------------------------------------------
def _refuse_cbor(shapes: Model, headers: Headers) -> None:
    """Where a service does not speak it."""
    if CBOR in shapes.protocols:
        return
    if _header(headers, "smithy-protocol") == codec_cbor.NAME or codec_cbor.KIND in _header(headers, "content-type"):
        message = f"{shapes.metadata['serviceId']} does not speak RPC v2 CBOR; configure the client to use {shapes.protocol}."
        raise ServiceError("UnsupportedProtocol", message, status=415)


def _inflated(headers: Headers, body: bytes) -> bytes:
    """Clients may compress requests of operations whose model says so. Raises what a service answers to a body that is not."""
    if _header(headers, "content-encoding").strip().lower() != "gzip":
        return body
    inflater = zlib.decompressobj(wbits=31)
    try:
        inflated = inflater.decompress(body, INFLATED_BYTES_MAX)
    except zlib.error as error:
        raise ServiceError("SerializationException", f"The body says it is gzip, and is not: {error}") from error
    if not inflater.eof or inflater.unused_data:
        what = "is cut off" if not inflater.unconsumed_tail else f"is larger than {INFLATED_BYTES_MAX} bytes unpacked"
        raise ServiceError("SerializationException", f"The compressed body {what}.", status=400)
    return inflated


def _message_key(shapes: Model, code: str) -> Any:
    """As the error's own shape spells it: 404s of Lambda mostly say "Message", all others "message"."""
    shape = shapes.error(code)
    return "Message" if shape and "Message" in shape.traits.get("members", {}) else "message"


def _json_headers(shapes: Model, request_id: str) -> list[tuple[str, str]]:
    return [
        ("Content-Type", f"application/x-amz-json-{shapes.json_version}"),
        ("x-amzn-RequestId", request_id),
    ]


def _cbor_headers(request_id: str) -> list[tuple[str, str]]:
    return [("Content-Type", codec_cbor.KIND), ("smithy-protocol", codec_cbor.NAME), ("x-amzn-RequestId", request_id)]


def _header(headers: Headers, name: str) -> str:
    for key, value in headers:
        if key == name:
            return value
    return ""
