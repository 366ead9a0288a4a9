"""RPC v2 CBOR: `POST /service/NAME/operation/NAME`, a CBOR map in, a CBOR map out.

Pure. Reading is as lenient as in the JSON protocols: unknown members are passed over, null is absence.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

from ondol.dialects.aws import cbor, scalars
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import Member, Model, Operation, Shape

#: The protocol's name in the Smithy-Protocol header, and its content type.
NAME: Final = "rpc-v2-cbor"
KIND: Final = "application/cbor"


def match(service: Model, path: str) -> Operation:
    """The operation that the path names. Raises UnknownOperationException."""
    match unquote(path).strip("/").split("/"):
        case [*_, "service", prefix, "operation", name] if prefix in (service.metadata.get("targetPrefix"), service.service):
            operation = service.operations.get(name)
            if operation is not None:
                return operation
    raise ServiceError("UnknownOperationException", f"{service.metadata['serviceId']} has no operation at {path[:200]}")


def read(operation: Operation, body: bytes) -> dict[str, Any]:
    """Parameters by member name. Raises SerializationException."""
    if not body or operation.input is None:
        return {}
    try:
        value = cbor.decode(body)
    except ValueError as error:
        raise ServiceError("SerializationException", f"Could not parse request body into cbor: {error}") from error
    return _structure(operation.input, value)


def write(operation: Operation, result: Mapping[str, Any]) -> bytes:
    """The body of an answer. Raises TypeError for what the shape does not have: a handler's mistake."""
    return cbor.encode(_written(operation.output, result)) if operation.output else b""


def write_error(code: str, key: str, message: str, extra: Mapping[str, Any]) -> bytes:
    """The body of an error."""
    return cbor.encode({"__type": code, **extra, key: message})


# Reading ------------------------------------------------------------------------------------------------------------
def _structure(shape: Shape, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(value, "a structure")
    params = {}
    for name, member in shape.members.items():
        found = value.get(member.wire_name)
        if found is not None:
            params[name] = _read(member, found)
    return params


def _read(member: Member, value: Any) -> Any:
    if value is None:
        return None
    shape, kind = member.shape, member.shape.type
    if kind == "structure":
        return _structure(shape, value)
    if kind == "list" and isinstance(value, list):
        element = shape.element
        return [_read(element, each) for each in value]
    if kind == "map" and isinstance(value, dict):
        inner = shape.value
        return {key: _read(inner, each) for key, each in value.items()}
    return _scalar(kind, value)


def _scalar(kind: str, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in _PLAIN and isinstance(value, _PLAIN[kind]):
        return value
    if kind in scalars.INTEGERS and number and value == value // 1:
        return int(value)
    if kind in scalars.FLOATS and number:
        return float(value)
    if kind == "timestamp" and number:
        try:
            return scalars.timestamp(value)
        except (ValueError, OverflowError) as error:
            raise _unexpected(value, "a timestamp") from error
    raise _unexpected(value, f"a {kind}")


_PLAIN: Final[Mapping[str, type]] = {"string": str, "boolean": bool, "blob": bytes, "timestamp": datetime}


def _unexpected(value: Any, wanted: str) -> ServiceError:
    found = {dict: "a map", list: "a list", str: "a text", bytes: "bytes", datetime: "a timestamp", bool: "a boolean"}
    given = found.get(type(value), "a number")
    return ServiceError("SerializationException", f"{given[0].upper()}{given[1:]} can not be converted to {wanted}")


# Writing ------------------------------------------------------------------------------------------------------------
def _written(shape: Shape, result: Mapping[str, Any]) -> dict[str, Any]:
    members = shape.members
    strangers = result.keys() - members.keys()
    if strangers:
        raise TypeError(f"{shape.name} has no member {', '.join(sorted(strangers))}")
    return {members[name].wire_name: _value(members[name], value) for name, value in result.items() if value is not None}


def _value(member: Member, value: Any) -> Any:
    shape, kind = member.shape, member.shape.type
    if kind == "structure":
        return _written(shape, value)
    if kind == "list":
        element = shape.element
        return [_value(element, each) for each in value]
    if kind == "map":
        inner = shape.value
        return {str(key): _value(inner, each) for key, each in value.items()}
    if kind in scalars.FLOATS:
        return float(value)
    if kind == "timestamp" and not isinstance(value, datetime):
        return scalars.timestamp(value)
    return value
