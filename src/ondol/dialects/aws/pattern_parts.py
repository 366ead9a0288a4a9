"""What the three forms of filter patterns share: their error, their result, words, values and how values are compared. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

#: A pattern's regular expressions, as the service counts.
REGEXES_MAX: Final = 2
#: Conditions of one pattern, and how deep they may be nested.
CONDITIONS_MAX: Final = 100
DEPTH_MAX: Final = 20
#: A number's digits: more would make a comparison cost more than reading the line.
NUMBER_CHARS_MAX: Final = 40

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


class BadPattern(ValueError):  # noqa: N818  # a name that reads well where it is caught
    """The text is no filter pattern; `str(error)` says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A filter pattern, understood."""

    matches: Callable[[str], bool]
    #: Texts that every message that matches contains.
    needed: tuple[str, ...] = ()
    #: What a message that matches says by the pattern's own names, for TestMetricFilter.
    extract: Callable[[str], dict[str, str]] = lambda _message: {}


class Scanner:
    """Reads a pattern from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip_space(self) -> None:
        text, size = self.text, len(self.text)
        while self.at < size and text[self.at].isspace():
            self.at += 1

    def peek(self, token: str) -> bool:
        self.skip_space()
        return self.text.startswith(token, self.at)

    def take(self, *tokens: str) -> str:
        """The first of the tokens that comes next, or ""."""
        self.skip_space()
        for token in tokens:
            if self.text.startswith(token, self.at):
                self.at += len(token)
                return token
        return ""

    def word(self, *names: str) -> str:
        """As `take`, for whole words, whatever their case."""
        self.skip_space()
        for name in names:
            end = self.at + len(name)
            if self.text[self.at : end].upper() == name and not self.text[end : end + 1].isalnum():
                self.at = end
                return name
        return ""

    def want(self, token: str) -> None:
        if not self.take(token):
            raise self.error(f"{token!r} was expected")

    def match(self, form: re.Pattern[str]) -> str:
        """What matches here, or ""."""
        self.skip_space()
        found = form.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def quoted(self) -> str | None:
        """A text in double quotes; a backslash takes the next character as it is. None when there is none here."""
        if not self.peek('"'):
            return None
        taken: list[str] = []
        at = self.at + 1
        while at < len(self.text):
            char = self.text[at]
            if char == '"':
                self.at = at + 1
                return "".join(taken)
            if char == "\\" and at + 1 < len(self.text):
                at += 1
                char = self.text[at]
            taken.append(char)
            at += 1
        raise self.error("a quotation mark is missing")

    def between_percents(self) -> str | None:
        """What stands between % and %, a regular expression; None when there is none here."""
        if not self.peek("%"):
            return None
        end = self.text.find("%", self.at + 1)
        if end < 0:
            raise self.error("the % that ends a regular expression is missing")
        inner = self.text[self.at + 1 : end]
        self.at = end + 1
        return inner

    @property
    def ended(self) -> bool:
        self.skip_space()
        return self.at >= len(self.text)

    def error(self, why: str) -> BadPattern:
        return BadPattern(f"{why} at character {self.at + 1}")


def number(text: str) -> float | None:
    """A number as patterns and columns write it, or None."""
    if len(text) > NUMBER_CHARS_MAX or not _NUMBER.fullmatch(text):
        return None
    return float(text)


class Searching(Protocol):
    """A regular expression."""

    @property
    def needed(self) -> tuple[str, ...]: ...

    def search(self, text: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Value:
    """The right side of a comparison: a text (with * where `wild`), a number, or a regular expression."""

    text: str = ""
    number: float | None = None
    regex: Searching | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """Plain texts that stand in all that it equals."""
        if self.regex is not None:
            return self.regex.needed
        return tuple(part for part in self.text.split("*") if part)

    def equals(self, text: str) -> bool:
        """Whether a text is this."""
        if self.regex is not None:
            return self.regex.search(text)
        if "*" not in self.text:
            return text == self.text
        return _wild(self.text.split("*"), text)


def _wild(parts: Sequence[str], text: str) -> bool:
    """Whether the text is the parts with anything between them. Greedy from the left is enough: only "anything" is wild."""
    first, *middle, last = parts
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<=": lambda one, other: one <= other,
    ">=": lambda one, other: one >= other,
    "<": lambda one, other: one < other,
    ">": lambda one, other: one > other,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds of a subject (a decoded document, a row of columns) or does not."""

    holds: Callable[[Any], bool]
    #: Texts that a message contains wherever it holds.
    needed: tuple[str, ...] = ()


def both(one: Condition, other: Condition) -> Condition:
    return Condition(lambda subject: one.holds(subject) and other.holds(subject), one.needed + other.needed)


def either(one: Condition, other: Condition) -> Condition:
    return Condition(lambda subject: one.holds(subject) or other.holds(subject))


def combined(scanner: Scanner, condition: Callable[[], Condition], depth: int = 0) -> Condition:
    """Conditions joined by && and || (&& binds more tightly), with parentheses."""
    found = _all_of(scanner, condition, depth)
    while scanner.take("||"):
        found = either(found, _all_of(scanner, condition, depth))
    return found


def _all_of(scanner: Scanner, condition: Callable[[], Condition], depth: int) -> Condition:
    found = _one(scanner, condition, depth)
    while scanner.take("&&"):
        found = both(found, _one(scanner, condition, depth))
    return found


def _one(scanner: Scanner, condition: Callable[[], Condition], depth: int) -> Condition:
    if not scanner.take("("):
        return condition()
    if depth >= DEPTH_MAX:
        raise scanner.error(f"parentheses are more than {DEPTH_MAX} deep")
    found = combined(scanner, condition, depth + 1)
    scanner.want(")")
    return found


def counting(condition: Callable[[], tuple[Condition, bool]]) -> Callable[[], Condition]:
    """`condition` with its bounds: so many of them, so many with a regular expression (which it says)."""
    numbers: Iterator[int] = iter(range(CONDITIONS_MAX))
    regexes: Iterator[int] = iter(range(REGEXES_MAX))

    def counted() -> Condition:
        if next(numbers, None) is None:
            raise BadPattern(f"it has more than {CONDITIONS_MAX} conditions")
        found, has_regex = condition()
        if has_regex and next(regexes, None) is None:
            raise BadPattern(f"it has more than {REGEXES_MAX} regular expressions")
        return found

    return counted
