"""The nursery of fronts and desk: `python -m ondol.app nursery LINE_FD`. What it forks runs the page of its role."""

from __future__ import annotations

import sys
from importlib import import_module

import uvloop

from ondol.node.nursery import nurse
from ondol.node.serving import begin

ROLES = ("front", "desk")


def main(line_fd: int) -> None:
    """Import the pages; then be the front or the desk, in a process of its own for each, until the supervisor says stop."""
    born = nurse(line_fd, learn)
    if born is None:
        return
    page = getattr(sys.modules[f"ondol.app.{born.role}"], born.role)
    uvloop.run(page(begin(born), born.line))


def learn() -> None:
    """Everything that fronts and desk are made of."""
    for role in ROLES:
        import_module(f"ondol.app.{role}")


if __name__ == "__main__":
    main(int(sys.argv[2]))
