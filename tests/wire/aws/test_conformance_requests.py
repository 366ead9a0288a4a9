"""The installed model, walked: every operation has a way in, and every constraint of every parameter is held with AWS's text.

A request that is right but for one thing is made for each constraint, written by botocore (which checks nothing here), and read
as a client's would be.
"""

import random
import re
from re import _constants as sre
from re import _parser as sre_parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from ondol.dialects.aws import codec, validation
from ondol.dialects.aws.actions import ACTIONS
from ondol.dialects.aws.coverage import INVOKING
from ondol.dialects.aws.dialect import ROUTES
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import Shape, model
from ondol.http.messages import Request
from ondol.http.table import Table
from ondol.testing.wire import service_model, wire_request

#: Texts that are tried for a pattern.
DRAWS_MAX = 2000
#: What is drawn from first; the letters first of all, since what is drawn stands in paths and headers.
USUAL = "abcdefgh0123456789ABCDEFGH-_./:"
_CATEGORIES = {
    sre.CATEGORY_DIGIT: str.isdigit,
    sre.CATEGORY_WORD: lambda character: character.isalnum() or character == "_",
    sre.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    sre.CATEGORY_SPACE: str.isspace,
}
#: No shape of these services is deeper.
DEPTH_MAX = 8
#: Longer values than this are not made to be refused.
BYTES_MAX = 1_000_000
INVALID = {"logs": "InvalidParameterException"}


def operations():
    """All of Lambda's, and of the other services what is built."""
    for service in ("lambda", "iam", "sts", "logs", "monitoring"):
        names = model(service).operations if service == "lambda" else ACTIONS[service]
        yield from (pytest.param(service, name, id=f"{service}-{name}") for name in sorted(names))


# Values -------------------------------------------------------------------------------------------------------------------
@cache
def text_of(pattern: str | None, least: int, most: int) -> str:
    """A text of these lengths that the pattern takes, drawn until one is found."""
    if pattern is None:
        return "a" * max(least, 1)
    written = validation._to_python(pattern)
    compiled, parsed, rng = re.compile(written, re.ASCII), sre_parse.parse(written, re.ASCII), random.Random(pattern)
    for _ in range(DRAWS_MAX):
        text = "".join(drawn(parsed, rng, least))
        if least <= len(text) <= most and _plain(text) and compiled.fullmatch(text):
            return text
    raise AssertionError(f"no text was found that {pattern} takes")


def drawn(parsed, rng: random.Random, least: int) -> Iterator[str]:  # noqa: C901  one branch per part of patterns
    """The parts of a text that the pattern may take; what looks around is left to the test of the whole."""
    for code, given in parsed:
        if code is sre.LITERAL:
            yield chr(given)
        elif code is sre.NOT_LITERAL or code is sre.ANY:
            yield "a"
        elif code is sre.IN:
            yield rng.choice([each for each in USUAL if _in(given, each)] or [chr(lowest(given))])
        elif code is sre.MAX_REPEAT:
            low, high, below = given
            for _ in range(rng.choice([low, min(int(high), max(low, 1)), min(int(high), max(low, least))])):
                yield from drawn(below, rng, 0)
        elif code is sre.SUBPATTERN:
            yield from drawn(given[3], rng, least)
        elif code is sre.BRANCH:
            yield from drawn(rng.choice(given[1]), rng, least)


def _in(members, character: str) -> bool:
    """Whether a character class has it: asked of a class that is compiled from its own parts."""
    found, at = False, ord(character)
    for code, given in members:
        if code is sre.LITERAL:
            found |= at == given
        elif code is sre.RANGE:
            found |= given[0] <= at <= given[1]
        elif code is sre.CATEGORY:
            found |= _CATEGORIES[given](character)
    return found != ((sre.NEGATE, None) in members)


def lowest(members) -> int:
    return next(given if code is sre.LITERAL else given[0] for code, given in members if code in (sre.LITERAL, sre.RANGE))


def _plain(text: str) -> bool:
    """What a path or a header takes as it is, and a label is not emptied by."""
    return text.isprintable() and text.strip() == text and bool(text)


