"""Filter patterns that look into JSON: `{ $.a.b[0] = "x*" && ($.n > 3 || $.m NOT EXISTS) }`. Pure.

A selector is `$` and then `.name`, `["name"]`, `[number]`, `.*` or `[*]`. Operators: = and != with a text (in quotes or bare,
* for anything), a number, a `%regex%`, true, false or null; <, <=, > and >= with a number; IS NULL, IS TRUE, IS FALSE, NOT
EXISTS.
A message that is no JSON object or array matches nothing, nor does a condition on something that is not there (but NOT EXISTS).
With a wildcard, one of the things it stands for is enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from ondol.dialects.aws.pattern_parts import (
    ORDERS,
    BadPattern,
    Condition,
    Pattern,
    Scanner,
    Value,
    combined,
    counting,
    number,
)
from ondol.dialects.aws.pattern_regex import Regex

STEPS_MAX: Final = 20
#: What a wildcard may stand for in one message.
WIDTH_MAX: Final = 1000

_NAME: Final = re.compile(r"[^\s.\[\]=!<>&|(){}\"%]+")
_INDEX: Final = re.compile(r"\d{1,6}")
_BARE: Final = re.compile(r"[^\s=!<>&|(){}\"%]+")
_PLAIN: Final = re.compile(r"[A-Za-z0-9 _:;,.@#+*()\[\]{}|~^$!?=-]+")  # what no usual writer of JSON escapes
_LETTER: Final = re.compile(r"[A-DF-Za-df-z]")  # numbers can be written in many ways: none has one of these
_ANY: Final = "*"

_Step = str | int
#: Stands for what is not there.
_MISSING: Final = object()


def parse(text: str) -> Pattern:
    """A pattern in braces. Raises BadPattern."""
    scanner = Scanner(text)
    scanner.want("{")
    named: dict[str, Sequence[_Step]] = {}
    condition = combined(scanner, counting(lambda: _condition(scanner, named)))
    scanner.want("}")
    if not scanner.ended:
        raise scanner.error("nothing was expected behind the last brace")

    def matches(message: str) -> bool:
        document = _decoded(message)
        return document is not _MISSING and condition.holds(document)

    def extract(message: str) -> dict[str, str]:
        document = _decoded(message)
        found = {name: next(_reached(document, steps), _MISSING) for name, steps in named.items()}
        return {name: _text(value) for name, value in found.items() if value is not _MISSING}

    return Pattern(matches, condition.needed, extract)


def _decoded(message: str) -> Any:
    if message.lstrip()[:1] not in ("{", "["):
        return _MISSING
    try:
        return msgspec.json.decode(message)
    except (ValueError, RecursionError):
        return _MISSING


def _condition(scanner: Scanner, named: dict[str, Sequence[_Step]]) -> tuple[Condition, bool]:
    """One condition, and whether it has a regular expression."""
    steps = _selector(scanner, named)
    needed = tuple(step for step in steps if isinstance(step, str) and step != _ANY and _PLAIN.fullmatch(step))
    if scanner.word("NOT"):
        if not scanner.word("EXISTS"):
            raise scanner.error("EXISTS was expected behind NOT")
        return Condition(lambda document: not any(True for _ in _reached(document, steps))), False
    if scanner.word("IS"):
        wanted = {"NULL": None, "TRUE": True, "FALSE": False}.get(scanner.word("NULL", "TRUE", "FALSE"), _MISSING)
        if wanted is _MISSING:
            raise scanner.error("NULL, TRUE or FALSE was expected behind IS")
        return _any(steps, lambda value: value is wanted, needed), False
    operator = scanner.take("!=", "<=", ">=", "=", "<", ">")
    if not operator:
        raise scanner.error("an operator was expected")
    return _comparison(scanner, operator, steps, needed)


def _comparison(scanner: Scanner, operator: str, steps: Sequence[_Step], needed: tuple[str, ...]) -> tuple[Condition, bool]:
    value, special = _value(scanner)
    if operator in ORDERS:
        bound, compare = value.number, ORDERS[operator]
        if bound is None:
            raise scanner.error(f"a number was expected behind {operator}")
        return _any(steps, lambda found: _is_number(found) and compare(found, bound), needed), False
    test = _equality(value, special)
    if operator == "!=":
        return _any(steps, lambda found: not test(found), needed), value.regex is not None
    if special is _MISSING and value.number is None:
        needed += tuple(part for part in value.parts if _PLAIN.fullmatch(part) and _LETTER.search(part))
    return _any(steps, test, needed), value.regex is not None


def _equality(value: Value, special: Any) -> Callable[[Any], bool]:
    """Whether a thing is what the pattern says. Texts and numbers are also compared as what the other writes."""
    if special is not _MISSING:
        return lambda found: found is special or (isinstance(found, str) and value.equals(found))

    def test(found: Any) -> bool:
        if isinstance(found, str):
            return value.equals(found)
        if _is_number(found):
            return bool(found == value.number) if value.number is not None else value.equals(_text(found))
        return False

    return test


def _value(scanner: Scanner) -> tuple[Value, Any]:
    """The right side, and true, false or null where it is one of them."""
    form = scanner.between_percents()
    if form is not None:
        return Value(regex=Regex(form)), _MISSING
    text = scanner.quoted()
    if text is not None:
        return Value(text=text), _MISSING
    bare = scanner.match(_BARE)
    if not bare:
        raise scanner.error("a value was expected")
    special = {"true": True, "false": False, "null": None}.get(bare.lower(), _MISSING)
    return Value(text=bare, number=number(bare)), special


def _selector(scanner: Scanner, named: dict[str, Sequence[_Step]]) -> Sequence[_Step]:
    begins = scanner.at
    scanner.want("$")
    steps: list[_Step] = []
    while len(steps) <= STEPS_MAX:
        if scanner.text.startswith(".", scanner.at):
            scanner.at += 1
            name = "" if scanner.text[scanner.at : scanner.at + 1].isspace() else scanner.match(_NAME)
            if not name:
                raise scanner.error("a name was expected")
            steps.append(name)
        elif scanner.text.startswith("[", scanner.at):
            scanner.at += 1
            steps.append(_bracketed(scanner))
        elif not steps:
            raise scanner.error("a name or an index was expected behind $")
        else:
            named[scanner.text[begins : scanner.at].strip()] = steps
            return steps
    raise BadPattern(f"a selector goes more than {STEPS_MAX} steps deep")


def _bracketed(scanner: Scanner) -> _Step:
    name = scanner.quoted()
    step: _Step
    if name is not None:
        step = name
    elif scanner.take(_ANY):
        step = _ANY
    else:
        index = scanner.match(_INDEX)
        if not index:
            raise scanner.error("an index was expected")
        step = int(index)
    scanner.want("]")
    return step


# Looking ------------------------------------------------------------------------------------------------------------------
def _any(steps: Sequence[_Step], test: Callable[[Any], bool], needed: tuple[str, ...]) -> Condition:
    return Condition(lambda document: any(test(value) for value in _reached(document, steps)), needed)


def _reached(document: Any, steps: Sequence[_Step]) -> Iterator[Any]:
    """What a selector leads to: nothing, one thing, or, with wildcards, several."""
    found = [document]
    for step in steps:
        found = [inner for value in found for inner in _inside(value, step)][:WIDTH_MAX]
    return iter(found)


def _inside(value: Any, step: _Step) -> Sequence[Any]:
    if isinstance(value, dict):
        if step in value:
            return (value[step],)
        return tuple(value.values()) if step == _ANY else ()
    if isinstance(value, list):
        if step == _ANY:
            return value
        return (value[step],) if isinstance(step, int) and step < len(value) else ()
    return ()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
