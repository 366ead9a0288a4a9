"""The Query protocol: a form (or a query string) in, XML out.

Pure. Lists are `Name.member.N` (or `Name.N` where flattened), maps `Name.entry.N.key`; structures `Name.Member`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from ondol.dialects.aws import scalars
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import Member, Model, Operation, Shape

#: Fields of a form.
FIELDS_MAX = 10_000
DEPTH_MAX = 32

Form = dict[str, str]


def form_of(text: str) -> Form:
    """The fields of a form or query string. Raises MalformedQueryString."""
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError as error:
        message = f"The query string has more than {FIELDS_MAX} fields."
        raise ServiceError("MalformedQueryString", message, status=400) from error


def match(service: Model, form: Form) -> Operation:
    """The operation that the form names. Raises MissingAction and InvalidAction."""
    action = form.get("Action", "")
    if not action:
        raise ServiceError("MissingAction", "The request must contain the parameter Action.", status=400)
    operation = service.operations.get(action)
    if operation is None:
        version = form.get("Version", service.metadata["apiVersion"])
        message = f"Could not find operation {action} for version {version}"
        raise ServiceError("InvalidAction", message, status=400)
    return operation


# Reading ------------------------------------------------------------------------------------------------------------
def read(operation: Operation, form: Form) -> dict[str, Any]:
    """Parameters by member name."""
    shape = operation.input
    return _structure(shape, _tree(form), 0) if shape else {}


def _tree(form: Form) -> dict[str, Any]:
    """Dotted names as nested dicts; a leaf that is also a branch keeps its text under ""."""
    root: dict[str, Any] = {}
    for name, text in form.items():
        node = root
        *branches, leaf = name.split(".")
        for branch in branches[:DEPTH_MAX]:
            below = node.setdefault(branch, {})
            if not isinstance(below, dict):
                below = node[branch] = {"": below}
            node = below
        node.setdefault(leaf, text)
    return root


def _structure(shape: Shape, tree: Any, depth: int) -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {}
    params = {}
    for name, member in shape.members.items():
        found = tree.get(member.wire_name)
        if found is not None:
            params[name] = _value(member, found, depth + 1)
    return params


def _value(member: Member, tree: Any, depth: int) -> Any:
    shape = member.shape
    if depth > DEPTH_MAX:
        raise ServiceError("MalformedQueryString", f"Parameters nest at most {DEPTH_MAX} deep.", status=400)
    if shape.type == "structure":
        return _structure(shape, tree, depth)
    if shape.type == "list":
        element = shape.element
        return [_value(element, each, depth + 1) for each in _numbered(tree, member, element.wire_name)]
    if shape.type == "map":
        return _map(member, tree, depth)
    if not isinstance(tree, str):
        tree = tree.get("", "")
    try:
        return scalars.from_text(shape.type, tree)
    except (ValueError, OverflowError) as error:
        message = f"'{tree}' at '{member.wire_name}' is no {shape.type}"
        raise ServiceError("MalformedInput", message, status=400) from error


def _numbered(tree: Any, member: Member, inner: str) -> list[Any]:
    """Elements in the order of their numbers; gaps close."""
    if not isinstance(tree, dict):
        return []
    if not member.flattened and isinstance(tree.get(inner), dict):
        tree = tree[inner]
    numbers = sorted((key for key in tree if key.isascii() and key.isdigit()), key=int)
    return [tree[number] for number in numbers]


def _map(member: Member, tree: Any, depth: int) -> dict[str, Any]:
    shape = member.shape
    key_name, value_name = shape.key.wire_name, shape.value.wire_name
    made = {}
    for entry in _numbered(tree, member, "entry"):
        if isinstance(entry, dict) and isinstance(entry.get(key_name), str):
            made[entry[key_name]] = _value(shape.value, entry.get(value_name, ""), depth + 1)
    return made


# Writing ------------------------------------------------------------------------------------------------------------
def write(service: Model, operation: Operation, result: Mapping[str, Any], request_id: str) -> bytes:
    """The XML of a result."""
    wrapper = operation.result_wrapper or f"{operation.name}Result"
    inner = _members(operation.output, result) if operation.output else ""
    return (
        f'<{operation.name}Response xmlns="{service.namespace}"><{wrapper}>{inner}</{wrapper}>'
        f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId></ResponseMetadata></{operation.name}Response>"
    ).encode()


def write_error(service: Model, code: str, message: str, status: int, request_id: str) -> bytes:
    """The XML of an error."""
    fault = "Sender" if status < 500 else "Receiver"
    return (
        f'<ErrorResponse xmlns="{service.namespace}"><Error><Type>{fault}</Type><Code>{escape(code)}</Code>'
        f"<Message>{_xml_text(message)}</Message></Error><RequestId>{escape(request_id)}</RequestId></ErrorResponse>"
    ).encode()


def _members(shape: Shape, result: Mapping[str, Any]) -> str:
    strangers = result.keys() - shape.members.keys()
    if strangers:
        raise TypeError(f"{shape.name} has no member {', '.join(sorted(strangers))}")
    members = shape.members
    return "".join(_element(members[name], value) for name, value in result.items() if value is not None)


def _element(member: Member, value: Any) -> str:
    shape, name = member.shape, member.wire_name
    if shape.type == "structure":
        return f"<{name}>{_members(shape, value)}</{name}>"
    if shape.type == "list":
        element = shape.element
        if member.flattened:
            return "".join(_named(name, _inside(element, each)) for each in value)
        return _named(name, "".join(_named(element.wire_name, _inside(element, each)) for each in value))
    if shape.type == "map":
        outer = name if member.flattened else "entry"
        entries = "".join(
            _named(outer, _named(shape.key.wire_name, _xml_text(key)) + _element_as(shape.value, each))
            for key, each in value.items()
        )
        return entries if member.flattened else _named(name, entries)
    return _named(name, _inside(member, value))


def _element_as(member: Member, value: Any) -> str:
    return _named(member.wire_name, _inside(member, value))


def _inside(member: Member, value: Any) -> str:
    """What stands between an element's tags."""
    shape = member.shape
    if shape.type == "structure":
        return _members(shape, value)
    if shape.type in ("list", "map"):
        whole = _element(member, value)
        return whole[len(member.wire_name) + 2 : -len(member.wire_name) - 3]
    return _xml_text(scalars.to_text(shape.type, value, member.timestamp_format or scalars.ISO))


def _named(name: str, inner: str) -> str:
    return f"<{name}>{inner}</{name}>"


def _xml_text(text: str) -> str:
    """Escaped, without the control characters that XML 1.0 cannot carry."""
    return escape("".join(each for each in text if each >= " " or each in "\t\n\r"))


def escape(text: str) -> str:
    """As XML text. (xml.sax.saxutils has one too, and imports an HTTP client for it: 8 ms of every start.)"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