def fitting(shape: Shape, depth: int = 0):
    """A value that the shape takes: what is required and no more."""
    traits = shape.traits
    least, most = traits.get("min", 0), traits.get("max", BYTES_MAX)
    if shape.type == "structure":
        # An empty one in a list cannot be sent by every protocol.
        named = shape.required or (list(shape.members)[:1] if depth else ())
        return {name: fitting(shape.members[name].shape, depth + 1) for name in named}
    if shape.type == "list":
        return [fitting(shape.element.shape, depth + 1) for _ in range(max(int(least), 1))]
    if shape.type == "map":
        return {f"{key_of(shape, n)}": fitting(shape.value.shape, depth + 1) for n in range(max(int(least), 1))}
    if shape.type == "string":
        return traits["enum"][0] if "enum" in traits else text_of(traits.get("pattern"), int(least), int(most))
    if shape.type == "blob":
        return b"a" * max(int(least), 1)
    if shape.type == "boolean":
        return True
    if shape.type == "timestamp":
        return 1_700_000_000
    return type(most)(least) if least else min(1, most)


def key_of(shape: Shape, number: int) -> str:
    key = shape.key.shape
    return key.traits["enum"][number] if "enum" in key.traits else fitting(key)


# Breaches -----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Breach:
    """Parameters with one thing wrong, and what is said of it."""

    params: dict
    where: str
    constraint: str


def broken(shape: Shape) -> Iterator[tuple[object, str]]:  # noqa: C901  one line per constraint
    """Values that the shape does not take, each with the constraint that it breaks."""
    traits, value = shape.traits, fitting(shape)
    number = shape.type in ("integer", "long", "short", "float", "double")
    what = "value" if number else "length"
    for bound, which, step in (("max", "less", 1), ("min", "greater", -1)):
        if bound not in traits or shape.type in ("structure", "boolean", "timestamp"):
            continue
        limit = float(traits[bound]) if shape.type in ("float", "double") else int(traits[bound])
        text = f"Member must have {what} {which} than or equal to {limit}"
        if number:
            yield limit + step, text
        elif 0 <= limit + step <= BYTES_MAX and (bound == "max" or limit > 0):
            yield sized(shape, value, limit + step), text
    if shape.type == "string" and "enum" in traits:
        yield "nonsense", f"Member must satisfy enum value set: [{', '.join(listed(shape))}]"
    elif shape.type == "string" and "pattern" in traits:
        for candidate in ("!", "not:valid ?", "\x7f", "a" * 8, "é"):
            if not re.compile(validation._to_python(traits["pattern"]), re.ASCII).fullmatch(candidate):
                yield candidate, f"Member must satisfy regular expression pattern: {traits['pattern']}"
                break


