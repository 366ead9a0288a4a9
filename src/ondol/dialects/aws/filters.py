"""Filter patterns of FilterLogEvents: plain terms, quoted phrases, `-term` (must not be there), `?term` (one of them must).

Pure. The forms that look into JSON or columns are refused with a sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ondol.dialects.aws.service import ServiceError

TERMS_MAX = 100

_TERM = re.compile(r'\s*([-?]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?=\s|$)')


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a message must and must not contain; case-sensitive."""

    all: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    none: tuple[str, ...] = ()

    def matches(self, message: str) -> bool:
        """Whether `any` and `none` hold. The journal looks for `all` itself."""
        if self.any and not any(term in message for term in self.any):
            return False
        return not any(term in message for term in self.none)


def parse(text: str) -> Pattern:
    """A pattern's terms. Raises InvalidParameterException."""
    text = text.strip()
    if text[:1] in ("{", "[", "%"):
        message = (
            f"Ondol's filter patterns are plain terms, \"quoted phrases\", -term and ?term; '{text[:80]}' is of another form."
        )
        raise ServiceError("InvalidParameterException", message)
    terms: dict[str, list[str]] = {"": [], "?": [], "-": []}
    at = 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None:
            raise ServiceError("InvalidParameterException", "Invalid filter pattern")
        word = found[3] if found[2] is None else re.sub(r"\\(.)", r"\1", found[2])
        if word:
            terms[found[1]].append(word)
        at = found.end()
    if sum(map(len, terms.values())) > TERMS_MAX:
        raise ServiceError("InvalidParameterException", f"A filter pattern has at most {TERMS_MAX} terms.")
    return Pattern(tuple(terms[""]), tuple(terms["?"]), tuple(terms["-"]))
