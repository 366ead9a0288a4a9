"""What a client gives, checked against what an operation declares. Every refusal names what is wrong, and what is known."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from ondol.dialects.native.operations import Body
from ondol.dialects.native.refusals import UnsupportedMediaType
from ondol.http.messages import Request
from ondol.model.errors import InvalidPayload, InvalidSetting

PARAMETERS_MAX: Final = 32
#: As much of a client's own words as a refusal repeats.
REPEATED_CHARS_MAX: Final = 80
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_PLACE: Final = re.compile(r" - at `.*`\Z", re.DOTALL)
_FIELD: Final = re.compile(r"\$\.(\w+)")


def query_of(text: str, shape: type[Struct] | None) -> Any:
    """The query as `shape`, None without one. Raises InvalidSetting for what is unknown, doubled or out of its bounds."""
    if not text and shape is None:
        return None
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise InvalidSetting("query", f"the query has more than {PARAMETERS_MAX} parameters") from None
    known = shape.__struct_fields__ if shape else ()
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise InvalidSetting(short(name), f"there is no query parameter {short(name)!r} here; known: {listed}")
        if name in given:
            raise InvalidSetting(name, f"the query parameter {name!r} is given twice")
        given[name] = value
    return as_shape(given, shape, strict=False) if shape else None


def media_of(request: Request, body: Body) -> str:
    """The body's media type; what the operation takes first where none is said. Raises UnsupportedMediaType."""
    said = request.header("content-type").partition(";")[0].strip().lower()
    if not said:
        return body.media[0]
    if said not in body.media:
        taken = " or ".join(body.media)
        raise UnsupportedMediaType(f"a body of type {short(said)!r} is not taken here: send it with `Content-Type: {taken}`")
    return said


def json_of(raw: bytes, body: Body) -> Any:
    """A JSON body as its declared type; None for none where none is needed. Raises InvalidPayload, InvalidSetting."""
    if not raw and not body.required:
        return None
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidPayload(f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidPayload("the body is no JSON object")
    return as_shape(document, body.schema)


def as_shape(given: Any, shape: Any, *, strict: bool = True) -> Any:
    """Plain data as a declared type. Raises InvalidSetting, which names the member."""
    try:
        return msgspec.convert(given, shape, strict=strict)
    except msgspec.ValidationError as error:
        raise _mistake(str(error), shape) from None
    except (RecursionError, ValueError) as error:
        raise InvalidPayload(f"the body cannot be read: {error}") from None


def short(text: str) -> str:
    """A client's own words, not too many of them."""
    return text if len(text) <= REPEATED_CHARS_MAX else f"{text[:REPEATED_CHARS_MAX]}…"


def _mistake(text: str, shape: Any) -> InvalidSetting:
    """What msgspec found, as a sentence."""
    known = getattr(shape, "__struct_fields__", ())
    unknown = _UNKNOWN.match(text)
    if unknown:
        name = short(unknown[1].partition("`")[0])
        return InvalidSetting(name, f"there is no member {name!r} here; known: {', '.join(known)}")
    missing = _MISSING.match(text)
    if missing:
        return InvalidSetting(missing[1], f"{missing[1]!r} is missing")
    place = _FIELD.search(text)
    field = place[1] if place else "body"
    choices = _choices(shape, field)
    if choices and text.startswith("Invalid enum value"):
        return InvalidSetting(field, f"{field}: expected one of {', '.join(choices)}")
    finding = _PLACE.sub("", text).replace("`", "")
    return InvalidSetting(field, f"{field}: {finding[:1].lower()}{finding[1:]}")


def _choices(shape: Any, field: str) -> list[str]:
    """The words that a member may be, where it is one of some words."""
    types = [each.type for each in msgspec.structs.fields(shape) if each.name == field]
    found: list[str] = []
    while types:
        one = types.pop()
        if get_origin(one) is Literal:
            found += [str(choice) for choice in get_args(one)]
        else:
            types += get_args(one)
    return found
