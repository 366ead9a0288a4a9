"""Validation as AWS's services do it: required members, lengths, ranges, patterns and enums of the model, with AWS's own texts.

Pure. The forms of the texts stand in recorded answers of AWS; the tests compare with them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

from ondol.dialects.aws.names import joined
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import Member, Shape

#: Longer strings are held to their length only: a pattern may backtrack.
PATTERN_CHARS_MAX = 8192
#: As AWS lists them; more would help nobody.
FINDINGS_MAX = 50

#: Members that the operation's own code checks, with another error than this one.
LEFT_TO_HANDLERS = frozenset({("CreateFunction", "Runtime"), ("UpdateFunctionConfiguration", "Runtime")})
#: Lists whose elements the service calls not nullable; the models that botocore ships do not say.
_ELEMENTS_NOT_NULL = frozenset({"ArchitecturesList", "CompatibleArchitectures", "LayerList"})
#: Enums that the service does not list in the order of a Java hash set of default size.
_ENUM_ORDERS = {
    "InvokeMode": ["RESPONSE_STREAM", "BUFFERED"],
    "EventSourcePosition": ["LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"],
}


def validate(operation: str, shape: Shape | None, params: Mapping[str, Any], *, code: str = "ValidationException") -> None:
    """Raise the ValidationException (or what else the service calls it) that AWS answers, if there is anything to find."""
    if shape is None:
        return
    findings: list[str] = []
    left = {member for named, member in LEFT_TO_HANDLERS if named == operation}
    _structure(shape, params, "", findings, left)
    if findings:
        raise ServiceError(code, joined(findings[:FINDINGS_MAX]))


def _structure(
    shape: Shape, value: Mapping[str, Any], path: str, findings: list[str], left: set[str] | frozenset[str] = frozenset()
) -> None:
    required = shape.required
    for name, member in shape.members.items():
        found = value.get(name)
        if found is not None:
            if name not in left:
                _check(member, found, f"{path}{name[0].lower()}{name[1:]}", findings)
        elif name in required:
            where = f"{path}{name[0].lower()}{name[1:]}"
            findings.append(f"Value null at '{where}' failed to satisfy constraint: Member must not be null")


def _check(member: Member, value: Any, where: str, findings: list[str]) -> None:
    shape = member.shape
    findings.extend(_finding(shape, value, where, constraint) for constraint in _broken(shape, value))
    if shape.type == "structure":
        _structure(shape, value, f"{where}.", findings)
    elif shape.type == "list":
        _list(shape, value, where, findings)
    elif shape.type == "map":
        _map(shape, value, where, findings)


def _list(shape: Shape, value: list[Any], where: str, findings: list[str]) -> None:
    element = shape.element
    if element.shape.type in ("structure", "list", "map"):
        for at, each in enumerate(value, 1):
            if each is not None:
                _check(element, each, f"{where}.{at}.member", findings)
        return
    never_null = shape.name in _ELEMENTS_NOT_NULL
    if any(never_null if each is None else _broken(element.shape, each) for each in value):
        listed = ", ".join(_constraints(element.shape, never_null=never_null))
        findings.append(_finding(shape, value, where, f"Member must satisfy constraint: [{listed}]"))


def _map(shape: Shape, value: dict[str, Any], where: str, findings: list[str]) -> None:
    keys, values = shape.key.shape, shape.value
    if any(_broken(keys, each) for each in value):
        listed = ", ".join(_constraints(keys, never_null=False))
        findings.append(_finding(shape, value, where, f"Map keys must satisfy constraint: [{listed}]"))
    if values.shape.type in ("structure", "list", "map"):
        for key, each in value.items():
            if each is not None:
                _check(values, each, f"{where}.{key}.member", findings)
    elif any(each is None or _broken(values.shape, each) for each in value.values()):
        listed = ", ".join(_constraints(values.shape, never_null=True))
        findings.append(_finding(shape, value, where, f"Map value must satisfy constraint: [{listed}]"))


def _finding(shape: Shape, value: Any, where: str, constraint: str) -> str:
    shown = "" if shape.traits.get("sensitive") else f" '{java_text(value, shape)}'"
    return f"Value{shown} at '{where}' failed to satisfy constraint: {constraint}"


# Constraints --------------------------------------------------------------------------------------------------------
def _broken(shape: Shape, value: Any) -> list[str]:
    """The constraints of the shape itself that `value` breaks: the pattern first, as AWS mostly reports them."""
    broken = []
    traits = shape.traits
    if shape.type == "string":
        if "enum" in traits and value not in traits["enum"]:
            broken.append(_enum_text(shape))
        pattern = traits.get("pattern")
        if pattern is not None and len(value) <= PATTERN_CHARS_MAX and not matcher(pattern)(value):
            broken.append(f"Member must satisfy regular expression pattern: {pattern}")
    measured = value if _is_number(shape) else None if shape.type in _UNMEASURED else len(value)
    if measured is not None:
        upper, lower = traits.get("max"), traits.get("min")
        if upper is not None and measured > upper:
            broken.append(_bound_text(shape, "less", upper))
        if lower is not None and measured < lower:
            broken.append(_bound_text(shape, "greater", lower))
    return broken


def _constraints(shape: Shape, *, never_null: bool) -> list[str]:
    """All constraints of a scalar shape, in the order in which AWS lists them for a list's elements."""
    traits = shape.traits
    listed = []
    if "max" in traits:
        listed.append(_bound_text(shape, "less", traits["max"]))
    if "min" in traits:
        listed.append(_bound_text(shape, "greater", traits["min"]))
    if "pattern" in traits:
        listed.append(f"Member must satisfy regular expression pattern: {traits['pattern']}")
    if "enum" in traits:
        listed.append(_enum_text(shape))
    if never_null:
        listed.append("Member must not be null")
    return listed


