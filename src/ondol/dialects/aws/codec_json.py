"""JSON bodies by shape: what REST-JSON and the two JSON protocols share.

Pure. Reading is lenient where AWS is (unknown members are passed over, null is absence) and refuses with AWS's
SerializationException where a value has the wrong type.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from ondol.dialects.aws import scalars
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import Member, Shape

#: Deeper than any model; a hostile body must not exhaust the stack.
DEPTH_MAX = 64

_JAVA_NAMES = {
    "string": "a String",
    "integer": "an Integer",
    "long": "a Long",
    "boolean": "a Boolean",
    "float": "a Float",
    "double": "a Double",
    "blob": "a Blob",
    "timestamp": "a Timestamp",
}


def decode(body: bytes) -> Any:
    """The body as JSON. Raises SerializationException; an empty body is an empty object."""
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServiceError("SerializationException", f"Could not parse request body into json: {error}") from error


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


# Reading ------------------------------------------------------------------------------------------------------------
def read_structure(shape: Shape, value: Any, *, body_only: bool = False, depth: int = 0) -> dict[str, Any]:
    """Parameters by member name. `body_only`: members that travel elsewhere (uri, header …) are left out."""
    if not isinstance(value, dict):
        raise _unexpected(value, "a structure")
    if depth > DEPTH_MAX:
        raise ServiceError("SerializationException", f"Objects may be nested {DEPTH_MAX} deep, and no deeper.")
    if shape.traits.get("document"):
        return value
    params: dict[str, Any] = {}
    for name, member in shape.members.items():
        if body_only and member.location:
            continue
        found = value.get(member.wire_name)
        if found is not None:
            params[name] = _read(member, found, depth + 1)
    return params


def _read(member: Member, value: Any, depth: int) -> Any:
    if value is None:
        return None
    shape = member.shape
    kind = shape.type
    if kind == "structure":
        return read_structure(shape, value, depth=depth)
    if kind == "list":
        if not isinstance(value, list):
            raise _unexpected(value, "a list")
        element = shape.element
        return [_read(element, each, depth + 1) for each in value]
    if kind == "map":
        if not isinstance(value, dict):
            raise _unexpected(value, "a map")
        inner = shape.value
        return {key: _read(inner, each, depth + 1) for key, each in value.items()}
    return _read_scalar(kind, value)


def _read_scalar(kind: str, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind in scalars.INTEGERS and number and value == int(value):
        return int(value)
    if kind in scalars.FLOATS and (number or value in ("NaN", "Infinity", "-Infinity")):
        return float(value)
    if kind == "timestamp" and (number or isinstance(value, str)):
        return _converted(scalars.timestamp, kind, value)
    if kind == "blob" and isinstance(value, str):
        return _converted(scalars.blob, kind, value)
    raise _unexpected(value, _JAVA_NAMES.get(kind, f"a {kind}"))


def _converted(how: Any, kind: str, value: Any) -> Any:
    try:
        return how(value)
    except (ValueError, OverflowError) as error:
        raise _unexpected(value, _JAVA_NAMES[kind]) from error


def _unexpected(value: Any, wanted: str) -> ServiceError:
    if isinstance(value, dict):
        message = "Start of structure or map found where not expected."
    elif isinstance(value, list):
        message = "Start of list found where not expected"
    else:
        token = {True: "TRUE_VALUE", False: "FALSE_VALUE"}[value] if isinstance(value, bool) else None
        token = token or ("STRING_VALUE" if isinstance(value, str) else "NUMBER_VALUE")
        message = f"{token} can not be converted to {wanted}"
    return ServiceError("SerializationException", message)


# Writing ------------------------------------------------------------------------------------------------------------
def write_structure(shape: Shape, result: Mapping[str, Any], *, body_only: bool = False) -> dict[str, Any]:
    """The JSON object of a result. Raises TypeError for what the shape does not have: a handler's mistake."""
    members = shape.members
    strangers = result.keys() - members.keys()
    if strangers:
        raise TypeError(f"{shape.name} has no member {', '.join(sorted(strangers))}")
    written: dict[str, Any] = {}
    for name, value in result.items():
        member = members[name]
        if value is None or (body_only and member.location):
            continue
        written[member.wire_name] = _write(member, value)
    return written


def _write(member: Member, value: Any) -> Any:  # noqa: PLR0911  one line per kind of shape
    shape = member.shape
    kind = shape.type
    if value is None or shape.traits.get("document"):
        return value
    if kind == "structure":
        return write_structure(shape, value)
    if kind == "list":
        element = shape.element
        return [_write(element, each) for each in value]
    if kind == "map":
        inner = shape.value
        return {str(key): _write(inner, each) for key, each in value.items()}
    if kind == "timestamp":
        return scalars.from_timestamp(value, member.timestamp_format or scalars.EPOCH)
    if kind == "blob":
        return base64.b64encode(value).decode()
    return value
