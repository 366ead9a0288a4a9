"""Filter patterns of terms: `word`, `"a phrase"`, `-word` (must not be there), `?word` (one of them must), `%regex%`. Pure.

Case counts. A term matches wherever it stands, in the middle of a word too. Where `?` terms stand beside others, the service
passes the `?` terms over; so does this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from ondol.dialects.aws.pattern_parts import BadPattern, Pattern, Scanner
from ondol.dialects.aws.pattern_regex import Regex

TERMS_MAX = 100

_WORD = re.compile(r'[^\s"]+')
_Term = str | Regex


def parse(text: str) -> Pattern:
    """A pattern's terms. Raises BadPattern."""
    scanner = Scanner(text)
    terms: dict[str, list[_Term]] = {"": [], "?": [], "-": []}
    while not scanner.ended:
        sign = scanner.take("-", "?")
        if sign and scanner.text[scanner.at : scanner.at + 1].isspace():
            raise scanner.error(f"{sign!r} has no term behind it")
        term: _Term | None = scanner.quoted()
        if term is None:
            inner = scanner.between_percents() if _is_regex(scanner) else None
            term = scanner.match(_WORD) if inner is None else Regex(inner)
        if scanner.at < len(text) and not text[scanner.at].isspace():
            raise scanner.error("a space between terms was expected")
        if term:
            terms[sign].append(term)
        elif sign:
            raise scanner.error(f"{sign!r} has no term behind it")
    if sum(map(len, terms.values())) > TERMS_MAX:
        raise BadPattern(f"it has more than {TERMS_MAX} terms")
    if terms[""] or terms["-"]:
        terms["?"] = []
    needed = tuple(text for term in terms[""] for text in ([term] if isinstance(term, str) else term.needed))
    return Pattern(partial(_matches, terms[""], terms["?"], terms["-"]), needed)


def _is_regex(scanner: Scanner) -> bool:
    """A % that no other one follows is a word like any: "100%" is not meant as more."""
    return scanner.peek("%") and "%" in scanner.text[scanner.at + 1 :]


def _matches(wanted: Sequence[_Term], any_of: Sequence[_Term], unwanted: Sequence[_Term], message: str) -> bool:
    if any_of and not any(_is_in(term, message) for term in any_of):
        return False
    return all(_is_in(term, message) for term in wanted) and not any(_is_in(term, message) for term in unwanted)


def _is_in(term: _Term, message: str) -> bool:
    return term in message if isinstance(term, str) else term.search(message)
