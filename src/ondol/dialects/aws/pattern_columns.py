"""Filter patterns for lines of columns: `[ip, user, ..., status = 4*, bytes > 1000]`. Pure.

A line is split at spaces; what stands in double quotes or in brackets is one column. A pattern names every column, or says
`...` once for any number of them. A column's conditions use its own name, with && and ||: `status = 404 || status = 410`. The
operators are those of JSON patterns that make sense for texts: =, != (with *, or a `%regex%`), and <, <=, >, >= for numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

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

COLUMNS_MAX: Final = 200

_NAME: Final = re.compile(r"[^\s,\[\]=!<>&|()\"%.]+")
_VALUE: Final = re.compile(r"[^\s,\[\]=!<>&|()\"%]+")
#: A column of a line: in quotes, in brackets, or up to the next space.
_COLUMN: Final = re.compile(r'"([^"]*)"(?=\s|$)|\[([^\]]*)\](?=\s|$)|(\S+)')
_REST: Final = None

#: A column's condition, if it has one, or _REST for "...".
_Column = Condition | None


def parse(text: str) -> Pattern:
    """A pattern in brackets. Raises BadPattern."""
    scanner = Scanner(text)
    scanner.want("[")
    columns: list[_Column] = []
    names: list[str] = []
    needed: list[str] = []
    counted: list[tuple[Scanner, str]] = []
    condition = counting(lambda: _condition(*counted[-1]))
    while True:
        if scanner.take("..."):
            if _REST in columns:
                raise scanner.error("'...' may stand once")
            columns.append(_REST)
            names.append("...")
        else:
            name = _peeked(scanner)
            counted.append((scanner, name))
            found = combined(scanner, condition)
            columns.append(found)
            names.append(name or f"${len(names) + 1}")
            needed += found.needed
        if len(columns) > COLUMNS_MAX:
            raise BadPattern(f"it has more than {COLUMNS_MAX} columns")
        if not scanner.take(","):
            break
    scanner.want("]")
    if not scanner.ended:
        raise scanner.error("nothing was expected behind the last bracket")
    return Pattern(partial(_matches, columns), tuple(needed), partial(_extracted, columns, names))


def _peeked(scanner: Scanner) -> str:
    """The name of the column that comes next, which all its conditions must use."""
    at = scanner.at
    while scanner.take("("):
        pass
    name = scanner.match(_NAME)
    scanner.at = at
    return name


def _condition(scanner: Scanner, name: str) -> tuple[Condition, bool]:
    """`name`, or `name operator value`; and whether it has a regular expression."""
    if scanner.match(_NAME) != name:
        raise scanner.error(f"the column's name, {name!r}, was expected")
    operator = scanner.take("!=", "<=", ">=", "=", "<", ">")
    if not operator:
        if not name and not (scanner.peek(",") or scanner.peek("]")):
            raise scanner.error("a column was expected")
        return Condition(lambda _column: True), False
    form = scanner.between_percents()
    if form is not None:
        value = Value(regex=Regex(form))
    else:
        text = scanner.quoted()
        bare = scanner.match(_VALUE) if text is None else text
        if not bare and text is None:
            raise scanner.error("a value was expected")
        value = Value(text=bare, number=number(bare) if text is None else None)
    return _comparison(scanner, operator, value), form is not None


def _comparison(scanner: Scanner, operator: str, value: Value) -> Condition:
    if operator in ORDERS:
        bound, compare = value.number, ORDERS[operator]
        if bound is None:
            raise scanner.error(f"a number was expected behind {operator}")
        return Condition(lambda column: (found := number(column)) is not None and compare(found, bound))
    if operator == "!=":
        return Condition(lambda column: not _equals(value, column))
    return Condition(partial(_equals, value), value.parts if value.number is None else ())


def _equals(value: Value, column: str) -> bool:
    if value.number is not None and number(column) == value.number:
        return True
    return value.equals(column)


# Looking ------------------------------------------------------------------------------------------------------------------
def _split(message: str) -> list[str]:
    """A line's columns."""
    return [next(group for group in found.groups() if group is not None) for found in _COLUMN.finditer(message)]


def _placed(columns: Sequence[_Column], found: Sequence[Any]) -> Sequence[Any] | None:
    """What of a line stands in each column of the pattern (a list under "..."), or None where it does not fit."""
    if _REST not in columns:
        return found if len(found) == len(columns) else None
    at = columns.index(_REST)
    behind = len(columns) - at - 1
    if len(found) < at + behind:
        return None
    end = len(found) - behind
    return [*found[:at], list(found[at:end]), *found[end:]]


def _matches(columns: Sequence[_Column], message: str) -> bool:
    placed = _placed(columns, _split(message))
    if placed is None:
        return False
    return all(column is _REST or column.holds(value) for column, value in zip(columns, placed, strict=True))


def _extracted(columns: Sequence[_Column], names: Sequence[str], message: str) -> dict[str, str]:
    placed = _placed(columns, _split(message)) or ()
    return {f"${name.removeprefix('$')}": value for name, value in zip(names, placed, strict=False) if isinstance(value, str)}
