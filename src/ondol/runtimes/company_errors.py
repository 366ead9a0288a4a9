"""What extensions are refused with."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818  # what happened
    """A request that cannot be granted: the error's type, and what the extension is told."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
