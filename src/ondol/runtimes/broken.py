"""How an answer that streams says that the function itself broke it off."""

from __future__ import annotations

import base64
import binascii

from ondol.model.errors import Unavailable

#: Of what a function says of its failure.
DETAILS_CHARS_MAX = 64 * 1024


class FunctionBroke(Unavailable):
    """The function failed in the middle of its answer, and said so. The environment is none the worse for it."""

    def __init__(self, error_type: str, details: str) -> None:
        super().__init__("the function failed in the middle of its answer")
        self.error_type = error_type
        #: What the function says of it: its error as JSON text, usually.
        self.details = details


def broke(error_type: str, encoded: str) -> FunctionBroke:
    """From an error's type and its body in base64, as trailers have them."""
    try:
        details = base64.b64decode(encoded, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        details = encoded
    return FunctionBroke(error_type, details[:DETAILS_CHARS_MAX])
