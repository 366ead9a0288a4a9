"""A child of the supervisor: `python -m ondol.app ROLE LINE_FD`. Each process imports its own page only."""

from __future__ import annotations

import sys
from importlib import import_module

import uvloop

from ondol.node.serving import begin


def main(role: str, line_fd: int) -> None:
    """Be the front or the desk until the supervisor says stop."""
    orders, line = begin(line_fd, role)
    uvloop.run(getattr(import_module(f"ondol.app.{role}"), role)(orders, line))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
