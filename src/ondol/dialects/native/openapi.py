"""The OpenAPI 3.1 document of the native API, made of its operations. Pure.

Schemas come from the types that requests are checked by and answers are made of; nothing is written here by hand but the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ondol.core.permit import READS
from ondol.dialects.native.operations import JSON, PREFIX, Body, Operation, Reply
from ondol.dialects.native.refusals import Error

_REFERENCE: Final = "#/components/schemas/{name}"
_REASONS: Final = {
    400: "Something in the request is not valid; the message names it.",
    401: "No key.",
    403: "The key is wrong, or may not do this.",
    404: "There is no such thing; the message says what there is.",
    409: "Taken, in use, or a change of the same thing is under way.",
    412: "It has changed since it was read.",
    413: "More bytes than are taken here.",
    415: "A body of a type that is not taken here.",
    429: "Too much at once: try again later.",
    501: "Not built.",
    502: "The function's interpreter is not on this machine.",
    503: "The node could not; try again.",
    507: "The node's disk is full.",
}
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "ID:SECRET of an access key."},
    "key": {"type": "apiKey", "in": "header", "name": "X-Ondol-Key", "description": "ID:SECRET of an access key."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "AWS Signature Version 4, for the service `ondol`.",
    },
}


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The whole document, as plain data."""
    types = [Error, *dict.fromkeys(_types(operations))]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    named = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _operation(operation, named)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ondol's native API",
            "version": version,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in _SECURITY],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def _types(operations: Sequence[Operation]) -> list[Any]:
    found = [reply.schema for operation in operations for reply in operation.replies.values() if reply.schema]
    return found + [operation.body.schema for operation in operations if operation.body and operation.body.schema]


def _operation(operation: Operation, named: dict[Any, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.id.partition(".")[0]],
        "summary": operation.summary,
        "x-ondol-read-only-key": not operation.action or operation.action in READS,
        "parameters": _parameters(operation),
        "responses": _responses(operation, named),
    }
    if not operation.action:
        shown["security"] = []
    if operation.body:
        shown["requestBody"] = {"required": operation.body.required, "content": _content(operation.body, named)}
    return shown


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": segment[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for segment in operation.segments
        if segment.startswith("{")
    ]
    if operation.query is not None:
        _, components = msgspec.json.schema_components([operation.query], ref_template=_REFERENCE)
        shape = components[operation.query.__name__]
        for name, schema in shape["properties"].items():
            plain = {key: value for key, value in schema.items() if key != "description"}
            parameter = {"name": name, "in": "query", "required": name in shape.get("required", ()), "schema": plain}
            found.append(parameter | ({"description": schema["description"]} if "description" in schema else {}))
    return found


def _responses(operation: Operation, named: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, reply in sorted(operation.replies.items()):
        content = _content(reply, named)
        found[str(status)] = {"description": reply.summary} | ({"content": content} if content else {})
    error = {JSON: {"schema": named[Error]}}
    for status in sorted(operation.statuses - set(operation.replies)):
        found[str(status)] = {"description": _REASONS[status], "content": error}
    return found


def _content(shown: Body | Reply, named: dict[Any, Any]) -> dict[str, Any]:
    """By media type. What is no JSON has no schema: it is bytes."""
    return {media: {"schema": named[shown.schema]} if shown.schema and media == JSON else {} for media in shown.media}
