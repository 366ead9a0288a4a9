"""Trace headers in their two forms, and between them: W3C's `traceparent`, and the form of fields. Pure.

    00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1

Both carry a trace's id of 128 bits, a parent's of 64, and whether the trace is sampled, so nothing of a call's place in its
trace is lost on the way over. What only one form has (Lineage, the flags besides the first) is not carried over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Longer texts are no trace headers.
CHARS_MAX: Final = 1024

_W3C: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_ROOT: Final = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})", re.ASCII | re.IGNORECASE)
_PARENT: Final = re.compile(r"[0-9a-f]{16}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trace:
    """A call's place in a trace."""

    #: 32 hex digits, lower case, not all zero.
    id: str
    #: 16 hex digits of who made the call, or "" when that is not known.
    parent: str = ""
    #: None: whoever comes next may choose.
    sampled: bool | None = None

    @property
    def w3c(self) -> str:
        """As `traceparent`; "" without a parent, which that form must have."""
        return f"00-{self.id}-{self.parent}-{'01' if self.sampled else '00'}" if self.parent else ""

    @property
    def fields(self) -> str:
        """As fields."""
        root = f"Root=1-{self.id[:8]}-{self.id[8:]}"
        parent = f";Parent={self.parent}" if self.parent else ""
        return root + parent + ("" if self.sampled is None else f";Sampled={int(self.sampled)}")


def parse(text: str) -> Trace | None:
    """A header of either form; None for what is none."""
    if not text or len(text) > CHARS_MAX:
        return None
    return from_fields(text) if "Root=" in text else from_w3c(text)


def from_w3c(text: str) -> Trace | None:
    """A `traceparent`, of this version or a later one that begins as it does."""
    match = _W3C.fullmatch(text.strip()) if len(text) <= CHARS_MAX else None
    if match is None:
        return None
    version, trace, parent, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(parent, 16):
        return None
    return Trace(trace, parent, bool(int(flags, 16) & 1))


def from_fields(text: str) -> Trace | None:
    """The form of fields, with a root."""
    if len(text) > CHARS_MAX:
        return None
    fields = {name.strip().lower(): value.strip() for name, _, value in (part.partition("=") for part in text.split(";"))}
    root = _ROOT.fullmatch(fields.get("root", ""))
    if root is None or not int(root[1] + root[2], 16):
        return None
    parent = fields.get("parent", "").lower()
    known = bool(_PARENT.fullmatch(parent)) and bool(int(parent, 16))
    sampled = {"0": False, "1": True}.get(fields.get("sampled", ""))
    return Trace((root[1] + root[2]).lower(), parent if known else "", sampled)


def fields_of(traceparent: str) -> str:
    """A `traceparent` in the form of fields; "" for none."""
    trace = from_w3c(traceparent) if traceparent else None
    return trace.fields if trace else ""


def fresh(drawn: bytes) -> Trace:
    """A trace that begins here, unsampled, of 24 random bytes."""
    digits = drawn.hex()
    # All zero is no id; the chance is 2**-64, and a digit costs nothing.
    return Trace(f"1{digits[1:32]}", f"1{digits[33:48]}", sampled=False)
