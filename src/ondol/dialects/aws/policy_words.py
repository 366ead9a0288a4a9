"""The words of policies: lists that may be one text, wildcards, and variables in texts. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

#: Condition keys in lower case -> values.
Context = Mapping[str, Sequence[str]]

_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_DEFAULT: Final = re.compile(r"\s*([^,\s]+)\s*,\s*'([^']*)'\s*", re.ASCII)
#: Stand for themselves: these characters would be wildcards otherwise.
_LITERAL: Final = {"*": "\x00", "?": "\x01", "$": "$"}


class PolicyError(Exception):
    """The text is no policy; `str(error)` says why, as AWS does."""


def texts(given: Any) -> tuple[str, ...]:
    """One text, or a list of them. Numbers and booleans are written as JSON writes them. Raises PolicyError."""
    return tuple(_text(each) for each in (given if isinstance(given, list) else [given]))


def _text(given: Any) -> str:
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str | int | float):
        return str(given)
    raise PolicyError("Syntax errors in policy.")


def glob(pattern: str, text: str) -> bool:
    """Whether `*` (any characters) and `?` (one) make `pattern` the whole of `text`."""
    if pattern == "*":
        return True
    if "*" not in pattern and "?" not in pattern:
        return _literal(pattern) == text
    at = 0  # in the pattern
    held = 0  # in the text
    star, resume = -1, 0
    # Without `re`: a pattern of many stars must not take exponential time.
    while held < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, held
            at += 1
        elif at < len(pattern) and (pattern[at] == "?" or _literal(pattern[at]) == text[held]):
            at += 1
            held += 1
        elif star >= 0:
            resume += 1
            at, held = star + 1, resume
        else:
            return False
    return all(each == "*" for each in pattern[at:])


@lru_cache(maxsize=4096)
def _literal(text: str) -> str:
    return text.replace("\x00", "*").replace("\x01", "?")


def filled(text: str, context: Context) -> str | None:
    """`text` with the values of its variables; None where a variable has none, which then matches nothing."""
    if "${" not in text:
        return text
    lost = False

    def value(found: re.Match[str]) -> str:
        nonlocal lost
        inside = found[1]
        if inside in _LITERAL:
            return _LITERAL[inside]
        with_default = _DEFAULT.fullmatch(inside)
        name = with_default[1] if with_default else inside.strip()
        values = context.get(name.lower(), ())
        if len(values) == 1:
            return values[0].replace("*", _LITERAL["*"]).replace("?", _LITERAL["?"])
        if with_default:
            return with_default[2]
        lost = True
        return ""

    made = _VARIABLE.sub(value, text)
    return None if lost else made
