"""What one extension may do when: a table, and a move or a refusal. Pure.

    Started ─register─> Registered ─next─> Ready ─an event is there─> Running
                             │               ^                          │
                             │               └───────────next───────────┤
                             └─init error─> InitError    ExitError <────┴─ exit error, from Registered and Ready, too

Names and texts are those of the documented system.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Stage(Enum):
    """Where an extension is; the values are what it, and the log, are told."""

    STARTED = "Started"  #: its process runs, and has not registered
    REGISTERED = "Registered"
    READY = "Ready"  #: waits for an event
    RUNNING = "Running"  #: was given one
    INIT_ERROR = "InitError"
    EXIT_ERROR = "ExitError"
    LAUNCH_ERROR = "LaunchError"  #: its file could not be executed


_MOVES: Final[frozenset[tuple[Stage, Stage]]] = frozenset(
    (
        (Stage.STARTED, Stage.REGISTERED),
        (Stage.STARTED, Stage.LAUNCH_ERROR),
        (Stage.REGISTERED, Stage.READY),
        (Stage.REGISTERED, Stage.INIT_ERROR),
        (Stage.INIT_ERROR, Stage.INIT_ERROR),
        (Stage.READY, Stage.RUNNING),
        (Stage.RUNNING, Stage.READY),
        (Stage.REGISTERED, Stage.EXIT_ERROR),
        (Stage.READY, Stage.EXIT_ERROR),
        (Stage.RUNNING, Stage.EXIT_ERROR),
        (Stage.EXIT_ERROR, Stage.EXIT_ERROR),
    )
)


class OutOfTurn(Exception):  # noqa: N818  # what happened
    """A move that the table does not have. `str()` is what the extension is told; `who` is its name or identifier."""

    def __init__(self, stage: Stage, to: Stage, who: str) -> None:
        super().__init__(
            f"State transition from {stage.value} to {to.value} failed for extension {who}. "
            "Error: State transition is not allowed"
        )


def moved(stage: Stage, to: Stage, who: str) -> Stage:
    """`to`, where one may go there. Raises OutOfTurn."""
    if (stage, to) not in _MOVES:
        raise OutOfTurn(stage, to, who)
    return to