_UNMEASURED = frozenset({"structure", "boolean", "timestamp"})
_FLOATS = frozenset({"float", "double"})


def _is_number(shape: Shape) -> bool:
    return shape.type in _FLOATS or shape.type in ("integer", "long", "short", "byte")


def _bound_text(shape: Shape, which: str, bound: float) -> str:
    what = "value" if _is_number(shape) else "length"
    shown = float(bound) if shape.type in _FLOATS else int(bound)
    return f"Member must have {what} {which} than or equal to {shown}"


def _enum_text(shape: Shape) -> str:
    listed = _ENUM_ORDERS.get(shape.name) or java_set_order(tuple(shape.traits["enum"]))
    return f"Member must satisfy enum value set: [{', '.join(listed)}]"


# Java's ways ----------------------------------------------------------------------------------------------------------
@cache
def java_set_order(values: tuple[str, ...]) -> list[str]:
    """The order in which a Java hash set of these strings iterates: AWS prints its enums so."""
    size = 16
    while len(values) > size * 3 // 4:
        size *= 2
    return sorted(values, key=lambda each: _java_hash(each) & (size - 1))


def _java_hash(text: str) -> int:
    code = 0
    for character in text:
        code = (31 * code + ord(character)) & 0xFFFFFFFF
    return code ^ (code >> 16)


def java_text(value: Any, shape: Shape) -> str:  # noqa: PLR0911  one line per kind of shape
    """How AWS's validation prints a value."""
    if value is None:
        return "null"
    kind = shape.type
    if kind == "boolean":
        return "true" if value else "false"
    if kind in _FLOATS:
        return str(float(value))
    if kind == "blob":
        return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
    if kind == "list":
        return f"[{', '.join(java_text(each, shape.element.shape) for each in value)}]"
    if kind == "map":
        inner = shape.value.shape
        return "{" + ", ".join(f"{key}={java_text(each, inner)}" for key, each in value.items()) + "}"
    if kind == "structure":
        shown = (
            f"{name[0].lower()}{name[1:]}={java_text(value.get(name), member.shape)}" for name, member in shape.members.items()
        )
        return f"{shape.name}({', '.join(shown)})"
    return str(value)


@lru_cache(maxsize=4096)
def matcher(pattern: str) -> Callable[[str], Any]:
    """A whole match, as Java's `matches()`. A pattern that Python cannot read holds nobody up."""
    try:
        return re.compile(_to_python(pattern), re.ASCII).fullmatch
    except re.error:
        return lambda _: True


def can_hold(pattern: str) -> bool:
    """Whether `matcher` checks this pattern at all."""
    try:
        re.compile(_to_python(pattern), re.ASCII)
    except re.error:
        return False
    return True


#: No letter, number or separator is assigned beyond; to look further would hold up the first request by a tenth of a second.
_ASSIGNED_END = 0x32400
_CATEGORY = re.compile(r"\\p\{(?:Is)?([A-Z][a-z]?)\}")


def _to_python(pattern: str) -> str:
    r"""Java's `\p{L}` (always inside a class in the models we serve) as ranges that Python's `re` understands."""

    def ranges(found: re.Match[str]) -> str:
        inside = _in_class(found.string, found.start())
        listed = _category(found[1])
        return listed if inside else f"[{listed}]"

    # Java takes the "-" behind a class for itself where Python sees a range without an end.
    return _CATEGORY.sub(ranges, re.sub(r"(\\[wdsWDS])-", r"\1\\-", pattern))


def _in_class(pattern: str, at: int) -> bool:
    depth, index = 0, 0
    while index < at:
        character = pattern[index]
        if character == "\\":
            index += 1
        elif character == "[" and not depth:
            depth = 1
        elif character == "]" and depth:
            depth = 0
        index += 1
    return bool(depth)


@cache
def _category(name: str) -> str:
    """All characters of a Unicode category as the inside of a character class."""
    parts: list[str] = []
    start: int | None = None
    for code in range(_ASSIGNED_END + 1):
        inside = code < _ASSIGNED_END and unicodedata.category(chr(code)).startswith(name)
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            parts.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(parts)
