"""What a guest says in JSON, taken with tongs: user code shares its process and may have written anything.

Pure. Must not know what the objects mean to a contract.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from ondol.runtime import BrokeOff
from ondol_guest import frames

#: A meta object is an answer's status and headers, or less; parsing more would hold everybody up.
META_BYTES_MAX: Final = 256 * 1024
#: The name of an error; more is cut off.
ERROR_TYPE_CHARS_MAX: Final = 256


def meta_of(raw: bytes) -> Mapping[str, Any]:
    """A frame's meta object; an absent one is empty. Raises BrokenFrame."""
    if not raw:
        return {}
    if len(raw) > META_BYTES_MAX:
        raise frames.BrokenFrame(f"a meta object of {len(raw)} bytes, at most {META_BYTES_MAX} are allowed")
    try:
        meta = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise frames.BrokenFrame(f"a meta object that is no JSON: {type(error).__name__}") from None
    if not isinstance(meta, dict):
        raise frames.BrokenFrame("a meta that is no JSON object")
    return meta


def init_ms_of(meta: Mapping[str, Any], *, at_most: float) -> float:
    """How long loading took, as the guest says and the clock allows: a call's time begins where it ends."""
    said = meta.get("init_ms", 0.0)
    # An integer may have more digits than any float: it is compared, never converted.
    if isinstance(said, bool) or not isinstance(said, int | float) or (isinstance(said, float) and not math.isfinite(said)):
        raise frames.BrokenFrame("a loading time that is no number")
    return float(min(max(said, 0.0), at_most))


def failure_of(meta: Mapping[str, Any]) -> BrokeOff | None:
    """What the function says it failed with in mid-stream; None when it says nothing of the kind."""
    kind, details = meta.get("error_type"), meta.get("error", "")
    if not isinstance(kind, str) or not isinstance(details, str):
        return None
    return BrokeOff(kind[:ERROR_TYPE_CHARS_MAX], details.encode("utf-8", "replace"))


def trailed(kind: str, encoded: str) -> BrokeOff:
    """The same, as trailers of a streamed answer have it: an error's type, and its payload in base64."""
    try:
        details = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        details = encoded.encode("utf-8", "replace")
    return BrokeOff(kind[:ERROR_TYPE_CHARS_MAX], details[:META_BYTES_MAX])
