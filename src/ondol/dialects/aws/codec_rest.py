"""REST-JSON: an operation is a method and a path; parameters stand in the path, the query string, headers and the body.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from ondol.dialects.aws import codec_json, scalars
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import Member, Model, Operation, Shape, model

_LABEL = re.compile(r"\{(\w+)(\+?)\}")
#: Query parameters that a request may carry.
QUERY_FIELDS_MAX = 1000
#: What the service answers where its model says another thing, or nothing.
_STATUS = {("lambda", "DeleteFunction"): 204}

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Matched:
    """An operation, and what its path said."""

    operation: Operation
    labels: Mapping[str, str]


def match(service: Model, method: str, path: str, query: Mapping[str, list[str]]) -> Matched:
    """The operation that a request means. Raises UnknownOperationException."""
    if len(path) > 1 and path.endswith("/"):
        path = path[:-1]
    for row in _candidates(service.service, method, path[1:].partition("/")[0], path.count("/")):
        found = row.pattern.fullmatch(path)
        if found and all(value in query.get(key, ()) for key, value in row.constants):
            labels = {name: unquote(text) for name, text in found.groupdict().items()}
            return Matched(service.operations[row.operation], labels)
    raise ServiceError(
        "UnknownOperationException", f"{service.metadata['serviceId']} has no operation {method} {path}", status=404
    )


@dataclass(frozen=True, slots=True)
class _Row:
    method: str
    pattern: re.Pattern[str]
    constants: tuple[tuple[str, str], ...]
    labels: int
    operation: str
    #: The first part of the path where it is fixed, and how many there are; None: any.
    first: str | None
    depth: int | None


@lru_cache(maxsize=16)
def _table(service: str) -> list[_Row]:
    """The most specific first: fixed query parameters before none, fewer labels before more."""
    rows = [_row(operation) for operation in model(service).operations.values()]
    return sorted(rows, key=lambda row: (-len(row.constants), row.labels))


@lru_cache(maxsize=1024)
def _candidates(service: str, method: str, first: str, depth: int) -> list[_Row]:
    """Those that a path may mean which begins with `first` and has so many parts, in the same order."""
    return [
        row for row in _table(service) if row.method == method and row.first in (None, first) and row.depth in (None, depth)
    ]


def _row(operation: Operation) -> _Row:
    path, _, query = operation.uri.partition("?")
    if len(path) > 1 and path.endswith("/"):
        path = path[:-1]
    parts, at = [], 0
    for label in _LABEL.finditer(path):
        parts.append(re.escape(path[at : label.start()]))
        parts.append(f"(?P<{label[1]}>{'.*' if label[2] else '[^/]*'})")
        at = label.end()
    parts.append(re.escape(path[at:]))
    constants = tuple(parse_qsl(query, keep_blank_values=True))
    first = path[1:].partition("/")[0]
    return _Row(
        method=operation.method,
        pattern=re.compile("".join(parts)),
        constants=constants,
        labels=len(parts) // 2,
        operation=operation.name,
        first=None if "{" in first else first,
        depth=None if "+}" in path else path.count("/"),
    )


# Reading ------------------------------------------------------------------------------------------------------------
def query_of(text: str) -> dict[str, list[str]]:
    """The query string's fields."""
    query: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as error:
        raise ServiceError("SerializationException", f"At most {QUERY_FIELDS_MAX} query fields.") from error
    for key, value in pairs:
        query.setdefault(key, []).append(value)
    return query


def read(
    operation: Operation, labels: Mapping[str, str], query: Mapping[str, list[str]], headers: Headers, body: bytes
) -> dict[str, Any]:
    """Parameters by member name."""
    shape = operation.input
    if shape is None:
        return {}
    given = dict(headers)
    params: dict[str, Any] = {}
    for name, member in shape.members.items():
        found = _elsewhere(member, labels, query, given, headers)
        if found is not None:
            params[name] = found
    params.update(_read_body(shape, body))
    return params


def _elsewhere(
    member: Member, labels: Mapping[str, str], query: Mapping[str, list[str]], given: Mapping[str, str], headers: Headers
) -> Any:
    """The value of a member that does not travel in the body; None when it was not sent."""
    match member.location:
        case "uri":
            return _text(member, labels.get(member.wire_name))
        case "querystring":
            return _query_value(member, query)
        case "header":
            return _text(member, given.get(member.wire_name.lower()))
        case "headers":
            prefix = member.wire_name.lower()
            return {key[len(prefix) :]: value for key, value in headers if key.startswith(prefix)} or None
    return None


def _query_value(member: Member, query: Mapping[str, list[str]]) -> Any:
    shape = member.shape
    if shape.type == "map":
        return {key: values[0] for key, values in query.items()}
    found = query.get(member.wire_name)
    if found is None:
        return None
    if shape.type == "list":
        return [_text(shape.element, each) for each in found]
    return _text(member, found[0])


def _text(member: Member, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return scalars.from_text(member.shape.type, text)
    except (ValueError, OverflowError) as error:
        message = f"'{text}' at '{member.wire_name}' can not be converted to a value of type {member.shape.type}"
        raise ServiceError("SerializationException", message) from error


def _read_body(shape: Shape, body: bytes) -> dict[str, Any]:
    payload = shape.payload
    if payload is not None:
        member = shape.members[payload]
        if member.shape.type == "structure":
            return {payload: codec_json.read_structure(member.shape, codec_json.decode(body))} if body else {}
        if member.shape.type == "string":
            return {payload: body.decode("utf-8", "replace")} if body else {}
        return {payload: body} if body else {}
    if all(member.location for member in shape.members.values()):
        return {}
    return codec_json.read_structure(shape, codec_json.decode(body), body_only=True)


# Writing ------------------------------------------------------------------------------------------------------------
def write(service: Model, operation: Operation, result: Mapping[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    """(status, headers, body) of a result."""
    status = _STATUS.get((service.service, operation.name), operation.status)
    headers: list[tuple[str, str]] = [("Content-Type", "application/json")]
    shape = operation.output
    if shape is None:
        return status, headers, b""
    for name, member in shape.members.items():
        value = result.get(name)
        if value is None:
            continue
        if member.location == "statusCode":
            status = int(value)
        elif member.location == "header":
            headers.append((member.wire_name, _header(member, value)))
        elif member.location == "headers":
            headers.extend((member.wire_name + key, str(each)) for key, each in value.items())
    if shape.payload is not None:
        return status, headers, _payload(shape.members[shape.payload], result.get(shape.payload))
    body = codec_json.write_structure(shape, result, body_only=True)
    return status, headers, b"" if status == 204 else codec_json.encode(body)


def _header(member: Member, value: Any) -> str:
    return scalars.to_text(member.shape.type, value, member.timestamp_format or scalars.HTTP)


def _payload(member: Member, value: Any) -> bytes:
    if value is None:
        return b""
    if member.shape.type == "structure":
        return codec_json.encode(codec_json.write_structure(member.shape, value))
    return value.encode() if isinstance(value, str) else bytes(value)