def sized(shape: Shape, value, count: int):
    if shape.type == "string":
        return (value * (count // max(len(value), 1) + 1))[:count]
    if shape.type == "blob":
        return b"a" * count
    if shape.type == "list":
        return [fitting(shape.element.shape, 1) for _ in range(count)]
    return {f"k{n}": fitting(shape.value.shape) for n in range(count)}


def listed(shape: Shape) -> list[str]:
    return validation._ENUM_ORDERS.get(shape.name) or validation.java_set_order(tuple(shape.traits["enum"]))


def breaches(shape: Shape, prefix: str, build: Callable[[dict], dict], depth: int = 0) -> Iterator[Breach]:
    """Everything that can be wrong with a structure, one thing at a time."""
    base = fitting(shape)
    for name, member in shape.members.items():
        where = f"{prefix}{name[0].lower()}{name[1:]}"
        if name in shape.required and not member.location == "uri":
            yield Breach(build({k: v for k, v in base.items() if k != name}), where, "Member must not be null")
        for value, constraint in broken(member.shape):
            if not member.location or value not in ("", []):  # that is another path, or an absence
                yield Breach(build({**base, name: value}), where, constraint)
        yield from inner(member.shape, where, lambda value, name=name: build({**base, name: value}), depth + 1)


def inner(shape: Shape, where: str, build: Callable[[object], dict], depth: int) -> Iterator[Breach]:
    """The same of what a value holds."""
    if depth > DEPTH_MAX:
        return
    if shape.type == "structure":
        yield from breaches(shape, f"{where}.", build, depth)
    elif shape.type == "list":
        element = shape.element.shape
        rest = fitting(shape)[1:]
        if element.type in ("structure", "list", "map"):
            yield from inner(element, f"{where}.1.member", lambda value: build([value, *rest]), depth + 1)
            return
        for value, constraint in broken(element):
            yield Breach(build([value, *rest]), where, f"Member must satisfy constraint: [.*{re.escape(constraint)}.*]")
    elif shape.type == "map":
        values, key = shape.value.shape, key_of(shape, 0)
        if values.type in ("structure", "list", "map"):
            yield from inner(values, f"{where}.{key}.member", lambda value: build({key: value}), depth + 1)
        else:
            for value, constraint in broken(values):
                yield Breach(build({key: value}), where, f"Map value must satisfy constraint: [.*{re.escape(constraint)}.*]")
        for value, constraint in broken(shape.key.shape):
            if value:
                given = {value: fitting(values)}
                yield Breach(build(given), where, f"Map keys must satisfy constraint: [.*{re.escape(constraint)}.*]")


def found(breach: Breach, message: str) -> bool:
    """Whether the message says just this of the place."""
    constraint = breach.constraint
    if not constraint.startswith(("Member must satisfy constraint: [", "Map ")):
        constraint = re.escape(constraint)
    else:
        constraint = constraint.replace("constraint: [", r"constraint: \[", 1)[:-1] + r"\]"
    says = rf"at '{re.escape(breach.where)}' failed to satisfy constraint: {constraint}"
    return re.search(says, message, re.DOTALL) is not None


# The walk -----------------------------------------------------------------------------------------------------------------
def sent(service: str, name: str, params: dict):
    operation = service_model(service).operation_model(name)
    return wire_request(model(service).protocol, operation, params)


@pytest.mark.parametrize(("service", "name"), list(operations()))
def test_every_operation_has_a_way_in(service, name):
    shape = model(service).operations[name].input
    method, target, headers, body = sent(service, name, fitting(shape) if shape else {})
    assert codec.decode(service, method, target, headers, body).operation == name
    scope = f"AWS4-HMAC-SHA256 Credential=AKIA/20300101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    request = Request(method, target, [("host", "127.0.0.1:7979"), *headers, ("authorization", scope)], ())
    route = Table(ROUTES).match(request)
    assert route is not None
    if name in INVOKING:
        assert route.name.startswith("invoke")
    else:
        assert route.name == service


@pytest.mark.parametrize(("service", "name"), list(operations()))
def test_every_constraint_of_every_parameter_is_held(service, name):
    shape = model(service).operations[name].input
    left = {f"{member[0].lower()}{member[1:]}" for named, member in validation.LEFT_TO_HANDLERS if named == name}
    for breach in breaches(shape, "", lambda params: params) if shape else ():
        if breach.where in left:
            continue
        with pytest.raises(ServiceError) as caught:
            codec.decode(service, *sent(service, name, breach.params))
            pytest.fail(f"{breach} was taken")
        assert caught.value.code == INVALID.get(service, "ValidationException"), (breach, caught.value.message)
        assert found(breach, caught.value.message), (breach, caught.value.message)
        assert caught.value.message.count(" at '") == caught.value.message.count(f" at '{breach.where}'"), "and no other place"


def test_the_walk_finds_what_there_is_to_break():
    """A walk that breaks nothing proves nothing: what it breaks is of every kind."""
    found = [
        breach.constraint
        for parameter in operations()
        if (shape := model(parameter.values[0]).operations[parameter.values[1]].input)
        for breach in breaches(shape, "", lambda params: params)
    ]
    for kind in ("not be null", "length less", "length greater", "value less", "value greater", "pattern: ", "enum value set"):
        assert sum(kind in constraint for constraint in found) >= 10, kind
    for kind in ("Map keys", "Map value", "Member must satisfy constraint: ["):
        assert any(constraint.startswith(kind) for constraint in found), kind
