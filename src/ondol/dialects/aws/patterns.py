"""CloudWatch Logs' filter patterns: one text in, one `Pattern` out that says whether a message matches. Pure.

Three forms, told apart by how they begin: `{ $.a = 1 }` looks into JSON (pattern_json), `[ip, status = 4*]` into columns
(pattern_columns), all else is terms (pattern_terms). A pattern also names plain texts that every match contains (`needed`), so
that the journal can look for those first and most lines are never taken apart.
"""

from __future__ import annotations

from ondol.dialects.aws import pattern_columns, pattern_json, pattern_terms
from ondol.dialects.aws.pattern_parts import BadPattern, Pattern

#: As the service's model has it.
PATTERN_CHARS_MAX = 1024

__all__ = ["PATTERN_CHARS_MAX", "BadPattern", "Pattern", "parse"]


def parse(text: str) -> Pattern:
    """The pattern that `text` is. Raises BadPattern, whose text says why."""
    if len(text) > PATTERN_CHARS_MAX:
        raise BadPattern(f"it is longer than {PATTERN_CHARS_MAX} characters")
    text = text.strip()
    if text.startswith("{"):
        return pattern_json.parse(text)
    if text.startswith("["):
        return pattern_columns.parse(text)
    return pattern_terms.parse(text)
